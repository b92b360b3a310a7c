/*
 * t/unit/test_match.c - words and patterns against addresses, and patterns that take too long.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "base/match.h"

static const struct {
	struct match_word word;
	const char *address;
	enum match_result want;
} cases[] = {
	{{"ann@example.org", false}, "ann@example.org", MATCH_YES},
	{{"Ann@Example.ORG", false}, "aNN@eXample.org", MATCH_YES},
	{{"ann@example.org", false}, "joann@example.org", MATCH_NO},
	{{"ann@example.org", false}, "ann@example.org.uk", MATCH_NO},
	{{"ann@example.org", false}, "ann@mx.example.org", MATCH_NO},
	{{"@example.org", false}, "bob@example.org", MATCH_YES},
	{{"@example.org", false}, "bob@EXAMPLE.org", MATCH_YES},
	{{"@example.org", false}, "bob@sub.example.org", MATCH_NO},
	{{"@example.org", false}, "bob@badexample.org", MATCH_NO},
	{{"@example.org", false}, "\"x@y\"@example.org", MATCH_YES},
	{{"@example.org", false}, "example.org", MATCH_NO},
	{{".example.org", false}, "bob@sub.example.org", MATCH_YES},
	{{".example.org", false}, "bob@a.b.example.org", MATCH_YES},
	{{".example.org", false}, "bob@example.org", MATCH_NO},
	{{".example.org", false}, "bob@badexample.org", MATCH_NO},
	{{".org", false}, "bob@example.org", MATCH_YES},
	{{".example.org", false}, "mail.example.org", MATCH_YES},
	{{".example.org", false}, "mail.EXAMPLE.org", MATCH_YES},
	{{".example.org", false}, "example.org", MATCH_NO},
	{{"mail.example.org", false}, "mail.example.org", MATCH_YES},
	{{"example.org", false}, "mail.example.org", MATCH_NO},
	{{".example.org", false}, "a.example.org@other.net", MATCH_NO},
	{{"<>", false}, "", MATCH_YES},
	{{"", false}, "", MATCH_YES},
	{{"<>", false}, "a@b", MATCH_NO},
	{{"a@b", false}, "", MATCH_NO},
	{{"postmaster", false}, "Postmaster", MATCH_YES},
	{{"@partner\\.example$", true}, "x@PARTNER.example", MATCH_YES},
	{{"@partner\\.example$", true}, "x@partnerxexample", MATCH_NO},
	{{"ann", true}, "joanna@x", MATCH_YES},
	{{"^$", true}, "", MATCH_YES},
	{{"^m\xc3\xbc", true}, "M\xc3\x9cLLER@x", MATCH_YES},
	{{"ann", true},
		"\xff\xfe"
		"ann@x",
		MATCH_YES},
	{{"(a+)+$", true}, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", MATCH_ERROR},
};

static void
a_word_or_pattern_matches_what_it_says(void **state)
{
	struct match_list *list;
	struct err err;
	size_t i, bad;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		list = match_list_new(MATCH_ADDRESSES, &cases[i].word, 1, &bad, &err);
		assert_non_null(list);
		if (match_list_ask(list, cases[i].address, strlen(cases[i].address), &err) !=
			cases[i].want)
			fail_msg("%s against %s", cases[i].word.text, cases[i].address);
		match_list_free(&list);
		assert_null(list);
	}
	match_list_free(&list);
}

static void
a_word_for_texts_is_the_whole_text(void **state)
{
	static const struct {
		const char *word, *text;
		enum match_result want;
	} rows[] = {
		{"ask bob@all.log", "Ask BOB@all.log", MATCH_YES},
		{"@all.log", "ask bob@all.log", MATCH_NO},
		{"@all.log", "@all.log", MATCH_YES},
		{".log", "report.log", MATCH_NO},
		{".log", "ask bob@all.log", MATCH_NO},
		{".log", ".log", MATCH_YES},
		{"", "", MATCH_YES},
		{"<>", "", MATCH_NO},
		{"<>", "<>", MATCH_YES},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct match_word word = {rows[i].word, false};
		struct match_list *list;
		struct err err;
		size_t bad;

		list = match_list_new(MATCH_TEXTS, &word, 1, &bad, &err);
		if (match_list_ask(list, rows[i].text, strlen(rows[i].text), &err) != rows[i].want)
			fail_msg("%s against %s", rows[i].word, rows[i].text);
		match_list_free(&list);
	}
}

static void
a_pattern_over_its_limits_is_an_error_unless_another_one_matches(void **state)
{
	static const struct match_word words[] = {
		{"(a+)+$", true},
		{"ok@x", false},
		{"b$", true},
	};
	const char *slow = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab";
	struct match_list *list;
	struct err err;
	size_t bad;

	(void)state;
	list = match_list_new(MATCH_ADDRESSES, words, 2, &bad, &err);
	assert_int_equal(match_list_ask(list, slow, strlen(slow), &err), MATCH_ERROR);
	assert_string_equal(err.text, "pattern /(a+)+$/: match limit exceeded");
	assert_int_equal(match_list_ask(list, "ok@x", 4, &err), MATCH_YES);
	match_list_free(&list);
	list = match_list_new(MATCH_ADDRESSES, words, 3, &bad, &err);
	assert_int_equal(match_list_ask(list, slow, strlen(slow), &err), MATCH_YES);
	match_list_free(&list);
}

static void
a_wrong_pattern_is_named(void **state)
{
	static const struct match_word words[] = {
		{"a", false},
		{"fine", true},
		{"a(b", true},
	};
	struct err err;
	size_t bad = 99;

	(void)state;
	assert_null(match_list_new(MATCH_ADDRESSES, words, 3, &bad, &err));
	assert_int_equal(bad, 2);
	assert_string_equal(
		err.text, "pattern /a(b/: missing closing parenthesis (at its octet 4)");
}

static void
an_empty_list_matches_nothing(void **state)
{
	struct match_list *list;
	struct err err;
	size_t bad;

	(void)state;
	list = match_list_new(MATCH_ADDRESSES, NULL, 0, &bad, &err);
	assert_int_equal(match_list_ask(list, "", 0, &err), MATCH_NO);
	match_list_free(&list);
}

static void
an_endless_address_is_looked_up_all_the_same(void **state)
{
	static const struct match_word word = {".Example.Org", false};
	static char address[5000];
	struct match_list *list;
	struct err err;
	size_t bad;

	(void)state;
	memset(address, 'A', sizeof(address));
	address[100] = '@';
	memcpy(address + sizeof(address) - 12, ".EXAMPLE.ORG", 12);
	list = match_list_new(MATCH_ADDRESSES, &word, 1, &bad, &err);
	assert_int_equal(match_list_ask(list, address, sizeof(address), &err), MATCH_YES);
	assert_int_equal(match_list_ask(list, address, sizeof(address) - 1, &err), MATCH_NO);
	match_list_free(&list);
}

static void *
ask_often(void *arg)
{
	struct err err;
	int i;

	for (i = 0; i < 2000; i++) {
		if (match_list_ask(arg, "x@partner.example", 17, &err) != MATCH_YES ||
			match_list_ask(arg, "x@other.example", 15, &err) != MATCH_NO)
			return arg;
	}
	return NULL;
}

static void
many_threads_may_ask_at_once(void **state)
{
	static const struct match_word words[] = {{"@partner\\.example$", true}, {"a", false}};
	struct match_list *list;
	pthread_t threads[4];
	struct err err;
	void *failed;
	size_t i, bad;

	(void)state;
	list = match_list_new(MATCH_ADDRESSES, words, 2, &bad, &err);
	for (i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, ask_often, list), 0);
	for (i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], &failed), 0);
		assert_null(failed);
	}
	match_list_free(&list);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_word_or_pattern_matches_what_it_says),
		cmocka_unit_test(a_word_for_texts_is_the_whole_text),
		cmocka_unit_test(a_pattern_over_its_limits_is_an_error_unless_another_one_matches),
		cmocka_unit_test(a_wrong_pattern_is_named),
		cmocka_unit_test(an_empty_list_matches_nothing),
		cmocka_unit_test(an_endless_address_is_looked_up_all_the_same),
		cmocka_unit_test(many_threads_may_ask_at_once),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
