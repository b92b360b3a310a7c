/*
 * t/unit/test_config.c - text to structs, every mistake with its exact message, and back to text.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "base/xalloc.h"
#include "config/config.h"

static const char *const log_levels[] = {"error", "warn", "info", "debug", NULL};
static const char *const protocols[] = {"smtp", "lmtp", "milter", "pipe", NULL};

struct top_conf {
	const char *user;
	int workers;
	bool watch;
	struct config_words chain;
};

struct log_conf {
	const char *to;
	int level;
};

struct tls_conf {
	const char *certificate;
	int depth;
};

struct listener_conf {
	struct config_endpoints listen;
	int protocol;
	struct config_nets clients;
	int64_t max_message;
	int64_t timeout;
	int max_recipients;
	struct config_ref backend;
};

struct common_conf {
	int64_t timeout;
	struct config_words only_sender;
};

struct virus_conf {
	const char *socket;
};

static const struct config_option top_options[] = {
	CONFIG_STRING("user", struct top_conf, user, NULL, "whom the engine runs as"),
	CONFIG_AUTO_INT(
		"workers", struct top_conf, workers, "auto", 1, 64, "threads; auto: one per CPU"),
	CONFIG_BOOL("watch_config", struct top_conf, watch, "no", "reload when the file changes"),
	CONFIG_WORDS(
		"default_chain", struct top_conf, chain, NULL, "the chain when no rule matches"),
	CONFIG_END,
};
static const struct config_option log_options[] = {
	CONFIG_STRING("to", struct log_conf, to, "syslog", "where lines go"),
	CONFIG_ENUM("level", struct log_conf, level, "info", log_levels, "what is worth a line"),
	CONFIG_END,
};
static const struct config_option tls_options[] = {
	CONFIG_STRING("certificate", struct tls_conf, certificate, NULL, "the chain, as PEM"),
	CONFIG_INT("depth", struct tls_conf, depth, "5", 0, 20, "of the longest chain"),
	CONFIG_END,
};
static const struct config_option listener_options[] = {
	CONFIG_ENDPOINTS("listen", struct listener_conf, listen, NULL, "addresses to bind"),
	CONFIG_ENUM(
		"protocol", struct listener_conf, protocol, "smtp", protocols, "what is spoken"),
	CONFIG_NETS("clients", struct listener_conf, clients, "127.0.0.0/8 ::1", "who may speak"),
	CONFIG_SIZE("max_message", struct listener_conf, max_message, "50M", 1 << 10, 4LL << 30,
		"larger ones are refused"),
	CONFIG_DURATION("timeout", struct listener_conf, timeout, "5m", 1000, 3600 * 1000,
		"patience with a client"),
	CONFIG_INT("max_recipients", struct listener_conf, max_recipients, "1000", 1, 100000,
		"more get 452"),
	CONFIG_REF("backend", struct listener_conf, backend, "where mail goes"),
	CONFIG_END,
};
static const struct config_option common_options[] = {
	CONFIG_DURATION(
		"timeout", struct common_conf, timeout, "1m", 1, 3600 * 1000, "its deadline"),
	CONFIG_WORDS("only_sender", struct common_conf, only_sender, NULL, "only these senders"),
	CONFIG_END,
};
static const struct config_option virus_options[] = {
	CONFIG_STRING("socket", struct virus_conf, socket, "\"a b\"", "where it listens"),
	CONFIG_END,
};
static const struct config_section tls_section = {
	.name = "tls",
	.help = "certificates",
	.arity = CONFIG_ONE,
	.groups = {{tls_options, sizeof(struct tls_conf)}},
};
static const struct config_section *const listener_sections[] = {&tls_section, NULL};
static const struct config_section log_section = {
	.name = "log",
	.help = "the log",
	.arity = CONFIG_ONE,
	.groups = {{log_options, sizeof(struct log_conf)}},
};
static const struct config_section listener_section = {
	.name = "listener",
	.help = "where mail comes in",
	.arity = CONFIG_NAMED,
	.groups = {{listener_options, sizeof(struct listener_conf)}},
	.sections = listener_sections,
	.example = "listener front {\n\tlisten 127.0.0.1:10025\n}\n",
};
static const struct config_section rule_section = {
	.name = "rule",
	.help = "chooses a chain",
	.arity = CONFIG_MANY,
	.groups = {{common_options, sizeof(struct common_conf)}},
};
static const struct config_section clamd_section = {
	.name = "clamd",
	.help = "asks clamd",
	.arity = CONFIG_NAMED,
	.space = "filter",
	.groups = {{common_options, sizeof(struct common_conf)},
		{virus_options, sizeof(struct virus_conf)}},
	.example = "clamd virus { socket unix:/x }",
};
static const struct config_section exec_section = {
	.name = "exec",
	.help = "runs a program",
	.arity = CONFIG_NAMED,
	.space = "filter",
	.groups = {{common_options, sizeof(struct common_conf)},
		{virus_options, sizeof(struct virus_conf)}},
};
static const struct config_section *const top_sections[] = {
	&log_section,
	&listener_section,
	&rule_section,
	&clamd_section,
	&exec_section,
	NULL,
};
static const struct config_section top = {
	.name = "",
	.help = "",
	.arity = CONFIG_ONE,
	.groups = {{top_options, sizeof(struct top_conf)}},
	.sections = top_sections,
};

static struct config *
load(const char *text, size_t len)
{
	struct config *conf;

	config_load_text("c", text, len, &top, &conf);
	assert_non_null(conf);
	assert_non_null(conf->top);
	return conf;
}

static char *
print(void (*fn)(const struct config *, FILE *), const struct config *conf)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	fn(conf, out);
	fclose(out);
	return text;
}

static void
expect_problems(const struct config *conf, const char *want)
{
	char *got = print(config_print_problems, conf);

	assert_string_equal(got, want);
	free(got);
}

static struct config *
load_good(const char *text)
{
	struct config *conf = load(text, strlen(text));

	expect_problems(conf, "");
	assert_int_equal(conf->error_count, 0);
	return conf;
}

static const struct listener_conf *
listener(const struct config *conf, const char *name)
{
	struct config_block *block = config_find_named(conf, "listener", name);

	assert_non_null(block);
	return block->data[0];
}

/* The length is given, since a text may hold a NUL. */
/* clang-format off */
#define S(text) text, sizeof(text) - 1
static const struct {
	const char *text;
	size_t len;
	const char *want;
} broken[] = {
	{ S("usr postern"),
		"c:1:1: unknown option \"usr\" at the top level (did you mean \"user\"?)\n" },
	{ S("user"),
		"c:1:1: user needs a value (try user WORD)\n" },
	{ S("user = postern"),
		"c:1:6: user: no = is written here (try user postern)\n" },
	{ S("user a b"),
		"c:1:8: user takes one value: unexpected \"b\"\n" },
	{ S("user /x/"),
		"c:1:6: user: a pattern is not possible here (a path that ends in a slash stands in quotes)\n" },
	{ S("workers many"),
		"c:1:9: workers: \"many\" is neither a number nor auto\n" },
	{ S("workers 0"),
		"c:1:9: workers: 0 is out of range (1 to 64)\n" },
	{ S("workers 65"),
		"c:1:9: workers: 65 is out of range (1 to 64)\n" },
	{ S("workers 99999999999999999999"),
		"c:1:9: workers: 99999999999999999999 is out of range (1 to 64)\n" },
	{ S("watch_config maybe"),
		"c:1:14: watch_config: \"maybe\" is neither yes nor no\n" },
	{ S("watch_config true"),
		"c:1:14: watch_config: \"true\" is neither yes nor no (try yes)\n" },
	{ S("watch_config on"),
		"c:1:14: watch_config: \"on\" is neither yes nor no (try yes)\n" },
	{ S("Workers 4"),
		"c:1:1: unknown option \"Workers\" at the top level (did you mean \"workers\"?)\n" },
	{ S("include"),
		"c:1:1: include needs a path (try include conf.d/*.conf)\n" },
	{ S("include a b"),
		"c:1:11: include takes one path: unexpected \"b\"\n" },
	{ S("include /x/"),
		"c:1:9: include: a pattern is not possible here (a path that ends in a slash stands in quotes)\n" },
	{ S("include \"\""),
		"c:1:9: include: the path is empty\n" },
	{ S("include /nonexistent/x"),
		"c:1:9: include: /nonexistent/x: No such file or directory\n" },
	{ S("include /"),
		"c:1:9: include: /: is a directory (try its files: DIRECTORY/*.conf)\n" },
	{ S("listener"),
		"c:1:1: listener is a block: write listener NAME { ... }\n" },
	{ S("listener front"),
		"c:1:1: listener is a block: write listener front { ... }\n" },
	{ S("listener { }"),
		"c:1:1: listener needs a name: write listener NAME { ... }\n" },
	{ S("listener \"\" { }"),
		"c:1:10: listener: \"\" is not a name (letters, digits, - . and _, at most 64, the first a letter or digit)\n" },
	{ S("listener a b { }"),
		"c:1:12: listener takes one name: unexpected \"b\"\n" },
	{ S("listener a/b { }"),
		"c:1:10: listener: \"a/b\" is not a name (letters, digits, - . and _, at most 64, the first a letter or digit)\n" },
	{ S("listener -a { }"),
		"c:1:10: listener: \"-a\" is not a name (letters, digits, - . and _, at most 64, the first a letter or digit)\n" },
	{ S("log file { }"),
		"c:1:5: log takes no name: write log { ... }\n" },
	{ S("log { to }"),
		"c:1:7: to needs a value (try to syslog)\n" },
	{ S("log syslog"),
		"c:1:1: log is a block: write log { ... }\n" },
	{ S("log { levle debug }"),
		"c:1:7: unknown option \"levle\" in log (did you mean \"level\"?)\n" },
	{ S("log { level loud }"),
		"c:1:13: level: \"loud\" is not one of: error warn info debug\n" },
	{ S("log { level debgu }"),
		"c:1:13: level: \"debgu\" is not one of: error warn info debug (did you mean \"debug\"?)\n" },
	{ S("user { x }"),
		"c:1:1: user is an option, not a block: write user WORD\n" },
	{ S("workers { }"),
		"c:1:1: workers is an option, not a block: write workers auto\n" },
	{ S("lisener a { }"),
		"c:1:1: unknown block \"lisener\" at the top level (did you mean \"listener\"?)\n" },
	{ S("log { listener a { } }"),
		"c:1:7: unknown block \"listener\" in log (it belongs at the top level: is a } missing above?)\n" },
	{ S("log { user x }"),
		"c:1:7: unknown option \"user\" in log (it belongs at the top level: is a } missing above?)\n" },
	{ S("nothing at all"),
		"c:1:1: unknown option \"nothing\" at the top level (postern -T default shows all there are)\n" },
	{ S("nothing { }"),
		"c:1:1: unknown block \"nothing\" at the top level (there are: log listener rule clamd exec)\n" },
	{ S("log { nothing { } }"),
		"c:1:7: unknown block \"nothing\" in log\n" },
	{ S("certificate x"),
		"c:1:1: unknown option \"certificate\" at the top level (it is known in tls)\n" },
	{ S("user a; user b"),
		"c:1:9: user is given twice (first at c:1:1)\n" },
	{ S("log { to a\n to b }"),
		"c:2:2: to is given twice (first at c:1:7)\n" },
	{ S("log { }\nlog { }"),
		"c:2:1: log is given twice (first at c:1:1)\n" },
	{ S("listener a { }\nlistener a { }"),
		"c:2:10: listener \"a\" is defined twice (first at c:1:1)\n" },
	{ S("clamd a { }\nexec a { }"),
		"c:2:6: filter \"a\" is defined twice (first at c:1:1)\n" },
	{ S("default_chain a\ndefault_chain b"),
		"c:2:1: default_chain is given twice (first at c:1:1)\n" },
	{ S("listener a { tls { }; tls { } }"),
		"c:1:23: tls is given twice (first at c:1:14)\n" },
	{ S("listener a {"),
		"c:1:12: this { is never closed (is a } missing?)\n" },
	{ S("listener a { tls {"),
		"c:1:12: this { is never closed (is a } missing?)\n"
		"c:1:18: this { is never closed (is a } missing?)\n" },
	{ S("}"),
		"c:1:1: unexpected }: no block is open\n" },
	{ S("user x }"),
		"c:1:8: unexpected }: no block is open\n" },
	{ S("log { } }"),
		"c:1:9: unexpected }: no block is open\n" },
	{ S("{"),
		"c:1:1: unexpected { (it stands on the line of its block's name)\n"
		"c:1:1: this { is never closed (is a } missing?)\n" },
	{ S("listener a\n{\n}"),
		"c:1:1: listener is a block: write listener a { ... }\n"
		"c:2:1: unexpected { (it stands on the line of its block's name)\n" },
	{ S("user \"abc"),
		"c:1:6: unterminated quote (the closing \" is missing on this line)\n" },
	{ S("user \"abc\nworkers 4"),
		"c:1:6: unterminated quote (the closing \" is missing on this line)\n" },
	{ S("user \"a\"b"),
		"c:1:9: a blank is missing behind the closing quote\n" },
	{ S("user a\"b\""),
		"c:1:6: a quote inside a word (put the whole word in quotes)\n" },
	{ S("user 'a b'"),
		"c:1:6: an apostrophe does not quote (use \"...\")\n" },
	{ S("default_chain /a\\.b"),
		"c:1:15: unterminated pattern (it ends with a slash, one inside is written \\/; put a path in quotes)\n" },
	{ S("default_chain /@example.org"),
		"c:1:15: unterminated pattern (it ends with a slash, one inside is written \\/; put a path in quotes)\n" },
	{ S("default_chain //"),
		"c:1:15: empty pattern (it would match everything: write /^/)\n" },
	{ S("user a\\"),
		"c:1:7: a backslash at the end of the file continues nothing\n" },
	{ S("listen 127.0.0.1:25"),
		"c:1:1: unknown option \"listen\" at the top level (it is known in listener)\n" },
	{ S("rule { timeout 1m }; rule { timeout x }"),
		"c:1:37: timeout: \"x\" is not a duration (try 30s, 5m)\n" },
	{ S("listener a { listen [::1:25 }"),
		"c:1:21: listen: \"[::1:25\" is not an address (try 127.0.0.1:10025, [::1]:10025 or unix:/path)\n" },
	{ S("listener a { listen foo }"),
		"c:1:21: listen: \"foo\" has no port (try foo:25)\n" },
	{ S("listener a { listen -x:25 }"),
		"c:1:21: listen: \"-x:25\" is not an address (try 127.0.0.1:10025, [::1]:10025 or unix:/path)\n" },
	{ S("listener a { max_recipients 10k }"),
		"c:1:29: max_recipients: \"10k\" is not a number (try 1000)\n" },
	{ S("listener a { clients 10.0.0.0/8 10.0.0.1/24 }"),
		"c:1:33: clients: \"10.0.0.1/24\" has host bits beyond the mask (try 10.0.0.0/24)\n" },
	{ S("listener a{listen 127.0.0.1:1;backend \"b\";backend c}"),
		"c:1:43: backend is given twice (first at c:1:31)\n" },
	{ S("user \\ \nworkers 4"),
		"c:1:6: a backslash continues a line only at its very end\n" },
	{ S("user a \\"),
		"c:1:8: a backslash at the end of the file continues nothing\n" },
	{ S("user a\001b"),
		"c:1:7: control character \\x01\n" },
	{ S("user \"a\001b\""),
		"c:1:8: control character \\x01\n" },
	{ S("user a\177"),
		"c:1:7: control character \\x7f\n" },
	{ S("user a\000b"),
		"c:1:7: a NUL octet: this is not a text file\n" },
	{ S("user \377"),
		"c:1:6: not UTF-8 (put the word in quotes)\n" },
	{ S("\"user\" a"),
		"c:1:1: a statement begins with the name of an option or block, without quotes\n" },
	{ S("/user/ a"),
		"c:1:1: a statement begins with the name of an option or block (a comment begins with #)\n" },
	{ S("listener a { listen 10025 }"),
		"c:1:21: listen: \"10025\" is not an address (try 127.0.0.1:10025, [::1]:10025 or unix:/path)\n" },
	{ S("listener a { listen 127.0.0.1 }"),
		"c:1:21: listen: \"127.0.0.1\" has no port (try 127.0.0.1:25)\n" },
	{ S("listener a { listen ::1 }"),
		"c:1:21: listen: \"::1\" has no port (try [::1]:25)\n" },
	{ S("listener a { listen ::1:25 }"),
		"c:1:21: listen: \"::1:25\": an IPv6 address stands in brackets (try [::1]:25)\n" },
	{ S("listener a { listen *:25 }"),
		"c:1:21: listen: \"*:25\" is not an address (try 0.0.0.0:25 or [::]:25)\n" },
	{ S("listener a { listen 127.0.0.1:99999 }"),
		"c:1:21: listen: \"127.0.0.1:99999\": port \"99999\" is not a number from 0 to 65535\n" },
	{ S("listener a { listen localhost:smtp }"),
		"c:1:21: listen: \"localhost:smtp\": port \"smtp\" is not a number from 0 to 65535 (try 25)\n" },
	{ S("listener a { listen unix:x }"),
		"c:1:21: listen: \"unix:x\" is not an absolute path (try unix:/path)\n" },
	{ S("listener a { listen fd: }"),
		"c:1:21: listen: \"fd:\" is not a descriptor's name (try fd:front)\n" },
	{ S("listener a { listen 300.1.1.1:25 10025 }"),
		"c:1:21: listen: \"300.1.1.1:25\" is not an address (try 127.0.0.1:10025, [::1]:10025 or unix:/path)\n"
		"c:1:34: listen: \"10025\" is not an address (try 127.0.0.1:10025, [::1]:10025 or unix:/path)\n" },
	{ S("listener a { listen /run/x/ }"),
		"c:1:21: listen: \"/run/x/\" is not an address (try unix:/run/x/)\n" },
	{ S("listener a { clients 10.0.0.1/8 }"),
		"c:1:22: clients: \"10.0.0.1/8\" has host bits beyond the mask (try 10.0.0.0/8)\n" },
	{ S("listener a { clients 10.0.0.0/33 }"),
		"c:1:22: clients: \"10.0.0.0/33\" is not a network (try 127.0.0.0/8, ::1 or 192.0.2.7)\n" },
	{ S("listener a { clients localhost }"),
		"c:1:22: clients: \"localhost\" is not a network (try 127.0.0.0/8, ::1 or 192.0.2.7)\n" },
	{ S("listener a { clients }"),
		"c:1:14: clients needs a value (try clients 127.0.0.0/8 ::1)\n" },
	{ S("listener a { max_message 50X }"),
		"c:1:26: max_message: \"50X\" is not a size (try 64K, 50M)\n" },
	{ S("listener a { max_message big }"),
		"c:1:26: max_message: \"big\" is not a size (try 64K, 50M)\n" },
	{ S("listener a { max_message 50MB }"),
		"c:1:26: max_message: \"50MB\" is not a size (try 50M)\n" },
	{ S("listener a { max_message 5G }"),
		"c:1:26: max_message: 5G is out of range (1K to 4G)\n" },
	{ S("listener a { max_message 99999999999G }"),
		"c:1:26: max_message: 99999999999G is out of range (1K to 4G)\n" },
	{ S("listener a { timeout 30x }"),
		"c:1:22: timeout: \"30x\" is not a duration (try 30s, 5m)\n" },
	{ S("listener a { timeout 30 }"),
		"c:1:22: timeout: \"30\" has no unit (try 30s or 30m)\n" },
	{ S("listener a { timeout 5ms }"),
		"c:1:22: timeout: 5ms is out of range (1s to 1h)\n" },
	{ S("listener a { timeout 2h }"),
		"c:1:22: timeout: 2h is out of range (1s to 1h)\n" },
	{ S("listener a { timeout soon }"),
		"c:1:22: timeout: \"soon\" is not a duration (try 30s, 5m)\n" },
	{ S("listener a { timeout }"),
		"c:1:14: timeout needs a value (try timeout 5m)\n" },
	{ S("listener a { timeout 1m 2m }"),
		"c:1:25: timeout takes one value: unexpected \"2m\"\n" },
	{ S("listener a { max_recipients ten }"),
		"c:1:29: max_recipients: \"ten\" is not a number (try 1000)\n" },
	{ S("listener a { max_recipients -5 }"),
		"c:1:29: max_recipients: -5 is out of range (1 to 100000)\n" },
	{ S("listener a { backend }"),
		"c:1:14: backend needs a value (try backend NAME)\n" },
	{ S("listener a { backend /x/ }"),
		"c:1:22: backend: a pattern is not possible here (a path that ends in a slash stands in quotes)\n" },
	{ S("listener a { protocol htp }"),
		"c:1:23: protocol: \"htp\" is not one of: smtp lmtp milter pipe\n" },
	{ S("listener a { timout 1m }"),
		"c:1:14: unknown option \"timout\" in listener (did you mean \"timeout\"?)\n" },
	{ S("rule a { }"),
		"c:1:6: rule takes no name: write rule { ... }\n" },
	{ S("rule { only_sender }"),
		"c:1:8: only_sender needs a value (try only_sender WORD)\n" },
	{ S("clamd x { sockt y }"),
		"c:1:11: unknown option \"sockt\" in clamd (did you mean \"socket\"?)\n" },
	{ S("a { b { c { d { e { f { g { h { i { j { k { l { m { n { o { p { q { r { } } } } } } } } } } } } } } } } } }"),
		"c:1:1: unknown block \"a\" at the top level (there are: log listener rule clamd exec)\n"
		"c:1:67: blocks stand more than 16 deep in each other\n" },
	{ S("workers many; log { level x }; listener a { timeout 3; bogus 1 }"),
		"c:1:9: workers: \"many\" is neither a number nor auto\n"
		"c:1:27: level: \"x\" is not one of: error warn info debug\n"
		"c:1:53: timeout: \"3\" has no unit (try 3s or 3m)\n"
		"c:1:56: unknown option \"bogus\" in listener (postern -T default shows all there are)\n" },
	{ S("\001"),
		"c:1:1: control character \\x01\n" },
};
/* clang-format on */

static void
every_mistake_is_told_with_place_and_hint(void **state)
{
	struct config *conf;
	size_t i, failed = 0;

	(void)state;
	for (i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		conf = load(broken[i].text, broken[i].len);
		char *got = print(config_print_problems, conf);

		if (strcmp(got, broken[i].want) != 0) {
			failed++;
			fprintf(stderr, "# %s\n# got  %s# want %s", broken[i].text, got,
				broken[i].want);
		}
		assert_int_not_equal(conf->error_count, 0);
		free(got);
		config_unref(&conf);
	}
	assert_int_equal(failed, 0);
}

static void
a_block_nobody_wrote_has_its_defaults(void **state)
{
	struct config *conf = load_good("listener a { }");
	const struct top_conf *t = conf->top->data[0];
	const struct log_conf *log = config_find_one(conf->top, "log")->data[0];
	const struct listener_conf *l = listener(conf, "a");
	const struct tls_conf *tls =
		config_find_one(config_find_named(conf, "listener", "a"), "tls")->data[0];

	(void)state;
	assert_null(t->user);
	assert_int_equal(t->workers, 0);
	assert_false(t->watch);
	assert_string_equal(log->to, "syslog");
	assert_int_equal(log->level, 2);
	assert_int_equal(l->listen.count, 0);
	assert_int_equal(l->clients.count, 2);
	assert_int_equal(l->max_message, 50 << 20);
	assert_int_equal(l->timeout, 300000);
	assert_null(l->backend.name);
	assert_int_equal(tls->depth, 5);
	config_unref(&conf);
	assert_null(conf);
}

static void
every_type_fills_its_member(void **state)
{
	struct config *conf =
		load_good("user postern\nworkers 4\nwatch_config yes\n"
			  "default_chain a /b/ \"c d\"\n"
			  "listener x {\n"
			  " listen 127.0.0.1:25 [::1]:26 unix:/run/x fd:y mx.example.org:0\n"
			  " protocol lmtp; clients any 10.0.0.0/8 unix\n"
			  " max_message 64K; timeout 90s; max_recipients 7; backend in-1\n"
			  " tls { depth 0 }\n"
			  "}\n");
	const struct top_conf *t = conf->top->data[0];
	const struct listener_conf *l = listener(conf, "x");

	(void)state;
	assert_string_equal(t->user, "postern");
	assert_int_equal(t->workers, 4);
	assert_true(t->watch);
	assert_int_equal(t->chain.count, 3);
	assert_int_equal(t->chain.list[1].kind, CONFIG_WORD_PATTERN);
	assert_string_equal(t->chain.list[1].text, "b");
	assert_int_equal(t->chain.list[2].kind, CONFIG_WORD_QUOTED);
	assert_string_equal(t->chain.list[2].text, "c d");
	assert_int_equal(t->chain.list[2].place.line, 4);
	assert_int_equal(t->chain.list[2].place.column, 21);
	assert_int_equal(l->listen.count, 5);
	assert_int_equal(l->listen.list[1].port, 26);
	assert_int_equal(l->listen.list[2].kind, IP_UNIX);
	assert_int_equal(l->listen.list[4].kind, IP_NAME);
	assert_int_equal(l->listen.places[1].column, 22);
	assert_int_equal(l->protocol, 1);
	assert_true(l->clients.any);
	assert_int_equal(l->clients.count, 2);
	assert_int_equal(l->max_message, 65536);
	assert_int_equal(l->timeout, 90000);
	assert_int_equal(l->max_recipients, 7);
	assert_string_equal(l->backend.name, "in-1");
	assert_int_equal(l->backend.place.line, 8);
	config_unref(&conf);
}

/* All must give: user "a", workers 4, log to "b". */
static const char *const separated[] = {
	"user a\nworkers 4\nlog {\nto b\n}\n",
	"user a;workers 4;log{to b}",
	"user a ; workers 4 ; ; log { ; to b ; } ;",
	"log { to b } user a; workers 4",
	"user \\\n a\nworkers\\\n 4\nlog \\\n{ to\\\r\n b }",
	"user a\r\nworkers 4\r\nlog {\r\n\tto b\r\n}\r\n",
	"# begin\nuser a # x ; } {\nworkers 4 #\nlog { # {\nto b # }\n}#",
	"\xef\xbb\xbfuser a\nworkers 4\nlog { to b }",
	"user \"a\"; workers \"4\"; log { to \"b\"}",
	"# \xff\xfe is no UTF-8, in a comment\nuser a; workers 4; log { to b }",
};

static void
a_statement_ends_at_line_end_semicolon_or_brace(void **state)
{
	struct config *conf;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(separated) / sizeof(separated[0]); i++) {
		conf = load(separated[i], strlen(separated[i]));
		const struct top_conf *t = conf->top->data[0];
		const struct log_conf *log = config_find_one(conf->top, "log")->data[0];

		expect_problems(conf, "");
		assert_string_equal(t->user, "a");
		assert_int_equal(t->workers, 4);
		assert_string_equal(log->to, "b");
		config_unref(&conf);
	}
}

/* The only word of default_chain, and its kind. */
static const struct {
	const char *text;
	const char *want;
	enum config_word_kind kind;
} words[] = {
	{"a#b", "a#b", CONFIG_WORD_PLAIN},
	{"\"a b\"", "a b", CONFIG_WORD_QUOTED},
	{"\"a \\\"b\\\" \\\\ \\n;{}#\"", "a \"b\" \\ \\n;{}#", CONFIG_WORD_QUOTED},
	{"\"\"", "", CONFIG_WORD_QUOTED},
	{"\"\xff\xe4\"", "\xff\xe4", CONFIG_WORD_QUOTED},
	{"b\xc3\xbc"
	 "cher",
		"b\xc3\xbc"
		"cher",
		CONFIG_WORD_PLAIN},
	{"/@partner\\.example$/", "@partner\\.example$", CONFIG_WORD_PATTERN},
	{"/a\\/b/", "a/b", CONFIG_WORD_PATTERN},
	{"/a\\\\/", "a\\\\", CONFIG_WORD_PATTERN},
	{"/a b{2};}#c \"x/", "a b{2};}#c \"x", CONFIG_WORD_PATTERN},
	{"/\\//;", "/", CONFIG_WORD_PATTERN},
	{"/usr/local/sbin/mail-archive", "/usr/local/sbin/mail-archive", CONFIG_WORD_PLAIN},
	{"/etc/x.d/*.conf", "/etc/x.d/*.conf", CONFIG_WORD_PLAIN},
	{"/", "/", CONFIG_WORD_PLAIN},
	{"/archive   # yes / no", "/archive", CONFIG_WORD_PLAIN},
	{"C:\\x", "C:\\x", CONFIG_WORD_PLAIN},
	{"<>", "<>", CONFIG_WORD_PLAIN},
};

static void
words_quotes_and_patterns_are_told_apart(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		char *text = xasprintf("default_chain %s\n", words[i].text);
		struct config *conf = load_good(text);
		const struct top_conf *t = conf->top->data[0];

		assert_int_equal(t->chain.count, 1);
		assert_string_equal(t->chain.list[0].text, words[i].want);
		assert_int_equal(t->chain.list[0].kind, words[i].kind);
		config_unref(&conf);
		free(text);
	}
}

static const struct {
	const char *text;
	int64_t want;
} durations[] =
	{
		{"0", 0},
		{"0s", 0},
		{"500ms", 500},
		{"30s", 30000},
		{"5m", 300000},
		{"4h", 14400000},
		{"5d", 432000000},
},
  sizes[] = {
	  {"0", 0},
	  {"17", 17},
	  {"64K", 65536},
	  {"64k", 65536},
	  {"50M", 52428800},
	  {"1G", 1 << 30},
	  {"2T", 2LL << 40},
};

static void
durations_and_sizes_have_units(void **state)
{
	struct err err;
	int64_t got;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(durations) / sizeof(durations[0]); i++) {
		assert_int_equal(config_parse_duration(durations[i].text, &got, &err), 0);
		assert_int_equal(got, durations[i].want);
	}
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(config_parse_size(sizes[i].text, &got, &err), 0);
		assert_int_equal(got, sizes[i].want);
	}
	assert_int_equal(config_parse_duration("-1s", &got, &err), -1);
	assert_string_equal(err.text, "\"-1s\" is not a duration (try 30s, 5m)");
	assert_int_equal(config_parse_size("", &got, &err), -1);
}

static const char rich[] = "user \"a b\"\n"
			   "default_chain /x y\\/z/ /a/b \"\" \"/srv\" /q\n"
			   "listener front { listen [::1]:25 127.0.0.1:10025; timeout 90s; tls { "
			   "certificate \"/x/\" } }\n"
			   "rule { only_sender \"\\\\\" /\\\\d+/ \"\xff\" }\n"
			   "rule { timeout 5s }\n"
			   "clamd virus { socket \"\" }\n";

static void
the_effective_configuration_tells_where_values_come_from(void **state)
{
	struct config *conf = load_good("workers 4\nlistener a { timeout 1m }\n");
	char *got = print(config_print_effective, conf);

	(void)state;
	assert_string_equal(got, "#user          WORD      # not set\n"
				 "workers        4         # c:1\n"
				 "#watch_config  no        # default\n"
				 "#default_chain WORD ...  # not set\n"
				 "\n"
				 "listener a {  # c:2\n"
				 "\t#listen         ADDRESS ...      # not set\n"
				 "\t#protocol       smtp             # default\n"
				 "\t#clients        127.0.0.0/8 ::1  # default\n"
				 "\t#max_message    50M              # default\n"
				 "\ttimeout         1m               # c:2\n"
				 "\t#max_recipients 1000             # default\n"
				 "\t#backend        NAME             # not set\n"
				 "#\ttls {  # not written\n"
				 "#\t\t#certificate WORD  # not set\n"
				 "#\t\t#depth       5     # default\n"
				 "#\t}\n"
				 "}\n"
				 "\n"
				 "#log {  # not written\n"
				 "#\t#to    syslog  # default\n"
				 "#\t#level info    # default\n"
				 "#}\n");
	free(got);
	config_unref(&conf);
}

static void
the_effective_configuration_parses_to_the_same(void **state)
{
	struct config *conf = load_good(rich), *again;
	char *first = print(config_print_effective, conf), *second;
	const struct top_conf *t;

	(void)state;
	config_load_text("c", first, strlen(first), &top, &again);
	expect_problems(again, "");
	t = again->top->data[0];
	assert_int_equal(t->chain.count, 5);
	assert_string_equal(t->chain.list[0].text, "x y/z");
	assert_string_equal(t->chain.list[4].text, "/q");
	assert_true(config_is_set(again->top, "user"));
	assert_false(config_is_set(again->top, "workers"));
	second = print(config_print_effective, again);
	assert_int_equal(strlen(first) > 500, true);
	/* Line numbers differ, nothing else. */
	char *a = first, *b = second;

	for (; *a != '\0' && *b != '\0'; a++, b++) {
		if (strncmp(a, "# c:", 4) == 0 && strncmp(b, "# c:", 4) == 0) {
			a += strcspn(a, "\n");
			b += strcspn(b, "\n");
		}
		assert_int_equal(*a, *b);
	}
	assert_int_equal(*a, *b);
	free(first);
	free(second);
	config_unref(&conf);
	config_unref(&again);
}

static void
the_example_parses_as_it_is_and_uncommented(void **state)
{
	struct str bare = STR_INIT;
	struct config *conf;
	char *text, *line;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	config_print_example(&top, out);
	fclose(out);
	conf = load_good(text);
	config_unref(&conf);
	for (line = text; *line != '\0'; line += strcspn(line, "\n") + 1) {
		const char *from = *line == '#' ? line + 1 : line;

		str_addn(&bare, from, strcspn(from, "\n") + 1);
	}
	conf = load_good(str_text(&bare));
	assert_int_equal(listener(conf, "front")->listen.count, 1);
	assert_non_null(strstr(text, "\n#workers              auto                     # threads; "
				     "auto: one per CPU (1 to 64)\n"));
	assert_non_null(strstr(text, "\n## options common to every filter\n"));
	config_unref(&conf);
	str_deinit(&bare);
	free(text);
}

static void
the_manual_has_an_item_per_option(void **state)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	config_print_manual(&top, out);
	fclose(out);
	assert_non_null(strstr(text,
		".It Ic timeout Ar \"DURATION\"\nPatience with a client.\nFrom 1s to 1h.\n"
		"Default: 5m.\n"));
	assert_non_null(strstr(text, ".Ss Block listener NAME\nWhere mail comes in.\n"));
	assert_non_null(strstr(text, ".Ss Block listener tls\n"));
	assert_null(strstr(text, ".Ss Common to every filter\n"));
	free(text);
}

static void
sections_of_a_name_space_have_a_page_of_their_own(void **state)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	config_print_manual_of(&top, "filter", out);
	fclose(out);
	assert_non_null(strstr(text, ".Ss Common to every filter\n"));
	assert_null(strstr(text, ".Ss Block listener NAME\n"));
	free(text);
}

/* Files, in a folder of their own. */
static char folder[] = P_tmpdir "/test_config.XXXXXX";
static char started_in[4096];

static int
enter_folder(void **state)
{
	(void)state;
	strcpy(folder + sizeof(folder) - 7, "XXXXXX");
	return getcwd(started_in, sizeof(started_in)) == NULL || mkdtemp(folder) == NULL ||
			       chdir(folder) < 0
		       ? -1
		       : 0;
}

static int
leave_folder(void **state)
{
	char command[sizeof(folder) + 20];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	return chdir(started_in) < 0 || system(command) != 0 ? -1 : 0;
}

static void
put_file(const char *name, const char *text)
{
	FILE *f = fopen(name, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static struct config *
load_file(const char *name)
{
	struct config *conf;

	config_load(name, &top, &conf);
	assert_non_null(conf->top);
	return conf;
}

static void
includes_stand_in_their_place_in_sorted_order(void **state)
{
	struct config *conf;
	struct config_block *block;

	(void)state;
	assert_int_equal(mkdir("etc", 0700), 0);
	assert_int_equal(mkdir("etc/d", 0700), 0);
	put_file("etc/main", "include d/*.conf\ninclude none/*.conf\nlog { include d/log }\n");
	put_file("etc/d/2.conf", "listener b { }");
	put_file("etc/d/1.conf", "listener a { timeout 3 }");
	put_file("etc/d/log", "to file\nlevel wrong");
	conf = load_file("etc/main");
	expect_problems(conf,
		"etc/d/1.conf:1:22: timeout: \"3\" has no unit (try 3s or 3m)\n"
		"etc/d/log:2:7: level: \"wrong\" is not one of: error warn info debug\n"
		"etc/main:2:9: warning: include: etc/none/*.conf: there is no folder etc/none/\n");
	block = TAILQ_FIRST(conf->top->blocks);
	assert_string_equal(block->name, "a");
	assert_string_equal(TAILQ_NEXT(block, next)->name, "b");
	assert_string_equal(block->place.file, "etc/d/1.conf");
	assert_int_equal(conf->file_count, 4);
	assert_string_equal(conf->files[3], "etc/d/log");
	config_unref(&conf);
}

static void
equal_files_have_equal_digests(void **state)
{
	struct config *a, *b;

	(void)state;
	put_file("x", "workers 4");
	a = load_file("x");
	b = load_file("x");
	assert_true(a->digest == b->digest);
	config_unref(&b);
	put_file("x", "workers 5");
	b = load_file("x");
	assert_true(a->digest != b->digest);
	config_unref(&a);
	config_unref(&b);
}

static void
an_include_loop_ends(void **state)
{
	struct config *conf;
	char name[20], text[40];
	int i;

	(void)state;
	put_file("x", "include y\n");
	put_file("y", "user a\ninclude x\n");
	conf = load_file("x");
	expect_problems(conf, "y:2:9: include: x includes itself (a loop)\n");
	config_unref(&conf);
	for (i = 0; i < 17; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		snprintf(text, sizeof(text), "include f%d\n", i + 1);
		put_file(name, text);
	}
	conf = load_file("f0");
	expect_problems(conf, "f15:1:9: include goes deeper than 16 files\n");
	config_unref(&conf);
}

static void
what_cannot_be_read_is_told_in_the_words_of_the_system(void **state)
{
	struct config *conf;
	FILE *f;

	(void)state;
	conf = load_file("none");
	expect_problems(conf, "none: No such file or directory (postern -T default prints one to begin with)\n");
	config_unref(&conf);
	assert_int_equal(mkdir("dir", 0700), 0);
	conf = load_file("dir");
	expect_problems(conf, "dir: is a directory (try a file in it)\n");
	config_unref(&conf);
	put_file("closed", "user a");
	assert_int_equal(chmod("closed", 0), 0);
	if (geteuid() != 0) { /* root reads everything */
		conf = load_file("closed");
		expect_problems(conf, "closed: Permission denied\n");
		config_unref(&conf);
	}
	put_file("x", "include dir\ninclude none\n");
	conf = load_file("x");
	expect_problems(conf,
		"x:1:9: include: dir: is a directory (try its files: DIRECTORY/*.conf)\n"
		"x:2:9: include: none: No such file or directory\n");
	config_unref(&conf);
	f = fopen("big", "w");
	assert_non_null(f);
	assert_int_equal(ftruncate(fileno(f), (16 << 20) + 1), 0);
	fclose(f);
	conf = load_file("big");
	expect_problems(conf, "big: is larger than 16 MiB\n");
	config_unref(&conf);
}

static void
an_endless_line_is_refused(void **state)
{
	size_t len = (64 << 10) + 2;
	char *text = xmalloc(len);
	struct config *conf;

	(void)state;
	memset(text, ' ', len);
	text[0] = '\n';
	conf = load(text, len);
	expect_problems(conf, "c:2:1: the line is longer than 64 KiB\n");
	config_unref(&conf);
	conf = load(text, len - 1);
	expect_problems(conf, "");
	config_unref(&conf);
	free(text);
}

static void
problems_are_bounded_and_sorted(void **state)
{
	struct str text = STR_INIT;
	struct config *conf;
	struct config_place place = {"a", 1, 1};
	char *got;
	int i;

	(void)state;
	for (i = 0; i < 300; i++)
		str_add(&text, "}\n");
	conf = load(text.data, text.len);
	config_warn(conf, &place, "first, %s", "\x1b[1m");
	config_error(conf, NULL, "never shown");
	got = print(config_print_problems, conf);
	assert_int_equal(strncmp(got, "a:1:1: warning: first,  [1m\nc:1:1: unexp", 40), 0);
	assert_non_null(
		strstr(got, "\nc:200:1: unexpected }: no block is open\nand 101 more errors\n"));
	assert_int_equal(conf->error_count, 301);
	free(got);
	config_unref(&conf);
	str_deinit(&text);
}

static void
places_fall_back_to_the_block(void **state)
{
	struct config *conf = load_good("user a\nlistener a {\n timeout 1m\n}");
	struct config_block *block = config_find_named(conf, "listener", "a");

	(void)state;
	assert_int_equal(config_place_of(block, "timeout")->line, 3);
	assert_int_equal(config_place_of(block, "listen")->line, 2);
	assert_true(config_is_set(block, "timeout"));
	assert_false(config_is_set(block, "listen"));
	assert_null(config_find_named(conf, "listener", "b"));
	assert_null(config_find_named(conf, "filter", "a"));
	config_unref(&conf);
}

static int settings_freed;

static void
free_settings(void *settings)
{
	assert_string_equal(settings, "x");
	settings_freed++;
}

static void
the_last_unref_frees_the_settings(void **state)
{
	struct config *conf = load_good(""), *other = config_ref(conf);

	(void)state;
	conf->settings = (char *)"x";
	conf->settings_free = free_settings;
	config_unref(&conf);
	assert_int_equal(settings_freed, 0);
	config_unref(&other);
	assert_int_equal(settings_freed, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_mistake_is_told_with_place_and_hint),
		cmocka_unit_test(a_block_nobody_wrote_has_its_defaults),
		cmocka_unit_test(every_type_fills_its_member),
		cmocka_unit_test(a_statement_ends_at_line_end_semicolon_or_brace),
		cmocka_unit_test(words_quotes_and_patterns_are_told_apart),
		cmocka_unit_test(durations_and_sizes_have_units),
		cmocka_unit_test(the_effective_configuration_tells_where_values_come_from),
		cmocka_unit_test(the_effective_configuration_parses_to_the_same),
		cmocka_unit_test(the_example_parses_as_it_is_and_uncommented),
		cmocka_unit_test(the_manual_has_an_item_per_option),
		cmocka_unit_test(sections_of_a_name_space_have_a_page_of_their_own),
		cmocka_unit_test_setup_teardown(
			includes_stand_in_their_place_in_sorted_order, enter_folder, leave_folder),
		cmocka_unit_test_setup_teardown(
			equal_files_have_equal_digests, enter_folder, leave_folder),
		cmocka_unit_test_setup_teardown(an_include_loop_ends, enter_folder, leave_folder),
		cmocka_unit_test_setup_teardown(
			what_cannot_be_read_is_told_in_the_words_of_the_system, enter_folder,
			leave_folder),
		cmocka_unit_test(an_endless_line_is_refused),
		cmocka_unit_test(problems_are_bounded_and_sorted),
		cmocka_unit_test(places_fall_back_to_the_block),
		cmocka_unit_test(the_last_unref_frees_the_settings),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
