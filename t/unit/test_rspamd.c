/* t/unit/test_rspamd.c - what rspamd is told, and what its answers make of a message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/list.h"
#include "filters/rspamd.h"
#include "t/unit/content.h"

static const char message[] = "Received: ours\r\nFrom: a@b.example\r\nX-A: 1\r\nSubject: hello\r\nX-A: 2\r\n"
			      "X-A: 3\r\n\r\nbody\r\n";

static struct fixture {
	struct arena *arena;
	struct mail_body body;
	struct mail_msg msg;
	struct mail_origin origin;
	struct mail_sender sender;
	struct mail_rcpt rcpts[2];
	const struct mail_rcpt *rcpt_list[2];
	size_t asked[2];
	struct mail_edits edits;
	struct rspamd_conf conf;
	struct log_ctx log;
	struct filter filter;
	struct filter_run run;
} f;

static void
begin(const char *content)
{
	static const int deeds[] = {
		[RSPAMD_NO_ACTION] = RSPAMD_DO_PASS,
		[RSPAMD_GREYLIST] = RSPAMD_DO_PASS,
		[RSPAMD_ADD_HEADER] = RSPAMD_DO_HEADER,
		[RSPAMD_REWRITE_SUBJECT] = RSPAMD_DO_SUBJECT,
		[RSPAMD_SOFT_REJECT] = RSPAMD_DO_TEMPFAIL,
		[RSPAMD_REJECT] = RSPAMD_DO_REJECT,
		[RSPAMD_DISCARD] = RSPAMD_DO_DISCARD,
		[RSPAMD_QUARANTINE] = RSPAMD_DO_QUARANTINE,
	};

	memset(&f, 0, sizeof(f));
	f.arena = arena_new();
	content_init(&f.body, content);
	f.sender = (struct mail_sender){.addr = "a@b.example", .domain = "b.example", .size = -1};
	f.rcpts[0] = (struct mail_rcpt){.addr = "c@d.example", .domain = "d.example"};
	f.rcpts[1] = (struct mail_rcpt){.addr = "e@d.example", .domain = "d.example"};
	for (size_t i = 0; i < 2; i++) {
		f.rcpt_list[i] = &f.rcpts[i];
		f.asked[i] = i;
	}
	f.origin = (struct mail_origin){.client_text = "192.0.2.7", .helo = "mx.b.example"};
	f.origin.client.family = AF_INET;
	f.msg = (struct mail_msg){.origin = &f.origin, .sender = &f.sender, .rcpts = f.rcpt_list, .rcpt_count = 2,
		.body = &f.body, .arena = f.arena};
	f.conf = (struct rspamd_conf){.path = "/checkv2", .spam_header = "X-Spam", .spam_value = "Yes",
		.rewrite = RSPAMD_REWRITE_BODY};
	memcpy(f.conf.deeds, deeds, sizeof(deeds));
	f.filter.name = "spam";
	f.log = (struct log_ctx){.who = "w0", .session = 0x7f3a01, .txn = 2};
	mail_edits_init(&f.edits, f.arena);
	f.run = (struct filter_run){.filter = &f.filter, .conf = &f.conf, .arena = f.arena, .msg = &f.msg, .rcpts = f.asked,
		.rcpt_count = 2, .edits = &f.edits, .log = &f.log};
}

static void
end(void)
{
	mail_body_deinit(&f.body);
	arena_free(&f.arena);
}

/* ---- answers -------------------------------------------------------------------------------- */

struct answer {
	const char *json;
	enum verdict_kind verdict;
	const char *want; /* the header as it is then; of one that does not deliver, the reply */
};

static const struct answer passed[] = {
	{"{\"action\":\"no action\"}", VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nX-A: 1\r\nSubject: hello\r\nX-A: 2\r\nX-A: 3\r\n"},
	{"{\"action\":\"greylist\"}", VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nX-A: 1\r\nSubject: hello\r\nX-A: 2\r\nX-A: 3\r\n"},
	{"{\"action\":\"add header\"}", VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nX-A: 1\r\nSubject: hello\r\nX-A: 2\r\nX-A: 3\r\nX-Spam: Yes\r\n"},
	{"{\"action\":\"rewrite subject\",\"subject\":\"*** hello\"}", VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nX-A: 1\r\nSubject: *** hello\r\nX-A: 2\r\nX-A: 3\r\n"},
	{"{\"action\":\"rewrite subject\"}", VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nX-A: 1\r\nSubject: [SPAM] hello\r\nX-A: 2\r\nX-A: 3\r\n"},
	{"{\"action\":\"rewrite subject\",\"subject\":\"\xc3\xa4\"}", VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nX-A: 1\r\nSubject: =?UTF-8?B?w6Q=?=\r\nX-A: 2\r\nX-A: 3\r\n"},
	/* what rspamd writes beside it does not matter */
	{"{\"is_skipped\":false,\"score\":1.5,\"required_score\":null,\"action\":\"no action\",\"symbols\":{\"A\":{\"name\":\"A\","
	 "\"score\":1.5,\"options\":[\"a\\u0000b\",\"\xff\"]}},\"messages\":{},\"milter\":null}", VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nX-A: 1\r\nSubject: hello\r\nX-A: 2\r\nX-A: 3\r\n"},
	/* removals: indices are those of the message that rspamd saw */
#define MILTER(block) "{\"action\":\"no action\",\"milter\":{" block "}}"
	{MILTER("\"remove_headers\":{\"x-a\":0}"), VERDICT_PASS, "Received: ours\r\nFrom: a@b.example\r\nSubject: hello\r\n"},
	{MILTER("\"remove_headers\":{\"X-A\":1}"), VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nSubject: hello\r\nX-A: 2\r\nX-A: 3\r\n"},
	{MILTER("\"remove_headers\":{\"X-A\":-1}"), VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nX-A: 1\r\nSubject: hello\r\nX-A: 2\r\n"},
	{MILTER("\"remove_headers\":{\"X-A\":[1,2]}"), VERDICT_PASS, "Received: ours\r\nFrom: a@b.example\r\nSubject: hello\r\nX-A: 3\r\n"},
	{MILTER("\"remove_headers\":{\"X-A\":[-1,1,3,1]}"), VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nSubject: hello\r\nX-A: 2\r\n"},
	{MILTER("\"remove_headers\":{\"X-A\":[2,0]}"), VERDICT_PASS, "Received: ours\r\nFrom: a@b.example\r\nSubject: hello\r\n"},
	{MILTER("\"remove_headers\":{\"X-A\":[4,-4,2147483648,-9223372036854775808],\"X-B\":0}"), VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nX-A: 1\r\nSubject: hello\r\nX-A: 2\r\nX-A: 3\r\n"},
	{MILTER("\"remove_headers\":{\"Received\":0,\"a b\":1}"), VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nX-A: 1\r\nSubject: hello\r\nX-A: 2\r\nX-A: 3\r\n"},
	/* additions, behind the removals whatever their order */
	{MILTER("\"add_headers\":{\"X-A\":\"4\"},\"remove_headers\":{\"X-A\":0}"), VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nSubject: hello\r\nX-A: 4\r\n"},
	{MILTER("\"remove_headers\":{\"X-A\":0},\"add_headers\":{\"X-B\":{\"value\":\"1\",\"order\":0}}"), VERDICT_PASS,
		"X-B: 1\r\nReceived: ours\r\nFrom: a@b.example\r\nSubject: hello\r\n"},
	{MILTER("\"remove_headers\":{\"X-A\":0},\"add_headers\":{\"X-B\":{\"value\":\"1\",\"order\":1}}"), VERDICT_PASS,
		"Received: ours\r\nX-B: 1\r\nFrom: a@b.example\r\nSubject: hello\r\n"},
	{MILTER("\"remove_headers\":{\"X-A\":0},\"add_headers\":{\"X-B\":{\"value\":\"1\"}}"), VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nSubject: hello\r\nX-B: 1\r\n"},
	{MILTER("\"remove_headers\":{\"X-A\":0},\"add_headers\":{\"X-B\":[\"1\",{\"value\":\"2\",\"order\":1},3,4.5]}"), VERDICT_PASS,
		"Received: ours\r\nX-B: 2\r\nFrom: a@b.example\r\nSubject: hello\r\nX-B: 1\r\nX-B: 3\r\nX-B: 4.50\r\n"},
	{MILTER("\"remove_headers\":{\"X-A\":0},\"add_headers\":{\"X-B\":{\"value\":\"1\",\"order\":-100}}"), VERDICT_PASS,
		"X-B: 1\r\nReceived: ours\r\nFrom: a@b.example\r\nSubject: hello\r\n"},
	{MILTER("\"remove_headers\":{\"X-A\":0},\"add_headers\":{\"X-B\":{\"value\":\"1\",\"order\":-1}}"), VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nSubject: hello\r\nX-B: 1\r\n"},
	/* values: folds stay folds, and nothing becomes a line of its own */
	{MILTER("\"remove_headers\":{\"X-A\":0},\"add_headers\":{\"X-B\":\"a;\\r\\n\\tb;\\n c\\r d\"}"), VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nSubject: hello\r\nX-B: a;\r\n\tb;\r\n c\r\n d\r\n"},
	{MILTER("\"remove_headers\":{\"X-A\":0},\"add_headers\":{\"X-B\":\"a\\r\\nX-Evil: 1\\n\\nbody\\r\\n \\r\\n\\u0007\\n\"}"), VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nSubject: hello\r\nX-B: a X-Evil: 1  body     \r\n"},
	{MILTER("\"remove_headers\":{\"X-A\":0},\"add_headers\":{\"X-B\":\"\\r\\n a\"}"), VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nSubject: hello\r\nX-B: a\r\n"},
	{MILTER("\"remove_headers\":{\"X-A\":0},\"add_headers\":{\"X-B\":\"\"}"), VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nSubject: hello\r\nX-B:\r\n"},
	{MILTER("\"remove_headers\":{\"X-A\":0},\"add_headers\":{\"X-B\":\"\xc3\xbc\\n \xc3\xbc\"}"), VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nSubject: hello\r\nX-B: =?UTF-8?B?w7wgw7w=?=\r\n"},
	/* names that are none are left out */
	{MILTER("\"remove_headers\":{\"X-A\":0},\"add_headers\":{\"X B\":\"1\",\"\":\"2\",\"X:\":\"3\",\"X\\r\\nY\":\"4\",\"received\":\"5\",\"\xc3\xbc\":"
		"\"6\"}"), VERDICT_PASS, "Received: ours\r\nFrom: a@b.example\r\nSubject: hello\r\n"},
	/* signatures */
	{"{\"action\":\"no action\",\"dkim-signature\":\"v=1;\\r\\n\\tb=x\",\"milter\":{\"remove_headers\":{\"X-A\":0}}}", VERDICT_PASS,
		"Received: ours\r\nDKIM-Signature: v=1;\r\n\tb=x\r\nFrom: a@b.example\r\nSubject: hello\r\n"},
	{"{\"action\":\"no action\",\"dkim-signature\":[\"1\",\"2\"],\"milter\":{\"remove_headers\":{\"X-A\":0}}}", VERDICT_PASS,
		"Received: ours\r\nDKIM-Signature: 1\r\nDKIM-Signature: 2\r\nFrom: a@b.example\r\nSubject: hello\r\n"},
	/* the block about the action */
	{"{\"action\":\"add header\",\"milter\":{\"remove_headers\":{\"X-A\":0},\"spam_header\":\"very\"}}", VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nSubject: hello\r\nX-Spam: very\r\n"},
	{"{\"action\":\"add header\",\"milter\":{\"spam_header\":{\"X-A\":\"spam\",\"X-C\":\"yes\"}}}", VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nSubject: hello\r\nX-A: spam\r\nX-C: yes\r\n"},
	{"{\"action\":\"reject\",\"milter\":{\"no_action\":true,\"remove_headers\":{\"X-A\":0}}}", VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nSubject: hello\r\nX-Rspamd-Action: reject\r\n"},
	{"{\"action\":\"add header\",\"milter\":{\"no_action\":false,\"remove_headers\":{\"X-A\":0}}}", VERDICT_PASS,
		"Received: ours\r\nFrom: a@b.example\r\nSubject: hello\r\nX-Spam: Yes\r\n"},
};

static const struct answer stopped[] = {
	{"{\"action\":\"soft reject\"}", VERDICT_TEMPFAIL, "451 4.7.1 please try again later"},
	{"{\"action\":\"soft reject\",\"messages\":{\"smtp_message\":\"Greylisted\"}}", VERDICT_TEMPFAIL, "451 4.7.1 Greylisted"},
	{"{\"action\":\"reject\"}", VERDICT_REJECT, "554 5.7.1 this message looks like spam"},
	{"{\"action\":\"reject\",\"messages\":{\"smtp_message\":\"no\\r\\n250 ok\\u0000\"}}", VERDICT_REJECT, "554 5.7.1 no\n250 ok"},
	{"{\"action\":\"reject\",\"messages\":{\"smtp_message\":5}}", VERDICT_REJECT, "554 5.7.1 this message looks like spam"},
	{"{\"action\":\"reject\",\"messages\":[\"x\"]}", VERDICT_REJECT, "554 5.7.1 this message looks like spam"},
	{"{\"action\":\"reject\",\"milter\":{\"reject\":\"discard\"}}", VERDICT_DISCARD, "0"},
	{"{\"action\":\"reject\",\"milter\":{\"reject\":\"quarantine\"},\"score\":7}", VERDICT_QUARANTINE, "0 rspamd: reject, score 7.00"},
	{"{\"action\":\"reject\",\"milter\":{\"reject\":\"other\"}}", VERDICT_REJECT, "554 5.7.1 this message looks like spam"},
	{"{\"action\":\"discard\"}", VERDICT_DISCARD, "0"},
	{"{\"action\":\"quarantine\"}", VERDICT_QUARANTINE, "0 rspamd: quarantine, score unknown"},
};

/* What must fail: a fault is never a pass. */
static const struct {
	const char *json, *want;
} failures[] = {
	{"", "its answer is no JSON: "},
	{"no action", "its answer is no JSON: "},
	{"{\"action\":\"no action\"", "its answer is no JSON: "},
	{"{\"action\":\"no action\"} {}", "its answer is no JSON: "},
	{"{\"action\":\"reject\",\"action\":\"no action\"}", "its answer is no JSON: "},
	{"[]", "its answer is no object"},
	{"[\"no action\"]", "its answer is no object"},
	{"{}", "its answer has no action that is known"},
	{"{\"action\":null}", "its answer has no action that is known"},
	{"{\"action\":0}", "its answer has no action that is known"},
	{"{\"action\":\"\"}", "its answer has no action that is known"},
	{"{\"action\":\"no_action\"}", "its answer has no action that is known"},
	{"{\"action\":\"No action\"}", "its answer has no action that is known"},
	{"{\"action\":\"accept\"}", "its answer has no action that is known"},
	{"{\"action\":\"no action \"}", "its answer has no action that is known"},
	{"{\"error\":\"cannot\\nscan\"}", "it says: cannot"},
	{"{\"error\":\"cannot\",\"action\":\"no action\"}", "it says: cannot"},
	{"{\"action\":\"no action\",\"milter\":[]}", "its answer has a milter block that is no object"},
	{MILTER("\"remove_headers\":[\"X-A\"]"), "its answer has remove_headers that are no object"},
	{MILTER("\"remove_headers\":{\"X-A\":\"1\"}"), "its answer has remove_headers that are no numbers"},
	{MILTER("\"remove_headers\":{\"X-A\":[1.5]}"), "its answer has remove_headers that are no numbers"},
	{MILTER("\"add_headers\":\"X-A\""), "its answer has add_headers that are no object"},
	{MILTER("\"add_headers\":{\"X-A\":true}"), "its answer has add_headers of a kind that nobody knows"},
	{MILTER("\"add_headers\":{\"X-A\":[[\"x\"]]}"), "its answer has add_headers of a kind that nobody knows"},
	{MILTER("\"add_headers\":{\"X-A\":{\"order\":1}}"), "its answer has add_headers of a kind that nobody knows"},
	{MILTER("\"add_headers\":{\"X-A\":{\"value\":\"1\",\"order\":\"1\"}}"), "its answer has add_headers of a kind that nobody knows"},
	{MILTER("\"change_from\":\"a b\""), "its answer has an address that is none"},
	{MILTER("\"change_from\":\"a@b> SIZE=1\""), "its answer has an address that is none"},
	{MILTER("\"change_from\":\"a@b\\r\\nDATA\""), "its answer has an address that is none"},
	{MILTER("\"change_from\":5"), "its answer has an address that is no text"},
	{MILTER("\"add_rcpt\":[\"\"]"), "its answer has an address that is none"},
	{MILTER("\"add_rcpt\":{\"a\":\"b\"}"), "its answer has an address that is no text"},
	{MILTER("\"add_rcpt\":[\"x@\xc3\xbc.example\"]"), "its answer has an address that is none"},
	{MILTER("\"del_rcpt\":[\"x@y\",\"<>\"]"), "its answer has an address that is none"},
	{MILTER("\"reject\":true"), "its answer has a reject that is no word"},
	{MILTER("\"spam_header\":1"), "its answer has a spam_header that is no text"},
	{"{\"action\":\"add header\",\"milter\":{\"spam_header\":{\"X\":1}}}", "its answer has a spam_header that is no text"},
	{MILTER("\"no_action\":\"yes\""), "its answer has a no_action that is neither true nor false"},
	{"{\"action\":\"no action\",\"dkim-signature\":5}", "its answer has a dkim-signature that is no text"},
	{"{\"action\":\"no action\",\"dkim-signature\":[5]}", "its answer has a dkim-signature that is no text"},
};

static enum filter_step
answer(const char *json)
{
	return rspamd_answer(&f.run, json, strlen(json));
}

static const char *
edited_head(void)
{
	const struct mail_edits *version = mail_edits_apply(f.arena, &f.body, NULL, &f.edits);
	const char *text;
	size_t len;

	assert_non_null(version);
	assert_int_equal(mail_edits_header(f.arena, &f.body, version, &text, &len), 0);
	return arena_strndup(f.arena, text, len);
}

static const char *
reply_text(void)
{
	const struct mail_verdict *v = &f.run.verdict;
	struct str out = STR_INIT;
	const char *text;

	str_printf(&out, "%d", v->code);
	if (v->status != NULL)
		str_printf(&out, " %s", v->status);
	if (v->text != NULL)
		str_printf(&out, " %s", v->text);
	text = arena_strdup(f.arena, out.data);
	str_deinit(&out);
	return text;
}

static void
an_answer_that_delivers_edits_what_it_names_and_nothing_else(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(passed); i++) {
		begin(message);
		if (answer(passed[i].json) != FILTER_NEXT)
			fail_msg("%s: fails: %s", passed[i].json, f.run.err.text);
		if (strcmp(edited_head(), passed[i].want) != 0)
			fail_msg("%s: becomes\n%s, not\n%s", passed[i].json, edited_head(), passed[i].want);
		end();
	}
}

static void
an_answer_that_does_not_deliver_has_a_clean_reply(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(stopped); i++) {
		begin(message);
		if (answer(stopped[i].json) != FILTER_STOP || f.run.verdict.kind != stopped[i].verdict)
			fail_msg("%s: another verdict (%s)", stopped[i].json, f.run.err.text);
		assert_string_equal(reply_text(), stopped[i].want);
		end();
	}
}

static void
an_answer_that_is_none_fails(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(failures); i++) {
		begin(message);
		if (answer(failures[i].json) != FILTER_ERROR)
			fail_msg("%s: does not fail", failures[i].json);
		if (strncmp(f.run.err.text, failures[i].want, strlen(failures[i].want)) != 0)
			fail_msg("%s: says \"%s\"", failures[i].json, f.run.err.text);
		end();
	}
}

/* Every action by every deed: what is done is what was configured. */
static void
each_action_can_be_taken_for_something_else(void **state)
{
	static const struct {
		enum filter_step how;
		enum verdict_kind kind;
	} want[] = {
		[RSPAMD_DO_PASS] = {FILTER_NEXT, VERDICT_PASS},
		[RSPAMD_DO_HEADER] = {FILTER_NEXT, VERDICT_PASS},
		[RSPAMD_DO_SUBJECT] = {FILTER_NEXT, VERDICT_PASS},
		[RSPAMD_DO_TEMPFAIL] = {FILTER_STOP, VERDICT_TEMPFAIL},
		[RSPAMD_DO_REJECT] = {FILTER_STOP, VERDICT_REJECT},
		[RSPAMD_DO_DISCARD] = {FILTER_STOP, VERDICT_DISCARD},
		[RSPAMD_DO_QUARANTINE] = {FILTER_STOP, VERDICT_QUARANTINE},
	};

	(void)state;
	for (int action = 0; action < RSPAMD_ACTION_COUNT; action++)
		for (size_t deed = 0; deed < ARRAY_COUNT(want); deed++) {
			begin(message);
			f.conf.deeds[action] = (int)deed;
			f.conf.subject_tag = "[tag]";
			assert_int_equal(answer(arena_printf(f.arena, "{\"action\":\"%s\"}", rspamd_action_names[action])),
				want[deed].how);
			if (want[deed].how == FILTER_STOP)
				assert_int_equal(f.run.verdict.kind, want[deed].kind);
			else
				assert_int_equal(strstr(edited_head(), "X-Spam: Yes") != NULL, deed == RSPAMD_DO_HEADER);
			if (want[deed].how == FILTER_NEXT)
				assert_int_equal(strstr(edited_head(), "Subject: [tag] hello\r\n") != NULL, deed == RSPAMD_DO_SUBJECT);
			end();
		}
}

static void
the_envelope_is_edited_as_the_block_says(void **state)
{
	static const enum mail_edit_kind want[] = {MAIL_EDIT_SENDER, MAIL_EDIT_ADD_RCPT, MAIL_EDIT_ADD_RCPT, MAIL_EDIT_REMOVE_RCPT};
	const struct mail_edit *edit;
	size_t count = 0;

	(void)state;
	begin("A: 1\r\n\r\n");
	assert_int_equal(answer(MILTER("\"change_from\":\"new@f.example\",\"add_rcpt\":[\"<x@f.example>\",\"@r:\\\"q> \\\"@f.example\"],"
				       "\"del_rcpt\":\"c@d.example\"")), FILTER_NEXT);
	STAILQ_FOREACH(edit, &f.edits.list, next) {
		assert_true(count < ARRAY_COUNT(want));
		assert_int_equal(edit->kind, want[count]);
		count++;
	}
	assert_int_equal(count, ARRAY_COUNT(want));
	edit = STAILQ_FIRST(&f.edits.list);
	assert_string_equal(edit->sender->addr, "new@f.example");
	assert_string_equal(edit->sender->domain, "f.example");
	edit = STAILQ_NEXT(edit, next);
	assert_string_equal(edit->rcpt->addr, "x@f.example");
	edit = STAILQ_NEXT(edit, next);
	assert_string_equal(edit->rcpt->domain, "f.example");
	end();

	begin("A: 1\r\n\r\n");
	assert_int_equal(answer(MILTER("\"change_from\":\"<>\"")), FILTER_NEXT);
	assert_string_equal(STAILQ_FIRST(&f.edits.list)->sender->addr, "");
	end();
}

static void
the_number_of_edits_is_bounded(void **state)
{
	struct str json = STR_INIT;

	(void)state;
	for (int count = RSPAMD_EDITS_MAX; count <= RSPAMD_EDITS_MAX + 1; count++) {
		begin("A: 1\r\n\r\n");
		str_clear(&json);
		str_add(&json, "{\"action\":\"no action\",\"milter\":{\"add_headers\":{\"X\":[\"0\"");
		for (int i = 1; i < count; i++)
			str_printf(&json, ",\"%d\"", i);
		str_add(&json, "]}}}");
		assert_int_equal(answer(json.data), count <= RSPAMD_EDITS_MAX ? FILTER_NEXT : FILTER_ERROR);
		end();
	}
	/* Those that are not there have to be looked for. */
	for (int count = RSPAMD_EDITS_MAX; count <= RSPAMD_EDITS_MAX + 1; count++) {
		begin("A: 1\r\n\r\n");
		str_clear(&json);
		str_add(&json, "{\"action\":\"no action\",\"milter\":{\"remove_headers\":{\"X\":0");
		for (int i = 1; i < count; i++)
			str_printf(&json, ",\"X%d\":%d", i, i % 3);
		str_add(&json, "}}}");
		assert_int_equal(answer(json.data), count <= RSPAMD_EDITS_MAX ? FILTER_NEXT : FILTER_ERROR);
		end();
	}
	str_deinit(&json);
}

static void
a_field_that_is_too_long_is_left_out(void **state)
{
	struct str json = STR_INIT;

	(void)state;
	for (size_t len = 990; len <= 1000; len++) {
		begin("A: 1\r\n\r\n");
		str_clear(&json);
		str_add(&json, "{\"action\":\"no action\",\"milter\":{\"add_headers\":{\"X\":\"");
		for (size_t i = 0; i < len; i++)
			str_addc(&json, 'x');
		str_add(&json, "\"}}}");
		assert_int_equal(answer(json.data), FILTER_NEXT);
		assert_int_equal(STAILQ_EMPTY(&f.edits.list), len + 3 > 998);
		end();
	}
	str_deinit(&json);
}

static void
who_said_smtputf8_gets_octets_as_they_are(void **state)
{
	(void)state;
	begin("A: 1\r\n\r\n");
	f.sender.smtputf8 = true;
	assert_int_equal(answer(MILTER("\"add_headers\":{\"X\":\"\xc3\xbc\"},\"add_rcpt\":[\"x@\xc3\xbc.example\"]")), FILTER_NEXT);
	assert_string_equal(STAILQ_FIRST(&f.edits.list)->text, "\xc3\xbc");
	end();
}

static void
a_mark_takes_the_place_of_those_that_are_there(void **state)
{
	(void)state;
	begin("X-Spam: No\r\nX-Spam-Status: No\r\nX-Rspamd-Score: 0\r\nx-spam: 2\r\nA: 1\r\n\r\n");
	f.conf.report = true;
	assert_int_equal(answer("{\"action\":\"add header\",\"score\":7,\"required_score\":15.0}"), FILTER_NEXT);
	assert_string_equal(edited_head(), "A: 1\r\nX-Spam: Yes\r\nX-Spam-Status: Yes, score=7.00 required=15.00 action=\"add header\"\r\n"
					   "X-Rspamd-Score: 7.00\r\n");
	end();
}

/* ---- requests ------------------------------------------------------------------------------- */

static const char *
request(void)
{
	struct str out = STR_INIT;
	const char *text;

	rspamd_request(&f.run, "127.0.0.1:11333", 4711, &out);
	text = arena_strdup(f.arena, str_text(&out));
	str_deinit(&out);
	return text;
}

static void
rspamd_is_told_all_that_is_known(void **state)
{
	(void)state;
	begin("Received: from x by y id 4Zk1Qx; Tue, 24 Nov 2026 16:00:00 +0000\r\nA: 1\r\n\r\n");
	f.origin.tls_version = "TLSv1.3";
	f.origin.tls_cipher = "TLS_AES_256_GCM_SHA384";
	assert_string_equal(request(), "POST /checkv2 HTTP/1.1\r\nHost: 127.0.0.1:11333\r\nConnection: close\r\nIP: 192.0.2.7\r\n"
				       "Helo: mx.b.example\r\nTLS-Version: TLSv1.3\r\nTLS-Cipher: TLS_AES_256_GCM_SHA384\r\n"
				       "From: <a@b.example>\r\nRcpt: <c@d.example>\r\nRcpt: <e@d.example>\r\nQueue-Id: 4Zk1Qx\r\n"
				       "Log-Tag: 7f3a01-2\r\nFlags: milter,body_block\r\nContent-Length: 4711\r\n\r\n");
	end();
}

static void
what_is_not_known_is_left_out(void **state)
{
	(void)state;
	begin("A: 1\r\n\r\n");
	f.origin.client.family = AF_UNIX;
	f.origin.helo = "";
	f.sender.addr = "";
	f.run.rcpt_count = 1;
	f.asked[0] = 1;
	f.conf.rewrite = RSPAMD_REWRITE_NO;
	assert_string_equal(request(), "POST /checkv2 HTTP/1.1\r\nHost: 127.0.0.1:11333\r\nConnection: close\r\nFrom: <>\r\n"
				       "Rcpt: <e@d.example>\r\nDeliver-To: e@d.example\r\nQueue-Id: 7f3a01-2\r\nLog-Tag: 7f3a01-2\r\n"
				       "Flags: milter\r\nContent-Length: 4711\r\n\r\n");
	end();
}

static void
options_become_fields(void **state)
{
	const struct config_word flags[] = {{.text = "groups"}, {.text = "no_log"}};

	(void)state;
	begin("A: 1\r\n\r\n");
	f.run.rcpt_count = 0;
	f.conf.rewrite = RSPAMD_REWRITE_MESSAGE;
	f.conf.user = "ann";
	f.conf.mta_name = "mx.d.example";
	f.conf.mta_tag = "out";
	f.conf.settings_id = "outgoing";
	f.conf.settings = "{\"a\":1}";
	f.conf.pass_all = true;
	f.conf.flags = (struct config_words){flags, 2};
	assert_non_null(strstr(request(), "\r\nUser: ann\r\nMTA-Name: mx.d.example\r\nMTA-Tag: out\r\nSettings-ID: outgoing\r\n"
					  "Settings: {\"a\":1}\r\nPass: all\r\nFlags: body_block,groups,no_log\r\nContent-Length: "));
	end();
}

static void
no_value_becomes_a_line(void **state)
{
	const char *text;

	(void)state;
	begin("Received: from x by y id A\r\n\tB;\r\nA: 1\r\n\r\n");
	f.origin.helo = "x\r\nPass: all";
	f.rcpts[0].addr = "\"c\n\r\t\x7f\"@d.example";
	text = request();
	assert_non_null(strstr(text, "\r\nHelo: x  Pass: all\r\n"));
	assert_non_null(strstr(text, "\r\nRcpt: <\"c    \"@d.example>\r\n"));
	end();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_answer_that_delivers_edits_what_it_names_and_nothing_else),
		cmocka_unit_test(an_answer_that_does_not_deliver_has_a_clean_reply),
		cmocka_unit_test(an_answer_that_is_none_fails),
		cmocka_unit_test(each_action_can_be_taken_for_something_else),
		cmocka_unit_test(the_envelope_is_edited_as_the_block_says),
		cmocka_unit_test(the_number_of_edits_is_bounded),
		cmocka_unit_test(a_field_that_is_too_long_is_left_out),
		cmocka_unit_test(who_said_smtputf8_gets_octets_as_they_are),
		cmocka_unit_test(a_mark_takes_the_place_of_those_that_are_there),
		cmocka_unit_test(rspamd_is_told_all_that_is_known),
		cmocka_unit_test(what_is_not_known_is_left_out),
		cmocka_unit_test(options_become_fields),
		cmocka_unit_test(no_value_becomes_a_line),
	};

	const struct log_conf quiet = {.target = LOG_TO_FILE, .path = "/dev/null", .level = LOG_LEVEL_DEBUG};
	struct err err;

	cmocka_set_message_output(CM_OUTPUT_TAP);
	if (log_open(&quiet, &err) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
