/* t/unit/test_slots.c - slots of a filter: the limit, the queue's order, who leaves it, and all of it on four workers. */
#include "t/unit/loop.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/list.h"
#include "filters/slots.h"

#define TAKERS 8

struct taker {
	int number;
	enum slot_answer answer;
	struct slot_wait *wait;
};

static struct slots *slots;
static struct taker takers[TAKERS];
static char order[TAKERS * 2 + 1]; /* who got a slot later, "01" */

static int
setup(void **state)
{
	slots = slots_new();
	memset(takers, 0, sizeof(takers));
	order[0] = '\0';
	return loop_setup(state);
}

static int
teardown(void **state)
{
	loop_teardown(state);
	slots_free(&slots);
	return 0;
}

static void
got(void *owner)
{
	struct taker *t = owner;
	const size_t len = strlen(order);

	t->wait = NULL;
	order[len] = (char)('0' + t->number);
	order[len + 1] = '\0';
}

static void
take_on(struct net_worker *w, int number)
{
	struct taker *t = &takers[number];

	t->number = number;
	t->answer = slots_take(slots, w, got, t, &t->wait);
}

static void
take(int number)
{
	take_on(worker, number);
}

static void
take_up_to(int count)
{
	for (int i = 0; i < count; i++)
		take(i);
}

/* What was posted arrives. */
static const char *
served(void)
{
	loop_turn();
	return order;
}

static void
without_a_limit_nobody_waits_and_nothing_is_counted(void **state)
{
	(void)state;
	take_up_to(TAKERS);
	for (int i = 0; i < TAKERS; i++)
		assert_int_equal(takers[i].answer, SLOT_FREE);
	assert_int_equal(slots_waiting(slots), 0);
}

static void
who_finds_none_free_waits_in_the_order_of_arrival(void **state)
{
	(void)state;
	slots_set_max(slots, 2);
	take_up_to(5);
	assert_int_equal(takers[0].answer, SLOT_TAKEN);
	assert_int_equal(takers[1].answer, SLOT_TAKEN);
	assert_int_equal(takers[2].answer, SLOT_WAIT);
	assert_int_equal(slots_waiting(slots), 3);
	assert_string_equal(served(), "");
	slots_give(slots);
	assert_string_equal(order, ""); /* never from inside */
	assert_string_equal(served(), "2");
	slots_give(slots);
	slots_give(slots);
	assert_string_equal(served(), "234");
	slots_give(slots);
	slots_give(slots);
	take(5);
	assert_int_equal(takers[5].answer, SLOT_TAKEN);
	slots_give(slots);
}

static void
the_order_is_that_of_arrival_on_whichever_worker(void **state)
{
	struct err err;
	struct net_worker *first = worker, *second = net_worker_new(1, &err);

	(void)state;
	slots_set_max(slots, 1);
	take_on(first, 0);
	for (int i = 1; i < 6; i++)
		take_on(i % 3 == 0 ? first : second, i);
	for (int i = 1; i < 6; i++) {
		slots_give(slots);
		served();
		worker = second;
		served();
		worker = first;
	}
	assert_string_equal(order, "12345");
	slots_give(slots);
	net_worker_free(&second);
}

static void
a_newcomer_does_not_overtake_one_whose_slot_is_on_its_way(void **state)
{
	(void)state;
	slots_set_max(slots, 1);
	take_up_to(2);
	slots_give(slots);
	take(2);
	assert_int_equal(takers[2].answer, SLOT_WAIT);
	assert_string_equal(served(), "1");
	slots_give(slots);
	assert_string_equal(served(), "12");
	slots_give(slots);
}

static void
who_is_cancelled_leaves_the_queue(void **state)
{
	(void)state;
	slots_set_max(slots, 1);
	take_up_to(4);
	slots_cancel(&takers[2].wait);
	assert_null(takers[2].wait);
	assert_int_equal(slots_waiting(slots), 2);
	slots_cancel(&takers[2].wait);
	slots_give(slots);
	slots_give(slots);
	assert_string_equal(served(), "13");
	slots_give(slots);
}

static void
a_slot_on_its_way_to_one_who_has_gone_goes_to_the_next(void **state)
{
	(void)state;
	slots_set_max(slots, 1);
	take_up_to(4);
	slots_give(slots);
	slots_cancel(&takers[1].wait);
	slots_cancel(&takers[2].wait);
	assert_string_equal(served(), "3");
	slots_give(slots);
	take(4);
	assert_int_equal(takers[4].answer, SLOT_TAKEN);
	slots_give(slots);
}

static void
another_limit_holds_at_once(void **state)
{
	(void)state;
	slots_set_max(slots, 1);
	take_up_to(7);
	slots_set_max(slots, 3);
	assert_string_equal(served(), "12");
	slots_set_max(slots, 2);
	slots_give(slots);
	assert_string_equal(served(), "12");
	slots_give(slots);
	assert_string_equal(served(), "123");
	slots_set_max(slots, 0);
	assert_string_equal(served(), "123456");
	take(7);
	assert_int_equal(takers[7].answer, SLOT_FREE);
	for (int i = 0; i < 5; i++)
		slots_give(slots);
	slots_set_max(slots, 1);
	take(7);
	assert_int_equal(takers[7].answer, SLOT_TAKEN);
	slots_give(slots);
}

static void
what_is_on_its_way_when_a_worker_ends_is_no_leak(void **state)
{
	(void)state;
	slots_set_max(slots, 1);
	take_up_to(2);
	slots_give(slots);
	slots_cancel(&takers[1].wait);
	net_worker_settle(worker);
	assert_string_equal(order, "");
}

/* ---- four workers ---- */

#define WORKERS 4
#define RUNS	500 /* on each */
#define LIMIT	4

static int running, most, ended; /* atomic */

struct run {
	struct net_worker *on;
	struct slot_wait *wait;
	struct net_timer timer;
	bool has_slot, is_impatient;
};

static struct run runs[WORKERS][RUNS];
static struct net_worker *workers[WORKERS];

static void
end(struct run *run)
{
	net_timer_deinit(&run->timer);
	if (run->has_slot) {
		__atomic_sub_fetch(&running, 1, __ATOMIC_SEQ_CST);
		slots_give(slots);
	}
	slots_cancel(&run->wait);
	__atomic_add_fetch(&ended, 1, __ATOMIC_SEQ_CST);
}

static void
time_is_up(void *arg)
{
	end(arg);
}

static void
begin(void *owner)
{
	struct run *run = owner;
	const int now = __atomic_add_fetch(&running, 1, __ATOMIC_SEQ_CST);
	int before = __atomic_load_n(&most, __ATOMIC_SEQ_CST);

	while (now > before && !__atomic_compare_exchange_n(&most, &before, now, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
	run->wait = NULL;
	run->has_slot = true;
	if (run->is_impatient)
		end(run);
	else
		net_timer_set(&run->timer, 1);
}

static void
come(void *arg)
{
	struct run *run = arg;

	net_timer_init(&run->timer, run->on, time_is_up, run);
	switch (slots_take(slots, run->on, begin, run, &run->wait)) {
	case SLOT_FREE:
		abort();
	case SLOT_TAKEN:
		begin(run);
		break;
	case SLOT_WAIT:
		if (run->is_impatient)
			net_timer_set(&run->timer, 5);
		break;
	}
}

static void
over_all_workers_there_are_never_more_and_nobody_is_forgotten(void **state)
{
	struct err err;
	const uint64_t patience = clock_ms() + 60000;

	(void)state;
	running = most = ended = 0;
	slots_set_max(slots, LIMIT);
	for (int w = 0; w < WORKERS; w++) {
		workers[w] = net_worker_new(w, &err);
		assert_int_equal(net_worker_start(workers[w], &err), 0);
	}
	for (int i = 0; i < RUNS; i++)
		for (int w = 0; w < WORKERS; w++) {
			runs[w][i] = (struct run){.on = workers[w], .is_impatient = i % 3 == 0};
			net_post(workers[w], come, &runs[w][i]);
		}
	while (__atomic_load_n(&ended, __ATOMIC_SEQ_CST) < WORKERS * RUNS && clock_ms() < patience)
		usleep(1000);
	for (int w = 0; w < WORKERS; w++) {
		net_worker_stop(workers[w]);
		net_worker_join(workers[w]);
	}
	for (int w = 0; w < WORKERS; w++)
		net_worker_settle(workers[w]);
	for (int w = 0; w < WORKERS; w++)
		net_worker_free(&workers[w]);
	assert_int_equal(ended, WORKERS * RUNS);
	assert_int_equal(most, LIMIT);
	assert_int_equal(slots_waiting(slots), 0);
	for (int i = 0; i < LIMIT; i++) /* each was given back, once */
		take(i);
	for (int i = 0; i < LIMIT; i++)
		assert_int_equal(takers[i].answer, SLOT_TAKEN);
	take(LIMIT);
	assert_int_equal(takers[LIMIT].answer, SLOT_WAIT);
	slots_cancel(&takers[LIMIT].wait);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(without_a_limit_nobody_waits_and_nothing_is_counted),
		TEST(who_finds_none_free_waits_in_the_order_of_arrival),
		TEST(the_order_is_that_of_arrival_on_whichever_worker),
		TEST(a_newcomer_does_not_overtake_one_whose_slot_is_on_its_way),
		TEST(who_is_cancelled_leaves_the_queue),
		TEST(a_slot_on_its_way_to_one_who_has_gone_goes_to_the_next),
		TEST(another_limit_holds_at_once),
		TEST(what_is_on_its_way_when_a_worker_ends_is_no_leak),
		TEST(over_all_workers_there_are_never_more_and_nobody_is_forgotten),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
