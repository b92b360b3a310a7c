/*
 * mail/edit.c - list of changes to one message, not yet applied.
 */
#include "mail/edit.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

void
mail_edits_init(struct mail_edits *e, struct arena *arena)
{
	e->arena = arena;
	STAILQ_INIT(&e->list);
}

/* Complete lines, each ending in CRLF, none empty, none that would have to be dot-stuffed. */
static bool
is_header_lines(const char *text)
{
	if (*text == ' ' || *text == '\t')
		return false;
	while (*text != '\0') {
		size_t len = strcspn(text, "\r\n");

		if (len == 0 || *text == '.' || text[len] != '\r' || text[len + 1] != '\n')
			return false;
		text += len + 2;
	}
	return true;
}

void
mail_edit_prepend(struct mail_edits *e, const char *text)
{
	struct mail_edit *edit;

	assert(*text != '\0' && is_header_lines(text));
	edit = arena_zalloc(e->arena, sizeof(*edit));
	edit->kind = MAIL_EDIT_PREPEND;
	edit->len = strlen(text);
	edit->text = arena_memdup(e->arena, text, edit->len + 1);
	/* The list stands in the order of the message: later ones above. */
	STAILQ_INSERT_HEAD(&e->list, edit, next);
}
