/*
 * mail/view.h - the message as it now is: body and edits as an iterator of pieces.
 *
 * Everything that reads a message reads a view. The wire form is dot-stuffed and ends in CRLF
 * (without the final dot); the plain form is the content itself. Several views of one message may
 * run at once.
 */
#ifndef MAIL_VIEW_H
#define MAIL_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "mail/body.h"
#include "mail/edit.h"

enum mail_view_form { MAIL_VIEW_PLAIN, MAIL_VIEW_WIRE };

/* Either memory (data != NULL; borrowed until the next call) or a range of a file (borrowed as long
 * as the body lives). len is never 0. */
struct mail_piece {
	const char *data;
	int fd;
	off_t off;
	size_t len;
};

/* Lives in its owner's struct; copyable only before the first mail_view_next(). */
struct mail_view {
	const struct mail_body *body; /* whose the pieces of a file are: the version's content */
	const struct mail_edits *edits;
	enum mail_view_form form;
	/* private to view.c */
	const struct mail_edit *edit;
	const char *text; /* left to give of a piece of header */
	size_t text_left;
	bool is_dot_given; /* text begins with a dot that was doubled */
	const struct mail_chunk *chunk;
	int64_t off;       /* next octet of the body */
	int64_t chunk_off; /* offset of chunk's first octet */
	size_t dot;        /* next noted dot line */
	int step;
	char *scratch; /* only when dots are unknown */
	int line;      /* where in a line off is, then */
};

/* edits is a version (mail/edit.h), or NULL. */
void mail_view_init(struct mail_view *v, const struct mail_body *body,
	const struct mail_edits *edits, enum mail_view_form form);
/* 1: a piece; 0: the end; -1: the body cannot be read (errno). */
int mail_view_next(struct mail_view *v, struct mail_piece *piece_r);
void mail_view_deinit(struct mail_view *v);
/* Octets of the plain form: for SIZE=, BDAT and the log. */
int64_t mail_view_size(const struct mail_body *body, const struct mail_edits *edits);
/* Writes the plain form to fd from its present position. Blocking: job threads and tools only. */
int mail_view_write(const struct mail_body *body, const struct mail_edits *edits, int fd);

#endif
