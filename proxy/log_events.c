/*
 * proxy/log_events.c - every event of the log, its levels and its keys: one row each.
 *
 * The calls do not use this table, so that base/ and smtp/ need not know it; t/02-log-lines.t
 * compares both ways, and t/lib/TestProxy.pm holds every line of every test against it.
 */
#include "proxy/log_events.h"

#include <stddef.h>

struct log_key {
	const char *name;
	const char *unit; /* NULL: a word or text */
	const char *help;
};

struct log_event {
	const char *name;
	const char *levels; /* all that occur, the most important first */
	const char *help;
	const char *act; /* what to do; NULL: nothing */
	const struct log_key *keys;
};

#define KEYS(...) (const struct log_key[]){ __VA_ARGS__, { NULL, NULL, NULL } }

/* Keys that mean the same wherever they are. */
#define CLIENT	 { "client", "address:port", "the client: `192.0.2.7:40112`, `[2001:db8::7]:40112`, or `unix` at a Unix socket" }
#define LISTENER { "listener", NULL, "name of the listener" }
#define BACKEND	 { "backend", NULL, "name of the back-end" }
#define HOST	 { "host", "address:port", "the host of the back-end, where it is known" }
#define ERR	 { "err", NULL, "what went wrong" }
#define CODE	 { "code", "SMTP", "code of the reply" }
#define TEXT	 { "text", NULL, "text of the reply" }
#define REPEATED { "repeated", "count", "so often since the last line about the same fault; the other keys are those of the latest" }

static const struct log_event events[] = {
	{ "msg", "info",
		"The summary: exactly one for every transaction whose MAIL was understood, whatever became of it.",
		"Look for `verdict=reject` and `verdict=tempfail`; `reply` and `back` say what the back-end answered.",
		KEYS(
			{ "front", NULL, "the front's queue id, from its Received line" },
			LISTENER, CLIENT,
			{ "helo", NULL, "the name that the client gave in HELO or EHLO" },
			{ "tls", NULL, "version of TLS towards the client; absent in clear" },
			{ "cert", "SHA-256", "fingerprint of the client's certificate, if it gave one" },
			{ "from", NULL, "the sender, in angle brackets" },
			{ "to", NULL, "the first recipient that was accepted; absent when there was none" },
			{ "rcpts", "count", "how many recipients were accepted" },
			{ "size", "octets", "content as received, after the repair of bare newlines" },
			{ "msgid", NULL, "the Message-ID field" },
			{ "verdict", NULL, "`pass`, `accept`, `reject`, `tempfail`, `discard`, `quarantine`, `disconnect`; or `abandoned`: "
				"the client went away or began anew before an answer" },
			{ "code", "SMTP", "the code that the client was told; 0: nothing" },
			{ "gate", NULL, "what was asked at MAIL and RCPT, each filter with stage, verdict and time, alike answers "
				"together: `black@mail:pass/0ms,rate@rcpt:pass*3/1ms`" },
			{ "filters", NULL, "each filter that ran, with verdict and time: `virus:pass/12ms`; `new:shadow-reject/3ms`: what a "
				"shadow would have said; `virus:reject-quarantine/3ms`: what on_reject has made of a reject; `virus:skipped`: "
				"its conditions did not hold; and `spam:cancelled/40ms`: it was not waited for any more, because another "
				"one had refused the message or the client was gone. One that failed has the verdict of its on_failure" },
			{ "backend", NULL, "name of the back-end, and behind a slash its address once there was a connection" },
			{ "reply", NULL, "what the client was told" },
			{ "back", NULL, "the back-end's queue id, where its reply has one" },
			{ "quarantine", NULL, "the id of what was set aside; with commas between, where recipients had different reasons" },
			{ "receive_ms", "ms", "from DATA to the end of the content" },
			{ "filter_ms", "ms", "in the filters" },
			{ "deliver_ms", "ms", "from there to the back-end's reply" },
			{ "bare_lf", "count", "bare LF that were found and made harmless" },
			{ "bare_cr", "count", "bare CR that were found and made harmless" },
			{ "why", NULL, "how the client went away, if it did: see `disconnect`" },
			{ "note", NULL, "`front gone`, or `front gone, delivered`: it may send the message again" }) },
	{ "connect", "info", "A client has connected; with `refused` it was turned away instead of greeted.",
		"`refused=clients` from a front of yours: add its address to `clients`. `refused=max_connections`: raise the limit "
		"or find out who holds the connections.",
		KEYS(CLIENT, LISTENER,
			{ "refused", NULL, "`clients` (it may not speak here), `max_connections` (all places are taken) or "
				"`max_per_client` (it has too many)" }) },
	{ "disconnect", "info", "A client is gone.", NULL,
		KEYS(CLIENT, LISTENER,
			{ "why", NULL, "`quit`; `closed`: by us; `timeout`, of the TLS handshake, too; `eof`: without QUIT; `broken`: reset; `tls`: no handshake; "
				"`early`: it spoke before the greeting; `errors`: more than `max_errors`; `http`: it speaks HTTP" },
			{ "txns", "count", "transactions in this session" }) },
	{ "tls", "info debug",
		"A TLS handshake is done, at level debug with a back-end; or, with `err`, one with a client failed.",
		"`err` from a front of yours: compare certificate, name and versions on both sides.",
		KEYS({ "side", NULL, "`front` or `back`" },
			HOST,
			{ "version", NULL, "of TLS" },
			{ "cipher", NULL, "name of the cipher suite" },
			{ "resumed", NULL, "`yes` or `no`" },
			{ "name", NULL, "the name that the client asked for" },
			{ "cert", "SHA-256", "fingerprint of the other side's certificate" },
			{ "verified", NULL, "`yes`: the certificate was checked and is good; or `no`" },
			ERR) },
	{ "mail", "info", "A MAIL command was refused before its sender could be read, so there is no summary line.", NULL,
		KEYS({ "client", "address", "the client, without port" }, CODE, TEXT) },
	{ "rcpt", "info", "A recipient was refused; or, with `verdict=discard`, taken and dropped.", NULL,
		KEYS({ "to", NULL, "the recipient, in angle brackets" }, CODE, TEXT,
			{ "filter", NULL, "whose word it is, where it is one of the listener's `gate`" },
			{ "verdict", NULL, "and which" }) },
	{ "gate", "info", "A filter of the listener's `gate` has refused a client, or its name, before there was a transaction.", NULL,
		KEYS({ "stage", NULL, "`connect` or `helo`" }, CLIENT,
			{ "helo", NULL, "the name, at helo" }, { "filter", NULL, "name of the filter" },
			{ "verdict", NULL, "`reject`, `tempfail` or `disconnect`" }, CODE, TEXT) },
	{ "soft_bounce", "info", "A refusal was said as one for now, a 4xx, because the listener has `soft_bounce yes`.",
		"Look whether it is right, before you take the option away.",
		KEYS({ "code", "SMTP", "what it would have been" }, TEXT) },
	{ "envelope", "info", "Filters have changed sender or recipients of the message; it goes to these.", NULL,
		KEYS({ "from", NULL, "the sender, in angle brackets" }, { "rcpts", "count", "recipients now" },
			{ "added", "count", "of these, added by filters" }, { "removed", "count", "taken away by filters" }) },
	{ "added_rcpt", "error", "The back-end refused a recipient that a filter has added. For now: the message was put off. For "
		"good: it went to the others, unless the filter had removed some.",
		"Correct the address in the filter, or let the back-end take it.",
		KEYS(BACKEND, { "to", NULL, "the recipient, in angle brackets" }, CODE, TEXT, REPEATED) },
	{ "early_talker", "info", "A client did not wait for the greeting and was cut.", NULL,
		KEYS({ "octets", "octets", "what it had said; 0: the begin of a TLS record" }) },
	{ "timeout", "info", "A client was silent for too long, or too slow, and was told 421.", NULL,
		KEYS({ "state", NULL, "where: `greet`, `ready`, `mail`, `rcpt`, `body` or `chunks`" }) },
	{ "loop", "warn", "A message was refused because it goes round in a loop.",
		"See in its Received lines who sends it back to whom.",
		KEYS({ "hops", "count", "Received lines" }, { "passes", "count", "those of this listener" }, REPEATED) },

	{ "backend", "error warn info debug",
		"With `state`: a host has answered (`up`, with `offers`), can no longer be reached or leaves mail without a reply (`down`), takes no TLS and is "
		"used in clear for ten minutes (`in clear`), or was left for another one in the middle (`another host is asked`). "
		"With session and transaction: a delivery failed. At level error the back-end refuses our commands, or a "
		"maildir cannot be written.",
		"`down`: look at that host; mail waits at the front. At level error: look at the back-end's restrictions for this "
		"machine.",
		KEYS(BACKEND, HOST,
			{ "state", NULL, "`up`, `down`, `in clear` or `another host is asked`" },
			{ "offers", NULL, "what its EHLO offers, of what we use" },
			ERR,
			{ "to", NULL, "the command that it refused" },
			CODE, TEXT, REPEATED) },
	{ "resolve", "warn info",
		"The name of a back-end's host cannot be looked up any more, so its old addresses serve on; or it can again.",
		"Look at the name server, or write an address.",
		KEYS({ "host", NULL, "the name" }, ERR, { "state", NULL, "`its old addresses serve on` or `found again`" }) },
	{ "certificate", "error info", "The files of a certificate have changed and are loaded, or are of no use and the old ones are kept.",
		"At level error: repair the file; the old certificate may expire.",
		KEYS({ "of", NULL, "`listener` or `backend`" }, { "name", NULL, "its name" },
			{ "state", NULL, "`loaded` or `kept`" }, ERR) },

	{ "filter", "warn debug", "A filter failed, or asked for an edit that it may not make; at level debug: its verdict.",
		"Look at what the filter speaks to. `on_failure` says what became of the message.",
		KEYS({ "filter", NULL, "name of the filter" }, { "edit", NULL, "the edit, by a word of `may`" }, ERR,
			{ "on_failure", NULL, "what its failure was taken for" },
			{ "verdict", NULL, "its verdict, or `skipped`: its conditions did not hold" }, { "ms", "ms", "how long it took" }, REPEATED) },
	{ "score", "info", "What rspamd found: one line for each message that it was asked about and answered.", NULL,
		KEYS({ "filter", NULL, "name of the filter" }, { "action", NULL, "what rspamd says, in its words" },
			{ "score", NULL, "the sum of the symbols' scores" }, { "required", NULL, "the score at which it rejects" },
			{ "symbols", NULL, "its rules that matched, each with its score; cut when they are many" }) },
	{ "virus", "info", "A scanner has found something in the message.", NULL,
		KEYS({ "filter", NULL, "name of the filter" }, { "virus", NULL, "what was found, as the scanner calls it" }) },
	{ "breaker", "warn info",
		"A filter has failed `failures` times in a row and is not asked any more, its on_failure answers (`open`); or it has "
		"answered a probe and is asked again (`closed`).",
		"Look at what the filter speaks to.",
		KEYS({ "filter", NULL, "name of the filter" }, { "state", NULL, "`open` or `closed`" },
			{ "failures", "count", "as configured" }, { "retry_ms", "ms", "when it is asked again, once" }, ERR) },
	{ "shadow", "info", "A filter with `shadow yes` would not have passed this message; nothing else came of it.", NULL,
		KEYS({ "filter", NULL, "name of the filter" }, { "verdict", NULL, "what it would have been" }, TEXT,
			{ "ms", "ms", "how long it took" }) },
	{ "spam", "info", "A filter takes the message for spam.", NULL,
		KEYS({ "filter", NULL, "name of the filter" }, { "score", "points", "what the message got" }) },
	{ "rule", "warn", "A rule, or what a filter of its chain says of recipients, could not be evaluated; the recipient got a 4xx.", "Look at the pattern, or what it looks in.",
		KEYS({ "rcpt", NULL, "the recipient" }, ERR, REPEATED) },
	{ "table", "warn", "A table of LMDB that was replaced cannot be read; the old one is used on.", "Look at the file, and make it anew.",
		KEYS({ "path", NULL, "the table" }, ERR, REPEATED) },
	{ "helper", "warn", "A helper process failed; its message was put off, and a new one is started.",
		"If it goes on: report it, with the message if you can.",
		KEYS({ "row", NULL, "the helper's job" }, { "pid", NULL, "its process" }, ERR, REPEATED) },
	{ "helper_says", "warn", "A helper process had something to say.", NULL,
		KEYS({ "row", NULL, "the helper's job" }, { "text", NULL, "what it said" }, REPEATED) },

	{ "spool", "error info", "The spool has no room or could not be written, and mail is put off with 452; or there is room again.",
		"Make room in the spool's folder, or look at its rights.",
		KEYS(ERR, { "state", NULL, "`there is room again`" }, REPEATED) },
	{ "group", "info", "The chain ended differently for some of the recipients of one message: a line for each group, before the "
		"answer that holds for all.", NULL,
		KEYS({ "verdict", NULL, "what the filters said for this group" }, { "filter", NULL, "the filter that said it" },
			{ "rcpts", "count", "how many recipients" }, { "to", NULL, "the first of them, in angle brackets" }) },
	{ "quarantine", "error info", "A message was set aside, and the client was told that it was taken; or it could not be written, "
		"and is put off with 451.",
		"Look at it in the quarantine's folder; or make room there, and look at its rights.",
		KEYS({ "id", NULL, "the name of its folder in the quarantine" }, { "filter", NULL, "the filter that asked for it" },
			{ "reason", NULL, "what the filter said of it" }, { "rcpts", "count", "for how many recipients" },
			{ "to", NULL, "the first of them, in angle brackets" }, { "removed", "count", "so many were left unfinished "
			"by a crash; the front has sent them again" }, ERR, REPEATED) },
	{ "slow_write", "warn", "A write to the spool took longer than 20 ms; the worker stood still meanwhile.",
		"Put the spool on a quicker disk, or raise `inline`.",
		KEYS({ "directory", NULL, "the spool's folder" }, { "ms", "ms", "how long" }, { "octets", "octets", "how much" }, REPEATED) },
	{ "accept", "warn", "A connection could not be accepted; the listeners rest for a moment.",
		"Want of descriptors: raise the limit of open files, or lower `max_connections`.",
		KEYS(ERR, { "resting_ms", "ms", "how long" }, REPEATED) },
	{ "overload", "warn",
		"More than 7/8 of `max_connections` are taken, so MAIL gets 451 (`begins`); or no more than 3/4 again (`over`).",
		"If it comes every day: more connections, or fewer fronts at a time.",
		KEYS({ "state", NULL, "`begins` or `over`" }, { "connections", "count", "taken" },
			{ "max_connections", "count", "the limit" },
			{ "refused", "count", "connections that got 421 meanwhile" },
			{ "put_off", "count", "MAIL commands that got 451 meanwhile" }) },
	{ "limits", "warn", "The limit of open files is lower than `max_connections` may need.",
		"Raise the limit (LimitNOFILE of systemd), or lower `max_connections`.",
		KEYS(ERR, { "max_connections", "count", "as configured" }, { "needs", "descriptors", "what that may need" },
			{ "has", "descriptors", "the limit" }) },
	{ "refused", "info", "At the end: how many were refused since the start.", NULL,
		KEYS({ "clients", "count", "connections of clients that may not speak" },
			{ "max_connections", "count", "connections beyond the limit" },
			{ "max_per_client", "count", "connections beyond the limit for one client" },
			{ "early_talker", "count", "clients that spoke before the greeting" },
			{ "mail", "count", "MAIL commands in an overload" }) },

	{ "listen", "info", "A listener is open, at the start or with a reload.", NULL,
		KEYS(LISTENER, { "address", "address:port", "or `unix:PATH`" }) },
	{ "health", "info", "The health port is open, at the start or with a reload.", NULL,
		KEYS({ "address", "address:port", "or `unix:PATH`" }) },
	{ "ready", "info", "The engine takes mail.", NULL,
		KEYS({ "workers", "count", "threads that carry mail" }, { "listeners", "count", "of the configuration" },
			{ "max_connections", "count", "the limit" },
			{ "generation", "number", "of the configuration: 1 at the start, one more for each reload" },
			{ "version", NULL, "of Postern" }) },
	{ "reload", "error warn info", "The configuration was asked for again: by HUP or USR1, or because a file has changed (a list; with `watch_config` each). "
		"At level error nothing has changed, and `err` says where the mistake is.",
		"Correct it, and ask again. `postern -t` says all of it at once.",
		KEYS({ "state", NULL, "`done`: it is in force; `kept`: the one before it is; `this option needs a restart`; or that a list "
			"has changed, but the configuration itself awaits a reload" },
			{ "generation", "number", "of the configuration that is in force now" },
			{ "changes", "count", "what is different: a line `changed` for each, up to 50" },
			{ "option", NULL, "which one needs a restart" }, { "of", NULL, "whose option that is: `listener front`; absent at the top" },
			{ "warning", NULL, "what is doubtful in it" }, ERR) },
	{ "changed", "info", "What a reload has changed.", NULL,
		KEYS({ "of", NULL, "the block: `listener front`, `rule 2`; absent at the top; or a list: `file PATH`" },
			{ "option", NULL, "absent when the whole block has come or gone, and of a list" },
			{ "was", NULL, "absent when it was not set; `there` of a block; of a list how many lines it had" },
			{ "now", NULL, "absent when it is not set any more" }) },
	{ "engine", "info", "Another engine carries the mail now; the one before it finishes what it has.", NULL,
		KEYS({ "state", NULL, "`has taken over`" }, { "pid", NULL, "the new one's number" }) },
	{ "handover", "error info", "By USR2: the program on the disk takes the place of the one that runs. At level error it does not, or not yet.",
		"Try the program by hand: `postern -t`. What it waits for it looks for each second: make it so.",
		KEYS({ "program", NULL, "its path" }, { "version", NULL, "of the one that makes way" },
			{ "state", NULL, "`waits`: it is there and cannot begin, for `err`; the engine from before carries the mail" }, ERR) },
	{ "notify", "debug", "The service manager could not be told.", NULL, KEYS(ERR) },
	{ "stop", "error warn info", "A stop begins; at level warn sessions are cut, at level error what stuck workers had is given up.",
		"Look why the workers were stuck: see `stuck`.",
		KEYS({ "why", NULL, "who asked" }, { "state", NULL, "`drain_timeout is over, sessions are cut` or `asked twice, stopping at once`" },
			ERR, { "workers", "count", "that are given up" }) },
	{ "stopped", "info", "The engine has ended in order.", NULL,
		KEYS({ "state", NULL, "`all transactions have ended`" }) },
	{ "log", "error info", "The log file was opened again, or could not be.", "Make the file and its folder writable for `user`.",
		KEYS({ "state", NULL, "`reopened`" }, ERR) },
	{ "log_lost", "warn", "Lines were lost because the log's target did not take them for long.",
		"Look at the disk, at the syslog daemon's rate limit, or at who reads the pipe.",
		KEYS({ "lines", "count", "how many" }) },
	{ "pid_file", "warn", "The pid file could neither be removed nor emptied.", "Make its folder writable for `user`.", KEYS(ERR) },
	{ "died", "error", "A process of ours ended unasked. Clients wait, and the front keeps what was under way.",
		"Report it, with the lines before it.",
		KEYS({ "process", NULL, "`engine` or `spawner`" }, { "pid", NULL, "its number" }, { "signal", "number", "that ended it" },
			{ "status", "number", "its exit status" }) },
	{ "restart", "info", "After `died` or `stuck`: when the next engine starts.", NULL,
		KEYS({ "in_ms", "ms", "from now" }) },
	{ "start", "error warn", "A process could not be started or did not become ready.", "`err` says why.", KEYS(ERR) },
	{ "spawner", "error", "The spawner is gone or does not answer; the monitor starts a new engine.", "If it goes on: report it.", KEYS(ERR) },
	{ "stuck", "error warn", "A worker has not moved for `stuck_timeout`, or a whole engine says nothing. Another engine takes over; "
		"what the stuck one has is tried again by the front.",
		"Look whether the spool's disk hangs; else report it.",
		KEYS({ "worker", NULL, "which" }, { "for_ms", "ms", "since it last moved" }, { "state", NULL, "`turns again`" },
			{ "process", NULL, "`engine`" }, { "pid", NULL, "its number" },
			{ "what", NULL, "the worker, `the whole engine`, or what is done about it" }) },
	{ "worker", "error", "A worker's event loop has a fault.", "Report it.", KEYS(ERR, REPEATED) },
	{ "libevent", "warn", "A word of the library libevent.", NULL, KEYS({ "text", NULL, "what it says" }, REPEATED) },

	{ "state", "debug", "A session goes from one state to another.", NULL,
		KEYS({ "old", NULL, "from" }, { "new", NULL, "to" }) },
	{ "broken", "debug", "A client's connection was reset.", NULL, KEYS(ERR) },
	{ "early", "debug", "The envelope at the back-end was given up for now, because content is long in coming.", NULL,
		KEYS({ "state", NULL, "`early_hold is over`" }) },
	{ "replace", "debug", "An idle connection to a back-end had died, or the host takes no mail in clear: it is replaced.", NULL, KEYS(HOST, ERR) },
	{ "program", "debug", "The spawner has started a process.", NULL,
		KEYS({ "name", NULL, "of the program" }, { "id", NULL, "our number" }, { "pid", NULL, "the system's number" }) },
};

static const char intro[] =
	"# The log, line by line\n"
	"\n"
	"<!-- Printed by `postern -T log-lines`; a test compares. Change proxy/log_events.c instead. -->\n"
	"\n"
	"## The form of a line\n"
	"\n"
	"    info w0 s=7f3a01 t=1 msg front=4Zk1Qx listener=front client=192.0.2.7:40112 ...\n"
	"\n"
	"A line is a level; who speaks; session and transaction, if there are any; an event; and `key=value` pairs. In a\n"
	"file the time stands in front. A value with blanks, quotes or backslashes, or an empty one, is in double quotes,\n"
	"with `\"` and `\\` behind a backslash; control characters and what is no UTF-8 are written `\\xNN`. A key without a\n"
	"value is left out. A value has at most 500 octets, and a line to syslog at most 900: the longest values are\n"
	"shortened, to `...` at their end, and no key is lost.\n"
	"\n"
	"- Who: `m` is the monitor, `s` the spawner, `a` the engine's admin thread, `w0` and so on its workers, `j` a job\n"
	"  thread.\n"
	"- `s` is a session, in hexadecimal, not used again soon; `t` counts its transactions.\n"
	"- With `format json` the same is one object a line: `time`, `level`, `who`, `session`, `txn`, `event`, and the keys;\n"
	"  numbers are numbers.\n"
	"- With `to journal` each key is a field as well: `POSTERN_EVENT`, `POSTERN_LEVEL`, `POSTERN_WHO`,\n"
	"  `POSTERN_SESSION`, `POSTERN_TXN`, and `POSTERN_` with the key in capitals; so\n"
	"  `journalctl POSTERN_EVENT=msg POSTERN_VERDICT=reject`. The message is the text form.\n"
	"\n"
	"| level | meaning |\n"
	"|---|---|\n"
	"| `error` | somebody has to act |\n"
	"| `warn` | something failed and was dealt with |\n"
	"| `info` | one or two lines for each connection and message |\n"
	"| `debug` | every step |\n"
	"\n"
	"A fault that comes with every message or connection is told at once, then counted, and told again once a minute\n"
	"and when it is over, with `repeated`. What became of each message stands in its summary, which is never left out.\n"
	"\n"
	"## One id for the whole life of a message\n"
	"\n"
	"`front=` of the summary is the front's queue id, as its own Received line gives it; `back=` is the back-end's, which\n"
	"also stands in our reply, so in the front's log; and `s` and `t` are in our Received line, as `id 7f3a01-1.` and a\n"
	"token. Whichever of them is looked for in the three logs finds the next one.\n"
	"\n"
	"## What programs may rely on\n"
	"\n"
	"Names of events and keys, and the words listed for a key, are an interface: they do not change without a line in\n"
	"NEWS. contrib/fail2ban looks for clients that misbehave, which are these lines, at level info:\n"
	"\n"
	"    connect client=ADDRESS:PORT listener=NAME refused=clients\n"
	"    connect client=ADDRESS:PORT listener=NAME refused=max_per_client\n"
	"    disconnect client=ADDRESS:PORT listener=NAME why=early txns=N\n"
	"    disconnect client=ADDRESS:PORT listener=NAME why=errors txns=N\n"
	"    disconnect client=ADDRESS:PORT listener=NAME why=http txns=N\n"
	"\n"
	"An IPv6 address is in square brackets. The keys stand in this order, directly behind the session.\n"
	"\n"
	"## The events\n";

static void
print_event(const struct log_event *event, FILE *out)
{
	fprintf(out, "\n### %s\n\n%s (Level: %s.)\n", event->name, event->help, event->levels);
	if (event->act != NULL)
		fprintf(out, "\nWhat to do: %s\n", event->act);
	fprintf(out, "\n| key | unit | meaning |\n|---|---|---|\n");
	for (const struct log_key *key = event->keys; key->name != NULL; key++)
		fprintf(out, "| `%s` | %s | %s |\n", key->name, key->unit != NULL ? key->unit : "", key->help);
}

void
log_events_print(FILE *out)
{
	fputs(intro, out);
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
		print_event(&events[i], out);
}
