/*
 * t/unit/test_oneshot.c - the times that `postern -1 --time` takes, and the first line of a message.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/oneshot.h"

/* Tuesday, 2026-11-24 16:30:00 in Berlin. */
#define NOW 1795534200

static const struct {
	const char *text;
	const char *want; /* NULL: it is no time */
} times[] = {
	{ "03:00", "Tue 2026-11-24 03:00:00" },
	{ "3:00", "Tue 2026-11-24 03:00:00" },
	{ "23:59:58", "Tue 2026-11-24 23:59:58" },
	{ "Sun 03:00", "Sun 2026-11-29 03:00:00" },
	{ "sun 03:00:01", "Sun 2026-11-29 03:00:01" },
	{ "WED  00:00", "Wed 2026-11-25 00:00:00" },
	{ "Tue 16:30", "Tue 2026-11-24 16:30:00" },
	{ "Tue 16:29", "Tue 2026-12-01 16:29:00" },
	{ "Mon 03:00", "Mon 2026-11-30 03:00:00" },
	{ "2026-11-29 03:00", "Sun 2026-11-29 03:00:00" },
	{ "2024-02-29 12:00:30", "Thu 2024-02-29 12:00:30" },
	{ "2026-07-01 12:00", "Wed 2026-07-01 12:00:00" },
	{ "", NULL },
	{ "now", NULL },
	{ "Sun", NULL },
	{ "Sunday 03:00", NULL },
	{ "24:00", NULL },
	{ "03:60", NULL },
	{ "03:00:60", NULL },
	{ "-1:00", NULL },
	{ "03", NULL },
	{ "03:00 x", NULL },
	{ "03:00:", NULL },
	{ "03:00:0x", NULL },
	{ "2026-11-29", NULL },
	{ "2026-02-30 03:00", NULL },
	{ "2026-13-01 03:00", NULL },
	{ "29.11.2026 03:00", NULL },
};

static void
times_are_of_the_three_forms(void **state)
{
	(void)state;
	setenv("TZ", "Europe/Berlin", 1);
	tzset();
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		struct err err = { 0 };
		char got[64] = "";
		struct tm tm;
		time_t when;
		int rc = oneshot_parse_time(times[i].text, NOW, &when, &err);

		if (rc == 0) {
			localtime_r(&when, &tm);
			strftime(got, sizeof(got), "%a %Y-%m-%d %H:%M:%S", &tm);
		}
		if (strcmp(got, times[i].want != NULL ? times[i].want : "") != 0)
			fail_msg("\"%s\": \"%s\" (%s)", times[i].text, got, err.text);
		if (rc < 0)
			assert_non_null(strstr(err.text, "--time: "));
	}
}

static const struct {
	const char *message, *from, *content;
	bool has_from, has_8bit;
} messages[] = {
	{ "From a@b.example Sun Nov 29\nSubject: x\n", "a@b.example", "Subject: x\r\n", true, false },
	{ "From a@b.example\r\n\r\nx\r\n", "a@b.example", "\r\nx\r\n", true, false },
	{ "From MAILER-DAEMON Sun\n\n", "", "\r\n", true, false },
	{ "From MAILER-DAEMON2 Sun\n\n", "MAILER-DAEMON2", "\r\n", true, false },
	{ "From: a@b.example\n\n", "", "From: a@b.example\r\n\r\n", false, false },
	{ "From \nx", "", "From \r\nx\r\n", false, false },
	{ "x\nFrom a@b.example\n", "", "x\r\nFrom a@b.example\r\n", false, false },
	{ "a\rb\r\r\nc", "", "a\rb\r\r\nc\r\n", false, false },
	{ "\xc3\xa4\n", "", "\xc3\xa4\r\n", false, true },
	{ "", "", "", false, false },
};

static int
write_message(const char *text)
{
	char path[] = P_tmpdir "/test_oneshot.XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	lseek(fd, 0, SEEK_SET);
	return fd;
}

static void
a_message_is_read_with_its_first_line_apart(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		struct oneshot_mail mail = { 0 };
		int fd = write_message(messages[i].message);
		char got[200] = "";
		struct err err;

		assert_int_equal(oneshot_read(&mail, fd, P_tmpdir, &err), 0);
		assert_true(pread(mail.content, got, sizeof(got) - 1, 0) >= 0);
		assert_string_equal(got, messages[i].content);
		assert_string_equal(mail.from_line, messages[i].from);
		assert_int_equal(mail.has_from_line, messages[i].has_from);
		assert_int_equal(mail.has_8bit, messages[i].has_8bit);
		close(mail.content);
		close(fd);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(times_are_of_the_three_forms),
		cmocka_unit_test(a_message_is_read_with_its_first_line_apart),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
