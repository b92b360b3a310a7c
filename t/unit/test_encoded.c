/* t/unit/test_encoded.c - RFC 2047: what is decoded, and what stays as it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/str.h"
#include "mail/encoded.h"

static const struct {
	const char *text, *want;
} cases[] = {
	{"", ""},
	{"plain", "plain"},
	{"  a  b ", "  a  b "},
	{"=?utf-8?Q?M=C3=BCller?=", "M\xc3\xbcller"},
	{"=?UTF-8?q?a_b=5Fc?=", "a b_c"},
	{"=?utf-8?B?TcO8bGxlcg==?=", "M\xc3\xbcller"},
	{"=?utf-8?b?TcO8bGxlcg?=", "M\xc3\xbcller"},
	{"=?us-ascii?Q?Viagra?=", "Viagra"},
	{"=?iso-8859-1?Q?M=FCller?=", "M\xc3\xbcller"},
	{"=?ISO-8859-15?Q?=A4?=", "\xe2\x82\xac"},
	{"=?windows-1252?Q?=80?=", "\xe2\x82\xac"},
	{"=?koi8-r?B?8NLJ18XU?=", "\xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82"},
	{"=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "\xe6\x97\xa5\xe6\x9c\xac"},
	/* conversions that keep the last character, for a mark that may follow */
	{"=?windows-1258?Q?casino?=", "casino"},
	{"=?windows-1258?Q?xyz?= a", "xyz a"},
	{"=?windows-1258?Q?xyz?= =?utf-8?Q?a?=", "xyza"},
	{"=?windows-1255?Q?=F9=EC=E5=ED?=", "\xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d"},
	/* with a language (RFC 2231 5) */
	{"=?iso-8859-1*de?Q?=FC?=", "\xc3\xbc"},
	/* text around it, and neighbours (RFC 2047 8) */
	{"Re: =?utf-8?Q?a?= b", "Re: a b"},
	{"=?utf-8?Q?a?= =?utf-8?Q?b?=", "ab"},
	{"=?utf-8?Q?a?=  \t =?utf-8?Q?b?=", "ab"},
	{"=?utf-8?Q?a_?= =?iso-8859-1?Q?=FC?=", "a \xc3\xbc"},
	{"=?utf-8?Q?a?==?utf-8?Q?b?=", "ab"},
	{"=?utf-8?Q?a?= b =?utf-8?Q?c?=", "a b c"},
	{"=?utf-8?Q?a?= ", "a "},
	/* a character cut in two */
	{"=?utf-8?Q?M=C3?= =?utf-8?Q?=BCller?=", "M\xc3\xbcller"},
	{"=?utf-8?B?TcM=?= =?UTF-8?Q?=BCller?=", "M\xc3\xbcller"},
	/* blanks inside, as some write it */
	{"=?utf-8?Q?a b?=", "a b"},
	/* no encoded words */
	{"=?utf-8?Q?a", "=?utf-8?Q?a"},
	{"=?utf-8?Q?a?", "=?utf-8?Q?a?"},
	{"=?utf-8?X?a?=", "=?utf-8?X?a?="},
	{"=??Q?a?=", "=??Q?a?="},
	{"=?*de?Q?a?=", "=?*de?Q?a?="},
	{"=?utf-8?Qa?=", "=?utf-8?Qa?="},
	{"=?", "=?"},
	{"a =? b ?= c", "a =? b ?= c"},
	/* digits that are none */
	{"=?utf-8?Q?a=4?=", "a=4"},
	{"=?utf-8?Q?a=XY=?=", "a=XY="},
	{"=?utf-8?B?T-W-E?=", "Ma"},
	/* octets that the set does not have, and sets that nobody knows */
	{"=?ascii?Q?=80b?=", "?b"},
	{"=?iso-2022-jp?B?GyRCRg==?=", "?"},
	{"=?x-nobody?Q?=FC?=", "\xfc"},
	{"=?utf-8//TRANSLIT?Q?=FC?=", "\xfc"},
	{"=?iso-8859-1,TRANSLIT?Q?=FC?=", "\xfc"},
	{"=?xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx?Q?=FC?=", "\xfc"},
};

static void
encoded_words_become_utf8_and_all_else_stays(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct arena *arena = arena_new();
		size_t len;
		const char *got = mail_decode(cases[i].text, strlen(cases[i].text), arena, &len);

		if (len != strlen(cases[i].want) || memcmp(got, cases[i].want, len) != 0)
			fail_msg("\"%s\" becomes \"%s\", not \"%s\"", cases[i].text, got, cases[i].want);
		arena_free(&arena);
	}
}

static void
a_text_may_end_in_the_middle_of_a_word(void **state)
{
	static const char word[] = "=?utf-8?B?TcO8?= =?utf-8?Q?=C3=BC?=";
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(word); i++) {
		struct arena *arena = arena_new();
		char *end = arena_strndup(arena, word, i);

		mail_decode(end, i, arena, &len);
		assert_true(len <= i);
		arena_free(&arena);
	}
}

static void
what_is_encoded_is_the_same_when_decoded(void **state)
{
	static const char *const texts[] = {"", "a", "ab", "abc", "*** SPAM *** M\xc3\xbcller",
		"\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac"
		"\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac",
		"xx\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac"
		"\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac"};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
		struct arena *arena = arena_new();
		const char *encoded = mail_encode(texts[i], arena), *line = encoded;
		struct str unfolded = STR_INIT;
		size_t len;

		for (; line != NULL; line = strstr(line, "\r\n") != NULL ? strstr(line, "\r\n") + 2 : NULL) {
			assert_true(strcspn(line, "\r") <= 76);
			str_addn(&unfolded, line, strcspn(line, "\r"));
		}
		assert_string_equal(mail_decode(str_text(&unfolded), unfolded.len, arena, &len), texts[i]);
		str_deinit(&unfolded);
		arena_free(&arena);
	}
}

/* Each of 4000 words names another set than the one before: that must not open 4000. */
static void
many_character_sets_cost_no_more_than_few(void **state)
{
	struct arena *arena = arena_new();
	struct str text = STR_INIT;
	uint64_t begin = clock_ms();
	size_t len;

	(void)state;
	for (int i = 0; i < 4000; i++)
		str_printf(&text, "=?iso-8859-%d?Q?=41?= ", i % 9 + 1);
	mail_decode(text.data, text.len, arena, &len);
	assert_int_equal(len, 4001);
	assert_true(clock_ms() - begin < 2000);
	str_deinit(&text);
	arena_free(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(encoded_words_become_utf8_and_all_else_stays),
		cmocka_unit_test(a_text_may_end_in_the_middle_of_a_word),
		cmocka_unit_test(what_is_encoded_is_the_same_when_decoded),
		cmocka_unit_test(many_character_sets_cost_no_more_than_few),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
