/*
 * smtp/reply.h - replies, both ways. Pure, fuzzed. RFC 5321 4.2, RFC 2034.
 */
#ifndef SMTP_REPLY_H
#define SMTP_REPLY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/str.h"

#define SMTP_REPLY_LINE_MAX 2048  /* without CRLF */
#define SMTP_REPLY_LINES_MAX 128
#define SMTP_REPLY_TEXT_MAX (32 * 1024) /* all lines together */

struct smtp_reply {
	int code;	  /* 200 to 599 */
	char status[12];  /* the first enhanced code in it that fits the code's class, or "" */
	const char *text; /* lines joined by '\n', clean, each without its enhanced code; never NULL */
};

/* A reply from the network, fed line by line. Lives in its owner's struct. */
struct smtp_reply_parser {
	int code;
	unsigned lines;
	char status[12];
	struct str text;
};
enum smtp_reply_step { SMTP_REPLY_MORE, SMTP_REPLY_DONE, SMTP_REPLY_BAD };

void smtp_reply_parser_init(struct smtp_reply_parser *p);
void smtp_reply_parser_deinit(struct smtp_reply_parser *p);
/*
 * line without its CRLF. BAD: no three digits 2-5 0-5 0-9 (RFC 5321 4.2; 6-9 in the middle of a refusal), a fourth octet that is
 * neither '-' nor space nor absent, differing codes, NUL or a bare CR/LF inside, a bound exceeded.
 * DONE: *reply_r is filled; its text is borrowed until the next feed, which begins a new reply.
 */
enum smtp_reply_step smtp_reply_feed(
	struct smtp_reply_parser *p, const char *line, size_t len, struct smtp_reply *reply_r);

/* A copy that lives in the arena. */
struct smtp_reply *smtp_reply_dup(struct arena *arena, const struct smtp_reply *r);
/* The 4xx of a 5xx, of the same text (borrowed): 450 of 550, 454 of 554, and 450 where that would say something else
 * than "not now", such as 421. false: it is no 5xx, and soft_r is left alone. */
bool smtp_reply_soften(const struct smtp_reply *r, struct smtp_reply *soft_r);

/*
 * Appends the lines with CRLF. with_status: each line gets the enhanced code (x.0.0 where the reply has
 * none; never for 3xx). Lines over 500 octets are cut at a character; control characters are cleaned.
 */
void smtp_reply_write(const struct smtp_reply *r, bool with_status, struct str *out);
/* "250 2.0.0 Ok: queued as 4Zk1Rb" on one line (lines joined by a space), for the log. */
void smtp_reply_line(const struct smtp_reply *r, struct str *out);
/* The queue id in a final reply's text ("queued as XYZ", sendmail's "XYZ Message accepted"), or "". */
void smtp_reply_queue_id(const struct smtp_reply *r, char *dst, size_t size);

#endif
