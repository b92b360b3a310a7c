/* t/unit/test_reply.c - replies, both ways. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "smtp/reply.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Feeds lines separated by '\n'; returns the last step. */
static enum smtp_reply_step
feed(struct smtp_reply_parser *p, const char *lines, struct smtp_reply *r)
{
	enum smtp_reply_step step = SMTP_REPLY_MORE;

	for (;;) {
		size_t len = strcspn(lines, "\n");

		assert_int_equal(step, SMTP_REPLY_MORE);
		step = smtp_reply_feed(p, lines, len, r);
		if (lines[len] == '\0')
			return step;
		lines += len + 1;
	}
}

static const struct {
	const char *lines;
	int code;
	const char *status, *text;
} good[] = {
	{"250 2.1.0 Ok", 250, "2.1.0", "Ok"},
	{"250 Ok", 250, "", "Ok"},
	{"250", 250, "", ""},
	{"250 ", 250, "", ""},
	{"250 2.0.0", 250, "2.0.0", ""},
	{"250 2.0.0 ", 250, "2.0.0", ""},
	{"250 2.0.0  x", 250, "2.0.0", " x"},
	{"250 5.1.1 x", 250, "", "5.1.1 x"},
	{"250 2.0 x", 250, "", "2.0 x"},
	{"250 2.0.0.0 x", 250, "", "2.0.0.0 x"},
	{"250 2.0.1234 x", 250, "", "2.0.1234 x"},
	{"250 2.0.0x", 250, "", "2.0.0x"},
	{"250 2..0 x", 250, "", "2..0 x"},
	{"354 3.0.0 go", 354, "", "3.0.0 go"},
	{"554 5.123.456 x", 554, "5.123.456", "x"},
	{"550-5.1.1 one\n550-5.1.1 two\n550 5.1.1 three", 550, "5.1.1", "one\ntwo\nthree"},
	{"571 5.7.1 not here", 571, "5.7.1", "not here"},
	{"550-5.1.1 one\n550 two", 550, "5.1.1", "one\ntwo"},
	{"550-one\n550 5.1.1 two", 550, "5.1.1", "one\ntwo"},
	{"250-host\n250-\n250 DSN", 250, "", "host\n\nDSN"},
	{"250-host\n250", 250, "", "host\n"},
	{"559 x", 559, "", "x"},
	{"200 x", 200, "", "x"},
	{"550 a\tb\x01", 550, "", "a b "},
	{"550 \xc3\xa9\xff", 550, "", "\xc3\xa9?"},
};

static void
a_well_formed_reply_is_taken_apart(void **state)
{
	struct smtp_reply_parser p;

	(void)state;
	smtp_reply_parser_init(&p);
	for (size_t i = 0; i < COUNT(good); i++) {
		struct smtp_reply r;

		assert_int_equal(feed(&p, good[i].lines, &r), SMTP_REPLY_DONE);
		assert_int_equal(r.code, good[i].code);
		assert_string_equal(r.status, good[i].status);
		assert_string_equal(r.text, good[i].text);
	}
	smtp_reply_parser_deinit(&p);
}

static const struct {
	const char *line;
	size_t len;
} bad[] = {
	{"", 0},
	{"2", 1},
	{"25", 2},
	{"150 x", 5},
	{"600 x", 5},
	{"999 x", 5},
	{"260 x", 5},
	{"2x0 x", 5},
	{"25x x", 5},
	{"2500", 4},
	{"250\tx", 5},
	{"250.x", 5},
	{" 250 x", 6},
	{"x", 1},
	{"250 a\0b", 7},
	{"250 a\rb", 7},
	{"250 a\nb", 7},
	{"250\r", 4},
	{"250-\r", 5},
};

static void
a_line_that_is_none_is_bad(void **state)
{
	struct smtp_reply_parser p;
	struct smtp_reply r;

	(void)state;
	smtp_reply_parser_init(&p);
	for (size_t i = 0; i < COUNT(bad); i++) {
		assert_int_equal(smtp_reply_feed(&p, bad[i].line, bad[i].len, &r), SMTP_REPLY_BAD);
		assert_int_equal(feed(&p, "250 2.0.0 ok", &r), SMTP_REPLY_DONE);
	}
	smtp_reply_parser_deinit(&p);
}

static void
a_change_of_code_is_bad(void **state)
{
	struct smtp_reply_parser p;
	struct smtp_reply r;

	(void)state;
	smtp_reply_parser_init(&p);
	assert_int_equal(feed(&p, "250-a\n251 b", &r), SMTP_REPLY_BAD);
	assert_int_equal(feed(&p, "250-a\n250-b\n550 b", &r), SMTP_REPLY_BAD);
	assert_int_equal(feed(&p, "250-a\nxyz", &r), SMTP_REPLY_BAD);
	smtp_reply_parser_deinit(&p);
}

/* Feeds count lines of len octets; returns the step of the last one. */
static enum smtp_reply_step
feed_many(unsigned count, size_t len)
{
	char *line = malloc(len);
	struct smtp_reply_parser p;
	struct smtp_reply r;
	enum smtp_reply_step step = SMTP_REPLY_MORE;

	memset(line, 'x', len);
	memcpy(line, "250-", 4);
	smtp_reply_parser_init(&p);
	while (count-- > 0 && step == SMTP_REPLY_MORE)
		step = smtp_reply_feed(&p, line, len, &r);
	smtp_reply_parser_deinit(&p);
	free(line);
	return step;
}

static void
lines_and_replies_are_bounded(void **state)
{
	(void)state;
	assert_int_equal(feed_many(1, SMTP_REPLY_LINE_MAX), SMTP_REPLY_MORE);
	assert_int_equal(feed_many(1, SMTP_REPLY_LINE_MAX + 1), SMTP_REPLY_BAD);
	assert_int_equal(feed_many(SMTP_REPLY_LINES_MAX, 10), SMTP_REPLY_MORE);
	assert_int_equal(feed_many(SMTP_REPLY_LINES_MAX + 1, 10), SMTP_REPLY_BAD);
	assert_int_equal(feed_many(15, SMTP_REPLY_LINE_MAX), SMTP_REPLY_MORE);
	assert_int_equal(feed_many(17, SMTP_REPLY_LINE_MAX), SMTP_REPLY_BAD);
}

static const struct {
	struct smtp_reply r;
	bool with_status;
	const char *want;
} written[] = {
	{{250, "2.1.0", "Ok"}, true, "250 2.1.0 Ok\r\n"},
	{{250, "2.1.0", "Ok"}, false, "250 Ok\r\n"},
	{{250, "", "Ok"}, true, "250 2.0.0 Ok\r\n"},
	{{451, "", "a\nb"}, true, "451-4.0.0 a\r\n451 4.0.0 b\r\n"},
	{{550, "5.1.1", "a\n\nb"}, true, "550-5.1.1 a\r\n550-5.1.1\r\n550 5.1.1 b\r\n"},
	{{550, "5.1.1", "a\nb"}, false, "550-a\r\n550 b\r\n"},
	{{354, "", "go"}, true, "354 go\r\n"},
	{{354, "2.0.0", "go"}, true, "354 go\r\n"},
	{{451, "5.1.1", "x"}, true, "451 4.0.0 x\r\n"},
	{{250, "junk", "x"}, true, "250 2.0.0 x\r\n"},
	{{250, "", ""}, false, "250 \r\n"},
	{{250, "2.0.0", ""}, true, "250 2.0.0\r\n"},
	{{250, "", "a\rb\x01\x7f"}, false, "250 a b ?\r\n"},
	{{999, "", "x"}, false, "451 x\r\n"},
};

static void
each_line_carries_code_and_status(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(written); i++) {
		struct str out = STR_INIT;

		smtp_reply_write(&written[i].r, written[i].with_status, &out);
		assert_string_equal(str_text(&out), written[i].want);
		str_deinit(&out);
	}
}

static void
a_long_line_is_cut_at_a_character(void **state)
{
	char text[1001];
	struct smtp_reply r = {.code = 550, .text = text};
	struct str out = STR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(text) - 1; i += 2)
		memcpy(text + i, "\xc3\xa9", 2);
	text[sizeof(text) - 1] = '\0';
	smtp_reply_write(&r, false, &out);
	assert_int_equal(out.len, 502);
	str_clear(&out);
	text[0] = text[1] = 'x';
	memmove(text, text + 1, sizeof(text) - 1);
	smtp_reply_write(&r, false, &out);
	assert_int_equal(out.len, 501);
	assert_string_equal(out.data + 499 - 2, "\xc3\xa9\r\n");
	str_deinit(&out);
}

static void
a_reply_is_one_line_for_the_log(void **state)
{
	struct smtp_reply r = {250, "2.0.0", "a\nb"};
	struct str out = STR_INIT;

	(void)state;
	smtp_reply_line(&r, &out);
	str_add(&out, "|");
	r = (struct smtp_reply){354, "", ""};
	smtp_reply_line(&r, &out);
	assert_string_equal(str_text(&out), "250 2.0.0 a b|354");
	str_deinit(&out);
}

static void
a_copy_outlives_the_parser(void **state)
{
	struct arena *arena = arena_new();
	struct smtp_reply_parser p;
	struct smtp_reply r, *copy;

	(void)state;
	smtp_reply_parser_init(&p);
	assert_int_equal(feed(&p, "550-5.1.1 a\n550 5.1.1 b", &r), SMTP_REPLY_DONE);
	copy = smtp_reply_dup(arena, &r);
	smtp_reply_parser_deinit(&p);
	assert_int_equal(copy->code, 550);
	assert_string_equal(copy->status, "5.1.1");
	assert_string_equal(copy->text, "a\nb");
	arena_free(&arena);
}

static const char *const ids[][2] = {
	{"Ok: queued as 4Zk1Rb2x3Qz9V", "4Zk1Rb2x3Qz9V"},
	{"from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as 4Zk1Rb", "4Zk1Rb"},
	{"5AM0oFkA012345 Message accepted for delivery", "5AM0oFkA012345"},
	{"OK id=1tEabc-0000000ABCD-1xyz", "1tEabc-0000000ABCD-1xyz"},
	{"Message received\nqueued as <x>", ""},
	{"queued as a/b", "a"},
	{" Message accepted for delivery", ""},
	{"the Message accepted", "the"},
	{"Ok", ""},
	{"", ""},
};

static void
the_queue_id_is_found(void **state)
{
	char id[32], small[4];

	(void)state;
	for (size_t i = 0; i < COUNT(ids); i++) {
		struct smtp_reply r = {250, "2.0.0", ids[i][0]};

		smtp_reply_queue_id(&r, id, sizeof(id));
		assert_string_equal(id, ids[i][1]);
		smtp_reply_queue_id(&r, small, sizeof(small));
		assert_int_equal(strncmp(small, ids[i][1], 3), 0);
	}
}

static void
a_refusal_for_good_becomes_one_for_now(void **state)
{
	static const struct {
		int code;
		const char *status;
		int soft_code; /* 0: it is left alone */
		const char *soft_status;
	} cases[] = {
		{550, "5.1.1", 450, "4.1.1"},
		{551, "5.7.1", 451, "4.7.1"},
		{552, "5.3.4", 452, "4.3.4"},
		{554, "", 454, ""},
		{500, "5.5.1", 450, "4.5.1"},
		{521, "5.3.2", 450, "4.3.2"}, /* 421 would end the session */
		{530, "5.7.0", 450, "4.7.0"},
		{555, "5.5.4", 450, "4.5.4"},
		{599, "5.0.0", 450, "4.0.0"},
		{451, "4.7.1", 0, NULL},
		{421, "4.3.2", 0, NULL},
		{250, "2.0.0", 0, NULL},
		{354, "", 0, NULL},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct smtp_reply r = {.code = cases[i].code, .text = "no\nreally"}, soft;

		strcpy(r.status, cases[i].status);
		assert_int_equal(smtp_reply_soften(&r, &soft), cases[i].soft_code != 0);
		if (cases[i].soft_code == 0)
			continue;
		assert_int_equal(soft.code, cases[i].soft_code);
		assert_string_equal(soft.status, cases[i].soft_status);
		assert_string_equal(soft.text, r.text);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_refusal_for_good_becomes_one_for_now),
		cmocka_unit_test(a_well_formed_reply_is_taken_apart),
		cmocka_unit_test(a_line_that_is_none_is_bad),
		cmocka_unit_test(a_change_of_code_is_bad),
		cmocka_unit_test(lines_and_replies_are_bounded),
		cmocka_unit_test(each_line_carries_code_and_status),
		cmocka_unit_test(a_long_line_is_cut_at_a_character),
		cmocka_unit_test(a_reply_is_one_line_for_the_log),
		cmocka_unit_test(a_copy_outlives_the_parser),
		cmocka_unit_test(the_queue_id_is_found),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
