/*
 * filters/set.h - the filters, rules and default chain of one configuration, ready to be asked.
 */
#ifndef FILTERS_SET_H
#define FILTERS_SET_H

#include <stdbool.h>

#include "config/config.h"
#include "mail/envelope.h"

struct filter_chain;
struct filter;
struct filter_counts;
struct filter_registry;
struct filter_marks;
struct filter_set;
struct rules;
struct rules_facts;
struct spool_conf;

/* `rule` and one section per filter kind, for proxy/options.c; NULL-terminated. */
extern const struct config_section *const filter_sections[];

/*
 * The resolve pass: instances of all filter blocks, rules with their chains, the default chain.
 * Errors go to conf with their place. Never NULL; lives in malloc memory, shared by all workers,
 * read-only. spool is where filters put new bodies; borrowed.
 */
struct filter_set *filter_set_new(
	struct config *conf, const struct config_words *default_chain, const struct spool_conf *spool);
void filter_set_free(struct filter_set **set);
/* In the same pass: the filters of a listener's `gate`; NULL: there are none. Lives as long as the set. */
const struct filter_chain *filter_set_gate(
	struct filter_set *set, struct config *conf, const struct config_words *words);
/* Where to count: find() gives each filter, by its name, an array with one part per worker, which must outlive
 * the set. Before any message. */
void filter_set_count(struct filter_set *set, struct filter_counts *(*find)(void *owner, const char *name), void *owner);
/* Slots and breakers by the filters' names, from a registry that outlives the set; what the set's options say of them
 * holds from now on, also for those who run with an older set. Before any message, on the admin thread. */
void filter_set_attach(struct filter_set *set, struct filter_registry *registry);
/* For the pages that tell how things are; NULL behind the last one. */
const struct filter *filter_set_filter(const struct filter_set *set, size_t i);
/* Could two recipients on this listener get different chains? For the planner's 452 and for -t. */
bool filter_set_may_differ(const struct filter_set *set, const char *listener);
/* For chain.c. */
const struct rules *filter_set_rules(const struct filter_set *set);
const struct spool_conf *filter_set_spool(const struct filter_set *set);
const struct filter_marks *filter_set_marks(const struct filter_set *set);
/* Do two recipients of one message get the same filters? For the 452 at RCPT. */
bool filter_set_same_chain(const struct filter_set *set, const struct rules_facts *facts, const struct mail_rcpt *a,
	const struct mail_rcpt *b, struct arena *arena);

#endif
