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
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
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

static void
make_line(struct str *line, int format, const struct log_head *h, bool with_time, const char *fmt, va_list ap)
{
	struct log_pairs pairs = {0};

	str_clear(line);
	log_pairs_begin(&pairs, format);
	log_pairs_format(&pairs, fmt, ap);
	log_line_add(line, h, with_time, &pairs, 0);
	log_pairs_deinit(&pairs);
}

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
	make_line(&line, LOG_FORMAT_TEXT, &head, false, fmt, ap);
	assert_int_equal(strncmp(line.data, text_head, strlen(text_head)), 0);
	assert_int_equal(line.data[--line.len], '\n');
	line.data[line.len] = '\0';
	assert_string_equal(line.data + strlen(text_head), text);
	make_line(&line, LOG_FORMAT_JSON, &head, false, fmt, ap);
	va_end(ap);
	assert_int_equal(line.data[--line.len], '\n');
	line.data[line.len] = '\0';
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
	make_line(&line, LOG_FORMAT_TEXT, &later, true, "n=1", none);
	assert_string_equal(
		str_text(&line), "2023-11-15T00:43:21.123+02:30 info w3 s=7f3a01 t=1 rcpt n=1\n");
	make_line(&line, LOG_FORMAT_JSON, &later, true, "n=1", none);
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

/* From here on files may grow to so many octets: a disk with no more room. */
static void
make_room(rlim_t octets)
{
	const struct rlimit limit = {octets, RLIM_INFINITY};

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void
say_hello(void)
{
	log_info(NULL, "hello", "n=1");
	log_flush();
}

static void
after_a_line_that_was_cut_off_the_next_one_is_whole(void **state)
{
	char text[1000];
	ssize_t len;
	int fd;

	(void)state;
	open_log(LOG_TO_FILE, LOG_LEVEL_INFO);
	say_hello();
	fd = open(path, O_RDONLY);
	len = read(fd, text, sizeof(text));
	assert_true(len > 40);
	make_room((rlim_t)(len + 40));
	say_hello();
	say_hello(); /* nothing of it finds room */
	make_room(RLIM_INFINITY);
	say_hello();
	say_hello();
	len = pread(fd, text, sizeof(text) - 1, len);
	assert_true(len > 40);
	text[len] = '\0';
	assert_int_equal(text[40], '\n');
	assert_non_null(strstr(text + 41, " info m hello n=1\n"));
	assert_null(strstr(text, "\n\n"));
	assert_non_null(strstr(text, "log_lost lines=2\n"));
	close(fd);
	unlink(path);
}

static void
another_file_does_not_begin_with_the_end_of_a_torn_line(void **state)
{
	(void)state;
	open_log(LOG_TO_FILE, LOG_LEVEL_INFO);
	make_room(10);
	say_hello();
	make_room(RLIM_INFINITY);
	assert_int_equal(rename(path, other_path), 0);
	assert_int_equal(log_reopen(&(struct err){0}), 0);
	say_hello();
	expect_file(path, "info m hello n=1\nwarn m log_lost lines=1\n");
	unlink(path);
	unlink(other_path);
}

struct slow_thread {
	pthread_barrier_t gathered, switched;
};

/* Has a line in its batch while the target changes. */
static void *
gather(void *arg)
{
	struct slow_thread *t = arg;

	log_thread("w1");
	log_info(NULL, "before", "n=1");
	pthread_barrier_wait(&t->gathered);
	pthread_barrier_wait(&t->switched);
	log_info(NULL, "behind", "n=2");
	log_flush();
	return NULL;
}

static void
open_json(const char *name)
{
	struct log_conf conf = {.target = LOG_TO_FILE, .path = name, .level = LOG_LEVEL_INFO, .format = LOG_FORMAT_JSON};

	assert_int_equal(log_open(&conf, &(struct err){0}), 0);
}

/* From a file in text to one in JSON, so often. */
static void
switch_behind_a_thread(int times)
{
	struct slow_thread slow;
	pthread_t thread;

	open_log(LOG_TO_FILE, LOG_LEVEL_INFO);
	pthread_barrier_init(&slow.gathered, NULL, 2);
	pthread_barrier_init(&slow.switched, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, gather, &slow), 0);
	pthread_barrier_wait(&slow.gathered);
	for (int i = 0; i < times; i++)
		open_json(other_path);
	pthread_barrier_wait(&slow.switched);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&slow.gathered);
	pthread_barrier_destroy(&slow.switched);
}

static void
expect_json(const char *event, size_t lines)
{
	char text[1000];
	FILE *f = fopen(other_path, "r");
	size_t len, count = 0;

	assert_non_null(f);
	len = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[len] = '\0';
	for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"), count++) {
		assert_int_equal(line[0], '{');
		if (count == 0)
			assert_non_null(strstr(line, event));
	}
	assert_int_equal(count, lines);
	unlink(other_path);
}

static void
what_a_thread_has_gathered_goes_where_it_was_meant_to(void **state)
{
	(void)state;
	switch_behind_a_thread(1);
	expect_file(path, "info w1 before n=1\n");
	expect_json("\"behind\"", 1);
	unlink(path);
}

static void
what_was_meant_for_a_target_of_long_ago_is_lost_and_counted(void **state)
{
	const unsigned long lost = log_lost();

	(void)state;
	switch_behind_a_thread(2);
	expect_file(path, "");
	assert_int_equal(log_lost() - lost, 1);
	log_flush();
	expect_json("\"behind\"", 2); /* and log_lost */
	unlink(path);
}

static void
the_file_of_before_is_closed_when_nobody_can_have_lines_for_it(void **state)
{
	char link[PATH_MAX], name[40];
	int fd = dup(STDERR_FILENO); /* the number that comes next */

	(void)state;
	close(fd);
	open_log(LOG_TO_STDERR, LOG_LEVEL_INFO);
	open_json(other_path);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	open_log(LOG_TO_STDERR, LOG_LEVEL_INFO);
	assert_true(readlink(name, link, sizeof(link)) > 0);
	clock_turn_ms(10001);
	log_flush();
	assert_int_equal(readlink(name, link, sizeof(link)), -1);
	unlink(other_path);
}

static void
the_torn_line_of_a_file_that_is_opened_again_ends(void **state)
{
	char text[200];
	int fd;

	(void)state;
	open_log(LOG_TO_FILE, LOG_LEVEL_INFO);
	make_room(10);
	say_hello();
	make_room(RLIM_INFINITY);
	open_log(LOG_TO_FILE, LOG_LEVEL_INFO);
	say_hello();
	fd = open(path, O_RDONLY);
	assert_true(read(fd, text, sizeof(text)) > 20);
	assert_int_equal(text[10], '\n');
	assert_int_not_equal(text[11], '\n');
	close(fd);
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
	assert_int_equal(strlen(strstr(text, "]: ") + 3), 16 + 500);
	assert_string_equal(text + strlen(text) - 6, "xxx...");
	assert_false(receive(fd, text, sizeof(text)));
	close(fd);
	unlink(path);
}

/* What a whole line may have, shared out among its longest values. */
static void
a_line_that_is_too_long_loses_no_key(void **state)
{
	static const char *const hostile[] = {"x", "\"", "\\", "\x01", "\xff", "\xc3\xbc", " ", "\xf0\x9f\x93\xa7"};
	struct str line = STR_INIT;
	struct log_pairs pairs = {0};
	char value[600], want[40];

	(void)state;
	for (size_t h = 0; h < sizeof(hostile) / sizeof(hostile[0]); h++) {
		size_t n = 0, unit = strlen(hostile[h]);

		for (; n + unit <= 480; n += unit)
			memcpy(value + n, hostile[h], unit);
		for (int format = LOG_FORMAT_TEXT; format <= LOG_FORMAT_JSON; format++) {
			log_pairs_begin(&pairs, format);
			for (char key[] = "a"; *key <= 'l'; ++*key)
				log_pairs_string(&pairs, key, 1, value, *key % 2 != 0 ? n : 3);
			log_pairs_int(&pairs, "last", 7);
			str_clear(&line);
			log_line_add(&line, &head, false, &pairs, 900);
			assert_in_range(line.len, 700, 901);
			for (char key = 'a'; key <= 'l'; key++) {
				snprintf(want, sizeof(want), format == LOG_FORMAT_TEXT ? " %c=" : ",\"%c\":\"", key);
				assert_non_null(strstr(line.data, want));
			}
			assert_non_null(strstr(line.data, format == LOG_FORMAT_TEXT ? " last=7\n" : ",\"last\":7}\n"));
			assert_non_null(strstr(line.data, "..."));
			for (size_t i = 0; i < line.len - 1; i += str_utf8_len(line.data + i, line.len - i))
				assert_true((unsigned char)line.data[i] >= ' ' && str_utf8_len(line.data + i, line.len - i) > 0);
		}
	}
	str_deinit(&line);
	log_pairs_deinit(&pairs);
}

static void
key_by_key_is_the_same_line(void **state)
{
	struct log_ctx ctx = {"w0", 1, 2};

	(void)state;
	open_log(LOG_TO_FILE, LOG_LEVEL_INFO);
	assert_false(log_begin(LOG_LEVEL_DEBUG, &ctx, "never"));
	assert_true(log_begin(LOG_LEVEL_INFO, &ctx, "keys"));
	log_key("a", "b c");
	log_key("none", NULL);
	log_key_int("n", -5);
	log_key_int("none", LOG_NONE);
	log_key_join("addr", "<", "x@y", ">");
	log_key_join("none", "<", NULL, ">");
	log_key_join("host", "inner", "/", NULL);
	log_key_n("part", "abcdef", 3);
	log_end();
	log_info(&ctx, "keys", "a=%s n=%d", "b c", -5);
	log_flush();
	expect_file(path, "info w0 s=000001 t=2 keys a=\"b c\" n=-5 addr=<x@y> host=inner/ part=abc\n"
		"info w0 s=000001 t=2 keys a=\"b c\" n=-5\n");
	unlink(path);
}

static void
a_fault_that_repeats_is_one_line_a_minute(void **state)
{
	(void)state;
	open_log(LOG_TO_FILE, LOG_LEVEL_INFO);
	for (int i = 1; i <= 5; i++)
		log_repeat(LOG_LEVEL_WARN, NULL, "inner", "broken", "n=%d", i);
	log_repeat(LOG_LEVEL_WARN, NULL, "other", "broken", "n=%d", 6);
	log_repeat(LOG_LEVEL_DEBUG, NULL, "inner", "broken", "n=%d", 7);
	log_flush();
	expect_file(path, "warn m broken n=1\nwarn m broken n=6\n");
	clock_turn_ms(59000);
	log_flush();
	expect_file(path, "warn m broken n=1\nwarn m broken n=6\n");
	clock_turn_ms(1001);
	log_flush();
	expect_file(path, "warn m broken n=1\nwarn m broken n=6\nwarn m broken n=5 repeated=4\n");
	unlink(path);
	open_log(LOG_TO_FILE, LOG_LEVEL_INFO);
	clock_turn_ms(60001);
	log_flush(); /* it is over, so the next one is the first again */
	expect_file(path, "");
	log_repeat(LOG_LEVEL_WARN, NULL, "inner", "broken", "n=%d", 8);
	log_repeat(LOG_LEVEL_WARN, NULL, "inner", "broken", "n=%d", 9);
	log_flush();
	expect_file(path, "warn m broken n=8\n");
	open_log(LOG_TO_FILE, LOG_LEVEL_INFO); /* another target: nothing is kept back */
	expect_file(path, "warn m broken n=8\nwarn m broken n=9 repeated=1\n");
	unlink(path);
	clock_turn_ms(130000);
	log_flush();
}

static void
many_different_faults_are_bounded_and_none_is_lost(void **state)
{
	char which[100], text[100000], *s;
	unsigned long count = 0;
	FILE *f;

	(void)state;
	open_log(LOG_TO_FILE, LOG_LEVEL_INFO);
	for (int i = 0; i < 600; i++) {
		snprintf(which, sizeof(which), "%080d", i / 3); /* also when they differ late */
		memmove(which, which + 75, 6);
		clock_turn_ms(1);
		log_repeat(LOG_LEVEL_WARN, NULL, which, "broken", "n=%d", i);
	}
	clock_turn_ms(60001);
	log_flush();
	f = fopen(path, "r");
	assert_non_null(f);
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	fclose(f);
	for (s = text; (s = strstr(s, "broken n=")) != NULL; s++) {
		char *end = strchr(s, '\n'), *repeated = strstr(s, "repeated=");

		count += repeated != NULL && repeated < end ? strtoul(repeated + 9, NULL, 10) : 1;
	}
	assert_int_equal(count, 600);
	unlink(path);
	clock_turn_ms(130000);
	log_flush();
}

static void
a_child_does_not_tell_what_its_parent_has_counted(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	open_log(LOG_TO_FILE, LOG_LEVEL_INFO);
	log_repeat(LOG_LEVEL_WARN, NULL, "inner", "broken", "n=%d", 1);
	log_repeat(LOG_LEVEL_WARN, NULL, "inner", "broken", "n=%d", 2);
	log_flush();
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		clock_turn_ms(60001);
		log_flush();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	clock_turn_ms(60001);
	log_flush();
	expect_file(path, "warn m broken n=1\nwarn m broken n=2 repeated=1\n");
	unlink(path);
	clock_turn_ms(130000);
	log_flush();
}

static void *
fail_often(void *arg)
{
	for (int i = 0; i < 2000; i++)
		log_repeat(LOG_LEVEL_WARN, NULL, arg, "broken", "n=%d", i);
	return NULL;
}

static void
threads_count_together(void **state)
{
	pthread_t threads[4];

	(void)state;
	open_log(LOG_TO_FILE, LOG_LEVEL_INFO);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, fail_often, (char *)"inner"), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	clock_turn_ms(60001);
	log_flush();
	expect_file(path, "warn - broken n=0\nwarn - broken n=1999 repeated=7999\n");
	unlink(path);
	clock_turn_ms(130000);
	log_flush();
}

static void
the_journal_gets_fields_and_a_text(void **state)
{
	struct log_ctx ctx = {"w0", 0x7f3a01, 2};
	struct log_conf conf = {.target = LOG_TO_JOURNAL, .path = path, .facility = LOG_MAIL,
		.level = LOG_LEVEL_INFO, .format = LOG_FORMAT_JSON};
	static const char fields[] = "SYSLOG_IDENTIFIER=postern\nPRIORITY=6\nSYSLOG_FACILITY=2\nPOSTERN_LEVEL=info\n"
		"POSTERN_WHO=w0\nPOSTERN_SESSION=7f3a01\nPOSTERN_TXN=2\nPOSTERN_EVENT=one\nPOSTERN_A=\"q\" \nPOSTERN_B\n";
	static const char message[] = "\nPOSTERN_N=5\nMESSAGE=info w0 s=7f3a01 t=2 one "
		"a=\"\\\"q\\\" \" b=\"x\\x0a y\" n=5\n";
	static const char two_lines[] = "POSTERN_B\n\x04\0\0\0\0\0\0\0x\n y\n";
	char text[4096];
	int fd = syslogd();
	struct err err;

	(void)state;
	assert_int_equal(log_open(&conf, &err), 0);
	log_info(&ctx, "one", "a=%s b=%s n=%d none=%s", "\"q\" ", "x\n y", 5, log_some(""));
	log_error(NULL, "two", "n=1");
	memset(text, 0, sizeof(text));
	assert_true(recv(fd, text, sizeof(text) - 1, 0) > 0);
	assert_non_null(memmem(text, sizeof(text), two_lines, sizeof(two_lines) - 1));
	assert_int_equal(strncmp(text, fields, sizeof(fields) - 1), 0);
	assert_non_null(memmem(text, sizeof(text), message, sizeof(message)));
	assert_true(receive(fd, text, sizeof(text)));
	assert_string_equal(text, "SYSLOG_IDENTIFIER=postern\nPRIORITY=3\nSYSLOG_FACILITY=2\nPOSTERN_LEVEL=error\n"
		"POSTERN_WHO=m\nPOSTERN_EVENT=two\nPOSTERN_N=1\nMESSAGE=error m two n=1\n");
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

/* The journal's socket takes no more than its buffer in one piece. */
static void
a_line_that_is_too_long_for_the_socket_is_lost_alone_and_counted(void **state)
{
	const unsigned long lost = log_lost();
	const int room = 1;
	char text[8192], value[1000];
	int fd = syslogd(), log_fd;

	(void)state;
	memset(value, 'x', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	log_fd = dup(fd); /* the number that comes next */
	close(log_fd);
	open_log(LOG_TO_JOURNAL, LOG_LEVEL_INFO);
	assert_int_equal(setsockopt(log_fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
	log_info(NULL, "long", "a=%s b=%s c=%s d=%s e=%s f=%s", value, value, value, value, value, value);
	log_info(NULL, "short", "n=1");
	log_flush();
	assert_int_equal(log_lost() - lost, 1);
	assert_true(receive(fd, text, sizeof(text)));
	assert_non_null(strstr(text, "MESSAGE=info m short n=1"));
	log_flush();
	log_info(NULL, "last", "n=1");
	log_flush();
	receive(fd, text, sizeof(text));
	assert_true(receive(fd, text, sizeof(text)));
	assert_non_null(strstr(text, "MESSAGE=warn m log_lost lines=1"));
	close(fd);
	unlink(path);
}

/* ---- stderr, and files that are none ---- */

static int terminal;

/* Stderr is what `fd` is, and no call may hang. */
static void
begin_stderr(int fd)
{
	alarm(60);
	terminal = dup(STDERR_FILENO);
	dup2(fd, STDERR_FILENO);
}

static void
end_stderr(void)
{
	dup2(terminal, STDERR_FILENO);
	close(terminal);
	alarm(0);
}

static void
make_pipe(int ends[2])
{
	assert_int_equal(pipe(ends), 0);
	assert_true(fcntl(ends[1], F_SETPIPE_SZ, 4096) >= 4096);
	assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
}

/* What a reader gets who comes late, with what is flushed meanwhile. */
static void
read_all(int fd, struct str *text)
{
	char piece[4096];
	ssize_t len;

	for (;;) {
		log_flush();
		len = read(fd, piece, sizeof(piece));
		if (len <= 0)
			break;
		str_addn(text, piece, (size_t)len);
	}
}

static void
say_many(int count)
{
	for (int i = 0; i < count; i++)
		log_info(NULL, "line", "n=%d", i);
	log_flush();
}

static void
expect_many(const struct str *text, int count)
{
	struct str want = STR_INIT;

	for (int i = 0; i < count; i++)
		str_printf(&want, "info m line n=%d\n", i);
	assert_string_equal(str_text(text), str_text(&want));
	str_deinit(&want);
}

static void
stderr_gets_lines_without_time(void **state)
{
	struct str text = STR_INIT;
	int ends[2];

	(void)state;
	make_pipe(ends);
	begin_stderr(ends[1]);
	open_log(LOG_TO_STDERR, LOG_LEVEL_INFO);
	log_info(NULL, "one", "n=1");
	log_warn(NULL, "two", "n=1");
	read_all(ends[0], &text);
	end_stderr();
	assert_string_equal(str_text(&text), "info m one n=1\nwarn m two n=1\n");
	str_deinit(&text);
	close(ends[0]);
	close(ends[1]);
}

static void
a_burst_is_kept(int ends[2])
{
	struct str text = STR_INIT;

	begin_stderr(ends[1]);
	log_unblock_stderr();
	open_log(LOG_TO_STDERR, LOG_LEVEL_INFO);
	say_many(6000);
	read_all(ends[0], &text);
	end_stderr();
	expect_many(&text, 6000);
	str_deinit(&text);
	close(ends[0]);
	close(ends[1]);
}

static void
a_full_pipe_never_holds_us_up_and_loses_no_line(void **state)
{
	int ends[2];

	(void)state;
	make_pipe(ends);
	a_burst_is_kept(ends);
}

/* Whose others may rely on it that a write waits. */
static void
the_pipe_of_others_stays_as_it_was(void **state)
{
	int ends[2];

	(void)state;
	make_pipe(ends);
	begin_stderr(ends[1]);
	log_unblock_stderr();
	end_stderr();
	assert_int_equal(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0);
	close(ends[0]);
	close(ends[1]);
}

static void
a_pipe_that_we_may_not_open_does_neither(void **state)
{
	int ends[2];

	(void)state;
	make_pipe(ends);
	assert_int_equal(fchmod(ends[1], 0), 0);
	if (geteuid() == 0)
		assert_int_equal(seteuid(65534), 0);
	a_burst_is_kept(ends);
	if (getuid() == 0)
		assert_int_equal(seteuid(0), 0);
}

static void
nor_does_a_stream_socket(void **state)
{
	int ends[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
	a_burst_is_kept(ends);
}

static void
a_line_longer_than_a_pipe_takes_at_once_arrives_whole(void **state)
{
	struct str text = STR_INIT;
	char value[480];
	int ends[2];

	(void)state;
	memset(value, 'x', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	make_pipe(ends);
	begin_stderr(ends[1]);
	log_unblock_stderr();
	open_log(LOG_TO_STDERR, LOG_LEVEL_INFO);
	log_info(NULL, "long", "a=%s b=%s c=%s d=%s e=%s f=%s g=%s h=%s i=%s j=%s", value, value, value, value,
		value, value, value, value, value, value);
	log_flush();
	log_info(NULL, "last", "n=1");
	read_all(ends[0], &text);
	end_stderr();
	assert_int_equal(text.len, strlen("info m long\ninfo m last n=1\n") + 10 * (strlen(" a=") + strlen(value)));
	assert_non_null(strstr(str_text(&text), "x\ninfo m last n=1\n"));
	str_deinit(&text);
	close(ends[0]);
	close(ends[1]);
}

static void
a_line_that_was_begun_ends_though_nobody_has_another_one(void **state)
{
	static char octets[65536];
	char value[480];
	int ends[2];
	size_t len = 0;
	ssize_t n;

	(void)state;
	memset(value, 'x', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	make_pipe(ends);
	begin_stderr(ends[1]);
	log_unblock_stderr();
	open_log(LOG_TO_STDERR, LOG_LEVEL_INFO);
	log_info(NULL, "long", "a=%s b=%s c=%s d=%s e=%s f=%s g=%s h=%s i=%s j=%s", value, value, value, value,
		value, value, value, value, value, value);
	do {
		log_flush();
		n = read(ends[0], octets + len, sizeof(octets) - len);
		assert_true(n > 0);
		len += (size_t)n;
	} while (octets[len - 1] != '\n');
	end_stderr();
	assert_int_equal(len, strlen("info m long\n") + 10 * (strlen(" a=") + strlen(value)));
	close(ends[0]);
	close(ends[1]);
}

static void
what_a_pipe_does_not_take_for_long_is_lost_and_counted(void **state)
{
	const unsigned long lost = log_lost();
	struct str text = STR_INIT;
	char want[60];
	int ends[2];

	(void)state;
	make_pipe(ends);
	begin_stderr(ends[1]);
	log_unblock_stderr();
	open_log(LOG_TO_STDERR, LOG_LEVEL_INFO);
	say_many(30000);
	read_all(ends[0], &text);
	log_info(NULL, "last", "n=1");
	read_all(ends[0], &text);
	end_stderr();
	assert_in_range(log_lost() - lost, 1000, 30000);
	snprintf(want, sizeof(want), "warn m log_lost lines=%lu\n", log_lost() - lost);
	assert_non_null(strstr(str_text(&text), want));
	str_deinit(&text);
	close(ends[0]);
	close(ends[1]);
}

/* What is left at the thread's end is not kept for whoever speaks next. */
static void *
say_many_in_a_thread(void *count)
{
	say_many(*(int *)count);
	return NULL;
}

static void
a_terminal_that_is_stopped_holds_nobody_up(void **state)
{
	const unsigned long lost = log_lost();
	int master = posix_openpt(O_RDWR | O_NOCTTY), slave, count = 30000;
	pthread_t thread;

	(void)state;
	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0)
		skip();
	slave = open(ptsname(master), O_RDWR | O_NOCTTY);
	assert_true(slave >= 0);
	begin_stderr(slave);
	log_unblock_stderr();
	open_log(LOG_TO_STDERR, LOG_LEVEL_INFO);
	assert_int_equal(pthread_create(&thread, NULL, say_many_in_a_thread, &count), 0);
	pthread_join(thread, NULL);
	end_stderr();
	assert_int_equal(fcntl(slave, F_GETFL) & O_NONBLOCK, 0);
	assert_in_range(log_lost() - lost, 1000, 30000);
	close(slave);
	close(master);
}

/* Its parent writes them itself. */
static void
a_child_does_not_write_what_its_parent_keeps(void **state)
{
	struct str text = STR_INIT;
	int ends[2], status;
	pid_t pid;

	(void)state;
	make_pipe(ends);
	begin_stderr(ends[1]);
	log_unblock_stderr();
	open_log(LOG_TO_STDERR, LOG_LEVEL_INFO);
	say_many(1000);
	pid = fork();
	if (pid == 0) {
		read_all(ends[0], &text); /* makes room */
		_exit(strstr(str_text(&text), "n=999\n") != NULL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	read_all(ends[0], &text);
	end_stderr();
	assert_int_equal(status, 0);
	assert_null(strstr(str_text(&text), "n=1\n"));
	assert_non_null(strstr(str_text(&text), "n=999\n"));
	str_deinit(&text);
	close(ends[0]);
	close(ends[1]);
}

static void
the_last_lines_of_a_thread_wait_a_moment_for_the_reader(void **state)
{
	struct pollfd more = {.events = POLLIN};
	struct str text = STR_INIT;
	pthread_t thread;
	int ends[2], count = 300;

	(void)state;
	make_pipe(ends);
	begin_stderr(ends[1]);
	log_unblock_stderr();
	open_log(LOG_TO_STDERR, LOG_LEVEL_INFO);
	assert_int_equal(pthread_create(&thread, NULL, say_many_in_a_thread, &count), 0);
	more.fd = ends[0];
	while (strstr(str_text(&text), "n=299\n") == NULL && poll(&more, 1, 5000) == 1)
		read_all(ends[0], &text);
	pthread_join(thread, NULL);
	end_stderr();
	assert_non_null(strstr(str_text(&text), " line n=299\n"));
	str_deinit(&text);
	close(ends[0]);
	close(ends[1]);
}

static void
a_fifo_needs_a_reader_at_the_start_and_not_later(void **state)
{
	struct log_conf conf = {.target = LOG_TO_FILE, .path = path, .level = LOG_LEVEL_INFO};
	char text[200];
	struct err err;
	int reader;

	(void)state;
	alarm(60);
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(log_open(&conf, &err), -1);
	assert_non_null(strstr(err.text, "nobody reads this FIFO"));
	reader = open(path, O_RDONLY | O_NONBLOCK);
	open_log(LOG_TO_FILE, LOG_LEVEL_INFO);
	close(reader);
	assert_int_equal(log_reopen(&err), -1);
	open_log(LOG_TO_FILE, LOG_LEVEL_INFO);
	log_error(NULL, "one", "n=1");
	reader = open(path, O_RDONLY | O_NONBLOCK);
	log_error(NULL, "two", "n=1");
	text[read(reader, text, sizeof(text) - 1)] = '\0';
	assert_non_null(strstr(text, " error m two n=1\n"));
	close(reader);
	unlink(path);
	alarm(0);
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
		cmocka_unit_test(after_a_line_that_was_cut_off_the_next_one_is_whole),
		cmocka_unit_test(another_file_does_not_begin_with_the_end_of_a_torn_line),
		cmocka_unit_test(the_torn_line_of_a_file_that_is_opened_again_ends),
		cmocka_unit_test(what_a_thread_has_gathered_goes_where_it_was_meant_to),
		cmocka_unit_test(what_was_meant_for_a_target_of_long_ago_is_lost_and_counted),
		cmocka_unit_test(the_file_of_before_is_closed_when_nobody_can_have_lines_for_it),
		cmocka_unit_test(syslog_gets_one_datagram_a_line_in_the_form_of_rfc_3164),
		cmocka_unit_test(a_line_that_is_too_long_loses_no_key),
		cmocka_unit_test(key_by_key_is_the_same_line),
		cmocka_unit_test(a_fault_that_repeats_is_one_line_a_minute),
		cmocka_unit_test(many_different_faults_are_bounded_and_none_is_lost),
		cmocka_unit_test(a_child_does_not_tell_what_its_parent_has_counted),
		cmocka_unit_test(threads_count_together),
		cmocka_unit_test(the_journal_gets_fields_and_a_text),
		cmocka_unit_test(lines_wait_while_syslog_is_away),
		cmocka_unit_test(a_full_syslog_socket_never_holds_us_up_and_loses_no_line),
		cmocka_unit_test(what_syslog_does_not_take_for_long_is_lost_and_counted),
		cmocka_unit_test(a_line_that_is_too_long_for_the_socket_is_lost_alone_and_counted),
		cmocka_unit_test(stderr_gets_lines_without_time),
		cmocka_unit_test(a_full_pipe_never_holds_us_up_and_loses_no_line),
		cmocka_unit_test(the_pipe_of_others_stays_as_it_was),
		cmocka_unit_test(a_pipe_that_we_may_not_open_does_neither),
		cmocka_unit_test(nor_does_a_stream_socket),
		cmocka_unit_test(a_line_longer_than_a_pipe_takes_at_once_arrives_whole),
		cmocka_unit_test(a_line_that_was_begun_ends_though_nobody_has_another_one),
		cmocka_unit_test(what_a_pipe_does_not_take_for_long_is_lost_and_counted),
		cmocka_unit_test(a_terminal_that_is_stopped_holds_nobody_up),
		cmocka_unit_test(a_child_does_not_write_what_its_parent_keeps),
		cmocka_unit_test(the_last_lines_of_a_thread_wait_a_moment_for_the_reader),
		cmocka_unit_test(a_fifo_needs_a_reader_at_the_start_and_not_later),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
