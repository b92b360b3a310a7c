/*
 * smtp/dot.h - DATA content from the wire: end of data, dots, line ends; and BDAT chunks. Pure, fuzzed.
 *
 * End of data is CRLF . CRLF and nothing else, at any split of the packets (RFC 5321 4.1.1.4, 4.5.2); the
 * message's first line counts as following a CRLF. Bare LF becomes CRLF and bare CR (also the first of
 * CR CR LF) one space; a dot behind a bare LF is content and never ends anything.
 */
#ifndef SMTP_DOT_H
#define SMTP_DOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum smtp_dot_mode {
	SMTP_DOT_DATA,	/* unstuff, look for the end */
	SMTP_DOT_CHUNK, /* BDAT: neither */
};

/* A run of plain content. dot_line: its first octet is a '.' that begins a line (in the plain content,
 * so it must be stuffed when it leaves). Runs are as long as possible: mostly the whole input. */
typedef void (*smtp_dot_cb)(void *owner, const char *data, size_t len, bool dot_line);

struct smtp_dot {
	enum smtp_dot_mode mode;
	int state; /* private */
	bool done; /* DATA: the end was seen */
	uint64_t bare_lf, bare_cr;
	smtp_dot_cb run;
	void *owner;
};

void smtp_dot_init(struct smtp_dot *d, enum smtp_dot_mode mode, smtp_dot_cb run, void *owner);
/* Returns the octets taken: all, or up to and with the final CRLF (then done is set). */
size_t smtp_dot_feed(struct smtp_dot *d, const char *data, size_t len);
/* CHUNK: after the last chunk: what was held back (a CR at the very end) comes out as a bare CR does. */
void smtp_dot_finish(struct smtp_dot *d);

#endif
