/* t/unit/test_program.c - programs run by a real spawner process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "spawn/spawn.h"
#include "work/program.h"

/* No program of these tests takes longer, but for those that are killed. */
#define LONG "/bin/sleep", "60"

struct fixture {
	pid_t spawner;
	struct net_worker *admin;  /* has its own thread */
	struct net_worker *worker; /* is driven by the test */
	struct program_client *client;
	bool is_lost;
	int extra; /* a descriptor that exec would keep */
};

struct seen {
	struct fixture *f;
	struct program_end end;
	int left; /* ends to wait for */
};

static void
lost(void *owner)
{
	struct fixture *f = owner;

	f->is_lost = true;
}

/* The spawner is forked before there is any thread, as the monitor does it. */
static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err err;
	int fds[2];

	f->extra = open("/dev/null", O_RDONLY);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	f->spawner = fork();
	if (f->spawner == 0)
		spawn_main(fds[1]);
	close(fds[1]);
	f->admin = net_worker_new(-1, &err);
	f->worker = net_worker_new(0, &err);
	f->client = program_client_new(f->admin, fds[0], lost, f);
	assert_int_equal(net_worker_start(f->admin, &err), 0);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;
	int status;

	net_worker_stop(f->admin);
	net_worker_join(f->admin);
	program_client_free(&f->client);
	net_worker_free(&f->worker);
	net_worker_free(&f->admin);
	assert_int_equal(waitpid(f->spawner, &status, 0), f->spawner);
	close(f->extra);
	free(f);
	return 0;
}

static void
got_end(void *owner, const struct program_end *end)
{
	struct seen *s = owner;

	s->end = *end;
	if (--s->left == 0)
		net_worker_stop(s->f->worker);
}

static struct program *
start(struct seen *s, const char *const *argv)
{
	const struct program_spec spec = {.argv = argv};

	return program_start(s->f->client, s->f->worker, &spec, got_end, s);
}

/* Runs argv with its standard output in a pipe; returns what it wrote. */
static const char *
output_of(struct fixture *f, const char *const *argv, struct program_spec spec)
{
	static char text[4096];
	struct seen s = {.f = f, .left = 1};
	const int target = 1;
	size_t len = 0;
	ssize_t n;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	spec.argv = argv;
	spec.fds = &fds[1];
	spec.targets = &target;
	spec.fd_count = 1;
	program_start(f->client, f->worker, &spec, got_end, &s);
	net_worker_run(f->worker);
	while ((n = read(fds[0], text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	close(fds[0]);
	text[len] = '\0';
	assert_true(s.end.ran);
	return text;
}

static const char *
shell(struct fixture *f, const char *script)
{
	const char *const argv[] = {"/bin/sh", "-c", script, NULL};

	return output_of(f, argv, (struct program_spec){.timeout_ms = 0});
}

static void
the_exit_status_comes_back(void **state)
{
	static const struct {
		const char *script, *want;
	} cases[] = {
		{"exit 0", "exit status 0"},
		{"exit 3", "exit status 3"},
		{"kill -11 $$", "signal 11"},
	};

	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		const char *const argv[] = {"/bin/sh", "-c", cases[i].script, NULL};
		struct seen s = {.f = *state, .left = 1};
		char text[100];

		start(&s, argv);
		net_worker_run(s.f->worker);
		program_end_text(&s.end, text, sizeof(text));
		assert_string_equal(text, cases[i].want);
	}
}

static void
a_program_that_is_not_there_is_an_error_and_not_an_exit(void **state)
{
	const char *const argv[] = {"/nowhere/at-all", NULL};
	struct seen s = {.f = *state, .left = 1};

	start(&s, argv);
	net_worker_run(s.f->worker);
	assert_false(s.end.ran);
	assert_non_null(strstr(s.end.err.text, strerror(ENOENT)));
}

static void
a_relative_path_is_refused(void **state)
{
	const char *const argv[] = {"sh", NULL};
	struct seen s = {.f = *state, .left = 1};

	start(&s, argv);
	net_worker_run(s.f->worker);
	assert_false(s.end.ran);
	assert_non_null(strstr(s.end.err.text, "absolute"));
}

static void
a_program_has_only_the_descriptors_it_was_given(void **state)
{
	const char *const argv[] = {"/bin/sh", "-c",
		"for f in 3 4 5 6 7 8 9 10 20 64 65 66 67 100; do [ -e /proc/$$/fd/$f ] && echo "
		"$f; done",
		NULL};

	assert_string_equal(output_of(*state, argv, (struct program_spec){.timeout_ms = 0}), "");
}

static void
what_it_was_not_given_of_the_first_three_is_null(void **state)
{
	assert_string_equal(
		shell(*state, "readlink /proc/$$/fd/0 /proc/$$/fd/2"), "/dev/null\n/dev/null\n");
}

static void
descriptors_stand_where_they_were_told_even_crosswise(void **state)
{
	struct fixture *f = *state;
	const char *const argv[] = {"/bin/sh", "-c", "echo a >&4; echo b >&3; cat <&5 >&4", NULL};
	const int targets[] = {4, 3, 5};
	struct seen s = {.f = f, .left = 1};
	struct program_spec spec = {.argv = argv, .targets = targets, .fd_count = 3};
	int a[2], b[2], in[2];
	char text[16];

	assert_int_equal(pipe2(a, O_CLOEXEC), 0);
	assert_int_equal(pipe2(b, O_CLOEXEC), 0);
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(write(in[1], "c\n", 2), 2);
	close(in[1]);
	spec.fds = (const int[]){a[1], b[1], in[0]};
	program_start(f->client, f->worker, &spec, got_end, &s);
	net_worker_run(f->worker);
	assert_int_equal(read(a[0], text, sizeof(text)), 4);
	assert_memory_equal(text, "a\nc\n", 4);
	assert_int_equal(read(b[0], text, sizeof(text)), 2);
	assert_memory_equal(text, "b\n", 2);
	close(a[0]);
	close(b[0]);
}

static void
environment_folder_umask_and_limits_are_as_told(void **state)
{
	const char *const argv[] = {"/bin/sh", "-c",
		"echo $FOO $HOME; pwd; umask; ulimit -n; ulimit -f; ulimit -c", NULL};
	const char *const env[] = {"FOO=bar", NULL};
	const struct program_spec spec = {
		.env = env, .directory = "/usr", .limits = {.open_files = 33, .file_size = 1024}};

	assert_string_equal(output_of(*state, argv, spec), "bar\n/usr\n0077\n33\n2\n0\n");
}

static void
no_new_privileges_can_be_won(void **state)
{
	assert_string_equal(shell(*state, "grep NoNewPrivs /proc/$$/status"), "NoNewPrivs:\t1\n");
}

static void
signals_are_neither_blocked_nor_ignored(void **state)
{
	unsigned long long blocked = 1, ignored = 1;

	assert_int_equal(2, sscanf(shell(*state, "grep -E 'SigBlk|SigIgn' /proc/self/status"),
				    "SigBlk: %llx SigIgn: %llx", &blocked, &ignored));
	assert_int_equal(blocked, 0);
	/* 32 and 33 are glibc's own: who starts us may leave them ignored, and nobody can change that. */
	assert_int_equal(ignored & ~(3ULL << 31), 0);
}

static void
each_program_leads_its_own_process_group(void **state)
{
	assert_string_equal(
		shell(*state, "[ $(cut -d' ' -f5 /proc/$$/stat) = $$ ] && echo leads"), "leads\n");
}

static void
a_program_that_is_too_late_gets_term(void **state)
{
	const char *const argv[] = {LONG, NULL};
	struct seen s = {.f = *state, .left = 1};
	const struct program_spec spec = {.argv = argv, .timeout_ms = 50, .grace_ms = 30000};

	program_start(s.f->client, s.f->worker, &spec, got_end, &s);
	net_worker_run(s.f->worker);
	assert_true(s.end.timed_out);
	assert_true(WIFSIGNALED(s.end.status) && WTERMSIG(s.end.status) == SIGTERM);
}

static void
one_that_ignores_term_gets_kill_after_its_grace(void **state)
{
	const char *const argv[] = {
		"/bin/sh", "-c", "trap '' TERM; while :; do /bin/sleep 60; done", NULL};
	struct seen s = {.f = *state, .left = 1};
	const struct program_spec spec = {.argv = argv, .timeout_ms = 200, .grace_ms = 100};

	program_start(s.f->client, s.f->worker, &spec, got_end, &s);
	net_worker_run(s.f->worker);
	assert_true(s.end.timed_out);
	assert_true(WIFSIGNALED(s.end.status) && WTERMSIG(s.end.status) == SIGKILL);
}

/* The pipe's end comes only when every holder of its other end is dead. */
static void
the_whole_group_dies_with_its_leader(void **state)
{
	struct fixture *f = *state;
	const char *const argv[] = {
		"/bin/sh", "-c", "/bin/sleep 60 & /bin/sleep 60 & exit 0", NULL};

	assert_string_equal(output_of(f, argv, (struct program_spec){.timeout_ms = 0}), "");
}

static void
nothing_is_heard_of_a_cancelled_program(void **state)
{
	const char *const long_argv[] = {LONG, NULL};
	const char *const argv[] = {"/bin/true", NULL};
	struct seen never = {.f = *state, .left = 1}, s = {.f = *state, .left = 1};
	struct program *p = start(&never, long_argv);

	program_cancel(&p);
	assert_null(p);
	start(&s, argv);
	net_worker_run(s.f->worker);
	assert_int_equal(never.left, 1);
}

static void
many_programs_at_once_all_come_back(void **state)
{
	const char *const argv[] = {"/bin/true", NULL};
	struct seen s = {.f = *state, .left = 200};

	for (int i = 0; i < 200; i++)
		start(&s, argv);
	net_worker_run(s.f->worker);
	assert_int_equal(s.left, 0);
	assert_true(s.end.ran);
}

static void
the_spawner_outlives_what_a_terminal_sends(void **state)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
	struct fixture *f = *state;

	/* It has answered once, so it is ready for signals. */
	assert_string_equal(shell(f, "echo a"), "a\n");
	for (size_t i = 0; i < ARRAY_COUNT(signals); i++)
		kill(f->spawner, signals[i]);
	assert_string_equal(shell(f, "echo b"), "b\n");
}

static void
when_the_spawner_dies_everything_ends_with_an_error(void **state)
{
	struct fixture *f = *state;
	const char *const argv[] = {LONG, NULL};
	struct seen s = {.f = f, .left = 3};

	for (int i = 0; i < 3; i++)
		start(&s, argv);
	kill(f->spawner, SIGKILL);
	net_worker_run(f->worker);
	assert_false(s.end.ran);
	s.left = 1;
	start(&s, argv);
	net_worker_run(f->worker);
	assert_false(s.end.ran);
}

/* Our end closes in teardown-like fashion; the group's pipe tells that it is dead. */
static void
when_the_engine_goes_every_group_is_killed(void **state)
{
	const char *const argv[] = {"/bin/sh", "-c", "echo up; /bin/sleep 60 & wait", NULL};
	struct fixture *f = *state;
	struct seen s = {.f = f, .left = 1};
	const int target = 1;
	struct program_spec spec = {.argv = argv, .targets = &target, .fd_count = 1};
	int fds[2], status;
	char text[8];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	spec.fds = &fds[1];
	program_start(f->client, f->worker, &spec, got_end, &s);
	assert_int_equal(read(fds[0], text, sizeof(text)), 3);
	net_worker_stop(f->admin);
	net_worker_join(f->admin);
	program_client_free(&f->client);
	assert_int_equal(read(fds[0], text, sizeof(text)), 0);
	assert_int_equal(waitpid(f->spawner, &status, 0), f->spawner);
	assert_int_equal(status, 0);
	close(fds[0]);
	close(f->extra);
	net_worker_free(&f->worker);
	net_worker_free(&f->admin);
	free(f);
	*state = NULL;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_exit_status_comes_back),
		TEST(a_program_that_is_not_there_is_an_error_and_not_an_exit),
		TEST(a_relative_path_is_refused),
		TEST(a_program_has_only_the_descriptors_it_was_given),
		TEST(what_it_was_not_given_of_the_first_three_is_null),
		TEST(descriptors_stand_where_they_were_told_even_crosswise),
		TEST(environment_folder_umask_and_limits_are_as_told),
		TEST(no_new_privileges_can_be_won),
		TEST(signals_are_neither_blocked_nor_ignored),
		TEST(each_program_leads_its_own_process_group),
		TEST(a_program_that_is_too_late_gets_term),
		TEST(one_that_ignores_term_gets_kill_after_its_grace),
		TEST(the_whole_group_dies_with_its_leader),
		TEST(nothing_is_heard_of_a_cancelled_program),
		TEST(many_programs_at_once_all_come_back),
		TEST(the_spawner_outlives_what_a_terminal_sends),
		TEST(when_the_spawner_dies_everything_ends_with_an_error),
		cmocka_unit_test_setup(when_the_engine_goes_every_group_is_killed, setup),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
