/*
 * t/unit/test_view.c - plain and wire form of messages in memory and in files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <errno.h>
#include <unistd.h>

#include "t/unit/content.h"

static const struct spool_conf in_file = {.directory = P_tmpdir, .inline_max = 0};

static void
fill(struct mail_body *b, const char *text, size_t len, bool file)
{
	struct spool_worker worker = {0};
	struct spool_writer w;
	struct err err;

	mail_body_init(b);
	spool_writer_init(&w, &in_file, &worker, b);
	content_add(b, file ? &w : NULL, text, len, SIZE_MAX);
	assert_int_equal(spool_finish(&w, &err), 0);
	spool_writer_deinit(&w);
	assert_int_equal(b->fd >= 0, file && len > 0);
}

static void
assert_same(const struct str *got, const struct str *expected)
{
	assert_int_equal(got->len, expected->len);
	if (got->len > 0)
		assert_memory_equal(got->data, expected->data, got->len);
}

static void
check(const char *text, size_t len, bool file)
{
	struct str plain = STR_INIT, wire = STR_INIT, want_plain = STR_INIT, want_wire = STR_INIT;
	struct mail_body b;

	fill(&b, text, len, file);
	str_addn(&want_plain, text, len);
	content_stuff(&want_wire, text, len);
	assert_true(content_view(&plain, &b, NULL, MAIL_VIEW_PLAIN));
	assert_true(content_view(&wire, &b, NULL, MAIL_VIEW_WIRE));
	assert_same(&plain, &want_plain);
	assert_same(&wire, &want_wire);
	assert_int_equal(mail_view_size(&b, NULL), len);
	mail_body_deinit(&b);
	str_deinit(&plain);
	str_deinit(&wire);
	str_deinit(&want_plain);
	str_deinit(&want_wire);
}

static void
dots_at_line_begins_are_doubled_and_nothing_else(void **state)
{
	static const char *const cases[] = {"", ".", "..", "a", "\r\n", ".\r\n", "..\r\n",
		".\r\n.\r\n", "a.b\r\n.c", "a\r\n\r\n.\r\n", "a\r\n..b\r\n...c\r\n", "\r\n.",
		"a\r\nb", "a\r", "Subject: x\r\n\r\n.hidden\r\n.\r\nend\r\n"};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		check(cases[i], strlen(cases[i]), false);
		check(cases[i], strlen(cases[i]), true);
	}
}

/* Sizes around every boundary: chunks, scratch and write buffers. */
static void
every_size_around_a_boundary_comes_out_octet_for_octet(void **state)
{
	static const size_t bounds[] = {
		8192 - 24, 8192, 3 * 8192 - 48, 16384, 24576, 49152, 65536, 65536 + 16384, 131072};
	static const char line[] = ".2345678\r\n";
	static char text[140000];

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = line[i % 10];
	for (size_t i = 0; i < ARRAY_COUNT(bounds); i++) {
		for (size_t len = bounds[i] - 3; len <= bounds[i] + 3; len++) {
			check(text, len, false);
			check(text, len, true);
		}
	}
}

static void
more_dot_lines_than_are_noted_are_found_by_the_view(void **state)
{
	static const char *const lines[] = {".\r\n", "..\r\n", ".x\r\n", "xx\r\n.\r\n\r\n"};
	static const size_t counts[] = {
		MAIL_BODY_DOTS_MAX, MAIL_BODY_DOTS_MAX + 1, 16383, 16384, 16385, 40000};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(lines); i++) {
		for (size_t j = 0; j < ARRAY_COUNT(counts); j++) {
			struct str text = STR_INIT;

			for (size_t k = 0; k < counts[j]; k++)
				str_add(&text, lines[i]);
			for (size_t cut = 0; cut < 4; cut++) {
				check(text.data, text.len - cut, false);
				check(text.data, text.len - cut, true);
			}
			str_deinit(&text);
		}
	}
}

static void
prepended_lines_stand_in_front_with_the_latest_on_top(void **state)
{
	struct arena *arena = arena_new();
	struct str out = STR_INIT;
	struct mail_edits edits;
	struct mail_body b;

	(void)state;
	content_init(&b, ".dot\r\n");
	mail_edits_init(&edits, arena);
	mail_edit_prepend(&edits, "First: 1\r\n\tfolded\r\n");
	mail_edit_prepend(&edits, "Second: 2\r\n");
	assert_true(content_view(&out, &b, &edits, MAIL_VIEW_WIRE));
	assert_string_equal(str_text(&out), "Second: 2\r\nFirst: 1\r\n\tfolded\r\n..dot\r\n");
	str_clear(&out);
	assert_true(content_view(&out, &b, &edits, MAIL_VIEW_PLAIN));
	assert_string_equal(str_text(&out), "Second: 2\r\nFirst: 1\r\n\tfolded\r\n.dot\r\n");
	assert_int_equal(mail_view_size(&b, &edits), out.len);
	str_deinit(&out);
	mail_body_deinit(&b);
	arena_free(&arena);
}

static void
a_file_without_dots_is_one_range(void **state)
{
	static char text[200000];
	struct mail_piece piece;
	struct mail_body b;
	struct mail_view v;

	(void)state;
	memset(text, 'x', sizeof(text));
	memcpy(text + sizeof(text) - 2, "\r\n", 2);
	fill(&b, text, sizeof(text), true);
	mail_view_init(&v, &b, NULL, MAIL_VIEW_WIRE);
	assert_int_equal(mail_view_next(&v, &piece), 1);
	assert_null(piece.data);
	assert_int_equal(piece.fd, b.fd);
	assert_int_equal(piece.off, 0);
	assert_int_equal(piece.len, sizeof(text));
	assert_int_equal(mail_view_next(&v, &piece), 0);
	assert_int_equal(mail_view_next(&v, &piece), 0);
	mail_view_deinit(&v);
	mail_body_deinit(&b);
}

static void
two_views_of_one_message_do_not_disturb_each_other(void **state)
{
	struct mail_piece one, two;
	struct mail_view a, b;
	struct mail_body body;

	(void)state;
	fill(&body, "a\r\n.b\r\n", 7, true);
	mail_view_init(&a, &body, NULL, MAIL_VIEW_WIRE);
	mail_view_init(&b, &body, NULL, MAIL_VIEW_WIRE);
	for (;;) {
		int rc = mail_view_next(&a, &one);

		assert_int_equal(mail_view_next(&b, &two), rc);
		if (rc == 0)
			break;
		assert_int_equal(one.len, two.len);
		assert_int_equal(one.off, two.off);
	}
	mail_view_deinit(&a);
	mail_view_deinit(&b);
	mail_body_deinit(&body);
}

static void
a_file_that_became_shorter_is_an_error(void **state)
{
	struct str text = STR_INIT, out = STR_INIT;
	FILE *target = tmpfile();
	struct mail_body b;

	(void)state;
	for (int i = 0; i < 2 * MAIL_BODY_DOTS_MAX; i++)
		str_add(&text, ".\r\n");
	fill(&b, text.data, text.len, true);
	assert_int_equal(ftruncate(b.fd, 0), 0);
	assert_false(content_view(&out, &b, NULL, MAIL_VIEW_WIRE));
	assert_int_equal(mail_view_write(&b, NULL, fileno(target)), -1);
	assert_int_equal(errno, EIO);
	mail_body_deinit(&b);
	fclose(target);
	str_deinit(&text);
	str_deinit(&out);
}

static void
check_written(bool file)
{
	static char text[150000], copy[sizeof(text) + 100];
	static const char head[] = "Received: here\r\n";
	struct arena *arena = arena_new();
	FILE *target = tmpfile();
	struct mail_edits edits;
	struct mail_body b;

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = ".abc\r\n"[i % 6];
	fill(&b, text, sizeof(text), file);
	mail_edits_init(&edits, arena);
	mail_edit_prepend(&edits, head);
	assert_int_equal(mail_view_write(&b, &edits, fileno(target)), 0);
	assert_int_equal(pread(fileno(target), copy, sizeof(copy), 0), strlen(head) + sizeof(text));
	assert_memory_equal(copy, head, strlen(head));
	assert_memory_equal(copy + strlen(head), text, sizeof(text));
	mail_body_deinit(&b);
	fclose(target);
	arena_free(&arena);
}

static void
the_plain_form_can_be_written_to_a_file(void **state)
{
	(void)state;
	check_written(false);
	check_written(true);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(dots_at_line_begins_are_doubled_and_nothing_else),
		cmocka_unit_test(every_size_around_a_boundary_comes_out_octet_for_octet),
		cmocka_unit_test(more_dot_lines_than_are_noted_are_found_by_the_view),
		cmocka_unit_test(prepended_lines_stand_in_front_with_the_latest_on_top),
		cmocka_unit_test(a_file_without_dots_is_one_range),
		cmocka_unit_test(two_views_of_one_message_do_not_disturb_each_other),
		cmocka_unit_test(a_file_that_became_shorter_is_an_error),
		cmocka_unit_test(the_plain_form_can_be_written_to_a_file),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
