/*
 * t/unit/test_clamd_reply.c - what counts as clean, as a find, and as no answer at all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/list.h"
#include "filters/clamd_reply.h"

#define FILDES true
#define STREAM false

static const struct {
	const char *line;
	unsigned id;
	bool is_fildes;
	enum clamd_said said;
	const char *text;
} cases[] = {
	{"stream: OK", 0, STREAM, CLAMD_CLEAN, ""},
	{"1: stream: OK", 1, STREAM, CLAMD_CLEAN, ""},
	{"4294967295: stream: OK", 4294967295U, STREAM, CLAMD_CLEAN, ""},
	{"fd[10]: OK", 0, FILDES, CLAMD_CLEAN, ""},
	{"12: fd[0]: OK", 12, FILDES, CLAMD_CLEAN, ""},
	{"stream: Eicar-Signature FOUND", 0, STREAM, CLAMD_INFECTED, "Eicar-Signature"},
	{"3: stream: Win.Test.EICAR_HDB-1(44d88612fea8a8f36de82e1278abb02f:68) FOUND", 3, STREAM, CLAMD_INFECTED,
		"Win.Test.EICAR_HDB-1(44d88612fea8a8f36de82e1278abb02f:68)"},
	{"fd[7]: Heuristics.Limits.Exceeded.MaxFileSize FOUND", 0, FILDES, CLAMD_INFECTED,
		"Heuristics.Limits.Exceeded.MaxFileSize"},
	{"stream: a b: c FOUND", 0, STREAM, CLAMD_INFECTED, "a b: c"},
	{"stream: a\r\n\033b FOUND", 0, STREAM, CLAMD_INFECTED, "a   b"},
	{"stream: OK FOUND", 0, STREAM, CLAMD_INFECTED, "OK"},
	{"INSTREAM size limit exceeded. ERROR", 0, STREAM, CLAMD_TOO_LARGE, NULL},
	{"2: INSTREAM size limit exceeded. ERROR", 2, STREAM, CLAMD_TOO_LARGE, NULL},
	{"1: INSTREAM size limit exceeded. ERROR", 2, STREAM, CLAMD_WRONG, "1: INSTREAM size limit exceeded. ERROR"},
	{"", 0, STREAM, CLAMD_WRONG, ""},
	{"OK", 0, STREAM, CLAMD_WRONG, "OK"},
	{"stream:", 0, STREAM, CLAMD_WRONG, "stream:"},
	{"stream: ", 0, STREAM, CLAMD_WRONG, "stream: "},
	{"stream: O", 0, STREAM, CLAMD_WRONG, "stream: O"},
	{"stream: ok", 0, STREAM, CLAMD_WRONG, NULL},
	{"stream: OK ", 0, STREAM, CLAMD_WRONG, NULL},
	{"stream: OK\n", 0, STREAM, CLAMD_WRONG, NULL},
	{" stream: OK", 0, STREAM, CLAMD_WRONG, NULL},
	{"stream:OK", 0, STREAM, CLAMD_WRONG, NULL},
	{"stream: OKAY", 0, STREAM, CLAMD_WRONG, NULL},
	{"stream: FOUND", 0, STREAM, CLAMD_WRONG, NULL},
	{"stream:  FOUND", 0, STREAM, CLAMD_WRONG, NULL},
	{"stream: x FOUND ", 0, STREAM, CLAMD_WRONG, NULL},
	{"stream: x ERROR", 0, STREAM, CLAMD_WRONG, "stream: x ERROR"},
	{"stream: OK ERROR", 0, STREAM, CLAMD_WRONG, NULL},
	{"fd[10]: OK", 0, STREAM, CLAMD_WRONG, NULL},
	{"stream: OK", 0, FILDES, CLAMD_WRONG, NULL},
	{"fd[12345678901]: OK", 0, FILDES, CLAMD_WRONG, NULL},
	{"fd[]: OK", 0, FILDES, CLAMD_WRONG, NULL},
	{"fd[1x]: OK", 0, FILDES, CLAMD_WRONG, NULL},
	{"fd[-1]: OK", 0, FILDES, CLAMD_WRONG, NULL},
	{"fd[10: OK", 0, FILDES, CLAMD_WRONG, NULL},
	{"1: stream: OK", 0, STREAM, CLAMD_WRONG, NULL},
	{"stream: OK", 1, STREAM, CLAMD_WRONG, NULL},
	{"1: stream: OK", 2, STREAM, CLAMD_WRONG, NULL},
	{"11: stream: OK", 1, STREAM, CLAMD_WRONG, NULL},
	{"01: stream: OK", 1, STREAM, CLAMD_WRONG, NULL},
	{"1 : stream: OK", 1, STREAM, CLAMD_WRONG, NULL},
	{"1:stream: OK", 1, STREAM, CLAMD_WRONG, NULL},
	{"COMMAND READ TIMED OUT", 1, STREAM, CLAMD_WRONG, "COMMAND READ TIMED OUT"},
	{"UNKNOWN COMMAND", 0, FILDES, CLAMD_WRONG, "UNKNOWN COMMAND"},
};

static void
only_the_exact_forms_count(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct clamd_reply r;

		clamd_reply_parse(cases[i].line, strlen(cases[i].line), cases[i].id, cases[i].is_fildes, &r);
		if (r.said != cases[i].said)
			fail_msg("\"%s\": %d", cases[i].line, r.said);
		if (cases[i].text != NULL)
			assert_string_equal(r.text, cases[i].text);
	}
}

/* A number that is ours: else what was said belongs to something else. */
static void
the_number_of_the_command_is_looked_at(void **state)
{
	struct clamd_reply r;

	(void)state;
	clamd_reply_parse("2: nonsense", 11, 2, false, &r);
	assert_true(r.is_ours);
	clamd_reply_parse("1: stream: OK", 13, 2, false, &r);
	assert_false(r.is_ours);
	clamd_reply_parse("nonsense", 8, 0, false, &r);
	assert_true(r.is_ours);
}

static void
a_nul_within_is_no_end(void **state)
{
	struct clamd_reply r;

	(void)state;
	clamd_reply_parse("stream: OK\0 FOUND", 17, 0, false, &r);
	assert_int_equal(r.said, CLAMD_INFECTED);
	clamd_reply_parse("stream: OK\0", 11, 0, false, &r);
	assert_int_equal(r.said, CLAMD_WRONG);
}

static void
a_long_name_is_cut(void **state)
{
	char line[1200];
	struct clamd_reply r;

	(void)state;
	snprintf(line, sizeof(line), "stream: %01000d FOUND", 0);
	clamd_reply_parse(line, strlen(line), 0, false, &r);
	assert_int_equal(r.said, CLAMD_INFECTED);
	assert_int_equal(strlen(r.text), CLAMD_TEXT_MAX);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_the_exact_forms_count),
		cmocka_unit_test(the_number_of_the_command_is_looked_at),
		cmocka_unit_test(a_nul_within_is_no_end),
		cmocka_unit_test(a_long_name_is_cut),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
