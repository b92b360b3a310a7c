/* t/unit/test_conditions.c - conditions of a filter against one message, asked in many ways. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/str.h"
#include "filters/conditions.h"
#include "filters/filter.h"
#include "filters/set.h"
#include "t/unit/content.h"

#define CERT  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define COLON "01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF"
#define SLOW  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"

static const char content[] = "Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?= aus\r\n"
			      " Wien\r\n"
			      "X-Spam: no\r\n"
			      "X-Spam: YES, 7.1\r\n"
			      "X-Slow: " SLOW "\r\n"
			      "\r\n"
			      "Subject: not this one\r\n";

static const struct config_section top = {
	.name = "",
	.help = "test",
	.arity = CONFIG_ONE,
	.sections = filter_sections,
};

/* One message from ann@a.example, 192.0.2.7, mail.a.example, on Tuesday, 2026-11-24 13:00 UTC. */
struct fixture {
	struct mail_origin origin;
	struct mail_sender sender;
	struct mail_body body;
	struct mail_edits seen;
	struct mail_msg msg;
	struct config *conf;
	struct conditions *conditions;
};

static void
set_up(struct fixture *f, const char *options)
{
	struct str text = STR_INIT;
	const struct filter_conf *written;

	memset(f, 0, sizeof(*f));
	str_printf(&text, "dummy d {\n%s\n}\n", options);
	config_load_text("t.conf", text.data, text.len, &top, &f->conf);
	written = config_find_named(f->conf, "filter", "d")->data[0];
	f->conditions = conditions_new(f->conf, &written->when, filter_options);
	str_deinit(&text);

	f->msg = (struct mail_msg){
		.origin = &f->origin, .sender = &f->sender, .body = &f->body, .arena = arena_new()};
	f->origin.client = (struct ip_addr){.family = AF_INET, .u.v4.s_addr = htonl(0xc0000207)};
	f->origin.helo = "mail.a.example";
	f->sender.addr = "ann@a.example";
	content_init(&f->body, content);
	mail_edits_init(&f->seen, f->msg.arena);
	mail_edit_prepend(&f->seen, "X-Added: by one before\r\n");
}

static void
tear_down(struct fixture *f)
{
	conditions_free(&f->conditions);
	config_unref(&f->conf);
	mail_body_deinit(&f->body);
	arena_free(&f->msg.arena);
}

static enum match_result
hold(struct fixture *f, struct err *err)
{
	struct conditions_facts facts = {.msg = &f->msg, .now = 1795525200};

	return conditions_hold(f->conditions, &facts, &f->seen, err);
}

enum how { CLEAR, TLS, WITH_CERT, UNIX, NULL_SENDER, EMPTY, ADDRESS_LIKE };

static const struct {
	const char *options;
	enum how how;
	enum match_result want;
} cases[] = {
	{"", CLEAR, MATCH_YES},
	{"timeout 1s", CLEAR, MATCH_YES},
	{"only_sender ann@a.example", CLEAR, MATCH_YES},
	{"only_sender x@x.example @A.example", CLEAR, MATCH_YES},
	{"only_sender bob@a.example", CLEAR, MATCH_NO},
	{"only_sender <>", CLEAR, MATCH_NO},
	{"only_sender <>", NULL_SENDER, MATCH_YES},
	{"skip_sender <>", NULL_SENDER, MATCH_NO},
	{"skip_sender @a.example", CLEAR, MATCH_NO},
	{"skip_sender @b.example", CLEAR, MATCH_YES},
	{"only_sender @a.example; skip_sender /^bob/", CLEAR, MATCH_YES},
	{"only_sender @a.example; skip_sender /^ann/", CLEAR, MATCH_NO},
	{"only_client 192.0.2.0/24", CLEAR, MATCH_YES},
	{"only_client 198.51.100.0/24 192.0.2.7", CLEAR, MATCH_YES},
	{"only_client ::1", CLEAR, MATCH_NO},
	{"only_client any", CLEAR, MATCH_YES},
	{"only_client unix", CLEAR, MATCH_NO},
	{"only_client unix", UNIX, MATCH_YES},
	{"only_client 192.0.2.0/24", UNIX, MATCH_NO},
	{"skip_client 192.0.2.7", CLEAR, MATCH_NO},
	{"skip_client 192.0.2.8", CLEAR, MATCH_YES},
	{"only_client 192.0.2.0/24; skip_client 192.0.2.7", CLEAR, MATCH_NO},
	{"skip_client any", CLEAR, MATCH_NO},
	{"only_helo mail.A.example", CLEAR, MATCH_YES},
	{"only_helo .a.example", CLEAR, MATCH_YES},
	{"only_helo .example", CLEAR, MATCH_YES},
	{"only_helo .mail.a.example", CLEAR, MATCH_NO},
	{"only_helo a.example", CLEAR, MATCH_NO},
	{"only_helo /^MAIL\\./", CLEAR, MATCH_YES},
	{"only_subject /^Gr\xc3\x9c\xc3\x9f" "e aus Wien$/", CLEAR, MATCH_YES},
	{"only_subject \"gr\xc3\xbc\xc3\x9f" "e aus wien\"", CLEAR, MATCH_YES},
	{"only_subject /utf-8/", CLEAR, MATCH_NO},
	{"only_subject /not this/", CLEAR, MATCH_NO},
	{"only_subject /^$/", CLEAR, MATCH_NO},
	{"only_subject /^$/", EMPTY, MATCH_YES},
	{"skip_subject /Wien/", CLEAR, MATCH_NO},
	/* a word is the whole of it: it stands for no domain */
	{"only_subject \"Ask bob@all.log\"", ADDRESS_LIKE, MATCH_YES},
	{"only_subject @all.log", ADDRESS_LIKE, MATCH_NO},
	{"only_subject .log", ADDRESS_LIKE, MATCH_NO},
	{"skip_subject .log", ADDRESS_LIKE, MATCH_YES},
	{"only_header X-Spam .1", CLEAR, MATCH_NO},
	{"only_subject <>", EMPTY, MATCH_NO},
	{"only_subject \"\"", EMPTY, MATCH_YES},
	{"skip_subject /Graz/", CLEAR, MATCH_YES},
	{"only_header X-Spam /^yes/", CLEAR, MATCH_YES},
	{"only_header x-spam /^no$/", CLEAR, MATCH_YES},
	{"only_header X-Spam maybe no", CLEAR, MATCH_YES},
	{"only_header X-Spam /perhaps/", CLEAR, MATCH_NO},
	{"only_header X-None /./", CLEAR, MATCH_NO},
	{"only_header X-None /^/", CLEAR, MATCH_NO},
	{"only_header X-Added /one before/", CLEAR, MATCH_YES},
	{"only_header X-Slow /(a+)+$/", CLEAR, MATCH_ERROR},
	{"only_header X-Slow /(a+)+$/ /b$/", CLEAR, MATCH_YES},
	{"only_header X-Slow /(a+)+$/; only_subject /Wien/", CLEAR, MATCH_ERROR},
	{"only_header X-Slow /(a+)+$/; only_subject /Graz/", CLEAR, MATCH_NO},
	{"only_larger 10", CLEAR, MATCH_YES},
	{"only_larger 1K", CLEAR, MATCH_NO},
	{"only_smaller 1K", CLEAR, MATCH_YES},
	{"only_smaller 10", CLEAR, MATCH_NO},
	{"only_larger 10; only_smaller 1K", CLEAR, MATCH_YES},
	{"only_smaller 1", EMPTY, MATCH_YES},
	{"only_time \"0 13 24 11 * UTC\"", CLEAR, MATCH_YES},
	{"only_time \"1 13 * * * UTC\"", CLEAR, MATCH_NO},
	{"only_time @never \"* * * * tue UTC\"", CLEAR, MATCH_YES},
	{"only_time @never", CLEAR, MATCH_NO},
	{"only_tls yes", CLEAR, MATCH_NO},
	{"only_tls yes", TLS, MATCH_YES},
	{"only_tls yes", WITH_CERT, MATCH_YES},
	{"only_tls no", CLEAR, MATCH_YES},
	{"only_tls no", TLS, MATCH_NO},
	{"only_tls " CERT, CLEAR, MATCH_NO},
	{"only_tls " CERT, TLS, MATCH_NO},
	{"only_tls " CERT, WITH_CERT, MATCH_YES},
	{"only_tls " COLON, WITH_CERT, MATCH_YES},
	{"only_tls " CERT " no", CLEAR, MATCH_YES},
	/* all that are given must hold */
	{"only_sender @a.example; only_client 192.0.2.7; only_subject /wien/; only_tls no", CLEAR, MATCH_YES},
	{"only_sender @a.example; only_client 192.0.2.7; only_subject /wien/; only_tls yes", CLEAR, MATCH_NO},
	/* those on recipients are not asked here */
	{"only_recipient r@b.example", CLEAR, MATCH_YES},
};

static void
a_condition_holds_for_what_it_says(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct fixture f;
		struct err err;

		set_up(&f, cases[i].options);
		if (f.conf->error_count != 0)
			fail_msg("%s", TAILQ_FIRST(&f.conf->problems)->text);
		if (cases[i].how == TLS || cases[i].how == WITH_CERT)
			f.origin.tls_version = "TLSv1.3";
		if (cases[i].how == WITH_CERT)
			f.origin.tls_cert = CERT;
		if (cases[i].how == UNIX)
			f.origin.client = (struct ip_addr){.family = AF_UNIX};
		if (cases[i].how == NULL_SENDER)
			f.sender.addr = "";
		if (cases[i].how == EMPTY) {
			mail_body_deinit(&f.body);
			mail_body_init(&f.body);
		}
		if (cases[i].how == ADDRESS_LIKE) {
			mail_body_deinit(&f.body);
			content_init(&f.body, "Subject: ask bob@all.log\r\n\r\n");
		}
		if (hold(&f, &err) != cases[i].want)
			fail_msg("case %zu: %s", i, cases[i].options);
		tear_down(&f);
	}
}

static void
a_pattern_over_its_limits_is_named_with_its_option(void **state)
{
	struct fixture f;
	struct err err;

	(void)state;
	set_up(&f, "only_header X-Slow /(a+)+$/");
	assert_int_equal(hold(&f, &err), MATCH_ERROR);
	assert_string_equal(err.text, "only_header: pattern /(a+)+$/: match limit exceeded");
	tear_down(&f);
	set_up(&f, "skip_recipient /(a+)+$/");
	assert_int_equal(conditions_hold_for(f.conditions, SLOW, &err), MATCH_ERROR);
	assert_string_equal(err.text, "skip_recipient: pattern /(a+)+$/: match limit exceeded");
	tear_down(&f);
}

static void
recipients_are_asked_one_by_one(void **state)
{
	static const struct {
		const char *options, *recipient;
		bool asks;
		enum match_result want;
	} rows[] = {
		{"", "r@b.example", false, MATCH_YES},
		{"only_sender x@x.example", "r@b.example", false, MATCH_YES},
		{"only_recipient r@b.example", "R@b.example", true, MATCH_YES},
		{"only_recipient r@b.example", "s@b.example", true, MATCH_NO},
		{"skip_recipient r@b.example", "r@b.example", true, MATCH_NO},
		{"skip_recipient r@b.example", "s@b.example", true, MATCH_YES},
		{"only_recipient @b.example; skip_recipient r@b.example", "s@b.example", true, MATCH_YES},
		{"only_recipient @b.example; skip_recipient r@b.example", "r@b.example", true, MATCH_NO},
		{"only_recipient @b.example; skip_recipient r@b.example", "s@c.example", true, MATCH_NO},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		struct fixture f;
		struct err err;

		set_up(&f, rows[i].options);
		if (conditions_ask_recipient(f.conditions) != rows[i].asks ||
			conditions_hold_for(f.conditions, rows[i].recipient, &err) != rows[i].want)
			fail_msg("%s: %s", rows[i].options, rows[i].recipient);
		tear_down(&f);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_condition_holds_for_what_it_says),
		cmocka_unit_test(a_pattern_over_its_limits_is_named_with_its_option),
		cmocka_unit_test(recipients_are_asked_one_by_one),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
