/*
 * mail/edit.h - list of changes to one message, not yet applied; mail/view.c shows their effect.
 */
#ifndef MAIL_EDIT_H
#define MAIL_EDIT_H

#include <stddef.h>

#include "base/arena.h"
#include "base/list.h"

enum mail_edit_kind {
	MAIL_EDIT_PREPEND, /* whole header lines put in front of the message */
};

struct mail_edit {
	enum mail_edit_kind kind;
	const char *text; /* PREPEND: ends in CRLF, no dot at a line's begin */
	size_t len;
	STAILQ_ENTRY(mail_edit) next;
};

/* One version of the message. Later PREPENDs stand above earlier ones. */
struct mail_edits {
	struct arena *arena;
	STAILQ_HEAD(, mail_edit) list;
};

void mail_edits_init(struct mail_edits *e, struct arena *arena);
/* text is copied; it must be one or more complete header lines ending in CRLF (asserted). */
void mail_edit_prepend(struct mail_edits *e, const char *text);

#endif
