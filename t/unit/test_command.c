/* t/unit/test_command.c - one line of a client. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "smtp/command.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

struct command_case {
	const char *line, *verb, *args;
};

static const struct command_case good[] = {
	{"NOOP", "NOOP", ""},
	{"noop", "NOOP", ""},
	{"QUIT   ", "QUIT", ""},
	{"MAIL FROM:<>", "MAIL", "FROM:<>"},
	{"MAIL FROM:<a@b> SIZE=1 ", "MAIL", "FROM:<a@b> SIZE=1"},
	{"mail  from: <a@b>\t", "MAIL", "from: <a@b>"},
	{"EHLO\tme", "EHLO", "me"},
	{"", "", ""},
	{"   ", "", ""},
	{" NOOP", "", "NOOP"},
	{"X-FOO bar", "", "X-FOO bar"},
	{"MAIL<", "", "MAIL<"},
	{"RCPT TO:<\xc3\xa9@b>", "RCPT", "TO:<\xc3\xa9@b>"},
	{"M\xc3\xa9 x", "", "M\xc3\xa9 x"},
	{"ABCDEFGHIJKLMNO x", "ABCDEFGHIJKLMNO", "x"},
	{"ABCDEFGHIJKLMNOP x", "", "ABCDEFGHIJKLMNOP x"},
	{"GETX /", "GETX", "/"},
	{"FROM:<a@b>", "", "FROM:<a@b>"},
	{"HELO Host: x", "HELO", "Host: x"},
	{"DATA", "DATA", ""},
};

static void
the_verb_is_letters_in_upper_case(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		struct smtp_command cmd;
		const struct command_case *c = &good[i];

		assert_int_equal(
			smtp_command_parse(c->line, strlen(c->line), &cmd), SMTP_COMMAND_OK);
		assert_string_equal(cmd.verb, c->verb);
		assert_int_equal(cmd.args_len, strlen(c->args));
		assert_memory_equal(cmd.args, c->args, cmd.args_len);
	}
}

static const struct {
	const char *line;
	size_t len;
	enum smtp_command_error want;
} bad[] = {
	{"NOOP\r", 5, SMTP_COMMAND_BARE},
	{"NO\rOP", 5, SMTP_COMMAND_BARE},
	{"NOOP\nQUIT", 9, SMTP_COMMAND_BARE},
	{"NOOP \0", 6, SMTP_COMMAND_BARE},
	{"\1NOOP\n", 6, SMTP_COMMAND_BARE},
	{"NOOP \1", 6, SMTP_COMMAND_CONTROL},
	{"NOOP \x7f", 6, SMTP_COMMAND_CONTROL},
	{"\x1b[A", 3, SMTP_COMMAND_CONTROL},
};

static void
controls_and_bare_line_ends_are_errors(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct smtp_command cmd;

		assert_int_equal(smtp_command_parse(bad[i].line, bad[i].len, &cmd), bad[i].want);
	}
}

static const char *const http[] = {
	"GET / HTTP/1.1",
	"get /",
	"GET",
	"POST / HTTP/1.0",
	"CONNECT mx.example:25 HTTP/1.1",
	"HEAD /",
	"PUT /x",
	"OPTIONS *",
	"PRI * HTTP/2.0",
	"Host: example.org",
	"host:x",
	"User-Agent: curl",
	"Content-Length: 5",
	"Accept-Encoding: gzip",
	"Accept: */*",
	"Connection: close",
	"Sec-Fetch-Mode: cors",
	"GET / HTTP/1.1\nHost: x",
};

static void
http_is_recognised(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(http); i++) {
		struct smtp_command cmd;

		assert_int_equal(
			smtp_command_parse(http[i], strlen(http[i]), &cmd), SMTP_COMMAND_HTTP);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_verb_is_letters_in_upper_case),
		cmocka_unit_test(controls_and_bare_line_ends_are_errors),
		cmocka_unit_test(http_is_recognised),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
