/*
 * proxy/options.c - all sections in the order of the manual, and the pass that resolves names.
 */
#include "proxy/options.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <syslog.h>
#include <unistd.h>

#include "base/str.h"
#include "base/xalloc.h"
#include "filters/filter.h"
#include "filters/rules.h"
#include "filters/set.h"
#include "mail/address.h"
#include "proxy/options_sense.h"
#include "proxy/options_tls.h"
#include "proxy/secret.h"
#include "smtp/auth.h"

#define SECONDS *1000LL
#define MINUTES *60 SECONDS
#define HOURS	*60 MINUTES
#define DAYS	*24 HOURS

static const char *const starttls_words[] = { "no", "offer", "require", NULL };
static const char *const protocol_words[] = { "smtp", NULL };
static const char *const balance_words[] = { "order", "round-robin", "least", NULL };
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
		"the file for the monitor's process id; when not given, none is written. Under our systemd unit, which does not start "
		"as root, only below /run/postern"),
	CONFIG_AUTO_INT("workers", struct top_conf, workers, "auto", 1, 256,
		"threads that carry mail; auto stands for one per CPU"),
	CONFIG_AUTO_INT("max_connections", struct top_conf, max_connections, "auto", 1, 1000000,
		"the most connections of clients at a time, over all listeners; more get 421, and while less than an "
		"eighth is free MAIL gets 451. auto counts one descriptor for each and one for the content of a "
		"message, after those of back-ends, workers and a reserve: 8/15 of what then remains of the limit "
		"(RLIMIT_NOFILE, raised at the start as far as it goes), at most 32768"),
	CONFIG_STRING("hostname", struct top_conf, hostname, NULL,
		"our name in greetings, EHLO and Received lines; when not given, the machine's name. It must "
		"differ from the front MTA's own name, or sendmail takes us for itself"),
	CONFIG_DURATION("drain_timeout", struct top_conf, drain_timeout, "30s", 0, 1 DAYS,
		"how long a stop waits for transactions under way; a delivery whose final dot has left is "
		"waited for in any case"),
	CONFIG_DURATION("stuck_timeout", struct top_conf, stuck_timeout, "10s", 1000, 1 DAYS,
		"a worker that does nothing for so long, though it should at least look round each second, is "
		"stuck: a new engine takes over, and what the stuck one has is tried again by the front"),
	CONFIG_BOOL("watch_config", struct top_conf, watch_config, "no",
		"reload by itself when a file of the configuration has changed; one with an error changes "
		"nothing and is reported. Lists (file:PATH) that have changed are read again in any case, "
		"as long as the rest of the configuration stands in its files as it was read"),
	ADDRESS_OPTIONS(struct top_conf, addresses),
	CONFIG_WORDS("default_chain", struct top_conf, default_chain, NULL,
		"the filters for recipients that no rule matches, in this order; when not given, or with the "
		"word none, no filter"),
	CONFIG_END
};

static const struct config_option log_options[] = {
	CONFIG_STRING("to", struct log_section, to, "syslog",
		"where log lines go: syslog, journal (systemd's, each key as a field), stderr, or the path of a file, or of a FIFO "
		"that somebody reads; what its target does not take in time is counted as lost, and mail goes on"),
	CONFIG_ENUM("facility", struct log_section, facility, "mail", facility_words, "the facility towards syslog and journal"),
	CONFIG_ENUM("level", struct log_section, level, "info", log_level_names,
		"the least important level that is written"),
	CONFIG_ENUM("format", struct log_section, format, "text", format_words,
		"the form of a line: text is key=value, json is one object; the journal has always text, beside its fields"),
	CONFIG_END
};

static const struct config_option listener_options[] = {
	CONFIG_ENDPOINTS("listen", struct listener_conf, listen, NULL,
		"where to listen: HOST:PORT, [IPv6]:PORT, unix:PATH, or fd:NAME for a socket that systemd hands over, one or more; "
		"required"),
	CONFIG_ENUM("protocol", struct listener_conf, protocol, "smtp", protocol_words, "what is spoken here"),
	CONFIG_REF("backend", struct listener_conf, backend, "the back-end that gets the mail; required"),
	CONFIG_NETS("clients", struct listener_conf, clients, "127.0.0.0/8 ::1",
		"who may speak at all: addresses and networks, or any; a Unix socket takes everybody who can reach "
		"it. Required where others than this machine can reach the listener"),
	CONFIG_STRING("socket_mode", struct listener_conf, socket_mode_text, "0666",
		"who may connect to a Unix socket, as the octal mode of its file: writing is connecting. With 0666 it "
		"is whoever can reach it, so its folder decides"),
	CONFIG_STRING("socket_owner", struct listener_conf, socket_owner, NULL,
		"the user to whom a Unix socket belongs; when not given, whoever starts Postern"),
	CONFIG_STRING("socket_group", struct listener_conf, socket_group, NULL,
		"the group of a Unix socket; when not given, the starting user's"),
	CONFIG_NETS("trusted", struct listener_conf, trusted, NULL,
		"the clients that max_per_client does not count: addresses and networks, or any; when not given, "
		"none"),
	CONFIG_INT("max_connections", struct listener_conf, max_connections, "0", 0, 1000000,
		"the most connections at a time on this listener, more get 421; 0 means no limit but the one for all"),
	CONFIG_INT("max_per_client", struct listener_conf, max_per_client, "0", 0, 1000000,
		"the most connections at a time of one client address on this listener, more get 421; an IPv6 /64 is "
		"one client, those of a Unix socket are not counted; 0 means no limit"),
	CONFIG_STRING("hostname", struct listener_conf, smtp.hostname, NULL,
		"our name on this listener; when not given, the top-level hostname"),
	CONFIG_STRING("greeting", struct listener_conf, smtp.greeting, "\"ESMTP Postern\"",
		"the text behind our name in the greeting"),
	CONFIG_ENUM("starttls", struct listener_conf, smtp.starttls, "offer", starttls_words,
		"whether STARTTLS is offered, where the tls block has a certificate; require takes no mail before it"),
	CONFIG_BOOL("implicit_tls", struct listener_conf, smtp.implicit_tls, "no",
		"whether clients begin with the TLS handshake, before the greeting"),
	CONFIG_DURATION("early_talker", struct listener_conf, smtp.early_talker, "0", 0, 1 MINUTES,
		"how long the greeting is held back; a client that does not wait for it gets 554 and is cut; 0 means "
		"not at all. Not for a front MTA, which it only slows down"),
	CONFIG_SIZE("max_message", struct listener_conf, smtp.max_message, "50M", 0, 1LL << 40,
		"the largest message that is taken, larger ones get 552; 0 means no limit"),
	CONFIG_INT("max_recipients", struct listener_conf, smtp.max_recipients, "1000", 1, 1000000,
		"the most recipients of one message; those beyond get 452, and the front sends them again, as they "
		"do behind 1000 refused ones"),
	CONFIG_INT("max_errors", struct listener_conf, smtp.max_errors, "20", 1, 1000000,
		"how many commands may get 500 to 503 before the session ends with 421, without a message that is taken in "
		"between; refusals by filters or the back-end do not count, nor what was pipelined behind a refused command"),
	CONFIG_INT("max_hops", struct listener_conf, max_hops, "50", 1, 10000,
		"the most Received lines in a message; one with more is in a loop and gets 554"),
	CONFIG_BOOL("received", struct listener_conf, received, "yes",
		"whether our Received line is put in front; without it only max_hops stops a loop"),
	CONFIG_ENUM("bare_newline", struct listener_conf, smtp.bare_newline, "normalize", bare_newline_words,
		"what becomes of a CR or LF that stands alone in a message: normalize makes LF a CRLF and CR a "
		"blank, reject answers 550 5.6.11"),
	CONFIG_WORDS("gate", struct listener_conf, gate, NULL,
		"the filters that are asked while the envelope is being given, in this order: when a client connects, and "
		"at HELO, MAIL and RCPT; a refusal is the reply to that command. When not given, or with the word none, no "
		"filter"),
	CONFIG_BOOL("soft_bounce", struct listener_conf, smtp.soft_bounce, "no",
		"whether each refusal of a filter, the back-end or a limit, 5xx, is said as a 4xx of the same text, so that the "
		"front keeps the mail and tries again: while a new set-up is watched. Codes that say that the client's "
		"own words were wrong (500 to 504, 555) stay"),
	CONFIG_ENUM("envelope", struct listener_conf, envelope, "early", envelope_words,
		"when the back-end hears of sender and recipients: early passes them on as they come, so that its "
		"refusals reach the front at once; late waits until the filters are done"),
	CONFIG_DURATION("early_hold", struct listener_conf, early_hold, "5s", 1, 1 HOURS,
		"how long after the last RCPT an early envelope keeps its back-end connection while no content "
		"comes, 100ms while others wait for one; after that it is given anew when the filters are done"),
	CONFIG_DURATION("budget", struct listener_conf, budget, "90s", 1 SECONDS, 1 HOURS,
		"the time from the end of DATA to the final dot towards the back-end, for filters and delivery, and "
		"for the back-end's answer to an early MAIL or RCPT; also for all that the gate asks about one command; keep it below the front's patience "
		"(Postfix: 100s)"),
	CONFIG_DURATION("final_reserve", struct listener_conf, final_reserve, "10s", 0, 1 HOURS,
		"the final dot is not sent when less than this is left of the budget"),
	CONFIG_DURATION("separate_for", struct listener_conf, separate_for, "2h", 0, 1 DAYS,
		"after a message whose recipients got differing results: how long the recipients of that sender are taken "
		"one per transaction. Each time that it is done this begins anew, up to twelve times as long in all; keep it "
		"above the longest pause in which the front tries again (Postfix: 4000s)"),
	CONFIG_DURATION("command_timeout", struct listener_conf, smtp.command_timeout, "5m", 1, 1 DAYS,
		"patience with the front: for a command that has begun, and for the next one inside a transaction"),
	CONFIG_DURATION("data_timeout", struct listener_conf, smtp.data_timeout, "3m", 1, 1 DAYS,
		"patience with the front for the next octets of a message"),
	CONFIG_SIZE("min_rate", struct listener_conf, smtp.min_rate, "100", 0, 1 << 30,
		"the least octets of a message per second: each second takes one second of data_timeout away and so "
		"many octets give it back, and when nothing is left the client is cut with 421; 0 means that any "
		"octet gives all of it back"),
	CONFIG_DURATION("idle_timeout", struct listener_conf, smtp.idle_timeout, "5m", 1, 1 DAYS,
		"patience with the front for the next command outside a transaction"),
	CONFIG_END
};

static const struct config_option backend_options[] = {
	CONFIG_ENDPOINTS("hosts", struct backend_conf, hosts, NULL,
		"the next mail servers, one or more: HOST:PORT, [IPv6]:PORT or unix:PATH. One that cannot be reached or "
		"refuses us is down, and asked only when no other is left, until it answers again. So is one that leaves a mail "
		"without a reply while another may be asked; it is tried by one mail now and then, and up when one has passed"),
	CONFIG_ENUM("balance", struct backend_conf, balance, "order", balance_words,
		"which of several hosts gets a message: order is the first one that is up, as they are written; "
		"round-robin one after the other; least the one with the fewest connections in use"),
	CONFIG_DURATION("probe_interval", struct backend_conf, probe_interval, "30s", 100, 1 HOURS,
		"a host that is down is probed after a second, and then with growing pauses up to this; one from "
		"which no EHLO reply was heard for so long is asked anew what it offers"),
	CONFIG_DURATION("resolve_interval", struct backend_conf, resolve_interval, "60s", 0, 1 DAYS,
		"how long the addresses of a host name are used before it is looked up again in the background; "
		"while that fails, the old ones are used; 0 means a look-up for each connection"),
	CONFIG_ENUM("protocol", struct backend_conf, protocol, "smtp", protocol_words, "what hosts speak"),
	CONFIG_ENUM("tls", struct backend_conf, tls, "none", backend_tls_words,
		"whether the connection is encrypted: opportunistic if the host can, with any certificate; required "
		"always, with any certificate; verify always, and the certificate must be good (chain and name, or "
		"tls_pin)"),
	CONFIG_BOOL("implicit_tls", struct backend_conf, client.implicit_tls, "no",
		"whether the connection begins with the TLS handshake, instead of STARTTLS"),
	CONFIG_STRING("tls_ca", struct backend_conf, tls_ca, NULL,
		"the PEM file of the authorities that verify trusts; when not given, the system's"),
	CONFIG_STRING("tls_name", struct backend_conf, client.tls_name, NULL,
		"the name that is asked for and must be in the certificate; when not given, the host's in hosts"),
	CONFIG_WORDS("tls_pin", struct backend_conf, tls_pin, NULL,
		"the SHA-256 of the host's public key, in hexadecimal or as sha256//BASE64; of several one must match. "
		"Then chain and name are looked at only if tls_ca is given, too"),
	CONFIG_STRING("tls_certificate", struct backend_conf, tls_certificate, NULL,
		"our certificate for hosts that ask for one, as a PEM file with its chain"),
	CONFIG_STRING("tls_key", struct backend_conf, tls_key, NULL,
		"its private key; when not given, it is in the same file"),
	CONFIG_ENUM("tls_min_version", struct backend_conf, tls_min_version, "1.2", net_tls_version_words,
		"the oldest version of TLS that is spoken"),
	CONFIG_STRING("auth_user", struct backend_conf, client.auth_user, NULL,
		"the user name for AUTH (PLAIN or LOGIN); when not given, there is no AUTH"),
	CONFIG_STRING("auth_password_file", struct backend_conf, auth_password_file, NULL,
		"the file whose first line is the password, readable for us alone or for our group, or credential:NAME "
		"for one that systemd hands over (LoadCredential=); read at the start and at each reload"),
	CONFIG_BOOL("auth_plaintext", struct backend_conf, client.auth_plaintext, "no",
		"whether AUTH is used without TLS, too, where anybody on the way can read the password"),
	CONFIG_STRING("maildir", struct backend_conf, maildir, NULL,
		"instead of hosts: the maildir into which each message is written, synced before the reply"),
	CONFIG_BOOL("discard", struct backend_conf, discard, "no",
		"instead of hosts: accept everything and drop it; for tests"),
	CONFIG_DURATION("connect_timeout", struct backend_conf, connect_timeout, "30s", 1, 1 HOURS,
		"patience for finding the host's address and connecting. Where there are several hosts, one that has not "
		"answered EHLO within 10 seconds is down, when another one is up; when none is, they share the budget. The same "
		"patience is had with each reply up to the final dot, as long as there is a host that was not asked"),
	CONFIG_DURATION("greeting_timeout", struct backend_conf, client.greeting_timeout, "5m", 1, 1 HOURS,
		"patience for the greeting"),
	CONFIG_DURATION("command_timeout", struct backend_conf, client.command_timeout, "5m", 1, 1 HOURS,
		"patience for each reply but the one to the final dot; with several hosts see connect_timeout"),
	CONFIG_DURATION("data_timeout", struct backend_conf, client.data_timeout, "3m", 1, 1 HOURS,
		"patience for the next octets of a message to be taken"),
	CONFIG_DURATION("final_timeout", struct backend_conf, client.final_timeout, "10m", 1, 1 DAYS,
		"patience for the reply to the final dot; the budget does not shorten it"),
	CONFIG_BOOL("chunking", struct backend_conf, client.chunking, "no",
		"whether content goes by BDAT to a host that offers CHUNKING, behind an envelope that was not "
		"pipelined (early, for one): without dot-stuffing and with one round trip less; no means DATA, which "
		"every server understands"),
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

static const struct config_section quarantine_section = {
	.name = "quarantine",
	.help = "Messages that a verdict sets aside",
	.arity = CONFIG_ONE,
	.groups = { { quarantine_options, sizeof(struct quarantine_conf) } },
};

static const struct config_option health_options[] = {
	CONFIG_ENDPOINTS("listen", struct health_conf, listen, NULL,
		"where /healthz, /readyz, /metrics and /status are asked for over HTTP: HOST:PORT, [IPv6]:PORT or "
		"unix:PATH, one or more; when not given, nowhere"),
	CONFIG_NETS("clients", struct health_conf, clients, "127.0.0.0/8 ::1",
		"who may ask: addresses and networks, or any; a Unix socket answers everybody who can reach it. Required "
		"where others than this machine can reach the address"),
	CONFIG_END
};

static const struct config_section health_section = {
	.name = "health",
	.help = "Where monitoring asks whether Postern lives, can take mail, and what it counts",
	.arity = CONFIG_ONE,
	.groups = { { health_options, sizeof(struct health_conf) } },
};

static const struct config_section *const listener_sections[] = { &listener_tls_section, NULL };

static const struct config_section listener_section = {
	.name = "listener",
	.help = "Where mail comes in",
	.arity = CONFIG_NAMED,
	.groups = { { listener_options, sizeof(struct listener_conf) } },
	.sections = listener_sections,
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
	&log_section, &spool_section, &quarantine_section, &listener_section, &backend_section, &health_section,
};

/* Habits from Postfix, sendmail, Exim, HAProxy, nginx. */
static const char *const others[][2] = {
	{ "port", "listen" }, { "address", "listen" }, { "bind", "listen" }, { "inet_interfaces", "listen" },
	{ "local_addr", "listen" }, { "interface", "listen" }, { "host", "hosts" }, { "server", "hosts" },
	{ "relayhost", "hosts" }, { "relay", "hosts" }, { "nexthop", "hosts" }, { "next_hop", "hosts" },
	{ "destination", "hosts" }, { "forward", "hosts" }, { "upstream", "backend" }, { "target", "backend" },
	{ "content_filter", "backend" }, { "mynetworks", "clients" }, { "allow", "clients" }, { "acl", "clients" },
	{ "myhostname", "hostname" }, { "smtp_helo_name", "hostname" }, { "helo", "hostname" },
	{ "confDOMAIN_NAME", "hostname" }, { "smtpd_banner", "greeting" }, { "banner", "greeting" },
	{ "message_size_limit", "max_message" }, { "confMAX_MESSAGE_SIZE", "max_message" }, { "size", "max_message" },
	{ "size_limit", "max_message" }, { "smtpd_recipient_limit", "max_recipients" }, { "hopcount_limit", "max_hops" },
	{ "rcpt", "recipient" }, { "to", "recipient" }, { "rcpt_to", "recipient" }, { "from", "sender" },
	{ "mail_from", "sender" }, { "filter", "chain" }, { "filters", "chain" }, { "action", "chain" },
	{ "smtpd_tls_cert_file", "certificate" }, { "cert", "certificate" }, { "ssl_certificate", "certificate" },
	{ "smtpd_tls_key_file", "key" }, { "smtp_tls_CAfile", "tls_ca" }, { "ca", "tls_ca" },
	{ "smtp_tls_security_level", "tls" }, { "smtpd_tls_security_level", "starttls" }, { "ssl", "tls" },
	{ "username", "auth_user" }, { "password", "auth_password_file" }, { "smtp_sasl_password_maps", "auth_password_file" },
	{ "run_as", "user" }, { "mail_owner", "user" }, { "queue_directory", "directory" }, { "spool_directory", "directory" },
	{ "threads", "workers" }, { "processes", "workers" }, { "default_process_limit", "max_connections" },
	{ "maxconn", "max_connections" }, { "worker_processes", "workers" }, { "pid", "pid_file" },
	{ "syslog_facility", "facility" }, { "loglevel", "level" }, { "debug", "level" }, { "logfile", "to" },
	{ NULL, NULL },
};

const struct config_section top_section = {
	.name = "",
	.others = others,
	.help = "Postern as a whole",
	.arity = CONFIG_ONE,
	.groups = { { top_options, sizeof(struct top_conf) } },
	.sections = all_sections,
};

void
settings_prepare(void)
{
	size_t n = 6;

	if (all_sections[n] != NULL)
		return;
	for (size_t i = 0; filter_sections[i] != NULL && n < SECTIONS_MAX - 1; i++)
		all_sections[n++] = filter_sections[i];
}

/* ---- resolving ---- */

static bool
is_same_host(const struct ip_endpoint *a, const struct ip_endpoint *b)
{
	if (a->kind != b->kind || a->port != b->port)
		return false;
	if (a->kind == IP_NUMERIC)
		return a->addr_len == b->addr_len && memcmp(&a->addr, &b->addr, a->addr_len) == 0;
	return a->kind == IP_NAME ? strcasecmp(a->host, b->host) == 0 : strcmp(a->host, b->host) == 0;
}

static void
check_hosts(struct config *conf, const struct config_endpoints *hosts)
{
	char text[300];

	if (hosts->count > SMTP_HOSTS_MAX)
		config_error(conf, &hosts->places[SMTP_HOSTS_MAX], "hosts: more than %d (try a name with several addresses)",
			SMTP_HOSTS_MAX);
	for (size_t i = 0; i < hosts->count; i++) {
		if (hosts->list[i].kind == IP_FD)
			config_error(conf, &hosts->places[i], "hosts: fd: is for listeners only (try 127.0.0.1:10026)");
		if ((hosts->list[i].kind == IP_NAME || hosts->list[i].kind == IP_NUMERIC) && hosts->list[i].port == 0) {
			ip_endpoint_text(&hosts->list[i], text, sizeof(text));
			config_error(conf, &hosts->places[i], "hosts: %s: nobody can be reached at port 0 (try 25)", text);
		}
		for (size_t k = 0; k < i; k++)
			if (is_same_host(&hosts->list[i], &hosts->list[k])) {
				ip_endpoint_text(&hosts->list[i], text, sizeof(text));
				config_error(conf, &hosts->places[i], "hosts: %s is named twice (name each once)", text);
				break;
			}
	}
}

static void
check_auth(struct settings *st, const struct backend *b)
{
	const char *user = b->conf.client.auth_user, *file = b->conf.auth_password_file;
	const struct config_block *block = b->block;

	if (user != NULL && file == NULL)
		config_error(st->config, config_place_of(block, "auth_user"), "auth_user needs auth_password_file");
	if (file != NULL && user == NULL)
		config_error(st->config, config_place_of(block, "auth_password_file"), "auth_password_file needs auth_user");
	if (user != NULL && (*user == '\0' || strlen(user) > SMTP_AUTH_MAX))
		config_error(st->config, config_place_of(block, "auth_user"), "auth_user: 1 to %d octets are possible",
			SMTP_AUTH_MAX);
	if (file != NULL && file[0] != '/' && strncmp(file, "credential:", 11) != 0)
		config_error(st->config, config_place_of(block, "auth_password_file"),
			"auth_password_file: \"%s\" is neither an absolute path nor credential:NAME", file);
	if (user != NULL && b->conf.tls == BACKEND_TLS_NONE && !b->conf.client.auth_plaintext)
		config_error(st->config, config_place_of(block, "auth_user"),
			"auth_user: with tls none the password would go in clear (try tls required, or auth_plaintext yes)");
}

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
	b->kind = b->conf.discard ? BACKEND_DISCARD : b->conf.maildir != NULL ? BACKEND_MAILDIR : BACKEND_SMTP;
	if (b->conf.maildir != NULL && b->conf.maildir[0] != '/')
		config_error(conf, config_place_of(block, "maildir"), "maildir: \"%s\" is not an absolute path", b->conf.maildir);
	if (b->kind != BACKEND_SMTP || b->conf.hosts.count == 0)
		return;
	check_hosts(conf, &b->conf.hosts);
	b->conf.client.helo = st->hostname;
	tls_resolve_backend(st, b);
	check_auth(st, b);
	b->dest_conf = (struct smtp_dest_conf){
		.name = b->name,
		.hosts = b->conf.hosts.list,
		.host_count = (int)b->conf.hosts.count,
		.balance = (enum smtp_balance)b->conf.balance,
		.probe_interval = b->conf.probe_interval,
		.resolve_interval = b->conf.resolve_interval,
		.client = b->conf.client,
		.connect_timeout = b->conf.connect_timeout,
		.idle_timeout = b->conf.idle_timeout,
		.max_connections = b->conf.max_connections,
		.max_idle = b->conf.max_idle,
		.max_messages = b->conf.max_messages,
	};
}

/* What we say of ourselves is held to more than what clients say: strict servers refuse an EHLO with less. */
static bool
is_host_name(const char *name)
{
	struct ip_net net;
	struct err err;

	if (!mail_helo_valid(name, strlen(name)) || strchr(name, ':') != NULL)
		return false;
	if (name[0] == '[')
		return true;
	return name[0] != '.' && name[0] != '-' && strstr(name, "..") == NULL && strstr(name, ".-") == NULL &&
	       strstr(name, "-.") == NULL && ip_net_parse(name, &net, &err) < 0;
}

static void
check_hostname(struct settings *st, const struct config_block *block, const char *name)
{
	if (!is_host_name(name))
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

/* Of a listener, or of health. */
static void
check_endpoints(struct settings *st, const struct config_block *block, const struct config_endpoints *listen)
{
	for (size_t i = 0; i < listen->count; i++) {
		const struct ip_endpoint *ep = &listen->list[i];

		if (is_open_to_others(ep) && !config_is_set(block, "clients"))
			config_error(st->config, &listen->places[i],
				"listen: others than this machine can reach %s, so clients must say who may speak "
				"(try clients 192.0.2.0/24, or clients any)", ep->host);
	}
}

/* "0660", "660" */
static bool
parse_mode(const char *text, mode_t *mode_r)
{
	size_t len = strlen(text);

	if (len < 3 || len > 4 || strspn(text, "01234567") != len || (len == 4 && text[0] != '0'))
		return false;
	*mode_r = (mode_t)strtoul(text, NULL, 8);
	return true;
}

static void
resolve_socket(struct settings *st, struct listener *l)
{
	static const char *const names[] = { "socket_mode", "socket_owner", "socket_group" };
	const struct config_endpoints *listen = &l->conf.listen;
	bool has_socket = false;

	if (!parse_mode(l->conf.socket_mode_text, &l->socket_mode))
		config_error(st->config, config_place_of(l->block, "socket_mode"),
			"socket_mode: \"%s\" is not an octal mode (try 0660)", l->conf.socket_mode_text);
	for (size_t i = 0; i < listen->count; i++)
		has_socket |= listen->list[i].kind == IP_UNIX;
	for (size_t i = 0; !has_socket && listen->count > 0 && i < ARRAY_COUNT(names); i++)
		if (config_is_set(l->block, names[i]))
			config_error(st->config, config_place_of(l->block, names[i]),
				"%s: listener %s has no Unix socket (try listen unix:/run/postern/in)", names[i], l->name);
}

/* With those that there are, where none looks alike. */
static void
unknown_name(struct config *conf, const struct config_place *place, const char *what, const char *name,
	const char *const *names)
{
	const char *meant = config_did_you_mean(name, names);
	struct str list = STR_INIT;

	for (size_t i = 0; names[i] != NULL && i < 8; i++)
		str_printf(&list, "%s%s", i > 0 ? " " : "", names[i]);
	if (meant != NULL)
		config_error(conf, place, "%s: there is no %s \"%s\" (did you mean \"%s\"?)", what, what, name, meant);
	else if (names[0] != NULL)
		config_error(conf, place, "%s: there is no %s \"%s\" (there are: %s)", what, what, name, str_text(&list));
	else
		config_error(conf, place, "%s: there is no %s \"%s\" (nor any other: write %s NAME { ... })", what, what, name,
			what);
	str_deinit(&list);
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
		unknown_name(conf, &ref->place, "backend", ref->name, names);
	free(names);
}

static void
resolve_listener(struct settings *st, struct listener *l)
{
	struct config *conf = st->config;
	struct listener_conf *lc = &l->conf;

	if (lc->listen.count == 0 && !config_is_set(l->block, "listen"))
		config_error(conf, &l->block->place,
			"listener %s has no address (try listen 127.0.0.1:10025)", l->name);
	check_endpoints(st, l->block, &lc->listen);
	resolve_socket(st, l);
	lc->smtp.bare_sender = st->top.addresses.unqualified_domain != NULL;
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
	tls_resolve_listener(st, l);
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
				unknown_name(st->config, &word->place, "listener", word->text, names);
		}
	}
	free(names);
}

static bool
is_filter(const struct config_block *block)
{
	return block->section->space != NULL && strcmp(block->section->space, "filter") == 0;
}

/* The longest that these filters may take, by the steps of filters/plan.c: those of one run at the same time. */
static int64_t
longest_chain(const struct config *conf, const struct config_words *words)
{
	int64_t total = 0, step = 0;

	for (size_t i = 0; i < words->count; i++) {
		const struct config_block *block = config_find_named(conf, "filter", words->list[i].text);
		const struct filter_kind *kind = block != NULL ? block->section->owner : NULL;
		const struct filter_conf *fc = block != NULL ? block->data[0] : NULL;

		if (fc == NULL || (kind->is_prompt && fc->max_instances == 0))
			continue;
		if (!filter_may_join(kind, block->data[1], fc->shadow)) {
			total += step;
			step = 0;
		}
		step = fc->timeout_ms > step ? fc->timeout_ms : step;
		if (!filter_looks_only(kind, block->data[1], fc->shadow)) {
			total += step;
			step = 0;
		}
	}
	return total + step;
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

/* A choice of words, whatever it is about, and the word is quarantine; or a list that is called so: quarantine_codes. */
static bool
asks_quarantine(const struct config_option *row, const void *member)
{
	if (row->type == CONFIG_T_ENUM)
		return strcmp(row->choices[*(const int *)member], "quarantine") == 0;
	return row->type == CONFIG_T_WORDS && strncmp(row->name, "quarantine", 10) == 0 &&
	       ((const struct config_words *)member)->count > 0;
}

/* A default that is quarantine holds for those who have one; what asks for it elsewhere is put off. */
static void
check_asks_quarantine(struct settings *st, const struct config_block *block, int group)
{
	const struct config_option *rows = block->section->groups[group].options;

	for (size_t i = 0; rows != NULL && rows[i].name != NULL; i++) {
		/* A default that a service may make use of one day is no reason to have one. */
		if (config_is_set(block, rows[i].name) &&
			asks_quarantine(&rows[i], (const char *)block->data[group] + rows[i].offset))
			config_error(st->config, config_place_of(block, rows[i].name),
				"%s: there is no quarantine (try quarantine { directory /var/lib/postern/quarantine })",
				rows[i].name);
	}
}

static void
check_no_quarantine(struct settings *st)
{
	const struct config_block *block;

	TAILQ_FOREACH(block, st->config->top->blocks, next)
		for (int group = 0; is_filter(block) && group < 2; group++)
			check_asks_quarantine(st, block, group);
}

/* The same address twice: the second bind would fail at start. Against all that stand before place k of list i; the
 * last list is that of health. */
static void
check_address(struct settings *st, const struct config_endpoints *const *lists, int i, size_t k)
{
	const struct ip_endpoint *ep = &lists[i]->list[k];
	char a[300], b[300], whose[300];

	ip_endpoint_text(ep, a, sizeof(a));
	for (int j = 0; j <= i && (ep->port != 0 || ep->kind == IP_UNIX); j++)
		for (size_t m = 0; m < lists[j]->count && (j < i || m < k); m++) {
			ip_endpoint_text(&lists[j]->list[m], b, sizeof(b));
			snprintf(whose, sizeof(whose), j < st->listener_count ? "listener %s" : "health",
				j < st->listener_count ? st->listeners[j].name : "");
			if (strcmp(a, b) == 0)
				config_error(st->config, &lists[i]->places[k], "listen: %s is used by %s already", a, whose);
			else if (ip_endpoint_clash(ep, &lists[j]->list[m]))
				config_error(st->config, &lists[i]->places[k],
					"listen: %s and %s of %s cannot both be: one takes the other's port on all addresses",
					a, b, whose);
		}
}

static void
check_duplicate_addresses(struct settings *st)
{
	const struct config_endpoints **lists = xcalloc((size_t)st->listener_count + 1, sizeof(*lists));

	for (int i = 0; i < st->listener_count; i++)
		lists[i] = &st->listeners[i].conf.listen;
	lists[st->listener_count] = &st->health.listen;
	for (int i = 0; i <= st->listener_count; i++)
		for (size_t k = 0; k < lists[i]->count; k++)
			check_address(st, lists, i, k);
	free(lists);
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
				.conf = *(struct listener_conf *)block->data[0] };
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
	for (int i = 0; i < st->listener_count; i++)
		net_tls_live_free(&st->listeners[i].tls);
	for (int i = 0; i < st->backend_count; i++) {
		net_tls_live_free(&st->backends[i].tls);
		secret_free(&st->backends[i].password);
	}
	free(st->listeners);
	free(st->backends);
	free(st);
}

static void
check_quarantine(struct settings *st)
{
	const char *directory = st->quarantine.directory;
	const struct config_place *place =
		config_place_of(config_find_one(st->config->top, "quarantine"), "directory");

	if (directory != NULL && directory[0] != '/')
		config_error(st->config, place, "directory: \"%s\" is not an absolute path", directory);
	else if (directory != NULL && strcmp(directory, st->spool.directory) == 0)
		config_error(st->config, place, "directory: %s is the spool (try /var/lib/postern/quarantine)", directory);
}

static void
resolve(struct settings *st)
{
	struct config *conf = st->config;
	long cpus;

	st->top = *(struct top_conf *)conf->top->data[0];
	st->log = *(struct log_section *)config_find_one(conf->top, "log")->data[0];
	st->spool = *(struct spool_conf *)config_find_one(conf->top, "spool")->data[0];
	st->quarantine = *(struct quarantine_conf *)config_find_one(conf->top, "quarantine")->data[0];
	st->health = *(struct health_conf *)config_find_one(conf->top, "health")->data[0];
	check_endpoints(st, config_find_one(conf->top, "health"), &st->health.listen);
	find_hostname(st);
	cpus = sysconf(_SC_NPROCESSORS_ONLN);
	st->workers = st->top.workers > 0 ? st->top.workers : cpus > 0 ? (int)cpus : 1;
	if (settings_log_conf(st, false, false).target == LOG_TO_FILE && st->log.to[0] != '/')
		config_error(conf, config_place_of(config_find_one(conf->top, "log"), "to"),
			"to: \"%s\" is no log target (try syslog, journal, stderr or /var/log/postern/log)", st->log.to);
	if (st->top.addresses.unqualified_domain != NULL && !mail_domain_valid(st->top.addresses.unqualified_domain))
		config_error(conf, config_place_of(conf->top, "unqualified_domain"),
			"unqualified_domain: \"%s\" is no domain (try example.org)", st->top.addresses.unqualified_domain);
	if (st->top.user != NULL && *st->top.user == '\0')
		config_error(conf, config_place_of(conf->top, "user"), "user: the name is empty (try user postern)");
	if (st->top.pid_file != NULL && st->top.pid_file[0] != '/')
		config_error(conf, config_place_of(conf->top, "pid_file"), "pid_file: \"%s\" is not an absolute path",
			st->top.pid_file);
	if (st->spool.directory[0] != '/')
		config_error(conf, config_place_of(config_find_one(conf->top, "spool"), "directory"),
			"directory: \"%s\" is not an absolute path", st->spool.directory);
	check_quarantine(st);
	collect(st);
	for (int i = 0; i < st->backend_count; i++)
		resolve_backend(st, &st->backends[i]);
	for (int i = 0; i < st->listener_count; i++)
		resolve_listener(st, &st->listeners[i]);
	if (st->listener_count == 0 && conf->error_count == 0) /* else it may be one of those */
		config_error(conf, &conf->top->place, "there is no listener, so no mail can come in "
			"(try listener front { listen 127.0.0.1:10025; backend inner })");
	check_duplicate_addresses(st);
	words_use_addresses(conf, &((struct top_conf *)conf->top->data[0])->addresses);
	st->filters = filter_set_new(conf, &st->top.default_chain, &st->spool);
	for (int i = 0; i < st->listener_count; i++)
		st->listeners[i].gate = filter_set_gate(st->filters, conf, &st->listeners[i].conf.gate);
	check_rule_listeners(st);
	check_budgets(st);
	if (st->quarantine.directory == NULL)
		check_no_quarantine(st);
	if (conf->error_count == 0) /* else it is too early to say what is meant */
		options_check_sense(st);
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

bool
nets_admit(const struct config_nets *clients, const struct ip_addr *client)
{
	return client->family == AF_UNIX || config_nets_have(clients, client);
}

struct log_conf
settings_log_conf(const struct settings *st, bool to_stderr, bool verbose)
{
	struct log_conf lc = {
		.target = LOG_TO_FILE,
		.path = st->log.to,
		.facility = facility_values[st->log.facility],
		.level = (enum log_level)st->log.level,
		.format = (enum log_format)st->log.format,
	};

	if (verbose)
		lc.level = LOG_LEVEL_DEBUG;
	if (to_stderr)
		lc.target = LOG_TO_STDERR;
	else if (strcmp(st->log.to, "syslog") == 0)
		lc.target = LOG_TO_SYSLOG;
	else if (strcmp(st->log.to, "journal") == 0)
		lc.target = LOG_TO_JOURNAL;
	else if (strcmp(st->log.to, "stderr") == 0)
		lc.target = LOG_TO_STDERR;
	return lc;
}
