/* t/unit/test_caps.c - EHLO words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "smtp/caps.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct {
	const char *line;
	unsigned bits;
	int64_t size;
} lines[] = {
	{"PIPELINING", SMTP_CAP_PIPELINING, 0},
	{"pipelining", SMTP_CAP_PIPELINING, 0},
	{"8BITMIME ", SMTP_CAP_8BITMIME, 0},
	{"SIZE", SMTP_CAP_SIZE, 0},
	{"SIZE 0", SMTP_CAP_SIZE, 0},
	{"Size 10240000", SMTP_CAP_SIZE, 10240000},
	{"SIZE  12", SMTP_CAP_SIZE, 12},
	{"SIZE 999999999999999999", SMTP_CAP_SIZE, 999999999999999999},
	{"SIZE 1000000000000000000", SMTP_CAP_SIZE, 0},
	{"SIZE 99999999999999999999999999", SMTP_CAP_SIZE, 0},
	{"SIZE -1", SMTP_CAP_SIZE, 0},
	{"SIZE 12x", SMTP_CAP_SIZE, 0},
	{"SIZE=100", 0, 0},
	{"AUTH PLAIN LOGIN", SMTP_CAP_AUTH, 0},
	{"AUTH=LOGIN", SMTP_CAP_AUTH, 0},
	{"auth=login plain", SMTP_CAP_AUTH, 0},
	{"CHUNKING", SMTP_CAP_CHUNKING, 0},
	{"ENHANCEDSTATUSCODES", SMTP_CAP_STATUSCODES, 0},
	{"SMTPUTF8", SMTP_CAP_SMTPUTF8, 0},
	{"DSN", SMTP_CAP_DSN, 0},
	{"STARTTLS", SMTP_CAP_STARTTLS, 0},
	{"XCLIENT NAME ADDR", SMTP_CAP_XCLIENT, 0},
	{"XFORWARD NAME", SMTP_CAP_XFORWARD, 0},
	{"BINARYMIME", SMTP_CAP_BINARYMIME, 0},
	{"PIPELINING\t", 0, 0},
	{"STARTTLS\r", 0, 0},
	{"PIPELINE", 0, 0},
	{"PIPELININGS", 0, 0},
	{" DSN", 0, 0},
	{"ETRN", 0, 0},
	{"", 0, 0},
};

static void
known_words_are_learned_and_others_ignored(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(lines); i++) {
		struct smtp_caps caps = {0};

		smtp_caps_add_line(&caps, lines[i].line, strlen(lines[i].line));
		assert_int_equal(caps.bits, lines[i].bits);
		assert_true(caps.size == lines[i].size);
	}
}

static void
a_nul_spoils_a_word(void **state)
{
	struct smtp_caps caps = {0};

	(void)state;
	smtp_caps_add_line(&caps, "DSN\0", 4);
	smtp_caps_add_line(&caps, "SIZE 1\0", 7);
	assert_int_equal(caps.bits, 0);
}

static void
words_are_offered_in_a_fixed_order(void **state)
{
	struct smtp_caps caps = {
		.bits = SMTP_CAP_DSN | SMTP_CAP_SIZE | SMTP_CAP_PIPELINING | SMTP_CAP_CHUNKING,
		.size = 100,
	};
	struct str out = STR_INIT;

	(void)state;
	smtp_caps_write(&caps, &out);
	assert_string_equal(str_text(&out), "PIPELINING\nSIZE 100\nDSN\nCHUNKING");
	str_clear(&out);
	caps = (struct smtp_caps){.bits = SMTP_CAP_SIZE};
	smtp_caps_write(&caps, &out);
	assert_string_equal(str_text(&out), "SIZE");
	str_deinit(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_words_are_learned_and_others_ignored),
		cmocka_unit_test(a_nul_spoils_a_word),
		cmocka_unit_test(words_are_offered_in_a_fixed_order),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
