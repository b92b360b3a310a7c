/*
 * proxy/options.c - all sections in the order of the manual, and the pass that resolves names.
 */
#include "proxy/options.h"

#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "base/xalloc.h"
#include "filters/filter.h"
#include "filters/rules.h"
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
		"the user to become when started as root; without it Postern refuses to run as root"),
	CONFIG_STRING("group", struct top_conf, group, NULL, "the group to become; when not given, the user's own"),
	CONFIG_STRING("pid_file", struct top_conf, pid_file, NULL,
		"the file for the monitor's process id; when not given, none is written"),
	CONFIG_AUTO_INT("workers", struct top_conf, workers, "auto", 1, 256,
		"threads that carry mail; auto stands for one per CPU"),
	CONFIG_STRING("hostname", struct top_conf, hostname, NULL,
		"our name in greetings, EHLO and Received lines; when not given, the machine's name. It must "
		"differ from the front MTA's own name, or sendmail takes us for itself"),
	CONFIG_DURATION("drain_timeout", struct top_conf, drain_timeout, "30s", 0, 1 DAYS,
		"how long a stop waits for transactions under way; a delivery whose final dot has left is "
		"waited for in any case"),
	CONFIG_WORDS("default_chain", struct top_conf, default_chain, NULL,
		"the filters for recipients that no rule matches, in this order; when not given, or with the "
		"word none, no filter"),
	CONFIG_END
};

static const struct config_option log_options[] = {
	CONFIG_STRING("to", struct log_section, to, "syslog", "where log lines go: syslog, stderr, or the path of a file"),
	CONFIG_ENUM("facility", struct log_section, facility, "mail", facility_words, "the facility towards syslog"),
	CONFIG_ENUM("level", struct log_section, level, "info", log_level_names,
		"the least important level that is written"),
	CONFIG_ENUM("format", struct log_section, format, "text", format_words,
		"the form of a line: text is key=value, json is one object"),
	CONFIG_END
};

static const struct config_option listener_options[] = {
	CONFIG_ENDPOINTS("listen", struct listener_conf, listen, NULL,
		"where to listen: HOST:PORT, [IPv6]:PORT or unix:PATH, one or more; required"),
	CONFIG_ENUM("protocol", struct listener_conf, protocol, "smtp", protocol_words, "what is spoken here"),
	CONFIG_REF("backend", struct listener_conf, backend, "the back-end that gets the mail; required"),
	CONFIG_NETS("clients", struct listener_conf, clients, "127.0.0.0/8 ::1",
		"who may speak at all: addresses and networks, or any; a Unix socket takes everybody who can reach "
		"it. Required where others than this machine can reach the listener"),
	CONFIG_STRING("hostname", struct listener_conf, smtp.hostname, NULL,
		"our name on this listener; when not given, the top-level hostname"),
	CONFIG_STRING("greeting", struct listener_conf, smtp.greeting, "\"ESMTP Postern\"",
		"the text behind our name in the greeting"),
	CONFIG_SIZE("max_message", struct listener_conf, smtp.max_message, "50M", 0, 1LL << 40,
		"the largest message that is taken, larger ones get 552; 0 means no limit"),
	CONFIG_INT("max_recipients", struct listener_conf, smtp.max_recipients, "1000", 1, 1000000,
		"the most recipients of one message; those beyond get 452, and the front sends them again, as they "
		"do behind 1000 refused ones"),
	CONFIG_INT("max_errors", struct listener_conf, smtp.max_errors, "20", 1, 1000000,
		"how many commands of one session may get 500 to 503 before it ends with 421; refusals by filters "
		"or the back-end do not count"),
	CONFIG_INT("max_hops", struct listener_conf, max_hops, "50", 1, 10000,
		"the most Received lines in a message; one with more is in a loop and gets 554"),
	CONFIG_BOOL("received", struct listener_conf, received, "yes",
		"whether our Received line is put in front; without it only max_hops stops a loop"),
	CONFIG_ENUM("bare_newline", struct listener_conf, smtp.bare_newline, "normalize", bare_newline_words,
		"what becomes of a CR or LF that stands alone in a message: normalize makes LF a CRLF and CR a "
		"blank, reject answers 550 5.6.11"),
	CONFIG_ENUM("envelope", struct listener_conf, envelope, "early", envelope_words,
		"when the back-end hears of sender and recipients: early passes them on as they come, so that its "
		"refusals reach the front at once; late waits until the filters are done"),
	CONFIG_DURATION("early_hold", struct listener_conf, early_hold, "5s", 1, 1 HOURS,
		"how long after the last RCPT an early envelope keeps its back-end connection while no content "
		"comes; after that it is given anew when the filters are done"),
	CONFIG_DURATION("budget", struct listener_conf, budget, "90s", 1 SECONDS, 1 HOURS,
		"the time from the end of DATA to the final dot towards the back-end, for filters and delivery, and "
		"for the back-end's answer to an early MAIL or RCPT; keep it below the front's patience "
		"(Postfix: 100s)"),
	CONFIG_DURATION("final_reserve", struct listener_conf, final_reserve, "10s", 0, 1 HOURS,
		"the final dot is not sent when less than this is left of the budget"),
	CONFIG_DURATION("separate_for", struct listener_conf, separate_for, "1h", 0, 1 DAYS,
		"after a message whose recipients got differing results: how long the recipients of that sender "
		"are taken one per transaction"),
	CONFIG_DURATION("command_timeout", struct listener_conf, smtp.command_timeout, "5m", 1, 1 DAYS,
		"patience with the front: for a command that has begun, and for the next one inside a transaction"),
	CONFIG_DURATION("data_timeout", struct listener_conf, smtp.data_timeout, "3m", 1, 1 DAYS,
		"patience with the front for the next octets of a message"),
	CONFIG_DURATION("idle_timeout", struct listener_conf, smtp.idle_timeout, "5m", 1, 1 DAYS,
		"patience with the front for the next command outside a transaction"),
	CONFIG_END
};

static const struct config_option backend_options[] = {
	CONFIG_ENDPOINTS("hosts", struct backend_conf, hosts, NULL,
		"the next mail server, HOST:PORT, [IPv6]:PORT or unix:PATH; one in this version"),
	CONFIG_ENUM("protocol", struct backend_conf, protocol, "smtp", protocol_words, "what hosts speak"),
	CONFIG_ENUM("tls", struct backend_conf, tls, "none", tls_words,
		"whether the connection is encrypted; this version knows only none"),
	CONFIG_STRING("maildir", struct backend_conf, maildir, NULL,
		"instead of hosts: the maildir into which each message is written, synced before the reply"),
	CONFIG_BOOL("discard", struct backend_conf, discard, "no",
		"instead of hosts: accept everything and drop it; for tests"),
	CONFIG_DURATION("connect_timeout", struct backend_conf, connect_timeout, "30s", 1, 1 HOURS,
		"patience for finding the host's address and connecting"),
	CONFIG_DURATION("greeting_timeout", struct backend_conf, client.greeting_timeout, "5m", 1, 1 HOURS,
		"patience for the greeting"),
	CONFIG_DURATION("command_timeout", struct backend_conf, client.command_timeout, "5m", 1, 1 HOURS,
		"patience for each reply but the one to the final dot"),
	CONFIG_DURATION("data_timeout", struct backend_conf, client.data_timeout, "3m", 1, 1 HOURS,
		"patience for the next octets of a message to be taken"),
	CONFIG_DURATION("final_timeout", struct backend_conf, client.final_timeout, "10m", 1, 1 DAYS,
		"patience for the reply to the final dot; the budget does not shorten it"),
	CONFIG_INT("max_connections", struct backend_conf, max_connections, "20", 1, 100000,
		"the most connections at a time, over all workers; transactions beyond wait their turn"),
	CONFIG_INT("max_idle", struct backend_conf, max_idle, "20", 0, 100000, "the most idle connections that are kept"),
	CONFIG_DURATION("idle_timeout", struct backend_conf, idle_timeout, "60s", 1, 1 DAYS,
		"how long an idle connection is kept"),
	CONFIG_INT("max_messages", struct backend_conf, max_messages, "1000", 0, 1000000000,
		"the most messages on one connection; 0 means any number"),
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
	.is_needed = true,
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
	.is_needed = true,
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

	if (ways == 0 && !config_is_set(block, "hosts"))
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

static void
check_hostname(struct settings *st, const struct config_block *block, const char *name)
{
	if (!mail_helo_valid(name, strlen(name)))
		config_error(st->config, config_place_of(block, "hostname"),
			"hostname: \"%s\" is not a host name (try gate.example.org)", name);
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

	if (listen->count == 0 && !config_is_set(l->block, "listen"))
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
unknown_name(struct config *conf, const struct config_place *place, const char *option, const char *what,
	const char *name, const char *const *names)
{
	const char *meant = config_did_you_mean(name, names);

	if (meant != NULL)
		config_error(conf, place, "%s: there is no %s \"%s\" (did you mean \"%s\"?)", option, what, name,
			meant);
	else
		config_error(conf, place, "%s: there is no %s \"%s\"", option, what, name);
}

static void
resolve_target(struct settings *st, struct listener *l)
{
	struct config *conf = st->config;
	const struct config_ref *ref = &l->conf.backend;
	const struct config_block *target;
	const char **names;

	if (ref->name == NULL) {
		if (!config_is_set(l->block, "backend"))
			config_error(conf, &l->block->place, "listener %s has no backend (try backend NAME)",
				l->name);
		return;
	}
	target = config_find_named(conf, "backend", ref->name);
	names = xcalloc((size_t)st->backend_count + 1, sizeof(*names));
	for (int i = 0; i < st->backend_count; i++) {
		names[i] = st->backends[i].name;
		if (st->backends[i].block == target)
			l->backend = &st->backends[i];
	}
	if (l->backend == NULL)
		unknown_name(conf, &ref->place, "backend", "backend", ref->name, names);
	free(names);
}

static void
resolve_listener(struct settings *st, struct listener *l)
{
	struct config *conf = st->config;
	struct listener_conf *lc = &l->conf;

	check_endpoints(st, l);
	if (lc->smtp.hostname == NULL)
		lc->smtp.hostname = st->hostname;
	else
		check_hostname(st, l->block, lc->smtp.hostname);
	if (lc->final_reserve >= lc->budget)
		config_error(conf,
			config_place_of(l->block, config_is_set(l->block, "budget") ? "budget" : "final_reserve"),
			"budget must be longer than final_reserve (%s), or nothing is ever delivered",
			config_is_set(l->block, "final_reserve") ? "both are set here" : "10s where it is not set");
	if (!lc->received)
		config_warn(conf, config_place_of(l->block, "received"),
			"received no: only the Received lines of other hops (max_hops %d) stop a mail loop",
			lc->max_hops);
	mail_trace_token(l->token, st->hostname, st->spool.directory, l->name);
	resolve_target(st, l);
}

/* filters/ does not know listeners. */
static void
check_rule_listeners(struct settings *st)
{
	const char **names = xcalloc((size_t)st->listener_count + 1, sizeof(*names));
	const struct config_block *block;

	for (int i = 0; i < st->listener_count; i++)
		names[i] = st->listeners[i].name;
	TAILQ_FOREACH(block, st->config->top->blocks, next) {
		const struct rule_conf *rc = block->data[0];

		for (size_t i = 0; block->section == &rule_section && i < rc->listener.count; i++) {
			const struct config_word *word = &rc->listener.list[i];

			if (config_find_named(st->config, "listener", word->text) == NULL)
				unknown_name(st->config, &word->place, "listener", "listener", word->text, names);
		}
	}
	free(names);
}

/* The longest that these filters may take: neighbouring inspectors run at the same time. */
static int64_t
longest_chain(const struct config *conf, const struct config_words *words)
{
	int64_t total = 0, step = 0;

	for (size_t i = 0; i < words->count; i++) {
		const struct config_block *block = config_find_named(conf, "filter", words->list[i].text);
		const struct filter_kind *kind = block != NULL ? block->section->owner : NULL;
		const struct filter_conf *fc = block != NULL ? block->data[0] : NULL;

		if (fc == NULL)
			continue;
		if (!kind->inspects || fc->timeout_ms > step) {
			total += kind->inspects ? fc->timeout_ms - step : fc->timeout_ms;
			step = kind->inspects ? fc->timeout_ms : 0;
		}
	}
	return total;
}

/* Only a warning: a chain that is cut off is a tempfail, and the front asks again. */
static void
check_budget(struct settings *st, const struct config_block *block, const char *option,
	const struct config_words *chain, const struct config_words *listeners)
{
	int64_t longest = longest_chain(st->config, chain);

	for (int i = 0; i < st->listener_count; i++) {
		const struct listener *l = &st->listeners[i];
		int64_t left = l->conf.budget - l->conf.final_reserve;
		bool is_meant = listeners == NULL || listeners->count == 0;

		for (size_t k = 0; !is_meant && k < listeners->count; k++)
			is_meant = strcmp(listeners->list[k].text, l->name) == 0;
		if (is_meant && longest > left && left > 0) {
			config_warn(st->config, config_place_of(block, option),
				"%s: the timeouts add up to %llds, the budget of listener %s leaves %llds",
				option, (long long)(longest / 1000), l->name, (long long)(left / 1000));
			return;
		}
	}
}

static void
check_budgets(struct settings *st)
{
	const struct config_block *block;

	check_budget(st, st->config->top, "default_chain", &st->top.default_chain, NULL);
	TAILQ_FOREACH(block, st->config->top->blocks, next) {
		const struct rule_conf *rc = block->data[0];

		if (block->section == &rule_section)
			check_budget(st, block, "chain", &rc->chain, &rc->listener);
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
	if (st->top.hostname != NULL)
		strncat(st->hostname, st->top.hostname, sizeof(st->hostname) - 1);
	else if (gethostname(st->hostname, sizeof(st->hostname) - 1) < 0 || st->hostname[0] == '\0')
		strcpy(st->hostname, "localhost");
	check_hostname(st, st->config->top, st->hostname);
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
			"to: \"%s\" is no log target (try syslog, stderr or /var/log/postern/log)", st->log.to);
	if (st->top.pid_file != NULL && st->top.pid_file[0] != '/')
		config_error(conf, config_place_of(conf->top, "pid_file"), "pid_file: \"%s\" is not an absolute path",
			st->top.pid_file);
	if (st->spool.directory[0] != '/')
		config_error(conf, config_place_of(config_find_one(conf->top, "spool"), "directory"),
			"directory: \"%s\" is not an absolute path", st->spool.directory);
	collect(st);
	for (int i = 0; i < st->backend_count; i++)
		resolve_backend(st, &st->backends[i]);
	for (int i = 0; i < st->listener_count; i++)
		resolve_listener(st, &st->listeners[i]);
	if (st->listener_count == 0 && conf->error_count == 0) /* else it may be one of those */
		config_error(conf, &conf->top->place, "there is no listener, so no mail can come in "
			"(try listener front { listen 127.0.0.1:10025; backend inner })");
	check_duplicate_addresses(st);
	st->filters = filter_set_new(conf, &st->top.default_chain);
	check_rule_listeners(st);
	check_budgets(st);
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
