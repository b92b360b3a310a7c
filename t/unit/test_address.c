/* t/unit/test_address.c - paths, mailboxes and the names of HELO. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "mail/address.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define X10      "xxxxxxxxxx"
#define X60      X10 X10 X10 X10 X10 X10

enum { NUL = MAIL_PATH_NULL, BARE = MAIL_PATH_BARE, UTF8 = MAIL_PATH_UTF8 };

static const struct {
	const char *text;
	unsigned flags;
	const char *mailbox, *domain; /* domain NULL: there is no '@' */
	const char *rest;
} good[] = {
	{"<a@b>", 0, "a@b", "b", ""},
	{"<a@b> SIZE=1", 0, "a@b", "b", " SIZE=1"},
	{"<a@b>>", 0, "a@b", "b", ">"},
	{"<>", NUL, "", NULL, ""},
	{"<Ann.Example+tag@Sub.Example.ORG>", 0, "Ann.Example+tag@Sub.Example.ORG",
		"Sub.Example.ORG", ""},
	{"<!#$%&'*+-/=?^_`{|}~@b>", 0, "!#$%&'*+-/=?^_`{|}~@b", "b", ""},
	{"<\"a>b\"@c> X", 0, "\"a>b\"@c", "c", " X"},
	{"<\"a@b\"@c>", 0, "\"a@b\"@c", "c", ""},
	{"<\"a b\"@c>", 0, "\"a b\"@c", "c", ""},
	{"<\"a\\\"b\\\\\"@c>", 0, "\"a\\\"b\\\\\"@c", "c", ""},
	{"<\"\"@c>", 0, "\"\"@c", "c", ""},
	{"<a@my_host.example>", 0, "a@my_host.example", "my_host.example", ""},
	{"<a@x--y.example>", 0, "a@x--y.example", "x--y.example", ""},
	{"<a@[192.0.2.1]>", 0, "a@[192.0.2.1]", "[192.0.2.1]", ""},
	{"<a@[IPv6:2001:db8::1]>", 0, "a@[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]", ""},
	{"<a@[ipv6:::1]>", 0, "a@[ipv6:::1]", "[ipv6:::1]", ""},
	{"<@r1:a@b>", 0, "a@b", "b", ""},
	{"<@r1,@r2.example:a@b>", 0, "a@b", "b", ""},
	{"<postmaster>", BARE, "postmaster", NULL, ""},
	{"<Postmaster@b>", BARE, "Postmaster@b", "b", ""},
	{"<\"post master\">", BARE, "\"post master\"", NULL, ""},
	{"<\xc3\xa9@b\xc3\xbc.example>", UTF8, "\xc3\xa9@b\xc3\xbc.example", "b\xc3\xbc.example",
		""},
	{"<\"\xf0\x9f\x98\x80\"@b>", UTF8, "\"\xf0\x9f\x98\x80\"@b", "b", ""},
	{"<a@" X60 "xxx>", 0, "a@" X60 "xxx", X60 "xxx", ""},
};

static void
a_path_is_taken_apart(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		struct mail_path p;
		struct err err;
		const char *text = good[i].text;
		size_t used = mail_path_parse(text, strlen(text), good[i].flags, &p, &err);

		if (used == 0)
			print_error("%s: %s\n", text, err.text);
		assert_string_equal(text + used, good[i].rest);
		assert_int_equal(p.begin, 1);
		assert_int_equal(p.end, used - 1);
		assert_int_equal(p.end - p.mailbox, strlen(good[i].mailbox));
		assert_memory_equal(text + p.mailbox, good[i].mailbox, p.end - p.mailbox);
		assert_int_equal(p.has_utf8, good[i].flags == UTF8);
		if (good[i].domain == NULL) {
			assert_int_equal(p.at, p.end);
			continue;
		}
		assert_int_equal(text[p.at], '@');
		assert_int_equal(p.end - p.at - 1, strlen(good[i].domain));
		assert_memory_equal(text + p.at + 1, good[i].domain, p.end - p.at - 1);
	}
}

static const struct {
	const char *text;
	unsigned flags;
} bad[] = {
	{"", NUL},
	{"a@b", NUL},
	{" <a@b>", 0},
	{"<", NUL},
	{"<>", 0},
	{"< >", NUL},
	{"<a>", 0},
	{"<a", BARE},
	{"<a@b", 0},
	{"<a@>", BARE},
	{"<@b>", BARE},
	{"<a@@b>", 0},
	{"<a@b@c>", 0},
	{"<<a@b>>", 0},
	{"<a b@c>", BARE},
	{"<a@b c>", 0},
	{"<a@b >", 0},
	{"< a@b>", 0},
	{"<.a@b>", 0},
	{"<a.@b>", 0},
	{"<a..b@c>", 0},
	{"<a@.b>", 0},
	{"<a@b.>", 0},
	{"<a@b..c>", 0},
	{"<a@-b>", 0},
	{"<a@b-.c>", 0},
	{"<a@b$c>", 0},
	{"<a,b@c>", 0},
	{"<a(x)@c>", 0},
	{"<a\\ b@c>", 0},
	{"<\"a@b>", 0},
	{"<\"a\"b@c>", 0},
	{"<\"a\"\"b\"@c>", 0},
	{"<\"a\\", 0},
	{"<\"a\tb\"@c>", 0},
	{"<a\r\n@c>", 0},
	{"<\"a\r\n\"@c>", 0},
	{"<a\x7f@c>", 0},
	{"<a@[192.0.2.256]>", 0},
	{"<a@[192.0.2]>", 0},
	{"<a@[2001:db8::1]>", 0},
	{"<a@[IPv6:xyz]>", 0},
	{"<a@[]>", 0},
	{"<a@[192.0.2.1>", 0},
	{"<a@[192.0.2.1]x>", 0},
	{"<@r1>", BARE},
	{"<@r1:>", BARE},
	{"<@r1,a@b>", 0},
	{"<@r1@r2:a@b>", 0},
	{"<@:a@b>", 0},
	{"<a@b:c>", 0},
	{"<\xc3\xa9@b>", BARE},
	{"<a@\xc3\xa9>", 0},
	{"<\xe9@b>", UTF8},
	{"<\xc0\xaf@b>", UTF8},
	{"<\xed\xa0\x80@b>", UTF8},
	{"<\xc2\x85@b>", UTF8},
	{"<\xc3>", UTF8 | BARE},
	{"<a@" X60 "xxxx>", 0},
};

static void
what_is_no_path_is_refused_with_a_reason(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct mail_path p;
		struct err err = {.text = ""};

		if (mail_path_parse(bad[i].text, strlen(bad[i].text), bad[i].flags, &p, &err) != 0)
			fail_msg("taken: %s", bad[i].text);
		assert_true(strlen(err.text) > 0);
	}
}

static void
a_nul_is_refused_everywhere(void **state)
{
	static const char path[] = "<\"a\"@b.[1]>";
	struct mail_path p;
	struct err err;

	(void)state;
	for (size_t i = 0; i < strlen(path); i++) {
		char copy[sizeof(path)];

		memcpy(copy, path, sizeof(path));
		copy[i] = '\0';
		assert_int_equal(
			mail_path_parse(copy, strlen(path), BARE | UTF8 | NUL, &p, &err), 0);
	}
	assert_int_equal(mail_path_parse("<a@[1.2.3.4\0]>", 14, 0, &p, &err), 0);
}

/* "<" local "@" labels ">" of wanted lengths. */
static size_t
parse_sized(size_t local, size_t domain)
{
	struct str s = STR_INIT;
	struct mail_path p;
	struct err err;
	size_t used;

	str_addc(&s, '<');
	while (s.len < 1 + local)
		str_addc(&s, 'l');
	str_addc(&s, '@');
	for (size_t i = 1; i <= domain; i++)
		str_addc(&s, i % 50 == 0 && i < domain ? '.' : 'd');
	str_addc(&s, '>');
	used = mail_path_parse(s.data, s.len, 0, &p, &err);
	assert_true(used == 0 || used == s.len);
	str_deinit(&s);
	return used;
}

static void
lengths_are_bounded(void **state)
{
	(void)state;
	assert_true(parse_sized(64, 255) > 0);
	assert_true(parse_sized(MAIL_LOCAL_MAX, 10) > 0);
	assert_int_equal(parse_sized(MAIL_LOCAL_MAX + 1, 10), 0);
	assert_int_equal(parse_sized(10, MAIL_DOMAIN_MAX + 1), 0);
	assert_true(parse_sized(MAIL_LOCAL_MAX, MAIL_PATH_MAX - 3 - MAIL_LOCAL_MAX) > 0);
	assert_int_equal(parse_sized(MAIL_LOCAL_MAX, MAIL_PATH_MAX - 2 - MAIL_LOCAL_MAX), 0);
}

static const struct {
	const char *name;
	bool valid;
} helos[] = {
	{"mx.example.net", true},
	{"localhost", true},
	{"my_pc", true},
	{"[192.0.2.1]", true},
	{"[IPv6:2001:db8::1]", true},
	{"2001:db8::1", true},
	{"", false},
	{"[", false},
	{"[]", false},
	{"[1.2.3.4", false},
	{"1.2.3.4]", false},
	{"[a]b]", false},
	{"a b", false},
	{"a(b", false},
	{"a)b", false},
	{"a\\b", false},
	{"a\r\nX: y", false},
	{"<a>", false},
	{"a;b", false},
	{"a\xc3\xa9", false},
};

static void
a_helo_name_can_end_neither_comment_nor_line(void **state)
{
	char longest[MAIL_DOMAIN_MAX + 1];

	(void)state;
	for (size_t i = 0; i < COUNT(helos); i++)
		assert_int_equal(
			mail_helo_valid(helos[i].name, strlen(helos[i].name)), helos[i].valid);
	memset(longest, 'x', sizeof(longest));
	assert_true(mail_helo_valid(longest, MAIL_DOMAIN_MAX));
	assert_false(mail_helo_valid(longest, MAIL_DOMAIN_MAX + 1));
	assert_false(mail_helo_valid("a\0b", 3));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_path_is_taken_apart),
		cmocka_unit_test(what_is_no_path_is_refused_with_a_reason),
		cmocka_unit_test(a_nul_is_refused_everywhere),
		cmocka_unit_test(lengths_are_bounded),
		cmocka_unit_test(a_helo_name_can_end_neither_comment_nor_line),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
