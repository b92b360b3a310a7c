/*
 * base/log.h - log lines with context, for people with grep and machines with a splitter.
 *
 * A call names an event and gives keys and values in one format:
 *
 *     log_info(s->log, "connect", "client=%s listener=%s", name, listener);
 *     -> info w0 s=7f3a01 connect client=192.0.2.7:40112 listener=front
 *
 * The format is "key=%spec key=%spec ...", single spaces between. Specs: %s %.*s %c %d %u %ld %lu
 * %lld %llu %zu %zd %jd %ju %x %lx %PRIx64, with width and zero padding for numbers (%06x). A %s of
 * NULL leaves its key out. A value may also be plain text ("state=on") or a mixture
 * ("backend=%s/%s"), which is a string. In text a string is quoted when it is empty or holds a
 * space, '"' or '\\' (both then escaped with a backslash); control characters and what is no UTF-8
 * are written \xNN. In JSON strings are strings and numbers are numbers (hexadecimal ones are
 * strings). Towards the journal each key is a field as well. One call serves all forms.
 * Events and keys are an interface: each has its row in proxy/log_events.c, and a test compares.
 *
 * A value has at most 500 octets, and a line for syslog at most 900: the longest values are
 * shortened, to a "..." at their end, and no key is lost.
 *
 * Lines are batched per thread: log_flush() writes them (a worker calls it once per loop turn; level
 * error flushes at once). Threads that never call log_flush() must use log_batch(false). Who forks
 * calls log_flush() first; what is left then the parent writes, and the child does not.
 * A target never holds a worker up: what syslog, the journal or a pipe does not take is kept and tried
 * again at the next flush, up to a bound; what is lost is counted and reported by one later line.
 * Secrets and message bodies are never logged at any level.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum log_level {
	LOG_LEVEL_ERROR, /* an administrator must act */
	LOG_LEVEL_WARN,	 /* something failed and was handled */
	LOG_LEVEL_INFO,	 /* one line per connection and message */
	LOG_LEVEL_DEBUG, /* every step */
};
extern const char *const log_level_names[]; /* "error" "warn" "info" "debug" NULL */

enum log_target { LOG_TO_STDERR, LOG_TO_SYSLOG, LOG_TO_JOURNAL, LOG_TO_FILE };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* Where lines go. Strings are copied. */
struct log_conf {
	enum log_target target;
	const char *path; /* of LOG_TO_FILE; of the others another socket than the usual one */
	int facility;	  /* of syslog and journal: LOG_MAIL ... */
	enum log_level level;
	enum log_format format; /* of the journal always text, and fields beside it */
};

/*
 * Who speaks: `who` is "m" (monitor), "s" (spawner), "w0" (worker), "a" (admin), "j" (job thread);
 * session and txn are 0 when there is none. Printed as s=%06x t=%u. A NULL context prints only
 * the thread's default `who` (log_thread()).
 */
struct log_ctx {
	const char *who;
	unsigned session;
	unsigned txn;
};

/* May lines go there? Not to stderr once that is /dev/null, for a daemon leaves its terminal. log_open() asks, too. */
int log_check(const struct log_conf *conf, struct err *err);
/* Replaces the target; opens the file or socket. On error the old target stays. Lines that other threads
 * have gathered still go to the old one. */
int log_open(const struct log_conf *conf, struct err *err);
/*
 * For a daemon, before it gives up root: stderr never holds it up either, be it a pipe, a terminal or a
 * socket. All others wait for whoever reads their stderr, as is usual.
 */
void log_unblock_stderr(void);
/* Reopens a file after rotation. */
int log_reopen(struct err *err);
void log_thread(const char *who);
void log_batch(bool on);
void log_flush(void);
/* Lines lost since the start: their target did not take them. Any thread; never waits. */
unsigned long log_lost(void);
/* Is a line of this level written at all? For callers that build expensive values. */
bool log_wants(enum log_level level);

/* As the argument of a %jd: leaves its key out, as NULL does for %s. */
#define LOG_NONE INTMAX_MIN

/* The text, or NULL when it is empty, so that its key is left out. */
const char *log_some(const char *text);

#define LOG_ARGS __attribute__((format(printf, 3, 4)))
void log_error(const struct log_ctx *ctx, const char *event, const char *fmt, ...) LOG_ARGS;
void log_warn(const struct log_ctx *ctx, const char *event, const char *fmt, ...) LOG_ARGS;
void log_info(const struct log_ctx *ctx, const char *event, const char *fmt, ...) LOG_ARGS;
void log_debug(const struct log_ctx *ctx, const char *event, const char *fmt, ...) LOG_ARGS;
#undef LOG_ARGS

/*
 * For a fault that may come with every message or connection: the first line goes out at once,
 * later ones are counted, and once a minute one line has the latest text and repeated=N; so it ends
 * too, when the fault is over. It is the same fault when level, event and `which` are the same; `which`
 * is a name of the configuration or NULL, never something from outside, for room is bounded.
 */
void log_repeat(enum log_level level, const struct log_ctx *ctx, const char *which, const char *event,
	const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/*
 * Key by key, for the line that every message has: log_begin(), then keys, then log_end(), and no
 * other line in between. log_begin() says whether the level is wanted: if not, nothing more.
 */
bool log_begin(enum log_level level, const struct log_ctx *ctx, const char *event);
void log_key(const char *key, const char *value); /* NULL: the key is left out */
void log_key_n(const char *key, const char *value, size_t len);
void log_key_int(const char *key, intmax_t n); /* LOG_NONE: the key is left out */
/* Three parts as one value; any may be NULL, and if `b` is, the key is left out. */
void log_key_join(const char *key, const char *a, const char *b, const char *c);
void log_end(void);

#endif
