/*
 * proxy/tls_files.c - reading certificates and keys, now and when their files change.
 */
#include "proxy/tls_files.h"

#include <stdlib.h>

#include "base/xalloc.h"
#include "net/threads.h"
#include "proxy/snapshot.h"

#define LOOK_EVERY_MS 3000

struct tls_files {
	struct engine *engine;
	struct net_timer timer;
	struct net_job *job;
	struct snapshot *looked_at; /* by the job */
};

/* -1: stop here. */
typedef int (*each_fn)(struct net_tls_live *live, const char *what, const char *name, struct err *err);

static int
for_each(const struct settings *st, each_fn fn, struct err *err)
{
	for (int i = 0; i < st->listener_count; i++)
		if (st->listeners[i].tls != NULL && fn(st->listeners[i].tls, "listener", st->listeners[i].name, err) < 0)
			return -1;
	for (int i = 0; i < st->backend_count; i++)
		if (st->backends[i].tls != NULL && fn(st->backends[i].tls, "backend", st->backends[i].name, err) < 0)
			return -1;
	return 0;
}

static int
load_first(struct net_tls_live *live, const char *what, const char *name, struct err *err)
{
	if (net_tls_live_load(live, err) < 0)
		return err_prefix(err, "%s %s", what, name);
	return 0;
}

int
tls_files_load(const struct settings *settings, struct err *err)
{
	return for_each(settings, load_first, err);
}

static void
load_again(struct net_tls_live *live, const char *what, const char *name)
{
	struct err err;
	int rc;

	if (live == NULL)
		return;
	rc = net_tls_live_load(live, &err);
	if (rc < 0)
		log_error(NULL, "certificate", "of=%s name=%s state=%s err=%s", what, name, "kept", err.text);
	else if (rc > 0)
		log_info(NULL, "certificate", "of=%s name=%s state=%s", what, name, "loaded");
}

/* A back-end that a reload has not touched uses the files' state of the configuration it came with. */
static void
look(void *arg)
{
	const struct snapshot *sn = ((struct tls_files *)arg)->looked_at;
	const struct settings *st = sn->settings;

	for (int i = 0; i < st->listener_count; i++)
		load_again(st->listeners[i].tls, "listener", st->listeners[i].name);
	for (int i = 0; i < st->backend_count; i++)
		if (sn->shares[i] != NULL)
			load_again(dest_share_backend(sn->shares[i])->tls, "backend", st->backends[i].name);
}

static void
looked(void *arg)
{
	struct tls_files *f = arg;

	f->job = NULL;
	snapshot_unref(&f->looked_at);
	net_timer_set(&f->timer, LOOK_EVERY_MS);
}

static void
time_to_look(void *arg)
{
	struct tls_files *f = arg;

	f->looked_at = snapshot_ref(engine_snapshot(f->engine));
	f->job = net_job_start(engine_admin(f->engine), look, looked, f);
}

struct tls_files *
tls_files_watch(struct engine *e)
{
	struct tls_files *f = xcalloc(1, sizeof(*f));

	f->engine = e;
	net_timer_init(&f->timer, engine_admin(e), time_to_look, f);
	net_timer_set(&f->timer, LOOK_EVERY_MS);
	return f;
}

/* A job that runs still looks at f. */
static void
files_gone(void *arg)
{
	struct tls_files *f = arg;

	snapshot_unref(&f->looked_at);
	free(f);
}

void
tls_files_free(struct tls_files **files_p)
{
	struct tls_files *f = *files_p;

	*files_p = NULL;
	if (f == NULL)
		return;
	net_timer_deinit(&f->timer);
	if (f->job != NULL)
		net_job_cancel(&f->job, files_gone);
	else
		files_gone(f);
}
