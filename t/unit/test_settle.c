/*
 * t/unit/test_settle.c - one answer for recipients whose chains ended differently.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <string.h>

#include "proxy/settle.h"

/* What a chain of ours has come to: by recipient. */
struct chain {
	struct chain_result results[4];
	unsigned groups;
};

const struct chain_result *
chain_result(const struct chain *chain, size_t rcpt)
{
	return &chain->results[rcpt];
}

unsigned
chain_group_count(const struct chain *chain)
{
	return chain->groups;
}

/* Recipients as letters, each a verdict; a group has one letter, P and p are two versions of the message. */
static const struct {
	const char *rcpts;
	const char *verdict;
	const char *deliver; /* indices of those who get it; NULL: nobody */
	unsigned quarantined;
	bool differs;
} cases[] = {
	{ "p", "pass", "0", 0, false },
	{ "ppp", "pass", "012", 0, false },
	{ "a", "accept", "0", 0, false },
	{ "r", "reject", NULL, 0, false },
	{ "t", "tempfail", NULL, 0, false },
	{ "d", "discard", NULL, 0, false },
	{ "q", "quarantine", NULL, 1, false },
	{ "x", "disconnect", NULL, 0, false },
	/* a 2xx is true for each */
	{ "pd", "pass", "0", 0, false },
	{ "dpdp", "pass", "13", 0, false },
	{ "pq", "pass", "0", 1, false },
	{ "qp", "pass", "1", 1, false },
	{ "qpdQ", "pass", "1", 2, false },
	{ "dq", "quarantine", NULL, 1, false },
	{ "qQ", "quarantine", NULL, 2, false },
	{ "dD", "discard", NULL, 0, false },
	{ "ad", "accept", "0", 0, false },
	/* a refusal is */
	{ "rR", "reject", NULL, 0, false },
	{ "tT", "tempfail", NULL, 0, false },
	/* nothing is: nothing is delivered, set aside or dropped */
	{ "pP", "tempfail", NULL, 0, true },
	{ "pt", "tempfail", NULL, 0, true },
	{ "pr", "tempfail", NULL, 0, true },
	{ "px", "tempfail", NULL, 0, true },
	{ "rt", "tempfail", NULL, 0, true },
	{ "rd", "tempfail", NULL, 0, true },
	{ "rq", "tempfail", NULL, 0, true },
	{ "qt", "tempfail", NULL, 0, true },
	{ "dt", "tempfail", NULL, 0, true },
	{ "dx", "tempfail", NULL, 0, true },
	{ "pqt", "tempfail", NULL, 0, true },
	{ "pPq", "tempfail", NULL, 0, true },
};

static enum verdict_kind
kind_of(char c)
{
	switch (c) {
	case 'a':
		return VERDICT_ACCEPT;
	case 'r':
	case 'R':
		return VERDICT_REJECT;
	case 't':
	case 'T':
		return VERDICT_TEMPFAIL;
	case 'd':
	case 'D':
		return VERDICT_DISCARD;
	case 'q':
	case 'Q':
		return VERDICT_QUARANTINE;
	case 'x':
		return VERDICT_DISCONNECT;
	default:
		return VERDICT_PASS;
	}
}

static void
make_chain(struct chain *chain, const char *rcpts)
{
	memset(chain, 0, sizeof(*chain));
	for (size_t i = 0; rcpts[i] != '\0'; i++) {
		struct chain_result *r = &chain->results[i];

		r->verdict = (struct mail_verdict){ .kind = kind_of(rcpts[i]), .text = "why" };
		r->group = (unsigned)(strchr(rcpts, rcpts[i]) - rcpts);
		r->group = r->group == i ? chain->groups++ : chain->results[r->group].group;
	}
}

static const struct mail_rcpt all[] = { { .addr = "0" }, { .addr = "1" }, { .addr = "2" }, { .addr = "3" } };
static const struct mail_rcpt *const rcpts[] = { &all[0], &all[1], &all[2], &all[3] };

static void
check(const char *given, const char *verdict, const char *deliver, unsigned quarantined, bool differs,
	const struct mail_verdict *gate, bool has_dropped, bool has_quarantine)
{
	struct arena *arena = arena_new();
	struct mail_msg msg = { .rcpts = rcpts, .rcpt_count = strlen(given), .arena = arena };
	struct settlement s;
	struct chain chain;
	char got[5] = "";

	make_chain(&chain, given);
	settle(&s, &chain, &msg, gate, has_dropped, has_quarantine);
	for (size_t i = 0; s.deliver != NULL && i < s.deliver->rcpt_count; i++)
		strcat(got, s.deliver->rcpts[i]->addr);
	if (strcmp(verdict_names[s.verdict.kind], verdict) != 0 || strcmp(got, deliver != NULL ? deliver : "") != 0 ||
		s.quarantined != quarantined || s.differs != differs)
		fail_msg("%s: %s, delivered to \"%s\", %zu quarantined, %s", given, verdict_names[s.verdict.kind], got,
			s.quarantined, s.differs ? "differs" : "all alike");
	arena_free(&arena);
}

static void
one_answer_is_true_for_all_or_it_is_a_tempfail(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		check(cases[i].rcpts, cases[i].verdict, cases[i].deliver, cases[i].quarantined, cases[i].differs, NULL, false, true);
}

static void
without_a_quarantine_to_ask_for_it_is_a_tempfail(void **state)
{
	(void)state;
	check("q", "tempfail", NULL, 0, false, NULL, false, false);
	check("qQ", "tempfail", NULL, 0, false, NULL, false, false);
	check("pq", "tempfail", NULL, 0, true, NULL, false, false);
	check("p", "pass", "0", 0, false, NULL, false, false);
}

static void
what_the_gate_quarantined_is_not_delivered(void **state)
{
	static const struct mail_verdict gate = { .kind = VERDICT_QUARANTINE, .text = "said at MAIL" };

	(void)state;
	check("p", "quarantine", NULL, 1, false, &gate, false, true);
	check("a", "quarantine", NULL, 1, false, &gate, false, true);
	check("pP", "quarantine", NULL, 2, false, &gate, false, true);
	check("r", "reject", NULL, 0, false, &gate, false, true);
	check("t", "tempfail", NULL, 0, false, &gate, false, true);
	check("pd", "quarantine", NULL, 1, false, &gate, false, true);
	check("p", "tempfail", NULL, 0, false, &gate, false, false);
}

static void
who_was_dropped_hears_of_no_refusal(void **state)
{
	(void)state;
	check("p", "pass", "0", 0, false, NULL, true, true);
	check("q", "quarantine", NULL, 1, false, NULL, true, true);
	check("t", "tempfail", NULL, 0, false, NULL, true, true);
	check("r", "tempfail", NULL, 0, true, NULL, true, true);
	check("rR", "tempfail", NULL, 0, true, NULL, true, true);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_answer_is_true_for_all_or_it_is_a_tempfail),
		cmocka_unit_test(without_a_quarantine_to_ask_for_it_is_a_tempfail),
		cmocka_unit_test(what_the_gate_quarantined_is_not_delivered),
		cmocka_unit_test(who_was_dropped_hears_of_no_refusal),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
