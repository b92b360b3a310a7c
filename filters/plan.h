/*
 * filters/plan.h - the recipients' chains as one tree of steps. Pure.
 *
 * What several chains have in common at their beginning runs once for all of them. A step is a set
 * of runs: one, or neighbours that only look, which the same recipients go through; of these only the
 * first may have effects elsewhere, for the others begin before it is decided. Its recipients' next
 * filters are its children; `last` are those whose chain ends with it.
 */
#ifndef FILTERS_PLAN_H
#define FILTERS_PLAN_H

#include <stddef.h>

#include "base/arena.h"
#include "filters/rules.h"

struct plan_step {
	const struct filter *const *filters; /* in the order of the chain; none in the root */
	size_t filter_count;
	const size_t *rcpts; /* indices of recipients, ascending */
	size_t rcpt_count;
	const size_t *last; /* those of rcpts whose chain ends here */
	size_t last_count;
	struct plan_step **children;
	size_t child_count;
};

/* chains has one per recipient; NULL leaves the recipient out. Returns the root. All of it lives in
 * the arena, but for the chains' filters, which are borrowed. */
struct plan_step *plan_new(
	struct arena *arena, const struct filter_chain *const *chains, size_t rcpt_count);

#endif
