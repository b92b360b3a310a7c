/* filters/registry.c - a list of names that only grows. */
#include "filters/registry.h"

#include <stdlib.h>
#include <string.h>

#include "base/xalloc.h"
#include "filters/breaker.h"
#include "filters/slots.h"

struct filter_registry {
	SLIST_HEAD(, filter_shared) list;
};

struct filter_registry *
filter_registry_new(void)
{
	struct filter_registry *r = xcalloc(1, sizeof(*r));

	SLIST_INIT(&r->list);
	return r;
}

void
filter_registry_free(struct filter_registry **registry)
{
	struct filter_registry *r = *registry;
	struct filter_shared *f;

	*registry = NULL;
	if (r == NULL)
		return;
	while ((f = SLIST_FIRST(&r->list)) != NULL) {
		SLIST_REMOVE_HEAD(&r->list, next);
		slots_free(&f->slots);
		breaker_free(&f->breaker);
		free(f->name);
		free(f);
	}
	free(r);
}

const struct filter_shared *
filter_registry_find(struct filter_registry *r, const char *name)
{
	struct filter_shared *f;

	SLIST_FOREACH(f, &r->list, next)
		if (strcmp(f->name, name) == 0)
			return f;
	f = xcalloc(1, sizeof(*f));
	f->name = xstrdup(name);
	f->slots = slots_new();
	f->breaker = breaker_new();
	SLIST_INSERT_HEAD(&r->list, f, next);
	return f;
}
