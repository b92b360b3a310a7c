/*
 * t/unit/test_trace.c - our Received line, and who is counted as having passed already.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "mail/trace.h"

#define TOKEN "0123456789abcdef"

static struct arena *arena;

static int
new_arena(void **state)
{
	(void)state;
	arena = arena_new();
	return 0;
}

static int
free_arena(void **state)
{
	(void)state;
	arena_free(&arena);
	return 0;
}

static const char *
received(int family, const char *client, const char *helo, const char *rcpt)
{
	struct mail_origin origin = {.client = {.family = family},
		.client_text = client,
		.helo = helo,
		.protocol = "ESMTP",
		.listener = "front"};
	struct mail_sender sender = {.addr = "a@b", .smtputf8 = rcpt != NULL && strchr(rcpt, '\xc3') != NULL};
	struct mail_rcpt to = {.addr = rcpt};
	const struct mail_rcpt *rcpts[] = {&to, &to};
	struct mail_msg msg = {.origin = &origin,
		.sender = &sender,
		.rcpts = rcpts,
		.rcpt_count = rcpt != NULL ? 1 : 2,
		.arena = arena};

	return mail_trace_received(&msg, "gate.example", "7f3a01-1", TOKEN);
}

static void
the_token_depends_on_host_spool_and_listener_only(void **state)
{
	char token[MAIL_TOKEN_SIZE], other[MAIL_TOKEN_SIZE];

	(void)state;
	mail_trace_token(token, "host", "/spool", "front");
	assert_int_equal(strlen(token), MAIL_TOKEN_SIZE - 1);
	assert_int_equal(strspn(token, "0123456789abcdef"), MAIL_TOKEN_SIZE - 1);
	mail_trace_token(other, "host", "/spool", "front");
	assert_string_equal(token, other);
	mail_trace_token(other, "host2", "/spool", "front");
	assert_string_not_equal(token, other);
	mail_trace_token(other, "host", "/spool2", "front");
	assert_string_not_equal(token, other);
	mail_trace_token(other, "host", "/spool", "back");
	assert_string_not_equal(token, other);
	mail_trace_token(other, "host/", "spool", "front");
	assert_string_not_equal(token, other);
}

static void
the_line_says_from_whom_by_whom_and_for_whom(void **state)
{
	static const struct {
		int family;
		const char *client, *helo, *rcpt, *begin;
	} cases[] = {
		{AF_INET, "192.0.2.7", "mx.example", "a@b.example",
			"Received: from mx.example ([192.0.2.7])\r\n\tby gate.example (Postern) "
			"with ESMTP "
			"id 7f3a01-1." TOKEN "\r\n\tfor <a@b.example>; "},
		{AF_INET6, "2001:db8::1", "[IPv6:2001:db8::1]", NULL,
			"Received: from [IPv6:2001:db8::1] ([IPv6:2001:db8::1])\r\n\tby "
			"gate.example "
			"(Postern) with ESMTP id 7f3a01-1." TOKEN ";\r\n\t"},
		{AF_UNIX, "unix", "", NULL,
			"Received: from unknown (local)\r\n\tby gate.example (Postern) with ESMTP "
			"id "
			"7f3a01-1." TOKEN ";\r\n\t"},
		{AF_INET, "192.0.2.7", "mx.example", "\xc3\xa9@b.example", /* SMTPUTF8 */
			"Received: from mx.example ([192.0.2.7])\r\n\tby gate.example (Postern) "
			"with UTF8SMTP "
			"id 7f3a01-1." TOKEN "\r\n\tfor <\xc3\xa9@b.example>; "},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *line =
			received(cases[i].family, cases[i].client, cases[i].helo, cases[i].rcpt);
		size_t begin = strlen(cases[i].begin);

		assert_true(strncmp(line, cases[i].begin, begin) == 0);
		assert_string_equal(line + strlen(line) - 2, "\r\n");
		assert_int_equal(
			strlen(line), begin + strlen("Sun, 22 Nov 2026 16:45:58 +0000\r\n"));
	}
}

static void
its_lines_stay_short_with_the_longest_names(void **state)
{
	char helo[256], rcpt[513];
	const char *line;

	(void)state;
	memset(helo, 'h', sizeof(helo) - 1);
	helo[sizeof(helo) - 1] = '\0';
	memset(rcpt, 'r', sizeof(rcpt) - 1);
	rcpt[sizeof(rcpt) - 1] = '\0';
	line = received(AF_INET, "192.0.2.7", helo, rcpt);
	while (*line != '\0') {
		size_t len = strcspn(line, "\r");

		assert_true(len <= 998);
		line += len + 2;
	}
}

static void
our_own_line_counts_as_a_pass(void **state)
{
	static const char *const helos[] = {"mx.example", "id", "[192.0.2.1]", ""};
	static const char *const rcpts[] = {
		"a@b", "\"(\"@b", "\">\\\"<\"@b", "\" id x.y\"@b", NULL};
	unsigned hops, passes;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		for (size_t j = 0; j < 5; j++) {
			const char *line = received(AF_INET, "192.0.2.1", helos[i], rcpts[j]);

			mail_trace_count(line, strlen(line), TOKEN, &hops, &passes);
			assert_int_equal(hops, 1);
			assert_int_equal(passes, 1);
			mail_trace_count(line, strlen(line), "fedcba9876543210", &hops, &passes);
			assert_int_equal(hops, 1);
			assert_int_equal(passes, 0);
		}
	}
}

static void
only_the_id_clause_of_a_received_field_can_count(void **state)
{
	static const struct {
		const char *header;
		unsigned hops, passes;
	} cases[] = {
		{"", 0, 0},
		{"Subject: id x." TOKEN "\r\n", 0, 0},
		{"X-Received: by x id 1." TOKEN "\r\n", 0, 0},
		{"Received: by x id 1." TOKEN "\r\n", 1, 1},
		{"RECEIVED : by x\r\n\tID\r\n 1." TOKEN ";x\r\n", 1, 1},
		{"Received: by x (id 1." TOKEN ") id 2; x\r\n", 1, 0},
		{"Received: by x (a (b) id 1." TOKEN ") id 2; x\r\n", 1, 0},
		{"Received: by x id 2; id 1." TOKEN "\r\n", 1, 0},
		{"Received: by x id 2 for <\"a id 1." TOKEN " \"@b>; x\r\n", 1, 0},
		{"Received: by x id 1" TOKEN "; x\r\n", 1, 0},
		{"Received: by x id 1." TOKEN "0; x\r\n", 1, 0},
		{"Received: by x id ." TOKEN "; x\r\n", 1, 1},
		{"Received: by id.1." TOKEN "; x\r\n", 1, 0},
		{"Received: by x for 1." TOKEN "; x\r\n", 1, 0},
		{"Received: (((\r\nReceived: \"\r\nReceived: <\\\r\nReceived: x id\r\n", 4, 0},
		{"Received: a id 1." TOKEN "\r\nA: b\r\nreceived: c id 2." TOKEN "; x\r\n", 2, 2},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned hops, passes;

		mail_trace_count(cases[i].header, strlen(cases[i].header), TOKEN, &hops, &passes);
		assert_int_equal(hops, cases[i].hops);
		assert_int_equal(passes, cases[i].passes);
	}
}

static void
the_front_is_known_by_the_id_of_its_line(void **state)
{
	static const struct {
		const char *header, *id;
	} cases[] = {
		/* Postfix, long and short ids */
		{"Received: from mx.example (mx.example [192.0.2.7])\r\n\tby front.example (Postfix) with ESMTPS id 4Zk1Qx1abcz9\r\n"
			"\tfor <a@b.example>; Tue, 24 Nov 2026 12:00:00 +0000 (UTC)\r\n", "4Zk1Qx1abcz9"},
		{"Received: from x (x [192.0.2.7])\r\n\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits))\r\n"
			"\t(No client certificate requested)\r\n\tby front.example (Postfix) with ESMTPS id 0A1B2C3D4E\r\n"
			"\tfor <a@b>; x\r\n", "0A1B2C3D4E"},
		{"Received: by front.example (Postfix, from userid 0)\r\n\tid 9C06B3F; Tue\r\n", "9C06B3F"},
		{"Received: from x (x [192.0.2.7])\r\n\tby f (Postfix) with ESMTP id NOQUEUE; x\r\n", NULL},
		/* sendmail */
		{"Received: from mx.example (mx.example [192.0.2.7])\r\n\tby front.example (8.17.1.9/8.17.1.9/Debian-2) with ESMTPS id "
			"3AOC0Gh1012345\r\n\t(version=TLSv1.3 cipher=TLS_AES_256_GCM_SHA384 bits=256 verify=NOT)\r\n\tfor <a@b>; x\r\n",
			"3AOC0Gh1012345"},
		{"Received: (from root@localhost)\r\n\tby front.example (8.17.1.9/8.17.1.9/Submit) id 3AOC0Gh1012346;\r\n\tx\r\n",
			"3AOC0Gh1012346"},
		/* Exim, Exchange, ourselves */
		{"Received: from [192.0.2.7] (helo=mx)\r\n\tby f with esmtps  (TLS1.3) tls TLS_AES_256_GCM_SHA384\r\n\t(Exim 4.96)\r\n"
			"\t(envelope-from <a@b>)\r\n\tid 1r6Abc-0000000A1B2-3cdE\r\n\tfor c@d; x\r\n", "1r6Abc-0000000A1B2-3cdE"},
		{"Received: from A.b ([fe80::1]) by\r\n A.b ([fe80::1%1]) with mapi id 15.20.7025.022; x\r\n", "15.20.7025.022"},
		{"Received: from x ([192.0.2.7])\r\n\tby g (Postern) with ESMTP id 7f3a01-1." TOKEN "; x\r\n", "7f3a01-1." TOKEN},
		/* Only the topmost, and only its clause. */
		{"Received: by a\r\nReceived: by b id 2; x\r\n", NULL},
		{"Subject: by a id 1; x\r\nReceived: by b id 2; x\r\nReceived: by c id 3; x\r\n", "2"},
		{"Subject: id 1\r\n", NULL},
		{"", NULL},
		{"Received:\r\n", NULL},
		{"Received: by x id\r\n", NULL},
		{"Received: by x id; 7\r\n", NULL},
		{"Received: from id (id 1) by id (id 2) with SMTP id 3; x\r\n", "3"},
		{"Received: from id by-evil (x) by y id 3; x\r\n", "3"},
		{"Received: from x (id 1) by y for <\"id 2\"@z>; id 4\r\n", NULL},
		{"Received: by x ID\r\n\t(comment) 5;x\r\n", "5"},
		/* What nobody could look for */
		{"Received: by x id a\x01z; x\r\n", NULL},
		{"Received: by x id \xc3\xbc; x\r\n", NULL},
		{"Received: by x id 0123456789012345678901234567890123456789012345678901234567890123; x\r\n",
			"0123456789012345678901234567890123456789012345678901234567890123"},
		{"Received: by x id 01234567890123456789012345678901234567890123456789012345678901234; x\r\n", NULL},
		{"Received: by x id verdict=reject; x\r\n", "verdict=reject"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *id = mail_trace_top_id(cases[i].header, strlen(cases[i].header), arena);

		if (cases[i].id == NULL)
			assert_null(id);
		else
			assert_string_equal(id != NULL ? id : "(none)", cases[i].id);
	}
	(void)state;
}

static void
the_date_is_that_of_rfc_5322_in_local_time(void **state)
{
	static const struct {
		const char *zone, *text;
	} cases[] = {
		{"UTC0", "Sun, 22 Nov 2026 16:45:58 +0000"},
		{"XXX-5:30", "Sun, 22 Nov 2026 22:15:58 +0530"},
		{"XXX+3:30", "Sun, 22 Nov 2026 13:15:58 -0330"},
		{"XXX-12", "Mon, 23 Nov 2026 04:45:58 +1200"},
	};
	char date[40];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		setenv("TZ", cases[i].zone, 1);
		tzset();
		/* Turned anew each time, should a second have passed on the way. */
		clock_turn_ms(((int64_t)1795365958 - clock_wall()) * 1000);
		mail_trace_date(date, sizeof(date));
		assert_string_equal(date, cases[i].text);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_token_depends_on_host_spool_and_listener_only),
		cmocka_unit_test(the_line_says_from_whom_by_whom_and_for_whom),
		cmocka_unit_test(its_lines_stay_short_with_the_longest_names),
		cmocka_unit_test(our_own_line_counts_as_a_pass),
		cmocka_unit_test(only_the_id_clause_of_a_received_field_can_count),
		cmocka_unit_test(the_front_is_known_by_the_id_of_its_line),
		cmocka_unit_test(the_date_is_that_of_rfc_5322_in_local_time),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, new_arena, free_arena);
}
