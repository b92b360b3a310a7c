/*
 * t/unit/test_spamd_reply.c - heads of spamd's answers, also cut anywhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/list.h"
#include "filters/spamd_reply.h"

#define OK    "SPAMD/1.1 0 EX_OK\r\n"
#define SCORE "Spam: True ; 7.3 / 5.0\r\n"

static const struct {
	const char *text;
	bool is_spam;
	const char *score, *threshold;
	int64_t length;
} good[] = {
	{OK SCORE "\r\n", true, "7.3", "5.0", -1},
	{OK "Content-length: 12\r\n" SCORE "\r\n", true, "7.3", "5.0", 12},
	{OK "Spam: False ; -0.1 / 5.0\r\nContent-length: 0\r\n\r\n", false, "-0.1", "5.0", 0},
	{OK "Spam: False ; 0 / 5\r\n\r\n", false, "0", "5", -1},
	{"SPAMD/1.5 0 PONG\r\n" SCORE "\r\n", true, "7.3", "5.0", -1},
	{"SPAMD/1.1 0 EX_OK\nspam:true;7.3 /5.0\n\n", true, "7.3", "5.0", -1},
	{OK "DidSet: local\r\n" SCORE "X-Y:\r\n\r\n", true, "7.3", "5.0", -1},
	{OK "SPAM:  true\t;  1000.5  /  99.0 \r\n\r\n", true, "1000.5", "99.0", -1},
	{OK SCORE "Content-length: 999999999999\r\n\r\n", true, "7.3", "5.0", 999999999999},
};

static void
heads_are_understood_wherever_they_are_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
		size_t len = strlen(good[i].text);
		struct spamd_reply r;
		struct err err;

		for (size_t n = 0; n < len; n++)
			assert_int_equal(spamd_reply_parse(good[i].text, n, &r, &err), 0);
		assert_int_equal(spamd_reply_parse(good[i].text, len, &r, &err), len);
		assert_int_equal(r.is_spam, good[i].is_spam);
		assert_string_equal(r.score_text, good[i].score);
		assert_string_equal(r.threshold_text, good[i].threshold);
		assert_int_equal(r.length, good[i].length);
	}
}

static const char *const bad[] = {
	"\r\n",
	"OK\r\n",
	"SPAMD/1.1\r\n",
	"SPAMD/1.1 \r\n",
	"SPAMD/1.1 0\r\n",
	"SPAMD/1.1 00 EX_OK\r\n",
	"SPAMD/1.1 1 EX_OK\r\n",
	"SPAMD/1.1 76 Bad header line\r\n",
	"SPAMD/1. 0 EX_OK\r\n",
	"SPAMD/x.1 0 EX_OK\r\n",
	"SPAMC/1.1 0 EX_OK\r\n",
	"HTTP/1.1 200 OK\r\n",
	OK "\r\n",
	OK "Content-length: 0\r\n\r\n",
	OK "Spam: True\r\n",
	OK "Spam: Yes ; 7.3 / 5.0\r\n",
	OK "Spam: Truely ; 7.3 / 5.0\r\n",
	OK "Spam: True , 7.3 / 5.0\r\n",
	OK "Spam: True ; / 5.0\r\n",
	OK "Spam: True ; 7.3 /\r\n",
	OK "Spam: True ; 7.3\r\n",
	OK "Spam: True ; 7.3 / 5.0 x\r\n",
	OK "Spam: True ; 7,3 / 5.0\r\n",
	OK "Spam: True ; 7. / 5.0\r\n",
	OK "Spam: True ; .5 / 5.0\r\n",
	OK "Spam: True ; +7 / 5.0\r\n",
	OK "Spam: True ; 1e9 / 5.0\r\n",
	OK "Spam: True ; 0x10 / 5.0\r\n",
	OK "Spam: True ; inf / 5.0\r\n",
	OK "Spam: True ; 1234567890123456 / 5.0\r\n",
	OK SCORE SCORE,
	OK "Content-length:\r\n",
	OK "Content-length: -1\r\n",
	OK "Content-length: 1 2\r\n",
	OK "Content-length: 1234567890123\r\n",
	OK "Content-length: 1\r\nContent-length: 1\r\n",
	OK "nothing\r\n",
};

static void
what_is_no_head_is_refused_with_its_words(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		struct spamd_reply r;
		struct err err = {.text = ""};

		if (spamd_reply_parse(bad[i], strlen(bad[i]), &r, &err) != -1)
			fail_msg("\"%s\"", bad[i]);
		assert_string_not_equal(err.text, "");
	}
}

static void
a_head_without_an_end_is_refused(void **state)
{
	char text[2 * SPAMD_HEAD_MAX];
	struct spamd_reply r;
	struct err err;

	(void)state;
	memset(text, 'x', sizeof(text));
	assert_int_equal(spamd_reply_parse(text, SPAMD_HEAD_MAX, &r, &err), 0);
	assert_int_equal(spamd_reply_parse(text, SPAMD_HEAD_MAX + 1, &r, &err), -1);
	strcpy(text, OK);
	for (size_t at = strlen(OK); at + 8 < sizeof(text); at += 8)
		memcpy(text + at, "X-Y: 1\r\n", 8);
	assert_int_equal(spamd_reply_parse(text, SPAMD_HEAD_MAX + 100, &r, &err), -1);
}

static void
what_follows_is_left_alone(void **state)
{
	static const char text[] = OK SCORE "\r\nSpam: False ; 0 / 5\r\n\r\n";
	struct spamd_reply r;
	struct err err;

	(void)state;
	assert_int_equal(spamd_reply_parse(text, sizeof(text) - 1, &r, &err), strlen(OK SCORE "\r\n"));
	assert_true(r.is_spam);
	assert_true(r.score > 7.29 && r.score < 7.31 && r.threshold > 4.99 && r.threshold < 5.01);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(heads_are_understood_wherever_they_are_cut),
		cmocka_unit_test(what_is_no_head_is_refused_with_its_words),
		cmocka_unit_test(a_head_without_an_end_is_refused),
		cmocka_unit_test(what_follows_is_left_alone),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
