/*
 * mail/body.h - the octets of one message: chunks in memory or a file, and where dot lines begin.
 *
 * The content is plain (dots unstuffed, all line ends CRLF) and never changes once complete.
 * Written by spool/file.c, read through mail/view.c (whole messages) and mail/header.c (the header
 * block).
 */
#ifndef MAIL_BODY_H
#define MAIL_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/list.h"

struct mail_chunk {
	STAILQ_ENTRY(mail_chunk) next;
	size_t len, size;
	char data[];
};
STAILQ_HEAD(mail_chunk_list, mail_chunk);

/* More lines than this that begin with a dot are not noted; the view then looks for them itself, so
 * that memory does not grow with the message. */
#define MAIL_BODY_DOTS_MAX 1024

struct mail_body {
	int64_t size;
	struct mail_chunk_list chunks; /* all of it when fd is -1, else empty */
	struct mail_chunk *filling;    /* the last chunk; private to body.c */
	int fd;                        /* an unnamed file that holds all of it, or -1 */
	int64_t *dots;                 /* offsets of '.' at the begin of a line, ascending */
	size_t dot_count, dot_size;
	bool dots_unknown; /* there were too many to note */
	bool ends_in_crlf; /* true for size 0 too: nothing has to be added before the dot */
	bool has_8bit;	   /* of one that a filter has made: it has octets above 127 */
	bool ends_in_cr;   /* private to body.c: the line end may be split between two runs */
};

void mail_body_init(struct mail_body *b);
/* Frees chunks, closes the file. */
void mail_body_deinit(struct mail_body *b);

/*
 * For who fills a body, with each run: keep copies it to the chunks (unless it goes to the file),
 * note counts it. dot_line: the first octet is a '.' at the begin of a line; no other octet of the
 * run is.
 */
void mail_body_keep(struct mail_body *b, const char *data, size_t len);
void mail_body_note(struct mail_body *b, const char *data, size_t len, bool dot_line);
/* Once the file has what was in memory. */
void mail_body_free_chunks(struct mail_body *b);

/* Copies up to len octets from off. Returns how many (0 at the end), -1 with errno. */
ssize_t mail_body_read(const struct mail_body *b, int64_t off, void *dst, size_t len);

#endif
