/*
 * proxy/oneshot.h - `postern -1`: one message through rules and chain, without a daemon.
 *
 * The process is an engine with one worker, no listener and no monitor, and a spawner of its own. A thread is the
 * front: it gives the message to a session of the worker over a pair of sockets, in SMTP, so that all is as in the
 * daemon. Nothing is shared with one that runs.
 */
#ifndef PROXY_ONESHOT_H
#define PROXY_ONESHOT_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/err.h"
#include "proxy/explain.h"

/* Is there a -1 on the command line? */
bool oneshot_is_wanted(int argc, char **argv);
/* All of it; the exit status, of sysexits.h. */
int oneshot_main(int argc, char **argv);

/* Of --time: "Sun 03:00" (the next one), "03:00" (today), "2026-11-29 03:00", each also with seconds. */
int oneshot_parse_time(const char *text, time_t now, time_t *time_r, struct err *err);

/* ---- oneshot_front.c ---- */

/* What the front has, and what comes of it. */
struct oneshot_mail {
	const char *sender; /* NULL: of the message's first line, "From ADDRESS ..." */
	char *const *rcpts;
	int rcpt_count;
	const char *helo;
	int content; /* a file: lines end in CRLF */
	bool has_8bit;
	char from_line[512]; /* the address of the first line; "" when there was none, or the null sender */
	bool has_from_line;
	struct explain *explain; /* NULL: it is sent */
	int status;
};

/* Reads it from fd into an unnamed file in directory. */
int oneshot_read(struct oneshot_mail *mail, int fd, const char *directory, struct err *err);
/* Talks to the session at the other end of fd, which it closes. Sets status. */
void oneshot_talk(struct oneshot_mail *mail, int fd);

#endif
