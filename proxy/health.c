/* proxy/health.c - how the engine is: beats, room, back-ends; and the pages that say so. */
#include "proxy/health.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/xalloc.h"
#include "filters/set.h"
#include "net/http.h"
#include "net/threads.h"
#include "proxy/metrics.h"
#include "proxy/snapshot.h"

#define LOOK_MS 1000
/* A file system that has not answered for so long has no room for mail. */
#define ROOM_PATIENCE_MS 5000

/* A look at the spool's room, in the hands of a job thread. */
struct look {
	struct health *health;
	struct config *config;
	int64_t room;
	struct err err;
};

struct health {
	struct engine *engine;
	struct net_worker *admin;
	struct net_http *http; /* NULL: nobody may ask */
	int *fds; /* on which we listen; borrowed from the engine's sockets */
	int fd_count;
	struct net_timer timer;
	uint64_t started_ms;
	struct net_job *job; /* of a look; NULL: none is under way */
	uint64_t asked_ms;
	int64_t room; /* at the last look */
	char no_room[sizeof(((struct err *)0)->text)]; /* why; "": there is room */
};

struct engine *
health_engine(const struct health *h)
{
	return h->engine;
}

const struct settings *
health_settings(const struct health *h)
{
	return engine_snapshot(h->engine)->settings;
}

uint64_t
health_uptime(const struct health *h)
{
	return clock_ms() - h->started_ms;
}

/* ---- the spool's room ---- */

static void
look_free(void *arg)
{
	struct look *look = arg;

	config_unref(&look->config);
	free(look);
}

static void
look_run(void *arg)
{
	struct look *look = arg;
	const struct settings *st = look->config->settings;

	look->room = spool_room(&st->spool, &look->err);
}

static void
look_done(void *arg)
{
	struct look *look = arg;
	struct health *h = look->health;

	h->job = NULL;
	h->room = look->room < 0 ? 0 : look->room;
	h->no_room[0] = '\0';
	if (look->room < 0)
		snprintf(h->no_room, sizeof(h->no_room), "%s", look->err.text);
	look_free(look);
}

static void
look_at_room(struct health *h)
{
	struct look *look;

	if (h->job != NULL)
		return;
	look = xcalloc(1, sizeof(*look));
	look->health = h;
	look->config = config_ref(engine_snapshot(h->engine)->config);
	h->asked_ms = clock_ms();
	h->job = net_job_start(h->admin, look_run, look_done, look);
}

/* NULL: there is room. */
static const char *
no_room(const struct health *h)
{
	if (h->job != NULL && clock_ms() - h->asked_ms > ROOM_PATIENCE_MS)
		return "its file system does not answer";
	return h->no_room[0] != '\0' ? h->no_room : NULL;
}

int64_t
health_room(const struct health *h)
{
	return no_room(h) != NULL ? 0 : h->room;
}

/* ---- verdicts ---- */

static bool
is_up(const struct health *h, const struct backend *b)
{
	const struct smtp_dest *dest;
	const char *host;

	if (b->kind != BACKEND_SMTP)
		return true;
	dest = snapshot_dest(engine_snapshot(h->engine), b);
	for (int i = 0; i < b->dest_conf.host_count; i++)
		if (smtp_dest_host(dest, i, &host) != SMTP_HOST_DOWN)
			return true;
	return false;
}

static int
count_stuck(const struct health *h)
{
	int n = 0;

	for (int i = 0; i < engine_worker_count(h->engine); i++)
		n += engine_is_stuck(h->engine, i);
	return n;
}

bool
health_lives(const struct health *h, struct str *why)
{
	for (int i = 0; i < engine_worker_count(h->engine); i++)
		if (engine_is_stuck(h->engine, i))
			str_printf(why, "worker %s is stuck: its loop has not turned for %llu seconds\n",
				net_worker_name(engine_worker(h->engine, i)->net),
				(unsigned long long)(engine_beat_age(h->engine, i) / 1000));
	return count_stuck(h) == 0;
}

/* Does a filter's on_failure answer in its place, other than by pass? Once a probe is due it does not: without mail no
 * probe would ever be made. */
static bool
is_off(const struct filter *f)
{
	const struct filter_conf *c = f->common;

	return c->on_failure != FILTER_FAIL_PASS && !c->shadow && c->breaker.failures > 0 &&
	       breaker_stops(f->breaker, clock_ms());
}

bool
health_is_ready(const struct health *h, struct str *why)
{
	const struct settings *st = health_settings(h);
	size_t before = why->len;
	const char *text = no_room(h);
	const struct filter *f;

	if (engine_is_stopping(h->engine))
		str_add(why, "Postern stops: no new connections are accepted\n");
	if (count_stuck(h) == engine_worker_count(h->engine))
		str_add(why, "all workers are stuck\n");
	for (int i = 0; i < st->listener_count; i++) {
		const struct listener *l = &st->listeners[i];

		if (!is_up(h, l->backend))
			str_printf(why, "listener %s: no host of back-end %s is up\n", l->name, l->backend->name);
	}
	for (size_t i = 0; (f = filter_set_filter(st->filters, i)) != NULL; i++)
		if (is_off(f))
			str_printf(why, "filter %s: failed %d times in a row; on_failure %s answers\n", f->name,
				f->common->breaker.failures, filter_failure_names[f->common->on_failure]);
	if (text != NULL)
		str_printf(why, "spool %s: %s\n", st->spool.directory, text);
	return why->len == before;
}

/* ---- pages ---- */

static void
page_healthz(const struct health *h, struct net_http_reply *reply)
{
	if (health_lives(h, &reply->body))
		str_add(&reply->body, "ok\n");
	else
		reply->status = 503;
}

static void
page_readyz(const struct health *h, struct net_http_reply *reply)
{
	if (health_is_ready(h, &reply->body))
		str_add(&reply->body, "ok\n");
	else
		reply->status = 503;
}

static void
page_metrics(const struct health *h, struct net_http_reply *reply)
{
	reply->type = "text/plain; version=0.0.4; charset=utf-8";
	metrics_write(h, &reply->body);
}

static void
page_status(const struct health *h, struct net_http_reply *reply)
{
	reply->type = "application/json";
	health_status(h, &reply->body);
}

static const struct page {
	const char *path;
	void (*write)(const struct health *h, struct net_http_reply *reply);
} pages[] = {
	{ "/healthz", page_healthz },
	{ "/readyz", page_readyz },
	{ "/metrics", page_metrics },
	{ "/status", page_status },
};

static void
answer(void *owner, const struct net_http_request *request, struct net_http_reply *reply)
{
	struct health *h = owner;

	if (!nets_admit(&health_settings(h)->health.clients, request->client)) {
		reply->status = 403;
		str_add(&reply->body, "this address may not ask here (postern.conf: health, clients)\n");
		return;
	}
	for (size_t i = 0; i < ARRAY_COUNT(pages); i++)
		if (strcmp(request->path, pages[i].path) == 0) {
			pages[i].write(h, reply);
			return;
		}
	reply->status = 404;
	str_add(&reply->body, "there are /healthz, /readyz, /metrics and /status\n");
}

/* ---- life ---- */

static void
look(void *arg)
{
	struct health *h = arg;

	look_at_room(h);
	net_timer_set(&h->timer, LOOK_MS);
}

struct finding {
	const struct sockets *sockets;
	int *fds;
	int count;
};

static int
find_socket(const struct socket_want *want, void *arg)
{
	struct finding *f = arg;
	int fd;

	for (int n = 0; want->listener == NULL && (fd = sockets_find(f->sockets, want->key, n)) >= 0; n++) {
		f->fds = xrealloc(f->fds, (size_t)(f->count + 1) * sizeof(int));
		f->fds[f->count++] = fd;
	}
	return 0;
}

/* Whoever is just being answered on a socket that stays does not notice. */
void
health_renew(struct health *h, const struct sockets *sockets)
{
	struct finding f = { .sockets = sockets };

	if (h == NULL)
		return;
	sockets_each_want(health_settings(h), find_socket, &f);
	if (f.count == h->fd_count && (f.count == 0 || memcmp(f.fds, h->fds, (size_t)f.count * sizeof(int)) == 0)) {
		free(f.fds);
		return;
	}
	net_http_free(&h->http);
	free(h->fds);
	h->fds = f.fds;
	h->fd_count = f.count;
	if (f.count > 0) {
		look(h);
		h->http = net_http_new(h->admin, h->fds, h->fd_count, answer, h);
	} else {
		net_timer_clear(&h->timer);
	}
}

bool
health_has_socket(const struct health *h, int fd)
{
	for (int i = 0; h != NULL && i < h->fd_count; i++)
		if (h->fds[i] == fd)
			return true;
	return false;
}

struct health *
health_start(struct engine *e)
{
	struct health *h = xcalloc(1, sizeof(*h));

	h->engine = e;
	h->admin = engine_admin(e);
	h->started_ms = clock_ms();
	net_timer_init(&h->timer, h->admin, look, h);
	return h;
}

void
health_free(struct health **h_p)
{
	struct health *h = *h_p;

	*h_p = NULL;
	if (h == NULL)
		return;
	net_http_free(&h->http);
	net_timer_deinit(&h->timer);
	if (h->job != NULL)
		net_job_cancel(&h->job, look_free);
	free(h->fds);
	free(h);
}
