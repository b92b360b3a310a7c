/*
 * t/unit/test_helper.c - helpers end to end: pool, spawner, process, frames.
 *
 * This program is its own helper: started with the name of a row as its argument it behaves as the
 * row of `fakes` with that name says, or, for a row of helper/list.h, as postern-helper does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <inttypes.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "helper/helper.h"
#include "spawn/spawn.h"
#include "work/helper.h"

/* The helpers. */

static void
fake_send(const struct work_frame *frame)
{
	struct str out = STR_INIT;
	struct err err;

	if (work_frame_encode(&out, frame, &err) < 0 || write(3, out.data, out.len) < 0)
		_exit(1);
	str_deinit(&out);
}

/* The number of the next job; jobs here are short and come in one piece. */
static uint32_t
fake_job(void)
{
	static char data[4096];
	struct work_frame frame;
	struct err err;
	ssize_t n = read(3, data, sizeof(data));

	if (n <= 0 || work_frame_decode(data, (size_t)n, &frame, &err) != n)
		_exit(0);
	return frame.job;
}

static void
fake_done(uint32_t job, const char *verdict, const char *text, const char *last)
{
	struct work_frame frame = {.type = WORK_DONE, .job = job};

	work_frame_add(&frame, verdict);
	work_frame_add(&frame, "");
	work_frame_add(&frame, "");
	work_frame_add(&frame, text);
	work_frame_add(&frame, last);
	fake_send(&frame);
}

static void
fake_ask(uint32_t job, const char *question)
{
	struct work_frame frame = {.type = WORK_ASK, .job = job};

	work_frame_add(&frame, question);
	fake_send(&frame);
}

static void
fake_edit(uint32_t job, const char *kind, const char *text)
{
	struct work_frame frame = {.type = WORK_EDIT, .job = job};

	work_frame_add(&frame, kind);
	work_frame_add(&frame, text);
	fake_send(&frame);
}

static void
be_crash(void)
{
	fake_job();
	signal(SIGSEGV, SIG_DFL);
	raise(SIGSEGV);
}

static void
be_exit(void)
{
	fake_job();
	_exit(7);
}

static void
be_dead_at_once(void)
{
	_exit(9);
}

static void
be_silent(void)
{
	for (;;)
		pause();
}

static void
be_garbage(void)
{
	fake_job();
	if (write(3, "\377\377\377\377garbage", 11) > 0)
		be_silent();
}

static void
be_half(void)
{
	fake_job();
	if (write(3, "\0\0\0\30\5\0", 6) > 0)
		_exit(0);
}

static void
be_half_and_silent(void)
{
	fake_job();
	if (write(3, "\0\0\0\30\5\0", 6) > 0)
		be_silent();
}

static void
be_flood(void)
{
	uint32_t job = fake_job();

	for (;;)
		fake_ask(job, "clock");
}

/* The longest frame there is, and more and more behind it. */
static void
be_endless(void)
{
	static const char zeroes[4096];

	fake_job();
	if (write(3, "\0\0\377\374\2", 5) > 0)
		while (write(3, zeroes, sizeof(zeroes)) > 0)
			;
}

static void
be_other_job(void)
{
	fake_done(fake_job() + 1, "pass", "", "");
	be_silent();
}

static void
be_two_answers(void)
{
	const struct work_done done = {.kind = VERDICT_REJECT};
	uint32_t job = fake_job();
	struct str out = STR_INIT;
	struct err err;

	for (int i = 0; i < 2; i++)
		work_done_encode(&out, job, &done, &err);
	if (write(3, out.data, out.len) > 0)
		be_silent();
}

static void
be_wrong_verdict(void)
{
	fake_done(fake_job(), "delicious", "", "");
	be_silent();
}

static void
be_engine(void)
{
	struct work_frame frame = {.type = WORK_JOB, .job = fake_job()};

	fake_send(&frame);
	be_silent();
}

static void
be_eager(void)
{
	fake_done(1, "accept", "", "");
	be_silent();
}

static void
be_reject(void)
{
	for (;;)
		fake_done(fake_job(), "reject", "no", "");
}

/* Says which process did the job. */
static void
be_pid(void)
{
	char text[32];

	snprintf(text, sizeof(text), "%d", (int)getpid());
	for (;;)
		fake_done(fake_job(), "pass", text, "");
}

static void
be_last(void)
{
	char text[32];

	snprintf(text, sizeof(text), "%d", (int)getpid());
	fake_done(fake_job(), "pass", text, "last");
	_exit(0);
}

static void
be_error(void)
{
	for (;;)
		fake_done(fake_job(), "error", "cannot do that", "");
}

static void
be_edit(void)
{
	uint32_t job = fake_job();

	fake_edit(job, "prepend", "X-Seen: yes\r\n");
	fake_done(job, "pass", "", "");
	be_silent();
}

static void
be_bad_edit(void)
{
	uint32_t job = fake_job();

	fake_edit(job, "prepend", "X-Seen: yes\r\n\r\nbody\r\n");
	fake_done(job, "pass", "", "");
	be_silent();
}

static void
be_unknown_question(void)
{
	uint32_t job = fake_job();
	char data[256];
	struct work_frame frame;
	struct err err;
	ssize_t n;

	fake_ask(job, "password");
	n = read(3, data, sizeof(data));
	if (n <= 0 || work_frame_decode(data, (size_t)n, &frame, &err) != n)
		_exit(1);
	fake_done(job, "pass", work_word_is(&frame.words[0], "error") ? "refused" : "told", "");
	be_silent();
}

/* A real helper's confinement, tried from inside: which things still work? */
static void
be_confined(void)
{
	static const struct helper_row row = {.name = "confined"};
	struct str can = STR_INIT, notes = STR_INIT;
	uint32_t job = fake_job();
	pid_t parent = getppid();
	struct err err;

	if (helper_confine(&row, &notes, &err) < 0)
		str_printf(&can, "fail: %s ", err.text);
	if (socket(AF_INET, SOCK_STREAM, 0) >= 0)
		str_add(&can, "socket ");
	if (kill(parent, 0) == 0)
		str_add(&can, "kill ");
	if (execl("/bin/true", "/bin/true", (char *)NULL) < 0 && errno != EPERM && errno != EACCES)
		str_add(&can, "exec ");
	if (vfork() >= 0)
		str_add(&can, "fork ");
	if (open("/etc/passwd", O_RDONLY) >= 0 && notes.len == 0)
		str_add(&can, "read ");
	if (open("/tmp/postern-test-confined", O_WRONLY | O_CREAT, 0600) >= 0 && notes.len == 0)
		str_add(&can, "create ");
	if (fcntl(4, F_GETFD) >= 0)
		str_add(&can, "descriptor ");
	fake_done(job, "pass", can.len > 0 ? str_text(&can) : "nothing", "");
	be_silent();
}

static const struct {
	const char *name;
	void (*be)(void);
} fakes[] = {
	{"crash", be_crash},
	{"exit", be_exit},
	{"dead", be_dead_at_once},
	{"silent", be_silent},
	{"garbage", be_garbage},
	{"half", be_half},
	{"half_silent", be_half_and_silent},
	{"flood", be_flood},
	{"endless", be_endless},
	{"other_job", be_other_job},
	{"two", be_two_answers},
	{"wrong", be_wrong_verdict},
	{"engine", be_engine},
	{"eager", be_eager},
	{"reject", be_reject},
	{"pid", be_pid},
	{"last", be_last},
	{"error", be_error},
	{"edit", be_edit},
	{"bad_edit", be_bad_edit},
	{"unknown", be_unknown_question},
	{"confined", be_confined},
};

static int
be(const char *name)
{
	for (size_t i = 0; i < ARRAY_COUNT(fakes); i++)
		if (strcmp(fakes[i].name, name) == 0)
			fakes[i].be();
	_exit(helper_row_find(name) != NULL ? helper_serve(helper_row_find(name)) : 64);
}

/* The engine. */

struct fixture {
	pid_t spawner;
	struct net_worker *admin, *worker;
	struct program_client *client;
	struct helper_pool *pool;
	struct arena *arena;
	struct mail_edits edits;
};

struct seen {
	struct fixture *f;
	int left;
	bool failed;
	char err[600];
	enum verdict_kind kind;
	char text[200];
	struct seen *then; /* started by the callback */
	const char *then_row;
};

static int
setup_path(void **state, const char *path)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err err;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	f->spawner = fork();
	if (f->spawner == 0)
		spawn_main(fds[1]);
	close(fds[1]);
	f->admin = net_worker_new(-1, &err);
	f->worker = net_worker_new(0, &err);
	f->client = program_client_new(f->admin, fds[0], NULL, NULL);
	f->pool = helper_pool_new(f->worker, f->client, path);
	f->arena = arena_new();
	mail_edits_init(&f->edits, f->arena);
	assert_int_equal(net_worker_start(f->admin, &err), 0);
	*state = f;
	return 0;
}

static int
setup(void **state)
{
	static char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	assert_true(n > 0);
	return setup_path(state, path);
}

static int
setup_without_program(void **state)
{
	return setup_path(state, "/nowhere/postern-helper");
}

static int
teardown(void **state)
{
	struct fixture *f = *state;
	int status;

	helper_pool_free(&f->pool);
	net_worker_stop(f->admin);
	net_worker_join(f->admin);
	program_client_free(&f->client);
	net_worker_free(&f->worker);
	net_worker_free(&f->admin);
	assert_int_equal(waitpid(f->spawner, &status, 0), f->spawner);
	arena_free(&f->arena);
	free(f);
	return 0;
}

static void got_done(void *owner, const struct helper_result *result);

static struct helper_job *
start_full(struct seen *s, const char *row, const char *wait, int64_t timeout_ms, bool may_edit)
{
	const char *const words[] = {"wait", wait};
	const struct helper_spec spec = {
		.row = row,
		.words = words,
		.word_count = 2,
		.timeout_ms = timeout_ms,
		.edits = may_edit ? &s->f->edits : NULL,
	};

	return helper_job_start(s->f->pool, &spec, got_done, s);
}

static struct helper_job *
start(struct seen *s, const char *row)
{
	return start_full(s, row, "0", 20000, false);
}

static void
got_done(void *owner, const struct helper_result *result)
{
	struct seen *s = owner;

	s->failed = result->failed;
	s->kind = result->verdict.kind;
	snprintf(s->err, sizeof(s->err), "%s", result->failed ? result->err.text : "");
	snprintf(s->text, sizeof(s->text), "%s",
		result->verdict.text != NULL ? result->verdict.text : "");
	if (s->then != NULL)
		start(s->then, s->then_row);
	if (--s->left == 0)
		net_worker_stop(s->f->worker);
}

static void
the_slow_job_waits_asks_and_passes(void **state)
{
	struct seen s = {.f = *state, .left = 1};
	uint64_t began = clock_ms();
	int64_t waited;

	start_full(&s, "slow", "150", 20000, false);
	net_worker_run(s.f->worker);
	assert_string_equal(s.err, "");
	assert_int_equal(s.kind, VERDICT_PASS);
	assert_int_equal(sscanf(s.text, "waited %" SCNd64 " ms", &waited), 1);
	assert_true(waited >= 150 && waited <= (int64_t)(clock_ms() - began) + 1);
}

static void
the_slow_job_refuses_what_is_no_number(void **state)
{
	struct seen s = {.f = *state, .left = 1};

	start_full(&s, "slow", "soon", 20000, false);
	net_worker_run(s.f->worker);
	assert_true(s.failed);
	assert_non_null(strstr(s.err, "not a number"));
}

/* Every fault costs that job and says why, and is never a verdict. */
static void
a_faulty_helper_fails_its_job(void **state)
{
	static const struct {
		const char *row, *why;
	} cases[] = {
		{"crash", "signal 11"},
		{"exit", "exit status 7"},
		{"dead", "exit status 9"},
		{"garbage", "frame of 4294967295 octets"},
		{"half", "exit status 0"},
		{"flood", "asks too much"},
		{"endless", "ask frame with 0 words"},
		{"other_job", "speaks unasked"},
		{"two", "out of turn"},
		{"wrong", "unknown verdict"},
		{"engine", "out of turn"},
		{"bad_edit", "may not make"},
		{"edit", "may not make"},
		{"error", "cannot do that"},
		{"no_such_row", "exit status 64"},
	};

	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct seen s = {.f = *state, .left = 1};

		start(&s, cases[i].row);
		net_worker_run(s.f->worker);
		if (!s.failed || strstr(s.err, cases[i].why) == NULL)
			fail_msg("%s: %s", cases[i].row, s.err);
		assert_int_equal(s.kind, VERDICT_PASS);
	}
}

/* Its answer came before its job: whichever is read first, it is no verdict. */
static void
an_answer_before_the_job_is_a_fault(void **state)
{
	struct seen s = {.f = *state, .left = 1};

	start(&s, "pid");
	net_worker_run(s.f->worker);
	s.left = 1;
	start_full(&s, "eager", "0", 20000, false);
	net_worker_run(s.f->worker);
	assert_true(s.failed);
}

static void
a_helper_that_is_silent_is_killed_at_the_timeout(void **state)
{
	static const char *const rows[] = {"silent", "half_silent"};

	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		struct seen s = {.f = *state, .left = 1};

		start_full(&s, rows[i], "0", 300, false);
		net_worker_run(s.f->worker);
		assert_true(s.failed);
		assert_non_null(strstr(s.err, "no answer within 300 ms"));
	}
}

static void
a_program_that_is_missing_fails_the_job(void **state)
{
	struct seen s = {.f = *state, .left = 1};

	start(&s, "slow");
	net_worker_run(s.f->worker);
	assert_true(s.failed);
	assert_non_null(strstr(s.err, strerror(ENOENT)));
}

static void
a_job_that_is_too_large_fails_later_and_starts_nothing(void **state)
{
	struct seen s = {.f = *state, .left = 1};
	char *big = malloc(WORK_FRAME_MAX + 1);

	memset(big, 'x', WORK_FRAME_MAX);
	big[WORK_FRAME_MAX] = '\0';
	start_full(&s, "slow", big, 20000, false);
	assert_int_equal(s.left, 1);
	net_worker_run(s.f->worker);
	assert_true(s.failed);
	free(big);
}

static void
after_a_crash_the_next_job_is_done(void **state)
{
	struct seen bad = {.f = *state, .left = 1}, good = {.f = *state, .left = 1};

	start(&bad, "crash");
	start(&good, "reject");
	net_worker_run(bad.f->worker);
	if (good.left > 0 || bad.left > 0)
		net_worker_run(bad.f->worker);
	assert_true(bad.failed);
	assert_false(good.failed);
	assert_int_equal(good.kind, VERDICT_REJECT);
	assert_string_equal(good.text, "no");
}

static void
a_row_that_keeps_crashing_is_started_with_growing_pauses(void **state)
{
	uint64_t began = clock_ms();

	for (int i = 0; i < 3; i++) {
		struct seen s = {.f = *state, .left = 1};

		start(&s, "crash");
		net_worker_run(s.f->worker);
		assert_true(s.failed);
	}
	assert_true(clock_ms() - began >= HELPER_PAUSE_MIN_MS + 2 * HELPER_PAUSE_MIN_MS - 20);
}

static void
one_process_does_job_after_job(void **state)
{
	char first[200] = "";

	for (int i = 0; i < 5; i++) {
		struct seen s = {.f = *state, .left = 1};

		start(&s, "pid");
		net_worker_run(s.f->worker);
		assert_false(s.failed);
		if (i == 0)
			snprintf(first, sizeof(first), "%s", s.text);
		assert_string_equal(s.text, first);
	}
}

static void
a_process_is_replaced_after_its_share_of_jobs(void **state)
{
	struct seen s = {.f = *state};
	char first[200] = "";

	for (int i = 0; i <= HELPER_JOBS_MAX; i++) {
		s.left = 1;
		start(&s, "pid");
		net_worker_run(s.f->worker);
		assert_false(s.failed);
		if (i == 0)
			snprintf(first, sizeof(first), "%s", s.text);
		if (i < HELPER_JOBS_MAX)
			assert_string_equal(s.text, first);
	}
	assert_string_not_equal(s.text, first);
}

static void
a_helper_that_takes_its_leave_costs_nothing(void **state)
{
	char before[200] = "";

	for (int i = 0; i < 3; i++) {
		struct seen s = {.f = *state, .left = 1};

		start(&s, "last");
		net_worker_run(s.f->worker);
		assert_false(s.failed);
		assert_string_not_equal(s.text, before);
		snprintf(before, sizeof(before), "%s", s.text);
	}
}

static void
more_jobs_than_helpers_wait_and_all_are_done(void **state)
{
	struct seen s = {.f = *state, .left = 20};
	uint64_t began = clock_ms();

	for (int i = 0; i < 20; i++)
		start_full(&s, "slow", "40", 20000, false);
	net_worker_run(s.f->worker);
	assert_false(s.failed);
	/* Four at a time, so five rounds. */
	assert_true(clock_ms() - began >= 5 * 40);
}

static void
a_cancelled_job_is_never_heard_of(void **state)
{
	struct seen never = {.f = *state, .left = 1}, s = {.f = *state, .left = 1};
	struct helper_job *jobs[HELPER_PROCESSES_MAX + 2];

	/* Some at work, some waiting. */
	for (size_t i = 0; i < ARRAY_COUNT(jobs); i++)
		jobs[i] = start(&never, "silent");
	for (size_t i = 0; i < ARRAY_COUNT(jobs); i++)
		helper_job_cancel(&jobs[i]);
	assert_null(jobs[0]);
	start(&s, "pid");
	net_worker_run(s.f->worker);
	assert_false(s.failed);
	assert_int_equal(never.left, 1);
	helper_job_cancel(&jobs[0]);
}

static void
a_helper_killed_from_outside_costs_one_job(void **state)
{
	struct seen s = {.f = *state, .left = 1};
	pid_t pid;

	start(&s, "pid");
	net_worker_run(s.f->worker);
	pid = (pid_t)atoi(s.text);
	/* Idle: the next job may find it still there, and then fails, or a fresh one. */
	kill(pid, SIGKILL);
	s.left = 1;
	start(&s, "pid");
	net_worker_run(s.f->worker);
	s.left = 1;
	start(&s, "pid");
	net_worker_run(s.f->worker);
	assert_false(s.failed);
	assert_int_not_equal(atoi(s.text), pid);
}

static void
edits_arrive_where_they_are_wanted(void **state)
{
	struct fixture *f = *state;
	struct seen s = {.f = f, .left = 1};

	start_full(&s, "edit", "0", 20000, true);
	net_worker_run(f->worker);
	assert_false(s.failed);
	assert_false(STAILQ_EMPTY(&f->edits.list));
	assert_string_equal(STAILQ_FIRST(&f->edits.list)->text, "X-Seen: yes\r\n");
}

static void
an_unknown_question_is_refused_and_no_fault(void **state)
{
	struct seen s = {.f = *state, .left = 1};

	start(&s, "unknown");
	net_worker_run(s.f->worker);
	assert_false(s.failed);
	assert_string_equal(s.text, "refused");
}

static void
the_callback_may_start_the_next_job(void **state)
{
	struct seen second = {.f = *state, .left = 1};
	struct seen first = {.f = *state, .left = 2, .then = &second, .then_row = "pid"};

	start(&first, "crash");
	net_worker_run(first.f->worker);
	assert_true(first.failed);
	assert_false(second.failed);
	assert_int_equal(second.left, 0);
}

static void
a_confined_helper_can_do_nothing_but_its_work(void **state)
{
	struct seen s = {.f = *state, .left = 1};

	start(&s, "confined");
	net_worker_run(s.f->worker);
	assert_string_equal(s.err, "");
	assert_string_equal(s.text, "nothing");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(the_slow_job_waits_asks_and_passes),
		TEST(the_slow_job_refuses_what_is_no_number),
		TEST(a_faulty_helper_fails_its_job),
		TEST(an_answer_before_the_job_is_a_fault),
		TEST(a_helper_that_is_silent_is_killed_at_the_timeout),
		cmocka_unit_test_setup_teardown(
			a_program_that_is_missing_fails_the_job, setup_without_program, teardown),
		TEST(a_job_that_is_too_large_fails_later_and_starts_nothing),
		TEST(after_a_crash_the_next_job_is_done),
		TEST(a_row_that_keeps_crashing_is_started_with_growing_pauses),
		TEST(one_process_does_job_after_job),
		TEST(a_process_is_replaced_after_its_share_of_jobs),
		TEST(a_helper_that_takes_its_leave_costs_nothing),
		TEST(more_jobs_than_helpers_wait_and_all_are_done),
		TEST(a_cancelled_job_is_never_heard_of),
		TEST(a_helper_killed_from_outside_costs_one_job),
		TEST(edits_arrive_where_they_are_wanted),
		TEST(an_unknown_question_is_refused_and_no_fault),
		TEST(the_callback_may_start_the_next_job),
		TEST(a_confined_helper_can_do_nothing_but_its_work),
	};

	if (argc > 1)
		return be(argv[1]);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
