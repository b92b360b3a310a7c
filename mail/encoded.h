/*
 * mail/encoded.h - encoded words (RFC 2047) in a header field's text, as UTF-8. Pure, fuzzed.
 */
#ifndef MAIL_ENCODED_H
#define MAIL_ENCODED_H

#include <stddef.h>

#include "base/arena.h"

/*
 * The text, unfolded before, with its encoded words decoded; all else stays as it is, also what is
 * no whole encoded word. Neighbours of one character set are converted together, because some cut a
 * character in two. What the set does not have becomes '?'; of a set that nobody knows the octets
 * stay. May hold any octet, NUL too; there is another one behind its end.
 */
char *mail_decode(const char *text, size_t len, struct arena *arena, size_t *len_r);

/* UTF-8 as encoded words, folded between them: fit for the value of a field, and the same again when decoded. */
char *mail_encode(const char *text, struct arena *arena);

#endif
