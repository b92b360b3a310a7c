/*
 * filters/rules.h - which chain for which recipient: the first rule that matches, else the default
 * chain.
 */
#ifndef FILTERS_RULES_H
#define FILTERS_RULES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/err.h"
#include "config/config.h"
#include "mail/envelope.h"

struct filter;
struct rules;

/* A `rule` block; data[0] of its config_block. Words of `listener` are checked by proxy/. */
struct rule_conf {
	struct config_words listener;  /* none: any */
	struct config_words sender;    /* likewise */
	struct config_words recipient; /* likewise */
	struct config_words chain;
};
extern const struct config_section rule_section;

/* The word that stands for no filters at all in `chain` and `default_chain`. */
#define RULES_NO_FILTER "none"

struct filter_chain {
	const struct filter *const *filters;
	size_t count;
};

/* default_chain's filters are copied as a pointer: they live as long as the rules. */
struct rules *rules_new(const struct filter_chain *default_chain);
/* Appends one; a wrong pattern goes to conf as an error with its place. */
void rules_add(struct rules *rules, struct config *conf, const struct config_block *block,
	const struct filter_chain *chain);
void rules_free(struct rules **rules);
bool rules_may_differ(const struct rules *rules, const char *listener);
/* Does any chain have a filter? */
bool rules_have_filters(const struct rules *rules);

/* The rules that listener and sender leave over, for one message. Lives in its arena. */
struct rules_choice;
struct rules_choice *rules_choice_new(const struct rules *rules, const char *listener,
	const struct mail_sender *sender, struct arena *arena);
/* NULL: not known, because a pattern went over its limits. */
const struct filter_chain *rules_choose(
	const struct rules_choice *choice, const struct mail_rcpt *rcpt, struct err *err);

#endif
