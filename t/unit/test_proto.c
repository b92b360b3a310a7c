/* t/unit/test_proto.c - frames to helpers and messages to the spawner. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "work/proto.h"

#define BYTES(s) s, sizeof(s) - 1

static void
a_frame_comes_back_as_it_went(void **state)
{
	struct work_frame in = {.type = WORK_JOB, .job = 0xfedcba98}, out;
	struct str bytes = STR_INIT;
	struct err err;

	(void)state;
	work_frame_add(&in, "wait");
	work_frame_add(&in, "");
	assert_int_equal(work_frame_encode(&bytes, &in, &err), 0);
	assert_int_equal(work_frame_decode(bytes.data, bytes.len, &out, &err), bytes.len);
	assert_int_equal(out.type, WORK_JOB);
	assert_int_equal(out.job, 0xfedcba98);
	assert_int_equal(out.count, 2);
	assert_true(work_word_is(&out.words[0], "wait"));
	assert_true(work_word_is(&out.words[1], ""));
	str_deinit(&bytes);
}

static void
a_frame_is_incomplete_until_its_last_octet(void **state)
{
	struct work_frame in = {.type = WORK_ASK, .job = 7}, out;
	struct str bytes = STR_INIT;
	struct err err;

	(void)state;
	work_frame_add(&in, "clock");
	assert_int_equal(work_frame_encode(&bytes, &in, &err), 0);
	for (size_t len = 0; len < bytes.len; len++) {
		/* A copy of its own, so that a read behind the end is seen. */
		char *part = malloc(len + 1);

		memcpy(part, bytes.data, len);
		assert_int_equal(work_frame_decode(part, len, &out, &err), 0);
		free(part);
	}
	str_addn(&bytes, "more", 4);
	assert_int_equal(work_frame_decode(bytes.data, bytes.len, &out, &err), bytes.len - 4);
	str_deinit(&bytes);
}

static void
a_malformed_frame_is_refused(void **state)
{
	static const struct {
		const char *why, *data;
		size_t len;
	} cases[] = {
		{"rest too short for a head", BYTES("\0\0\0\5\1\0\0\0\1\0")},
		{"longer than the bound", BYTES("\0\0\377\375")},
		{"much longer than the bound", BYTES("\377\377\377\377")},
		{"type 0", BYTES("\0\0\0\6\0\0\0\0\1\0")},
		{"type 6", BYTES("\0\0\0\6\6\0\0\0\1\0")},
		{"an ask without its question", BYTES("\0\0\0\6\2\0\0\0\1\0")},
		{"a done of one word", BYTES("\0\0\0\12\5\0\0\0\1\1\0\0\0\0")},
		{"seventeen words", BYTES("\0\0\0\6\1\0\0\0\1\21")},
		{"a word that is longer than the frame", BYTES("\0\0\0\13\1\0\0\0\1\1\0\0\0\2x")},
		{"a word of 4 GiB", BYTES("\0\0\0\13\1\0\0\0\1\1\377\377\377\377x")},
		{"a length cut off", BYTES("\0\0\0\10\1\0\0\0\1\1\0\0")},
		{"something behind the last word", BYTES("\0\0\0\13\1\0\0\0\1\1\0\0\0\0x")},
		{"something behind no words", BYTES("\0\0\0\7\1\0\0\0\1\0x")},
	};
	struct work_frame frame;
	struct err err;

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
		if (work_frame_decode(cases[i].data, cases[i].len, &frame, &err) != -1)
			fail_msg("accepted: %s", cases[i].why);
}

static void
a_frame_over_the_bound_is_not_made(void **state)
{
	struct work_frame frame = {.type = WORK_JOB, .job = 1};
	char *big = malloc(WORK_FRAME_MAX);
	struct str out = STR_INIT;
	struct err err;

	(void)state;
	memset(big, 'x', WORK_FRAME_MAX);
	big[WORK_FRAME_MAX - 14] = '\0';
	work_frame_add(&frame, big);
	assert_int_equal(work_frame_encode(&out, &frame, &err), 0);
	assert_int_equal(out.len, WORK_FRAME_MAX);
	str_clear(&out);
	frame.words[0].len++;
	assert_int_equal(work_frame_encode(&out, &frame, &err), -1);
	assert_int_equal(out.len, 0);
	frame.type = WORK_ANSWER;
	frame.words[0].len = 1;
	assert_int_equal(work_frame_encode(&out, &frame, &err), -1);
	free(big);
	str_deinit(&out);
}

static void
done_says_a_verdict_only_with_what_fits_it(void **state)
{
	static const struct {
		const char *words[5];
		int rc;
		enum verdict_kind kind;
	} cases[] = {
		{{"pass", "", "", "waited", ""}, 0, VERDICT_PASS},
		{{"accept", "", "", "", ""}, 0, VERDICT_ACCEPT},
		{{"discard", "", "", "", "last"}, 0, VERDICT_DISCARD},
		{{"quarantine", "", "", "", ""}, 0, VERDICT_QUARANTINE},
		{{"reject", "550", "5.7.1", "no", ""}, 0, VERDICT_REJECT},
		{{"reject", "", "", "", ""}, 0, VERDICT_REJECT},
		{{"tempfail", "451", "4.7.1", "later", ""}, 0, VERDICT_TEMPFAIL},
		{{"disconnect", "421", "4.7.0", "", ""}, 0, VERDICT_DISCONNECT},
		{{"reject", "599", "5.777.999", "", ""}, 0, VERDICT_REJECT},
		{{"reject", "451", "", "", ""}, -1, 0},
		{{"tempfail", "550", "", "", ""}, -1, 0},
		{{"reject", "", "4.7.1", "", ""}, -1, 0},
		{{"reject", "", "5.7", "", ""}, -1, 0},
		{{"reject", "", "5.7.", "", ""}, -1, 0},
		{{"reject", "", "5.7.1 ", "", ""}, -1, 0},
		{{"reject", "", "5.7.1234", "", ""}, -1, 0},
		{{"reject", "5", "", "", ""}, -1, 0},
		{{"reject", "0550", "", "", ""}, -1, 0},
		{{"reject", "5x0", "", "", ""}, -1, 0},
		{{"pass", "250", "", "", ""}, -1, 0},
		{{"pass", "", "2.0.0", "", ""}, -1, 0},
		{{"error", "451", "", "", ""}, -1, 0},
		{{"Pass", "", "", "", ""}, -1, 0},
		{{"", "", "", "", ""}, -1, 0},
		{{"passs", "", "", "", ""}, -1, 0},
		{{"pass", "", "", "", "first"}, -1, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct work_frame frame = {.type = WORK_DONE, .job = 1};
		struct work_done done;
		struct err err;

		for (int w = 0; w < 5; w++)
			work_frame_add(&frame, cases[i].words[w]);
		if (work_done_decode(&frame, &done, &err) != cases[i].rc)
			fail_msg("case %zu: %s %s %s", i, cases[i].words[0], cases[i].words[1],
				cases[i].words[2]);
		if (cases[i].rc == 0)
			assert_int_equal(done.kind, cases[i].kind);
	}
}

static void
done_comes_back_as_it_went_with_a_clean_text(void **state)
{
	const struct work_done in = {.kind = VERDICT_REJECT,
		.code = 554,
		.status = "5.6.0",
		.text = "two\r\nlines",
		.is_last = true};
	struct work_done out;
	struct work_frame frame;
	struct str bytes = STR_INIT;
	struct err err;

	(void)state;
	assert_int_equal(work_done_encode(&bytes, 9, &in, &err), 0);
	assert_true(work_frame_decode(bytes.data, bytes.len, &frame, &err) > 0);
	assert_int_equal(work_done_decode(&frame, &out, &err), 0);
	assert_int_equal(frame.job, 9);
	assert_false(out.failed);
	assert_int_equal(out.code, 554);
	assert_string_equal(out.status, "5.6.0");
	assert_null(strpbrk(out.text, "\r\n"));
	assert_true(out.is_last);
	str_deinit(&bytes);
}

static void
a_failed_job_is_no_verdict(void **state)
{
	const struct work_done in = {.failed = true, .text = "cannot"};
	struct work_done out;
	struct work_frame frame;
	struct str bytes = STR_INIT;
	struct err err;

	(void)state;
	assert_int_equal(work_done_encode(&bytes, 9, &in, &err), 0);
	assert_true(work_frame_decode(bytes.data, bytes.len, &frame, &err) > 0);
	assert_int_equal(work_done_decode(&frame, &out, &err), 0);
	assert_true(out.failed);
	assert_string_equal(out.text, "cannot");
	str_deinit(&bytes);
}

static void
numbers_are_plain_decimal_and_bounded(void **state)
{
	static const struct {
		const char *text;
		int64_t want;
	} cases[] = {
		{"0", 0},
		{"100", 100},
		{"101", -1},
		{"", -1},
		{"-1", -1},
		{"+1", -1},
		{" 1", -1},
		{"1 ", -1},
		{"0x1", -1},
		{"99999999999999999999", -1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		const struct work_word w = {cases[i].text, strlen(cases[i].text)};

		assert_int_equal(work_word_number(&w, 100), cases[i].want);
	}
}

static void
only_whole_header_lines_may_be_prepended(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		bool want;
	} cases[] = {
		{BYTES("X-A: b\r\n"), true},
		{BYTES("X-A: b\r\nX-B:\r\n"), true},
		{BYTES("X-A: b\r\n\tfolded\r\n"), true},
		{BYTES(""), false},
		{BYTES("X-A: b"), false},
		{BYTES("X-A: b\n"), false},
		{BYTES("X-A: b\r"), false},
		{BYTES("X-A: b\r\r\n"), false},
		{BYTES("X-A: b\r\n\r\n"), false},
		{BYTES("X-A: b\r\n\r\nbody\r\n"), false},
		{BYTES(" folded: what\r\n"), false},
		{BYTES("no field\r\n"), false},
		{BYTES(": nothing\r\n"), false},
		{BYTES(".X: dot\r\n"), false},
		{BYTES("X-A: a\0b\r\n"), false},
		{BYTES("X-A: a\nX-B: c\r\n"), false},
		{BYTES("X A: b\r\n"), false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
		if (work_header_valid(cases[i].text, cases[i].len) != cases[i].want)
			fail_msg("case %zu", i);
}

static void
a_spawn_message_comes_back_as_it_went(void **state)
{
	struct work_message in = {.type = WORK_SPAWN, .id = 77}, out;
	struct str bytes = STR_INIT;
	struct err err;

	(void)state;
	in.spawn = (struct work_spawn){
		.profile = WORK_HELPER,
		.limits = {1ULL << 40, 2, 3, 4},
		.directory = "/tmp",
		.argv = {"/bin/echo", "a b", "", NULL},
		.env = {"LANG=C", NULL},
		.targets = {3, 0, 15},
		.target_count = 3,
	};
	assert_int_equal(work_message_encode(&bytes, &in, &err), 0);
	assert_int_equal(work_message_decode(bytes.data, bytes.len, &out, &err), 0);
	assert_int_equal(out.id, 77);
	assert_int_equal(out.spawn.profile, WORK_HELPER);
	assert_true(out.spawn.limits.memory == 1ULL << 40 && out.spawn.limits.open_files == 4);
	assert_string_equal(out.spawn.directory, "/tmp");
	assert_string_equal(out.spawn.argv[1], "a b");
	assert_string_equal(out.spawn.argv[2], "");
	assert_null(out.spawn.argv[3]);
	assert_string_equal(out.spawn.env[0], "LANG=C");
	assert_null(out.spawn.env[1]);
	assert_int_equal(out.spawn.target_count, 3);
	assert_int_equal(out.spawn.targets[2], 15);
	for (size_t len = 0; len < bytes.len; len++)
		assert_int_equal(work_message_decode(bytes.data, len, &out, &err), -1);
	str_addc(&bytes, 'x');
	assert_int_equal(work_message_decode(bytes.data, bytes.len, &out, &err), -1);
	str_deinit(&bytes);
}

static void
news_of_the_spawner_come_back_as_they_went(void **state)
{
	static const enum work_message_type types[] = {
		WORK_KILL, WORK_STARTED, WORK_FAILED, WORK_EXITED};
	struct err err;

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
		const struct work_message in = {.type = types[i], .id = 5, .value = -3};
		struct work_message out;
		struct str bytes = STR_INIT;

		assert_int_equal(work_message_encode(&bytes, &in, &err), 0);
		assert_int_equal(work_message_decode(bytes.data, bytes.len, &out, &err), 0);
		assert_int_equal(out.type, types[i]);
		assert_int_equal(out.id, 5);
		assert_int_equal(out.value, -3);
		str_deinit(&bytes);
	}
}

static void
a_program_that_cannot_be_meant_is_refused(void **state)
{
	static const struct work_spawn cases[] = {
		{.directory = "", .argv = {"relative"}},
		{.directory = "", .argv = {NULL}},
		{.directory = "", .argv = {"/x"}, .targets = {3, 3}, .target_count = 2},
		{.directory = "", .argv = {"/x"}, .targets = {16}, .target_count = 1},
		{.directory = "", .argv = {"/x"}, .targets = {-1}, .target_count = 1},
		{.directory = "", .argv = {"/x"}, .target_count = WORK_FDS_MAX + 1},
	};
	struct str bytes = STR_INIT;
	struct err err;

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct work_message msg = {.type = WORK_SPAWN, .id = 1, .spawn = cases[i]};

		assert_int_equal(work_message_encode(&bytes, &msg, &err), -1);
		assert_int_equal(bytes.len, 0);
	}
	str_deinit(&bytes);
}

static void
arguments_over_the_bound_are_refused(void **state)
{
	struct work_message msg = {.type = WORK_SPAWN, .id = 1};
	char *big = malloc(WORK_MESSAGE_MAX);
	struct str bytes = STR_INIT;
	struct err err;

	(void)state;
	memset(big, 'x', WORK_MESSAGE_MAX);
	big[WORK_MESSAGE_MAX - 1] = '\0';
	msg.spawn.directory = "";
	msg.spawn.argv[0] = "/x";
	msg.spawn.argv[1] = big;
	assert_int_equal(work_message_encode(&bytes, &msg, &err), -1);
	big[WORK_MESSAGE_MAX / 2] = '\0';
	assert_int_equal(work_message_encode(&bytes, &msg, &err), 0);
	assert_true(bytes.len <= WORK_MESSAGE_MAX);
	free(big);
	str_deinit(&bytes);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_frame_comes_back_as_it_went),
		cmocka_unit_test(a_frame_is_incomplete_until_its_last_octet),
		cmocka_unit_test(a_malformed_frame_is_refused),
		cmocka_unit_test(a_frame_over_the_bound_is_not_made),
		cmocka_unit_test(done_says_a_verdict_only_with_what_fits_it),
		cmocka_unit_test(done_comes_back_as_it_went_with_a_clean_text),
		cmocka_unit_test(a_failed_job_is_no_verdict),
		cmocka_unit_test(numbers_are_plain_decimal_and_bounded),
		cmocka_unit_test(only_whole_header_lines_may_be_prepended),
		cmocka_unit_test(a_spawn_message_comes_back_as_it_went),
		cmocka_unit_test(news_of_the_spawner_come_back_as_they_went),
		cmocka_unit_test(a_program_that_cannot_be_meant_is_refused),
		cmocka_unit_test(arguments_over_the_bound_are_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
