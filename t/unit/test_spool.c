/*
 * t/unit/test_spool.c - where content is kept while it arrives, and what happens when it cannot be.
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

#include "t/unit/content.h"

#define SIZE 300000

static char text[SIZE];
static char folder[sizeof(P_tmpdir) + 32];
static struct spool_conf conf;
static struct spool_worker worker;
static struct spool_writer writer;
static struct mail_body body;

static int
make_folder(void **state)
{
	(void)state;
	for (size_t i = 0; i < SIZE; i++)
		text[i] = ".23456789 line\r\n"[i % 16];
	snprintf(folder, sizeof(folder), "%s/test_spool.XXXXXX", P_tmpdir);
	signal(SIGXFSZ, SIG_IGN);
	return mkdtemp(folder) != NULL ? 0 : -1;
}

static int
remove_folder(void **state)
{
	(void)state;
	return rmdir(folder);
}

/* A new writer with these limits. */
static void
begin(int64_t inline_max, int64_t inline_total)
{
	conf = (struct spool_conf){
		.directory = folder, .inline_max = inline_max, .inline_total = inline_total};
	mail_body_init(&body);
	spool_writer_init(&writer, &conf, &worker, &body);
}

static void
end(void)
{
	spool_writer_reuse(&writer);
	spool_writer_deinit(&writer);
	mail_body_deinit(&body);
	assert_int_equal(count_get(&worker.inline_used), 0);
	assert_int_equal(count_get(&worker.file_used), 0);
}

static int
close_spares(void **state)
{
	(void)state;
	spool_spares_close(&worker.spares);
	return 0;
}

static void
assert_content(size_t len)
{
	struct str out = STR_INIT;

	assert_int_equal(body.size, len);
	assert_true(content_view(&out, &body, NULL, MAIL_VIEW_PLAIN));
	assert_int_equal(out.len, len);
	if (len > 0)
		assert_memory_equal(out.data, text, len);
	str_deinit(&out);
}

static void
content_stays_in_memory_up_to_inline_and_not_an_octet_more(void **state)
{
	struct err err;

	(void)state;
	begin(1000, 1 << 20);
	content_add(&body, &writer, text, 1000, 100);
	assert_int_equal(spool_finish(&writer, &err), 0);
	assert_int_equal(body.fd, -1);
	assert_int_equal(count_get(&worker.inline_used), 1000);
	assert_content(1000);
	end();

	begin(1000, 1 << 20);
	content_add(&body, &writer, text, 1001, 100);
	assert_int_equal(spool_finish(&writer, &err), 0);
	assert_true(body.fd >= 0);
	assert_true(STAILQ_EMPTY(&body.chunks));
	assert_int_equal(count_get(&worker.inline_used), 0);
	assert_content(1001);
	end();
}

static void
a_worker_holds_no_more_than_inline_total(void **state)
{
	struct err err;

	(void)state;
	begin(1000, 2000);
	worker.inline_used.n = 1500;
	content_add(&body, &writer, text, 500, 100);
	assert_int_equal(body.fd, -1);
	assert_int_equal(count_get(&worker.inline_used), 2000);
	spool_append(&writer, text + 500, 1, false);
	assert_true(body.fd >= 0);
	assert_int_equal(count_get(&worker.inline_used), 1500);
	assert_int_equal(spool_finish(&writer, &err), 0);
	assert_content(501);
	worker.inline_used.n = 0;
	end();
}

static void
content_is_kept_octet_for_octet_in_runs_of_any_size(void **state)
{
	static const int64_t limits[] = {0, 1, 5000, 65536, SIZE};
	static const size_t parts[] = {7, 1000, 16383, 65535, 65536, 65537, SIZE};
	struct err err;

	(void)state;
	/* Few dot lines, or every run would end at one. */
	for (size_t i = 32; i < SIZE; i += 16)
		text[i] = 'x';
	for (size_t i = 0; i < ARRAY_COUNT(limits); i++) {
		for (size_t j = 0; j < ARRAY_COUNT(parts); j++) {
			begin(limits[i], 1 << 20);
			content_add(&body, &writer, text, SIZE, parts[j]);
			assert_int_equal(spool_finish(&writer, &err), 0);
			assert_null(writer.buffer);
			assert_int_equal(body.fd >= 0, limits[i] < SIZE);
			assert_int_equal(body.dot_count, 2);
			assert_content(SIZE);
			end();
		}
	}
}

static long
write_calls(void)
{
	FILE *io = fopen("/proc/self/io", "r");
	char line[100];
	long calls = -1;

	while (io != NULL && fgets(line, sizeof(line), io) != NULL)
		if (sscanf(line, "syscw: %ld", &calls) == 1)
			break;
	if (io != NULL)
		fclose(io);
	return calls;
}

static void
a_file_is_written_in_pieces_of_at_least_64_kib(void **state)
{
	struct err err;
	long before;

	(void)state;
	begin(1000, 1 << 20);
	before = write_calls();
	if (before < 0) {
		end();
		return; /* the kernel does not count them for us */
	}
	for (size_t off = 0; off < SIZE; off += 100)
		spool_append(&writer, text + off, 100, off == 0);
	assert_int_equal(spool_finish(&writer, &err), 0);
	assert_in_range(write_calls() - before, 1, SIZE / 65536 + 1);
	end();
}

static void
the_file_has_no_name(void **state)
{
	struct dirent *entry;
	DIR *dir;

	(void)state;
	begin(0, 0);
	content_add(&body, &writer, text, 100, 100);
	dir = opendir(folder);
	while ((entry = readdir(dir)) != NULL)
		assert_int_equal(entry->d_name[0], '.');
	closedir(dir);
	end();
}

static void
a_message_without_an_octet_needs_no_file(void **state)
{
	struct err err;

	(void)state;
	begin(0, 0);
	spool_append(&writer, text, 0, false);
	assert_int_equal(spool_finish(&writer, &err), 0);
	assert_int_equal(body.fd, -1);
	assert_content(0);
	end();
}

static void
limit_files(rlim_t size)
{
	struct rlimit limit;

	getrlimit(RLIMIT_FSIZE, &limit);
	limit.rlim_cur = size;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void
a_write_that_fails_is_said_at_the_end_as_temporary(void **state)
{
	static const rlim_t sizes[] = {0, 1000, 65536, 70000, 250000};
	struct err err;

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
		begin(500, 1 << 20);
		limit_files(sizes[i]);
		content_add(&body, &writer, text, SIZE / 2, 6000);
		for (size_t off = SIZE / 2; off < SIZE; off += 1000)
			spool_append(&writer, text + off, 1000, false);
		assert_int_equal(spool_finish(&writer, &err), -1);
		limit_files(RLIM_INFINITY);
		assert_true(err.temporary);
		assert_non_null(strstr(err.text, "spool"));
		assert_int_equal(spool_finish(&writer, &err), -1);
		end();
	}
}

static void
a_folder_that_is_gone_is_a_temporary_error(void **state)
{
	struct err err = {0};

	(void)state;
	begin(0, 0);
	conf.directory = "/nonexistent/spool";
	content_add(&body, &writer, text, 100, 100);
	assert_int_equal(spool_finish(&writer, &err), -1);
	assert_true(err.temporary);
	err.temporary = false;
	assert_int_equal(spool_room(&conf, &err), -1);
	assert_true(err.temporary);
	end();
}

static void
room_is_what_min_free_asks_for(void **state)
{
	struct err err = {0};
	int64_t all;

	(void)state;
	conf = (struct spool_conf){.directory = folder, .min_free = 0};
	all = spool_room(&conf, &err);
	assert_true(all > 0);
	conf.min_free = all / 2;
	assert_true(spool_room(&conf, &err) < all);
	conf.min_free = INT64_C(1) << 50;
	assert_int_equal(spool_room(&conf, &err), -1);
	assert_true(err.temporary);
}

static int
check(const char *name, struct err *err)
{
	char path[sizeof(folder) + 64];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	conf.directory = path;
	return spool_check(&conf, err);
}

static void
assert_refused(const char *name, const char *why)
{
	struct err err = {0};

	assert_int_equal(check(name, &err), -1);
	assert_non_null(strstr(err.text, why));
}

static void
a_missing_folder_is_made_for_us_alone(void **state)
{
	struct err err;
	struct stat st;

	(void)state;
	assert_int_equal(chdir(folder), 0);
	assert_int_equal(check("made", &err), 0);
	assert_int_equal(stat("made", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(check("made", &err), 0);
	assert_int_equal(check("made/", &err), 0);
	assert_refused("missing/made", "No such file");
	assert_int_equal(rmdir("made"), 0);
}

static void
a_folder_open_to_others_is_refused_with_the_remedy(void **state)
{
	static const mode_t modes[] = {0755, 0770, 0701, 0500};

	(void)state;
	assert_int_equal(chdir(folder), 0);
	assert_int_equal(mkdir("open", 0700), 0);
	for (size_t i = 0; i < ARRAY_COUNT(modes); i++) {
		assert_int_equal(chmod("open", modes[i]), 0);
		assert_refused("open", "chmod 0700");
	}
	assert_int_equal(rmdir("open"), 0);
}

static void
links_and_files_are_refused(void **state)
{
	(void)state;
	assert_int_equal(chdir(folder), 0);
	assert_int_equal(mkdir("real", 0700), 0);
	assert_int_equal(symlink("real", "link"), 0);
	assert_refused("link", "symbolic link");
	assert_refused("link/", "symbolic link");
	assert_int_equal(symlink("nowhere", "dangling"), 0);
	assert_refused("dangling", "symbolic link");
	fclose(fopen("file", "w"));
	assert_refused("file", "not a folder");
	assert_int_equal(unlink("link") + unlink("dangling") + unlink("file") + rmdir("real"), 0);
}

static void
what_belongs_to_another_user_is_refused(void **state)
{
	struct err err;

	(void)state;
	if (geteuid() != 0)
		return; /* only root can give things away */
	assert_int_equal(chdir(folder), 0);
	assert_int_equal(mkdir("real", 0700), 0);
	assert_int_equal(symlink(".", "way"), 0);
	assert_int_equal(check("way/real", &err), 0);
	assert_int_equal(lchown("way", 12345, 12345), 0);
	assert_refused("way/real", "symbolic link made by user id 12345");
	assert_int_equal(chown("real", 12345, 12345), 0);
	assert_refused("real", "chown 0");
	assert_int_equal(unlink("way") + rmdir("real"), 0);
}

/* Of the file that has the body. */
static ino_t
inode(void)
{
	struct stat st;

	assert_int_equal(fstat(body.fd, &st), 0);
	assert_int_equal(st.st_size, body.size);
	return st.st_ino;
}

static ino_t
spool_text(size_t len)
{
	struct err err;

	begin(0, 0);
	spool_append(&writer, text, len, true);
	assert_int_equal(spool_finish(&writer, &err), 0);
	assert_content(len);
	return inode();
}

static void
a_file_is_used_again_and_holds_nothing_of_the_message_before(void **state)
{
	ino_t first;

	(void)state;
	first = spool_text(SIZE);
	end();
	assert_int_equal(worker.spares.count, 1);
	assert_true(spool_text(16) == first);
	assert_int_equal(worker.spares.count, 0);
	end();
}

static void
a_file_that_somebody_else_has_open_is_not_used_again(void **state)
{
	char path[64], octets[16];
	int other;

	(void)state;
	spool_text(SIZE);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", body.fd);
	other = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(other >= 0);
	end();
	assert_int_equal(worker.spares.count, 0);
	spool_text(48);
	end();
	assert_int_equal(pread(other, octets, sizeof(octets), SIZE - 16), 16);
	assert_memory_equal(octets, text + SIZE - 16, 16);
	close(other);
}

static void
a_file_of_another_folder_is_not_used(void **state)
{
	char elsewhere[sizeof(folder) + 8];
	struct spool_conf there;
	struct err err;

	(void)state;
	spool_text(100);
	end();
	assert_int_equal(worker.spares.count, 1);
	snprintf(elsewhere, sizeof(elsewhere), "%s/other", folder);
	assert_int_equal(mkdir(elsewhere, 0700), 0);
	there = (struct spool_conf){.directory = elsewhere};
	mail_body_init(&body);
	spool_writer_init(&writer, &there, &worker, &body);
	spool_append(&writer, text, 100, true);
	assert_int_equal(spool_finish(&writer, &err), 0);
	assert_int_equal(worker.spares.count, 1);
	end();
	assert_int_equal(worker.spares.count, 1);
	assert_string_equal(worker.spares.directory, elsewhere);
	assert_int_equal(rmdir(elsewhere), 0);
}

static void
files_that_are_not_needed_are_closed(void **state)
{
	(void)state;
	spool_text(100);
	end();
	assert_true(spool_spares_trim(&worker.spares)); /* it was just used */
	spool_text(100);
	end();
	assert_true(spool_spares_trim(&worker.spares)); /* and again */
	assert_false(spool_spares_trim(&worker.spares));
	assert_int_equal(worker.spares.count, 0);
}

static void
no_more_than_so_many_are_kept(void **state)
{
	(void)state;
	for (int i = 0; i < SPOOL_SPARES_MAX + 3; i++) {
		int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

		assert_true(fd >= 0);
		if (spool_spares_give(&worker.spares, folder, fd))
			continue;
		assert_true(i >= SPOOL_SPARES_MAX);
		close(fd);
	}
	assert_int_equal(worker.spares.count, SPOOL_SPARES_MAX);
}

#define TEST(name) cmocka_unit_test_teardown(name, close_spares)

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(content_stays_in_memory_up_to_inline_and_not_an_octet_more),
		TEST(a_worker_holds_no_more_than_inline_total),
		TEST(content_is_kept_octet_for_octet_in_runs_of_any_size),
		TEST(a_file_is_written_in_pieces_of_at_least_64_kib),
		TEST(the_file_has_no_name),
		TEST(a_message_without_an_octet_needs_no_file),
		TEST(a_write_that_fails_is_said_at_the_end_as_temporary),
		TEST(a_folder_that_is_gone_is_a_temporary_error),
		TEST(room_is_what_min_free_asks_for),
		TEST(a_missing_folder_is_made_for_us_alone),
		TEST(a_folder_open_to_others_is_refused_with_the_remedy),
		TEST(links_and_files_are_refused),
		TEST(what_belongs_to_another_user_is_refused),
		TEST(a_file_is_used_again_and_holds_nothing_of_the_message_before),
		TEST(a_file_that_somebody_else_has_open_is_not_used_again),
		TEST(a_file_of_another_folder_is_not_used),
		TEST(files_that_are_not_needed_are_closed),
		TEST(no_more_than_so_many_are_kept),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
