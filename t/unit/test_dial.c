/*
 * t/unit/test_dial.c - where a filter's service listens, and which of several addresses is taken.
 */
#include "t/unit/loop.h"

#include "base/list.h"
#include "filters/dial.h"
#include "net/threads.h"

struct outcome {
	bool came;
	int fd;
	char to[300];
	struct err err;
};

static struct config_word words[3];

static void
got_outcome(void *owner, int fd, const struct ip_endpoint *to, const struct err *err)
{
	struct outcome *o = owner;

	assert_false(o->came);
	o->came = true;
	o->fd = fd;
	ip_endpoint_text(to, o->to, sizeof(o->to));
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

static struct dial_conf
conf_of(enum dial_balance balance, const char *a, const char *b)
{
	struct dial_conf conf = {.balance = balance, .connect_timeout_ms = 5000};
	struct err err;

	words[0].text = a;
	words[1].text = b;
	conf.socket = (struct config_words){.list = words, .count = b != NULL ? 2 : 1};
	assert_int_equal(dial_setup(&conf, &err), 0);
	return conf;
}

static struct outcome
dial(const struct dial_conf *conf)
{
	struct outcome o = {.fd = -1};

	assert_non_null(dial_start(worker, conf, got_outcome, &o));
	assert_false(o.came);
	WAIT_FOR(o.came);
	if (o.fd >= 0)
		close(o.fd);
	return o;
}

/* A port of 127.0.0.1, as text; returns what listens there. */
static int
listen_as(char *text, size_t size)
{
	struct ip_endpoint ep;
	const int fd = loopback_listen(50, &ep);

	ip_endpoint_text(&ep, text, size);
	return fd;
}

static void
addresses_are_written_as_here_or_as_for_milters(void **state)
{
	static const struct {
		const char *text, *want; /* NULL: refused */
	} cases[] = {
		{"127.0.0.1:3310", "127.0.0.1:3310"},
		{"clamav.example:3310", "clamav.example:3310"},
		{"[::1]:3310", "[::1]:3310"},
		{"unix:/run/clamav/clamd.ctl", "unix:/run/clamav/clamd.ctl"},
		{"inet:11332@127.0.0.1", "127.0.0.1:11332"},
		{"inet:11332@scan.example", "scan.example:11332"},
		{"inet6:11332@::1", "[::1]:11332"},
		{"inet6:11332@[::1]", "[::1]:11332"},
		{"inet:11332", NULL},
		{"inet:11332@", NULL},
		{"inet:@127.0.0.1", NULL},
		{"inet:x@127.0.0.1", NULL},
		{"inet:99999@127.0.0.1", NULL},
		{"/run/clamav/clamd.ctl", NULL},
		{"unix:clamd.ctl", NULL},
		{"fd:clamd", NULL},
		{"127.0.0.1:0", NULL},
		{"127.0.0.1", NULL},
		{"", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct ip_endpoint ep;
		struct err err;
		char text[300];
		int rc = dial_parse(cases[i].text, &ep, &err);

		if ((rc == 0) != (cases[i].want != NULL))
			fail_msg("%s", cases[i].text);
		if (rc < 0)
			continue;
		ip_endpoint_text(&ep, text, sizeof(text));
		assert_string_equal(text, cases[i].want);
	}
}

static void
no_address_is_an_error(void **state)
{
	struct dial_conf conf = {.balance = DIAL_ORDER};
	struct err err;

	(void)state;
	assert_int_equal(dial_setup(&conf, &err), -1);
	assert_non_null(strstr(err.text, "it needs a socket"));
	dial_teardown(&conf);
}

static void
the_first_that_answers_is_taken(void **state)
{
	char dead[64], alive[64];
	int listening = listen_as(alive, sizeof(alive));
	struct dial_conf conf;

	close(listen_as(dead, sizeof(dead)));
	(void)state;
	conf = conf_of(DIAL_ORDER, dead, alive);
	for (int i = 0; i < 3; i++)
		assert_string_equal(dial(&conf).to, alive);
	dial_teardown(&conf);
	close(listening);
}

static void
order_prefers_the_first_and_round_robin_takes_turns(void **state)
{
	static const struct {
		enum dial_balance balance;
		const char *want;
	} cases[] = {{DIAL_ORDER, "aaaa"}, {DIAL_ROUND_ROBIN, "abab"}};
	char a[64], b[64];
	int on_a = listen_as(a, sizeof(a)), on_b = listen_as(b, sizeof(b));

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct dial_conf conf = conf_of(cases[i].balance, a, b);

		for (const char *want = cases[i].want; *want != '\0'; want++)
			assert_string_equal(dial(&conf).to, *want == 'a' ? a : b);
		dial_teardown(&conf);
	}
	close(on_a);
	close(on_b);
}

static void
when_none_answers_the_error_names_the_last_address(void **state)
{
	char a[64], b[64], want[128];
	struct dial_conf conf;
	struct outcome o;

	(void)state;
	close(listen_as(a, sizeof(a)));
	close(listen_as(b, sizeof(b)));
	conf = conf_of(DIAL_ORDER, a, b);
	o = dial(&conf);
	assert_int_equal(o.fd, -1);
	snprintf(want, sizeof(want), "%s: connection refused", b);
	assert_string_equal(o.err.text, want);
	dial_teardown(&conf);
}

/* It stands behind the others for some seconds, and is tried all the same when none of them works. */
static void
an_address_that_failed_is_tried_last_but_tried(void **state)
{
	char a[64], b[64];
	int on_a = listen_as(a, sizeof(a)), on_b = listen_as(b, sizeof(b));
	struct dial_conf conf = conf_of(DIAL_ORDER, a, b);
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);

	(void)state;
	assert_return_code(getsockname(on_a, (struct sockaddr *)&sin, &len), 0);
	close(on_a);
	assert_string_equal(dial(&conf).to, b);
	on_a = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(on_a, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
	assert_return_code(bind(on_a, (struct sockaddr *)&sin, len), 0);
	assert_return_code(listen(on_a, 5), 0);
	assert_string_equal(dial(&conf).to, b);
	close(on_b);
	assert_string_equal(dial(&conf).to, a);
	dial_teardown(&conf);
	close(on_a);
}

static void
a_path_that_is_missing_is_said(void **state)
{
	struct dial_conf conf = conf_of(DIAL_ORDER, "unix:/nonexistent/clamd.ctl", NULL);

	(void)state;
	assert_string_equal(dial(&conf).err.text, "unix:/nonexistent/clamd.ctl: no such file or directory");
	dial_teardown(&conf);
}

static void
a_cancelled_one_says_nothing(void **state)
{
	char a[64];
	int listening = listen_as(a, sizeof(a));
	struct dial_conf conf = conf_of(DIAL_ORDER, a, NULL);
	struct outcome o = {.fd = -1};
	struct dial *d = dial_start(worker, &conf, got_outcome, &o);

	(void)state;
	dial_cancel(&d);
	assert_null(d);
	dial_cancel(&d);
	d = dial_start(worker, &conf, got_outcome, &o);
	loop_turn();
	if (!o.came)
		dial_cancel(&d);
	else
		close(o.fd);
	loop_turn();
	dial_teardown(&conf);
	close(listening);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_written_as_here_or_as_for_milters),
		cmocka_unit_test(no_address_is_an_error),
		cmocka_unit_test(the_first_that_answers_is_taken),
		cmocka_unit_test(order_prefers_the_first_and_round_robin_takes_turns),
		cmocka_unit_test(when_none_answers_the_error_names_the_last_address),
		cmocka_unit_test(an_address_that_failed_is_tried_last_but_tried),
		cmocka_unit_test(a_path_that_is_missing_is_said),
		cmocka_unit_test(a_cancelled_one_says_nothing),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
