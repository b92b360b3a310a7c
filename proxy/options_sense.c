/*
 * proxy/options_sense.c - looking for what its writer can hardly have meant.
 */
#include "proxy/options_sense.h"

#include <string.h>
#include <strings.h>

#include "filters/filter.h"
#include "filters/rules.h"
#include "filters/set.h"

/* Each rule is compared with all before it, word by word: a warning is not worth more than some milliseconds. */
#define RULES_COMPARED 300
#define WORDS_COMPARED 100

/* ---- what nothing uses ---- */

static void
check_backends_used(const struct settings *st)
{
	for (int i = 0; i < st->backend_count; i++) {
		bool is_used = false;

		for (int k = 0; k < st->listener_count; k++)
			is_used |= st->listeners[k].backend == &st->backends[i];
		if (!is_used)
			config_warn(st->config, &st->backends[i].block->place, "backend %s is used by no listener",
				st->backends[i].name);
	}
}

static bool
has_word(const struct config_words *words, const struct config_word *word)
{
	for (size_t i = 0; i < words->count; i++)
		if (words->list[i].kind == word->kind && strcasecmp(words->list[i].text, word->text) == 0)
			return true;
	return false;
}

static bool
is_in_a_gate(const struct settings *st, const struct config_word *filter)
{
	for (int i = 0; i < st->listener_count; i++)
		if (has_word(&st->listeners[i].conf.gate, filter))
			return true;
	return false;
}

static bool
is_in_use(const struct settings *st, const char *filter)
{
	const struct config_word word = { .text = filter, .kind = CONFIG_WORD_PLAIN };
	const struct config_block *block;

	if (is_in_a_gate(st, &word))
		return true;
	if (has_word(&st->top.default_chain, &word))
		return true;
	TAILQ_FOREACH(block, st->config->top->blocks, next) {
		const struct rule_conf *rc = block->data[0];

		if (block->section == &rule_section && has_word(&rc->chain, &word))
			return true;
	}
	return false;
}

static bool
is_filter(const struct config_block *block)
{
	return block->section->space != NULL && strcmp(block->section->space, "filter") == 0;
}

static bool
speaks_of_messages(const struct filter_kind *kind, const struct config_block *block)
{
	return kind->message != NULL && (kind->at == NULL || (kind->at(block->data[1]) & 1u << FILTER_MESSAGE) != 0);
}

static void
check_filters_used(const struct settings *st)
{
	const struct config_block *block;

	TAILQ_FOREACH(block, st->config->top->blocks, next) {
		const struct filter_kind *kind = is_filter(block) ? block->section->owner : NULL;

		if (kind == NULL || is_in_use(st, block->name))
			continue;
		config_warn(st->config, &block->place,
			speaks_of_messages(kind, block) ? "%s %s stands in no chain (try default_chain %s)"
					      : "%s %s stands in no gate (try gate %s in a listener)",
			block->section->name, block->name, block->name);
	}
}

/* ---- conditions of filters ---- */

/* Is every one of these words among those, and so the filter never at work? */
static void
check_pair(const struct settings *st, const struct config_block *filter, const char *only,
	const struct config_words *these, const char *skip, const struct config_words *those)
{
	if (these->count == 0 || those->count == 0 || these->count > WORDS_COMPARED || those->count > WORDS_COMPARED)
		return;
	for (size_t i = 0; i < these->count; i++)
		if (!has_word(those, &these->list[i]))
			return;
	config_warn(st->config, config_place_of(filter, only), "%s: all of it stands in %s too, so %s %s never looks at a message",
		only, skip, filter->section->name, filter->name);
}

static bool
has_tls_word(const struct config_words *words, const char *text)
{
	const struct config_word word = { .text = text, .kind = CONFIG_WORD_PLAIN };

	return has_word(words, &word);
}

static void
check_only_tls(const struct settings *st, const struct config_block *filter, const struct config_words *words)
{
	const struct config_place *place = config_place_of(filter, "only_tls");
	bool any_tls = false;

	if (words->count == 0)
		return;
	for (int i = 0; i < st->listener_count; i++)
		any_tls |= st->listeners[i].tls != NULL;
	if (has_tls_word(words, "yes") && has_tls_word(words, "no"))
		config_warn(st->config, place, "only_tls: yes and no together are every message");
	else if (!any_tls && !has_tls_word(words, "no"))
		config_warn(st->config, place, "only_tls: no listener has TLS, so %s %s never looks at a message",
			filter->section->name, filter->name);
}

static void
check_conditions(const struct settings *st, const struct config_block *filter)
{
	const struct condition_conf *c = &((const struct filter_conf *)filter->data[0])->when;

	check_pair(st, filter, "only_sender", &c->only_sender, "skip_sender", &c->skip_sender);
	check_pair(st, filter, "only_recipient", &c->only_recipient, "skip_recipient", &c->skip_recipient);
	check_pair(st, filter, "only_subject", &c->only_subject, "skip_subject", &c->skip_subject);
	if (c->skip_client.any)
		config_warn(st->config, config_place_of(filter, "skip_client"),
			"skip_client: any is every client, so %s %s never looks at a message", filter->section->name, filter->name);
	if (c->only_smaller > 0 && c->only_smaller <= c->only_larger + 1)
		config_warn(st->config, config_place_of(filter, "only_smaller"),
			"only_smaller: no message is that small and larger than only_larger, so %s %s never looks at one",
			filter->section->name, filter->name);
	check_only_tls(st, filter, &c->only_tls);
}

static void
check_filters(const struct settings *st)
{
	const struct config_block *block;

	TAILQ_FOREACH(block, st->config->top->blocks, next)
		if (is_filter(block))
			check_conditions(st, block);
}

/* ---- rules ---- */

/* Is every one of these among those? None means all. */
static bool
covers(const struct config_words *those, const struct config_words *these)
{
	if (those->count == 0)
		return true;
	if (those->count > WORDS_COMPARED)
		return false;
	for (size_t i = 0; i < these->count; i++)
		if (!has_word(those, &these->list[i]))
			return false;
	return these->count > 0;
}

static bool
covers_rule(const struct rule_conf *a, const struct rule_conf *b)
{
	return covers(&a->listener, &b->listener) && a->client.count == 0 && covers(&a->sender, &b->sender) &&
	       covers(&a->recipient, &b->recipient) && covers(&a->time, &b->time);
}

/* The first rule before this one that takes all it could match. */
static const struct config_block *
find_cover(const struct settings *st, const struct config_block *rule)
{
	const struct config_block *block;

	TAILQ_FOREACH(block, st->config->top->blocks, next) {
		if (block == rule)
			return NULL;
		if (block->section == &rule_section && covers_rule(block->data[0], rule->data[0]))
			return block;
	}
	return NULL;
}

static bool
is_for_all(const struct rule_conf *rc)
{
	return rc->listener.count == 0 && rc->client.count == 0 && rc->sender.count == 0 && rc->recipient.count == 0 &&
	       rc->time.count == 0;
}

static void
check_rules(const struct settings *st)
{
	const struct config_block *block, *cover;
	bool has_filters = false, has_last = config_is_set(st->config->top, "default_chain");
	int rules = 0;

	TAILQ_FOREACH(block, st->config->top->blocks, next) {
		const struct rule_conf *rc = block->data[0];

		if (block->section != &rule_section)
			continue;
		rules++;
		has_last |= is_for_all(rc);
		has_filters |= rc->chain.count > 0 && strcmp(rc->chain.list[0].text, RULES_NO_FILTER) != 0;
		cover = rules <= RULES_COMPARED ? find_cover(st, block) : NULL;
		if (cover != NULL)
			config_warn(st->config, &block->place, "this rule never matches: the one at %s:%d:%d takes all before it",
				cover->place.file, cover->place.line, cover->place.column);
	}
	if (rules > 0 && has_filters && !has_last)
		config_warn(st->config, &st->config->top->place, "default_chain is not set: recipients that no rule matches get "
			"no filter (say default_chain none if that is meant)");
}

/* ---- options without effect ---- */

static void
check_embedded(const struct settings *st, const struct backend *b)
{
	const struct config_option *options = b->block->section->groups[0].options;
	const char *kind = b->kind == BACKEND_MAILDIR ? "maildir" : "discard";

	for (size_t i = 0; b->kind != BACKEND_SMTP && options[i].name != NULL; i++)
		if (config_is_set(b->block, options[i].name) && strcmp(options[i].name, kind) != 0 &&
			strcmp(options[i].name, "discard") != 0)
			config_warn(st->config, config_place_of(b->block, options[i].name), "%s has no effect with %s",
				options[i].name, kind);
}

static void
check_backend(const struct settings *st, const struct backend *b)
{
	const struct config_block *block = b->block;

	check_embedded(st, b);
	if (b->kind != BACKEND_SMTP)
		return;
	if (config_is_set(block, "balance") && b->conf.hosts.count == 1)
		config_warn(st->config, config_place_of(block, "balance"), "balance has no effect with one host");
	if (config_is_set(block, "max_idle") && b->conf.max_idle > b->conf.max_connections)
		config_warn(st->config, config_place_of(block, "max_idle"),
			"max_idle: %d connections cannot be idle where max_connections is %d", b->conf.max_idle,
			b->conf.max_connections);
}

static void
check_counts(const struct settings *st, const struct listener *l)
{
	const struct listener_conf *lc = &l->conf;

	if (st->top.max_connections > 0 && lc->max_connections > st->top.max_connections)
		config_warn(st->config, config_place_of(l->block, "max_connections"),
			"max_connections: %d cannot be reached, the top level allows %d", lc->max_connections,
			st->top.max_connections);
	if (lc->max_connections > 0 && lc->max_per_client > lc->max_connections)
		config_warn(st->config, config_place_of(l->block, "max_per_client"),
			"max_per_client: %d cannot be reached, max_connections is %d", lc->max_per_client, lc->max_connections);
}

static void
check_times(const struct settings *st, const struct listener *l)
{
	const struct listener_conf *lc = &l->conf;
	const struct backend *b = l->backend;

	if (lc->envelope == ENVELOPE_LATE && config_is_set(l->block, "early_hold"))
		config_warn(st->config, config_place_of(l->block, "early_hold"), "early_hold has no effect with envelope late");
	if (b == NULL || b->kind != BACKEND_SMTP)
		return;
	if (lc->envelope == ENVELOPE_EARLY && lc->early_hold > lc->smtp.data_timeout &&
		config_is_set(l->block, "early_hold"))
		config_warn(st->config, config_place_of(l->block, "early_hold"),
			"early_hold: longer than data_timeout (%llds), after which the front is cut",
			(long long)(lc->smtp.data_timeout / 1000));
	if (config_is_set(b->block, "connect_timeout") && b->conf.connect_timeout > lc->budget)
		config_warn(st->config, config_place_of(b->block, "connect_timeout"),
			"connect_timeout: longer than the budget of listener %s (%llds), which ends it", l->name,
			(long long)(lc->budget / 1000));
}

/* Of a kind that cannot tell, only what was written out for it. */
static bool
takes_recipients_away(const struct filter *f)
{
	unsigned asks = f->common->may.count > 0 ? f->may : 0;

	if (f->kind->asks != NULL)
		asks = f->kind->asks(f->conf) & f->may;
	return !f->is_shadow && (asks & FILTER_MAY(MAIL_EDIT_REMOVE_RCPT)) != 0;
}

/* A back-end that does not know a recipient refuses it before the filter can put another one in its place. */
static void
check_envelope(const struct settings *st, const struct listener *l)
{
	const struct filter *f;

	if (l->conf.envelope != ENVELOPE_EARLY || l->backend == NULL || l->backend->kind != BACKEND_SMTP)
		return;
	f = rules_find(filter_set_rules(st->filters), l->name, takes_recipients_away);
	if (f != NULL)
		config_warn(st->config, config_place_of(l->block, "envelope"), "envelope early: the back-end is asked about recipients that "
			"%s %s may take away, and its refusals count (try envelope late)", f->kind->section.name, f->name);
}

static void
check_spool(const struct settings *st)
{
	const struct config_block *block = config_find_one(st->config->top, "spool");

	if (st->spool.inline_total < st->spool.inline_max)
		config_warn(st->config,
			config_place_of(block, config_is_set(block, "inline_total") ? "inline_total" : "inline"),
			"inline_total is less than inline: a message of that size never stays in memory");
}

void
options_check_sense(struct settings *settings)
{
	check_backends_used(settings);
	check_filters_used(settings);
	check_filters(settings);
	check_rules(settings);
	check_spool(settings);
	for (int i = 0; i < settings->backend_count; i++)
		check_backend(settings, &settings->backends[i]);
	for (int i = 0; i < settings->listener_count; i++) {
		check_counts(settings, &settings->listeners[i]);
		check_times(settings, &settings->listeners[i]);
		check_envelope(settings, &settings->listeners[i]);
	}
}
