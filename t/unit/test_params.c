/* t/unit/test_params.c - the arguments of MAIL, RCPT and BDAT. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/list.h"
#include "smtp/params.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define X10      "xxxxxxxxxx"
#define X100     X10 X10 X10 X10 X10 X10 X10 X10 X10 X10

enum {
	ALL = SMTP_CAP_SIZE | SMTP_CAP_8BITMIME | SMTP_CAP_SMTPUTF8 | SMTP_CAP_DSN | SMTP_CAP_AUTH,
};

/* What is understood is shown by what is written to a peer that offers all; NULL: as it came. */
static const struct {
	const char *args, *want;
} good_mail[] = {
	{"FROM:<a@b>", NULL},
	{"FROM:<>", NULL},
	{"from: <a@b>", "FROM:<a@b>"},
	{"FROM:<a@b>  RET=full  ", "FROM:<a@b> RET=FULL"},
	{"FROM:<\"a> b\"@c> SIZE=5", NULL},
	{"FROM:<@r:a@b>", NULL},
	{"FROM:<a@b> SIZE=0", NULL},
	{"FROM:<a@b> SIZE=999999999999999999", NULL},
	{"FROM:<a@b> size=12 body=8bitmime", "FROM:<a@b> SIZE=12 BODY=8BITMIME"},
	{"FROM:<a@b> BODY=7BIT", NULL},
	{"FROM:<\xc3\xa9@b> SMTPUTF8", NULL},
	{"FROM:<a@b> SMTPUTF8", NULL},
	{"FROM:<a@b> RET=HDRS ENVID=Q+2BQ+3D", NULL},
	{"FROM:<a@b> ENVID=x+2by", NULL},
	{"FROM:<a@b> ENVID=" X100, NULL},
	{"FROM:<a@b> AUTH=<>", NULL},
	{"FROM:<a@b> AUTH=e+3Dmc2@example.com", "FROM:<a@b> AUTH=<>"},
	{"FROM:<a@b> auth=ann", "FROM:<a@b> AUTH=<>"},
	{"FROM:<a@b> AUTH=" X100 X100 X100 X100 X100, "FROM:<a@b> AUTH=<>"},
	{"FROM:<a@b> SIZE=1 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=1 AUTH=<>", NULL},
};

static void
mail_is_understood_and_written_anew(void **state)
{
	struct arena *arena = arena_new();
	struct smtp_caps peer = {.bits = ALL};

	(void)state;
	for (size_t i = 0; i < COUNT(good_mail); i++) {
		const char *args = good_mail[i].args;
		struct mail_sender sender;
		struct smtp_params_error why = {0};
		struct err err = {.text = ""};
		struct str out = STR_INIT;

		if (smtp_params_mail(args, strlen(args), ALL, arena, &sender, &why, &err) < 0)
			fail_msg("%s: %s", args, err.text);
		smtp_params_write_mail(&out, &sender, sender.size, &peer);
		assert_memory_equal(out.data, "MAIL ", 5);
		assert_string_equal(out.data + 5, good_mail[i].want ? good_mail[i].want : args);
		str_deinit(&out);
	}
	arena_free(&arena);
}

struct bad_case {
	const char *args;
	int code;
	const char *status;
};

static const struct bad_case bad_mail[] = {
	{"", 501, "5.5.4"},
	{"TO:<a@b>", 501, "5.5.4"},
	{"FROM <a@b>", 501, "5.5.4"},
	{"FROM :<a@b>", 501, "5.5.4"},
	{"<a@b>", 501, "5.5.4"},
	{"FROM:", 501, "5.1.7"},
	{"FROM:a@b", 501, "5.1.7"},
	{"FROM:  <a@b>", 501, "5.1.7"},
	{"FROM:<a@b", 501, "5.1.7"},
	{"FROM:<a>", 501, "5.1.7"},
	{"FROM:<a@b\r\n>", 501, "5.1.7"},
	{"FROM:<a@b>SIZE=1", 501, "5.5.4"},
	{"FROM:<a@b>>", 501, "5.5.4"},
	{"FROM:<a@b>\tSIZE=1", 501, "5.5.4"},
	{"FROM:<\xc3\xa9@b>", 553, "5.6.7"},
	{"FROM:<a@\xc3\xa9> SIZE=1", 553, "5.6.7"},
	{"FROM:<\xe9@b> SMTPUTF8", 501, "5.1.7"},
	{"FROM:<a@b> SIZE", 501, "5.5.4"},
	{"FROM:<a@b> SIZE=", 501, "5.5.4"},
	{"FROM:<a@b> SIZE=-1", 501, "5.5.4"},
	{"FROM:<a@b> SIZE=+1", 501, "5.5.4"},
	{"FROM:<a@b> SIZE=1K", 501, "5.5.4"},
	{"FROM:<a@b> SIZE=0000000000000000001", 501, "5.5.4"},
	{"FROM:<a@b> SIZE=18446744073709551617", 501, "5.5.4"},
	{"FROM:<a@b> SIZE=1 SIZE=1", 501, "5.5.4"},
	{"FROM:<a@b> SIZE=1 size=2", 501, "5.5.4"},
	{"FROM:<a@b> BODY=BINARYMIME", 555, "5.5.4"},
	{"FROM:<a@b> BODY=9BIT", 501, "5.5.4"},
	{"FROM:<a@b> BODY", 501, "5.5.4"},
	{"FROM:<a@b> SMTPUTF8=yes", 501, "5.5.4"},
	{"FROM:<a@b> SMTPUTF8=", 501, "5.5.4"},
	{"FROM:<a@b> SMTPUTF8 SMTPUTF8", 501, "5.5.4"},
	{"FROM:<a@b> RET=SOME", 501, "5.5.4"},
	{"FROM:<a@b> ENVID=", 501, "5.5.4"},
	{"FROM:<a@b> ENVID=a=b", 501, "5.5.4"},
	{"FROM:<a@b> ENVID=a+4", 501, "5.5.4"},
	{"FROM:<a@b> ENVID=a+", 501, "5.5.4"},
	{"FROM:<a@b> ENVID=a+4G", 501, "5.5.4"},
	{"FROM:<a@b> ENVID=a+0D+0Ab", 501, "5.5.4"},
	{"FROM:<a@b> ENVID=a+00", 501, "5.5.4"},
	{"FROM:<a@b> ENVID=a+7F", 501, "5.5.4"},
	{"FROM:<a@b> ENVID=\xc3\xa9 SMTPUTF8", 501, "5.5.4"},
	{"FROM:<a@b> ENVID=" X100 "x", 501, "5.5.4"},
	{"FROM:<a@b> ENVID=a\1", 501, "5.5.4"},
	{"FROM:<a@b> AUTH=", 501, "5.5.4"},
	{"FROM:<a@b> AUTH", 501, "5.5.4"},
	{"FROM:<a@b> AUTH=a+0A", 501, "5.5.4"},
	{"FROM:<a@b> AUTH=a+4", 501, "5.5.4"},
	{"FROM:<a@b> AUTH=a=b", 501, "5.5.4"},
	{"FROM:<a@b> AUTH=\xc3\xa9 SMTPUTF8", 501, "5.5.4"},
	{"FROM:<a@b> AUTH=<> AUTH=<>", 501, "5.5.4"},
	{"FROM:<a@b> AUTH=" X100 X100 X100 X100 X100 "x", 501, "5.5.4"},
	{"FROM:<a@b> FOO", 555, "5.5.4"},
	{"FROM:<a@b> FOO=bar", 555, "5.5.4"},
	{"FROM:<a@b> NOTIFY=NEVER", 555, "5.5.4"},
	{"FROM:<a@b> X-Y=1", 555, "5.5.4"},
	{"FROM:<a@b> -X=1", 501, "5.5.4"},
	{"FROM:<a@b> =1", 501, "5.5.4"},
	{"FROM:<a@b> <c@d>", 501, "5.5.4"},
};

static void
check_bad(const struct bad_case *c, int rc, const struct smtp_params_error *why, const char *text)
{
	if (rc != -1 || why->code != c->code || strcmp(why->status, c->status) != 0)
		fail_msg("%s: %d %d %s", c->args, rc, why->code, why->status ? why->status : "");
	assert_true(strlen(text) > 0);
}

static void
bad_mail_says_what_is_wrong(void **state)
{
	struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < COUNT(bad_mail); i++) {
		const struct bad_case *c = &bad_mail[i];
		struct mail_sender sender;
		struct smtp_params_error why = {0};
		struct err err = {.text = ""};
		int rc =
			smtp_params_mail(c->args, strlen(c->args), ALL, arena, &sender, &why, &err);

		check_bad(c, rc, &why, err.text);
	}
	arena_free(&arena);
}

static const struct {
	const char *args, *want;
	bool smtputf8;
} good_rcpt[] = {
	{"TO:<a@b>", NULL, false},
	{"to: <a@b>", "TO:<a@b>", false},
	{"TO:<postmaster>", NULL, false},
	{"TO:<\xc3\xa9@b>", NULL, true},
	{"TO:<a@b> NOTIFY=NEVER", NULL, false},
	{"TO:<a@b> NOTIFY=SUCCESS,FAILURE,DELAY", NULL, false},
	{"TO:<a@b> NOTIFY=delay,success", NULL, false},
	{"TO:<a@b> NOTIFY=FAILURE ORCPT=rfc822;Bob+2Bx@c", NULL, false},
	{"TO:<a@b> ORCPT=utf-8;\\x{E9}@c", NULL, false},
	{"TO:<a@b> ORCPT=utf-8;\xc3\xa9@c", NULL, true},
	{"TO:<a@b> ORCPT=rfc822;a;b", NULL, false},
};

static void
rcpt_is_understood_and_written_anew(void **state)
{
	struct arena *arena = arena_new();
	struct smtp_caps peer = {.bits = ALL};

	(void)state;
	for (size_t i = 0; i < COUNT(good_rcpt); i++) {
		const char *args = good_rcpt[i].args;
		struct mail_rcpt rcpt;
		struct smtp_params_error why = {0};
		struct err err = {.text = ""};
		struct str out = STR_INIT;

		if (smtp_params_rcpt(args, strlen(args), ALL, good_rcpt[i].smtputf8, arena, &rcpt,
			    &why, &err) < 0)
			fail_msg("%s: %s", args, err.text);
		smtp_params_write_rcpt(&out, &rcpt, &peer);
		assert_memory_equal(out.data, "RCPT ", 5);
		assert_string_equal(out.data + 5, good_rcpt[i].want ? good_rcpt[i].want : args);
		str_deinit(&out);
	}
	arena_free(&arena);
}

static const struct bad_case bad_rcpt[] = {
	{"FROM:<a@b>", 501, "5.5.4"},
	{"TO:<>", 501, "5.1.3"},
	{"TO:a@b", 501, "5.1.3"},
	{"TO:<a@b> <c@d>", 501, "5.5.4"},
	{"TO:<a@b>,<c@d>", 501, "5.5.4"},
	{"TO:<\xc3\xa9@b>", 553, "5.6.7"},
	{"TO:<a@b> SIZE=1", 555, "5.5.4"},
	{"TO:<a@b> NOTIFY", 501, "5.5.4"},
	{"TO:<a@b> NOTIFY=", 501, "5.5.4"},
	{"TO:<a@b> NOTIFY=NEVER,DELAY", 501, "5.5.4"},
	{"TO:<a@b> NOTIFY=DELAY,NEVER", 501, "5.5.4"},
	{"TO:<a@b> NOTIFY=DELAY,DELAY", 501, "5.5.4"},
	{"TO:<a@b> NOTIFY=DELAY,", 501, "5.5.4"},
	{"TO:<a@b> NOTIFY=,DELAY", 501, "5.5.4"},
	{"TO:<a@b> NOTIFY=DELAY,,SUCCESS", 501, "5.5.4"},
	{"TO:<a@b> NOTIFY=,", 501, "5.5.4"},
	{"TO:<a@b> NOTIFY=ALWAYS", 501, "5.5.4"},
	{"TO:<a@b> NOTIFY=NEVER NOTIFY=NEVER", 501, "5.5.4"},
	{"TO:<a@b> ORCPT=rfc822", 501, "5.5.4"},
	{"TO:<a@b> ORCPT=rfc822;", 501, "5.5.4"},
	{"TO:<a@b> ORCPT=;a@b", 501, "5.5.4"},
	{"TO:<a@b> ORCPT=rfc(822;a@b", 501, "5.5.4"},
	{"TO:<a@b> ORCPT=rfc822;a+0Ab", 501, "5.5.4"},
	{"TO:<a@b> ORCPT=rfc822;a+4", 501, "5.5.4"},
	{"TO:<a@b> ORCPT=utf-8;\xc3\xa9@c", 501, "5.5.4"},
	{"TO:<a@b> ORCPT=rfc822;" X100 X100 X100 X100 X100, 501, "5.5.4"},
};

static void
bad_rcpt_says_what_is_wrong(void **state)
{
	struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < COUNT(bad_rcpt); i++) {
		const struct bad_case *c = &bad_rcpt[i];
		struct mail_rcpt rcpt;
		struct smtp_params_error why = {0};
		struct err err = {.text = ""};
		int rc = smtp_params_rcpt(
			c->args, strlen(c->args), ALL, false, arena, &rcpt, &why, &err);

		check_bad(c, rc, &why, err.text);
	}
	arena_free(&arena);
}

static void
what_was_not_offered_is_not_known(void **state)
{
	static const struct {
		const char *param;
		unsigned cap;
	} params[] = {
		{"FROM:<a@b> SIZE=1", SMTP_CAP_SIZE},
		{"FROM:<a@b> BODY=7BIT", SMTP_CAP_8BITMIME},
		{"FROM:<a@b> SMTPUTF8", SMTP_CAP_SMTPUTF8},
		{"FROM:<a@b> RET=FULL", SMTP_CAP_DSN},
		{"FROM:<a@b> ENVID=x", SMTP_CAP_DSN},
		{"FROM:<a@b> AUTH=<>", SMTP_CAP_AUTH},
	};
	struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < COUNT(params); i++) {
		const char *args = params[i].param;
		struct mail_sender sender;
		struct smtp_params_error why = {0};
		struct err err;

		assert_int_equal(smtp_params_mail(args, strlen(args), ALL & ~params[i].cap, arena,
					 &sender, &why, &err),
			-1);
		assert_int_equal(why.code, 555);
		assert_int_equal(smtp_params_mail(args, strlen(args), params[i].cap, arena, &sender,
					 &why, &err),
			0);
	}
	arena_free(&arena);
}

static void
a_peer_gets_only_what_it_offers(void **state)
{
	static const struct mail_sender sender = {.addr = "a@b",
		.domain = "b",
		.size = 7,
		.body = MAIL_BODY_8BITMIME,
		.smtputf8 = true,
		.ret = MAIL_RET_HDRS,
		.envid = "q",
		.auth = "<>"};
	static const struct mail_rcpt rcpt = {
		.addr = "c@d", .domain = "d", .notify = "NEVER", .orcpt = "utf-8;\xc3\xa9@d"};
	static const struct {
		unsigned bits;
		const char *mail, *rcpt;
	} peers[] = {
		{0, "MAIL FROM:<a@b>", "RCPT TO:<c@d>"},
		{SMTP_CAP_SIZE, "MAIL FROM:<a@b> SIZE=9", "RCPT TO:<c@d>"},
		{SMTP_CAP_8BITMIME, "MAIL FROM:<a@b> BODY=8BITMIME", "RCPT TO:<c@d>"},
		{SMTP_CAP_SMTPUTF8, "MAIL FROM:<a@b> SMTPUTF8", "RCPT TO:<c@d>"},
		{SMTP_CAP_DSN, "MAIL FROM:<a@b> RET=HDRS ENVID=q", "RCPT TO:<c@d> NOTIFY=NEVER"},
		{SMTP_CAP_AUTH, "MAIL FROM:<a@b> AUTH=<>", "RCPT TO:<c@d>"},
		{SMTP_CAP_DSN | SMTP_CAP_SMTPUTF8, "MAIL FROM:<a@b> SMTPUTF8 RET=HDRS ENVID=q",
			"RCPT TO:<c@d> NOTIFY=NEVER ORCPT=utf-8;\xc3\xa9@d"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(peers); i++) {
		struct smtp_caps peer = {.bits = peers[i].bits};
		struct str out = STR_INIT;

		smtp_params_write_mail(&out, &sender, 9, &peer);
		assert_string_equal(str_text(&out), peers[i].mail);
		str_clear(&out);
		smtp_params_write_rcpt(&out, &rcpt, &peer);
		assert_string_equal(str_text(&out), peers[i].rcpt);
		str_deinit(&out);
	}
}

static void
the_domain_is_found(void **state)
{
	static const char *const cases[][3] = {
		{"TO:<a@b.c>", "a@b.c", "b.c"},
		{"TO:<\"a@x\"@b>", "\"a@x\"@b", "b"},
		{"TO:<@r:a@b>", "@r:a@b", "b"},
		{"TO:<postmaster>", "postmaster", ""},
	};
	struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct mail_rcpt rcpt;
		struct smtp_params_error why;
		struct err err;

		assert_int_equal(smtp_params_rcpt(cases[i][0], strlen(cases[i][0]), 0, false, arena,
					 &rcpt, &why, &err),
			0);
		assert_string_equal(rcpt.addr, cases[i][1]);
		assert_string_equal(rcpt.domain, cases[i][2]);
	}
	arena_free(&arena);
}

static const struct {
	const char *args;
	int64_t octets; /* -1: an error */
	bool last;
} bdats[] = {
	{"0", 0, false},
	{"0 LAST", 0, true},
	{"1234 last", 1234, true},
	{"1234  LAST", 1234, true},
	{"999999999999999999", 999999999999999999, false},
	{"1000000000000000000", -1, false},
	{"18446744073709551616", -1, false},
	{"", -1, false},
	{"LAST", -1, false},
	{"-1", -1, false},
	{"+1", -1, false},
	{"0x10", -1, false},
	{"1 LASTX", -1, false},
	{"1 LAST LAST", -1, false},
	{"1\tLAST", -1, false},
	{" 1", -1, false},
};

static void
a_chunk_size_cannot_overflow(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(bdats); i++) {
		int64_t octets = 0;
		bool last = false;
		struct err err = {.text = ""};
		int rc = smtp_params_bdat(
			bdats[i].args, strlen(bdats[i].args), &octets, &last, &err);

		assert_int_equal(rc, bdats[i].octets < 0 ? -1 : 0);
		if (rc < 0)
			continue;
		assert_true(octets == bdats[i].octets);
		assert_int_equal(last, bdats[i].last);
	}
}

static void
a_sender_may_lack_its_domain_only_where_that_is_known(void **state)
{
	static const struct {
		const char *args;
		unsigned more;
		const char *addr; /* NULL: refused */
	} cases[] = {
		{"FROM:<root>", 0, NULL},
		{"FROM:<root>", SMTP_PARAMS_BARE, "root"},
		{"FROM:<\"the boss\">", SMTP_PARAMS_BARE, "\"the boss\""},
		{"FROM:<root@>", SMTP_PARAMS_BARE, NULL},
		{"FROM:<>", SMTP_PARAMS_BARE, ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct arena *arena = arena_new();
		struct smtp_params_error why;
		struct mail_sender sender;
		struct err err;
		int rc = smtp_params_mail(cases[i].args, strlen(cases[i].args), ALL | cases[i].more, arena, &sender, &why,
			&err);

		assert_int_equal(rc, cases[i].addr != NULL ? 0 : -1);
		if (rc == 0) {
			assert_string_equal(sender.addr, cases[i].addr);
			assert_string_equal(sender.domain, "");
		} else {
			assert_string_equal(why.status, "5.1.7");
		}
		arena_free(&arena);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mail_is_understood_and_written_anew),
		cmocka_unit_test(bad_mail_says_what_is_wrong),
		cmocka_unit_test(rcpt_is_understood_and_written_anew),
		cmocka_unit_test(bad_rcpt_says_what_is_wrong),
		cmocka_unit_test(what_was_not_offered_is_not_known),
		cmocka_unit_test(a_peer_gets_only_what_it_offers),
		cmocka_unit_test(the_domain_is_found),
		cmocka_unit_test(a_chunk_size_cannot_overflow),
		cmocka_unit_test(a_sender_may_lack_its_domain_only_where_that_is_known),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
