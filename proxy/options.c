/*
 * proxy/options.c - all sections in the order of the manual, and the pass that resolves names.
 */
#include "proxy/options.h"

#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "base/xalloc.h"
#include "filters/set.h"
#include "mail/address.h"

#define SECONDS *1000LL
#define MINUTES *60 SECONDS
#define HOURS	*60 MINUTES
#define DAYS	*24 HOURS

static const char *const tls_words[] = { "none", NULL };
static const char *const protocol_words[] = { "smtp", NULL };
static const char *const envelope_words[] = { "early", "late", NULL };
static const char *const bare_newline_words[] = { "normalize", "reject", NULL };
static const char *const format_words[] = { "text", "json", NULL };
static const char *const facility_words[] = { "mail", "daemon", "user", "local0", "local1", "local2",
	"local3", "local4", "local5", "local6", "local7", NULL };
static const int facility_values[] = { LOG_MAIL, LOG_DAEMON, LOG_USER, LOG_LOCAL0, LOG_LOCAL1,
	LOG_LOCAL2, LOG_LOCAL3, LOG_LOCAL4, LOG_LOCAL5, LOG_LOCAL6, LOG_LOCAL7 };

static const struct config_option top_options[] = {
	CONFIG_STRING("user", struct top_conf, user, NULL,
		"the user to become when started as root; Postern refuses to run as root without it"),
	CONFIG_STRING("group", struct top_conf, group, NULL, "its group; default: the user's own"),
	CONFIG_STRING("pid_file", struct top_conf, pid_file, NULL,
		"where the monitor writes its process id"),
	CONFIG_AUTO_INT("workers", struct top_conf, workers, "auto", 1, 256,
		"threads that carry mail; auto: one per CPU"),
	CONFIG_STRING("hostname", struct top_conf, hostname, NULL,
		"our name in greetings, EHLO and Received lines; default: the machine's name. It must differ "
		"from the front MTA's own name, or sendmail takes us for itself"),
	CONFIG_DURATION("drain_timeout", struct top_conf, drain_timeout, "30s", 0, 1 DAYS,
		"how long a stop waits for transactions under way; a delivery whose final dot has left is "
		"always waited for"),
	CONFIG_WORDS("default_chain", struct top_conf, default_chain, NULL,
		"the filters for recipients that no rule matches, in order; default: none"),
	CONFIG_END
};

static const struct config_option log_options[] = {
	CONFIG_STRING("to", struct log_section, to, "syslog", "syslog, stderr, or the path of a file"),
	CONFIG_ENUM("facility", struct log_section, facility, "mail", facility_words, "of syslog"),
	CONFIG_ENUM("level", struct log_section, level, "info", log_level_names,
		"the least important level that is written"),
	CONFIG_ENUM("format", struct log_section, format, "text", format_words,
		"text: key=value; json: one object per line"),
	CONFIG_END
};

static const struct config_option listener_options[] = {
	CONFIG_ENDPOINTS("listen", struct listener_conf, listen, NULL,
		"where mail comes in: HOST:PORT, [v6]:PORT or unix:PATH, one or more"),
	CONFIG_ENUM("protocol", struct listener_conf, protocol, "smtp", protocol_words, "what is spoken"),
	CONFIG_REF("backend", struct listener_conf, backend, "where mail that may pass goes"),
	CONFIG_NETS("clients", struct listener_conf, clients, "127.0.0.0/8 ::1",
		"who may speak at all: addresses and networks, or any; Unix sockets always may. A listener on "
		"another address than loopback must say it"),
	CONFIG_STRING("hostname", struct listener_conf, smtp.hostname, NULL,
		"our name on this listener; default: the top-level hostname"),
	CONFIG_STRING("greeting", struct listener_conf, smtp.greeting, "\"ESMTP Postern\"",
		"text behind the name in the greeting"),
	CONFIG_SIZE("max_message", struct listener_conf, smtp.max_message, "50M", 0, 1LL << 40,
		"larger messages get 552; 0: no limit"),
	CONFIG_INT("max_recipients", struct listener_conf, smtp.max_recipients, "1000", 1, 1000000,
		"recipients of one message; more get 452 and come again"),
	CONFIG_INT("max_errors", struct listener_conf, smtp.max_errors, "20", 1, 1000000,
		"replies 500 to 503 in one session, then 421; refusals by filters or the back-end do not count"),
	CONFIG_INT("max_hops", struct listener_conf, max_hops, "50", 1, 10000,
		"Received lines of a message; more is a loop: 554"),
	CONFIG_BOOL("received", struct listener_conf, received, "yes",
		"put our Received line in front; no loses the guard against our own loops"),
	CONFIG_ENUM("bare_newline", struct listener_conf, smtp.bare_newline, "normalize", bare_newline_words,
		"bare CR or LF in a message: normalize makes LF a CRLF and CR a space, reject answers 550 5.6.11"),
	CONFIG_ENUM("envelope", struct listener_conf, envelope, "early", envelope_words,
		"early: MAIL and RCPT go to the back-end as they come, so that its refusals reach the front at "
		"once; late: the back-end is contacted after the filters"),
	CONFIG_DURATION("early_hold", struct listener_conf, early_hold, "5s", 1, 1 HOURS,
		"how long after the last RCPT an early envelope keeps its back-end connection; then it is given "
		"anew after the filters"),
	CONFIG_DURATION("budget", struct listener_conf, budget, "90s", 1 SECONDS, 1 HOURS,
		"from the end of DATA to our reply: filters and delivery up to the final dot; keep it below the "
		"front's patience (Postfix: 100s)"),
	CONFIG_DURATION("final_reserve", struct listener_conf, final_reserve, "10s", 0, 1 HOURS,
		"the final dot does not leave with less than this of the budget left"),
	CONFIG_DURATION("separate_for", struct listener_conf, separate_for, "1h", 0, 1 DAYS,
		"how long recipients are taken one at a time from a sender whose message got differing results"),
	CONFIG_DURATION("command_timeout", struct listener_conf, smtp.command_timeout, "5m", 1, 1 DAYS,
		"for a whole command once it began, and for the next one inside a transaction"),
	CONFIG_DURATION("data_timeout", struct listener_conf, smtp.data_timeout, "3m", 1, 1 DAYS,
		"for the next octets of a message"),
	CONFIG_DURATION("idle_timeout", struct listener_conf, smtp.idle_timeout, "5m", 1, 1 DAYS,
		"for the next command outside a transaction"),
	CONFIG_END
};

static const struct config_option backend_options[] = {
	CONFIG_ENDPOINTS("hosts", struct backend_conf, hosts, NULL, "the next mail server, HOST:PORT or unix:PATH"),
	CONFIG_ENUM("protocol", struct backend_conf, protocol, "smtp", protocol_words, "what hosts speak"),
	CONFIG_ENUM("tls", struct backend_conf, tls, "none", tls_words,
		"none: the connection is in clear; no other word is possible in this version"),
	CONFIG_STRING("maildir", struct backend_conf, maildir, NULL,
		"instead of hosts: write each message into this maildir, synced to disk"),
	CONFIG_BOOL("discard", struct backend_conf, discard, "no",
		"instead of hosts: accept everything and drop it, for tests"),
	CONFIG_DURATION("connect_timeout", struct backend_conf, connect_timeout, "30s", 1, 1 HOURS,
		"to find the host and connect"),
	CONFIG_DURATION("greeting_timeout", struct backend_conf, client.greeting_timeout, "5m", 1, 1 HOURS,
		"for its greeting"),
	CONFIG_DURATION("command_timeout", struct backend_conf, client.command_timeout, "5m", 1, 1 HOURS,
		"for each reply but the last"),
	CONFIG_DURATION("data_timeout", struct backend_conf, client.data_timeout, "3m", 1, 1 HOURS,
		"for the next octets of a message to leave"),
	CONFIG_DURATION("final_timeout", struct backend_conf, client.final_timeout, "10m", 1, 1 DAYS,
		"for the reply to the final dot"),
	CONFIG_INT("max_connections", struct backend_conf, max_connections, "20", 1, 100000,
		"connections at once, over all workers; transactions beyond wait in one queue"),
	CONFIG_INT("max_idle", struct backend_conf, max_idle, "20", 0, 100000, "idle connections that are kept"),
	CONFIG_DURATION("idle_timeout", struct backend_conf, idle_timeout, "60s", 1, 1 DAYS,
		"how long an idle connection is kept"),
	CONFIG_INT("max_messages", struct backend_conf, max_messages, "1000", 0, 1000000000,
		"messages on one connection; 0: any number"),
	CONFIG_END
};

static const struct config_section log_section = {
	.name = "log",
	.help = "Where log lines go",
	.arity = CONFIG_ONE,
	.groups = { { log_options, sizeof(struct log_section) } },
};

static const struct config_section spool_section = {
	.name = "spool",
	.help = "Message content while a transaction is under way",
	.arity = CONFIG_ONE,
	.groups = { { spool_options, sizeof(struct spool_conf) } },
};

static const struct config_section listener_section = {
	.name = "listener",
	.help = "Where mail comes in",
	.arity = CONFIG_NAMED,
	.groups = { { listener_options, sizeof(struct listener_conf) } },
	.example = "listener front {\n"
		   "    listen   127.0.0.1:10025\n"
		   "    backend  inner\n"
		   "}\n",
};

static const struct config_section backend_section = {
	.name = "backend",
	.help = "Where mail goes: hosts, or one of the embedded ones, maildir and discard",
	.arity = CONFIG_NAMED,
	.groups = { { backend_options, sizeof(struct backend_conf) } },
	.example = "backend inner {\n"
		   "    hosts    127.0.0.1:10026\n"
		   "}\n",
};

/* Filled at start from the sections above and those of filters/; NULL-terminated. */
#define SECTIONS_MAX 64
static const struct config_section *all_sections[SECTIONS_MAX] = {
	&log_section, &spool_section, &listener_section, &backend_section,
};

const struct config_section top_section = {
	.name = "",
	.help = "Postern as a whole",
	.arity = CONFIG_ONE,
	.groups = { { top_options, sizeof(struct top_conf) } },
	.sections = all_sections,
};

void
settings_prepare(void)
{
	size_t n = 4;

	if (all_sections[n] != NULL)
		return;
	for (size_t i = 0; filter_sections[i] != NULL && n < SECTIONS_MAX - 1; i++)
		all_sections[n++] = filter_sections[i];
}

/* ---- resolving ---- */

static void
resolve_backend(struct settings *st, struct backend *b)
{
	struct config *conf = st->config;
	const struct config_block *block = b->block;
	int ways = (b->conf.hosts.count > 0) + (b->conf.maildir != NULL) + b->conf.discard;

	if (ways == 0)
		config_error(conf, &block->place, "backend %s says nowhere to go (try hosts 127.0.0.1:10026)", b->name);
	if (ways > 1)
		config_error(conf, &block->place, "backend %s: only one of hosts, maildir and discard is possible", b->name);
	if (b->conf.hosts.count > 1)
		config_error(conf, &b->conf.hosts.places[1],
			"hosts: one host is possible in this version; name one and remove the others");
	b->kind = b->conf.discard ? BACKEND_DISCARD : b->conf.maildir != NULL ? BACKEND_MAILDIR : BACKEND_SMTP;
	if (b->conf.maildir != NULL && b->conf.maildir[0] != '/')
		config_error(conf, config_place_of(block, "maildir"), "maildir: \"%s\" is not an absolute path", b->conf.maildir);
	if (b->kind != BACKEND_SMTP || b->conf.hosts.count == 0)
		return;
	if (b->conf.hosts.list[0].kind == IP_FD)
		config_error(conf, &b->conf.hosts.places[0], "hosts: fd: is for listeners only (try 127.0.0.1:10026)");
	b->conf.client.helo = st->hostname;
	b->dest_conf = (struct smtp_dest_conf){
		.name = b->name,
		.endpoint = b->conf.hosts.list[0],
		.client = b->conf.client,
		.connect_timeout = b->conf.connect_timeout,
		.idle_timeout = b->conf.idle_timeout,
		.max_connections = b->conf.max_connections,
		.max_idle = b->conf.max_idle,
		.max_messages = b->conf.max_messages,
	};
}

static bool
is_open_to_others(const struct ip_endpoint *ep)
{
	struct ip_addr addr;

	if (ep->kind == IP_NAME)
		return strcmp(ep->host, "localhost") != 0;
	if (ep->kind != IP_NUMERIC)
		return false;
	ip_addr_from_sockaddr((const struct sockaddr *)&ep->addr, &addr);
	return !ip_addr_is_loopback(&addr);
}

static void
check_endpoints(struct settings *st, const struct listener *l)
{
	const struct config_endpoints *listen = &l->conf.listen;

	if (listen->count == 0)
		config_error(st->config, &l->block->place,
			"listener %s has no address (try listen 127.0.0.1:10025)", l->name);
	for (size_t i = 0; i < listen->count; i++) {
		const struct ip_endpoint *ep = &listen->list[i];

		if (ep->kind == IP_FD)
			config_error(st->config, &listen->places[i],
				"listen: inherited descriptors are not possible in this version (try 127.0.0.1:10025)");
		if (is_open_to_others(ep) && !config_is_set(l->block, "clients"))
			config_error(st->config, &listen->places[i],
				"listen: others than this machine can reach %s, so clients must say who may speak "
				"(try clients 192.0.2.0/24, or clients any)", ep->host);
	}
}

static void
resolve_listener(struct settings *st, struct listener *l)
{
	struct config *conf = st->config;
	struct listener_conf *lc = &l->conf;
	const struct config_block *target;

	check_endpoints(st, l);
	if (lc->smtp.hostname == NULL)
		lc->smtp.hostname = st->hostname;
	else if (!mail_helo_valid(lc->smtp.hostname, strlen(lc->smtp.hostname)))
		config_error(conf, config_place_of(l->block, "hostname"), "hostname: \"%s\" is not a host name",
			lc->smtp.hostname);
	if (lc->final_reserve >= lc->budget)
		config_error(conf, config_place_of(l->block, "final_reserve"),
			"final_reserve must be shorter than the budget, or nothing is ever delivered");
	if (!lc->received)
		config_warn(conf, config_place_of(l->block, "received"),
			"received no: only the Received lines of other hops (max_hops %d) stop a mail loop",
			lc->max_hops);
	mail_trace_token(l->token, st->hostname, st->spool.directory, l->name);
	if (lc->backend.name == NULL) {
		config_error(conf, &l->block->place, "listener %s has no backend (try backend NAME)", l->name);
		return;
	}
	target = config_find_named(conf, "backend", lc->backend.name);
	for (int i = 0; i < st->backend_count; i++)
		if (st->backends[i].block == target)
			l->backend = &st->backends[i];
	if (l->backend == NULL) {
		const char **names = xcalloc((size_t)st->backend_count + 1, sizeof(*names));
		const char *hint;

		for (int i = 0; i < st->backend_count; i++)
			names[i] = st->backends[i].name;
		hint = config_did_you_mean(lc->backend.name, names);
		config_error(conf, &lc->backend.place, "backend: there is no backend \"%s\"%s%s%s", lc->backend.name,
			hint != NULL ? " (did you mean " : "", hint != NULL ? hint : "", hint != NULL ? "?)" : "");
		free(names);
	}
}

/* The same address twice: the second bind would fail at start. */
static void
check_duplicate_addresses(struct settings *st)
{
	struct config_place *seen_place = NULL;
	char a[300], b[300];

	for (int i = 0; i < st->listener_count; i++)
		for (size_t k = 0; k < st->listeners[i].conf.listen.count; k++)
			for (int j = 0; j <= i; j++)
				for (size_t m = 0; m < st->listeners[j].conf.listen.count; m++) {
					if (j == i && m >= k)
						break;
					ip_endpoint_text(&st->listeners[i].conf.listen.list[k], a, sizeof(a));
					ip_endpoint_text(&st->listeners[j].conf.listen.list[m], b, sizeof(b));
					seen_place = &st->listeners[i].conf.listen.places[k];
					if (strcmp(a, b) == 0 && st->listeners[i].conf.listen.list[k].port != 0)
						config_error(st->config, seen_place,
							"listen: %s is used by listener %s already", a, st->listeners[j].name);
				}
}

static void
find_hostname(struct settings *st)
{
	const struct config_block *top = st->config->top;

	if (st->top.hostname != NULL)
		strncat(st->hostname, st->top.hostname, sizeof(st->hostname) - 1);
	else if (gethostname(st->hostname, sizeof(st->hostname) - 1) < 0 || st->hostname[0] == '\0')
		strcpy(st->hostname, "localhost");
	if (!mail_helo_valid(st->hostname, strlen(st->hostname)))
		config_error(st->config, config_place_of(top, "hostname"), "hostname: \"%s\" is not a host name",
			st->hostname);
}

static int
count_blocks(const struct config *conf, const struct config_section *section)
{
	const struct config_block *block;
	int n = 0;

	TAILQ_FOREACH(block, conf->top->blocks, next)
		n += block->section == section;
	return n;
}

static void
collect(struct settings *st)
{
	struct config *conf = st->config;
	struct config_block *block;
	int li = 0, bi = 0;

	st->listener_count = count_blocks(conf, &listener_section);
	st->backend_count = count_blocks(conf, &backend_section);
	st->listeners = xcalloc((size_t)st->listener_count + 1, sizeof(*st->listeners));
	st->backends = xcalloc((size_t)st->backend_count + 1, sizeof(*st->backends));
	TAILQ_FOREACH(block, conf->top->blocks, next) {
		if (block->section == &listener_section) {
			st->listeners[li] = (struct listener){ .name = block->name, .block = block,
				.conf = *(struct listener_conf *)block->data[0], .index = li };
			li++;
		} else if (block->section == &backend_section) {
			st->backends[bi] = (struct backend){ .name = block->name, .block = block,
				.conf = *(struct backend_conf *)block->data[0], .index = bi };
			bi++;
		}
	}
}

static void
settings_free(void *arg)
{
	struct settings *st = arg;

	filter_set_free(&st->filters);
	free(st->listeners);
	free(st->backends);
	free(st);
}

static void
resolve(struct settings *st)
{
	struct config *conf = st->config;
	long cpus;

	st->top = *(struct top_conf *)conf->top->data[0];
	st->log = *(struct log_section *)config_find_one(conf->top, "log")->data[0];
	st->spool = *(struct spool_conf *)config_find_one(conf->top, "spool")->data[0];
	find_hostname(st);
	cpus = sysconf(_SC_NPROCESSORS_ONLN);
	st->workers = st->top.workers > 0 ? st->top.workers : cpus > 0 ? (int)cpus : 1;
	if (strcmp(st->log.to, "syslog") != 0 && strcmp(st->log.to, "stderr") != 0 && st->log.to[0] != '/')
		config_error(conf, config_place_of(config_find_one(conf->top, "log"), "to"),
			"to: \"%s\" is no log target (try syslog, stderr or /var/log/postern.log)", st->log.to);
	if (st->spool.directory[0] != '/')
		config_error(conf, config_place_of(config_find_one(conf->top, "spool"), "directory"),
			"directory: \"%s\" is not an absolute path", st->spool.directory);
	collect(st);
	for (int i = 0; i < st->backend_count; i++)
		resolve_backend(st, &st->backends[i]);
	for (int i = 0; i < st->listener_count; i++)
		resolve_listener(st, &st->listeners[i]);
	if (st->listener_count == 0)
		config_error(conf, NULL, "there is no listener, so no mail can come in "
			"(try listener front { listen 127.0.0.1:10025; backend inner })");
	check_duplicate_addresses(st);
	st->filters = filter_set_new(conf, &st->top.default_chain);
}

int
settings_load(const char *path, struct config **conf_r, struct settings **settings_r)
{
	struct settings *st = xcalloc(1, sizeof(*st));

	settings_prepare();
	config_load(path, &top_section, conf_r);
	st->config = *conf_r;
	(*conf_r)->settings = st;
	(*conf_r)->settings_free = settings_free;
	resolve(st);
	*settings_r = st;
	return (*conf_r)->error_count > 0 ? -1 : 0;
}

struct log_conf
settings_log_conf(const struct settings *st)
{
	struct log_conf lc = {
		.target = LOG_TO_FILE,
		.path = st->log.to,
		.facility = facility_values[st->log.facility],
		.level = (enum log_level)st->log.level,
		.format = (enum log_format)st->log.format,
	};

	if (strcmp(st->log.to, "syslog") == 0)
		lc.target = LOG_TO_SYSLOG;
	else if (strcmp(st->log.to, "stderr") == 0)
		lc.target = LOG_TO_STDERR;
	return lc;
}
