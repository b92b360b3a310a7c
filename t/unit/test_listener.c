/*
 * t/unit/test_listener.c - listening sockets, accepting on one worker, running out of descriptors.
 */
#include "t/unit/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/list.h"
#include "net/listener.h"

#define CLIENTS 40

struct arrivals {
	int fds[CLIENTS];
	int count;
	struct net_listener *free_me;
};

static void
got_client(void *owner, struct net_worker *w, int fd)
{
	struct arrivals *a = owner;

	assert_ptr_equal(w, worker);
	a->fds[a->count++] = fd;
	if (a->free_me != NULL)
		net_listener_free(&a->free_me);
}

static void
close_all(const int *fds, int count)
{
	for (int i = 0; i < count; i++)
		close(fds[i]);
}

/* Listens on a port of the kernel's choice. */
static int
listen_somewhere(struct ip_endpoint *ep_r)
{
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);
	char text[64];
	struct err err;
	int fd;

	assert_int_equal(ip_endpoint_parse("127.0.0.1:0", ep_r, &err), 0);
	fd = net_listen(ep_r, NULL, &err);
	assert_true(fd >= 0);
	assert_return_code(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	snprintf(text, sizeof(text), "127.0.0.1:%u", ntohs(sin.sin_port));
	assert_int_equal(ip_endpoint_parse(text, ep_r, &err), 0);
	return fd;
}

static void
a_client_is_accepted_non_blocking_and_close_on_exec(void **state)
{
	struct arrivals a = {0};
	struct ip_endpoint ep;
	const int listening = listen_somewhere(&ep);
	struct net_listener *l = net_listener_new(worker, listening, got_client, &a);
	const int client = loopback_connect(&ep);

	(void)state;
	WAIT_FOR(a.count == 1);
	assert_true(fcntl(a.fds[0], F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(a.fds[0], F_GETFD) & FD_CLOEXEC);
	close_all(a.fds, a.count);
	close(client);
	net_listener_free(&l);
	assert_null(l);
	close(listening);
}

static void
a_paused_listener_lets_clients_wait(void **state)
{
	struct arrivals a = {0};
	struct ip_endpoint ep;
	const int listening = listen_somewhere(&ep);
	struct net_listener *l = net_listener_new(worker, listening, got_client, &a);
	int client;

	(void)state;
	net_listener_pause(l);
	client = loopback_connect(&ep);
	for (int i = 0; i < 20; i++)
		loop_turn();
	assert_int_equal(a.count, 0);
	net_listener_resume(l);
	WAIT_FOR(a.count == 1);
	close_all(a.fds, a.count);
	close(client);
	net_listener_free(&l);
	close(listening);
}

static void
a_listener_may_be_freed_when_a_client_comes(void **state)
{
	struct arrivals a = {0};
	struct ip_endpoint ep;
	const int listening = listen_somewhere(&ep);
	const int client = loopback_connect(&ep);

	(void)state;
	a.free_me = net_listener_new(worker, listening, got_client, &a);
	WAIT_FOR(a.count == 1);
	assert_null(a.free_me);
	close_all(a.fds, a.count);
	close(client);
	close(listening);
}

static void
two_listeners_share_a_socket_and_a_blocking_one_is_made_fit(void **state)
{
	struct arrivals a = {0};
	struct ip_endpoint ep;
	const int listening = loopback_listen(100, &ep);
	struct net_listener *one = net_listener_new(worker, listening, got_client, &a);
	struct net_listener *two = net_listener_new(worker, listening, got_client, &a);
	int clients[CLIENTS];

	(void)state;
	for (int i = 0; i < CLIENTS; i++)
		clients[i] = loopback_connect(&ep);
	WAIT_FOR(a.count == CLIENTS);
	close_all(a.fds, a.count);
	close_all(clients, CLIENTS);
	net_listener_free(&one);
	net_listener_free(&two);
	close(listening);
}

static void
count_client(void *owner, struct net_worker *w, int fd)
{
	(void)w;
	close(fd);
	atomic_fetch_add((atomic_int *)owner, 1);
}

static void
workers_with_threads_of_their_own_accept_each_client_once(void **state)
{
	struct net_worker *w[2];
	struct net_listener *l[2];
	struct ip_endpoint ep;
	const int listening = listen_somewhere(&ep);
	atomic_int count = 0;
	struct err err;
	char c;

	(void)state;
	for (int i = 0; i < 2; i++) {
		w[i] = net_worker_new(i, &err);
		l[i] = net_listener_new(w[i], listening, count_client, &count);
		assert_int_equal(net_worker_start(w[i], &err), 0);
	}
	for (int i = 0; i < 500; i++) {
		const int client = loopback_connect(&ep);

		assert_int_equal(read(client, &c, 1), 0); /* it was accepted and closed */
		close(client);
	}
	for (int i = 0; i < 2; i++) {
		net_worker_stop(w[i]);
		net_worker_join(w[i]);
		net_listener_free(&l[i]);
		net_worker_free(&w[i]);
	}
	assert_int_equal(atomic_load(&count), 500);
	close(listening);
}

/* Takes all descriptors that the process may still open, but for `leave`. */
static int
take_descriptors(int *fds, int max, int leave)
{
	int count = 0, fd;

	while (count < max && (fd = open("/dev/null", O_RDONLY)) >= 0)
		fds[count++] = fd;
	assert_true(count < max && errno == EMFILE);
	for (; leave > 0; leave--)
		close(fds[--count]);
	return count;
}

static void
out_of_descriptors_clients_are_closed_and_later_ones_served_again(void **state)
{
	const struct timeval patience = {20, 0};
	struct rlimit old, small;
	struct arrivals a = {0};
	struct ip_endpoint ep;
	const int listening = listen_somewhere(&ep);
	struct net_listener *l = net_listener_new(worker, listening, got_client, &a);
	int fds[64], count, early, late;
	char c;

	(void)state;
	getrlimit(RLIMIT_NOFILE, &old);
	small = old;
	small.rlim_cur = 50;
	setrlimit(RLIMIT_NOFILE, &small);
	early = loopback_connect(&ep);
	setsockopt(early, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	count = take_descriptors(fds, 64, 0);
	for (int i = 0; i < 5; i++)
		loop_turn();
	assert_int_equal(recv(early, &c, 1, 0), 0);
	assert_int_equal(a.count, 0);
	close_all(fds, count);
	late = loopback_connect(&ep);
	WAIT_FOR(a.count == 1);
	setrlimit(RLIMIT_NOFILE, &old);
	close_all(a.fds, a.count);
	close(early);
	close(late);
	net_listener_free(&l);
	close(listening);
}

/* ---- net_listen ---- */

static void
an_address_in_use_is_said_in_words(void **state)
{
	struct ip_endpoint ep;
	const int listening = listen_somewhere(&ep);
	char text[64], want[256];
	struct err err;

	(void)state;
	ip_endpoint_text(&ep, text, sizeof(text));
	snprintf(want, sizeof(want), "cannot listen on %s: address already in use"
		" (another program listens there; ss -ltnp tells which)", text);
	assert_int_equal(net_listen(&ep, NULL, &err), -1);
	assert_string_equal(err.text, want);
	close(listening);
}

static void
what_cannot_be_listened_on_is_said_in_words(void **state)
{
	static const struct {
		const char *endpoint;
		const char *words;
	} cases[] = {
		{"192.0.2.1:0", "cannot listen on 192.0.2.1:0: address not available (no interface "
				"of this machine has it)"},
		{"unix:/no-such-folder/s",
			"cannot listen on unix:/no-such-folder/s: no such file or directory"},
		{"unix:/dev/null", "cannot listen on unix:/dev/null: a file that is not a socket "
				   "is in the way"},
		{"fd:smtp",
			"cannot listen on fd:smtp: an inherited socket is taken over, not opened"},
	};
	struct ip_endpoint ep;
	struct err err;

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		assert_int_equal(ip_endpoint_parse(cases[i].endpoint, &ep, &err), 0);
		assert_int_equal(net_listen(&ep, NULL, &err), -1);
		assert_string_equal(err.text, cases[i].words);
	}
}

static void
a_name_can_be_listened_on(void **state)
{
	struct ip_endpoint ep;
	struct err err;
	int fd;

	(void)state;
	assert_int_equal(ip_endpoint_parse("localhost:0", &ep, &err), 0);
	fd = net_listen(&ep, NULL, &err);
	assert_true(fd >= 0);
	close(fd);
}

static void
a_stale_socket_is_replaced_and_a_live_one_is_not(void **state)
{
	char folder[] = "/tmp/test-listener-XXXXXX";
	char text[100], want[200];
	struct ip_endpoint ep;
	struct err err;
	int fd, client;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(text, sizeof(text), "unix:%s/s", folder);
	snprintf(want, sizeof(want), "cannot listen on %s: already in use by a running process",
		text);
	assert_int_equal(ip_endpoint_parse(text, &ep, &err), 0);
	fd = net_listen(&ep, NULL, &err);
	assert_true(fd >= 0);
	assert_int_equal(net_listen(&ep, NULL, &err), -1);
	assert_string_equal(err.text, want);
	close(fd); /* as a process that dies: the file stays */
	fd = net_listen(&ep, NULL, &err);
	assert_true(fd >= 0);
	client = loopback_connect(&ep);
	close(client);
	close(fd);
	unlink(ep.host);
	rmdir(folder);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, loop_setup, loop_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_client_is_accepted_non_blocking_and_close_on_exec),
		TEST(a_paused_listener_lets_clients_wait),
		TEST(a_listener_may_be_freed_when_a_client_comes),
		TEST(two_listeners_share_a_socket_and_a_blocking_one_is_made_fit),
		TEST(workers_with_threads_of_their_own_accept_each_client_once),
		TEST(out_of_descriptors_clients_are_closed_and_later_ones_served_again),
		cmocka_unit_test(an_address_in_use_is_said_in_words),
		cmocka_unit_test(what_cannot_be_listened_on_is_said_in_words),
		cmocka_unit_test(a_name_can_be_listened_on),
		cmocka_unit_test(a_stale_socket_is_replaced_and_a_live_one_is_not),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
