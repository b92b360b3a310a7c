/*
 * t/unit/test_diff.c - what differs between two configurations, and which blocks are the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/list.h"
#include "base/str.h"
#include "config/config.h"

struct data {
	const char *text;
	int number;
	struct config_words words;
};

static const struct config_option options[] = {
	CONFIG_STRING("text", struct data, text, "plain", "a text"),
	CONFIG_INT("number", struct data, number, "5", 0, 100, "a number"),
	CONFIG_WORDS("words", struct data, words, NULL, "words"),
	CONFIG_END,
};
#define SECTION(variable, word, how, ...)                                                                              \
	static const struct config_section variable = {                                                                \
		.name = word, .help = "x", .arity = how, .groups = { { options, sizeof(struct data) } }, __VA_ARGS__   \
	}
SECTION(inner, "inner", CONFIG_ONE, .space = NULL);
static const struct config_section *const inner_sections[] = { &inner, NULL };
SECTION(one, "one", CONFIG_ONE, .space = NULL);
SECTION(named, "named", CONFIG_NAMED, .space = "things", .sections = inner_sections);
SECTION(other, "other", CONFIG_NAMED, .space = "things", .sections = inner_sections);
SECTION(many, "many", CONFIG_MANY, .space = NULL);
static const struct config_section *const sections[] = { &one, &named, &other, &many, NULL };
static const struct config_section top = {
	.name = "", .help = "", .arity = CONFIG_ONE, .groups = { { options, sizeof(struct data) } }, .sections = sections,
};

static struct config *
load(const char *name, const char *text)
{
	struct config *conf;

	assert_int_equal(config_load_text(name, text, strlen(text), &top, &conf), 0);
	return conf;
}

static void
note(void *arg, const char *of, const char *option, const char *was, const char *now)
{
	str_printf(arg, "[%s] %s: %s -> %s\n", of, option != NULL ? option : "*", was != NULL ? was : "-",
		now != NULL ? now : "-");
}

static const struct {
	const char *was, *now, *want;
} cases[] = {
	{ "", "", "" },
	{ "number 1\nnamed a { }", "# another line\n\nnamed a {\n}\nnumber   1", "" },
	{ "", "number 5", "" }, /* written, and the default: nothing to tell */
	{ "", "number 6", "[] number: 5 -> 6\n" },
	{ "number 6", "", "[] number: 6 -> 5\n" },
	{ "", "words a \"b c\"", "[] words: - -> a \"b c\"\n" },
	{ "words a b", "words a", "[] words: a b -> a\n" },
	{ "words \"a b\"", "words a b", "[] words: \"a b\" -> a b\n" },
	{ "words a b", "words b a", "[] words: a b -> b a\n" },
	{ "one { number 1 }", "one { number 2 }", "[one] number: 1 -> 2\n" },
	{ "", "one { number 2 }", "[one] number: 5 -> 2\n" }, /* it is always there */
	{ "named a { number 1 }", "named b { number 1 }", "[named a] *: there -> -\n[named b] *: - -> there\n" },
	{ "named a { }\nnamed b { }", "named b { }\nnamed a { }", "" },
	{ "named a { }", "other a { }", "[named a] *: there -> -\n[other a] *: - -> there\n" },
	{ "named a { inner { text x } }", "named a { inner { text y } }", "[named a inner] text: x -> y\n" },
	{ "named a { }", "named a { inner { text y } }", "[named a inner] text: plain -> y\n" },
	{ "many { number 1 }", "many { number 1 }\nmany { number 2 }", "[many 2] *: - -> there\n" },
	{ "many { number 1 }\nmany { number 2 }", "many { number 2 }", "[many 1] number: 1 -> 2\n[many 2] *: there -> -\n" },
	{ "number 1\ntext a\nmany { }\nnamed a { }", "number 2\ntext b\nmany { text c }",
		"[] text: a -> b\n[] number: 1 -> 2\n[many 1] text: plain -> c\n[named a] *: there -> -\n" },
};

static void
each_difference_is_told_in_the_words_of_the_file(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct config *was = load("was", cases[i].was), *now = load("now", cases[i].now);
		struct str told = STR_INIT;

		config_diff(was, now, note, &told);
		assert_string_equal(str_text(&told), cases[i].want);
		str_deinit(&told);
		config_unref(&was);
		config_unref(&now);
	}
}

static bool
is_same(const char *a, const char *b)
{
	struct config *x = load("a", a), *y = load("b", b);
	bool same = config_block_same(config_find_named(x, "things", "n"), config_find_named(y, "things", "n"));

	config_unref(&x);
	config_unref(&y);
	return same;
}

static void
blocks_are_the_same_when_the_same_is_written_in_them(void **state)
{
	static const struct { const char *a, *b; bool want; } pairs[] = {
		{ "named n { }", "number 7\nnamed m { }\nnamed n { # x\n }", true },
		{ "named n { number 1; text a }", "named n { text a; number 1 }", true },
		{ "named n { number 1 }", "named n { number 2 }", false },
		{ "named n { }", "named n { number 5 }", false }, /* "was it written?" may matter */
		{ "named n { }", "other n { }", false },
		{ "named n { words a b }", "named n { words \"a b\" }", false },
		{ "named n { inner { number 1 } }", "named n { inner { number 1 } }", true },
		{ "named n { inner { number 1 } }", "named n { inner { number 2 } }", false },
		{ "named n { inner { number 1 } }", "named n { }", false },
		{ "named n { }", "named n { inner { number 1 } }", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(pairs); i++)
		assert_int_equal(is_same(pairs[i].a, pairs[i].b), pairs[i].want);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_difference_is_told_in_the_words_of_the_file),
		cmocka_unit_test(blocks_are_the_same_when_the_same_is_written_in_them),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
