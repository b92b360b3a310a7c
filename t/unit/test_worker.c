/*
 * t/unit/test_worker.c - posts, put-off calls, timers and jobs.
 */
#include "t/unit/loop.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/xalloc.h"
#include "net/threads.h"

#define POSTERS    4
#define POSTS_EACH 20000

static void
count_up(void *arg)
{
	++*(int *)arg;
}

struct poster {
	pthread_t thread;
	int next_expected;
	bool out_of_order;
};
struct parcel {
	struct poster *from;
	int number;
};

static void
parcel_arrived(void *arg)
{
	struct parcel *p = arg;

	if (p->number != p->from->next_expected++)
		p->from->out_of_order = true;
	free(p);
}

static void *
post_many(void *arg)
{
	for (int i = 0; i < POSTS_EACH; i++) {
		struct parcel *p = xmalloc(sizeof(*p));

		p->from = arg;
		p->number = i;
		net_post(worker, parcel_arrived, p);
	}
	return NULL;
}

static bool
all_arrived(const struct poster *posters)
{
	for (int i = 0; i < POSTERS; i++)
		if (posters[i].next_expected < POSTS_EACH)
			return false;
	return true;
}

static void
posts_of_each_of_four_threads_arrive_in_their_order(void **state)
{
	struct poster posters[POSTERS] = {0};

	(void)state;
	for (int i = 0; i < POSTERS; i++)
		pthread_create(&posters[i].thread, NULL, post_many, &posters[i]);
	WAIT_FOR(all_arrived(posters));
	for (int i = 0; i < POSTERS; i++) {
		pthread_join(posters[i].thread, NULL);
		assert_false(posters[i].out_of_order);
	}
}

static void
a_post_from_the_own_thread_runs_in_the_loop_and_not_inside_the_call(void **state)
{
	int count = 0;

	(void)state;
	net_post(worker, count_up, &count);
	assert_int_equal(count, 0);
	WAIT_FOR(count == 1);
}

struct chain {
	int runs;
	int runs_wanted;
};

static void
put_off_again(void *arg)
{
	struct chain *c = arg;

	if (++c->runs < c->runs_wanted)
		net_later(worker, put_off_again, c);
}

static void
a_call_put_off_by_one_put_off_waits_for_the_next_turn(void **state)
{
	struct chain c = {0, 3};

	(void)state;
	net_later(worker, put_off_again, &c);
	assert_int_equal(c.runs, 0);
	loop_turn();
	assert_int_equal(c.runs, 1);
	loop_turn();
	loop_turn();
	assert_int_equal(c.runs, 3);
}

static void
what_is_left_runs_when_the_worker_is_freed(void **state)
{
	int count = 0;

	(void)state;
	net_post(worker, count_up, &count);
	net_later(worker, count_up, &count);
	net_worker_free(&worker);
	assert_int_equal(count, 2);
}

static void
a_timer_fires_once_and_not_before_its_time(void **state)
{
	struct net_timer t;
	int count = 0;
	uint64_t begin;

	(void)state;
	net_timer_init(&t, worker, count_up, &count);
	begin = clock_ms();
	net_timer_set(&t, 30);
	WAIT_FOR(count == 1);
	assert_true(clock_ms() - begin >= 29);
	net_timer_set(&t, 1);
	WAIT_FOR(count == 2);
	net_timer_deinit(&t);
}

static void
a_timer_can_be_moved_both_ways_and_taken_away(void **state)
{
	struct net_timer moved, cleared, end;
	int moved_count = 0, cleared_count = 0, end_count = 0;
	uint64_t begin, armed;

	(void)state;
	net_timer_init(&moved, worker, count_up, &moved_count);
	net_timer_init(&cleared, worker, count_up, &cleared_count);
	net_timer_init(&end, worker, count_up, &end_count);
	begin = clock_ms();
	net_timer_set(&moved, 10);
	armed = moved.armed;
	net_timer_set(&moved, 40);
	assert_int_equal(moved.armed, armed); /* moving it later did not touch the event */
	net_timer_set(&cleared, 10);
	net_timer_clear(&cleared);
	WAIT_FOR(moved_count == 1);
	assert_true(clock_ms() - begin >= 39);
	net_timer_set(&end, 60000);
	net_timer_set(&end, 5);
	WAIT_FOR(end_count == 1);
	assert_int_equal(cleared_count, 0);
	net_timer_set(&cleared, 1);
	WAIT_FOR(cleared_count == 1);
	net_timer_deinit(&moved);
	net_timer_deinit(&cleared);
	net_timer_deinit(&end);
}

struct timed {
	struct net_timer timer;
	bool *gone;
};

static void
timed_free(void *arg)
{
	struct timed *t = arg;

	*t->gone = true;
	net_timer_deinit(&t->timer);
	free(t);
}

static void
a_timer_may_free_what_it_lives_in(void **state)
{
	struct timed *t = xcalloc(1, sizeof(*t));
	bool gone = false;

	(void)state;
	t->gone = &gone;
	net_timer_init(&t->timer, worker, timed_free, t);
	net_timer_set(&t->timer, 1);
	WAIT_FOR(gone);
}

struct moment {
	uint64_t before, after;
	bool seen;
};

static void
look_at_clock_twice(void *arg)
{
	struct moment *m = arg;

	m->before = net_worker_now(worker);
	clock_turn_ms(1000);
	m->after = net_worker_now(worker);
	m->seen = true;
}

static void
now_stands_still_within_a_turn_and_goes_on_with_the_next(void **state)
{
	struct moment first = {0}, second = {0};

	(void)state;
	net_post(worker, look_at_clock_twice, &first);
	WAIT_FOR(first.seen);
	net_post(worker, look_at_clock_twice, &second);
	WAIT_FOR(second.seen);
	assert_int_equal(first.before, first.after);
	assert_true(second.before >= first.before + 1000);
}

static void
look_at_signals(void *arg)
{
	sigset_t set;

	pthread_sigmask(SIG_SETMASK, NULL, &set);
	atomic_store((atomic_int *)arg, sigismember(&set, SIGTERM) ? 1 : 2);
}

static void
an_idle_thread_keeps_its_beat_blocks_signals_and_ends_when_told(void **state)
{
	struct net_worker *w;
	struct err err;
	atomic_int blocked = 0;
	uint64_t beat;

	(void)state;
	w = net_worker_new(-1, &err);
	assert_string_equal(net_worker_name(w), "a");
	assert_int_equal(net_worker_index(w), -1);
	assert_int_equal(net_worker_start(w, &err), 0);
	net_post(w, look_at_signals, &blocked);
	while (atomic_load(&blocked) == 0)
		sched_yield();
	assert_int_equal(atomic_load(&blocked), 1);
	beat = net_worker_beat(w);
	while (net_worker_beat(w) < beat + 2)
		usleep(1000);
	net_worker_stop(w);
	net_worker_join(w);
	net_worker_free(&w);
	assert_null(w);
}

static void
a_worker_knows_its_name_and_its_user(void **state)
{
	int user;

	(void)state;
	assert_string_equal(net_worker_name(worker), "w0");
	net_worker_set_user(worker, &user);
	assert_ptr_equal(net_worker_user(worker), &user);
	assert_non_null(net_worker_base(worker));
}

/* ---- jobs ---- */

struct work {
	pthread_t ran_on, done_on;
	atomic_bool began, may_end, ended;
	bool done, gone;
};

static void
work_run(void *arg)
{
	struct work *w = arg;

	w->ran_on = pthread_self();
	atomic_store(&w->began, true);
	while (!atomic_load(&w->may_end))
		sched_yield();
	atomic_store(&w->ended, true);
}

static void
work_done(void *arg)
{
	struct work *w = arg;

	w->done_on = pthread_self();
	w->done = true;
}

static void
work_gone(void *arg)
{
	((struct work *)arg)->gone = true;
}

static int
jobs_setup(void **state)
{
	struct err err;

	if (loop_setup(state) < 0)
		return -1;
	return net_threads_start(1, &err);
}

static int
jobs_teardown(void **state)
{
	net_threads_stop();
	return loop_teardown(state);
}

static void
a_job_runs_elsewhere_and_ends_on_its_worker(void **state)
{
	struct work w = {.may_end = true};

	(void)state;
	net_job_start(worker, work_run, work_done, &w);
	WAIT_FOR(w.done);
	assert_false(pthread_equal(w.ran_on, pthread_self()));
	assert_true(pthread_equal(w.done_on, pthread_self()));
}

static void
a_job_cancelled_in_the_queue_never_runs(void **state)
{
	struct work first = {0}, second = {0};
	struct net_job *job;

	(void)state;
	net_job_start(worker, work_run, work_done, &first);
	job = net_job_start(worker, work_run, work_done, &second);
	while (!atomic_load(&first.began))
		sched_yield();
	net_job_cancel(&job, work_gone);
	assert_null(job);
	assert_false(second.gone); /* not inside the call */
	atomic_store(&first.may_end, true);
	WAIT_FOR(first.done && second.gone);
	assert_false(atomic_load(&second.began));
	assert_false(second.done);
}

static void
a_job_cancelled_while_it_runs_ends_in_its_own_time(void **state)
{
	struct work w = {0};
	struct net_job *job = net_job_start(worker, work_run, work_done, &w);

	(void)state;
	while (!atomic_load(&w.began))
		sched_yield();
	net_job_cancel(&job, work_gone);
	loop_turn();
	assert_false(w.gone);
	atomic_store(&w.may_end, true);
	WAIT_FOR(w.gone);
	assert_true(atomic_load(&w.ended));
	assert_false(w.done);
}

static void
a_job_cancelled_between_its_end_and_its_report_is_not_reported(void **state)
{
	struct work w = {.may_end = true}, silent = {.may_end = true};
	struct net_job *job = net_job_start(worker, work_run, work_done, &w);
	struct net_job *silent_job = net_job_start(worker, work_run, work_done, &silent);
	int count = 0;

	(void)state;
	while (!atomic_load(&silent.ended))
		sched_yield();
	net_job_cancel(&job, work_gone);
	net_job_cancel(&silent_job, NULL);
	WAIT_FOR(w.gone);
	net_threads_stop(); /* so both have been posted */
	net_post(worker, count_up, &count);
	WAIT_FOR(count == 1);
	assert_false(w.done);
	assert_false(silent.done);
	net_job_cancel(&job, work_gone); /* a handle that is gone is let be */
}

static void
stopping_the_threads_finishes_what_is_queued(void **state)
{
	struct work works[8] = {0};
	bool all = false;

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(works); i++) {
		atomic_store(&works[i].may_end, true);
		net_job_start(worker, work_run, work_done, &works[i]);
	}
	net_threads_stop();
	loop_turn();
	all = true;
	for (size_t i = 0; i < ARRAY_COUNT(works); i++)
		all = all && works[i].done;
	assert_true(all);
}

#define LOOP(f) cmocka_unit_test_setup_teardown(f, loop_setup, loop_teardown)
#define JOBS(f) cmocka_unit_test_setup_teardown(f, jobs_setup, jobs_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		LOOP(posts_of_each_of_four_threads_arrive_in_their_order),
		LOOP(a_post_from_the_own_thread_runs_in_the_loop_and_not_inside_the_call),
		LOOP(a_call_put_off_by_one_put_off_waits_for_the_next_turn),
		LOOP(what_is_left_runs_when_the_worker_is_freed),
		LOOP(a_timer_fires_once_and_not_before_its_time),
		LOOP(a_timer_can_be_moved_both_ways_and_taken_away),
		LOOP(a_timer_may_free_what_it_lives_in),
		LOOP(now_stands_still_within_a_turn_and_goes_on_with_the_next),
		LOOP(an_idle_thread_keeps_its_beat_blocks_signals_and_ends_when_told),
		LOOP(a_worker_knows_its_name_and_its_user),
		JOBS(a_job_runs_elsewhere_and_ends_on_its_worker),
		JOBS(a_job_cancelled_in_the_queue_never_runs),
		JOBS(a_job_cancelled_while_it_runs_ends_in_its_own_time),
		JOBS(a_job_cancelled_between_its_end_and_its_report_is_not_reported),
		JOBS(stopping_the_threads_finishes_what_is_queued),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
