/*
 * t/unit/test_new_body.c - content that a filter makes: line ends, limits, and that nothing of it is left.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "filters/new_body.h"
#include "t/unit/content.h"

static const char message[] = "A: 1\r\n\r\nold\r\n";

struct fixture {
	struct arena *arena;
	struct spool_conf conf;
	struct spool_worker worker;
	struct filter_env env;
	struct mail_body body;
	struct mail_edits edits;
	struct filter_run run;
};

static void
start(struct fixture *f, const char *directory, int64_t inline_max)
{
	*f = (struct fixture){.conf = {.directory = directory, .inline_max = inline_max, .inline_total = 1 << 20}};
	f->arena = arena_new();
	f->env.spool = &f->worker;
	content_init(&f->body, message);
	mail_edits_init(&f->edits, f->arena);
	f->run = (struct filter_run){.arena = f->arena, .env = &f->env, .spool = &f->conf, .edits = &f->edits};
}

/* Whatever was left in the arena, the worker has nothing in its spool. */
static void
stop(struct fixture *f)
{
	arena_free(&f->arena);
	mail_body_deinit(&f->body);
	assert_int_equal(count_get(&f->worker.inline_used), 0);
	assert_int_equal(count_get(&f->worker.file_used), 0);
	spool_spares_close(&f->worker.spares);
}

static int
open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

/* In parts of so many octets. */
static void
write_parts(struct new_body *b, const char *text, size_t part)
{
	for (size_t len = strlen(text), n; len > 0; text += n, len -= n) {
		n = len < part ? len : part;
		new_body_write(b, text, n);
	}
}

static const struct row {
	const char *what, *written, *want;
} rows[] = {
	{"nothing", "", ""},
	{"lines that end as they should", "a\r\n\r\nb\r\n", "a\r\n\r\nb\r\n"},
	{"lines of a Unix program", "a\n\nb\n", "a\r\n\r\nb\r\n"},
	{"mixed line ends", "a\r\nb\nc\r\nd", "a\r\nb\r\nc\r\nd"},
	{"a CR within a line", "a\rb\r\r\nc\r", "a b \r\nc "},
	{"dots at the begin of lines", ".\n..a\n.b\r\nc.\n", ".\r\n..a\r\n.b\r\nc.\r\n"},
	{"no end of the last line", "a\n.", "a\r\n."},
	{"a line end alone", "\n", "\r\n"},
};

static void
check_row(const struct row *row, size_t part, int64_t inline_max)
{
	struct str got = STR_INIT, want = STR_INIT, wire = STR_INIT, want_wire = STR_INIT;
	const struct mail_edits *version;
	struct new_body *b;
	struct fixture f;
	struct err err;

	start(&f, P_tmpdir, inline_max);
	b = new_body_begin(&f.run, NEW_BODY, 1000);
	write_parts(b, row->written, part);
	assert_int_equal(new_body_end(&b, &err), 0);
	assert_null(b);
	version = mail_edits_apply(f.arena, &f.body, NULL, &f.edits);
	assert_int_equal(mail_edits_content(&f.body, version)->fd >= 0, inline_max == 0 && *row->want != '\0');
	assert_true(content_view(&got, &f.body, version, MAIL_VIEW_PLAIN));
	str_printf(&want, "A: 1\r\n\r\n%s", row->want);
	if (got.len != want.len || memcmp(got.data, want.data, got.len) != 0)
		fail_msg("%s: %.*s", row->what, (int)got.len, got.data);
	content_stuff(&want_wire, want.data, want.len);
	assert_true(content_view(&wire, &f.body, version, MAIL_VIEW_WIRE));
	assert_int_equal(wire.len, want_wire.len);
	assert_memory_equal(wire.data, want_wire.data, wire.len);
	str_deinit(&got);
	str_deinit(&want);
	str_deinit(&wire);
	str_deinit(&want_wire);
	stop(&f);
}

static void
line_ends_become_those_of_mail_at_any_split(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
		for (size_t part = 1; part < 5; part++) {
			check_row(&rows[i], part, 1000);
			check_row(&rows[i], part, 0);
		}
}

static void
content_that_is_too_large_is_no_edit(void **state)
{
	struct fixture f;
	struct new_body *b;
	struct err err;

	(void)state;
	start(&f, P_tmpdir, 4);
	b = new_body_begin(&f.run, NEW_MESSAGE, 10);
	write_parts(b, "12345678\n", 3);
	assert_int_equal(new_body_end(&b, &err), 0);
	b = new_body_begin(&f.run, NEW_MESSAGE, 10);
	write_parts(b, "123456789\n", 3);
	assert_int_equal(new_body_end(&b, &err), -1);
	assert_null(b);
	assert_string_equal(err.text, "the new content is larger than 10 octets");
	assert_null(STAILQ_NEXT(STAILQ_FIRST(&f.edits.list), next));
	assert_int_equal(STAILQ_FIRST(&f.edits.list)->body->size, 10);
	stop(&f);
}

static void
content_that_finds_no_room_is_no_edit(void **state)
{
	struct fixture f;
	struct new_body *b;
	struct err err;

	(void)state;
	start(&f, "/nonexistent", 4);
	b = new_body_begin(&f.run, NEW_BODY, 1000);
	write_parts(b, "1234567890", 3);
	assert_int_equal(new_body_end(&b, &err), -1);
	assert_true(err.temporary);
	assert_true(STAILQ_EMPTY(&f.edits.list));
	stop(&f);
}

/* Ended, cancelled, or just left behind by a filter that was cancelled. */
static void
nothing_is_left_of_it_whatever_happened(void **state)
{
	int before = open_files();
	struct new_body *ended, *cancelled, *left;
	struct fixture f;
	struct err err;

	(void)state;
	start(&f, P_tmpdir, 0);
	ended = new_body_begin(&f.run, NEW_BODY, 1000);
	cancelled = new_body_begin(&f.run, NEW_BODY, 1000);
	left = new_body_begin(&f.run, NEW_MESSAGE, 1000);
	new_body_write(ended, "ended", 5);
	new_body_write(cancelled, "cancelled", 9);
	new_body_write(left, "left", 4);
	assert_int_equal(new_body_end(&ended, &err), 0);
	assert_int_equal(count_get(&f.worker.file_used), 18);
	new_body_cancel(&cancelled);
	assert_null(cancelled);
	assert_int_equal(count_get(&f.worker.file_used), 9);
	new_body_cancel(&cancelled);
	stop(&f);
	assert_int_equal(open_files(), before);
}

static void
a_file_is_used_again_unless_a_program_still_has_it(void **state)
{
	struct new_body *b, *kept;
	struct fixture f;
	struct err err;
	char path[64], text[8];
	int fd;

	(void)state;
	start(&f, P_tmpdir, 0);
	b = new_body_begin(&f.run, NEW_BODY, 1000);
	kept = new_body_begin(&f.run, NEW_BODY, 1000);
	new_body_write(b, "first", 5);
	new_body_write(kept, "kept", 4);
	assert_int_equal(new_body_end(&b, &err), 0);
	assert_int_equal(new_body_end(&kept, &err), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", STAILQ_NEXT(STAILQ_FIRST(&f.edits.list), next)->body->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	arena_reset(f.arena);
	assert_int_equal(f.worker.spares.count, 1);
	assert_int_equal(pread(fd, text, sizeof(text), 0), 4);
	assert_memory_equal(text, "kept", 4);
	close(fd);
	stop(&f);
}

static void
octets_above_127_are_noticed(void **state)
{
	struct new_body *plain, *eight;
	struct fixture f;
	struct err err;

	(void)state;
	start(&f, P_tmpdir, 1000);
	plain = new_body_begin(&f.run, NEW_BODY, 1000);
	eight = new_body_begin(&f.run, NEW_BODY, 1000);
	write_parts(plain, "caf\x7f\n", 2);
	write_parts(eight, "caf\xe9\n", 2);
	assert_int_equal(new_body_end(&plain, &err), 0);
	assert_int_equal(new_body_end(&eight, &err), 0);
	assert_false(STAILQ_FIRST(&f.edits.list)->body->has_8bit);
	assert_true(STAILQ_NEXT(STAILQ_FIRST(&f.edits.list), next)->body->has_8bit);
	stop(&f);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(line_ends_become_those_of_mail_at_any_split),
		cmocka_unit_test(content_that_is_too_large_is_no_edit),
		cmocka_unit_test(content_that_finds_no_room_is_no_edit),
		cmocka_unit_test(nothing_is_left_of_it_whatever_happened),
		cmocka_unit_test(a_file_is_used_again_unless_a_program_still_has_it),
		cmocka_unit_test(octets_above_127_are_noticed),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
