/*
 * t/unit/test_header.c - where the header block ends, and what its fields are.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <unistd.h>

#include "mail/header.h"
#include "t/unit/content.h"

#define MAX (1024 * 1024)

static const struct spool_conf in_file = {.directory = P_tmpdir, .inline_max = 0};
static struct arena *arena;

static int
new_arena(void **state)
{
	(void)state;
	arena = arena_new();
	return 0;
}

static int
free_arena(void **state)
{
	(void)state;
	arena_free(&arena);
	return 0;
}

static enum mail_header_load
load(const char *message, size_t len, size_t max, bool file, struct str *header)
{
	struct spool_worker worker = {0};
	enum mail_header_load rc;
	struct spool_writer w;
	struct mail_body b;
	const char *text;
	struct err err;

	mail_body_init(&b);
	spool_writer_init(&w, &in_file, &worker, &b);
	content_add(&b, file ? &w : NULL, message, len, SIZE_MAX);
	assert_int_equal(spool_finish(&w, &err), 0);
	rc = mail_header_load(&b, max, arena, &text, &len);
	str_clear(header);
	str_addn(header, text, len);
	spool_writer_deinit(&w);
	mail_body_deinit(&b);
	return rc;
}

static void
the_block_ends_before_the_empty_line(void **state)
{
	static const struct {
		const char *message, *header;
	} cases[] = {
		{"", ""},
		{"\r\n", ""},
		{"\r\nbody\r\n\r\n", ""},
		{"A: 1\r\n\r\nbody", "A: 1\r\n"},
		{"A: 1\r\n\r\n", "A: 1\r\n"},
		{"A: 1\r\n", "A: 1\r\n"},
		{"A: 1", "A: 1"},
		{"A: 1\r\n b\r\nB:\r\n\r\n\r\nC: 3\r\n", "A: 1\r\n b\r\nB:\r\n"},
		{"From a@b Mon\r\nA: 1\r\n\r\nx", "From a@b Mon\r\nA: 1\r\n"},
		{"no header\r\nat all", "no header\r\nat all"},
	};
	struct str header = STR_INIT;

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_COUNT(cases); i++) {
		const char *message = cases[i / 2].message;

		assert_int_equal(
			load(message, strlen(message), MAX, i % 2, &header), MAIL_HEADER_OK);
		assert_string_equal(header.data, cases[i / 2].header);
	}
	str_deinit(&header);
}

/* A block of exactly `size` octets, the empty line and some text. */
static void
make_block(struct str *message, size_t size)
{
	str_clear(message);
	str_add(message, "X: ");
	while (message->len + 2 < size)
		str_add(message,
			message->len % 61 == 60 && message->len + 20 < size ? "\r\n " : "v");
	str_add(message, "\r\n\r\nbody\r\n\r\nmore\r\n");
}

static void
long_blocks_are_read_whatever_boundary_they_end_at(void **state)
{
	static const size_t sizes[] = {8160, 8190, 8192, 16384, 24500, 65536, 100000};
	struct str message = STR_INIT, header = STR_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
		for (size_t size = sizes[i] - 5; size < sizes[i] + 5; size++) {
			make_block(&message, size);
			for (int file = 0; file < 2; file++) {
				assert_int_equal(
					load(message.data, message.len, MAX, file, &header),
					MAIL_HEADER_OK);
				assert_int_equal(header.len, size);
				assert_memory_equal(header.data, message.data, size);
				assert_int_equal(
					load(message.data, message.len, size, file, &header),
					MAIL_HEADER_OK);
				assert_int_equal(header.len, size);
				assert_int_equal(
					load(message.data, message.len, size - 1, file, &header),
					MAIL_HEADER_TOO_LONG);
			}
		}
	}
	str_deinit(&message);
	str_deinit(&header);
}

static void
a_long_text_without_header_is_no_long_header(void **state)
{
	static const struct {
		const char *head, *line, *header;
	} cases[] = {
		{"", "just text, and no field", ""},
		{"", "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo=", ""},
		{"A: 1\r\n", "text here", "A: 1\r\n"},
		{"From me\r\nA: 1\r\n b\r\n", "text here", "From me\r\nA: 1\r\n b\r\n"},
		{"", " text here", ""},
	};
	struct str message = STR_INIT, header = STR_INIT;

	(void)state;
	for (size_t i = 0; i < 4 * ARRAY_COUNT(cases); i++) {
		str_clear(&message);
		str_add(&message, cases[i / 4].head);
		while (message.len < 70000) {
			str_add(&message, cases[i / 4].line);
			if (i % 4 < 2) /* else all of it is one line */
				str_add(&message, "\r\n");
		}
		assert_int_equal(
			load(message.data, message.len, 20000, i % 2, &header), MAIL_HEADER_OK);
		assert_string_equal(str_text(&header), cases[i / 4].header);
	}
	str_deinit(&message);
	str_deinit(&header);
}

static void
an_endless_header_is_too_long(void **state)
{
	static const char *const lines[] = {"A: 1\r\n", "A: 1\r\n fold\r\n"};
	struct str message = STR_INIT, header = STR_INIT;

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_COUNT(lines); i++) {
		str_clear(&message);
		while (message.len < 70000)
			str_add(&message, lines[i / 2]);
		for (size_t max = 20000; max < 20010; max++)
			assert_int_equal(load(message.data, message.len, max, i % 2, &header),
				MAIL_HEADER_TOO_LONG);
	}
	str_deinit(&message);
	str_deinit(&header);
}

static void
fields_are_split_at_the_colon_and_keep_their_folding(void **state)
{
	static const char text[] = "From me Mon\r\n"
				   " folded below no field\r\n"
				   "A:1\r\n"
				   "Subject : two\r\n\tlines\r\n \r\n"
				   ": no name\r\n"
				   "no colon\r\n"
				   "bad name: x\r\n"
				   "Empty:\r\n"
				   "Caf\xc3\xa9: no\r\n"
				   "Bare: a\nb\rc\r\n"
				   "Last: x";
	static const struct {
		const char *name, *value;
	} expected[] = {
		{"A", "1"},
		{"Subject", " two\r\n\tlines\r\n "},
		{"Empty", ""},
		{"Bare", " a\nb\rc"},
		{"Last", " x"},
	};
	struct mail_field field;
	size_t pos = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(expected); i++) {
		assert_true(mail_header_next(text, strlen(text), &pos, &field));
		assert_true(mail_field_is(&field, expected[i].name));
		assert_int_equal(field.value_len, strlen(expected[i].value));
		assert_memory_equal(field.value, expected[i].value, field.value_len);
	}
	assert_false(mail_header_next(text, strlen(text), &pos, &field));
}

static void
names_compare_without_case_and_as_a_whole(void **state)
{
	struct mail_field field = {.name = "Subject: x", .name_len = 7};

	(void)state;
	assert_true(mail_field_is(&field, "subject"));
	assert_true(mail_field_is(&field, "SUBJECT"));
	assert_false(mail_field_is(&field, "Subject:"));
	assert_false(mail_field_is(&field, "Subjec"));
	assert_false(mail_field_is(&field, ""));
}

static void
text_of_a_field_is_unfolded_cleaned_and_cut(void **state)
{
	static const struct {
		const char *value;
		size_t max;
		const char *text;
	} cases[] = {
		{"", 10, ""},
		{" a b ", 10, "a b"},
		{" \r\n\t \r\n ", 10, ""},
		{" one\r\n two\r\n\tthree ", 20, "one two three"},
		{" a\x01\x7f\r\n\nb", 10, "a   b"},
		{" 1234567890", 5, "12345"},
		{" 12345", 5, "12345"},
		{" 123 567", 4, "123"},
		{" caf\xc3\xa9 au", 5, "caf\xc3\xa9"},
		{" caf\xc3\xa9 au", 4, "caf"},
		{" \xe2\x82\xac", 2, ""},
		{" \xf0\x9f\x93\xaax", 3, ""},
		{" \xf0\x9f\x93\xaax", 4, "\xf0\x9f\x93\xaa"},
		{" a", 0, ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct mail_field field = {
			.value = cases[i].value, .value_len = strlen(cases[i].value)};

		assert_string_equal(mail_field_text(&field, cases[i].max, arena), cases[i].text);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_block_ends_before_the_empty_line),
		cmocka_unit_test(long_blocks_are_read_whatever_boundary_they_end_at),
		cmocka_unit_test(a_long_text_without_header_is_no_long_header),
		cmocka_unit_test(an_endless_header_is_too_long),
		cmocka_unit_test(fields_are_split_at_the_colon_and_keep_their_folding),
		cmocka_unit_test(names_compare_without_case_and_as_a_whole),
		cmocka_unit_test(text_of_a_field_is_unfolded_cleaned_and_cut),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, new_arena, free_arena);
}
