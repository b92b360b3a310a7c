/*
 * t/unit/test_connect.c - addresses, names, paths, refusals, deadlines, and cancelling at any time.
 */
#include "t/unit/loop.h"

#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/connect.h"
#include "net/threads.h"

struct outcome {
	bool came;
	int fd;
	struct err err;
};

static void
got_outcome(void *owner, int fd, const struct err *err)
{
	struct outcome *o = owner;

	assert_false(o->came);
	o->came = true;
	o->fd = fd;
	if (fd < 0)
		o->err = *err;
}

static int
setup(void **state)
{
	struct err err;

	if (loop_setup(state) < 0)
		return -1;
	return net_threads_start(1, &err);
}

static int
teardown(void **state)
{
	net_threads_stop();
	return loop_teardown(state);
}

static struct ip_endpoint
endpoint(const char *text)
{
	struct ip_endpoint ep;
	struct err err;

	assert_int_equal(ip_endpoint_parse(text, &ep, &err), 0);
	return ep;
}

static struct outcome
connect_to(const struct ip_endpoint *ep, int64_t timeout_ms)
{
	struct outcome o = {.fd = -1};

	assert_non_null(net_connect_start(worker, ep, NULL, timeout_ms, got_outcome, &o));
	assert_false(o.came);
	WAIT_FOR(o.came);
	return o;
}

static void
assert_serves(int client, int listening)
{
	const int server = accept(listening, NULL, NULL);
	char c = 0;

	assert_true(client >= 0 && server >= 0);
	assert_true(fcntl(client, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(client, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(write(client, "x", 1), 1);
	assert_int_equal(read(server, &c, 1), 1);
	assert_int_equal(c, 'x');
	close(client);
	close(server);
}

static void
a_numeric_address_is_connected(void **state)
{
	struct ip_endpoint ep;
	const int listening = loopback_listen(5, &ep);

	(void)state;
	assert_serves(connect_to(&ep, 5000).fd, listening);
	close(listening);
}

static void
a_name_is_resolved_and_its_addresses_tried_in_turn(void **state)
{
	struct ip_endpoint numeric, ep;
	const int listening = loopback_listen(5, &numeric); /* not on ::1 */
	char text[64];

	(void)state;
	snprintf(text, sizeof(text), "localhost:%u", numeric.port);
	ep = endpoint(text);
	assert_int_equal(ep.kind, IP_NAME);
	assert_serves(connect_to(&ep, 5000).fd, listening);
	close(listening);
}

static void
a_refusal_names_the_address_and_may_pass(void **state)
{
	struct ip_endpoint ep;
	const int listening = loopback_listen(5, &ep);
	char want[100], text[64];
	struct outcome o;

	(void)state;
	close(listening);
	o = connect_to(&ep, 5000);
	ip_endpoint_text(&ep, text, sizeof(text));
	snprintf(want, sizeof(want), "%s: connection refused", text);
	assert_int_equal(o.fd, -1);
	assert_string_equal(o.err.text, want);
	assert_true(o.err.temporary);
}

static void
a_refusal_of_a_name_says_which_address_it_was(void **state)
{
	struct ip_endpoint numeric, ep;
	const int listening = loopback_listen(5, &numeric);
	char text[64];
	struct outcome o;

	(void)state;
	close(listening);
	snprintf(text, sizeof(text), "localhost:%u", numeric.port);
	ep = endpoint(text);
	o = connect_to(&ep, 5000);
	assert_int_equal(o.fd, -1);
	assert_memory_equal(o.err.text, text, strlen(text));
	assert_non_null(strstr(o.err.text, " at "));
	assert_non_null(strstr(o.err.text, ": connection refused"));
}

static void
a_name_that_does_not_exist_is_a_failure_with_words(void **state)
{
	const struct ip_endpoint ep = endpoint("no-such-host.invalid:25");
	const struct outcome o = connect_to(&ep, 20000);

	(void)state;
	assert_int_equal(o.fd, -1);
	assert_memory_equal(o.err.text, "no-such-host.invalid:25: ", 25);
	assert_true(strlen(o.err.text) > 25);
	assert_true(o.err.temporary);
}

/* ---- paths ---- */

static char folder[] = "/tmp/test-connect-XXXXXX";

static int
unix_setup(void **state)
{
	strcpy(strrchr(folder, '-'), "-XXXXXX");
	return mkdtemp(folder) != NULL ? setup(state) : -1;
}

static struct ip_endpoint
unix_endpoint(void)
{
	char text[100];

	snprintf(text, sizeof(text), "unix:%s/s", folder);
	return endpoint(text);
}

static int
unix_teardown(void **state)
{
	const struct ip_endpoint ep = unix_endpoint();

	unlink(ep.host);
	rmdir(folder);
	return teardown(state);
}

static int
unix_listen(const struct ip_endpoint *ep, int backlog)
{
	const int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_return_code(bind(fd, (const struct sockaddr *)&ep->addr, ep->addr_len), 0);
	assert_return_code(listen(fd, backlog), 0);
	return fd;
}

static void
a_path_is_connected(void **state)
{
	const struct ip_endpoint ep = unix_endpoint();
	const int listening = unix_listen(&ep, 5);

	(void)state;
	assert_serves(connect_to(&ep, 5000).fd, listening);
	close(listening);
}

static void
a_path_without_a_socket_is_a_failure_that_names_it(void **state)
{
	const struct ip_endpoint ep = unix_endpoint();
	const struct outcome o = connect_to(&ep, 5000);
	char want[320];

	(void)state;
	snprintf(want, sizeof(want), "unix:%s: no such file or directory", ep.host);
	assert_string_equal(o.err.text, want);
	assert_true(o.err.temporary);
}

/* Fills the queue of a listener: the connections it holds stand in fds. */
static int
fill_queue(const struct ip_endpoint *ep, int *fds, int max)
{
	int count = 0;

	while (count < max) {
		const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

		if (connect(fd, (const struct sockaddr *)&ep->addr, ep->addr_len) < 0) {
			close(fd);
			break;
		}
		fds[count++] = fd;
	}
	return count;
}

static void
a_path_whose_queue_is_full_is_tried_until_there_is_room(void **state)
{
	const struct ip_endpoint ep = unix_endpoint();
	const int listening = unix_listen(&ep, 0);
	int fds[8];
	const int count = fill_queue(&ep, fds, 8);
	struct outcome o = {.fd = -1}, late;

	(void)state;
	assert_in_range(count, 1, 7);
	late = connect_to(&ep, 50);
	assert_int_equal(late.fd, -1);
	assert_non_null(strstr(late.err.text, "queue is full"));

	net_connect_start(worker, &ep, NULL, 10000, got_outcome, &o);
	loop_turn();
	loop_turn();
	assert_false(o.came);
	for (int i = 0; i < count; i++) {
		close(accept(listening, NULL, NULL));
		close(fds[i]);
	}
	WAIT_FOR(o.came);
	assert_serves(o.fd, listening);
	close(listening);
}

/* ---- deadlines and cancelling ---- */

/* A listener that answers no SYN: its queue is full. Returns how many connections fill it. */
static int
silent_listener(struct ip_endpoint *ep_r, int *fds, int max)
{
	int count = 0;

	fds[count++] = loopback_listen(0, ep_r);
	while (count < max) {
		const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		struct pollfd pfd = {.fd = fd, .events = POLLOUT};

		connect(fd, (const struct sockaddr *)&ep_r->addr, ep_r->addr_len);
		fds[count++] = fd;
		if (poll(&pfd, 1, 50) == 0)
			break;
	}
	return count;
}

static void
a_silent_address_ends_at_the_deadline(void **state)
{
	struct ip_endpoint ep;
	int fds[8];
	const int count = silent_listener(&ep, fds, 8);
	const uint64_t begin = clock_ms();
	const struct outcome o = connect_to(&ep, 40);

	(void)state;
	assert_int_equal(o.fd, -1);
	assert_non_null(strstr(o.err.text, ": no answer within 40 ms"));
	assert_true(o.err.temporary);
	assert_true(clock_ms() - begin >= 39);
	for (int i = 0; i < count; i++)
		close(fds[i]);
}

static atomic_bool job_may_end;

static void
busy_run(void *arg)
{
	(void)arg;
	while (!atomic_load(&job_may_end))
		usleep(100);
}

static void
busy_done(void *arg)
{
	*(bool *)arg = true;
}

static void
a_name_that_is_not_resolved_in_time_ends_at_the_deadline(void **state)
{
	const struct ip_endpoint ep = endpoint("localhost:25");
	bool done = false;
	struct outcome o;

	(void)state;
	atomic_store(&job_may_end, false);
	net_job_start(worker, busy_run, busy_done, &done); /* the only thread */
	o = connect_to(&ep, 20);
	assert_string_equal(o.err.text, "localhost:25: no answer within 20 ms");
	atomic_store(&job_may_end, true);
	WAIT_FOR(done);
}

static void
cancelled_before_it_began_nothing_comes(void **state)
{
	struct ip_endpoint ep;
	const int listening = loopback_listen(5, &ep);
	struct outcome o = {.fd = -1};
	struct net_connect *c = net_connect_start(worker, &ep, NULL, 1000, got_outcome, &o);

	(void)state;
	net_connect_cancel(&c);
	assert_null(c);
	net_connect_cancel(&c);
	for (int i = 0; i < 10; i++)
		loop_turn();
	assert_false(o.came);
	close(listening);
}

static void
cancelled_under_way_nothing_comes(void **state)
{
	struct ip_endpoint ep;
	int fds[8];
	const int count = silent_listener(&ep, fds, 8);
	struct outcome o = {.fd = -1};
	struct net_connect *c = net_connect_start(worker, &ep, NULL, 1000, got_outcome, &o);

	(void)state;
	loop_turn();
	loop_turn();
	net_connect_cancel(&c);
	for (int i = 0; i < 10; i++)
		loop_turn();
	assert_false(o.came);
	for (int i = 0; i < count; i++)
		close(fds[i]);
}

static void
cancelled_while_its_name_waits_or_is_resolved_nothing_comes(void **state)
{
	const struct ip_endpoint ep = endpoint("localhost:25");
	struct outcome o = {.fd = -1};
	struct net_connect *waiting, *running;
	bool done = false;

	(void)state;
	atomic_store(&job_may_end, false);
	net_job_start(worker, busy_run, busy_done, &done);
	waiting = net_connect_start(worker, &ep, NULL, 10000, got_outcome, &o);
	running = net_connect_start(worker, &ep, NULL, 10000, got_outcome, &o);
	loop_turn();
	net_connect_cancel(&waiting);
	atomic_store(&job_may_end, true);
	WAIT_FOR(done);
	net_connect_cancel(&running);
	net_threads_stop();
	for (int i = 0; i < 10; i++)
		loop_turn();
	assert_false(o.came);
}

#define TEST(f)      cmocka_unit_test_setup_teardown(f, setup, teardown)
#define UNIX_TEST(f) cmocka_unit_test_setup_teardown(f, unix_setup, unix_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_numeric_address_is_connected),
		TEST(a_name_is_resolved_and_its_addresses_tried_in_turn),
		TEST(a_refusal_names_the_address_and_may_pass),
		TEST(a_refusal_of_a_name_says_which_address_it_was),
		TEST(a_name_that_does_not_exist_is_a_failure_with_words),
		UNIX_TEST(a_path_is_connected),
		UNIX_TEST(a_path_without_a_socket_is_a_failure_that_names_it),
		UNIX_TEST(a_path_whose_queue_is_full_is_tried_until_there_is_room),
		TEST(a_silent_address_ends_at_the_deadline),
		TEST(a_name_that_is_not_resolved_in_time_ends_at_the_deadline),
		TEST(cancelled_before_it_began_nothing_comes),
		TEST(cancelled_under_way_nothing_comes),
		TEST(cancelled_while_its_name_waits_or_is_resolved_nothing_comes),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	setenv("RES_OPTIONS", "timeout:1 attempts:1", 1); /* for a machine whose resolver is silent */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
