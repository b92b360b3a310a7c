/* t/unit/test_envelope.c - the envelope of a run, whatever the filters before it have made of the message's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/list.h"
#include "base/str.h"
#include "filters/envelope.h"

static const struct mail_rcpt ann = {.addr = "a"}, bob = {.addr = "b"}, cat = {.addr = "c"}, dan = {.addr = "d"};
static const struct mail_rcpt *const all[] = {&ann, &bob, &cat, &dan};

/* "+x": one is added; "-x": removed; "<x": the sender. */
static void
ask_for(struct mail_edits *e, const char *word)
{
	const struct mail_sender sender = {.addr = word + 1};
	const struct mail_rcpt rcpt = {.addr = word + 1};

	if (*word == '+')
		mail_edit_add_rcpt(e, &rcpt);
	else if (*word == '-')
		mail_edit_remove_rcpt(e, word + 1);
	else if (*word == '<')
		mail_edit_sender(e, &sender);
}

static const char *
show(struct str *out, const struct mail_envelope *e)
{
	str_printf(out, "%s:", e->sender->addr);
	for (size_t i = 0; i < e->rcpt_count; i++)
		str_printf(out, "%s%s", i == e->own_count ? "+" : "", e->rcpts[i]->addr);
	return out->data;
}

static void
a_run_has_its_own_recipients_and_those_that_were_added(void **state)
{
	static const struct {
		const char *ours, *changes, *want;
	} cases[] = {
		{"abcd", "", "s:abcd"},
		{"ac", "", "s:ac"},
		{"d", "", "s:d"},
		{"abcd", "-b +x", "s:acd+x"},
		{"ac", "-b", "s:ac"},
		{"ac", "-a", "s:c"},
		{"ac", "-a -c", "s:"},
		{"bd", "-a -b -c +x +y <t", "t:d+xy"},
		{"b", "+x -x", "s:b"},
		{"b", "-b +b", "s:+b"},
		{"abcd", "-a -b -c -d", "s:"},
		{"c", "<", ":c"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		const struct mail_sender sender = {.addr = "s"};
		struct arena *arena = arena_new();
		struct mail_body body;
		const struct mail_msg msg = {.sender = &sender, .rcpts = all, .rcpt_count = 4, .body = &body, .arena = arena};
		struct filter_run run = {.msg = &msg, .arena = arena};
		size_t ours[4];
		struct mail_edits asked;
		struct mail_envelope got;
		struct str text = STR_INIT;
		char *rest = arena_strdup(arena, cases[i].changes), *word;

		mail_body_init(&body);
		mail_edits_init(&asked, arena);
		while ((word = strsep(&rest, " ")) != NULL)
			ask_for(&asked, word);
		run.seen = mail_edits_apply(arena, &body, NULL, &asked);
		for (const char *c = cases[i].ours; *c != '\0'; c++)
			ours[run.rcpt_count++] = (size_t)(*c - 'a');
		run.rcpts = ours;
		filter_envelope(&run, &got);
		if (strcmp(show(&text, &got), cases[i].want) != 0)
			fail_msg("%s of \"%s\": %s", cases[i].ours, cases[i].changes, text.data);
		str_deinit(&text);
		mail_body_deinit(&body);
		arena_free(&arena);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_run_has_its_own_recipients_and_those_that_were_added),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
