/*
 * proxy/reload.c - reading, preparing, handing out and acknowledging a generation of the configuration.
 */
#include "proxy/reload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/xalloc.h"
#include "net/threads.h"
#include "proxy/accept.h"
#include "proxy/channel.h"
#include "proxy/health.h"
#include "proxy/limits.h"
#include "proxy/secret.h"
#include "proxy/session.h"
#include "proxy/tls_files.h"

/* How long the first answer of a new back-end is waited for before its first mail. */
#define PROBE_PATIENCE_MS 50
/* Of one message, whose sender is a person; there is no second try. */
#define ONESHOT_PATIENCE_MS 5000

struct reload {
	struct engine *engine;
	const struct engine_args *args;
	struct sockets *sockets;
	struct snapshot *snapshot; /* the newest one that workers have, or are being given */
	struct snapshot *next;	   /* its back-ends are being asked */
	struct net_timer patience;
	reload_done_fn done; /* of the first generation */
	int renewed;	     /* workers that go by it */
	unsigned failures;
	bool has_failed; /* the last one */
	/* One reload at a time: the monitor waits for our answer. */
	struct net_job *job;
	uint64_t digest;
	unsigned generation;
	struct config *config;
	enum channel_kind verdict;
	struct err err;
};

struct snapshot *
reload_snapshot(struct reload *r)
{
	return r->snapshot != NULL ? r->snapshot : r->next;
}

unsigned
reload_failures(const struct reload *r, bool *is_last_r)
{
	*is_last_r = r->has_failed;
	return r->failures;
}

static void
answer(struct reload *r, enum channel_kind kind, const char *text)
{
	struct channel_packet p = { .kind = kind, .generation = r->generation, .fd = -1 };

	snprintf(p.text, sizeof(p.text), "%s", text);
	if (!channel_send(r->args->monitor_fd, &p))
		log_warn(NULL, "reload", "err=%s", "the monitor does not listen");
}

/* ---- sockets ---- */

static void
close_unwanted(struct reload *r)
{
	for (int i = r->sockets->count - 1; i >= 0; i--)
		if (!sockets_is_wanted(r->snapshot->settings, r->sockets->list[i].key)) {
			close(r->sockets->list[i].fd);
			sockets_remove(r->sockets, i);
		}
}

/* ---- to the workers ---- */

static void
all_renewed(struct reload *r)
{
	reload_done_fn done = r->done;

	health_renew(engine_health(r->engine), r->sockets);
	close_unwanted(r);
	r->done = NULL;
	r->has_failed = false;
	if (done != NULL)
		done(r->engine, r->snapshot->generation);
	else
		answer(r, CHANNEL_RELOADED, "");
}

/* On the admin thread. */
static void
worker_renewed(void *arg)
{
	struct reload *r = arg;

	if (++r->renewed == engine_worker_count(r->engine))
		all_renewed(r);
}

struct handing {
	struct reload *reload;
	struct engine_worker *ew;
	struct snapshot *snapshot;
};

/* On each worker. */
static void
renew_worker(void *arg)
{
	struct handing *h = arg;
	struct engine_worker *ew = h->ew;

	snapshot_unref(&ew->snapshot);
	ew->snapshot = h->snapshot;
	if (!ew->draining)
		accept_renew(ew, h->reload->sockets);
	session_drain_removed(ew);
	net_post(engine_admin(ew->engine), worker_renewed, h->reload);
	free(h);
}

static void
hand_out(struct reload *r)
{
	struct engine *e = r->engine;

	net_timer_clear(&r->patience);
	snapshot_unref(&r->snapshot);
	r->snapshot = r->next;
	r->next = NULL;
	r->renewed = 0;
	for (int i = 0; i < engine_worker_count(e); i++) {
		struct handing *h = xcalloc(1, sizeof(*h));

		*h = (struct handing){ r, engine_worker(e, i), snapshot_ref(r->snapshot) };
		net_post(h->ew->net, renew_worker, h);
	}
}

/* All new back-ends have answered, or have had their time. */
static void
back_ends_known(void *owner)
{
	struct reload *r = owner;

	if (r->next != NULL && !engine_is_stopping(r->engine))
		hand_out(r);
}

/* The first EHLO of a client should offer what the back-end takes; but nobody waits long for one that is down. */
static void
prepare(struct reload *r, struct snapshot *sn)
{
	r->next = sn;
	net_timer_set(&r->patience, r->args->ready != NULL ? ONESHOT_PATIENCE_MS : PROBE_PATIENCE_MS);
	dests_watch_new(engine_dests(r->engine), back_ends_known, r);
}

/* ---- reading ---- */

/* It was good when the monitor read it. */
static enum channel_kind
note_problem(struct reload *r)
{
	const struct config_problem *p;

	TAILQ_FOREACH(p, &r->config->problems, next)
		if (!p->is_warning)
			break;
	err_set(&r->err, "%s", p != NULL ? p->text : "an error");
	return CHANNEL_STALE;
}

/* On a job thread. */
static void
read_files(void *arg)
{
	struct reload *r = arg;
	struct settings *st;

	r->verdict = CHANNEL_RELOADED;
	if (settings_load(r->args->config_path, &r->config, &st) < 0)
		r->verdict = note_problem(r);
	else if (r->config->digest != r->digest)
		r->verdict = CHANNEL_STALE;
	else if (tls_files_load(st, &r->err) < 0 || secrets_load(st, &r->err) < 0)
		r->verdict = CHANNEL_REFUSED;
}

/* The log and the limits belong to the process, not to a snapshot. */
static int
renew_process(struct reload *r, const struct settings *st)
{
	struct log_conf lc = settings_log_conf(st, r->args->to_stderr, r->args->verbose);

	if (log_open(&lc, &r->err) < 0)
		return err_prefix(&r->err, "log");
	limits_set_max(engine_limits(r->engine), limits_max(st));
	return 0;
}

static void
files_read(void *arg)
{
	struct reload *r = arg;
	struct config *config = r->config;

	r->job = NULL;
	r->config = NULL;
	if (engine_is_stopping(r->engine)) {
		config_unref(&config);
		return;
	}
	if (r->verdict == CHANNEL_RELOADED && renew_process(r, config->settings) < 0)
		r->verdict = CHANNEL_REFUSED;
	if (r->verdict == CHANNEL_RELOADED) {
		prepare(r, snapshot_new(r->engine, config, r->generation));
		return;
	}
	config_unref(&config);
	close_unwanted(r);
	answer(r, r->verdict, r->err.text);
}

void
reload_packet(struct reload *r, const struct channel_packet *p)
{
	if (p->kind == CHANNEL_SOCKET && p->fd >= 0) {
		sockets_add(r->sockets, p->text, p->fd);
	} else if (p->kind == CHANNEL_KEPT) {
		r->failures++;
		r->has_failed = true;
	} else if (p->kind == CHANNEL_RELOAD && r->job == NULL && r->next == NULL) {
		r->generation = p->generation;
		r->digest = p->digest;
		err_set(&r->err, "files that change all the time");
		r->job = net_job_start(engine_admin(r->engine), read_files, files_read, r);
	}
}

void
reload_first(struct reload *r, reload_done_fn done)
{
	r->done = done;
	prepare(r, snapshot_new(r->engine, r->args->config, r->args->generation));
}

/* ---- life ---- */

struct reload *
reload_new(struct engine *e, const struct engine_args *args, struct sockets *sockets)
{
	struct reload *r = xcalloc(1, sizeof(*r));

	r->engine = e;
	r->args = args;
	r->sockets = sockets;
	net_timer_init(&r->patience, engine_admin(e), back_ends_known, r);
	return r;
}

static void
reload_gone(void *arg)
{
	struct reload *r = arg;

	config_unref(&r->config);
	free(r);
}

void
reload_free(struct reload **reload)
{
	struct reload *r = *reload;

	*reload = NULL;
	if (r == NULL)
		return;
	net_timer_deinit(&r->patience);
	snapshot_unref(&r->next);
	snapshot_unref(&r->snapshot);
	if (r->job != NULL)
		net_job_cancel(&r->job, reload_gone);
	else
		reload_gone(r);
}
