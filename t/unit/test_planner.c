/*
 * t/unit/test_planner.c - rules, recipients and verdicts, and what follows: which filters run for whom, who is put
 * off at RCPT, which versions of the message there are, and the reply.
 *
 * The recipients are ann@one.example, bob@two.example, cat@one.example and dan@three.example, written a b c d. Each case
 * is asked twice: with all recipients in one message, as where each has a reply of its own; and at RCPT, one
 * after the other, which of them has to come in a transaction of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "filters/filter.h"
#include "filters/rules.h"
#include "filters/set.h"
#include "proxy/settle.h"

/* ---- filters that do what they are told ---- */

static struct str runs;

enum does { DO_PASS, DO_REJECT, DO_TEMPFAIL, DO_DISCARD, DO_ACCEPT, DO_QUARANTINE, DO_DISCONNECT, DO_ERROR };
static const char *const does_words[] = {
	"pass", "reject", "tempfail", "discard", "accept", "quarantine", "disconnect", "error", NULL};

struct test_conf {
	int does;
	const char *answers;
};
static const struct config_option test_options[] = {
	CONFIG_ENUM("does", struct test_conf, does, "pass", does_words, "its verdict"),
	CONFIG_STRING("answers", struct test_conf, answers, NULL, "of pair: one letter for each recipient, - for nothing to say"),
	CONFIG_END};

static const char *
list_letters(const size_t *list, size_t count)
{
	static char letters[8];

	for (size_t i = 0; i < count; i++)
		letters[i] = (char)('a' + list[i]);
	letters[count] = '\0';
	return letters;
}

static enum filter_step
say(struct filter_run *run, int does)
{
	switch (does) {
	case DO_REJECT:
		return filter_reject(run, 0, NULL, run->filter->name);
	case DO_TEMPFAIL:
		return filter_tempfail(run, 0, NULL, NULL);
	case DO_DISCARD:
		return filter_discard(run);
	case DO_ACCEPT:
		return filter_accept(run);
	case DO_QUARANTINE:
		return filter_quarantine(run, "told to");
	case DO_DISCONNECT:
		return filter_disconnect(run, NULL, NULL);
	case DO_ERROR:
		return filter_fail(run, "told to fail");
	default:
		return FILTER_NEXT;
	}
}

static enum filter_step
test_message(struct filter_run *run)
{
	const struct test_conf *conf = run->conf;

	str_printf(&runs, "%s%s:%s", runs.len > 0 ? " " : "", run->filter->name, list_letters(run->rcpts, run->rcpt_count));
	if ((run->filter->may & FILTER_MAY(MAIL_EDIT_PREPEND)) != 0 && conf->does != DO_ERROR)
		mail_edit_prepend(run->edits, arena_printf(run->arena, "X: %s\r\n", run->filter->name));
	return say(run, conf->does);
}

/* The same letter is the same answer: r refuses, d drops; ? is not known. */
static int
pair_choose(const void *own, const char *sender, const char *rcpt, const void **answer_r, struct err *err)
{
	static const char letters[] = "rd";
	const struct test_conf *conf = own;
	const char *letter = strchr(letters, conf->answers[rcpt[0] - 'a']);

	(void)sender;
	if (conf->answers[rcpt[0] - 'a'] == '?')
		return err_set(err, "not known");
	*answer_r = letter;
	return 0;
}

static enum filter_step
pair_message(struct filter_run *run)
{
	const char *answer = run->filter->answer;

	str_printf(&runs, "%s%s:%s", runs.len > 0 ? " " : "", run->filter->name, list_letters(run->rcpts, run->rcpt_count));
	return say(run, *answer == 'r' ? DO_REJECT : DO_DISCARD);
}

extern const struct filter_kind filter_edit, filter_look, filter_pair;
const struct filter_kind filter_edit = {
	FILTER_SECTION(edit, "edits", test_options, struct test_conf),
	.may = FILTER_MAY(MAIL_EDIT_PREPEND),
	.message = test_message,
};
const struct filter_kind filter_look = {
	FILTER_SECTION(look, "inspects", test_options, struct test_conf),
	.inspects = true,
	.message = test_message,
};
const struct filter_kind filter_pair = {
	FILTER_SECTION(pair, "answers each recipient apart", test_options, struct test_conf),
	.inspects = true,
	.choose = pair_choose,
	.message = pair_message,
};

#define FILTERS                                                                                    \
	"edit mark { }\nedit note { }\nlook virus { }\nlook spam { }\n"                            \
	"look bad { does reject }\nlook worse { does reject }\nedit later { does tempfail }\n"     \
	"look drop { does discard }\nlook fine { does accept }\nlook aside { does quarantine }\n"  \
	"look bye { does disconnect }\nedit broken { does error }\n"                               \
	"edit weak { does error; on_failure pass }\nlook shy { does reject; shadow yes }\n"        \
	"edit one { only_recipient @one.example }\nlook notbob { skip_recipient bob@two.example; does reject }\n" \
	"look joe { only_sender joe@example.net; does reject }\nlook ann { only_sender ann@example.net; does reject }\n" \
	"pair pair { answers -r-r }\npair both { answers rd-- }\npair odd { answers ?-?r }\n" \
	"pair lax { answers ?-?r; on_failure pass }\npair glance { answers ???r; shadow yes }\n"

/* ---- the specification ---- */

static const struct {
	const char *rules;
	const char *rcpts;
	const char *runs;  /* each filter with those for whom it runs, in the order in which it does */
	const char *alone; /* who hears 452 at RCPT, when they are given in this order */
	const char *ends;  /* recipients with the same end: verdict, and the filters whose edits they get */
	const char *reply; /* to all of them in one message */
} cases[] = {
	/* without rules */
	{"", "abcd", "", "", "abcd=pass", "250 to abcd"},
	{"default_chain none", "ab", "", "", "ab=pass", "250 to ab"},
	{"default_chain virus", "abcd", "virus:abcd", "", "abcd=pass", "250 to abcd"},
	{"default_chain mark virus note", "abc", "mark:abc virus:abc note:abc", "", "abc=pass+note+mark", "250 to abc"},
	/* the first rule that matches */
	{"rule { chain mark }\nrule { chain note }", "ab", "mark:ab", "", "ab=pass+mark", "250 to ab"},
	{"rule { recipient @one.example; chain mark }\ndefault_chain note", "ab", "mark:a note:b", "b",
		"a=pass+mark b=pass+note", "451 one by one"},
	{"rule { recipient @one.example; chain mark }\ndefault_chain mark", "abcd", "mark:abcd", "", "abcd=pass+mark",
		"250 to abcd"},
	{"rule { recipient @one.example; chain mark }", "ac", "mark:ac", "", "ac=pass+mark", "250 to ac"},
	{"rule { recipient @one.example; chain virus }", "abcd", "virus:ac", "bd", "abcd=pass", "250 to abcd"},
	{"rule { recipient bob@two.example; chain none }\ndefault_chain mark", "ba", "mark:a", "a",
		"b=pass a=pass+mark", "451 one by one"},
	{"rule { sender joe@example.net; chain mark }\ndefault_chain note", "ab", "mark:ab", "", "ab=pass+mark",
		"250 to ab"},
	{"rule { sender ann@example.net; chain mark }\ndefault_chain note", "ab", "note:ab", "", "ab=pass+note",
		"250 to ab"},
	{"rule { listener out; chain bad }\ndefault_chain virus", "a", "virus:a", "", "a=pass", "250 to a"},
	{"rule { client 192.0.2.0/24; chain mark }\nrule { chain bad }", "a", "mark:a", "", "a=pass+mark", "250 to a"},
	{"rule { client 198.51.100.0/24 unix; chain bad }\nrule { chain mark }", "a", "mark:a", "", "a=pass+mark",
		"250 to a"},
	{"rule { time \"* 13 * * tue UTC\"; chain mark }\nrule { chain bad }", "a", "mark:a", "", "a=pass+mark", "250 to a"},
	{"rule { time \"* 13 * * sun UTC\" @never; chain bad }\nrule { chain mark }", "a", "mark:a", "", "a=pass+mark",
		"250 to a"},
	{"rule { sender joe@example.net; recipient @one.example; client 192.0.2.7; time @always; chain bad }", "ab",
		"bad:a", "b", "a=reject b=pass", "451 one by one"},
	/* what chains have in common at their beginning runs once */
	{"rule { recipient @one.example; chain virus mark }\ndefault_chain virus note", "abcd",
		"virus:abcd mark:ac note:bd", "bd", "ac=pass+mark bd=pass+note", "451 one by one"},
	{"rule { recipient @one.example; chain virus spam }\ndefault_chain virus", "abc", "virus:abc spam:ac", "b",
		"abc=pass", "250 to abc"},
	{"rule { recipient @one.example; chain virus spam mark }\ndefault_chain virus spam", "abc",
		"virus:abc spam:abc mark:ac", "b", "ac=pass+mark b=pass", "451 one by one"},
	{"rule { recipient @one.example; chain virus spam }\ndefault_chain spam virus", "ab",
		"virus:a spam:a spam:b virus:b", "b", "ab=pass", "250 to ab"},
	{"rule { recipient @one.example; chain mark virus }\ndefault_chain note virus", "ab",
		"mark:a virus:a note:b virus:b", "b", "a=pass+mark b=pass+note", "451 one by one"},
	{"rule { recipient bob@two.example; chain mark }\nrule { recipient dan@three.example; chain mark note }\n"
	 "default_chain mark note virus",
		"abcd", "mark:abcd note:acd virus:ac", "bd", "acd=pass+note+mark b=pass+mark",
		"451 one by one"},
	/* verdicts end a chain for those who have it */
	{"default_chain bad virus", "ab", "bad:ab", "", "ab=reject", "550"},
	{"default_chain mark bad", "a", "mark:a bad:a", "", "a=reject", "550"},
	{"default_chain later virus", "ab", "later:ab", "", "ab=tempfail", "451"},
	{"default_chain drop virus", "ab", "drop:ab", "", "ab=discard", "250 to nobody"},
	{"default_chain mark fine bad", "ab", "mark:ab fine:ab", "", "ab=accept+mark", "250 to ab"},
	{"default_chain aside virus", "ab", "aside:ab", "", "ab=quarantine", "250 to nobody"},
	{"default_chain bye virus", "ab", "bye:ab", "", "ab=disconnect", "421"},
	{"default_chain virus spam bad mark", "a", "virus:a spam:a bad:a", "", "a=reject", "550"},
	{"rule { recipient @one.example; chain bad }\ndefault_chain worse", "ab", "bad:a worse:b", "b",
		"a=reject b=reject", "550"},
	{"rule { recipient @one.example; chain bad }\ndefault_chain later", "ab", "bad:a later:b", "b",
		"a=reject b=tempfail", "451 one by one"},
	{"rule { recipient @one.example; chain drop }\ndefault_chain mark", "ab", "drop:a mark:b", "b",
		"a=discard b=pass+mark", "250 to b"},
	{"rule { recipient @one.example; chain aside }\ndefault_chain virus", "abc", "aside:ac virus:b", "b",
		"ac=quarantine b=pass", "250 to b"},
	{"rule { recipient @one.example; chain fine }\ndefault_chain virus", "ab", "fine:a virus:b", "b", "ab=accept",
		"250 to ab"},
	{"rule { recipient @one.example; chain bad }\ndefault_chain virus", "abcd", "bad:ac virus:bd", "bd",
		"ac=reject bd=pass", "451 one by one"},
	{"rule { recipient @one.example; chain drop }\ndefault_chain bad", "ab", "drop:a bad:b", "b", "a=discard b=reject",
		"451 one by one"},
	/* a fault is on_failure's verdict, and none of its edits count */
	{"default_chain mark broken note", "a", "mark:a broken:a", "", "a=tempfail", "451"},
	{"default_chain mark weak note", "a", "mark:a weak:a note:a", "", "a=pass+note+mark", "250 to a"},
	{"rule { recipient @one.example; chain broken }\ndefault_chain virus", "ab", "broken:a virus:b", "b",
		"a=tempfail b=pass", "451 one by one"},
	/* shadow changes nothing */
	{"default_chain shy mark", "ab", "shy:ab mark:ab", "", "ab=pass+mark", "250 to ab"},
	/* conditions on the recipient part chains, others do not */
	{"default_chain one virus", "abcd", "one:ac virus:ac virus:bd", "bd", "ac=pass+one bd=pass", "451 one by one"},
	{"default_chain one virus", "ac", "one:ac virus:ac", "", "ac=pass+one", "250 to ac"},
	{"default_chain one virus", "bd", "virus:bd", "", "bd=pass", "250 to bd"},
	{"default_chain virus notbob", "ab", "virus:ab notbob:a", "b", "a=reject b=pass", "451 one by one"},
	{"default_chain joe virus", "ab", "joe:ab", "", "ab=reject", "550"},
	{"default_chain ann virus", "ab", "virus:ab", "", "ab=pass", "250 to ab"},
	/* so do filters that answer each recipient apart */
	{"default_chain pair virus", "abcd", "virus:ac pair:bd", "bd", "ac=pass bd=reject", "451 one by one"},
	{"default_chain pair virus", "bd", "pair:bd", "", "bd=reject", "550"},
	{"default_chain pair virus", "ac", "virus:ac", "", "ac=pass", "250 to ac"},
	{"default_chain both mark", "bcd", "both:b mark:cd", "cd", "b=discard cd=pass+mark", "250 to cd"},
	{"default_chain both mark", "abc", "both:a both:b mark:c", "bc", "a=reject b=discard c=pass+mark", "451 one by one"},
	/* not to know whether it is for a recipient is a failure of the filter */
	{"default_chain odd virus", "abcd", "virus:b odd:d", "bd", "ac=tempfail b=pass d=reject", "451 one by one"},
	{"default_chain virus odd", "ac", "virus:ac", "", "ac=tempfail", "451"},
	{"default_chain lax virus", "abcd", "virus:ac virus:b lax:d", "bd", "abc=pass d=reject", "451 one by one"},
	{"default_chain glance virus", "abcd", "virus:abc glance:d virus:d", "d", "abcd=pass", "250 to abcd"},
	{"default_chain virus both", "ab", "virus:ab both:a both:b", "b", "a=reject b=discard", "451 one by one"},
};

/* ---- how it is asked ---- */

struct top_conf {
	struct config_words default_chain;
};
static const struct config_option top_options[] = {
	CONFIG_WORDS("default_chain", struct top_conf, default_chain, NULL, "the chain without a rule"), CONFIG_END};
static const struct config_section *const sections[] = {
	&rule_section, &filter_edit.section, &filter_look.section, &filter_pair.section, NULL};
static const struct config_section top = {
	.name = "",
	.help = "test",
	.arity = CONFIG_ONE,
	.groups = {{top_options, sizeof(struct top_conf)}},
	.sections = sections,
};

static const struct mail_rcpt everybody[] = {
	{.addr = "ann@one.example"},
	{.addr = "bob@two.example"},
	{.addr = "cat@one.example"},
	{.addr = "dan@three.example"},
};

/* A Tuesday, at 13:00 UTC. */
#define WHEN 1795525200

struct fixture {
	struct net_worker *worker;
	struct filter_env env;
	struct log_ctx log;
	struct config *conf;
	struct filter_set *set;
	struct mail_origin origin;
	struct mail_sender sender;
	const struct mail_rcpt *rcpts[4];
	struct mail_body body;
	struct mail_msg msg;
	struct chain *chain;
};

static void
load(struct fixture *f, const char *rules)
{
	struct str text = STR_INIT;
	const struct top_conf *tc;

	str_printf(&text, FILTERS "%s\n", rules);
	config_load_text("t.conf", text.data, text.len, &top, &f->conf);
	tc = f->conf->top->data[0];
	f->set = filter_set_new(f->conf, &tc->default_chain, NULL);
	if (f->conf->error_count != 0)
		fail_msg("%s", TAILQ_FIRST(&f->conf->problems)->text);
	str_deinit(&text);
}

static void
make_message(struct fixture *f, const char *rcpts)
{
	static const struct ip_addr client = {.family = AF_INET, .u.v4.s_addr = 0x070200c0};

	f->origin = (struct mail_origin){.listener = "in", .client = client};
	f->sender.addr = "joe@example.net";
	mail_body_init(&f->body);
	f->msg = (struct mail_msg){.origin = &f->origin, .sender = &f->sender, .when = WHEN, .rcpts = f->rcpts,
		.rcpt_count = strlen(rcpts), .body = &f->body, .arena = arena_new()};
	mail_edits_init(&f->msg.edits, f->msg.arena);
	for (size_t i = 0; rcpts[i] != '\0'; i++)
		f->rcpts[i] = &everybody[rcpts[i] - 'a'];
}

static char
letter_of(const struct mail_rcpt *rcpt)
{
	return rcpt->addr[0];
}

/* As proxy/txn.c asks: against the first that was taken. */
static const char *
put_off(const struct fixture *f)
{
	const struct rules_facts facts = {"in", &f->origin.client, &f->sender, WHEN};
	static char alone[8];
	size_t n = 0;

	for (size_t i = 1; i < f->msg.rcpt_count; i++)
		if (filter_set_may_differ(f->set, "in") &&
			!filter_set_same_chain(f->set, &facts, f->rcpts[i], f->rcpts[0], f->msg.arena))
			alone[n++] = letter_of(f->rcpts[i]);
	alone[n] = '\0';
	return alone;
}

/* The letters of the message, for those of the case. */
static void
translate_runs(const struct fixture *f, struct str *out)
{
	bool is_rcpt = false;

	for (size_t i = 0; i < runs.len; i++) {
		is_rcpt = runs.data[i] == ':' || (is_rcpt && runs.data[i] != ' ');
		str_addc(out, is_rcpt && runs.data[i] != ':' ? letter_of(f->rcpts[runs.data[i] - 'a']) : runs.data[i]);
	}
}

static void
write_group(const struct settled_group *g, struct str *out)
{
	const struct mail_edit *edit;
	enum verdict_kind kind = g->verdict->kind;

	for (size_t i = 0; i < g->rcpt_count; i++)
		str_addc(out, letter_of(g->rcpts[i]));
	str_printf(out, "=%s", verdict_names[kind]);
	if (kind != VERDICT_PASS && kind != VERDICT_ACCEPT)
		return;
	STAILQ_FOREACH(edit, &g->edits->list, next)
		str_printf(out, "+%.*s", (int)(edit->len - 5), edit->text + 3);
}

static void
write_reply(const struct settlement *s, struct str *out)
{
	switch (s->verdict.kind) {
	case VERDICT_REJECT:
		str_add(out, "550");
		break;
	case VERDICT_TEMPFAIL:
		str_add(out, s->differs ? "451 one by one" : "451");
		break;
	case VERDICT_DISCONNECT:
		str_add(out, "421");
		break;
	default:
		str_add(out, s->deliver == NULL ? "250 to nobody" : "250 to ");
		for (size_t i = 0; s->deliver != NULL && i < s->deliver->rcpt_count; i++)
			str_addc(out, letter_of(s->deliver->rcpts[i]));
	}
}

static void
never(void *owner)
{
	(void)owner;
	fail_msg("a chain of filters that answer at once has waited");
}

static void
check(size_t i, const char *what, const char *got, const char *want)
{
	if (strcmp(got, want) != 0)
		fail_msg("case %zu, \"%s\" for %s: %s: \"%s\" instead of \"%s\"", i, cases[i].rules, cases[i].rcpts, what, got,
			want);
}

static void
ask(struct fixture *f, size_t i)
{
	struct str text = STR_INIT;
	struct settlement s;

	str_clear(&runs);
	str_add(&runs, "");
	assert_int_equal(chain_start(f->set, &f->env, &f->log, &f->msg, 60000, never, NULL, &f->chain), CHAIN_DONE);
	translate_runs(f, &text);
	check(i, "runs", str_text(&text), cases[i].runs);

	settle(&s, f->chain, &f->msg, NULL, false, true);
	str_clear(&text);
	for (size_t g = 0; g < s.group_count; g++) {
		str_add(&text, g > 0 ? " " : "");
		write_group(&s.groups[g], &text);
	}
	check(i, "ends", str_text(&text), cases[i].ends);
	str_clear(&text);
	write_reply(&s, &text);
	check(i, "reply", str_text(&text), cases[i].reply);
	str_deinit(&text);
}

static void
every_recipient_gets_the_filters_that_were_chosen_for_it_and_each_runs_once(void **state)
{
	struct fixture f = {.log = {.who = "w0"}};
	struct err err;

	(void)state;
	f.worker = net_worker_new(0, &err);
	f.env.worker = f.worker;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		load(&f, cases[i].rules);
		make_message(&f, cases[i].rcpts);
		check(i, "put off at RCPT", put_off(&f), cases[i].alone);
		ask(&f, i);
		filter_set_free(&f.set);
		config_unref(&f.conf);
		arena_free(&f.msg.arena);
	}
	net_worker_free(&f.worker);
	str_deinit(&runs);
}

/* Those who were put off at RCPT would have had an end of their own, or been right to wait: never two ends for those
 * who were taken together. */
static void
those_who_are_taken_together_end_together(void **state)
{
	struct fixture f = {.log = {.who = "w0"}};
	struct err err;

	(void)state;
	f.worker = net_worker_new(0, &err);
	f.env.worker = f.worker;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		char taken[8];
		size_t n = 0;

		for (const char *p = cases[i].rcpts; *p != '\0'; p++)
			if (strchr(cases[i].alone, *p) == NULL)
				taken[n++] = *p;
		taken[n] = '\0';
		load(&f, cases[i].rules);
		make_message(&f, taken);
		assert_int_equal(chain_start(f.set, &f.env, &f.log, &f.msg, 60000, never, NULL, &f.chain), CHAIN_DONE);
		if (chain_group_count(f.chain) != 1)
			fail_msg("case %zu: %s", i, cases[i].rules);
		filter_set_free(&f.set);
		config_unref(&f.conf);
		arena_free(&f.msg.arena);
	}
	net_worker_free(&f.worker);
	str_deinit(&runs);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_recipient_gets_the_filters_that_were_chosen_for_it_and_each_runs_once),
		cmocka_unit_test(those_who_are_taken_together_end_together),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
