/* t/unit/test_scratch.c - folders of programs: made, removed whatever is in them, swept after a crash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "spool/scratch.h"

static char spool[64];

static int
setup(void **state)
{
	(void)state;
	strcpy(spool, "/tmp/postern-scratch-XXXXXX");
	return mkdtemp(spool) == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
	(void)state;
	scratch_end();
	return rmdir(spool);
}

static void
make_file(const char *folder, const char *name)
{
	char path[300];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
}

static size_t
count(const char *pattern)
{
	char path[200];
	glob_t found;
	size_t n;

	snprintf(path, sizeof(path), "%s/%s", spool, pattern);
	n = glob(path, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
	globfree(&found);
	return n;
}

static void
a_folder_is_ours_alone_and_goes_with_all_in_it(void **state)
{
	struct err err;
	struct scratch *a = scratch_new(spool, &err), *b = scratch_new(spool, &err);
	char path[200];
	struct stat st;

	(void)state;
	assert_non_null(a);
	assert_non_null(b);
	assert_string_not_equal(scratch_path(a), scratch_path(b));
	assert_int_equal(stat(scratch_path(a), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	make_file(scratch_path(a), "x");
	snprintf(path, sizeof(path), "%s/deep", scratch_path(a));
	assert_int_equal(mkdir(path, 0700), 0);
	make_file(path, "y");
	assert_int_equal(chmod(path, 0), 0);
	snprintf(path, sizeof(path), "%s/link", scratch_path(a));
	assert_int_equal(symlink(scratch_path(b), path), 0);
	make_file(scratch_path(b), "stays");
	scratch_free(&a);
	assert_null(a);
	assert_int_equal(count("programs.*/1"), 0);
	assert_int_equal(count("programs.*/2/stays"), 1);
	scratch_free(&b);
	scratch_free(&b);
	assert_int_equal(count("programs.*/*"), 0);
}

static void
a_folder_of_folders_that_was_removed_is_made_anew(void **state)
{
	struct err err;
	struct scratch *a = scratch_new(spool, &err);
	char path[200];

	(void)state;
	scratch_free(&a);
	snprintf(path, sizeof(path), "%s/programs.%d", spool, (int)getpid());
	assert_int_equal(rmdir(path), 0);
	a = scratch_new(spool, &err);
	assert_non_null(a);
	scratch_free(&a);
}

static void
no_folder_is_an_error(void **state)
{
	struct err err;

	(void)state;
	assert_null(scratch_new("/nonexistent/spool", &err));
	assert_true(err.temporary);
	assert_non_null(strstr(err.text, "cannot make /nonexistent/spool/programs."));
}

/* A process that has a folder, with a file, until it is killed. */
static pid_t
start_other(void)
{
	int pipes[2];
	char octet;
	pid_t pid;

	assert_int_equal(pipe(pipes), 0);
	pid = fork();
	if (pid == 0) {
		struct err err;
		struct scratch *s = scratch_new(spool, &err);

		make_file(scratch_path(s), "x");
		if (write(pipes[1], "x", 1) == 1)
			pause();
		_exit(0);
	}
	close(pipes[1]);
	assert_int_equal(read(pipes[0], &octet, 1), 1);
	close(pipes[0]);
	return pid;
}

static void
a_sweep_takes_what_the_dead_left_and_nothing_else(void **state)
{
	struct err err;
	struct scratch *mine;
	pid_t dead, alive;

	(void)state;
	scratch_end(); /* the children would have ours, and its lock */
	dead = start_other();
	alive = start_other();
	mine = scratch_new(spool, &err);
	assert_int_equal(count("programs.*"), 3);
	kill(dead, SIGKILL);
	waitpid(dead, NULL, 0);
	scratch_sweep(spool);
	assert_int_equal(count("programs.*"), 2);
	assert_int_equal(count("programs.*/1/x"), 1);
	kill(alive, SIGKILL);
	waitpid(alive, NULL, 0);
	scratch_sweep(spool);
	assert_int_equal(count("programs.*"), 1);
	assert_int_equal(count("programs.*/1"), 1);
	scratch_free(&mine);
	scratch_end();
	assert_int_equal(count("programs.*"), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_folder_is_ours_alone_and_goes_with_all_in_it, setup, teardown),
		cmocka_unit_test_setup_teardown(a_folder_of_folders_that_was_removed_is_made_anew, setup, teardown),
		cmocka_unit_test_setup_teardown(no_folder_is_an_error, setup, teardown),
		cmocka_unit_test_setup_teardown(a_sweep_takes_what_the_dead_left_and_nothing_else, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
