/*
 * t/unit/test_separate.c - for how long the recipients of a sender come alone.
 */
#include "proxy/separate.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#define HOUR (3600 * 1000LL)

static void
a_sender_comes_alone_for_its_time(void **state)
{
	(void)state;
	separate_note("front", "ann@example.net", 2 * HOUR);
	clock_turn_ms(2 * HOUR - 1000);
	assert_true(separate_is_on("front", "Ann@example.NET"));
	assert_false(separate_is_on("other", "ann@example.net"));
	assert_false(separate_is_on("front", "bob@example.net"));
	separate_note("front", "carl@example.net", 2 * HOUR);
	clock_turn_ms(2 * HOUR + 1000);
	assert_false(separate_is_on("front", "carl@example.net"));
	separate_note("front", "dora@example.net", 0);
	assert_false(separate_is_on("front", "dora@example.net"));
}

/* Postfix comes again after up to 4000 seconds, and has one recipient of the message less each time. */
static void
its_time_begins_anew_whenever_it_comes_alone(void **state)
{
	(void)state;
	separate_note("front", "list@example.net", 2 * HOUR);
	for (int i = 0; i < 20; i++) {
		clock_turn_ms(4000 * 1000);
		assert_true(separate_is_on("front", "list@example.net"));
	}
	clock_turn_ms(2 * HOUR + 1000);
	assert_false(separate_is_on("front", "list@example.net"));
}

/* One message of many must not slow a busy sender down for good. */
static void
but_there_is_an_end_to_it(void **state)
{
	int64_t since = 0;

	(void)state;
	separate_note("front", "busy@example.net", HOUR);
	while (separate_is_on("front", "busy@example.net") && since < 100 * HOUR) {
		clock_turn_ms(HOUR / 2);
		since += HOUR / 2;
	}
	assert_in_range(since, 12 * HOUR, 13 * HOUR);
	separate_note("front", "busy@example.net", HOUR);
	assert_true(separate_is_on("front", "busy@example.net"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sender_comes_alone_for_its_time),
		cmocka_unit_test(its_time_begins_anew_whenever_it_comes_alone),
		cmocka_unit_test(but_there_is_an_end_to_it),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
