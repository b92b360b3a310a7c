/*
 * t/unit/test_log.c - lines in both forms, and the ways they leave: file, stderr, syslog.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/log_line.h"

static const struct log_head head = {
	.time_ms = 1700000000123,
	.level = LOG_LEVEL_INFO,
	.who = "w3",
	.session = 0x7f3a01,
	.txn = 1,
	.event = "rcpt",
};

/* One call, both forms; the head is told apart. */
__attribute__((format(printf, 3, 4))) static void
expect(const char *text, const char *json, const char *fmt, ...)
{
	static const char text_head[] = "info w3 s=7f3a01 t=1 rcpt";
	static const char json_head[] = "\"level\":\"info\",\"who\":\"w3\",\"session\":\"7f3a01\","
					"\"txn\":1,\"event\":\"rcpt\"";
	struct str line = STR_INIT;
	const char *from;
	va_list ap;

	va_start(ap, fmt);
	log_line_add(&line, LOG_FORMAT_TEXT, false, &head, fmt, ap);
	assert_int_equal(strncmp(line.data, text_head, strlen(text_head)), 0);
	assert_string_equal(line.data + strlen(text_head), text);
	str_clear(&line);
	log_line_add(&line, LOG_FORMAT_JSON, false, &head, fmt, ap);
	va_end(ap);
	from = strstr(line.data, json_head);
	assert_non_null(from);
	assert_string_equal(from + strlen(json_head), json);
	str_deinit(&line);
}

static void
strings_are_quoted_and_escaped_as_each_form_needs(void **state)
{
	const char *volatile null = NULL;

	(void)state;
	expect(" a=b", ",\"a\":\"b\"}", "a=%s", "b");
	expect(" a=\"\"", ",\"a\":\"\"}", "a=%s", "");
	expect(" a=\"b c\"", ",\"a\":\"b c\"}", "a=%s", "b c");
	expect(" a=\"b\\\"c\\\\\"", ",\"a\":\"b\\\"c\\\\\"}", "a=%s", "b\"c\\");
	expect(" a=x\\x0d\\x0ay\\x1b", ",\"a\":\"x\\u000d\\u000ay\\u001b\"}", "a=%s", "x\r\ny\x1b");
	expect(" a=\xc3\xbc", ",\"a\":\"\xc3\xbc\"}", "a=%s", "\xc3\xbc");
	expect(" a=b\\xff\\xc3", ",\"a\":\"b\xef\xbf\xbd\xef\xbf\xbd\"}", "a=%s", "b\xff\xc3");
	expect(" a=\\xc2\\x9b", ",\"a\":\"\xc2\x9b\"}", "a=%s", "\xc2\x9b");
	expect(" a=bc", ",\"a\":\"bc\"}", "a=%.*s", 2, "bcd");
	expect(" a=b", ",\"a\":\"b\"}", "a=%.1s", "bcd");
	expect(" b=x", ",\"b\":\"x\"}", "a=%s b=%s c=%s", null, "x", null);
	expect(" b=1", ",\"b\":1}", "a=%jd b=%jd", LOG_NONE, (intmax_t)1);
	expect(" a=x", ",\"a\":\"x\"}", "a=%c", 'x');
	expect(" state=on n=1", ",\"state\":\"on\",\"n\":1}", "state=on n=%d", 1);
	expect(" back=inner/10.0.0.5 p=50%", ",\"back\":\"inner/10.0.0.5\",\"p\":\"50%\"}",
		"back=%s/%s p=%d%%", "inner", "10.0.0.5", 50);
}

static void
numbers_are_numbers_and_hexadecimal_is_a_string(void **state)
{
	(void)state;
	expect(" a=-5 b=0 c=7", ",\"a\":-5,\"b\":0,\"c\":7}", "a=%d b=%d c=%u", -5, 0, 7u);
	expect(" a=-9223372036854775808 b=18446744073709551615",
		",\"a\":-9223372036854775808,\"b\":18446744073709551615}", "a=%lld b=%llu",
		(long long)INT64_MIN, (unsigned long long)UINT64_MAX);
	expect(" a=1 b=2 c=3 d=-4 e=5 f=6", ",\"a\":1,\"b\":2,\"c\":3,\"d\":-4,\"e\":5,\"f\":6}",
		"a=%ld b=%lu c=%zu d=%zd e=%jd f=%ju", 1L, 2UL, (size_t)3, (ssize_t)-4, (intmax_t)5,
		(uintmax_t)6);
	expect(" a=00ab b=ff c=deadbeef00", ",\"a\":\"00ab\",\"b\":\"ff\",\"c\":\"deadbeef00\"}",
		"a=%04x b=%lx c=%" PRIx64, 0xabu, 0xffUL, (uint64_t)0xdeadbeef00);
	expect(" a=007", ",\"a\":\"007\"}", "a=%03d", 7);
}

static void
the_time_is_rfc_3339_with_milliseconds(void **state)
{
	struct str line = STR_INIT;
	struct log_head later = head;
	va_list none;

	(void)state;
	memset(&none, 0, sizeof(none));
	later.time_ms += 1000; /* the offset is looked up once a second */
	setenv("TZ", "XYZ-02:30", 1);
	tzset();
	log_line_add(&line, LOG_FORMAT_TEXT, true, &later, "n=1", none);
	assert_string_equal(
		str_text(&line), "2023-11-15T00:43:21.123+02:30 info w3 s=7f3a01 t=1 rcpt n=1");
	str_clear(&line);
	log_line_add(&line, LOG_FORMAT_JSON, true, &later, "n=1", none);
	assert_int_equal(
		strncmp(line.data, "{\"time\":\"2023-11-15T00:43:21.123+02:30\",\"level\"", 47), 0);
	str_deinit(&line);
}

static char folder[] = P_tmpdir "/test_log.XXXXXX";
static char path[64], other_path[64];

static int
make_folder(void **state)
{
	(void)state;
	if (mkdtemp(folder) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/log", folder);
	snprintf(other_path, sizeof(other_path), "%s/log.1", folder);
	return 0;
}

static int
remove_folder(void **state)
{
	(void)state;
	unlink(path);
	unlink(other_path);
	return rmdir(folder);
}

static void
open_log(enum log_target target, enum log_level level)
{
	struct log_conf conf = {
		.target = target,
		.path = path,
		.facility = LOG_MAIL,
		.level = level,
	};
	struct err err;

	assert_int_equal(log_open(&conf, &err), 0);
}

/* What is in the file, without the times. */
static void
expect_file(const char *name, const char *want)
{
	char got[4096], *s, *out = got;
	FILE *f = fopen(name, "r");
	size_t len;

	assert_non_null(f);
	len = fread(got, 1, sizeof(got) - 1, f);
	fclose(f);
	got[len] = '\0';
	for (s = got; *s != '\0';) {
		size_t n = strcspn(s, "\n") + 1;

		assert_true(n > 30 && s[10] == 'T' && s[23 + 6] == ' ');
		memmove(out, s + 30, n - 30);
		out += n - 30;
		s += n;
	}
	*out = '\0';
	assert_string_equal(got, want);
}

static void
lines_of_a_batch_wait_for_the_flush_or_for_an_error(void **state)
{
	struct log_ctx ctx = {"w0", 1, 0};

	(void)state;
	open_log(LOG_TO_FILE, LOG_LEVEL_INFO);
	log_thread("m");
	log_info(NULL, "one", "a=%d", 1);
	log_debug(NULL, "never", "a=%d", 1);
	expect_file(path, "");
	log_flush();
	expect_file(path, "info m one a=1\n");
	log_warn(&ctx, "two", "n=1");
	log_error(NULL, "three", "a=%s", "b");
	expect_file(path, "info m one a=1\nwarn w0 s=000001 two n=1\nerror m three a=b\n");
	log_batch(false);
	log_info(NULL, "four", "a=b");
	expect_file(path,
		"info m one a=1\nwarn w0 s=000001 two n=1\nerror m three a=b\ninfo m four a=b\n");
	log_batch(true);
	assert_true(log_wants(LOG_LEVEL_INFO));
	assert_false(log_wants(LOG_LEVEL_DEBUG));
	open_log(LOG_TO_FILE, LOG_LEVEL_DEBUG);
	assert_true(log_wants(LOG_LEVEL_DEBUG));
	unlink(path);
}

static void
after_a_rotation_lines_go_to_the_new_file(void **state)
{
	struct log_conf bad = {.target = LOG_TO_FILE, .path = "/nonexistent/log"};
	struct err err;

	(void)state;
	open_log(LOG_TO_FILE, LOG_LEVEL_INFO);
	log_info(NULL, "old", "n=1");
	assert_int_equal(rename(path, other_path), 0);
	assert_int_equal(log_reopen(&err), 0);
	log_info(NULL, "new", "n=1");
	log_flush();
	expect_file(other_path, "info m old n=1\n");
	expect_file(path, "info m new n=1\n");
	assert_int_equal(log_open(&bad, &err), -1);
	assert_string_equal(err.text, "log /nonexistent/log: No such file or directory");
	log_error(NULL, "still", "n=1");
	expect_file(path, "info m new n=1\nerror m still n=1\n");
	unlink(path);
	unlink(other_path);
}

static void *
say_something(void *arg)
{
	log_thread(arg);
	log_info(NULL, "hello", "n=1");
	return NULL;
}

static void
a_thread_writes_what_is_left_at_its_end(void **state)
{
	pthread_t thread;

	(void)state;
	open_log(LOG_TO_FILE, LOG_LEVEL_INFO);
	assert_int_equal(pthread_create(&thread, NULL, say_something, (char *)"w9"), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	expect_file(path, "info w9 hello n=1\n");
	unlink(path);
}

static void
lines_that_could_not_be_written_are_counted(void **state)
{
	struct log_conf full = {.target = LOG_TO_FILE, .path = "/dev/full"};
	struct err err;

	(void)state;
	if (log_open(&full, &err) < 0)
		skip();
	full.level = LOG_LEVEL_INFO;
	assert_int_equal(log_open(&full, &err), 0);
	log_info(NULL, "one", "n=1");
	log_info(NULL, "two", "n=1");
	log_flush();
	open_log(LOG_TO_FILE, LOG_LEVEL_INFO);
	log_info(NULL, "three", "n=1");
	log_flush();
	expect_file(path, "info m three n=1\nwarn m log_lost lines=2\n");
	unlink(path);
}

static int
syslogd(void)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	strcpy(sun.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	return fd;
}

/* The next datagram; false when there is none. */
static bool
receive(int fd, char *text, size_t size)
{
	ssize_t len = recv(fd, text, size - 1, 0);

	text[len > 0 ? len : 0] = '\0';
	return len > 0;
}

static void
syslog_gets_one_datagram_a_line_in_the_form_of_rfc_3164(void **state)
{
	char text[4096], endless[2001];
	int fd = syslogd();

	(void)state;
	open_log(LOG_TO_SYSLOG, LOG_LEVEL_DEBUG);
	log_info(NULL, "one", "a=b");
	log_debug(NULL, "two", "n=1");
	memset(endless, 'x', sizeof(endless) - 1);
	endless[sizeof(endless) - 1] = '\0';
	log_error(NULL, "three", "a=%s", endless);
	assert_true(receive(fd, text, sizeof(text)));
	assert_int_equal(strncmp(text, "<22>", 4), 0);
	assert_int_equal(text[7], ' ');
	assert_int_equal(text[10], ' ');
	assert_int_equal(text[13], ':');
	snprintf(endless, sizeof(endless), " postern[%d]: info m one a=b", (int)getpid());
	assert_string_equal(text + 19, endless);
	assert_true(receive(fd, text, sizeof(text)));
	assert_int_equal(strncmp(text, "<23>", 4), 0);
	assert_true(receive(fd, text, sizeof(text)));
	assert_int_equal(strncmp(text, "<19>", 4), 0);
	assert_int_equal(strlen(strstr(text, "]: ") + 3), 900);
	assert_string_equal(text + strlen(text) - 6, "xxx...");
	assert_false(receive(fd, text, sizeof(text)));
	close(fd);
	unlink(path);
}

static void
lines_wait_while_syslog_is_away(void **state)
{
	char text[4096];
	int fd = syslogd();

	(void)state;
	open_log(LOG_TO_SYSLOG, LOG_LEVEL_INFO);
	close(fd);
	unlink(path);
	log_error(NULL, "one", "n=1");
	log_error(NULL, "two", "n=1");
	fd = syslogd();
	clock_turn_ms(1001);
	log_error(NULL, "three", "n=1");
	assert_true(receive(fd, text, sizeof(text)));
	assert_non_null(strstr(text, "]: error m one"));
	assert_true(receive(fd, text, sizeof(text)));
	assert_true(receive(fd, text, sizeof(text)));
	assert_non_null(strstr(text, "]: error m three"));
	assert_false(receive(fd, text, sizeof(text)));
	close(fd);
	unlink(path);
}

static void
a_full_syslog_socket_never_holds_us_up_and_loses_no_line(void **state)
{
	char text[4096], want[40];
	int i, fd = syslogd(), seen = 0;

	(void)state;
	open_log(LOG_TO_SYSLOG, LOG_LEVEL_INFO);
	for (i = 0; i < 3000; i++)
		log_info(NULL, "line", "n=%d", i);
	while (seen < 3000) {
		log_flush();
		assert_true(receive(fd, text, sizeof(text)));
		do {
			snprintf(want, sizeof(want), "]: info m line n=%d", seen++);
			assert_string_equal(strchr(text, ']'), want);
		} while (receive(fd, text, sizeof(text)));
	}
	close(fd);
	unlink(path);
}

static void
what_syslog_does_not_take_for_long_is_lost_and_counted(void **state)
{
	char text[4096];
	int i, fd = syslogd();

	(void)state;
	open_log(LOG_TO_SYSLOG, LOG_LEVEL_INFO);
	close(fd);
	unlink(path);
	for (i = 0; i < 20000; i++)
		log_info(NULL, "line",
			"text=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
	fd = syslogd();
	clock_turn_ms(1001);
	do
		log_flush();
	while (receive(fd, text, sizeof(text)) && strstr(text, "log_lost") == NULL);
	log_info(NULL, "last", "n=1");
	for (i = 0; i < 20000 && strstr(text, "log_lost") == NULL; i++) {
		log_flush();
		receive(fd, text, sizeof(text));
	}
	assert_non_null(strstr(text, "]: warn m log_lost lines="));
	assert_in_range(strtol(strchr(text, '=') + 1, NULL, 10), 10000, 20000);
	log_flush();
	close(fd);
	unlink(path);
}

static void
stderr_gets_lines_without_time(void **state)
{
	char text[100];
	int ends[2], saved = dup(STDERR_FILENO);
	ssize_t len;

	(void)state;
	assert_int_equal(pipe(ends), 0);
	dup2(ends[1], STDERR_FILENO);
	open_log(LOG_TO_STDERR, LOG_LEVEL_INFO);
	log_info(NULL, "one", "n=1");
	log_warn(NULL, "two", "n=1");
	log_flush();
	dup2(saved, STDERR_FILENO);
	len = read(ends[0], text, sizeof(text) - 1);
	assert_true(len > 0);
	text[len] = '\0';
	assert_string_equal(text, "info m one n=1\nwarn m two n=1\n");
	close(ends[0]);
	close(ends[1]);
	close(saved);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(strings_are_quoted_and_escaped_as_each_form_needs),
		cmocka_unit_test(numbers_are_numbers_and_hexadecimal_is_a_string),
		cmocka_unit_test(the_time_is_rfc_3339_with_milliseconds),
		cmocka_unit_test(lines_of_a_batch_wait_for_the_flush_or_for_an_error),
		cmocka_unit_test(after_a_rotation_lines_go_to_the_new_file),
		cmocka_unit_test(a_thread_writes_what_is_left_at_its_end),
		cmocka_unit_test(lines_that_could_not_be_written_are_counted),
		cmocka_unit_test(syslog_gets_one_datagram_a_line_in_the_form_of_rfc_3164),
		cmocka_unit_test(lines_wait_while_syslog_is_away),
		cmocka_unit_test(a_full_syslog_socket_never_holds_us_up_and_loses_no_line),
		cmocka_unit_test(what_syslog_does_not_take_for_long_is_lost_and_counted),
		cmocka_unit_test(stderr_gets_lines_without_time),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
