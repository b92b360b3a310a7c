/*
 * t/unit/test_canonical.c - many spellings of one address, and one spelling of many.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/list.h"
#include "mail/canonical.h"

static void
what_is_compared_is_the_same_however_it_was_written(void **state)
{
	static const struct {
		const char *in, *want;
	} cases[] = {
		{"", ""},
		{"ann@example.org", "ann@example.org"},
		{"Ann+list@Example.ORG", "Ann+list@Example.ORG"},
		{"postmaster", "postmaster"},
		{"@relay.example:ann@example.org", "ann@example.org"},
		{"@one.example,@two.example:ann@example.org", "ann@example.org"},
		{"@[IPv6:2001:db8::1]:ann@example.org", "ann@example.org"},
		{"@one.example:\"ann\"@example.org", "ann@example.org"},
		{"\"ann\"@example.org", "ann@example.org"},
		{"\"ann.b\"@example.org", "ann.b@example.org"},
		{"\"a\\nn\"@example.org", "ann@example.org"},
		{"\"ann b\"@example.org", "\"ann b\"@example.org"},
		{"\"ann\\ b\"@example.org", "\"ann b\"@example.org"},
		{"\"a@b\"@example.org", "\"a@b\"@example.org"},
		{"\"a\\\"b\\\\\"@example.org", "\"a\\\"b\\\\\"@example.org"},
		{"\".ann\"@example.org", "\".ann\"@example.org"},
		{"\"ann.\"@example.org", "\"ann.\"@example.org"},
		{"\"a..b\"@example.org", "\"a..b\"@example.org"},
		{"\"\"@example.org", "\"\"@example.org"},
		{"\"a:b\"@example.org", "\"a:b\"@example.org"},
		{"ann@[192.0.2.1]", "ann@[192.0.2.1]"},
		{"ann@[IPv6:2001:db8::1]", "ann@[IPv6:2001:db8::1]"},
		{"ann@b\xc3\xbc" "cher.example", "ann@xn--bcher-kva.example"},
		{"ann@B\xc3\x9c" "CHER.example", "ann@xn--bcher-kva.example"},
		{"ann@bu\xcc\x88" "cher.example", "ann@xn--bcher-kva.example"},
		{"ann@stra\xc3\x9f" "e.example", "ann@xn--strae-oqa.example"},
		{"j\xc3\xbcrgen@example.org", "j\xc3\xbcrgen@example.org"},
		{"\"j\xc3\xbcrgen\"@b\xc3\xbc" "cher.example", "j\xc3\xbcrgen@xn--bcher-kva.example"},
		{"ann@xn--bcher-kva.example", "ann@xn--bcher-kva.example"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct mail_canonical c;
		bool is_new = mail_canonical(cases[i].in, strlen(cases[i].in), false, &c);

		assert_string_equal(is_new ? c.text : cases[i].in, cases[i].want);
		if (is_new)
			assert_int_equal(c.len, strlen(c.text));
	}
}

static void
words_of_lists_are_the_same_as_what_is_compared_with_them(void **state)
{
	static const struct {
		const char *in, *want;
	} cases[] = {
		{"@example.org", "@example.org"},
		{".example.org", ".example.org"},
		{"example.org", "example.org"},
		{"@[IPv6:2001:db8::1]", "@[IPv6:2001:db8::1]"},
		{"@b\xc3\xbc" "cher.example", "@xn--bcher-kva.example"},
		{".b\xc3\xbc" "cher.example", ".xn--bcher-kva.example"},
		{"b\xc3\xbc" "cher.example", "xn--bcher-kva.example"},
		{".\xe4\xb8\xad\xe5\x9b\xbd", ".xn--fiqs8s"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct mail_canonical c;
		bool is_new = mail_canonical(cases[i].in, strlen(cases[i].in), true, &c);

		assert_string_equal(is_new ? c.text : cases[i].in, cases[i].want);
	}
}

static void
patterns_see_what_a_labels_stand_for(void **state)
{
	static const struct {
		const char *in, *want; /* NULL: there is nothing to read */
	} cases[] = {
		{"", NULL},
		{"ann@example.org", NULL},
		{"xn--ann@example.org", NULL},
		{"ann@axn--b.example", NULL},
		{"ann@xn--bcher-kva.example", "ann@b\xc3\xbc" "cher.example"},
		{"ann@mail.XN--bcher-kva.example", "ann@mail.b\xc3\xbc" "cher.example"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct mail_canonical c;
		bool is_one = mail_readable(cases[i].in, strlen(cases[i].in), &c);

		assert_int_equal(is_one, cases[i].want != NULL);
		if (is_one)
			assert_string_equal(c.text, cases[i].want);
	}
}

/* As long as the parser lets one be, and with labels that become longer. */
static void
the_longest_addresses_fit_or_stay_as_they_are(void **state)
{
	struct mail_canonical c;
	char text[600];
	size_t len = 0;

	(void)state;
	text[len++] = '"';
	for (int i = 0; i < 120; i++) {
		memcpy(text + len, "\\\"", 2);
		len += 2;
	}
	memcpy(text + len, "\"@", 2);
	len += 2;
	while (len < 500) {
		memcpy(text + len, "\xc3\xbc.", 3);
		len += 3;
	}
	memcpy(text + len, "example", 7);
	len += 7;
	assert_true(mail_canonical(text, len, false, &c));
	assert_true(c.len < sizeof(c.text));
	assert_int_equal(c.len, strlen(c.text));
	assert_memory_equal(c.text, text, 240);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_compared_is_the_same_however_it_was_written),
		cmocka_unit_test(words_of_lists_are_the_same_as_what_is_compared_with_them),
		cmocka_unit_test(patterns_see_what_a_labels_stand_for),
		cmocka_unit_test(the_longest_addresses_fit_or_stay_as_they_are),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
