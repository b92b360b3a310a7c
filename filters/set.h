/*
 * filters/set.h - the filters, rules and default chain of one configuration, ready to be asked.
 */
#ifndef FILTERS_SET_H
#define FILTERS_SET_H

#include <stdbool.h>

#include "config/config.h"
#include "mail/envelope.h"

struct filter_set;
struct rules;

/* `rule` and one section per filter kind, for proxy/options.c; NULL-terminated. */
extern const struct config_section *const filter_sections[];

/*
 * The resolve pass: instances of all filter blocks, rules with their chains, the default chain.
 * Errors go to conf with their place. Never NULL; lives in malloc memory, shared by all workers,
 * read-only.
 */
struct filter_set *filter_set_new(struct config *conf, const struct config_words *default_chain);
void filter_set_free(struct filter_set **set);
/* Could two recipients on this listener get different chains? For the planner's 452 and for -t. */
bool filter_set_may_differ(const struct filter_set *set, const char *listener);
/* For chain.c. */
const struct rules *filter_set_rules(const struct filter_set *set);
/* Do two recipients of one message get the same filters? For the 452 at RCPT. */
bool filter_set_same_chain(const struct filter_set *set, const char *listener,
	const struct mail_sender *sender, const struct mail_rcpt *a, const struct mail_rcpt *b,
	struct arena *arena);

#endif
