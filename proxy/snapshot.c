/*
 * proxy/snapshot.c - making, counting and asking one generation of the configuration.
 */
#include "proxy/snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "base/xalloc.h"
#include "filters/set.h"
#include "proxy/limits.h"
#include "proxy/metrics.h"

struct snapshot *
snapshot_new(struct engine *e, struct config *config, unsigned generation)
{
	struct snapshot *sn = xcalloc(1, sizeof(*sn));
	struct settings *st = config->settings;

	sn->generation = generation;
	sn->config = config;
	sn->settings = st;
	sn->refs = 1;
	sn->engine = e;
	metrics_attach(engine_metrics(e), st);
	filter_set_attach(st->filters, engine_filters(e));
	sn->shares = xcalloc((size_t)st->backend_count + 1, sizeof(*sn->shares));
	for (int i = 0; i < st->backend_count; i++)
		if (st->backends[i].kind == BACKEND_SMTP)
			sn->shares[i] = dests_take(engine_dests(e), config, &st->backends[i]);
	for (int i = 0; i < st->listener_count; i++)
		st->listeners[i].count = limits_listener(engine_limits(e), st->listeners[i].name);
	return sn;
}

struct snapshot *
snapshot_ref(struct snapshot *sn)
{
	__atomic_add_fetch(&sn->refs, 1, __ATOMIC_RELAXED);
	return sn;
}

/* On the admin thread, which has the destinations. */
static void
end(void *arg)
{
	struct snapshot *sn = arg;

	for (int i = 0; i < sn->settings->backend_count; i++)
		dests_give(engine_dests(sn->engine), &sn->shares[i]);
	config_unref(&sn->config);
	free(sn->shares);
	free(sn);
}

void
snapshot_unref(struct snapshot **snapshot)
{
	struct snapshot *sn = *snapshot;

	*snapshot = NULL;
	if (sn != NULL && __atomic_sub_fetch(&sn->refs, 1, __ATOMIC_ACQ_REL) == 0)
		net_post(engine_admin(sn->engine), end, sn);
}

struct smtp_dest *
snapshot_dest(const struct snapshot *sn, const struct backend *backend)
{
	return dest_share_dest(sn->shares[backend->index]);
}

const struct listener *
snapshot_listener(const struct snapshot *sn, const char *name)
{
	const struct settings *st = sn->settings;

	for (int i = 0; i < st->listener_count; i++)
		if (strcmp(st->listeners[i].name, name) == 0)
			return &st->listeners[i];
	return NULL;
}
