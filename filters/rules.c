/* filters/rules.c - rules in the order of the file, each with its conditions ready to be asked. */
#include "filters/rules.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/list.h"
#include "base/match.h"
#include "base/xalloc.h"

#define RULE_ADDRESSES "exact addresses, @domain, .domain for what lies under it, or /patterns/"

static const struct config_option rule_options[] = {
	CONFIG_WORDS("listener", struct rule_conf, listener, NULL, "the listeners it holds for; when not given, all"),
	CONFIG_WORDS("sender", struct rule_conf, sender, NULL,
		"envelope senders: " RULE_ADDRESSES "; <> is the null sender; when not given, all"),
	CONFIG_WORDS("recipient", struct rule_conf, recipient, NULL,
		"envelope recipients: " RULE_ADDRESSES "; when not given, all"),
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

struct rules_choice {
	const struct rules *rules;
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

/* An exact word that no address can ever be is a slip, and a rule that never matches a hole. */
static void
check_word(struct config *conf, const char *option, const struct config_word *word)
{
	const char *text = word->text, *at = strchr(text, '@');

	if (word->kind == CONFIG_WORD_PATTERN || strcmp(text, "<>") == 0 ||
		strcasecmp(text, "postmaster") == 0)
		return;
	if (strncmp(text, "file:", 5) == 0 || strncmp(text, "lmdb:", 5) == 0)
		config_error(conf, &word->place,
			"%s: lists in files are not possible in this version", option);
	else if (*text == '<')
		config_error(conf, &word->place, "%s: an address stands without < and >", option);
	else if (at == NULL && *text != '.')
		config_error(conf, &word->place,
			"%s: \"%s\" is not an address (try @%s for all of a domain)", option, text,
			*text != '\0' ? text : "example.org");
	else if ((at != NULL && at[1] == '\0') || strcmp(text, ".") == 0)
		config_error(conf, &word->place,
			"%s: the domain is missing in \"%s\" (try %sexample.org)", option, text, text);
}

/* NULL when there are no words, or when one was wrong (an error then). */
static struct match_list *
build_list(struct config *conf, const char *option, const struct config_words *words)
{
	struct match_word *list;
	struct match_list *match;
	struct err err;
	size_t bad = 0;

	if (words->count == 0)
		return NULL;
	list = xcalloc(words->count, sizeof(*list));
	for (size_t i = 0; i < words->count; i++) {
		list[i].text = words->list[i].text;
		list[i].is_pattern = words->list[i].kind == CONFIG_WORD_PATTERN;
		check_word(conf, option, &words->list[i]);
	}
	match = match_list_new(list, words->count, &bad, &err);
	if (match == NULL)
		config_error(conf, &words->list[bad].place, "%s: %s", option, err.text);
	free(list);
	return match;
}

void
rules_add(struct rules *rules, struct config *conf, const struct config_block *block,
	const struct filter_chain *chain)
{
	const struct rule_conf *rc = block->data[0];
	struct rule *rule = xcalloc(1, sizeof(*rule));

	rule->listeners = rc->listener;
	rule->sender = build_list(conf, "sender", &rc->sender);
	rule->recipient = build_list(conf, "recipient", &rc->recipient);
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
same_chain(const struct filter_chain *a, const struct filter_chain *b)
{
	return a->count == b->count &&
	       (a->count == 0 ||
		       memcmp(a->filters, b->filters, a->count * sizeof(a->filters[0])) == 0);
}

/* Recipients of one message share listener and sender, so only a rule with recipients can part
 * them. */
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
		if (first == NULL)
			first = &rule->chain;
		differs = differs || !same_chain(first, &rule->chain);
		by_recipient = by_recipient || rule->recipient != NULL;
		if (rule->sender == NULL && rule->recipient == NULL)
			return differs && by_recipient;
	}
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
	return list == NULL ? MATCH_YES : match_list_ask(list, address, strlen(address), err);
}

struct rules_choice *
rules_choice_new(const struct rules *rules, const char *listener, const struct mail_sender *sender,
	struct arena *arena)
{
	struct rules_choice *choice = arena_zalloc(arena, sizeof(*choice));
	const struct rule *rule;
	struct err err;

	choice->rules = rules;
	choice->list = arena_alloc(arena, rules->count * sizeof(choice->list[0]));
	STAILQ_FOREACH(rule, &rules->list, next)
	{
		struct candidate *c = &choice->list[choice->count];
		enum match_result match;

		if (!listener_matches(rule, listener))
			continue;
		match = ask(rule->sender, sender->addr, &err);
		if (match == MATCH_NO)
			continue;
		c->rule = rule;
		c->unknown = match == MATCH_ERROR ? arena_strdup(arena, err.text) : NULL;
		choice->count++;
	}
	return choice;
}

const struct filter_chain *
rules_choose(const struct rules_choice *choice, const struct mail_rcpt *rcpt, struct err *err)
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
