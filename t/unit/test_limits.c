/*
 * t/unit/test_limits.c - who gets a place, and that nothing is left of those that went.
 */
#include "proxy/limits.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

static struct ip_addr
address(const char *text)
{
	struct ip_endpoint ep;
	struct ip_addr addr;
	struct err err;
	char full[80];

	snprintf(full, sizeof(full), strchr(text, ':') != NULL ? "[%s]:0" : "%s:0", text);
	assert_int_equal(ip_endpoint_parse(full, &ep, &err), 0);
	ip_addr_from_sockaddr((const struct sockaddr *)&ep.addr, &addr);
	return addr;
}

static int
clients_known(const struct limits *l)
{
	const struct limits_client *c;
	int n = 0;

	for (int i = 0; i < BUCKETS; i++)
		LIST_FOREACH(c, &l->clients[i], next)
			n++;
	return n;
}

static void
an_ipv6_network_is_one_client(void **state)
{
	static const struct {
		const char *first, *second;
		enum limits_refusal want;
	} cases[] = {
		{ "192.0.2.1", "192.0.2.1", REFUSED_PER_CLIENT },
		{ "192.0.2.1", "192.0.2.2", REFUSED_NOT },
		{ "2001:db8:1:2::1", "2001:db8:1:2::1", REFUSED_PER_CLIENT },
		{ "2001:db8:1:2::1", "2001:db8:1:2:ffff::9", REFUSED_PER_CLIENT },
		{ "2001:db8:1:2::1", "2001:db8:1:3::1", REFUSED_NOT },
		{ "::ffff:192.0.2.1", "192.0.2.1", REFUSED_PER_CLIENT },
		{ "::ffff:192.0.2.1", "::ffff:192.0.2.2", REFUSED_NOT },
	};
	struct listener listener = { .conf.max_per_client = 1 };

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct limits *l = limits_new(10);
		const struct ip_addr first = address(cases[i].first), second = address(cases[i].second);
		struct limits_place a, b;

		listener.count = limits_listener(l, "front");
		assert_int_equal(limits_enter(l, &listener, &first, &a), REFUSED_NOT);
		assert_int_equal(limits_enter(l, &listener, &second, &b), cases[i].want);
		limits_leave(l, &a);
		limits_leave(l, &b); /* also when it was refused */
		assert_int_equal(clients_known(l), 0);
		assert_int_equal(l->count, 0);
		limits_free(&l);
	}
}

static void
a_place_that_is_refused_takes_nothing(void **state)
{
	struct limits *l = limits_new(3);
	const struct listener listeners[] = {
		{ .count = limits_listener(l, "front"), .conf.max_connections = 2, .conf.max_per_client = 1 },
		{ .count = limits_listener(l, "other") },
	};
	const struct ip_addr one = address("192.0.2.1"), two = address("192.0.2.2"), three = address("192.0.2.3");
	struct limits_place a, b, c, none;

	(void)state;
	assert_int_equal(limits_enter(l, &listeners[0], &one, &a), REFUSED_NOT);
	assert_int_equal(limits_enter(l, &listeners[0], &one, &none), REFUSED_PER_CLIENT);
	assert_int_equal(limits_enter(l, &listeners[0], &two, &b), REFUSED_NOT);
	assert_int_equal(limits_enter(l, &listeners[0], &three, &none), REFUSED_CONNECTIONS);
	assert_int_equal(limits_enter(l, &listeners[1], &three, &c), REFUSED_NOT);
	assert_int_equal(limits_enter(l, &listeners[1], &three, &none), REFUSED_CONNECTIONS);
	assert_int_equal(l->count, 3);
	assert_int_equal(clients_known(l), 2);
	assert_int_equal(limits_noted(l, REFUSED_CONNECTIONS), 2);
	assert_int_equal(limits_noted(l, REFUSED_PER_CLIENT), 1);
	limits_leave(l, &a);
	limits_leave(l, &a); /* once is enough */
	assert_int_equal(l->count, 2);
	assert_int_equal(limits_enter(l, &listeners[0], &three, &a), REFUSED_NOT);
	limits_leave(l, &a);
	limits_leave(l, &b);
	limits_leave(l, &c);
	assert_int_equal(clients_known(l), 0);
	limits_free(&l);
}

/* A reload replaces the listener; its clients are still here. */
static void
a_listener_of_the_same_name_counts_on(void **state)
{
	struct limits *l = limits_new(10);
	const struct listener before = { .count = limits_listener(l, "front"), .conf.max_connections = 1 };
	const struct listener after = { .count = limits_listener(l, "front"), .conf.max_connections = 2 };
	const struct listener other = { .count = limits_listener(l, "other"), .conf.max_connections = 1 };
	const struct ip_addr client = address("192.0.2.1");
	struct limits_place a, b, c, none;

	(void)state;
	assert_int_equal(limits_enter(l, &before, &client, &a), REFUSED_NOT);
	assert_int_equal(limits_enter(l, &after, &client, &b), REFUSED_NOT);
	assert_int_equal(limits_enter(l, &after, &client, &none), REFUSED_CONNECTIONS);
	assert_int_equal(limits_enter(l, &other, &client, &c), REFUSED_NOT);
	limits_leave(l, &a);
	limits_leave(l, &b);
	limits_leave(l, &c);
	assert_int_equal(after.count->count, 0);
	limits_set_max(l, 0);
	assert_int_equal(limits_enter(l, &after, &client, &none), REFUSED_CONNECTIONS);
	limits_free(&l);
}

static void
an_eighth_is_kept_free_of_new_mail(void **state)
{
	static const struct {
		int max, tight_from;
	} cases[] = { { 1, 2 }, { 7, 8 }, { 8, 8 }, { 16, 15 }, { 100, 89 }, { 8000, 7001 } };
	struct listener listener = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct limits *l = limits_new(cases[i].max);
		const struct ip_addr client = address("192.0.2.1");
		struct limits_place place;

		listener.count = limits_listener(l, "front");
		for (int n = 1; n <= cases[i].max; n++) {
			assert_int_equal(limits_enter(l, &listener, &client, &place), REFUSED_NOT);
			assert_int_equal(limits_is_tight(l), n >= cases[i].tight_from);
		}
		assert_int_equal(limits_enter(l, &listener, &client, &place), REFUSED_CONNECTIONS);
		limits_free(&l);
	}
}

static void
auto_leaves_room_for_content_and_back_ends(void **state)
{
	struct listener listener = { .conf.listen.count = 2 };
	struct backend backends[] = {
		{ .kind = BACKEND_SMTP, .conf.max_connections = 50 },
		{ .kind = BACKEND_DISCARD, .conf.max_connections = 20 },
	};
	const struct settings st = { .listeners = &listener, .listener_count = 1, .backends = backends,
		.backend_count = 2, .workers = 4 };
	static const struct {
		long descriptors;
		int want;
	} cases[] = { { 20, 10 }, { 256, 48 }, { 1024, 408 }, { 20000, 10464 }, { 1L << 20, 32768 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		assert_int_equal(limits_auto(&st, cases[i].descriptors), cases[i].want);
		if (cases[i].descriptors > 200)
			assert_true(limits_descriptors(&st, cases[i].want) <= cases[i].descriptors);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_ipv6_network_is_one_client),
		cmocka_unit_test(a_place_that_is_refused_takes_nothing),
		cmocka_unit_test(a_listener_of_the_same_name_counts_on),
		cmocka_unit_test(an_eighth_is_kept_free_of_new_mail),
		cmocka_unit_test(auto_leaves_room_for_content_and_back_ends),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
