/*
 * proxy/dests.c - sharing, asking and, when nobody needs it any more, ending a destination.
 *
 * The end takes several turns, because connections live on the workers: each worker closes its idle ones and is
 * told that those given back later are to be closed; when none is left, all workers are asked once more, so
 * that nothing that was posted before still knows the destination.
 */
#include "proxy/dests.h"

#include <stdlib.h>
#include <string.h>

#include "base/xalloc.h"

struct dest_share {
	struct dests *dests;
	struct config *config; /* whose strings the destination's conf has */
	const struct backend *backend;
	struct smtp_dest *dest;
	int users; /* snapshots */
	bool is_watched, was_unused;
	int asked; /* workers that have not answered yet */
	LIST_ENTRY(dest_share) next;
};

struct dests {
	struct engine *engine;
	LIST_HEAD(, dest_share) list;
	int unknown; /* new ones whose hosts have not answered yet */
	void (*done)(void *owner);
	void *owner;
};

struct dests *
dests_new(struct engine *e)
{
	struct dests *d = xcalloc(1, sizeof(*d));

	d->engine = e;
	LIST_INIT(&d->list);
	return d;
}

static void
share_free(struct dest_share *s)
{
	LIST_REMOVE(s, next);
	smtp_dest_free(&s->dest);
	config_unref(&s->config);
	free(s);
}

void
dests_free(struct dests **dests_p)
{
	struct dests *d = *dests_p;

	*dests_p = NULL;
	if (d == NULL)
		return;
	while (!LIST_EMPTY(&d->list)) {
		smtp_dest_close_all(LIST_FIRST(&d->list)->dest);
		share_free(LIST_FIRST(&d->list));
	}
	free(d);
}

/* ---- sharing ---- */

static bool
is_same_password(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* What stands in the block decides, what it takes from elsewhere, and what has come from its files. */
static bool
is_same(const struct backend *a, const struct backend *b)
{
	return strcmp(a->name, b->name) == 0 && config_block_same(a->block, b->block) &&
	       strcmp(a->conf.client.helo, b->conf.client.helo) == 0 && is_same_password(a->password, b->password);
}

struct dest_share *
dests_take(struct dests *d, struct config *config, const struct backend *backend)
{
	const struct settings *st = config->settings;
	struct dest_share *s;

	LIST_FOREACH(s, &d->list, next)
		if (s->users > 0 && is_same(s->backend, backend))
			break;
	if (s == NULL) {
		s = xcalloc(1, sizeof(*s));
		s->dests = d;
		s->config = config_ref(config);
		s->backend = backend;
		s->dest = smtp_dest_new(&backend->dest_conf, st->workers);
		LIST_INSERT_HEAD(&d->list, s, next);
	}
	s->users++;
	return s;
}

void
dests_give(struct dests *d, struct dest_share **share)
{
	struct dest_share *s = *share;

	(void)d;
	*share = NULL;
	if (s != NULL)
		s->users--;
}

struct smtp_dest *
dest_share_dest(const struct dest_share *share)
{
	return share->dest;
}

const struct backend *
dest_share_backend(const struct dest_share *share)
{
	return share->backend;
}

void
dests_each(struct dests *d, void (*fn)(struct smtp_dest *dest, void *arg), void *arg)
{
	struct dest_share *s;

	LIST_FOREACH(s, &d->list, next)
		if (s->users > 0)
			fn(s->dest, arg);
}

/* ---- asking ---- */

static void
one_known(void *arg)
{
	struct dests *d = arg;

	if (--d->unknown == 0 && d->done != NULL)
		d->done(d->owner);
}

/* On worker 0. */
static void
hosts_answered(void *owner)
{
	struct dest_share *s = owner;

	net_post(engine_admin(s->dests->engine), one_known, s->dests);
}

static void
watch(void *arg)
{
	struct dest_share *s = arg;

	smtp_dest_watch(s->dest, engine_worker(s->dests->engine, 0)->net, hosts_answered, s);
}

void
dests_watch_new(struct dests *d, void (*done)(void *owner), void *owner)
{
	struct dest_share *s;

	d->done = done;
	d->owner = owner;
	d->unknown++; /* ours: none comes before all are counted */
	LIST_FOREACH(s, &d->list, next)
		if (!s->is_watched && s->users > 0) {
			s->is_watched = true;
			d->unknown++;
			net_post(engine_worker(d->engine, 0)->net, watch, s);
		}
	net_post(engine_admin(d->engine), one_known, d);
}

/* ---- the end ---- */

struct question {
	struct dest_share *share;
	struct engine_worker *ew;
};

/* On the admin thread. */
static void
answered(void *arg)
{
	struct dest_share *s = arg;

	if (--s->asked == 0 && s->was_unused)
		share_free(s);
}

/* On each worker. */
static void
let_go(void *arg)
{
	struct question *q = arg;

	if (net_worker_index(q->ew->net) == 0)
		smtp_dest_unwatch(q->share->dest);
	smtp_dest_close_idle(q->share->dest, q->ew->net);
	net_post(engine_admin(q->ew->engine), answered, q->share);
	free(q);
}

static void
ask_workers(struct dest_share *s)
{
	struct engine *e = s->dests->engine;

	s->was_unused = smtp_dest_is_unused(s->dest);
	s->asked = engine_worker_count(e);
	for (int i = 0; i < engine_worker_count(e); i++) {
		struct question *q = xcalloc(1, sizeof(*q));

		*q = (struct question){ s, engine_worker(e, i) };
		net_post(q->ew->net, let_go, q);
	}
}

void
dests_sweep(struct dests *d)
{
	struct dest_share *s, *next;

	LIST_FOREACH_SAFE(s, &d->list, next, next)
		if (s->users == 0 && s->asked == 0)
			ask_workers(s);
}
