/*
 * t/unit/test_resolve.c - names: looked up once for all who wait, kept, refreshed, and old ones that serve on.
 */
#include "t/unit/loop.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "net/connect.h"
#include "net/resolve.c"

/* ---- a name server of our own ---- */

static atomic_int asked, answer; /* answer: 127.0.0.N; 0: failure */
static atomic_bool is_slow;

static struct net_addrs *
fake_lookup(const char *host, uint16_t port, const char **why_r)
{
	struct net_addrs *addrs;
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(port)};

	assert_string_equal(host, "mail.example.org");
	while (atomic_load(&is_slow))
		usleep(100);
	atomic_fetch_add(&asked, 1);
	*why_r = "no name server answers";
	if (atomic_load(&answer) == 0)
		return NULL;
	sin.sin_addr.s_addr = htonl(0x7f000000u + (unsigned)atomic_load(&answer));
	addrs = xcalloc(1, sizeof(*addrs) + sizeof(addrs->list[0]));
	addrs->count = 1;
	memcpy(&addrs->list[0].sa, &sin, sizeof(sin));
	addrs->list[0].len = sizeof(sin);
	return addrs;
}

static int
setup(void **state)
{
	const struct log_conf quiet = {
		.target = LOG_TO_FILE, .path = "/dev/null", .level = LOG_LEVEL_ERROR};
	struct err err;

	if (loop_setup(state) < 0 || log_open(&quiet, &err) < 0)
		return -1;
	net_name_set_lookup(fake_lookup);
	atomic_store(&asked, 0);
	atomic_store(&answer, 1);
	atomic_store(&is_slow, false);
	return net_threads_start(2, &err);
}

static int
teardown(void **state)
{
	net_threads_stop();
	net_name_set_lookup(NULL);
	return loop_teardown(state);
}

/* ---- asking ---- */

struct outcome {
	int count; /* of calls */
	int last;  /* of the address; 0: none */
	char why[64];
};

static int
last_octet(struct net_addrs *addrs)
{
	const struct sockaddr_in *sin = (const struct sockaddr_in *)&addrs->list[0].sa;
	const int last = (int)(ntohl(sin->sin_addr.s_addr) & 255);

	assert_int_equal(addrs->count, 1);
	assert_int_equal(ntohs(sin->sin_port), 25);
	free(addrs);
	return last;
}

static void
got_addrs(void *owner, struct net_addrs *addrs, const char *why)
{
	struct outcome *o = owner;

	o->count++;
	o->last = addrs != NULL ? last_octet(addrs) : 0;
	if (addrs == NULL)
		snprintf(o->why, sizeof(o->why), "%s", why);
}

/* The address that is known at once; 0: one has to wait. */
static int
known(struct net_name *name, struct outcome *o, struct net_name_wait **wait)
{
	struct net_addrs *addrs = net_name_get(name, worker, got_addrs, o, wait);

	assert_true((addrs == NULL) != (*wait == NULL));
	return addrs != NULL ? last_octet(addrs) : 0;
}

static int
ask(struct net_name *name)
{
	struct outcome o = {0};
	struct net_name_wait *wait;
	const int last = known(name, &o, &wait);

	if (last != 0)
		return last;
	WAIT_FOR(o.count > 0);
	assert_int_equal(o.count, 1);
	return o.last;
}

/* Until the look-up that is under way is over. */
static void
settle(struct net_name *name)
{
	assert_true(name->is_looking);
	WAIT_FOR(!name->is_looking);
}

/* ---- tests ---- */

static void
a_fresh_answer_is_not_asked_again(void **state)
{
	struct net_name *name = net_name_new("mail.example.org", 25, 60000);

	(void)state;
	assert_int_equal(ask(name), 1);
	atomic_store(&answer, 2);
	for (int i = 0; i < 10; i++)
		assert_int_equal(ask(name), 1);
	assert_int_equal(atomic_load(&asked), 1);
	net_name_free(&name);
	assert_null(name);
}

static void
when_due_the_old_one_serves_while_it_is_refreshed(void **state)
{
	struct net_name *name = net_name_new("mail.example.org", 25, 60000);

	(void)state;
	assert_int_equal(ask(name), 1);
	atomic_store(&answer, 2);
	clock_turn_ms(60001);
	loop_turn();
	atomic_store(&is_slow, true);
	assert_int_equal(ask(name), 1);
	assert_int_equal(ask(name), 1);
	atomic_store(&is_slow, false);
	settle(name);
	assert_int_equal(ask(name), 2);
	assert_int_equal(atomic_load(&asked), 2);
	net_name_free(&name);
}

static void
a_very_old_one_is_not_trusted_unless_nothing_else_is_to_be_had(void **state)
{
	struct net_name *name = net_name_new("mail.example.org", 25, 60000);

	(void)state;
	assert_int_equal(ask(name), 1);
	atomic_store(&answer, 2);
	clock_turn_ms(3600000);
	loop_turn();
	assert_int_equal(ask(name), 2);
	atomic_store(&answer, 0);
	clock_turn_ms(3600000);
	loop_turn();
	assert_int_equal(ask(name), 2);
	assert_int_equal(atomic_load(&asked), 3);
	assert_int_equal(ask(name), 2);
	assert_int_equal(atomic_load(&asked), 3);
	net_name_free(&name);
}

static void
while_dns_is_down_the_old_ones_serve_and_it_is_asked_now_and_then(void **state)
{
	struct net_name *name = net_name_new("mail.example.org", 25, 60000);

	(void)state;
	assert_int_equal(ask(name), 1);
	atomic_store(&answer, 0);
	clock_turn_ms(60001);
	loop_turn();
	assert_int_equal(ask(name), 1);
	settle(name);
	assert_int_equal(ask(name), 1);
	assert_int_equal(atomic_load(&asked), 2);
	atomic_store(&answer, 3);
	clock_turn_ms(10001);
	loop_turn();
	assert_int_equal(ask(name), 1);
	settle(name);
	assert_int_equal(ask(name), 3);
	net_name_free(&name);
}

static void
a_name_without_any_address_is_asked_each_time(void **state)
{
	struct net_name *name = net_name_new("mail.example.org", 25, 60000);
	struct outcome o = {0};
	struct net_name_wait *wait;

	(void)state;
	atomic_store(&answer, 0);
	assert_int_equal(known(name, &o, &wait), 0);
	WAIT_FOR(o.count > 0);
	assert_string_equal(o.why, "no name server answers");
	atomic_store(&answer, 4);
	assert_int_equal(ask(name), 4);
	net_name_free(&name);
}

static void
those_who_wait_share_one_lookup(void **state)
{
	struct net_name *name = net_name_new("mail.example.org", 25, 60000);
	struct outcome o[4] = {{0}};
	struct net_name_wait *wait[4];

	(void)state;
	atomic_store(&is_slow, true);
	for (int i = 0; i < 4; i++)
		assert_int_equal(known(name, &o[i], &wait[i]), 0);
	net_name_cancel(&wait[1]);
	assert_null(wait[1]);
	atomic_store(&is_slow, false);
	WAIT_FOR(o[0].count + o[2].count + o[3].count == 3);
	assert_int_equal(o[1].count, 0);
	assert_int_equal(atomic_load(&asked), 1);
	net_name_free(&name);
}

static void
without_a_refresh_time_each_is_a_lookup(void **state)
{
	struct net_name *name = net_name_new("mail.example.org", 25, 0);

	(void)state;
	assert_int_equal(ask(name), 1);
	atomic_store(&answer, 2);
	assert_int_equal(ask(name), 2);
	atomic_store(&answer, 0);
	assert_int_equal(ask(name), 2); /* old, but better than none */
	assert_int_equal(atomic_load(&asked), 3);
	net_name_free(&name);
}

static void
freed_during_a_lookup_nothing_comes(void **state)
{
	struct net_name *name = net_name_new("mail.example.org", 25, 60000);
	struct outcome o = {0};
	struct net_name_wait *wait;

	(void)state;
	atomic_store(&is_slow, true);
	assert_int_equal(known(name, &o, &wait), 0);
	net_name_cancel(&wait);
	net_name_free(&name);
	atomic_store(&is_slow, false);
	net_threads_stop();
	loop_turn();
	assert_int_equal(o.count, 0);
}

/* ---- and connecting to them ---- */

static struct net_addrs *
two_addresses(const char *host, uint16_t port, const char **why_r)
{
	struct net_addrs *addrs = xcalloc(1, sizeof(*addrs) + 2 * sizeof(addrs->list[0]));
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};

	(void)host;
	(void)why_r;
	six.sin6_addr = in6addr_loopback;
	four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	addrs->count = 2;
	memcpy(&addrs->list[0].sa, &six, sizeof(six));
	addrs->list[0].len = sizeof(six);
	memcpy(&addrs->list[1].sa, &four, sizeof(four));
	addrs->list[1].len = sizeof(four);
	return addrs;
}

static void
got_fd(void *owner, int fd, const struct err *err)
{
	(void)err;
	*(int *)owner = fd;
}

static void
each_address_is_tried_ipv6_and_ipv4(void **state)
{
	struct ip_endpoint numeric, ep;
	const int listening = loopback_listen(5, &numeric); /* not on ::1 */
	struct net_name *name;
	char text[64];
	struct err err;

	(void)state;
	net_name_set_lookup(two_addresses);
	snprintf(text, sizeof(text), "mail.example.org:%u", numeric.port);
	assert_int_equal(ip_endpoint_parse(text, &ep, &err), 0);
	name = net_name_new(ep.host, ep.port, 60000);
	for (int i = 0; i < 2; i++) {
		int fd = -2;

		assert_non_null(net_connect_start(worker, &ep, name, 5000, got_fd, &fd));
		WAIT_FOR(fd != -2);
		assert_true(fd >= 0);
		close(fd);
	}
	close(listening);
	net_name_free(&name);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_fresh_answer_is_not_asked_again),
		TEST(when_due_the_old_one_serves_while_it_is_refreshed),
		TEST(a_very_old_one_is_not_trusted_unless_nothing_else_is_to_be_had),
		TEST(while_dns_is_down_the_old_ones_serve_and_it_is_asked_now_and_then),
		TEST(a_name_without_any_address_is_asked_each_time),
		TEST(those_who_wait_share_one_lookup),
		TEST(without_a_refresh_time_each_is_a_lookup),
		TEST(freed_during_a_lookup_nothing_comes),
		TEST(each_address_is_tried_ipv6_and_ipv4),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
