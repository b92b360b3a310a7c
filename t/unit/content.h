/*
 * t/unit/content.h - for tests: message content from plain text, and views back into text.
 */
#ifndef T_UNIT_CONTENT_H
#define T_UNIT_CONTENT_H

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "mail/body.h"
#include "mail/view.h"
#include "spool/file.h"

/* Length of the first run of text: up to the next dot that begins a line. */
static inline size_t
content_run(const char *text, size_t len)
{
	const char *dot = len > 0 ? memmem(text, len, "\r\n.", 3) : NULL;

	return dot != NULL ? (size_t)(dot - text) + 2 : len;
}

/* Gives text, in runs of at most `part` octets, as the decoder would; w NULL keeps it in memory. */
static inline void
content_add(struct mail_body *b, struct spool_writer *w, const char *text, size_t len, size_t part)
{
	bool line_begin = true;

	while (len > 0) {
		/* A line end that is split between runs: the octet behind it begins one. */
		size_t run = b->ends_in_cr && *text == '\n'
				     ? 1
				     : content_run(text, len < part ? len : part);
		bool dot_line = line_begin && *text == '.';

		if (w != NULL) {
			spool_append(w, text, run, dot_line);
		} else {
			mail_body_keep(b, text, run);
			mail_body_note(b, text, run, dot_line);
		}
		text += run;
		len -= run;
		line_begin = b->ends_in_crlf;
	}
}

static inline void
content_init(struct mail_body *b, const char *text)
{
	mail_body_init(b);
	content_add(b, NULL, text, strlen(text), SIZE_MAX);
}

/* What dot stuffing is, written the slow and simple way. */
static inline void
content_stuff(struct str *out, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		bool line_begin = i == 0 || (i >= 2 && memcmp(text + i - 2, "\r\n", 2) == 0);

		if (text[i] == '.' && line_begin)
			str_addc(out, '.');
		str_addc(out, text[i]);
	}
	if (len > 0 && (len < 2 || memcmp(text + len - 2, "\r\n", 2) != 0))
		str_add(out, "\r\n");
}

/* Adds all pieces; false when the body could not be read. */
static inline bool
content_view(struct str *out, const struct mail_body *b, const struct mail_edits *edits,
	enum mail_view_form form)
{
	struct mail_piece piece;
	struct mail_view v;
	int rc;

	mail_view_init(&v, b, edits, form);
	while ((rc = mail_view_next(&v, &piece)) > 0) {
		if (piece.len == 0)
			abort();
		if (piece.data != NULL) {
			str_addn(out, piece.data, piece.len);
			continue;
		}
		str_reserve(out, piece.len);
		if (mail_body_read(v.body, piece.off, out->data + out->len, piece.len) !=
			(ssize_t)piece.len)
			abort();
		out->len += piece.len;
	}
	mail_view_deinit(&v);
	return rc == 0;
}

#endif
