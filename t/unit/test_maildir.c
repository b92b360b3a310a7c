/*
 * t/unit/test_maildir.c - delivery into a maildir, whole or not at all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "spool/maildir.h"
#include "t/unit/content.h"

static char parent[sizeof(P_tmpdir) + 32];

static int
make_parent(void **state)
{
	(void)state;
	snprintf(parent, sizeof(parent), "%s/test_maildir.XXXXXX", P_tmpdir);
	signal(SIGXFSZ, SIG_IGN);
	return mkdtemp(parent) != NULL && chdir(parent) == 0 ? 0 : -1;
}

/* Calls fn for each entry of the folder; returns how many there are. */
static size_t
each_entry(const char *folder, void (*fn)(const char *path))
{
	DIR *dir = opendir(folder);
	struct dirent *entry;
	size_t count = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL) {
		char path[NAME_MAX + 32];

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		if (fn != NULL)
			fn(path);
		count++;
	}
	closedir(dir);
	return count;
}

static void
remove_file(const char *path)
{
	unlink(path);
}

static void
remove_box(void)
{
	static const char *const folders[] = {"box/tmp", "box/new", "box/cur"};

	for (size_t i = 0; i < ARRAY_COUNT(folders); i++) {
		each_entry(folders[i], remove_file);
		assert_int_equal(rmdir(folders[i]), 0);
	}
	assert_int_equal(rmdir("box"), 0);
}

static int
remove_parent(void **state)
{
	(void)state;
	return rmdir(parent);
}

static int
deliver(const char *path, const struct mail_body *body, const struct mail_edits *edits,
	struct err *err)
{
	static const struct mail_sender sender = {.addr = "from@a.example"};
	static const struct mail_rcpt one = {.addr = "one@b.example"};
	static const struct mail_rcpt two = {.addr = "two@b.example"};
	const struct mail_rcpt *rcpts[] = {&one, &two};
	struct maildir_mail mail = {.sender = &sender,
		.rcpts = rcpts,
		.rcpt_count = ARRAY_COUNT(rcpts),
		.body = body,
		.edits = edits};

	return maildir_deliver(path, "host:1/a", &mail, err);
}

static struct str delivered;

static void
read_file(const char *path)
{
	int fd = open(path, O_RDONLY);
	char part[1000];
	struct stat st;
	ssize_t n;

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(st.st_nlink, 1);
	str_clear(&delivered);
	while ((n = read(fd, part, sizeof(part))) > 0)
		str_addn(&delivered, part, n);
	close(fd);
}

#define HEAD                                                                                       \
	"Return-Path: <from@a.example>\nDelivered-To: one@b.example\nDelivered-To: "               \
	"two@b.example\n"

static void
a_message_lands_in_new_with_lf_and_trace_lines(void **state)
{
	struct arena *arena = arena_new();
	struct mail_edits edits;
	struct mail_body body;
	struct err err;
	struct stat st;

	(void)state;
	mail_edits_init(&edits, arena);
	mail_edit_prepend(&edits, "Received: us\r\n\tfolded\r\n");
	content_init(&body, "Subject: x\r\n\r\n.dot\r\nlast");
	assert_int_equal(deliver("box", &body, &edits, &err), 0);
	assert_int_equal(each_entry("box/new", read_file), 1);
	assert_int_equal(each_entry("box/tmp", NULL), 0);
	assert_string_equal(
		delivered.data, HEAD "Received: us\n\tfolded\nSubject: x\n\n.dot\nlast");
	assert_int_equal(stat("box", &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(stat("box/cur", &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	mail_body_deinit(&body);
	arena_free(&arena);
	remove_box();
}

static void
check_large(const char *text, size_t len, bool file)
{
	struct spool_conf conf = {.directory = parent, .inline_max = 0};
	struct spool_worker worker = {0};
	struct str expected = STR_INIT;
	struct spool_writer w;
	struct mail_body body;
	struct err err;

	mail_body_init(&body);
	spool_writer_init(&w, &conf, &worker, &body);
	content_add(&body, file ? &w : NULL, text, len, SIZE_MAX);
	assert_int_equal(spool_finish(&w, &err), 0);
	assert_int_equal(deliver("box", &body, NULL, &err), 0);
	assert_int_equal(each_entry("box/new", read_file), 1);
	str_add(&expected, HEAD);
	for (size_t i = 0; i < len; i++)
		if (text[i] != '\r' || i + 1 == len || text[i + 1] != '\n')
			str_addc(&expected, text[i]);
	assert_int_equal(delivered.len, expected.len);
	assert_memory_equal(delivered.data, expected.data, expected.len);
	str_deinit(&expected);
	spool_writer_deinit(&w);
	mail_body_deinit(&body);
	remove_box();
}

static void
line_ends_are_converted_across_every_buffer(void **state)
{
	static char text[200000];

	(void)state;
	for (size_t shift = 0; shift < 4; shift++) {
		for (size_t i = 0; i < sizeof(text); i++)
			text[i] = "\r\n\rab"[(i + shift) % 5];
		check_large(text, sizeof(text), false);
		check_large(text, sizeof(text), true);
	}
}

static void
names_are_unique_and_hold_no_slash_or_colon(void **state)
{
	struct mail_body body;
	struct err err;

	(void)state;
	content_init(&body, "x\r\n");
	for (int i = 0; i < 20; i++)
		assert_int_equal(deliver("box", &body, NULL, &err), 0);
	assert_int_equal(each_entry("box/new", NULL), 20);
	for (DIR *dir = opendir("box/new"); dir != NULL;) {
		struct dirent *entry = readdir(dir);

		if (entry == NULL) {
			closedir(dir);
			break;
		}
		if (entry->d_name[0] == '.')
			continue;
		assert_null(strchr(entry->d_name, ':'));
		assert_non_null(strstr(entry->d_name, ".host\\0721\\057a"));
	}
	mail_body_deinit(&body);
	remove_box();
}

static void
assert_fails(const char *path, const struct mail_body *body, const char *why)
{
	struct err err = {0};

	assert_int_equal(deliver(path, body, NULL, &err), -1);
	assert_true(err.temporary);
	assert_non_null(strstr(err.text, why));
}

static void
a_failure_is_temporary_and_leaves_nothing(void **state)
{
	struct rlimit limit;
	struct mail_body body;

	(void)state;
	content_init(&body, "a message that is longer than the limit\r\n");
	assert_fails("missing/box", &body, "No such file");

	close(open("file", O_CREAT | O_WRONLY, 0600));
	assert_fails("file", &body, "Not a directory");
	assert_int_equal(unlink("file"), 0);

	assert_int_equal(mkdir("box", 0700) + mkdir("box/tmp", 0700), 0);
	close(open("box/new", O_CREAT | O_WRONLY, 0600));
	assert_fails("box", &body, "new: Not a directory");
	assert_int_equal(unlink("box/new"), 0);

	getrlimit(RLIMIT_FSIZE, &limit);
	limit.rlim_cur = 10;
	setrlimit(RLIMIT_FSIZE, &limit);
	assert_fails("box", &body, "File too large");
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_FSIZE, &limit);
	assert_int_equal(each_entry("box/tmp", NULL), 0);
	assert_int_equal(each_entry("box/new", NULL), 0);
	mail_body_deinit(&body);
	remove_box();
}

static void
no_descriptor_stays_open(void **state)
{
	struct mail_body body;
	struct err err;
	int before = dup(0);

	(void)state;
	close(before);
	content_init(&body, "x\r\n");
	assert_int_equal(deliver("box", &body, NULL, &err), 0);
	assert_int_equal(deliver("box/new/none/box", &body, NULL, &err), -1);
	assert_int_equal(dup(0), before);
	close(before);
	mail_body_deinit(&body);
	remove_box();
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_lands_in_new_with_lf_and_trace_lines),
		cmocka_unit_test(line_ends_are_converted_across_every_buffer),
		cmocka_unit_test(names_are_unique_and_hold_no_slash_or_colon),
		cmocka_unit_test(a_failure_is_temporary_and_leaves_nothing),
		cmocka_unit_test(no_descriptor_stays_open),
	};
	int failed;

	cmocka_set_message_output(CM_OUTPUT_TAP);
	failed = cmocka_run_group_tests(tests, make_parent, remove_parent);
	str_deinit(&delivered);
	return failed;
}
