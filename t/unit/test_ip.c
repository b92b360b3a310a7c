/*
 * t/unit/test_ip.c - endpoints, addresses and networks, as written and back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <string.h>

#include "base/ip.h"

static const struct {
	const char *text;
	enum ip_kind kind;
	const char *host;
	unsigned port;
	int family;
} endpoints[] = {
	{"127.0.0.1:10025", IP_NUMERIC, "127.0.0.1", 10025, AF_INET},
	{"0.0.0.0:0", IP_NUMERIC, "0.0.0.0", 0, AF_INET},
	{"[::1]:65535", IP_NUMERIC, "::1", 65535, AF_INET6},
	{"[::ffff:10.0.0.1]:25", IP_NUMERIC, "::ffff:10.0.0.1", 25, AF_INET6},
	{"[2001:db8::a]:25", IP_NUMERIC, "2001:db8::a", 25, AF_INET6},
	{"mx-1.example.org:25", IP_NAME, "mx-1.example.org", 25, 0},
	{"localhost:25", IP_NAME, "localhost", 25, 0},
	{"unix:/run/x y", IP_UNIX, "/run/x y", 0, AF_UNIX},
	{"fd:front", IP_FD, "front", 0, 0},
};

static void
an_endpoint_is_read_and_written_as_it_stands(void **state)
{
	struct ip_endpoint ep;
	struct err err;
	char text[300];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(endpoints) / sizeof(endpoints[0]); i++) {
		assert_int_equal(ip_endpoint_parse(endpoints[i].text, &ep, &err), 0);
		assert_int_equal(ep.kind, endpoints[i].kind);
		assert_string_equal(ep.host, endpoints[i].host);
		assert_int_equal(ep.port, endpoints[i].port);
		assert_int_equal(ep.addr.ss_family, endpoints[i].family);
		assert_int_equal(ep.addr_len != 0, endpoints[i].family != 0);
		ip_endpoint_text(&ep, text, sizeof(text));
		assert_string_equal(text, endpoints[i].text);
	}
}

/* So that an address that stands twice in a configuration is known. */
static void
an_address_has_one_text_however_it_was_written(void **state)
{
	static const char *const spellings[] = {"[0::1]:25", "[0:0:0:0:0:0:0:1]:25", "[::0001]:25", "[::0.0.0.1]:25"};
	struct ip_endpoint ep;
	struct err err;
	char text[300];

	(void)state;
	for (size_t i = 0; i < sizeof(spellings) / sizeof(spellings[0]); i++) {
		assert_int_equal(ip_endpoint_parse(spellings[i], &ep, &err), 0);
		ip_endpoint_text(&ep, text, sizeof(text));
		assert_string_equal(text, "[::1]:25");
	}
	assert_int_equal(ip_endpoint_parse("[2001:DB8:0::A]:25", &ep, &err), 0);
	assert_string_equal(ep.host, "2001:db8::a");
}

static const struct {
	const char *a;
	const char *b;
	bool clash;
} pairs[] = {
	{"127.0.0.1:25", "127.0.0.1:25", true},
	{"127.0.0.1:25", "127.0.0.1:26", false},
	{"127.0.0.1:25", "127.0.0.2:25", false},
	{"127.0.0.1:25", "0.0.0.0:25", true},
	{"0.0.0.0:25", "[::]:25", false},
	{"[::1]:25", "[0::1]:25", true},
	{"[::1]:25", "[::]:25", true},
	{"[::1]:25", "[::2]:25", false},
	{"127.0.0.1:0", "127.0.0.1:0", false},
	{"localhost:25", "localhost:25", false},
	{"unix:/a", "unix:/a", false},
};

static void
addresses_that_cannot_both_be_listened_on(void **state)
{
	struct ip_endpoint a, b;
	struct err err;

	(void)state;
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		assert_int_equal(ip_endpoint_parse(pairs[i].a, &a, &err), 0);
		assert_int_equal(ip_endpoint_parse(pairs[i].b, &b, &err), 0);
		assert_int_equal(ip_endpoint_clash(&a, &b), pairs[i].clash);
		assert_int_equal(ip_endpoint_clash(&b, &a), pairs[i].clash);
	}
}

static const struct {
	const char *text;
	const char *want;
} bad_endpoints[] = {
	{"10025", "\"10025\" is not an address (try 127.0.0.1:10025, [::1]:10025 or unix:/path)"},
	{"", "\"\" is not an address (try 127.0.0.1:10025, [::1]:10025 or unix:/path)"},
	{":25", "\":25\" is not an address (try 127.0.0.1:10025, [::1]:10025 or unix:/path)"},
	{"1.2.3:25",
		"\"1.2.3:25\" is not an address (try 127.0.0.1:10025, [::1]:10025 or unix:/path)"},
	{"a..b:25",
		"\"a..b:25\" is not an address (try 127.0.0.1:10025, [::1]:10025 or unix:/path)"},
	{"a b:25", "\"a b:25\" is not an address (try 127.0.0.1:10025, [::1]:10025 or unix:/path)"},
	{"[::1]25",
		"\"[::1]25\" is not an address (try 127.0.0.1:10025, [::1]:10025 or unix:/path)"},
	{"[1.2.3.4]:25", "\"[1.2.3.4]:25\" is not an address (try 1.2.3.4:25)"},
	{"127.0.0.1", "\"127.0.0.1\" has no port (try 127.0.0.1:25)"},
	{"2001:db8::1", "\"2001:db8::1\" has no port (try [2001:db8::1]:25)"},
	{"::1:25", "\"::1:25\": an IPv6 address stands in brackets (try [::1]:25)"},
	{"mx.example.org", "\"mx.example.org\" has no port (try mx.example.org:25)"},
	{"127.0.0.1:65536", "\"127.0.0.1:65536\": port \"65536\" is not a number from 0 to 65535"},
	{"127.0.0.1:+5", "\"127.0.0.1:+5\": port \"+5\" is not a number from 0 to 65535"},
	{"[mail.example]:25", "\"[mail.example]:25\" is not an address (try mail.example:25)"},
	{"smtp:[127.0.0.1]:25", "\"smtp:[127.0.0.1]:25\" is not an address (try 127.0.0.1:25)"},
	{"smtp://mx.example:25", "\"smtp://mx.example:25\" is not an address (try mx.example:25)"},
	{"inet:25@127.0.0.1", "\"inet:25@127.0.0.1\" is not an address (try 127.0.0.1:25)"},
	{"inet:25@", "\"inet:25@\": port \"25@\" is not a number from 0 to 65535"},
	{"/run/x", "\"/run/x\" is not an address (try unix:/run/x)"},
	{"[::1]", "\"[::1]\" has no port (try [::1]:25)"},
	{"127.0.0.1:", "\"127.0.0.1:\" has no port (try 127.0.0.1:25)"},
	{"*:25", "\"*:25\" is not an address (try 0.0.0.0:25 or [::]:25)"},
	{"unix:", "\"unix:\" is not an absolute path (try unix:/path)"},
	{"unix:run/x", "\"unix:run/x\" is not an absolute path (try unix:/path)"},
	{"fd:", "\"fd:\" is not a descriptor's name (try fd:front)"},
};

static void
a_wrong_endpoint_is_taught(void **state)
{
	struct ip_endpoint ep;
	struct err err;
	char text[400] = "unix:/";
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad_endpoints) / sizeof(bad_endpoints[0]); i++) {
		assert_int_equal(ip_endpoint_parse(bad_endpoints[i].text, &ep, &err), -1);
		assert_string_equal(err.text, bad_endpoints[i].want);
	}
	memset(text + 6, 'a', 107);
	assert_int_equal(ip_endpoint_parse(text, &ep, &err), -1);
	assert_non_null(strstr(err.text, "too long (at most 107 octets"));
	text[112] = '\0';
	assert_int_equal(ip_endpoint_parse(text, &ep, &err), 0);
	memset(text, 'a', 300);
	strcpy(text + 300, ":25");
	assert_int_equal(ip_endpoint_parse(text, &ep, &err), -1);
}

static void
addr(const char *text, struct ip_addr *a)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(40112)};
	struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6, .sin6_port = htons(40112)};
	struct sockaddr_un sun = {.sun_family = AF_UNIX};

	if (strcmp(text, "unix") == 0)
		ip_addr_from_sockaddr((struct sockaddr *)&sun, a);
	else if (inet_pton(AF_INET, text, &sin.sin_addr) == 1)
		ip_addr_from_sockaddr((struct sockaddr *)&sin, a);
	else if (inet_pton(AF_INET6, text, &sin6.sin6_addr) == 1)
		ip_addr_from_sockaddr((struct sockaddr *)&sin6, a);
	else
		fail();
}

static void
a_mapped_address_is_the_ipv4_address(void **state)
{
	char text[INET6_ADDRSTRLEN + 10];
	struct sockaddr nothing = {.sa_family = AF_UNSPEC};
	struct ip_addr a;

	(void)state;
	addr("::ffff:192.0.2.7", &a);
	assert_int_equal(a.family, AF_INET);
	ip_addr_text(&a, text, sizeof(text));
	assert_string_equal(text, "192.0.2.7");
	ip_addr_port_text(&a, text, sizeof(text));
	assert_string_equal(text, "192.0.2.7:40112");
	addr("2001:db8::1", &a);
	ip_addr_port_text(&a, text, sizeof(text));
	assert_string_equal(text, "[2001:db8::1]:40112");
	addr("unix", &a);
	ip_addr_port_text(&a, text, sizeof(text));
	assert_string_equal(text, "unix");
	ip_addr_from_sockaddr(&nothing, &a);
	ip_addr_port_text(&a, text, sizeof(text));
	assert_string_equal(text, "unknown");
}

static const struct {
	const char *net, *addr;
	bool want;
} members[] = {
	{"10.0.0.0/8", "10.255.0.1", true},
	{"10.0.0.0/8", "11.0.0.1", false},
	{"192.0.2.7", "192.0.2.7", true},
	{"192.0.2.7", "192.0.2.6", false},
	{"192.0.2.128/25", "192.0.2.127", false},
	{"192.0.2.128/25", "192.0.2.200", true},
	{"0.0.0.0/0", "1.2.3.4", true},
	{"0.0.0.0/0", "::1", false},
	{"::/0", "::1", true},
	{"::/0", "1.2.3.4", false},
	{"::1", "::1", true},
	{"2001:db8::/33", "2001:db8:8000::1", false},
	{"2001:db8::/33", "2001:db8:7fff::1", true},
	{"::ffff:10.0.0.0/104", "10.1.1.1", true},
	{"10.0.0.0/8", "::ffff:10.1.1.1", true},
	{"unix", "unix", true},
	{"unix", "127.0.0.1", false},
	{"0.0.0.0/0", "unix", false},
};

static void
a_network_has_its_members_only(void **state)
{
	struct ip_net net;
	struct ip_addr a;
	struct err err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		assert_int_equal(ip_net_parse(members[i].net, &net, &err), 0);
		addr(members[i].addr, &a);
		assert_int_equal(ip_net_has(&net, &a), members[i].want);
	}
}

static const struct {
	const char *text;
	const char *want;
} bad_nets[] = {
	{"10.0.0.1/8", "\"10.0.0.1/8\" has host bits beyond the mask (try 10.0.0.0/8)"},
	{"1.2.3.5/31", "\"1.2.3.5/31\" has host bits beyond the mask (try 1.2.3.4/31)"},
	{"::1/64", "\"::1/64\" has host bits beyond the mask (try ::/64)"},
	{"10.0.0.0/33", "\"10.0.0.0/33\" is not a network (try 127.0.0.0/8, ::1 or 192.0.2.7)"},
	{"10.0.0.0/", "\"10.0.0.0/\" is not a network (try 127.0.0.0/8, ::1 or 192.0.2.7)"},
	{"10.0.0.0/-1", "\"10.0.0.0/-1\" is not a network (try 127.0.0.0/8, ::1 or 192.0.2.7)"},
	{"10", "\"10\" is not a network (try 127.0.0.0/8, ::1 or 192.0.2.7)"},
	{"::ffff:1.2.3.4/8",
		"\"::ffff:1.2.3.4/8\" is not a network (try 127.0.0.0/8, ::1 or 192.0.2.7)"},
	{"", "\"\" is not a network (try 127.0.0.0/8, ::1 or 192.0.2.7)"},
};

static void
a_wrong_network_is_taught(void **state)
{
	struct ip_net net;
	struct err err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad_nets) / sizeof(bad_nets[0]); i++) {
		assert_int_equal(ip_net_parse(bad_nets[i].text, &net, &err), -1);
		assert_string_equal(err.text, bad_nets[i].want);
	}
}

static void
loopback_is_what_cannot_come_from_outside(void **state)
{
	static const char *const yes[] = {
		"127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1", "unix"};
	static const char *const no[] = {"126.0.0.1", "::2", "::", "0.0.0.0"};
	struct ip_addr a;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		addr(yes[i], &a);
		assert_true(ip_addr_is_loopback(&a));
	}
	for (i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
		addr(no[i], &a);
		assert_false(ip_addr_is_loopback(&a));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_endpoint_is_read_and_written_as_it_stands),
		cmocka_unit_test(an_address_has_one_text_however_it_was_written),
		cmocka_unit_test(addresses_that_cannot_both_be_listened_on),
		cmocka_unit_test(a_wrong_endpoint_is_taught),
		cmocka_unit_test(a_mapped_address_is_the_ipv4_address),
		cmocka_unit_test(a_network_has_its_members_only),
		cmocka_unit_test(a_wrong_network_is_taught),
		cmocka_unit_test(loopback_is_what_cannot_come_from_outside),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
