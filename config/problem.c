/*
 * config/problem.c - errors and warnings: collected with their place, printed in order.
 */
#include "config/config.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"
#include "base/xalloc.h"

#define SHOWN_MAX 200 /* of a file that is no configuration at all, this is enough */

__attribute__((format(printf, 4, 0))) static void
add_problem(struct config *conf, const struct config_place *place, bool is_warning, const char *fmt,
	va_list ap)
{
	struct config_problem *p;
	struct str text = STR_INIT;
	char *clean;

	if (!is_warning && conf->error_count++ >= SHOWN_MAX)
		return;
	p = arena_zalloc(conf->arena, sizeof(*p));
	if (place != NULL && place->file != NULL) {
		p->place = *place;
		str_add(&text, place->file);
		if (place->line != 0)
			str_printf(&text, ":%d:%d", place->line, place->column);
		str_add(&text, ": ");
	}
	if (is_warning)
		str_add(&text, "warning: ");
	str_vprintf(&text, fmt, ap);
	clean = arena_alloc(conf->arena, text.len + 1);
	str_clean(clean, text.len, text.data, text.len, true);
	p->text = clean;
	p->is_warning = is_warning;
	TAILQ_INSERT_TAIL(&conf->problems, p, next);
	str_deinit(&text);
}

void
config_error(struct config *conf, const struct config_place *place, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add_problem(conf, place, false, fmt, ap);
	va_end(ap);
}

void
config_warn(struct config *conf, const struct config_place *place, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add_problem(conf, place, true, fmt, ap);
	va_end(ap);
}

/* "warning" for "warn", or the other way round. */
static bool
is_longer_form(const char *a, const char *b)
{
	size_t a_len = strlen(a), b_len = strlen(b), len = a_len < b_len ? a_len : b_len;

	return len >= 3 && strncasecmp(a, b, len) == 0;
}

/* A third of the longer word may be wrong. */
const char *
config_did_you_mean(const char *word, const char *const *candidates)
{
	const char *best = NULL;
	unsigned best_distance = (unsigned)-1;

	for (; *candidates != NULL; candidates++) {
		size_t len = strlen(word), candidate_len = strlen(*candidates);
		unsigned distance =
			str_caseeq(word, *candidates) ? 0 : str_distance(word, *candidates);

		if (distance > 1 && is_longer_form(word, *candidates))
			distance = 1;

		if (distance < best_distance &&
			(size_t)distance * 3 <= (len > candidate_len ? len : candidate_len)) {
			best = *candidates;
			best_distance = distance;
		}
	}
	return best;
}

static int
compare(const void *a, const void *b)
{
	const struct config_problem *p = *(const struct config_problem *const *)a;
	const struct config_problem *q = *(const struct config_problem *const *)b;
	int order;

	if (p->place.file == NULL || q->place.file == NULL)
		return (q->place.file == NULL) - (p->place.file == NULL);
	order = strcmp(p->place.file, q->place.file);
	if (order == 0)
		order = (p->place.line > q->place.line) - (p->place.line < q->place.line);
	if (order == 0)
		order = (p->place.column > q->place.column) - (p->place.column < q->place.column);
	return order;
}

void
config_print_problems(const struct config *conf, FILE *out)
{
	const struct config_problem *p, **sorted;
	size_t count = 0, i = 0;

	TAILQ_FOREACH(p, &conf->problems, next)
	count++;
	sorted = xcalloc(count, sizeof(struct config_problem *));
	TAILQ_FOREACH(p, &conf->problems, next)
	sorted[i++] = p;
	qsort(sorted, count, sizeof(*sorted), compare); /* glibc's keeps equals in their order */
	for (i = 0; i < count; i++)
		fprintf(out, "%s\n", sorted[i]->text);
	if (conf->error_count > SHOWN_MAX)
		fprintf(out, "and %u more errors\n", conf->error_count - SHOWN_MAX);
	free(sorted);
}
