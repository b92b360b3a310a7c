/*
 * t/unit/test_channel.c - packets between monitor and engine: what goes in comes out, and the end is noticed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/channel.h"

static int fds[2];

static int
setup(void **state)
{
	(void)state;
	return channel_pair(fds);
}

static int
teardown(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return 0;
}

static void
packets_come_whole_and_in_order(void **state)
{
	struct channel_packet got;

	(void)state;
	assert_int_equal(channel_receive(fds[1], &got), 0); /* and does not wait */
	for (unsigned i = 0; i < 10; i++) {
		struct channel_packet p = { .kind = CHANNEL_RELOAD, .generation = i, .digest = UINT64_MAX - i, .fd = -1 };

		memset(p.text, 'x', i);
		assert_true(channel_send(fds[0], &p));
	}
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(channel_receive(fds[1], &got), 1);
		assert_int_equal(got.kind, CHANNEL_RELOAD);
		assert_int_equal(got.generation, i);
		assert_true(got.digest == UINT64_MAX - i);
		assert_int_equal(strlen(got.text), i);
		assert_int_equal(got.fd, -1);
	}
	assert_int_equal(channel_receive(fds[1], &got), 0);
}

static void
a_socket_goes_with_its_packet_and_is_closed_at_exec(void **state)
{
	struct channel_packet p = { .kind = CHANNEL_SOCKET, .text = "unix:/a path/x" }, got;
	struct stat sent, received;

	(void)state;
	p.fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_true(p.fd >= 0);
	assert_true(channel_send(fds[0], &p));
	assert_int_equal(channel_receive(fds[1], &got), 1);
	assert_string_equal(got.text, "unix:/a path/x");
	assert_true(got.fd >= 0 && got.fd != p.fd);
	assert_int_equal(fstat(p.fd, &sent), 0);
	assert_int_equal(fstat(got.fd, &received), 0);
	assert_true(sent.st_ino == received.st_ino);
	assert_true(fcntl(got.fd, F_GETFD) & FD_CLOEXEC);
	close(p.fd);
	close(got.fd);
}

static void
a_text_without_an_end_gets_one(void **state)
{
	struct channel_packet p = { .kind = CHANNEL_REFUSED, .fd = -1 }, got;

	(void)state;
	memset(p.text, 'x', sizeof(p.text));
	assert_true(channel_send(fds[1], &p));
	assert_int_equal(channel_receive(fds[0], &got), 1);
	assert_int_equal(strlen(got.text), sizeof(got.text) - 1);
}

static void
a_packet_of_another_form_is_none(void **state)
{
	struct channel_packet p = { .kind = CHANNEL_BEAT, .fd = -1 }, got;

	(void)state;
	assert_int_equal(send(fds[1], "short", 5, 0), 5);
	assert_true(channel_send(fds[1], &p));
	assert_int_equal(channel_receive(fds[0], &got), -1);
	assert_int_equal(channel_receive(fds[0], &got), 1); /* it is not in the way of those behind it */
	assert_int_equal(got.kind, CHANNEL_BEAT);
}

static void
a_full_channel_refuses_and_goes_on_when_there_is_room(void **state)
{
	struct channel_packet p = { .kind = CHANNEL_BEAT, .fd = -1 }, got;
	int n = 0;

	(void)state;
	while (channel_send(fds[0], &p))
		n++;
	assert_int_equal(errno, EAGAIN);
	assert_true(n > 50);
	assert_int_equal(channel_receive(fds[1], &got), 1);
	assert_int_equal(channel_receive(fds[1], &got), 1);
	assert_true(channel_send(fds[0], &p));
}

static void
the_other_sides_end_comes_behind_what_it_said(void **state)
{
	struct channel_packet p = { .kind = CHANNEL_READY, .fd = -1 }, got;

	(void)state;
	assert_true(channel_send(fds[1], &p));
	close(fds[1]);
	fds[1] = -1;
	assert_int_equal(channel_receive(fds[0], &got), 1);
	assert_int_equal(channel_receive(fds[0], &got), -1);
	assert_false(channel_send(fds[0], &p)); /* and no signal */
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(packets_come_whole_and_in_order),
		TEST(a_socket_goes_with_its_packet_and_is_closed_at_exec),
		TEST(a_text_without_an_end_gets_one),
		TEST(a_packet_of_another_form_is_none),
		TEST(a_full_channel_refuses_and_goes_on_when_there_is_room),
		TEST(the_other_sides_end_comes_behind_what_it_said),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
