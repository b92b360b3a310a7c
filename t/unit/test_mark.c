/*
 * t/unit/test_mark.c - marks of ours that come in are removed, and no other field.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "filters/mark.h"
#include "t/unit/content.h"

static void
scanner_marks(const void *conf, struct filter_marks *marks)
{
	filter_mark_declare(marks, "X-Virus");
	(void)conf;
}

static void
spam_marks(const void *conf, struct filter_marks *marks)
{
	filter_mark_declare(marks, "X-Spam-*");
	filter_mark_declare_results(marks, "mx.example.org");
	(void)conf;
}

static const struct filter_kind scanner = {.marks = scanner_marks}, spam = {.marks = spam_marks}, other;
static const struct filter scanner_filter = {.kind = &scanner}, spam_filter = {.kind = &spam}, other_filter = {.kind = &other};

static const struct row {
	const char *what, *header, *want; /* NULL: as it was */
} rows[] = {
	{"no header", "", NULL},
	{"other fields stay", "Subject: x\r\nX-Spam: y\r\nX-Virus-Scanner: z\r\n", NULL},
	{"a mark goes, however it is spelt", "A: 1\r\nx-VIRUS : clean\r\nB: 2\r\n", "A: 1\r\nB: 2\r\n"},
	{"all of them go, with their folds", "X-Virus: a\r\n\tb\r\nA: 1\r\nX-Virus: c\r\n d\r\n", "A: 1\r\n"},
	{"all that begin so go", "X-Spam-Flag: NO\r\nX-SPAM-: \r\nX-Spam-Status: No\r\nA: 1\r\n", "A: 1\r\n"},
	{"results in our name go", "Authentication-Results: mx.example.org; spf=pass\r\nA: 1\r\n", "A: 1\r\n"},
	{"in any spelling", "authentication-results:MX.Example.org 1; none\r\nA: 1\r\n", "A: 1\r\n"},
	{"in quotes", "Authentication-Results: \"mx.example.org\"; none\r\nA: 1\r\n", "A: 1\r\n"},
	{"behind comments and folds", "Authentication-Results: (a (b\\) c) d)\r\n\t mx.example.org; none\r\nA: 1\r\n", "A: 1\r\n"},
	{"with a comment behind", "Authentication-Results: mx.example.org(x); none\r\nA: 1\r\n", "A: 1\r\n"},
	{"with nothing behind", "Authentication-Results: mx.example.org\r\nA: 1\r\n", "A: 1\r\n"},
	{"results in another name stay", "Authentication-Results: mx.example.net; spf=pass\r\n", NULL},
	{"and in a longer one", "Authentication-Results: mx.example.org.net; spf=pass\r\n", NULL},
	{"and in a shorter one", "Authentication-Results: mx.example; x=mx.example.org\r\n", NULL},
	{"and without any", "Authentication-Results:\r\nAuthentication-Results: (mx.example.org\r\nAuthentication-Results: \"\r\n", NULL},
};

static const struct mail_edits *
remove_marks(const struct filter_marks *marks, const char *listener, const struct mail_body *body, struct mail_edits *edits)
{
	const struct mail_origin origin = {.listener = listener};
	const struct mail_msg msg = {.origin = &origin, .body = body, .arena = edits->arena};

	return filter_marks_remove(marks, &msg, edits);
}

static void
check_row(const struct row *row)
{
	static const struct filter *const chain[] = {&scanner_filter, &other_filter, &spam_filter};
	struct arena *arena = arena_new();
	struct filter_marks *marks = filter_marks_new(arena);
	const struct mail_edits *version;
	struct mail_edits ours;
	struct mail_body body;
	const char *header;
	size_t len;

	for (size_t i = 0; i < ARRAY_COUNT(chain); i++)
		filter_marks_of(marks, chain[i]);
	filter_marks_chain(marks, chain, ARRAY_COUNT(chain), NULL);
	content_init(&body, arena_printf(arena, "%s\r\nX-Virus: in the body\r\n", row->header));
	mail_edits_init(&ours, arena);
	mail_edit_prepend(&ours, "Received: us\r\n");
	version = remove_marks(marks, "front", &body, &ours);
	if ((row->want == NULL) != (version == &ours))
		fail_msg("%s: %s", row->what, version == &ours ? "nothing was removed" : "something was removed");
	assert_int_equal(mail_edits_header(arena, &body, version, &header, &len), 0);
	if (strcmp(arena_strndup(arena, header, len),
		    arena_printf(arena, "Received: us\r\n%s", row->want != NULL ? row->want : row->header)) != 0)
		fail_msg("%s: %.*s", row->what, (int)len, header);
	mail_body_deinit(&body);
	arena_free(&arena);
}

static void
each_row_loses_what_claims_to_be_ours(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
		check_row(&rows[i]);
}

struct listeners_case {
	const char *listener, *want;
};

static void
check_listeners(const struct filter_marks *marks, const struct listeners_case *cases, size_t count)
{
	struct arena *arena = arena_new();
	struct mail_body body;

	content_init(&body, "X-Virus: 1\r\nX-Spam-A: 2\r\n\r\n");
	for (size_t i = 0; i < count; i++) {
		const struct mail_edits *version;
		struct mail_edits ours;
		const char *header;
		size_t len;

		mail_edits_init(&ours, arena);
		version = remove_marks(marks, cases[i].listener, &body, &ours);
		assert_int_equal(mail_edits_header(arena, &body, version, &header, &len), 0);
		assert_string_equal(arena_strndup(arena, header, len), cases[i].want);
	}
	mail_body_deinit(&body);
	arena_free(&arena);
}

/* The scanner holds on two listeners, the spam filter on another, and then on all where no rule has taken all. */
static void
only_the_filters_of_the_listener_count(void **state)
{
	static const struct filter *const scan[] = {&scanner_filter}, *const judge[] = {&spam_filter};
	static const struct listeners_case by_rules[] = {{"front", "X-Spam-A: 2\r\n"}, {"side", "X-Spam-A: 2\r\n"},
		{"back", "X-Virus: 1\r\n"}, {"none", "X-Virus: 1\r\nX-Spam-A: 2\r\n"}};
	static const struct listeners_case by_default[] = {
		{"front", ""}, {"side", ""}, {"back", "X-Virus: 1\r\n"}, {"none", "X-Virus: 1\r\n"}, {"open", "X-Virus: 1\r\nX-Spam-A: 2\r\n"}};
	struct config_word one[] = {{.text = "front"}, {.text = "side"}}, two[] = {{.text = "back"}}, three[] = {{.text = "open"}};
	const struct config_words scanned = {.list = one, .count = 2}, judged = {.list = two, .count = 1},
				  open = {.list = three, .count = 1};
	struct arena *arena = arena_new();
	struct filter_marks *marks = filter_marks_new(arena);

	(void)state;
	filter_marks_of(marks, &scanner_filter);
	filter_marks_chain(marks, scan, 1, &scanned);
	filter_marks_of(marks, &spam_filter);
	filter_marks_chain(marks, judge, 1, &judged);
	check_listeners(marks, by_rules, ARRAY_COUNT(by_rules));
	filter_marks_end(marks, &open);
	filter_marks_chain(marks, judge, 1, NULL);
	check_listeners(marks, by_default, ARRAY_COUNT(by_default));
	arena_free(&arena);
}

/* Each in one pass: a header can have a hundred thousand of them. */
static void
very_many_marks_cost_one_pass(void **state)
{
	static const struct filter *const chain[] = {&spam_filter};
	struct arena *arena = arena_new();
	struct filter_marks *marks = filter_marks_new(arena);
	const struct mail_edits *version;
	struct str text = STR_INIT;
	struct mail_edits ours;
	struct mail_body body;
	const char *header;
	size_t len;

	(void)state;
	filter_marks_of(marks, chain[0]);
	filter_marks_chain(marks, chain, 1, NULL);
	while (text.len < 900000)
		str_add(&text, "X-Spam-A:\r\nAuthentication-Results:mx.example.org\r\n");
	str_add(&text, "A: 1\r\n\r\n");
	content_init(&body, str_text(&text));
	mail_edits_init(&ours, arena);
	version = remove_marks(marks, "front", &body, &ours);
	assert_int_equal(mail_edits_header(arena, &body, version, &header, &len), 0);
	assert_string_equal(arena_strndup(arena, header, len), "A: 1\r\n");
	str_deinit(&text);
	mail_body_deinit(&body);
	arena_free(&arena);
}

static void
what_a_filter_adds_is_one_clean_line(void **state)
{
	struct arena *arena = arena_new();
	const struct mail_edits *version;
	struct mail_edits asked;
	struct filter_run run = {.arena = arena, .edits = &asked};
	struct mail_body body;
	const char *header;
	size_t len;

	(void)state;
	content_init(&body, "A: 1\r\n\r\n");
	mail_edits_init(&asked, arena);
	filter_mark(&run, "X-Virus", "Eicar\r\nEvil: yes\t\x01");
	filter_mark_results(&run, "mx.example.org", "x-virus=pass");
	version = mail_edits_apply(arena, &body, NULL, &asked);
	assert_int_equal(mail_edits_header(arena, &body, version, &header, &len), 0);
	header = arena_strndup(arena, header, len);
	assert_null(strstr(header, "\nEvil"));
	assert_ptr_equal(strstr(header, "Authentication-Results: mx.example.org; x-virus=pass\r\nA: 1\r\nX-Virus: Eicar"), header);
	mail_body_deinit(&body);
	arena_free(&arena);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_row_loses_what_claims_to_be_ours),
		cmocka_unit_test(only_the_filters_of_the_listener_count),
		cmocka_unit_test(very_many_marks_cost_one_pass),
		cmocka_unit_test(what_a_filter_adds_is_one_clean_line),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
