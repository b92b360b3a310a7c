/*
 * t/unit/test_body.c - chunks, dot lines, and how a body ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <errno.h>
#include <unistd.h>

#include "t/unit/content.h"

static void
an_empty_body_ends_in_crlf_and_reads_as_nothing(void **state)
{
	struct mail_body b;
	char c;

	(void)state;
	mail_body_init(&b);
	assert_true(b.ends_in_crlf);
	assert_int_equal(b.size, 0);
	assert_int_equal(mail_body_read(&b, 0, &c, 1), 0);
	mail_body_deinit(&b);
}

static void
the_end_of_the_last_line_is_known_at_any_split(void **state)
{
	static const struct {
		const char *text;
		bool ends_in_crlf;
	} cases[] = {
		{"a\r\n", true},
		{"\r\n", true},
		{"a", false},
		{"a\r", false},
		{"a\r\nb", false},
		{"\n", false},
		{"\r\n\n", false},
		{"a\r\n\r\n", true},
		{".", false},
		{"\r\n.", false},
		{"\r\n.\r\n", true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		for (size_t part = 1; part <= 6; part++) {
			struct mail_body b;

			mail_body_init(&b);
			content_add(&b, NULL, cases[i].text, strlen(cases[i].text), part);
			assert_int_equal(b.ends_in_crlf, cases[i].ends_in_crlf);
			assert_int_equal(b.size, strlen(cases[i].text));
			mail_body_deinit(&b);
		}
	}
}

static void
dot_lines_are_noted_with_their_offsets(void **state)
{
	static const int64_t expected[] = {0, 5, 9};
	struct mail_body b;

	(void)state;
	content_init(&b, ".a.\r\n..\r\n.\r\nx.\r\n");
	assert_int_equal(b.dot_count, ARRAY_COUNT(expected));
	for (size_t i = 0; i < b.dot_count; i++)
		assert_int_equal(b.dots[i], expected[i]);
	assert_false(b.dots_unknown);
	mail_body_deinit(&b);
}

static void
too_many_dot_lines_are_forgotten_together(void **state)
{
	struct mail_body b;

	(void)state;
	mail_body_init(&b);
	for (int i = 0; i < MAIL_BODY_DOTS_MAX; i++)
		content_add(&b, NULL, ".\r\n", 3, SIZE_MAX);
	assert_int_equal(b.dot_count, MAIL_BODY_DOTS_MAX);
	assert_false(b.dots_unknown);
	for (int i = 0; i < 3; i++)
		content_add(&b, NULL, ".\r\n", 3, SIZE_MAX);
	assert_true(b.dots_unknown);
	assert_int_equal(b.dot_count, 0);
	mail_body_deinit(&b);
}

static void
reading_crosses_chunks_at_any_offset(void **state)
{
	enum { SIZE = 100000 };
	static const int64_t offsets[] = {0, 1, 8000, 8191, 8192, 16384, 40000, SIZE - 1};
	static const size_t lengths[] = {1, 2, 8192, 16384, 50000, SIZE};
	static char text[SIZE], copy[SIZE];
	struct mail_body b;

	(void)state;
	for (size_t i = 0; i < SIZE; i++)
		text[i] = 'a' + i % 23;
	mail_body_init(&b);
	content_add(&b, NULL, text, SIZE, 777);
	for (size_t i = 0; i < ARRAY_COUNT(offsets); i++) {
		for (size_t j = 0; j < ARRAY_COUNT(lengths); j++) {
			size_t left = SIZE - offsets[i];
			size_t expected = lengths[j] < left ? lengths[j] : left;

			assert_int_equal(
				mail_body_read(&b, offsets[i], copy, lengths[j]), expected);
			assert_memory_equal(copy, text + offsets[i], expected);
		}
	}
	assert_int_equal(mail_body_read(&b, SIZE, copy, 1), 0);
	mail_body_deinit(&b);
}

static void
a_mail_of_four_kib_takes_one_chunk(void **state)
{
	static char text[5000];
	struct mail_body b;

	(void)state;
	memset(text, 'x', sizeof(text));
	mail_body_init(&b);
	content_add(&b, NULL, text, sizeof(text), 1400);
	assert_null(STAILQ_NEXT(STAILQ_FIRST(&b.chunks), next));
	mail_body_deinit(&b);
}

static void
a_file_that_cannot_be_read_is_an_error(void **state)
{
	struct mail_body b;
	char c;

	(void)state;
	mail_body_init(&b);
	mail_body_note(&b, "abc", 3, false);
	b.fd = 1000000;
	assert_int_equal(mail_body_read(&b, 0, &c, 1), -1);
	assert_int_equal(errno, EBADF);
	b.fd = -1;
	mail_body_deinit(&b);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_body_ends_in_crlf_and_reads_as_nothing),
		cmocka_unit_test(the_end_of_the_last_line_is_known_at_any_split),
		cmocka_unit_test(dot_lines_are_noted_with_their_offsets),
		cmocka_unit_test(too_many_dot_lines_are_forgotten_together),
		cmocka_unit_test(reading_crosses_chunks_at_any_offset),
		cmocka_unit_test(a_mail_of_four_kib_takes_one_chunk),
		cmocka_unit_test(a_file_that_cannot_be_read_is_an_error),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
