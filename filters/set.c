/* filters/set.c - from blocks of the configuration to filters, chains and rules. */
#include "filters/set.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/xalloc.h"
#include "filters/filter.h"
#include "filters/gate.h"
#include "filters/mark.h"
#include "filters/registry.h"
#include "filters/rules.h"
#include "filters/run_life.h"
#include "filters/slots.h"
#include "filters/words.h"

struct filter_set {
	struct arena *arena; /* filters and chains */
	struct filter *filters;
	const char **names; /* parallel, NULL-terminated; for "did you mean" */
	size_t count;
	struct rules *rules;
	struct filter_marks *marks;
	const struct spool_conf *spool;
};

static bool
is_filter(const struct config_block *block)
{
	return block->section->space != NULL && strcmp(block->section->space, "filter") == 0;
}

static void
set_up(struct filter_set *set, struct config *conf, const struct config_block *block, const struct filter *f)
{
	struct err err;

	if (strcmp(f->name, RULES_NO_FILTER) == 0)
		config_error(conf, &block->place,
			"a filter cannot be called \"%s\": it stands for no filter in a chain",
			f->name);
	if (f->kind->read != NULL)
		f->kind->read(f->conf, conf, block);
	if (f->kind->setup != NULL && f->kind->setup(f->conf, &err) < 0)
		config_error(
			conf, &block->place, "%s %s: %s", f->kind->section.name, f->name, err.text);
	else
		filter_marks_of(set->marks, f);
}

static void
add_filters(struct filter_set *set, struct config *conf)
{
	const struct config_block *block;
	size_t count = 0;

	TAILQ_FOREACH(block, conf->top->blocks, next)
	count += is_filter(block);
	set->filters = arena_zalloc(set->arena, count * sizeof(set->filters[0]));
	set->names = arena_zalloc(set->arena, (count + 1) * sizeof(set->names[0]));
	TAILQ_FOREACH(block, conf->top->blocks, next)
	{
		struct filter *f = &set->filters[set->count];

		if (!is_filter(block))
			continue;
		f->name = block->name;
		f->kind = block->section->owner;
		f->common = block->data[0];
		f->conditions = conditions_new(conf, &f->common->when, filter_options);
		f->conf = block->data[1];
		filter_set_up_common(conf, block, f);
		set->names[set->count++] = block->name;
		set_up(set, conf, block, f);
	}
}

static const struct filter *
find_filter(const struct filter_set *set, const char *name)
{
	for (size_t i = 0; i < set->count; i++)
		if (strcmp(set->filters[i].name, name) == 0)
			return &set->filters[i];
	return NULL;
}

static bool
has_filter(const struct filter *const *list, size_t count, const struct filter *f)
{
	for (size_t i = 0; i < count; i++)
		if (list[i] == f)
			return true;
	return false;
}

/* With those that there are, since none looks alike. */
static void
complain_no_filter(const struct filter_set *set, struct config *conf, const char *option,
	const struct config_word *word)
{
	struct str list = STR_INIT;

	for (size_t i = 0; i < set->count && i < 8; i++)
		str_printf(&list, " %s", set->names[i]);
	config_error(conf, &word->place, "%s: there is no filter \"%s\" (%s%s)", option, word->text,
		set->count > 0 ? "there are:" : "nor any other: a block such as dummy NAME { ... } makes one", str_text(&list));
	str_deinit(&list);
}

static const struct filter *
named_filter(const struct filter_set *set, struct config *conf, const char *option,
	const struct config_word *word)
{
	const struct filter *f = find_filter(set, word->text);
	const char *meant;

	if (f != NULL)
		return f;
	if (strcmp(word->text, RULES_NO_FILTER) == 0) {
		config_error(conf, &word->place, "%s: \"%s\" stands alone or not at all", option,
			word->text);
		return NULL;
	}
	meant = config_did_you_mean(word->text, set->names);
	if (meant != NULL)
		config_error(conf, &word->place,
			"%s: there is no filter \"%s\" (did you mean \"%s\"?)", option, word->text,
			meant);
	else
		complain_no_filter(set, conf, option, word);
	return NULL;
}

/* In a chain or gate where it never would be asked? */
static bool
complain_useless(const struct filter_set *set, struct config *conf, const char *option,
	const struct config_word *word, const struct filter *f)
{
	bool is_gate = strcmp(option, "gate") == 0;
	const char *why = is_gate ? gate_objection(f, set->arena) : NULL;

	if (!is_gate && !run_has_stage(f, FILTER_MESSAGE))
		why = arena_printf(set->arena, "%s %s is asked while the envelope is given, so it belongs in the gate of a listener",
			f->kind->section.name, f->name);
	if (why != NULL)
		config_error(conf, &word->place, "%s: %s", option, why);
	return why != NULL;
}

static struct filter_chain
build_chain(const struct filter_set *set, struct config *conf, const char *option,
	const struct config_words *words)
{
	const struct filter **list;
	struct filter_chain chain = {.count = 0};

	if (words->count == 0 ||
		(words->count == 1 && strcmp(words->list[0].text, RULES_NO_FILTER) == 0))
		return chain;
	list = arena_zalloc(set->arena, words->count * sizeof(list[0]));
	for (size_t i = 0; i < words->count; i++) {
		const struct filter *f = named_filter(set, conf, option, &words->list[i]);

		if (f == NULL)
			continue;
		if (complain_useless(set, conf, option, &words->list[i], f))
			continue;
		if (has_filter(list, chain.count, f))
			config_error(conf, &words->list[i].place,
				"%s: the filter \"%s\" stands in it twice", option, f->name);
		else
			list[chain.count++] = f;
	}
	chain.filters = list;
	return chain;
}

/* Is no rule behind it asked, on its listeners? */
static bool
takes_all(const struct rule_conf *rc)
{
	return rc->sender.count == 0 && rc->recipient.count == 0 && rc->time.count == 0 && rc->client.count == 0 &&
	       !rc->client.any;
}

static void
add_rules(struct filter_set *set, struct config *conf)
{
	const struct config_block *block;

	TAILQ_FOREACH(block, conf->top->blocks, next)
	{
		const struct rule_conf *rc = block->data[0];
		struct filter_chain chain;

		if (block->section != &rule_section)
			continue;
		if (rc->chain.count == 0)
			config_error(conf, &block->place,
				"a rule needs a chain (\"chain %s\" for no filter)",
				RULES_NO_FILTER);
		chain = build_chain(set, conf, "chain", &rc->chain);
		chain.place = &block->place;
		rules_add(set->rules, conf, block, &chain);
		filter_marks_chain(set->marks, chain.filters, chain.count, &rc->listener);
		if (takes_all(rc))
			filter_marks_end(set->marks, &rc->listener);
	}
}

struct filter_set *
filter_set_new(struct config *conf, const struct config_words *default_chain, const struct spool_conf *spool)
{
	struct filter_set *set = xcalloc(1, sizeof(*set));
	struct filter_chain chain;

	set->arena = arena_new();
	set->spool = spool;
	set->marks = filter_marks_new(set->arena);
	add_filters(set, conf);
	chain = build_chain(set, conf, "default_chain", default_chain);
	set->rules = rules_new(&chain);
	add_rules(set, conf);
	filter_marks_chain(set->marks, chain.filters, chain.count, NULL);
	return set;
}

const struct filter_chain *
filter_set_gate(struct filter_set *set, struct config *conf, const struct config_words *words)
{
	struct filter_chain chain = build_chain(set, conf, "gate", words);

	return chain.count > 0 ? arena_memdup(set->arena, &chain, sizeof(chain)) : NULL;
}

void
filter_set_free(struct filter_set **set_p)
{
	struct filter_set *set = *set_p;

	*set_p = NULL;
	if (set == NULL)
		return;
	for (size_t i = 0; i < set->count; i++) {
		if (set->filters[i].kind->teardown != NULL)
			set->filters[i].kind->teardown(set->filters[i].conf);
		conditions_free(&set->filters[i].conditions);
	}
	rules_free(&set->rules);
	arena_free(&set->arena);
	free(set);
}

void
filter_set_count(struct filter_set *set, struct filter_counts *(*find)(void *owner, const char *name), void *owner)
{
	for (size_t i = 0; i < set->count; i++)
		set->filters[i].counts = find(owner, set->filters[i].name);
}

void
filter_set_attach(struct filter_set *set, struct filter_registry *registry)
{
	for (size_t i = 0; i < set->count; i++) {
		struct filter *f = &set->filters[i];
		const struct filter_shared *shared = filter_registry_find(registry, f->name);

		f->slots = shared->slots;
		f->breaker = shared->breaker;
		slots_set_max(f->slots, f->common->max_instances);
		if (f->common->breaker.failures == 0 && breaker_reset(f->breaker))
			log_info(NULL, "breaker", "filter=%s state=%s", f->name, "closed");
	}
}

const struct filter *
filter_set_filter(const struct filter_set *set, size_t i)
{
	return i < set->count ? &set->filters[i] : NULL;
}

bool
filter_set_may_differ(const struct filter_set *set, const char *listener)
{
	return rules_may_differ(set->rules, listener);
}

bool
filter_set_same_chain(const struct filter_set *set, const struct rules_facts *facts, const struct mail_rcpt *a,
	const struct mail_rcpt *b, struct arena *arena)
{
	const struct rules_choice *choice = rules_choice_new(set->rules, facts, arena);
	const struct filter_chain *x, *y;
	struct err err;

	x = rules_choose(choice, a, &err);
	y = rules_choose(choice, b, &err);
	if (x == NULL || y == NULL)
		return x == y;
	return x->count == y->count &&
	       (x->count == 0 ||
		       memcmp(x->filters, y->filters, x->count * sizeof(x->filters[0])) == 0);
}

const struct rules *
filter_set_rules(const struct filter_set *set)
{
	return set->rules;
}

const struct spool_conf *
filter_set_spool(const struct filter_set *set)
{
	return set->spool;
}

const struct filter_marks *
filter_set_marks(const struct filter_set *set)
{
	return set->marks;
}
