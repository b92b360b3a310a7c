/*
 * filters/rules.h - which chain for which recipient: the first rule that matches, else the default
 * chain.
 */
#ifndef FILTERS_RULES_H
#define FILTERS_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "base/arena.h"
#include "base/err.h"
#include "config/config.h"
#include "mail/envelope.h"

struct filter;
struct rules;

/* A `rule` block; data[0] of its config_block. Words of `listener` are checked by proxy/. */
struct rule_conf {
	struct config_words listener; /* none: any */
	struct config_nets client;    /* likewise, as all below */
	struct config_words sender;
	struct config_words recipient;
	struct config_words time;
	struct config_words chain;
};
extern const struct config_section rule_section;

/* The word that stands for no filters at all in `chain` and `default_chain`. */
#define RULES_NO_FILTER "none"

struct filter_chain {
	const struct filter *const *filters;
	size_t count;
	/* With those that the recipient's conditions have left out; NULL when there are none. */
	const struct filter_chain *whole;
	const struct config_place *place; /* of its rule; NULL: the default chain */
};

/* default_chain's filters are copied as a pointer: they live as long as the rules. */
struct rules *rules_new(const struct filter_chain *default_chain);
/* Appends one; a wrong pattern goes to conf as an error with its place. */
void rules_add(struct rules *rules, struct config *conf, const struct config_block *block,
	const struct filter_chain *chain);
void rules_free(struct rules **rules);
bool rules_may_differ(const struct rules *rules, const char *listener);
/* The first filter of which is_one() holds, in the chains that recipients on this listener can get; NULL. */
const struct filter *rules_find(
	const struct rules *rules, const char *listener, bool (*is_one)(const struct filter *f));
/* Does any chain have a filter? */
bool rules_have_filters(const struct rules *rules);

/* What the recipients of a message have in common. */
struct rules_facts {
	const char *listener;
	const struct ip_addr *client;
	const struct mail_sender *sender;
	time_t when; /* its transaction began */
};

/* The rules that these leave over, for one message. Lives in its arena. */
struct rules_choice;
struct rules_choice *rules_choice_new(const struct rules *rules, const struct rules_facts *facts, struct arena *arena);
/*
 * Without the filters whose conditions do not hold for this recipient. Of filters that answer each recipient apart
 * (filter_kind.choose) there is one struct for each answer: recipients of one choice with the same filters have the
 * same pointers. Where it is not known whether one looks, because a pattern went over its limits or a table could not
 * be read, it is in the chain, as a struct that is `unknown`. NULL: so it went with the rules themselves.
 */
const struct filter_chain *rules_choose(
	const struct rules_choice *choice, const struct mail_rcpt *rcpt, struct err *err);

#endif
