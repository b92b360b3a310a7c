/* t/unit/test_breaker.c - failures in a row, the pause, the one probe: each case a walk of steps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "filters/breaker.h"

#define RETRY_MS 1000

static struct breaker *breaker;

static int
setup(void **state)
{
	(void)state;
	breaker = breaker_new();
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	breaker_free(&breaker);
	return 0;
}

/*
 * One letter per step. A run asks: `g` is let go, `p` as a probe, `s` is stopped. One ends: `+` well, `-` badly, `?` is
 * given up; `P` makes the next of these the probe's. `O` and `C`: the last end has opened or closed it. `.` a pause of
 * half of retry_after. `R` is a reset.
 */
static void
walk(size_t n, const char *steps, int failures)
{
	const struct breaker_conf conf = {.failures = failures, .retry_after_ms = RETRY_MS};
	uint64_t now = 5000;
	bool is_probe = false;

	for (const char *p = steps; *p != '\0'; p++) {
		const char *answers = "gps", *ends = "+-?";

		if (strchr(answers, *p) != NULL) {
			const bool stops = breaker_stops(breaker, now);
			const enum breaker_answer answer = breaker_ask(breaker, now);

			if (answers[answer] != *p || stops != (answer == BREAKER_STOP))
				fail_msg("case %zu: at \"%s\": answers %c", n, p, answers[answer]);
		} else if (strchr(ends, *p) != NULL) {
			const enum breaker_change change = breaker_ended(breaker, &conf,
				(enum breaker_end)(strchr(ends, *p) - ends), is_probe, now);

			is_probe = false;
			if (change != (p[1] == 'O' ? BREAKER_OPENED : p[1] == 'C' ? BREAKER_CLOSED : BREAKER_SAME))
				fail_msg("case %zu: at \"%s\": change %d", n, p, (int)change);
		} else if (*p == 'P') {
			is_probe = true;
		} else if (*p == '.') {
			now += RETRY_MS / 2;
		} else if (*p == 'R') {
			breaker_reset(breaker);
		} else {
			assert_int_equal(breaker_is_open(breaker), *p == 'O');
		}
	}
}

static void
it_opens_after_failures_in_a_row_and_closes_by_one_probe(void **state)
{
	static const struct {
		const char *steps;
		int failures;
	} cases[] = {
		{"g-g-g-Os", 3},
		/* a success in between, and the count begins anew; what was given up does not count */
		{"g-g-g+g-g-g-Os", 3},
		{"g-g?g-g?g-Os", 3},
		/* those who run beside each other count in the order in which they end */
		{"gggg--+---Os", 3},
		/* 0: never */
		{"g-g-g-g-g-g-g-", 0},
		/* after the pause one probe, and nobody else */
		{"g-g-Os.s.pssss", 2},
		{"g-g-O..ps" "P+Cgg", 2},
		{"g-g-O..ps" "P+Cg-g-Os", 2},
		/* it fails: another pause */
		{"g-g-O..ps" "P-s.s.ps" "P+Cg", 2},
		/* it is given up: the next one is the probe, at once */
		{"g-g-O..ps" "P?ps" "P?ps" "P+Cg", 2},
		/* what began before it opened says nothing any more */
		{"gggg--O++s..ps+-s" "P+Cg", 2},
		{"gggg--O-s..p", 2},
		/* a reset, and the late probe is one like the others */
		{"g-g-OsRg", 2},
		{"g-g-O..pR" "P-gP-Os", 2},
		{"g-g-O..pR" "P?gP+g-g-Os", 2},
	};

	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		walk(i, cases[i].steps, cases[i].failures);
		teardown(state);
		setup(state);
	}
}

/* ---- threads ---- */

#define THREADS 4
#define ROUNDS	20000

static int probes; /* atomic */

static void *
fail_and_probe(void *arg)
{
	static const struct breaker_conf conf = {.failures = 3, .retry_after_ms = 0};
	unsigned seed = (unsigned)(uintptr_t)arg;

	for (int i = 0; i < ROUNDS; i++) {
		const enum breaker_answer answer = breaker_ask(breaker, 1);
		const bool is_probe = answer == BREAKER_PROBE;

		if (answer == BREAKER_STOP)
			continue;
		if (is_probe && __atomic_add_fetch(&probes, 1, __ATOMIC_SEQ_CST) != 1)
			return "two probes at a time";
		sched_yield();
		if (is_probe)
			__atomic_sub_fetch(&probes, 1, __ATOMIC_SEQ_CST);
		breaker_ended(breaker, &conf, (enum breaker_end)(rand_r(&seed) % 3), is_probe, 1);
	}
	return NULL;
}

static void
there_is_one_probe_at_a_time_over_all_workers(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, fail_and_probe, (void *)(i + 1)), 0);
	for (size_t i = 0; i < THREADS; i++) {
		void *complaint;

		pthread_join(threads[i], &complaint);
		assert_null(complaint);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(it_opens_after_failures_in_a_row_and_closes_by_one_probe),
		TEST(there_is_one_probe_at_a_time_over_all_workers),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
