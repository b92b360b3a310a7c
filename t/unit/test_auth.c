/* t/unit/test_auth.c - AUTH: mechanisms that are offered, and what we say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/list.h"
#include "smtp/auth.h"
#include "smtp/caps.h"

static const struct {
	const char *line;
	unsigned mechs;
} lines[] = {
	{ "AUTH PLAIN LOGIN", SMTP_AUTH_PLAIN | SMTP_AUTH_LOGIN },
	{ "AUTH=LOGIN", SMTP_AUTH_LOGIN },
	{ "auth=login plain", SMTP_AUTH_PLAIN | SMTP_AUTH_LOGIN },
	{ "AUTH  CRAM-MD5  PLAIN ", SMTP_AUTH_PLAIN },
	{ "AUTH PLAINER XLOGIN PLAI", 0 },
	{ "AUTH", 0 },
	{ "AUTH ", 0 },
	{ "AUTH=", 0 },
	{ "XAUTH PLAIN", 0 },
};

static void
mechanisms_are_whole_words_behind_auth(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(lines); i++) {
		struct smtp_caps caps = { 0 };

		smtp_caps_add_line(&caps, lines[i].line, strlen(lines[i].line));
		assert_int_equal(caps.auth, lines[i].mechs);
	}
}

/* The example of RFC 4616 4, without an identity to act as. */
static void
plain_says_name_and_password_at_once(void **state)
{
	struct str line = STR_INIT;

	(void)state;
	assert_true(smtp_auth_plain(&line, "tim", "tanstaaftanstaaf"));
	assert_string_equal(str_text(&line), "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n");
	smtp_auth_wipe(&line);
	assert_null(line.data);
}

static void
an_answer_is_base64(void **state)
{
	struct str line = STR_INIT;

	(void)state;
	smtp_auth_answer(&line, "user");
	smtp_auth_answer(&line, "a");
	assert_string_equal(str_text(&line), "dXNlcg==\r\nYQ==\r\n");
	smtp_auth_wipe(&line);
}

static void
the_longest_name_and_password_fit(void **state)
{
	char text[SMTP_AUTH_MAX + 1];
	struct str line = STR_INIT;

	(void)state;
	memset(text, 'x', SMTP_AUTH_MAX);
	text[SMTP_AUTH_MAX] = '\0';
	smtp_auth_plain_answer(&line, text, text);
	assert_int_equal(line.len, 4 * ((2 * SMTP_AUTH_MAX + 2 + 2) / 3) + 2);
	smtp_auth_wipe(&line);
}

/* RFC 4954 4: 512 octets. */
static void
plain_that_is_too_long_for_one_line_is_asked_for(void **state)
{
	static const struct {
		size_t len; /* of name and password, one octet each at least */
		size_t line_len;
	} cases[] = { { 370, 509 }, { 371, 12 }, { 500, 12 } };
	char text[SMTP_AUTH_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct str line = STR_INIT;
		bool fits;

		memset(text, 'x', sizeof(text));
		text[cases[i].len - 1] = '\0';
		fits = smtp_auth_plain(&line, "u", text);
		assert_int_equal(fits, cases[i].line_len != 12);
		assert_int_equal(line.len, cases[i].line_len);
		if (!fits)
			assert_string_equal(str_text(&line), "AUTH PLAIN\r\n");
		smtp_auth_wipe(&line);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mechanisms_are_whole_words_behind_auth),
		cmocka_unit_test(plain_says_name_and_password_at_once),
		cmocka_unit_test(an_answer_is_base64),
		cmocka_unit_test(the_longest_name_and_password_fit),
		cmocka_unit_test(plain_that_is_too_long_for_one_line_is_asked_for),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
