/* filters/mark.c - what is declared, where it holds, and the removal of what comes in under its names. */
#include "filters/mark.h"

#include <string.h>
#include <strings.h>

#include "base/str.h"
#include "mail/header.h"

#define RESULTS	  "Authentication-Results"
#define VALUE_MAX 900

struct mark {
	const struct filter *filter;
	const char *name;
	size_t prefix_len; /* 0: all of the name */
	const char *server; /* authserv-id; NULL: the name is enough */
	STAILQ_ENTRY(mark) next;
};

/* A chain that has a filter with marks. */
struct place {
	const struct filter *filter;
	struct config_words listeners; /* none: all */
	const struct ending *endings;  /* but not on these */
	STAILQ_ENTRY(place) next;
};

struct ending {
	struct config_words listeners;
	const struct ending *earlier;
};

struct filter_marks {
	struct arena *arena;
	const struct filter *declaring;
	STAILQ_HEAD(, mark) marks;
	STAILQ_HEAD(, place) places;
	const struct ending *endings;
};

struct filter_marks *
filter_marks_new(struct arena *arena)
{
	struct filter_marks *marks = arena_zalloc(arena, sizeof(*marks));

	marks->arena = arena;
	STAILQ_INIT(&marks->marks);
	STAILQ_INIT(&marks->places);
	return marks;
}

void
filter_marks_of(struct filter_marks *marks, const struct filter *f)
{
	marks->declaring = f;
	if (f->kind->marks != NULL)
		f->kind->marks(f->conf, marks);
}

static void
declare(struct filter_marks *marks, const char *name, const char *server)
{
	struct mark *mark = arena_zalloc(marks->arena, sizeof(*mark));
	size_t len = strlen(name);

	mark->filter = marks->declaring;
	mark->name = name;
	mark->prefix_len = len > 0 && name[len - 1] == '*' ? len - 1 : 0;
	mark->server = server;
	STAILQ_INSERT_TAIL(&marks->marks, mark, next);
}

void
filter_mark_declare(struct filter_marks *marks, const char *name)
{
	declare(marks, name, NULL);
}

void
filter_mark_declare_results(struct filter_marks *marks, const char *authserv_id)
{
	declare(marks, RESULTS, authserv_id);
}

static bool
has_marks(const struct filter_marks *marks, const struct filter *f)
{
	const struct mark *mark;

	STAILQ_FOREACH(mark, &marks->marks, next)
		if (mark->filter == f)
			return true;
	return false;
}

void
filter_marks_chain(struct filter_marks *marks, const struct filter *const *filters, size_t count,
	const struct config_words *listeners)
{
	for (size_t i = 0; i < count; i++) {
		struct place *place;

		if (!has_marks(marks, filters[i]))
			continue;
		place = arena_zalloc(marks->arena, sizeof(*place));
		place->filter = filters[i];
		if (listeners != NULL)
			place->listeners = *listeners;
		place->endings = marks->endings;
		STAILQ_INSERT_TAIL(&marks->places, place, next);
	}
}

void
filter_marks_end(struct filter_marks *marks, const struct config_words *listeners)
{
	struct ending *ending = arena_alloc(marks->arena, sizeof(*ending));

	*ending = (struct ending){.listeners = *listeners, .earlier = marks->endings};
	marks->endings = ending;
}

/* ---- removal ------------------------------------------------------------------------------ */

struct look {
	const struct filter_marks *marks;
	const char *listener;
};

static bool
has_listener(const struct config_words *words, const char *listener)
{
	for (size_t i = 0; i < words->count; i++)
		if (strcmp(words->list[i].text, listener) == 0)
			return true;
	return words->count == 0;
}

static bool
holds_on(const struct place *place, const char *listener)
{
	for (const struct ending *e = place->endings; e != NULL; e = e->earlier)
		if (has_listener(&e->listeners, listener))
			return false;
	return has_listener(&place->listeners, listener);
}

static bool
is_used(const struct look *look, const struct filter *f)
{
	const struct place *place;

	STAILQ_FOREACH(place, &look->marks->places, next)
		if (place->filter == f && holds_on(place, look->listener))
			return true;
	return false;
}

/* White space and comments, which may stand in one another. */
static size_t
skip_comments(const char *text, size_t len)
{
	size_t pos = 0, depth = 0;

	for (; pos < len && (depth > 0 || strchr(" \t\r\n(", text[pos]) != NULL); pos++) {
		if (text[pos] == '\\' && depth > 0)
			pos++;
		else if (text[pos] == '(')
			depth++;
		else if (text[pos] == ')')
			depth--;
	}
	return pos < len ? pos : len;
}

/* RFC 8601 2.2: the authserv-id is the first word, perhaps in quotes. */
static bool
is_by(const struct mail_field *field, const char *server)
{
	size_t begin = skip_comments(field->value, field->value_len), len = strlen(server);
	const char *id = field->value + begin;
	size_t left = field->value_len - begin;
	bool is_quoted = left > 0 && *id == '"';

	id += is_quoted;
	left -= is_quoted;
	if (left < len || strncasecmp(id, server, len) != 0)
		return false;
	return left == len || strchr(is_quoted ? "\"" : "; \t\r\n(/", id[len]) != NULL;
}

static bool
is_mark(const struct mail_field *field, const struct mark *mark)
{
	if (mark->prefix_len > 0)
		return field->name_len >= mark->prefix_len &&
		       strncasecmp(field->name, mark->name, mark->prefix_len) == 0;
	return mail_field_is(field, mark->name) && (mark->server == NULL || is_by(field, mark->server));
}

static bool
is_foreign(const struct mail_field *field, void *arg)
{
	const struct look *look = arg;
	const struct mark *mark;

	STAILQ_FOREACH(mark, &look->marks->marks, next)
		if (is_mark(field, mark) && is_used(look, mark->filter))
			return true;
	return false;
}

const struct mail_edits *
filter_marks_remove(const struct filter_marks *marks, const struct mail_msg *msg, const struct mail_edits *edits)
{
	struct look look = {marks, msg->origin->listener};

	if (STAILQ_EMPTY(&marks->places))
		return edits;
	return mail_edits_without(msg->arena, msg->body, edits, is_foreign, &look);
}

/* ---- adding ------------------------------------------------------------------------------- */

static const char *
clean(struct filter_run *run, const char *value)
{
	char text[VALUE_MAX + 1];

	str_clean(text, VALUE_MAX, value, strlen(value), false);
	return arena_strdup(run->arena, text);
}

void
filter_mark(struct filter_run *run, const char *name, const char *value)
{
	mail_edit_add(run->edits, name, clean(run, value));
}

void
filter_mark_results(struct filter_run *run, const char *authserv_id, const char *text)
{
	mail_edit_insert(run->edits, 0, RESULTS, clean(run, arena_printf(run->arena, "%s; %s", authserv_id, text)));
}
