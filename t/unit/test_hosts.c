/*
 * t/unit/test_hosts.c - which host is next.
 *
 * A host is written as its state (u up, d down, t down, but the next mail may try it, n not known) and the number of
 * its busy connections.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "smtp/hosts.h"

#define COUNT(a)    (sizeof(a) / sizeof((a)[0]))
#define ORDER	    SMTP_BALANCE_ORDER
#define ROUND_ROBIN SMTP_BALANCE_ROUND_ROBIN
#define LEAST	    SMTP_BALANCE_LEAST

static int
parse(const char *text, struct smtp_host *hosts)
{
	int count = 0;
	char *end;

	for (; *text != '\0'; text = *end == ' ' ? end + 1 : end) {
		hosts[count].state = *text == 'd' || *text == 't' ? SMTP_HOST_DOWN
			: *text == 'u' ? SMTP_HOST_UP : SMTP_HOST_UNKNOWN;
		hosts[count].may_try = *text == 't';
		hosts[count++].busy = (int)strtol(text + 1, &end, 10);
	}
	return count;
}

static const struct {
	const char *name;
	enum smtp_balance balance;
	const char *hosts;
	int turn;
	uint64_t but;
	int want;
} choices[] = {
	{"one is always it", ORDER, "u0", 0, 0, 0},
	{"also when it is down", ORDER, "d0", 0, 0, 0},
	{"but not when it is not wanted", ORDER, "u0", 0, 1, -1},

	{"order: the first", ORDER, "u9 u0 u0", 0, 0, 0},
	{"order: a turn is of no matter", ORDER, "u9 u0 u0", 2, 0, 0},
	{"order: the first that is up", ORDER, "d0 d0 u5", 0, 0, 2},
	{"order: what is not known counts as up", ORDER, "n0 u0", 0, 0, 0},
	{"order: the next one", ORDER, "u0 u0 u0", 0, 1, 1},
	{"order: one that is up before one that is down", ORDER, "u0 d0 u0", 0, 1, 2},
	{"order: then those that are down", ORDER, "u0 d0 u0", 0, 5, 1},
	{"order: all down, the first", ORDER, "d0 d0 d0", 0, 0, 0},
	{"order: all down, the next", ORDER, "d0 d0 d0", 0, 1, 1},
	{"order: one that may be tried", ORDER, "t0 u0", 0, 0, 0},
	{"order: but not by all", ORDER, "t0 u0", 0, 1, 1},
	{"order: one that may be tried before one that is down", ORDER, "d0 t0", 0, 0, 1},
	{"order: none left", ORDER, "u0 d0 u0", 0, 7, -1},

	{"round-robin: whose turn it is", ROUND_ROBIN, "u9 u9 u0", 1, 0, 1},
	{"round-robin: begins again", ROUND_ROBIN, "u9 u9 u0", 3, 0, 0},
	{"round-robin: not one that is down", ROUND_ROBIN, "u0 d0 u0", 1, 0, 2},
	{"round-robin: not one that is down, at the end", ROUND_ROBIN, "u0 u0 d0", 2, 0, 0},
	{"round-robin: all down, whose turn it is", ROUND_ROBIN, "d0 d0 d0", 2, 0, 2},
	{"round-robin: one that may be tried, in its turn", ROUND_ROBIN, "u0 t0 u0", 1, 0, 1},
	{"round-robin: not before it", ROUND_ROBIN, "u0 t0 u0", 2, 0, 2},
	{"round-robin: not one that is not wanted", ROUND_ROBIN, "u0 u0 u0", 1, 2, 2},

	{"least: the idle one", LEAST, "u3 u0 u2", 0, 0, 1},
	{"least: ties in order", LEAST, "u2 u1 u1", 0, 0, 1},
	{"least: all alike, the first", LEAST, "u0 u0 u0", 2, 0, 0},
	{"least: not one that is down", LEAST, "u3 d0 u2", 0, 0, 2},
	{"least: of those that are down the idle one", LEAST, "d3 d1 d2", 0, 0, 1},
	{"least: not one that is not wanted", LEAST, "u3 u0 u2", 0, 2, 2},
};

static void
the_next_host(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(choices); i++) {
		struct smtp_host hosts[8] = {{0}};
		int count = parse(choices[i].hosts, hosts);
		int got = smtp_hosts_choose(hosts, count, choices[i].balance, choices[i].turn, choices[i].but);

		if (got != choices[i].want)
			fail_msg("%s: %d, not %d", choices[i].name, got, choices[i].want);
	}
}

static const struct {
	enum smtp_balance balance;
	const char *hosts;
	uint64_t but;
	uint64_t want; /* those that suit */
} idle[] = {
	{ORDER, "u0", 0, 1},
	{ORDER, "d0", 0, 1},
	{ORDER, "u0 u0", 0, 1},
	{ORDER, "d0 u0", 0, 2},
	{ORDER, "d0 d0", 0, 1},
	{ORDER, "u0 u0", 1, 2},
	{ORDER, "t0 u0", 0, 1},
	{ROUND_ROBIN, "u0 u0 u0", 0, 7},
	{ROUND_ROBIN, "u0 d0 n0", 0, 5},
	{ROUND_ROBIN, "u0 d0 u0", 1, 4},
	{ROUND_ROBIN, "u0 d0 u0", 5, 2},
	{ROUND_ROBIN, "t0 u0 d0", 0, 2},
	{ROUND_ROBIN, "t0 d0", 0, 0},
	{LEAST, "u9 u0 d0", 0, 3},
	{LEAST, "d9 d0 d0", 0, 7},
	{LEAST, "u0 u0", 3, 0},
};

static void
idle_connections_that_will_do(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(idle); i++) {
		struct smtp_host hosts[8] = {{0}};
		int count = parse(idle[i].hosts, hosts);
		uint64_t got = 0;

		for (int k = 0; k < count; k++)
			if (smtp_hosts_suits(hosts, count, idle[i].balance, idle[i].but, k))
				got |= SMTP_HOST_BIT(k);
		if (got != idle[i].want)
			fail_msg("%zu %s: %#llx", i, idle[i].hosts, (unsigned long long)got);
	}
}

/* With a turn that goes on behind the chosen one, all that are up get the same share. */
static void
turns_are_even(void **state)
{
	struct smtp_host hosts[8] = {{0}};
	int count = parse("u0 d0 u0 u0 d0 u0", hosts), turn = 0, share[8] = {0};

	(void)state;
	for (int i = 0; i < 400; i++) {
		int host = smtp_hosts_choose(hosts, count, ROUND_ROBIN, turn, 0);

		share[host]++;
		turn = host + 1;
	}
	for (int i = 0; i < count; i++)
		assert_int_equal(share[i], hosts[i].state == SMTP_HOST_DOWN ? 0 : 100);
}

static void
all_that_can_be_told_apart_are_hosts(void **state)
{
	struct smtp_host hosts[SMTP_HOSTS_MAX] = {{0}};

	(void)state;
	assert_int_equal(smtp_hosts_choose(hosts, SMTP_HOSTS_MAX, ORDER, 0, ~SMTP_HOST_BIT(63)), 63);
	assert_int_equal(smtp_hosts_choose(hosts, SMTP_HOSTS_MAX, ORDER, 0, ~UINT64_C(0)), -1);
}

static void
what_all_of_them_offer(void **state)
{
	const unsigned b = SMTP_CAP_8BITMIME, u = SMTP_CAP_SMTPUTF8, d = SMTP_CAP_DSN;
	struct smtp_host hosts[3] = {
		{.is_known = true, .caps = {b | u | d, 0}},
		{.is_known = true, .state = SMTP_HOST_DOWN, .caps = {b | d, 5000}},
		{.is_known = false, .caps = {0, 0}},
	};
	struct smtp_caps caps;

	(void)state;
	caps = smtp_hosts_caps(hosts, 1);
	assert_int_equal(caps.bits, b | u | d);
	assert_int_equal(caps.size, 0);
	caps = smtp_hosts_caps(hosts, 2);
	assert_int_equal(caps.bits, b | d);
	assert_int_equal(caps.size, 5000);
	caps = smtp_hosts_caps(hosts, 3);
	assert_int_equal(caps.bits, b);
	assert_int_equal(caps.size, 5000);
	hosts[2] = (struct smtp_host){.is_known = true, .caps = {u | d, 4000}};
	caps = smtp_hosts_caps(hosts, 3);
	assert_int_equal(caps.bits, d);
	assert_int_equal(caps.size, 4000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_next_host),
		cmocka_unit_test(idle_connections_that_will_do),
		cmocka_unit_test(turns_are_even),
		cmocka_unit_test(all_that_can_be_told_apart_are_hosts),
		cmocka_unit_test(what_all_of_them_offer),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
