/*
 * filters/registry.h - what all workers and all generations of the configuration have in common of a filter, by its
 * name: slots and breaker.
 *
 * The registry belongs to the admin thread; what it gives out, to everybody, until the registry is freed.
 */
#ifndef FILTERS_REGISTRY_H
#define FILTERS_REGISTRY_H

#include "base/list.h"

struct breaker;
struct filter_registry;
struct slots;

struct filter_shared {
	char *name;
	struct slots *slots;
	struct breaker *breaker;
	SLIST_ENTRY(filter_shared) next;
};

struct filter_registry *filter_registry_new(void);
/* When no run waits any more. */
void filter_registry_free(struct filter_registry **registry);
/* New or known; never NULL. */
const struct filter_shared *filter_registry_find(struct filter_registry *r, const char *name);

#endif
