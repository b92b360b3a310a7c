/*
 * t/unit/test_idle.c - connections that wait for the next message, and those that are no good any more.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "filters/idle.h"

#define HOUR_MS (3600 * 1000)

/* Keeps one end of a new pair, returns the service's. */
static int
keep_one(struct idle_conns *idle, unsigned uses)
{
	struct idle_conn conn = {.uses = uses};
	int pair[2];

	assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), errno);
	conn.fd = pair[0];
	idle_keep(idle, &conn);
	return pair[1];
}

static bool
is_closed(int service)
{
	char c;

	return read(service, &c, 1) == 0;
}

static void
the_last_one_is_given_first(void **state)
{
	struct idle_conns *idle = idle_new(3, HOUR_MS);
	struct idle_conn conn;
	int a = keep_one(idle, 1), b = keep_one(idle, 2);

	(void)state;
	for (unsigned want = 2; want > 0; want--) {
		assert_true(idle_take(idle, &conn));
		assert_int_equal(conn.uses, want);
		close(conn.fd);
	}
	assert_false(idle_take(idle, &conn));
	idle_free(&idle);
	assert_null(idle);
	close(a);
	close(b);
}

static void
one_that_was_closed_or_said_something_is_not_given(void **state)
{
	struct idle_conns *idle = idle_new(3, HOUR_MS);
	struct idle_conn conn;
	int good = keep_one(idle, 1), closed = keep_one(idle, 2), talks = keep_one(idle, 3);

	(void)state;
	close(closed);
	assert_int_equal(write(talks, "x", 1), 1);
	assert_true(idle_take(idle, &conn));
	assert_int_equal(conn.uses, 1);
	assert_int_equal(recv(talks, (char[1]){0}, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET); /* closed with an octet unread */
	close(conn.fd);
	idle_free(&idle);
	close(good);
	close(talks);
}

static void
above_the_limit_the_oldest_goes(void **state)
{
	struct idle_conns *idle = idle_new(2, HOUR_MS);
	int a = keep_one(idle, 1), b = keep_one(idle, 2), c = keep_one(idle, 3);

	(void)state;
	assert_true(is_closed(a));
	assert_false(is_closed(b));
	assert_false(is_closed(c));
	idle_free(&idle);
	assert_true(is_closed(b));
	assert_true(is_closed(c));
	close(a);
	close(b);
	close(c);
}

static void
with_a_limit_of_none_none_is_kept(void **state)
{
	struct idle_conns *idle = idle_new(0, HOUR_MS);
	struct idle_conn conn;
	int a = keep_one(idle, 1);

	(void)state;
	assert_true(is_closed(a));
	assert_false(idle_take(idle, &conn));
	idle_free(&idle);
	close(a);
}

static void
one_that_is_too_old_is_closed(void **state)
{
	struct idle_conns *idle = idle_new(2, 1);
	struct idle_conn conn;
	int a = keep_one(idle, 1);

	(void)state;
	usleep(2000);
	assert_false(idle_take(idle, &conn));
	assert_true(is_closed(a));
	idle_free(&idle);
	close(a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_last_one_is_given_first),
		cmocka_unit_test(one_that_was_closed_or_said_something_is_not_given),
		cmocka_unit_test(above_the_limit_the_oldest_goes),
		cmocka_unit_test(with_a_limit_of_none_none_is_kept),
		cmocka_unit_test(one_that_is_too_old_is_closed),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
