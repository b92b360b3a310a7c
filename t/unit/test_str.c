/*
 * t/unit/test_str.c - the growing string, cleaning of foreign text, distance of words; struct err.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/str.h"

static void
an_empty_string_has_empty_text_and_no_memory(void **state)
{
	struct str s = STR_INIT;

	(void)state;
	assert_string_equal(str_text(&s), "");
	str_clear(&s);
	str_drop(&s, 5);
	assert_null(s.data);
	str_add(&s, "");
	assert_non_null(s.data);
	str_deinit(&s);
	assert_null(s.data);
}

static void
what_is_added_stands_in_order_and_ends_with_nul(void **state)
{
	struct str s = STR_INIT;
	size_t i;

	(void)state;
	for (i = 0; i < 1000; i++) {
		str_printf(&s, "%03zu", i);
		assert_int_equal(s.data[s.len], '\0');
	}
	str_addc(&s, '!');
	str_addn(&s, "a\0b", 3);
	assert_int_equal(s.len, 3004);
	assert_memory_equal(s.data + 2997, "999!a\0b", 8);
	str_drop(&s, 3001);
	assert_memory_equal(s.data, "a\0b", 4);
	str_drop(&s, 3);
	assert_int_equal(s.len, 0);
	str_printf(&s, "%0200d", 7);
	assert_int_equal(s.len, 200);
	str_deinit(&s);
}

static const struct {
	const char *in;
	bool utf8;
	size_t max;
	const char *want;
} cleanings[] = {
	{"plain text", false, 100, "plain text"},
	{"a\r\nb\tc\x01", false, 100, "a  b c "},
	{"b\xc3\xbc"
	 "cher",
		false, 100, "b??cher"},
	{"b\xc3\xbc"
	 "cher",
		true, 100,
		"b\xc3\xbc"
		"cher"},
	{"\xff\xc3(\x7f", true, 100, "?" "?(?"},
	{"\xc2\x9b"
	 "31m",
		true, 100, "?31m"},
	{"\xed\xa0\x80", true, 100, "???"},
	{"\xc0\xaf", true, 100, "??"},
	{"abcdef", false, 3, "abc"},
	{"ab\xc3\xbc", true, 3, "ab"},
	{"", true, 0, ""},
};

static void
cleaned_text_fits_one_line(void **state)
{
	char dst[101];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cleanings) / sizeof(cleanings[0]); i++) {
		size_t len = str_clean(dst, cleanings[i].max, cleanings[i].in,
			strlen(cleanings[i].in), cleanings[i].utf8);

		assert_string_equal(dst, cleanings[i].want);
		assert_int_equal(len, strlen(cleanings[i].want));
	}
	assert_int_equal(str_clean(dst, 100, "a\0b", 3, false), 3);
	assert_string_equal(dst, "a b");
}

static void
printable_is_ascii_without_controls(void **state)
{
	(void)state;
	assert_true(str_is_printable(""));
	assert_true(str_is_printable(" a~"));
	assert_false(str_is_printable("a\tb"));
	assert_false(str_is_printable("a\x7f"));
	assert_false(str_is_printable("\xc3\xbc"));
	assert_false(str_is_printable("a\n"));
}

static const struct {
	const char *in;
	size_t want;
} sequences[] = {
	{"a", 1},
	{"\xc3\xbc", 2},
	{"\xe2\x82\xac", 3},
	{"\xf0\x9f\x93\xa7", 4},
	{"\x80", 0},
	{"\xc1\xbf", 0},
	{"\xe0\x9f\xbf", 0},
	{"\xed\xa0\x80", 0},
	{"\xf0\x8f\xbf\xbf", 0},
	{"\xf4\x90\x80\x80", 0},
	{"\xf5\x80\x80\x80", 0},
	{"\xe2\x82", 0},
	{"\xf0\x9f\x93z", 0},
	{"", 0},
};

static void
only_well_formed_utf8_has_a_length(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(sequences) / sizeof(sequences[0]); i++)
		assert_int_equal(
			str_utf8_len(sequences[i].in, strlen(sequences[i].in)), sequences[i].want);
}

static const struct {
	const char *a, *b;
	unsigned want;
} distances[] = {
	{"", "", 0},
	{"a", "", 1},
	{"", "abc", 3},
	{"listen", "listen", 0},
	{"lisen", "listen", 1},
	{"smpt", "smtp", 1},
	{"kitten", "sitting", 3},
	{"ab", "ba", 1},
	{"abc", "cab", 2},
};

static void
distance_counts_changes_and_swaps(void **state)
{
	char endless[200];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(distances) / sizeof(distances[0]); i++) {
		assert_int_equal(str_distance(distances[i].a, distances[i].b), distances[i].want);
		assert_int_equal(str_distance(distances[i].b, distances[i].a), distances[i].want);
	}
	memset(endless, 'a', sizeof(endless) - 1);
	endless[sizeof(endless) - 1] = '\0';
	assert_true(str_distance(endless, "a") > 1000);
	assert_true(str_caseeq("MAIL", "mail"));
	assert_false(str_caseeq("MAIL", "mai"));
}

static void
an_error_is_one_clean_line_with_its_context_in_front(void **state)
{
	struct err err;
	char endless[2000];

	(void)state;
	assert_int_equal(err_set(&err, "no %s", "such\nthing"), -1);
	assert_string_equal(err.text, "no such thing");
	assert_false(err.temporary);
	assert_int_equal(err_set_temp(&err, "%s again", err.text), -1);
	assert_string_equal(err.text, "no such thing again");
	assert_true(err.temporary);
	err_prefix(&err, "file %d", 3);
	assert_string_equal(err.text, "file 3: no such thing again");
	assert_true(err.temporary);
	errno = ENOENT;
	err_sys(&err, "open %s", "/x");
	assert_string_equal(err.text, "open /x: No such file or directory");
	assert_true(err.temporary);
	memset(endless, 'a', sizeof(endless) - 1);
	endless[sizeof(endless) - 1] = '\0';
	err_set(&err, "%s", endless);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

static void
a_turned_clock_goes_on_from_there(void **state)
{
	uint64_t before = clock_ms();
	time_t wall = clock_wall();

	(void)state;
	clock_turn_ms(3600 * 1000);
	assert_in_range(clock_ms() - before, 3600 * 1000, 3660 * 1000);
	assert_in_range(clock_wall() - wall, 3600, 3660);
	assert_in_range(clock_wall_ms() / 1000 - wall, 3600, 3660);
	clock_turn_ms(-3600 * 1000);
	assert_in_range(clock_us() / 1000 - before, 0, 60 * 1000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_string_has_empty_text_and_no_memory),
		cmocka_unit_test(what_is_added_stands_in_order_and_ends_with_nul),
		cmocka_unit_test(cleaned_text_fits_one_line),
		cmocka_unit_test(printable_is_ascii_without_controls),
		cmocka_unit_test(only_well_formed_utf8_has_a_length),
		cmocka_unit_test(distance_counts_changes_and_swaps),
		cmocka_unit_test(an_error_is_one_clean_line_with_its_context_in_front),
		cmocka_unit_test(a_turned_clock_goes_on_from_there),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
