/*
 * t/fuzz/fuzz_config.c - any text gives a complete configuration, and a good one survives being
 * printed.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "config/config.h"

#define MUST(x) ((x) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct all_types {
	bool b;
	int i, a, e;
	int64_t s, d;
	const char *t;
	struct config_words w;
	struct config_endpoints ep;
	struct config_nets n;
	struct config_ref r;
};

static const char *const choices[] = {"one", "two", "three", NULL};
static const struct config_option options[] = {
	CONFIG_BOOL("b", struct all_types, b, "yes", "a boolean"),
	CONFIG_INT("i", struct all_types, i, "5", -3, 100, "a number"),
	CONFIG_AUTO_INT("a", struct all_types, a, "auto", 1, 9, "a number or auto"),
	CONFIG_ENUM("e", struct all_types, e, "two", choices, "a choice"),
	CONFIG_SIZE("s", struct all_types, s, "64K", 0, 1LL << 40, "a size"),
	CONFIG_DURATION("d", struct all_types, d, "30s", 0, 1LL << 40, "a duration"),
	CONFIG_STRING("t", struct all_types, t, NULL, "a word"),
	CONFIG_WORDS("w", struct all_types, w, "/a b/ \"c d\" e", "words"),
	CONFIG_ENDPOINTS("ep", struct all_types, ep, NULL, "endpoints"),
	CONFIG_NETS("n", struct all_types, n, "::1 unix", "networks"),
	CONFIG_REF("r", struct all_types, r, "a name"),
	CONFIG_END,
};
static const struct config_section one = {
	.name = "one",
	.arity = CONFIG_ONE,
	.help = "the only one",
	.groups = {{options, sizeof(struct all_types)}},
};
static const struct config_section *const inner[] = {&one, NULL};
static const struct config_section many = {
	.name = "many",
	.arity = CONFIG_MANY,
	.help = "any number",
	.sections = inner,
};
static const struct config_section named = {
	.name = "named",
	.arity = CONFIG_NAMED,
	.help = "with a name",
	.sections = inner,
	.groups = {{options, sizeof(struct all_types)}},
};
static const struct config_section *const sections[] = {&one, &many, &named, NULL};
static const struct config_section top = {
	.name = "",
	.help = "",
	.arity = CONFIG_ONE,
	.sections = sections,
	.groups = {{options, sizeof(struct all_types)}},
};

static void
check_problems(const struct config *conf)
{
	const struct config_problem *p;
	const char *s;

	MUST(conf->error_count == 0 || !TAILQ_EMPTY(&conf->problems));
	TAILQ_FOREACH(p, &conf->problems, next)
	{
		MUST(strncmp(p->text, "f:", 2) == 0);
		MUST(p->place.line > 0 && p->place.column > 0);
		for (s = p->text; *s != '\0'; s++)
			MUST((unsigned char)*s >= ' ');
	}
}

static void
same_value(const struct config_value *a, const struct config_value *b)
{
	size_t i;

	MUST((a->place.file == NULL) == (b->place.file == NULL));
	MUST(a->words.count == b->words.count);
	for (i = 0; i < a->words.count; i++) {
		MUST(strcmp(a->words.list[i].text, b->words.list[i].text) == 0);
		MUST((a->words.list[i].kind == CONFIG_WORD_PATTERN) ==
			(b->words.list[i].kind == CONFIG_WORD_PATTERN));
	}
}

static void
same_block(const struct config_block *a, const struct config_block *b)
{
	const struct config_block *x, *y;
	size_t i;

	MUST(a->section == b->section && strcmp(a->name, b->name) == 0);
	MUST((a->place.file == NULL) == (b->place.file == NULL));
	if (a->section->groups[0].options != NULL) {
		for (i = 0; options[i].name != NULL; i++)
			same_value(&a->values[0][i], &b->values[0][i]);
	}
	x = TAILQ_FIRST(a->blocks);
	y = TAILQ_FIRST(b->blocks);
	for (; x != NULL && y != NULL; x = TAILQ_NEXT(x, next), y = TAILQ_NEXT(y, next))
		same_block(x, y);
	MUST(x == NULL && y == NULL);
	MUST(a->section->sections == NULL || config_find_one(a, "one") != NULL ||
		a->section == &one);
}

static void
check_round_trip(const struct config *conf)
{
	struct config *again;
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	MUST(out != NULL);
	config_print_effective(conf, out);
	fclose(out);
	MUST(config_load_text("f", text, len, &top, &again) == 0);
	same_block(conf->top, again->top);
	config_unref(&again);
	free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *conf;
	int rc;

	if (memmem(data, size, "include", 7) != NULL) /* it would read files */
		return 0;
	rc = config_load_text("f", (const char *)data, size, &top, &conf);
	MUST(conf->top != NULL && (rc == 0) == (conf->error_count == 0));
	check_problems(conf);
	if (rc == 0)
		check_round_trip(conf);
	config_unref(&conf);
	return 0;
}
