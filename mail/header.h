/*
 * mail/header.h - the header block of a message as a list of fields with positions. Pure, fuzzed.
 */
#ifndef MAIL_HEADER_H
#define MAIL_HEADER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "mail/body.h"

struct mail_field {
	const char *name; /* not NUL-terminated */
	size_t name_len;
	const char *value; /* behind the colon, folding included, without the last CRLF */
	size_t value_len;
};

enum mail_header_load {
	MAIL_HEADER_OK,
	MAIL_HEADER_TOO_LONG, /* no end within max octets */
	MAIL_HEADER_READ,     /* errno */
};

/*
 * The header block: up to and without the empty line, or the whole message when there is none. A
 * first line that is no field ("From " of an mbox, or body text at once) is kept as it is and
 * skipped by mail_header_next(). Where no empty line comes within max octets, but a line that is no
 * field does, that line begins the body (a long text without a header is no long header). *text_r
 * points into the body when it can, else into the arena.
 */
enum mail_header_load mail_header_load(const struct mail_body *b, size_t max, struct arena *arena,
	const char **text_r, size_t *len_r);

/* Walks fields: *pos starts at 0. False at the end. Lines that are no fields are skipped. */
bool mail_header_next(const char *text, size_t len, size_t *pos, struct mail_field *field_r);
/* Where a field can be added so that everyone sees it: the end, or the first line that is no field. */
size_t mail_header_end(const char *text, size_t len);
bool mail_field_is(const struct mail_field *field, const char *name);
/* The value unfolded (each CRLF removed, outer white space trimmed), control characters cleaned,
 * cut at max octets. */
char *mail_field_text(const struct mail_field *field, size_t max, struct arena *arena);

#endif
