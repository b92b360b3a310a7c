/*
 * t/unit/test_plan.c - from rules and recipients to the tree of steps.
 *
 * A tree is written as "A+B(0,1|0)[C(1|1)]": the runs of a step, its recipients, behind the bar
 * those whose chain ends there, and in brackets its children. Filters a, b, c edit; x, y, z
 * inspect; p, q inspect, too, and have effects elsewhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/list.h"
#include "base/str.h"
#include "filters/filter.h"
#include "filters/plan.h"
#include "filters/rules.h"
#include "filters/set.h"

static const struct filter_kind editor = {.section = {.name = "editor"}};
static const struct filter_kind inspector = {.section = {.name = "inspector"}, .inspects = true};
static const struct filter_kind doer = {.section = {.name = "doer"}, .inspects = true, .has_effects = true};

static const struct filter filters[] = {
	{.name = "a", .kind = &editor},
	{.name = "b", .kind = &editor},
	{.name = "c", .kind = &editor},
	{.name = "x", .kind = &inspector},
	{.name = "y", .kind = &inspector},
	{.name = "z", .kind = &inspector},
	{.name = "p", .kind = &doer},
	{.name = "q", .kind = &doer},
};

static const struct filter *
filter_of(char letter)
{
	for (size_t i = 0; i < ARRAY_COUNT(filters); i++)
		if (filters[i].name[0] == letter)
			return &filters[i];
	fail_msg("no filter %c", letter);
	return NULL;
}

/* "ab" is the chain of a and b; "-" none; "?" a recipient that is left out. */
static const struct filter_chain *
chain_of(struct arena *arena, const char *letters)
{
	struct filter_chain *chain = arena_zalloc(arena, sizeof(*chain));
	const struct filter **list = arena_zalloc(arena, 8 * sizeof(list[0]));

	if (*letters == '?')
		return NULL;
	for (; *letters != '\0' && *letters != '-'; letters++)
		list[chain->count++] = filter_of(*letters);
	chain->filters = list;
	return chain;
}

static void
write_list(struct str *out, const size_t *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		str_printf(out, "%s%zu", i > 0 ? "," : "", list[i]);
}

static void
write_step(struct str *out, const struct plan_step *step)
{
	for (size_t i = 0; i < step->filter_count; i++)
		str_printf(out, "%s%s", i > 0 ? "+" : "", step->filters[i]->name);
	str_addc(out, '(');
	write_list(out, step->rcpts, step->rcpt_count);
	str_addc(out, '|');
	write_list(out, step->last, step->last_count);
	str_addc(out, ')');
	if (step->child_count == 0)
		return;
	str_addc(out, '[');
	for (size_t i = 0; i < step->child_count; i++) {
		if (i > 0)
			str_addc(out, ' ');
		write_step(out, step->children[i]);
	}
	str_addc(out, ']');
}

static void
chains_become_a_tree_that_runs_common_beginnings_once(void **state)
{
	static const struct {
		const char *chains[6];
		const char *want;
	} cases[] = {
		{{NULL}, "(|)"},
		{{"-"}, "(0|0)"},
		{{"-", "-"}, "(0,1|0,1)"},
		{{"a"}, "(0|)[a(0|0)]"},
		{{"x"}, "(0|)[x(0|0)]"},
		{{"ab"}, "(0|)[a(0|)[b(0|0)]]"},
		{{"xy"}, "(0|)[x+y(0|0)]"},
		{{"xyz"}, "(0|)[x+y+z(0|0)]"},
		{{"ax"}, "(0|)[a(0|)[x(0|0)]]"},
		{{"xa"}, "(0|)[x(0|)[a(0|0)]]"},
		{{"xyaz"}, "(0|)[x+y(0|)[a(0|)[z(0|0)]]]"},
		{{"axyb"}, "(0|)[a(0|)[x+y(0|)[b(0|0)]]]"},
		/* who has effects does not begin before the others have let the message through */
		{{"xp"}, "(0|)[x(0|)[p(0|0)]]"},
		{{"pq"}, "(0|)[p(0|)[q(0|0)]]"},
		{{"px"}, "(0|)[p+x(0|0)]"},
		{{"xypzx"}, "(0|)[x+y(0|)[p+z+x(0|0)]]"},
		{{"apb"}, "(0|)[a(0|)[p(0|)[b(0|0)]]]"},
		{{"xp", "xp", "xy"}, "(0,1,2|)[x(0,1,2|)[p(0,1|0,1) y(2|2)]]"},
		{{"a", "a", "a"}, "(0,1,2|)[a(0,1,2|0,1,2)]"},
		{{"a", "-"}, "(0,1|1)[a(0|0)]"},
		{{"a", "b"}, "(0,1|)[a(0|0) b(1|1)]"},
		{{"b", "a", "b"}, "(0,1,2|)[b(0,2|0,2) a(1|1)]"},
		{{"ab", "ac"}, "(0,1|)[a(0,1|)[b(0|0) c(1|1)]]"},
		{{"a", "ab", "abc"}, "(0,1,2|)[a(0,1,2|0)[b(1,2|1)[c(2|2)]]]"},
		{{"ab", "ba"}, "(0,1|)[a(0|)[b(0|0)] b(1|)[a(1|1)]]"},
		{{"xy", "xy"}, "(0,1|)[x+y(0,1|0,1)]"},
		{{"xy", "xz"}, "(0,1|)[x(0,1|)[y(0|0) z(1|1)]]"},
		{{"xy", "x"}, "(0,1|)[x(0,1|1)[y(0|0)]]"},
		{{"xyz", "xy"}, "(0,1|)[x+y(0,1|1)[z(0|0)]]"},
		{{"xyz", "xyz", "xya"}, "(0,1,2|)[x+y(0,1,2|)[z(0,1|0,1) a(2|2)]]"},
		{{"xa", "xb"}, "(0,1|)[x(0,1|)[a(0|0) b(1|1)]]"},
		{{"ac", "bc"}, "(0,1|)[a(0|)[c(0|0)] b(1|)[c(1|1)]]"},
		{{"xya", "xya", "xyb", "x", "-", "xya"},
			"(0,1,2,3,4,5|4)[x(0,1,2,3,5|3)[y(0,1,2,5|)[a(0,1,5|0,1,5) b(2|2)]]]"},
		{{"?"}, "(|)"},
		{{"?", "a", "?"}, "(1|)[a(1|1)]"},
		{{"a", "?", "ax"}, "(0,2|)[a(0,2|0)[x(2|2)]]"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		const struct filter_chain *chains[6];
		struct arena *arena = arena_new();
		struct str got = STR_INIT;
		size_t count = 0;

		for (; count < 6 && cases[i].chains[count] != NULL; count++)
			chains[count] = chain_of(arena, cases[i].chains[count]);
		write_step(&got, plan_new(arena, chains, count));
		assert_string_equal(str_text(&got), cases[i].want);
		str_deinit(&got);
		arena_free(&arena);
	}
}

/* Rules. Chains are told apart by their names in the configuration. */

struct top_conf {
	struct config_words default_chain;
};
static const struct config_option top_options[] = {
	CONFIG_WORDS(
		"default_chain", struct top_conf, default_chain, NULL, "the chain without a rule"),
	CONFIG_END};
static const struct config_section top = {
	.name = "",
	.help = "test",
	.arity = CONFIG_ONE,
	.groups = {{top_options, sizeof(struct top_conf)}},
	.sections = filter_sections,
};

static struct filter_set *
load(const char *text, struct config **conf)
{
	const struct top_conf *tc;

	config_load_text("t.conf", text, strlen(text), &top, conf);
	tc = (*conf)->top->data[0];
	return filter_set_new(*conf, &tc->default_chain, NULL);
}

/* Who asks, and when: a Tuesday in 2026, at 13:00 UTC. */
static const struct ip_addr client = {.family = AF_INET, .u.v4.s_addr = 0x070200c0};
#define WHEN 1795525200

#define FILTERS "dummy p { }\ndummy q { }\ndummy r { }\n"

static const char *
chain_text(const struct filter_chain *chain, struct str *out)
{
	str_clear(out);
	str_add(out, "");
	for (size_t i = 0; chain != NULL && i < chain->count; i++)
		str_printf(out, "%s%s", i > 0 ? " " : "", chain->filters[i]->name);
	return chain == NULL ? "?" : str_text(out);
}

static void
the_first_rule_that_matches_gives_the_chain(void **state)
{
	static const struct {
		const char *rules, *listener, *sender, *rcpt, *want;
	} cases[] = {
		{"", "in", "s@a.example", "r@b.example", ""},
		{"default_chain p q", "in", "s@a.example", "r@b.example", "p q"},
		{"default_chain none", "in", "s@a.example", "r@b.example", ""},
		{"rule { chain p }", "in", "s@a.example", "r@b.example", "p"},
		{"rule { chain none }\ndefault_chain q", "in", "s@a.example", "r@b.example", ""},
		{"rule { chain p }\nrule { chain q }", "in", "s@a.example", "r@b.example", "p"},
		{"rule { listener out; chain p }\ndefault_chain q", "in", "s@a.example",
			"r@b.example", "q"},
		{"rule { listener out in; chain p }\ndefault_chain q", "in", "s@a.example",
			"r@b.example", "p"},
		{"rule { recipient r@b.example; chain p }\ndefault_chain q", "in", "s@a.example",
			"r@b.example", "p"},
		{"rule { recipient r@b.example; chain p }\ndefault_chain q", "in", "s@a.example",
			"R@B.Example", "p"},
		{"rule { recipient r@b.example; chain p }\ndefault_chain q", "in", "s@a.example",
			"rr@b.example", "q"},
		{"rule { recipient @b.example; chain p }", "in", "s@a.example", "x@b.example", "p"},
		{"rule { recipient @b.example; chain p }", "in", "s@a.example", "x@c.b.example",
			""},
		{"rule { recipient .b.example; chain p }", "in", "s@a.example", "x@c.b.example",
			"p"},
		{"rule { recipient .b.example; chain p }", "in", "s@a.example", "x@b.example", ""},
		{"rule { recipient /^x.*@b/; chain p }", "in", "s@a.example", "xy@b.example", "p"},
		{"rule { recipient /^x.*@b/; chain p }", "in", "s@a.example", "y@b.example", ""},
		{"rule { recipient a@b.example @c.example /^z/; chain p }", "in", "s@a.example",
			"zoe@b.example", "p"},
		{"rule { sender @a.example; chain p }\ndefault_chain q", "in", "s@a.example",
			"r@b.example", "p"},
		{"rule { sender @a.example; chain p }\ndefault_chain q", "in", "s@b.example",
			"r@b.example", "q"},
		{"rule { sender <>; chain p }\ndefault_chain q", "in", "", "r@b.example", "p"},
		{"rule { sender <>; chain p }\ndefault_chain q", "in", "s@a.example", "r@b.example",
			"q"},
		{"rule { sender @a.example; recipient @b.example; chain p }", "in", "s@a.example",
			"r@b.example", "p"},
		{"rule { sender @a.example; recipient @b.example; chain p }", "in", "s@a.example",
			"r@c.example", ""},
		{"rule { sender @x.example; recipient @b.example; chain p }\n"
		 "rule { recipient @b.example; chain r q }",
			"in", "s@a.example", "r@b.example", "r q"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		const struct mail_sender sender = {.addr = cases[i].sender};
		const struct mail_rcpt rcpt = {.addr = cases[i].rcpt};
		struct arena *arena = arena_new();
		struct rules_choice *choice;
		struct filter_set *set;
		struct str text = STR_INIT, got = STR_INIT;
		struct config *conf;
		struct err err;

		str_printf(&text, FILTERS "%s\n", cases[i].rules);
		set = load(text.data, &conf);
		if (conf->error_count != 0)
			fail_msg("%s", TAILQ_FIRST(&conf->problems)->text);
		choice = rules_choice_new(filter_set_rules(set),
			&(struct rules_facts){cases[i].listener, &client, &sender, WHEN}, arena);
		if (strcmp(chain_text(rules_choose(choice, &rcpt, &err), &got), cases[i].want) != 0)
			fail_msg("case %zu: %s", i, str_text(&got));
		filter_set_free(&set);
		config_unref(&conf);
		str_deinit(&text);
		str_deinit(&got);
		arena_free(&arena);
	}
}

/* What runs beside its neighbours sees the message as it was before them, and its edits are lost: so who asks for any
 * edit, of whatever kind, must not. Nor who has effects that nobody takes back, when the one before it refuses. */
static void
a_filter_that_may_edit_or_has_effects_begins_beside_nobody(void **state)
{
	static const struct {
		const char *filter;
		bool is_beside;
	} cases[] = {
		{"dummy it { }", true},
		{"always it { verdict reject }", true},
		{"dummy it { shadow yes }", true},
		{"header it { match Subject /x/; verdict reject }", false},
		{"header it { add X-A b; shadow yes }", true},
		{"address it { add_recipient a@b.example; external yes }", false},
		{"address it { redirect a@b.example; external yes }", false},
		{"address it { remove yes }", false},
		{"address it { set_sender a@b.example }", false},
		{"address it { add_header X-A b }", false},
		{"clamd it { }", true},
		{"clamd it { mark X-A }", false},
		{"scanner it { command /bin/true %f }", true},
		{"scanner it { command /bin/true %f; mark X-A; shadow yes }", true},
		{"scanner it { command /bin/true %f; mark X-A }", false},
		{"spamd it { mark no; mode check; verdict reject }", true},
		{"spamd it { mark no; mode symbols; verdict reject }", true},
		{"spamd it { mark yes; mode check }", false},
		{"spamd it { mark no; mode check; subject_tag t }", false},
		{"spamd it { mark no; mode headers }", false},
		{"spamd it { mark no; mode process }", false},
		{"rspamd it { }", false},
		{"exec it { command /bin/true %f }", false},
		{"exec it { command /bin/true; shadow yes }", false},
		{"exec it { command /bin/true; pipe yes; output text }", false},
		{"exec it { command /bin/true; pipe yes }", false},
		{"exec it { command /bin/true; output message }", false},
		{"exec it { command /bin/true %f; output json }", false},
		{"exec it { command /bin/true %n }", false},
		{"exec it { command /bin/true %h }", false},
		{"exec it { command /bin/true; environment N=%n }", false},
		{"exec it { command /bin/true; environment H=x%h }", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		const struct mail_sender sender = {.addr = "s@a.example"};
		const struct mail_rcpt rcpt = {.addr = "r@b.example"};
		const struct filter_chain *chain;
		struct arena *arena = arena_new();
		struct str text = STR_INIT, got = STR_INIT;
		struct filter_set *set;
		struct config *conf;
		struct err err;

		str_printf(&text, "dummy one { }\n%s\ndefault_chain one it\n", cases[i].filter);
		set = load(text.data, &conf);
		if (conf->error_count != 0)
			fail_msg("%s: %s", cases[i].filter, TAILQ_FIRST(&conf->problems)->text);
		chain = rules_choose(rules_choice_new(filter_set_rules(set),
			&(struct rules_facts){"in", &client, &sender, WHEN}, arena), &rcpt, &err);
		write_step(&got, plan_new(arena, &chain, 1));
		if (strcmp(got.data, cases[i].is_beside ? "(0|)[one+it(0|0)]" : "(0|)[one(0|)[it(0|0)]]") != 0)
			fail_msg("%s: %s", cases[i].filter, got.data);
		filter_set_free(&set);
		config_unref(&conf);
		str_deinit(&text);
		str_deinit(&got);
		arena_free(&arena);
	}
}

/* It backtracks without end on a long run of x. */
static void
a_pattern_beyond_its_limits_leaves_the_chain_unknown(void **state)
{
	static const char text[] = FILTERS "rule { recipient /^(x+x+)+[yz]$/; chain p }\n"
					   "default_chain none\n";
	const struct mail_sender sender = {.addr = "s@a.example"};
	struct mail_rcpt rcpt;
	struct arena *arena = arena_new();
	struct rules_choice *choice;
	struct filter_set *set;
	struct config *conf;
	struct err err;
	char address[200];

	(void)state;
	memset(address, 'x', sizeof(address) - 1);
	address[sizeof(address) - 1] = '\0';
	rcpt = (struct mail_rcpt){.addr = address};
	set = load(text, &conf);
	choice = rules_choice_new(filter_set_rules(set), &(struct rules_facts){"in", &client, &sender, WHEN}, arena);
	assert_null(rules_choose(choice, &rcpt, &err));
	filter_set_free(&set);
	config_unref(&conf);
	arena_free(&arena);
}

static void
wrong_chains_are_errors_with_their_place(void **state)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{"dummy virus { }\ndefault_chain viruss\n",
			"t.conf:2:15: default_chain: there is no filter \"viruss\" (did you mean "
			"\"virus\"?)"},
		{"dummy virus { }\nrule { chain zzzzzzzz }\n",
			"t.conf:2:14: chain: there is no filter \"zzzzzzzz\""},
		{FILTERS "rule { chain p q p }\n",
			"t.conf:4:18: chain: the filter \"p\" stands in it twice"},
		{FILTERS "rule { chain p none }\n",
			"t.conf:4:16: chain: \"none\" stands alone or not at all"},
		{"dummy none { }\n", "a filter cannot be called \"none\""},
		{FILTERS "rule { sender a@b }\n", "a rule needs a chain"},
		{FILTERS "rule { recipient a@b /((/; chain p }\n", "t.conf:4:22: recipient: "},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct config *conf;
		struct filter_set *set = load(cases[i].text, &conf);

		assert_int_equal(conf->error_count, 1);
		if (strstr(TAILQ_FIRST(&conf->problems)->text, cases[i].want) == NULL)
			fail_msg("%s", TAILQ_FIRST(&conf->problems)->text);
		filter_set_free(&set);
		config_unref(&conf);
	}
}

static void
recipients_may_differ_only_where_a_rule_asks_for_them(void **state)
{
	static const struct {
		const char *text;
		bool want;
	} cases[] = {
		{"", false},
		{"default_chain p", false},
		{"rule { sender @a.example; chain p }\ndefault_chain q", false},
		{"rule { recipient @a.example; chain p }\ndefault_chain q", true},
		{"rule { recipient @a.example; chain p }\ndefault_chain p", false},
		{"rule { recipient @a.example; chain p }", true},
		{"rule { recipient @a.example; chain none }", false},
		{"rule { listener out; recipient @a.example; chain p }", false},
		{"dummy o { only_recipient @a.example }\ndefault_chain o", true},
		{"dummy o { skip_recipient @a.example }\nrule { chain p o }", true},
		{"dummy o { only_sender @a.example }\ndefault_chain o", false},
		{"dummy o { only_recipient @a.example }\nrule { chain p }\ndefault_chain o", false},
		{"rule { chain q }\nrule { recipient @a.example; chain p }", false},
		{"rule { sender <>; recipient @a.example; chain p }\nrule { chain q }", true},
		{"rule { recipient @a.example; chain p }\nrule { recipient @b.example; chain q }\n"
		 "default_chain p",
			true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct str text = STR_INIT;
		struct filter_set *set;
		struct config *conf;

		str_printf(&text, FILTERS "%s\n", cases[i].text);
		set = load(text.data, &conf);
		assert_int_equal(conf->error_count, 0);
		if (filter_set_may_differ(set, "in") != cases[i].want)
			fail_msg("%s", cases[i].text);
		filter_set_free(&set);
		config_unref(&conf);
		str_deinit(&text);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chains_become_a_tree_that_runs_common_beginnings_once),
		cmocka_unit_test(the_first_rule_that_matches_gives_the_chain),
		cmocka_unit_test(a_filter_that_may_edit_or_has_effects_begins_beside_nobody),
		cmocka_unit_test(a_pattern_beyond_its_limits_leaves_the_chain_unknown),
		cmocka_unit_test(wrong_chains_are_errors_with_their_place),
		cmocka_unit_test(recipients_may_differ_only_where_a_rule_asks_for_them),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
