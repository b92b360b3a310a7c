/*
 * t/unit/test_rate.c - counts within a sliding window, in bounded memory.
 */
#include "filters/rate_table.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#define HOUR (3600 * 1000ULL)

static const struct rate_what hourly = {.per_ms = (int64_t)HOUR};

/* How many of so many tries are taken at this time. */
static unsigned
take(const char *filter, const char *key, unsigned limit, unsigned tries, uint64_t now)
{
	unsigned taken = 0;

	for (unsigned i = 0; i < tries; i++)
		taken += rate_take(filter, &hourly, limit, key, strlen(key), now);
	return taken;
}

static int
forget_all(void **state)
{
	(void)state;
	drop_unused(UINT64_MAX / 2);
	return LIST_EMPTY(&tables) ? 0 : -1;
}

/* The example of the paper (appendix A). */
static void
the_hash_is_siphash(void **state)
{
	const uint64_t key[2] = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
	const unsigned char text[15] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14};

	(void)state;
	assert_true(sip_hash(key, text, sizeof(text)) == 0xa129ca6149be45e5);
	assert_true(sip_hash(key, text, 0) == 0x726fdb47dd0e0e31);
	assert_true(sip_hash(key, text, 8) == 0x93f5f5799a932462);
}

static void
so_many_are_taken_and_no_more(void **state)
{
	(void)state;
	assert_int_equal(take("a", "ann", 10, 25, 100 * HOUR), 10);
	assert_int_equal(take("a", "bob", 10, 25, 100 * HOUR), 10);
	assert_int_equal(take("b", "ann", 10, 25, 100 * HOUR), 10);
	assert_int_equal(take("a", "", 10, 25, 100 * HOUR), 10);
	assert_int_equal(take("a", "ann", 12, 25, 100 * HOUR), 2);
	assert_int_equal(take("a", "ann", 5, 25, 100 * HOUR), 0);
}

/* Behind 100 at the begin of an hour, in the hour that follows. */
static void
the_window_slides(void **state)
{
	static const struct {
		unsigned minute, taken; /* since the row before */
	} rows[] = {{0, 0}, {1, 1}, {6, 9}, {30, 40}, {30, 0}, {59, 48}, {60, 2}, {61, 1}, {200, 100}};

	(void)state;
	assert_int_equal(take("slide", "ann", 100, 200, 100 * HOUR), 100);
	assert_int_equal(take("slide", "ann", 100, 200, 101 * HOUR - 1), 0);
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		const unsigned taken = take("slide", "ann", 100, 200, 101 * HOUR + rows[i].minute * 60000ULL);

		if (taken != rows[i].taken)
			fail_msg("minute %u: %u are taken, not %u", rows[i].minute, taken, rows[i].taken);
	}
}

/* Whoever always tries again is not kept out by that. */
static void
what_is_refused_does_not_count(void **state)
{
	(void)state;
	assert_int_equal(take("again", "ann", 2, 2, 100 * HOUR), 2);
	for (unsigned minute = 0; minute < 90; minute++)
		take("again", "ann", 2, 10, 100 * HOUR + minute * 60000);
	assert_int_equal(take("again", "ann", 2, 10, 104 * HOUR), 2);
}

static void
many_others_do_not_push_out_who_is_near_the_limit(void **state)
{
	char key[32];

	(void)state;
	assert_int_equal(take("flood", "ann", 10, 9, 100 * HOUR), 9);
	for (unsigned i = 0; i < 20 * RATE_KEYS; i++) {
		snprintf(key, sizeof(key), "stranger %u", i);
		assert_int_equal(take("flood", key, 10, 1, 100 * HOUR), 1);
	}
	assert_int_equal(take("flood", "ann", 10, 9, 100 * HOUR), 1);
}

/* But after its time it goes. */
static void
who_was_heavy_long_ago_makes_room(void **state)
{
	char key[32];
	unsigned counted = 0;

	(void)state;
	for (unsigned i = 0; i < 4 * RATE_KEYS; i++) {
		snprintf(key, sizeof(key), "old %u", i);
		take("room", key, 10, 9, 100 * HOUR);
	}
	for (unsigned i = 0; i < RATE_KEYS / 8; i++) {
		snprintf(key, sizeof(key), "new %u", i);
		take("room", key, 10, 5, 103 * HOUR);
	}
	for (unsigned i = 0; i < RATE_KEYS / 8; i++) {
		snprintf(key, sizeof(key), "new %u", i);
		counted += take("room", key, 10, 10, 103 * HOUR) == 5;
	}
	assert_true(counted > RATE_KEYS / 8 * 99 / 100);
}

static void
a_table_that_nobody_asks_goes(void **state)
{
	const struct rate_what other = {.per_ms = 1000};
	struct table *t;
	int n = 0;

	(void)state;
	take("one", "ann", 1, 1, 100 * HOUR);
	assert_true(rate_take("one", &other, 1, "ann", 3, 100 * HOUR));
	assert_false(rate_take("one", &other, 1, "ann", 3, 100 * HOUR));
	take("two", "ann", 1, 1, 101 * HOUR);
	LIST_FOREACH(t, &tables, next)
	n++;
	assert_int_equal(n, 2);
	assert_int_equal(take("one", "ann", 1, 1, 101 * HOUR), 0);
}

/* Who asks took the time before the lock: another thread's may be later, and have turned the window. */
static void
a_time_that_comes_late_loses_no_count(void **state)
{
	const struct rate_what other = {.per_ms = 1000};

	(void)state;
	assert_int_equal(take("late", "ann", 10, 10, 100 * HOUR + HOUR - 1), 10);
	assert_int_equal(take("late", "ann", 10, 1, 101 * HOUR), 0);
	assert_int_equal(take("late", "ann", 10, 1, 101 * HOUR - 1), 0);
	assert_int_equal(take("late", "ann", 10, 10, 101 * HOUR), 0);
	assert_true(rate_take("new", &other, 1, "ann", 3, 101 * HOUR - 1));
	assert_int_equal(take("late", "ann", 10, 10, 101 * HOUR), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_hash_is_siphash),
		cmocka_unit_test_teardown(so_many_are_taken_and_no_more, forget_all),
		cmocka_unit_test_teardown(the_window_slides, forget_all),
		cmocka_unit_test_teardown(what_is_refused_does_not_count, forget_all),
		cmocka_unit_test_teardown(many_others_do_not_push_out_who_is_near_the_limit, forget_all),
		cmocka_unit_test_teardown(who_was_heavy_long_ago_makes_room, forget_all),
		cmocka_unit_test_teardown(a_time_that_comes_late_loses_no_count, forget_all),
		cmocka_unit_test_teardown(a_table_that_nobody_asks_goes, forget_all),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
