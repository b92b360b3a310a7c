/*
 * config/diff.c - what differs between two configurations, in the words of the file.
 */
#include "config/config.h"

#include <string.h>

#include "config/words.h"

static bool
same_words(const struct config_words *a, const struct config_words *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (a->list[i].kind != b->list[i].kind || strcmp(a->list[i].text, b->list[i].text) != 0)
			return false;
	return true;
}

/* Written is not the same as the default, even where the words are: "was it set?" may matter. */
static bool
same_value(const struct config_value *a, const struct config_value *b)
{
	return (a->place.file == NULL) == (b->place.file == NULL) && same_words(&a->words, &b->words);
}

static const struct config_option *
option_at(const struct config_block *block, size_t group, size_t i)
{
	const struct config_option *options = block->section->groups[group].options;

	return options != NULL && options[i].name != NULL ? &options[i] : NULL;
}

static bool
same_values(const struct config_block *a, const struct config_block *b)
{
	for (size_t g = 0; g < ARRAY_COUNT(a->values); g++)
		for (size_t i = 0; option_at(a, g, i) != NULL; i++)
			if (!same_value(&a->values[g][i], &b->values[g][i]))
				return false;
	return true;
}

bool
config_block_same(const struct config_block *a, const struct config_block *b)
{
	const struct config_block *x, *y;

	if (a->section != b->section || strcmp(a->name, b->name) != 0 || !same_values(a, b))
		return false;
	y = TAILQ_FIRST(b->blocks);
	TAILQ_FOREACH(x, a->blocks, next)
	{
		if (y == NULL || !config_block_same(x, y))
			return false;
		y = TAILQ_NEXT(y, next);
	}
	return y == NULL;
}

/* ---- what to tell ---- */

struct teller {
	config_diff_fn fn;
	void *arg;
	const char *of; /* "listener front", or "" at the top */
};

static void
tell(const struct teller *t, const char *option, const struct config_value *was, const struct config_value *now)
{
	struct str a = STR_INIT, b = STR_INIT;

	words_write(&a, &was->words);
	words_write(&b, &now->words);
	t->fn(t->arg, t->of, option, was->words.count > 0 ? str_text(&a) : NULL,
		now->words.count > 0 ? str_text(&b) : NULL);
	str_deinit(&a);
	str_deinit(&b);
}

static void
tell_values(const struct teller *t, const struct config_block *a, const struct config_block *b)
{
	for (size_t g = 0; g < ARRAY_COUNT(a->values); g++)
		for (size_t i = 0; option_at(a, g, i) != NULL; i++)
			if (!same_words(&a->values[g][i].words, &b->values[g][i].words))
				tell(t, option_at(a, g, i)->name, &a->values[g][i], &b->values[g][i]);
}

/* Blocks without a name of their own are told apart by their number among their like. */
static int
number_of(const struct config_block_list *list, const struct config_block *block)
{
	const struct config_block *b;
	int n = 1;

	TAILQ_FOREACH(b, list, next)
	{
		if (b == block)
			break;
		n += b->section == block->section;
	}
	return n;
}

static const struct config_block *
counterpart(const struct config_block_list *in, const struct config_block_list *of, const struct config_block *block)
{
	const struct config_block *b;
	int number = number_of(of, block);

	TAILQ_FOREACH(b, in, next)
		if (b->section == block->section && strcmp(b->name, block->name) == 0 &&
			(block->section->arity != CONFIG_MANY || number_of(in, b) == number))
			return b;
	return NULL;
}

static void
name_block(const struct teller *t, const struct config_block_list *list, const struct config_block *b, struct str *out)
{
	if (*t->of != '\0')
		str_printf(out, "%s ", t->of);
	str_add(out, b->section->name);
	if (b->section->arity == CONFIG_MANY)
		str_printf(out, " %d", number_of(list, b));
	else if (*b->name != '\0')
		str_printf(out, " %s", b->name);
}

static void tell_blocks(const struct teller *t, const struct config_block *a, const struct config_block *b);

/* The list is that of the first one there is. */
static void
tell_one(const struct teller *outer, const struct config_block_list *list, const struct config_block *was,
	const struct config_block *now)
{
	struct str name = STR_INIT;
	struct teller t = *outer;

	name_block(outer, list, was != NULL ? was : now, &name);
	t.of = str_text(&name);
	if (was == NULL || now == NULL) {
		t.fn(t.arg, t.of, NULL, was != NULL ? "there" : NULL, now != NULL ? "there" : NULL);
	} else {
		tell_values(&t, was, now);
		tell_blocks(&t, was, now);
	}
	str_deinit(&name);
}

static void
tell_blocks(const struct teller *t, const struct config_block *a, const struct config_block *b)
{
	const struct config_block *x;

	TAILQ_FOREACH(x, a->blocks, next)
		tell_one(t, a->blocks, x, counterpart(b->blocks, a->blocks, x));
	TAILQ_FOREACH(x, b->blocks, next)
		if (counterpart(a->blocks, b->blocks, x) == NULL)
			tell_one(t, b->blocks, NULL, x);
}

static const struct config_list_file *
find_list(const struct config *conf, const char *name)
{
	const struct config_list_file *f;

	STAILQ_FOREACH(f, &conf->lists, next)
		if (strcmp(f->name, name) == 0)
			return f;
	return NULL;
}

/* One that comes or goes does so with an option, which is told. */
static void
tell_lists(const struct teller *t, const struct config *was, const struct config *now)
{
	const struct config_list_file *a, *b;

	STAILQ_FOREACH(b, &now->lists, next)
	{
		struct str of = STR_INIT;
		char before[40], after[40];

		a = find_list(was, b->name);
		if (a == NULL || a->digest == b->digest)
			continue;
		str_printf(&of, "file %s", b->name);
		snprintf(before, sizeof(before), "%zu lines", a->lines);
		snprintf(after, sizeof(after), "%zu lines", b->lines);
		t->fn(t->arg, str_text(&of), NULL, before, after);
		str_deinit(&of);
	}
}

void
config_diff(const struct config *was, const struct config *now, config_diff_fn fn, void *arg)
{
	const struct teller t = { .fn = fn, .arg = arg, .of = "" };

	tell_values(&t, was->top, now->top);
	tell_blocks(&t, was->top, now->top);
	tell_lists(&t, was, now);
}
