/* filters/rules.c - rules in the order of the file, each with its conditions ready to be asked. */
#include "filters/rules.h"

#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/match.h"
#include "base/xalloc.h"
#include "filters/filter.h"
#include "filters/times.h"
#include "filters/words.h"

static const struct config_option rule_options[] = {
	CONFIG_WORDS("listener", struct rule_conf, listener, NULL, "the listeners it holds for; when not given, all"),
	CONFIG_NETS("client", struct rule_conf, client, NULL,
		"the addresses and networks of clients; unix stands for all on Unix sockets; when not given, all"),
	CONFIG_WORDS("sender", struct rule_conf, sender, NULL,
		"envelope senders: " WORDS_ADDRESSES "; <> is the null sender; when not given, all"),
	CONFIG_WORDS("recipient", struct rule_conf, recipient, NULL,
		"envelope recipients: " WORDS_ADDRESSES "; when not given, all"),
	CONFIG_WORDS("time", struct rule_conf, time, NULL,
		"when the transaction began, " TIMES_WORDS "; when not given, any time"),
	CONFIG_WORDS("chain", struct rule_conf, chain, NULL,
		"the filters to run, in this order, or the word none for no filter; required"),
	CONFIG_END};

const struct config_section rule_section = {
	.name = "rule",
	.help = "chooses the chain for a recipient; the first rule that matches wins",
	.arity = CONFIG_MANY,
	.groups = {{rule_options, sizeof(struct rule_conf)}},
	.example = "rule {\n\trecipient @partner.example\n\tchain none\n}\n",
};

struct rule {
	struct config_words listeners;
	struct config_nets clients;
	struct times times;
	struct match_list *sender, *recipient; /* NULL: any */
	struct filter_chain chain;
	STAILQ_ENTRY(rule) next;
};

struct rules {
	STAILQ_HEAD(, rule) list;
	size_t count;
	struct filter_chain default_chain;
};

struct candidate {
	const struct rule *rule;
	const char *unknown; /* whether the sender matches is not known, and why */
};

/* A filter with one of its answers, or with the reason why there is none. */
struct variant {
	const struct filter *of;
	struct filter filter;
	SLIST_ENTRY(variant) next;
};
SLIST_HEAD(variant_list, variant);

struct rules_choice {
	const struct rules *rules;
	struct arena *arena;
	const char *sender;
	struct variant_list *variants;
	struct candidate *list;
	size_t count;
};

struct rules *
rules_new(const struct filter_chain *default_chain)
{
	struct rules *rules = xcalloc(1, sizeof(*rules));

	STAILQ_INIT(&rules->list);
	rules->default_chain = *default_chain;
	return rules;
}

void
rules_add(struct rules *rules, struct config *conf, const struct config_block *block,
	const struct filter_chain *chain)
{
	const struct rule_conf *rc = block->data[0];
	struct rule *rule = xcalloc(1, sizeof(*rule));

	rule->listeners = rc->listener;
	rule->clients = rc->client;
	times_read(conf, "time", &rc->time, &rule->times);
	rule->sender = words_list(conf, "sender", WORDS_ADDRESS, &rc->sender, rule_options);
	rule->recipient = words_list(conf, "recipient", WORDS_ADDRESS, &rc->recipient, rule_options);
	rule->chain = *chain;
	STAILQ_INSERT_TAIL(&rules->list, rule, next);
	rules->count++;
}

void
rules_free(struct rules **rules_p)
{
	struct rules *rules = *rules_p;
	struct rule *rule;

	*rules_p = NULL;
	if (rules == NULL)
		return;
	while ((rule = STAILQ_FIRST(&rules->list)) != NULL) {
		STAILQ_REMOVE_HEAD(&rules->list, next);
		match_list_free(&rule->sender);
		match_list_free(&rule->recipient);
		free(rule);
	}
	free(rules);
}

static bool
listener_matches(const struct rule *rule, const char *listener)
{
	for (size_t i = 0; i < rule->listeners.count; i++)
		if (strcmp(rule->listeners.list[i].text, listener) == 0)
			return true;
	return rule->listeners.count == 0;
}

static bool
has_client(const struct rule *rule)
{
	return rule->clients.count > 0;
}

static bool
facts_match(const struct rule *rule, const struct rules_facts *facts)
{
	return listener_matches(rule, facts->listener) &&
	       (!has_client(rule) || config_nets_have(&rule->clients, facts->client)) &&
	       times_hold(&rule->times, facts->when);
}

static bool
same_chain(const struct filter_chain *a, const struct filter_chain *b)
{
	return a->count == b->count &&
	       (a->count == 0 ||
		       memcmp(a->filters, b->filters, a->count * sizeof(a->filters[0])) == 0);
}

static bool
asks_recipient(const struct filter_chain *chain)
{
	for (size_t i = 0; i < chain->count; i++)
		if (conditions_ask_recipient(chain->filters[i]->conditions) || chain->filters[i]->kind->choose != NULL)
			return true;
	return false;
}

/* Is no rule behind it asked, on its listeners? */
static bool
takes_all(const struct rule *rule)
{
	return rule->sender == NULL && rule->recipient == NULL && !has_client(rule) && rule->times.count == 0;
}

static const struct filter *
find_in(const struct filter_chain *chain, bool (*is_one)(const struct filter *f))
{
	for (size_t i = 0; i < chain->count; i++)
		if (is_one(chain->filters[i]))
			return chain->filters[i];
	return NULL;
}

const struct filter *
rules_find(const struct rules *rules, const char *listener, bool (*is_one)(const struct filter *f))
{
	const struct filter *found = NULL;
	const struct rule *rule;

	STAILQ_FOREACH(rule, &rules->list, next)
	{
		if (!listener_matches(rule, listener))
			continue;
		found = find_in(&rule->chain, is_one);
		if (found != NULL || takes_all(rule))
			return found;
	}
	return find_in(&rules->default_chain, is_one);
}

/* Recipients of one message share all but themselves, so only a rule with recipients can part them, or a filter
 * that asks for them. */
bool
rules_may_differ(const struct rules *rules, const char *listener)
{
	const struct filter_chain *first = NULL;
	bool differs = false, by_recipient = false;
	const struct rule *rule;

	STAILQ_FOREACH(rule, &rules->list, next)
	{
		if (!listener_matches(rule, listener))
			continue;
		if (asks_recipient(&rule->chain))
			return true;
		if (first == NULL)
			first = &rule->chain;
		differs = differs || !same_chain(first, &rule->chain);
		by_recipient = by_recipient || rule->recipient != NULL;
		if (takes_all(rule))
			return differs && by_recipient;
	}
	if (asks_recipient(&rules->default_chain))
		return true;
	if (first != NULL)
		differs = differs || !same_chain(first, &rules->default_chain);
	return differs && by_recipient;
}

bool
rules_have_filters(const struct rules *rules)
{
	const struct rule *rule;

	STAILQ_FOREACH(rule, &rules->list, next)
	if (rule->chain.count > 0)
		return true;
	return rules->default_chain.count > 0;
}

static enum match_result
ask(const struct match_list *list, const char *address, struct err *err)
{
	return list == NULL ? MATCH_YES : words_ask(list, address, err);
}

struct rules_choice *
rules_choice_new(const struct rules *rules, const struct rules_facts *facts, struct arena *arena)
{
	struct rules_choice *choice = arena_zalloc(arena, sizeof(*choice));
	const struct rule *rule;
	struct err err;

	choice->rules = rules;
	choice->arena = arena;
	choice->sender = facts->sender->addr;
	choice->variants = arena_zalloc(arena, sizeof(*choice->variants));
	choice->list = arena_alloc(arena, rules->count * sizeof(choice->list[0]));
	STAILQ_FOREACH(rule, &rules->list, next)
	{
		struct candidate *c = &choice->list[choice->count];
		enum match_result match;

		if (!facts_match(rule, facts))
			continue;
		match = ask(rule->sender, facts->sender->addr, &err);
		if (match == MATCH_NO)
			continue;
		c->rule = rule;
		c->unknown = match == MATCH_ERROR ? arena_strdup(arena, err.text) : NULL;
		choice->count++;
	}
	return choice;
}

/* What the rules say, before the filters are asked. */
static const struct filter_chain *
find_chain(const struct rules_choice *choice, const struct mail_rcpt *rcpt, struct err *err)
{
	for (size_t i = 0; i < choice->count; i++) {
		const struct candidate *c = &choice->list[i];
		enum match_result match = ask(c->rule->recipient, rcpt->addr, err);

		if (match == MATCH_NO)
			continue;
		if (match == MATCH_ERROR) {
			err_prefix(err, "recipient");
			return NULL;
		}
		if (c->unknown != NULL) {
			err_set_temp(err, "sender: %s", c->unknown);
			return NULL;
		}
		return &c->rule->chain;
	}
	return &choice->rules->default_chain;
}

static bool
is_variant(const struct variant *v, const struct filter *f, const void *answer, const char *unknown)
{
	return v->of == f && v->filter.answer == answer &&
	       (unknown == NULL ? v->filter.unknown == NULL :
				  v->filter.unknown != NULL && strcmp(v->filter.unknown, unknown) == 0);
}

/* The one of this answer, or of this reason; made when it is new. */
static const struct filter *
variant(const struct rules_choice *choice, const struct filter *f, const void *answer, const char *unknown)
{
	struct variant *v;

	SLIST_FOREACH(v, choice->variants, next)
		if (is_variant(v, f, answer, unknown))
			return &v->filter;
	v = arena_alloc(choice->arena, sizeof(*v));
	*v = (struct variant){.of = f, .filter = *f};
	v->filter.answer = answer;
	v->filter.unknown = unknown != NULL ? arena_strdup(choice->arena, unknown) : NULL;
	SLIST_INSERT_HEAD(choice->variants, v, next);
	return &v->filter;
}

/* As this recipient has it in his chain; NULL: he has not. Not to know that is a failure of the filter: it stays, and
 * its run says so. */
static const struct filter *
filter_for(const struct rules_choice *choice, const struct mail_rcpt *rcpt, const struct filter *f)
{
	const void *answer = NULL;
	enum match_result match;
	struct err err;

	match = conditions_hold_for(f->conditions, rcpt->addr, &err);
	if (match == MATCH_NO)
		return NULL;
	if (match == MATCH_YES && f->kind->choose == NULL)
		return f;
	if (match == MATCH_ERROR || f->kind->choose(f->conf, choice->sender, rcpt->addr, &answer, &err) < 0)
		return variant(choice, f, NULL, err.text);
	return answer != NULL ? variant(choice, f, answer, NULL) : NULL;
}

/* A copy without those filters that are not for this recipient. */
static const struct filter_chain *
leave_out(const struct filter_chain *whole, const struct rules_choice *choice, const struct mail_rcpt *rcpt)
{
	struct filter_chain *rest = arena_zalloc(choice->arena, sizeof(*rest));
	const struct filter **list = arena_alloc(choice->arena, whole->count * sizeof(list[0]));

	for (size_t i = 0; i < whole->count; i++) {
		const struct filter *f = filter_for(choice, rcpt, whole->filters[i]);

		if (f != NULL)
			list[rest->count++] = f;
	}
	rest->filters = list;
	rest->whole = rest->count < whole->count ? whole : NULL;
	rest->place = whole->place;
	return rest;
}

const struct filter_chain *
rules_choose(const struct rules_choice *choice, const struct mail_rcpt *rcpt, struct err *err)
{
	const struct filter_chain *chain = find_chain(choice, rcpt, err);

	if (chain == NULL || !asks_recipient(chain))
		return chain;
	return leave_out(chain, choice, rcpt);
}
