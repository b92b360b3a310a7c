/*
 * t/unit/test_watch.c - which changes of files are noticed, and when.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/list.h"
#include "proxy/config_watch.h"

static char folder[] = "/tmp/watch-XXXXXX";
static const char *files[] = { "main", "one", "none", "list" };
static const char *globs[] = { "d/*.conf" };
static const struct config config = {
	.files = files, .file_count = ARRAY_COUNT(files), .own_count = 3, .globs = globs, .glob_count = ARRAY_COUNT(globs)
};
static struct config_watch watch;

static void
put(const char *name, const char *text)
{
	FILE *out = fopen(name, "w");

	assert_non_null(out);
	fputs(text, out);
	assert_int_equal(fclose(out), 0);
}

/* The clock that stamps files goes in steps of some milliseconds; waits until it is later than now. */
static struct timespec
next_tick(void)
{
	struct timespec first, now;

	clock_gettime(CLOCK_REALTIME, &first);
	do {
		usleep(500);
		now = config_watch_clock();
	} while (now.tv_sec < first.tv_sec || (now.tv_sec == first.tv_sec && now.tv_nsec <= first.tv_nsec));
	return now;
}

static void
begin(void)
{
	struct timespec now = next_tick();

	config_watch_begin(&watch, &config, &now);
}

static void
put_one(const char *text)
{
	put("one", text);
}

static void
replace_one(const char *text)
{
	put("new", text);
	assert_int_equal(rename("new", "one"), 0);
}

/* As rsync --times, or touch: nothing but the content is another. */
static void
put_with_old_time(const char *text)
{
	struct stat st;
	struct timespec times[2];

	assert_int_equal(stat("one", &st), 0);
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	put("one", text);
	assert_int_equal(utimensat(AT_FDCWD, "one", times, 0), 0);
}

static void remove_one(const char *text) { (void)text; unlink("one"); }
static void make_none(const char *text) { put("none", text); }
static void make_in_folder(const char *text) { put("d/a.conf", text); }
static void open_up(const char *text) { (void)text; chmod("one", 0644); }
static void put_list(const char *text) { put("list", text); }
static void touch_other(const char *text) { put("d/a.txt", text); }

static const struct {
	const char *name;
	void (*change)(const char *text);
	bool is_one;
} changes[] = {
	{ "written in its place, as long as before", put_one, true },
	{ "replaced by another file", replace_one, true },
	{ "written with its old time", put_with_old_time, true },
	{ "gone", remove_one, true },
	{ "come, where it was missed", make_none, true },
	{ "come, where a pattern looks", make_in_folder, true },
	{ "readable now", open_up, true },
	{ "a list", put_list, true },
	{ "none of ours", touch_other, false },
};

static int
setup(void **state)
{
	(void)state;
	put("main", "x");
	put("one", "1");
	put("list", "1");
	chmod("one", 0600);
	unlink("none");
	unlink("d/a.conf");
	return 0;
}

static void
each_change_is_told_once_and_when_it_is_over(void **state)
{
	for (size_t i = 0; i < ARRAY_COUNT(changes); i++) {
		setup(state);
		begin();
		assert_false(config_watch_look(&watch, &config));
		next_tick();
		changes[i].change("2");
		assert_false(config_watch_look(&watch, &config)); /* who writes may not be ready */
		if (config_watch_look(&watch, &config) != changes[i].is_one)
			fail_msg("%s", changes[i].name);
		assert_false(config_watch_look(&watch, &config));
	}
}

static void
two_files_in_a_row_are_one_change(void **state)
{
	(void)state;
	begin();
	next_tick();
	put("main", "y");
	assert_false(config_watch_look(&watch, &config));
	next_tick();
	put("one", "3");
	assert_false(config_watch_look(&watch, &config));
	assert_true(config_watch_look(&watch, &config));
	assert_false(config_watch_look(&watch, &config));
}

static void
what_is_taken_back_is_no_change_unless_time_tells(void **state)
{
	(void)state;
	begin();
	assert_int_equal(rename("one", "off"), 0);
	assert_false(config_watch_look(&watch, &config));
	assert_true(config_watch_look(&watch, &config));
	assert_int_equal(rename("off", "one"), 0);
	assert_false(config_watch_look(&watch, &config));
	assert_true(config_watch_look(&watch, &config)); /* it is back: what was loaded is the state without it */
}

/* Read, written once more in the same instant, looked at: the look sees the new state as the one that was read. */
static void
a_change_while_it_is_read_is_not_missed(void **state)
{
	struct timespec began;

	(void)state;
	began = next_tick();
	put("one", "2");
	config_watch_begin(&watch, &config, &began);
	assert_true(config_watch_look(&watch, &config));
	assert_false(config_watch_look(&watch, &config));
	begin();
	assert_false(config_watch_look(&watch, &config));
	assert_false(config_watch_look(&watch, &config));
}

/* Of another machine's clock, say: no reason to read again and again. */
static void
a_file_of_the_future_is_no_change(void **state)
{
	const struct timespec times[2] = { { .tv_sec = 1LL << 32 }, { .tv_sec = 1LL << 32 } };

	(void)state;
	assert_int_equal(utimensat(AT_FDCWD, "one", times, 0), 0);
	begin();
	assert_false(config_watch_look(&watch, &config));
	assert_false(config_watch_look(&watch, &config));
}

/* Then what stands in the others may not be ready to be read. */
static void
lists_are_told_from_the_configuration_itself(void **state)
{
	(void)state;
	begin();
	next_tick();
	put_list("2");
	assert_false(config_watch_look_at_lists(&watch, &config)); /* who writes may not be ready */
	assert_true(config_watch_look_at_lists(&watch, &config));
	assert_false(config_watch_look_at_lists(&watch, &config));
	assert_true(config_watch_is_as_read(&watch, &config));
	put_one("2");
	assert_false(config_watch_look_at_lists(&watch, &config));
	assert_false(config_watch_look_at_lists(&watch, &config));
	assert_false(config_watch_is_as_read(&watch, &config));
}

/* A list as young as the read counts as changed; the configuration itself does not, or that list would never be read. */
static void
what_is_as_young_as_the_read_is_as_it_was_read(void **state)
{
	struct timespec began = next_tick();

	(void)state;
	put_one("2");
	put_list("2");
	config_watch_begin(&watch, &config, &began);
	assert_true(config_watch_look_at_lists(&watch, &config));
	assert_true(config_watch_is_as_read(&watch, &config));
}

static int
group_setup(void **state)
{
	(void)state;
	umask(022);
	return mkdtemp(folder) != NULL && chdir(folder) == 0 && mkdir("d", 0700) == 0 ? 0 : -1;
}

static int
group_teardown(void **state)
{
	static const char *const names[] = { "main", "one", "none", "list", "new", "off", "d/a.conf", "d/a.txt" };

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(names); i++)
		unlink(names[i]);
	return rmdir("d") == 0 && chdir("/") == 0 && rmdir(folder) == 0 ? 0 : -1;
}

#define TEST(fn) cmocka_unit_test_setup(fn, setup)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_change_is_told_once_and_when_it_is_over),
		TEST(two_files_in_a_row_are_one_change),
		TEST(what_is_taken_back_is_no_change_unless_time_tells),
		TEST(a_change_while_it_is_read_is_not_missed),
		TEST(a_file_of_the_future_is_no_change),
		TEST(lists_are_told_from_the_configuration_itself),
		TEST(what_is_as_young_as_the_read_is_as_it_was_read),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
