/*
 * t/unit/test_message_file.c - a message as a file of its own, wherever it lies and whatever was edited.
 */
#include "t/unit/loop.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/list.h"
#include "filters/message_file.h"
#include "net/threads.h"
#include "t/unit/content.h"

#define SIZE 300000

static char text[SIZE + 1];
static char folder[sizeof(P_tmpdir) + 32];
static struct spool_worker spool;

/* One message: in memory or in a file, with edits or without. */
struct fixture {
	struct spool_conf conf;
	struct spool_writer writer;
	struct mail_body body;
	struct mail_edits asked;
	struct mail_msg msg;
	struct filter_env env;
	struct filter_run run;
	struct arena *arena;
	bool came;
	int fd;
	struct err err;
};

static int
setup(void **state)
{
	struct err err;

	strcpy(text, "Subject: one\r\nTo: you\r\n\r\n");
	for (size_t i = strlen(text); i < SIZE; i++)
		text[i] = ".23456789 line\r\n"[i % 16];
	snprintf(folder, sizeof(folder), "%s/test_message.XXXXXX", P_tmpdir);
	if (mkdtemp(folder) == NULL || loop_setup(state) < 0)
		return -1;
	return net_threads_start(1, &err);
}

static int
teardown(void **state)
{
	net_threads_stop();
	spool_spares_close(&spool.spares);
	if (rmdir(folder) < 0)
		return -1;
	return loop_teardown(state);
}

static void
begin(struct fixture *f, size_t len, int64_t inline_max, bool is_edited)
{
	struct err err;

	memset(f, 0, sizeof(*f));
	f->fd = -1;
	f->arena = arena_new();
	f->conf = (struct spool_conf){.directory = folder, .inline_max = inline_max, .inline_total = 1 << 20};
	mail_body_init(&f->body);
	spool_writer_init(&f->writer, &f->conf, &spool, &f->body);
	content_add(&f->body, &f->writer, text, len, 8192);
	assert_int_equal(spool_finish(&f->writer, &err), 0);
	f->msg.body = &f->body;
	f->env.worker = worker;
	f->env.spool = &spool;
	f->run.msg = &f->msg;
	f->run.env = &f->env;
	f->run.spool = &f->conf;
	f->run.arena = f->arena;
	mail_edits_init(&f->asked, f->arena);
	if (!is_edited)
		return;
	mail_edit_prepend(&f->asked, "Received: here\r\n");
	mail_edit_change(&f->asked, 1, "Subject", "two");
	f->run.seen = mail_edits_apply(f->arena, &f->body, NULL, &f->asked);
	assert_non_null(f->run.seen);
}

static void
end(struct fixture *f)
{
	if (f->fd >= 0)
		close(f->fd);
	spool_writer_reuse(&f->writer);
	spool_writer_deinit(&f->writer);
	mail_body_deinit(&f->body);
	arena_free(&f->arena);
}

static void
got_file(void *owner, int fd, const struct err *err)
{
	struct fixture *f = owner;

	assert_false(f->came);
	f->came = true;
	f->fd = fd;
	if (fd < 0)
		f->err = *err;
}

static void
open_it(struct fixture *f)
{
	assert_non_null(message_file_open(&f->run, got_file, f));
	assert_false(f->came);
	WAIT_FOR(f->came);
}

static void
assert_is_message(struct fixture *f)
{
	struct str want = STR_INIT;
	struct stat st;
	char *got;

	assert_true(content_view(&want, &f->body, f->run.seen, MAIL_VIEW_PLAIN));
	assert_true(f->fd >= 0);
	assert_int_equal(lseek(f->fd, 0, SEEK_CUR), 0);
	assert_return_code(fstat(f->fd, &st), errno);
	assert_int_equal(st.st_size, want.len);
	got = malloc(want.len + 1);
	assert_int_equal(read(f->fd, got, want.len + 1), want.len);
	if (want.len > 0)
		assert_memory_equal(got, want.data, want.len);
	free(got);
	str_deinit(&want);
}

static void
assert_is_read_only(int fd)
{
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(write(fd, "x", 1), -1);
	assert_int_equal(ftruncate(fd, 0), -1);
}

static const struct {
	size_t len;
	int64_t inline_max;
	bool is_edited;
} shapes[] = {
	{0, SIZE, false},
	{0, SIZE, true},
	{1000, SIZE, false},
	{1000, SIZE, true},
	{SIZE, SIZE, false},
	{SIZE, SIZE, true},
	{1000, 0, false},
	{1000, 0, true},
	{SIZE, 0, false},
	{SIZE, 0, true},
};

static void
a_message_of_every_shape_is_a_file(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(shapes); i++) {
		struct fixture f;

		begin(&f, shapes[i].len, shapes[i].inline_max, shapes[i].is_edited);
		open_it(&f);
		assert_is_message(&f);
		assert_is_read_only(f.fd);
		end(&f);
	}
}

static void
what_was_in_memory_is_sealed(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f, 1000, SIZE, true);
	open_it(&f);
	assert_int_equal(fcntl(f.fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
	end(&f);
}

static ino_t
inode(int fd)
{
	struct stat st;

	assert_return_code(fstat(fd, &st), errno);
	return st.st_ino;
}

static void
a_spool_file_without_edits_is_not_copied_and_offsets_are_apart(void **state)
{
	struct fixture f;
	int first;

	(void)state;
	begin(&f, SIZE, 0, false);
	open_it(&f);
	first = f.fd;
	assert_int_equal(inode(first), inode(f.body.fd));
	lseek(first, 77, SEEK_SET);
	f.came = false;
	open_it(&f);
	assert_is_message(&f);
	assert_int_equal(lseek(first, 0, SEEK_CUR), 77);
	close(first);
	end(&f);
}

/* spool/spare.c would empty it under the reader. */
static void
a_spool_file_that_somebody_still_reads_is_not_used_again(void **state)
{
	struct fixture f;
	struct stat st;
	int kept;

	(void)state;
	begin(&f, SIZE, 0, false);
	open_it(&f);
	kept = f.fd;
	f.fd = -1;
	end(&f);
	assert_return_code(fstat(kept, &st), errno);
	assert_int_equal(st.st_size, SIZE);
	close(kept);
}

static int
descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

/* The transaction is gone at once; a job that runs has its own of everything (the address sanitizer looks). */
static void
after_a_cancel_nothing_comes_and_nothing_is_left(void **state)
{
	const int before = descriptors();

	(void)state;
	for (size_t i = 0; i < 4 * ARRAY_COUNT(shapes); i++) {
		size_t s = i % ARRAY_COUNT(shapes);
		struct fixture f;
		struct message_file *file;

		begin(&f, shapes[s].len, shapes[s].inline_max, shapes[s].is_edited);
		file = message_file_open(&f.run, got_file, &f);
		if (i >= 2 * ARRAY_COUNT(shapes))
			usleep(300); /* let the job begin */
		message_file_cancel(&file);
		assert_null(file);
		end(&f);
		loop_turn();
		assert_false(f.came);
	}
	net_threads_stop();
	loop_turn();
	spool_spares_close(&spool.spares);
	assert_int_equal(descriptors(), before);
	assert_int_equal(net_threads_start(1, &(struct err){0}), 0);
}

static void
a_message_is_saved_under_a_name(void **state)
{
	char path[sizeof(folder) + 10];

	(void)state;
	snprintf(path, sizeof(path), "%s/message", folder);
	for (size_t i = 0; i < ARRAY_COUNT(shapes); i++) {
		struct fixture f;
		struct stat st;

		begin(&f, shapes[i].len, shapes[i].inline_max, shapes[i].is_edited);
		assert_non_null(message_file_save(&f.run, path, got_file, &f));
		WAIT_FOR(f.came);
		assert_is_message(&f);
		assert_is_read_only(f.fd);
		assert_return_code(stat(path, &st), errno);
		assert_int_equal(st.st_mode & 0777, 0600);
		assert_return_code(unlink(path), errno);
		end(&f);
	}
}

static void
a_name_that_is_taken_or_impossible_is_an_error(void **state)
{
	char paths[2][sizeof(folder) + 20];

	(void)state;
	snprintf(paths[0], sizeof(paths[0]), "%s/taken", folder);
	snprintf(paths[1], sizeof(paths[1]), "%s/none/message", folder);
	close(open(paths[0], O_CREAT | O_WRONLY, 0600));
	for (size_t i = 0; i < 2; i++) {
		struct fixture f;

		begin(&f, 1000, SIZE, false);
		assert_non_null(message_file_save(&f.run, paths[i], got_file, &f));
		WAIT_FOR(f.came);
		assert_int_equal(f.fd, -1);
		assert_non_null(strstr(f.err.text, paths[i]));
		end(&f);
	}
	assert_return_code(unlink(paths[0]), errno);
}

/* Either it was not made yet, and will not be; or it was, and the caller's unlink finds it. */
static void
a_cancelled_save_leaves_no_file(void **state)
{
	char path[sizeof(folder) + 10];

	(void)state;
	snprintf(path, sizeof(path), "%s/message", folder);
	for (int i = 0; i < 100; i++) {
		struct fixture f;
		struct message_file *file;

		begin(&f, SIZE, i % 2 ? 0 : SIZE, true);
		file = message_file_save(&f.run, path, got_file, &f);
		usleep((useconds_t)i * 10);
		message_file_cancel(&file);
		unlink(path);
		end(&f);
		net_threads_stop();
		assert_int_equal(net_threads_start(1, &(struct err){0}), 0);
		loop_turn();
		assert_int_equal(access(path, F_OK), -1);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_of_every_shape_is_a_file),
		cmocka_unit_test(what_was_in_memory_is_sealed),
		cmocka_unit_test(a_spool_file_without_edits_is_not_copied_and_offsets_are_apart),
		cmocka_unit_test(a_spool_file_that_somebody_still_reads_is_not_used_again),
		cmocka_unit_test(after_a_cancel_nothing_comes_and_nothing_is_left),
		cmocka_unit_test(a_message_is_saved_under_a_name),
		cmocka_unit_test(a_name_that_is_taken_or_impossible_is_an_error),
		cmocka_unit_test(a_cancelled_save_leaves_no_file),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
