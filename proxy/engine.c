/*
 * proxy/engine.c - workers, admin thread, start and orderly stop.
 *
 * The first thread is the admin thread: it has the signals, the monitor's channel and the workers' heartbeat,
 * and it never carries mail.
 */
#include "proxy/engine.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/xalloc.h"
#include "net/listener.h"
#include "net/threads.h"
#include "net/watch.h"
#include "proxy/session.h"
#include "work/helper.h"
#include "work/program.h"

#define JOB_THREADS 4
/* How long a start waits for the back-ends' first answer. */
#define PROBE_PATIENCE_MS 80
/* A worker whose loop has not turned for so long is stuck; it is said once. */
#define STUCK_MS 10000

struct engine {
	const struct engine_args *args;
	struct config *config;
	struct settings *settings;
	struct net_worker *admin;
	struct engine_worker *workers;
	int worker_count;
	struct smtp_dest **dests; /* by backend index; NULL for embedded ones */
	struct program_client *programs;
	struct net_watch *signals, *monitor;
	int signal_fd;
	struct net_timer beat_timer, drain_timer;
	uint64_t *beats;
	uint64_t *beat_seen; /* clock_ms when it last moved; 0: said to be stuck */
	atomic_uint next_session;
	int listen_count;
	struct net_timer probe_timer; /* worker 0's, as are the next two */
	int probes_left;
	bool is_accepting;
	int deaf;	  /* workers that no longer listen */
	int settled;	  /* workers that have nothing left */
	bool is_stopping;
	bool is_cutting; /* drain_timeout is over */
};

struct config *
engine_config(struct engine *e)
{
	return e->config;
}

struct smtp_dest *
engine_dest(struct engine *e, const struct backend *backend)
{
	return e->dests[backend->index];
}

unsigned
engine_next_session(struct engine *e)
{
	return atomic_fetch_add(&e->next_session, 1);
}

/* ---- what a worker keeps ---- */

struct arena *
engine_arena_take(struct engine_worker *ew)
{
	if (ew->spare_count > 0)
		return ew->spare[--ew->spare_count];
	return arena_new();
}

void
engine_arena_give(struct engine_worker *ew, struct arena **arena)
{
	if (ew->spare_count == (int)ARRAY_COUNT(ew->spare)) {
		arena_free(arena);
		return;
	}
	arena_reset(*arena);
	ew->spare[ew->spare_count++] = *arena;
	*arena = NULL;
}

bool
engine_has_room(struct engine_worker *ew)
{
	uint64_t now = net_worker_now(ew->net);
	bool had_room = ew->has_room;
	struct err err;

	if (ew->room_checked != 0 && now - ew->room_checked < 1000)
		return ew->has_room;
	ew->room_checked = now;
	ew->has_room = spool_room(&ew->engine->settings->spool, &err) == 0;
	if (had_room && !ew->has_room)
		log_error(NULL, "spool", "err=%s", err.text);
	else if (!had_room && ew->has_room)
		log_info(NULL, "spool", "state=%s", "there is room again");
	return ew->has_room;
}

/* ---- accepting ---- */

struct accept_ctx {
	struct engine_worker *ew;
	const struct listener *listener;
};

static void
accepted(void *owner, struct net_worker *w, int fd)
{
	struct accept_ctx *ctx = owner;

	(void)w;
	session_start(ctx->ew, ctx->listener, fd);
}

static void
listen_all(struct engine_worker *ew)
{
	struct engine *e = ew->engine;

	ew->listeners = xcalloc((size_t)e->listen_count, sizeof(struct net_listener *));
	for (int i = 0; i < e->settings->listener_count; i++) {
		const struct listener *l = &e->settings->listeners[i];

		for (size_t k = 0; k < l->conf.listen.count; k++) {
			struct accept_ctx *ctx = arena_zalloc(e->config->arena, sizeof(*ctx));

			*ctx = (struct accept_ctx){ ew, l };
			ew->listeners[ew->listener_count] = net_listener_new(
				ew->net, e->args->listen_fds[ew->listener_count], accepted, ctx);
			net_listener_pause(ew->listeners[ew->listener_count]);
			ew->listener_count++;
		}
	}
}

static void
stop_listening(struct engine_worker *ew)
{
	for (int i = 0; i < ew->listener_count; i++)
		net_listener_free(&ew->listeners[i]);
	ew->listener_count = 0;
}

static void
for_all_workers(struct engine *e, void (*fn)(void *))
{
	for (int i = 0; i < e->worker_count; i++)
		net_post(e->workers[i].net, fn, &e->workers[i]);
}

/* ---- learning what back-ends offer, at start ---- */

/* "PIPELINING,SIZE 10240000,8BITMIME": what we make use of. */
static void
describe_caps(const struct smtp_caps *theirs, struct str *out)
{
	struct smtp_caps caps = *theirs;

	caps.bits &= SMTP_CAP_PIPELINING | SMTP_CAP_SIZE | SMTP_CAP_STATUSCODES | SMTP_CAP_8BITMIME |
		     SMTP_CAP_DSN | SMTP_CAP_SMTPUTF8 | SMTP_CAP_CHUNKING;
	smtp_caps_write(&caps, out);
	for (size_t i = 0; i < out->len; i++)
		if (out->data[i] == '\n')
			out->data[i] = ',';
}

static void
start_accepting(void *arg)
{
	struct engine_worker *ew = arg;

	for (int i = 0; i < ew->listener_count; i++)
		net_listener_resume(ew->listeners[i]);
}

/* On worker 0: all back-ends are known, or have had their time. */
static void
probes_over(void *arg)
{
	struct engine *e = arg;

	if (e->is_accepting)
		return;
	e->is_accepting = true;
	net_timer_deinit(&e->probe_timer);
	for_all_workers(e, start_accepting);
}

struct probe {
	struct engine *engine;
	struct smtp_dest *dest;
};

static void
probed(void *owner, struct smtp_client *client, const struct err *err, const struct smtp_reply *reply)
{
	struct probe *probe = owner;
	struct smtp_dest *dest = probe->dest;
	struct str offers = STR_INIT;

	(void)reply;
	if (--probe->engine->probes_left == 0)
		probes_over(probe->engine);
	if (client == NULL) {
		log_warn(NULL, "backend", "backend=%s err=%s", smtp_dest_conf(dest)->name,
			err != NULL ? err->text : "all connections are in use");
		return;
	}
	describe_caps(smtp_client_caps(client), &offers);
	log_info(NULL, "backend", "backend=%s state=up offers=%s", smtp_dest_conf(dest)->name,
		log_some(str_text(&offers)));
	str_deinit(&offers);
	smtp_pool_put(dest, &client);
}

/* The first EHLO of a client should already offer what the back-end takes; so it is asked before anybody is
 * accepted, but nobody waits long for a back-end that is down. */
static void
probe_all(void *arg)
{
	struct engine *e = arg;
	struct net_worker *w = e->workers[0].net;
	struct smtp_client *client;

	net_timer_init(&e->probe_timer, w, probes_over, e);
	net_timer_set(&e->probe_timer, PROBE_PATIENCE_MS);
	e->probes_left = 1;
	for (int i = 0; i < e->settings->backend_count; i++) {
		struct probe *probe = arena_zalloc(e->config->arena, sizeof(*probe));

		if (e->dests[i] == NULL)
			continue;
		*probe = (struct probe){ e, e->dests[i] };
		e->probes_left++;
		smtp_pool_get(e->dests[i], w, SMTP_POOL_NOWAIT, true, 0, probed, probe, &client);
	}
	if (--e->probes_left == 0)
		probes_over(e);
}

/* ---- stop ---- */

/* On the admin thread. */
static void
worker_settled(void *arg)
{
	struct engine *e = arg;

	if (++e->settled < e->worker_count)
		return;
	for (int i = 0; i < e->worker_count; i++)
		net_worker_stop(e->workers[i].net);
	net_worker_stop(e->admin);
}

void
engine_settled(struct engine_worker *ew)
{
	if (!ew->draining || atomic_load(&ew->busy) > 0 || ew->listeners == NULL)
		return;
	free(ew->listeners);
	ew->listeners = NULL;
	for (int i = 0; i < ew->engine->settings->backend_count; i++)
		if (ew->engine->dests[i] != NULL)
			smtp_dest_close_idle(ew->engine->dests[i], ew->net);
	net_post(ew->engine->admin, worker_settled, ew->engine);
}

/* On the admin thread. The workers share the sockets: the last one that has let go closes them, so that new
 * clients are refused and do not wait for the end of the drain. */
static void
stopped_listening(void *arg)
{
	struct engine *e = arg;

	if (++e->deaf < e->worker_count)
		return;
	for (int i = 0; i < e->listen_count; i++)
		close(e->args->listen_fds[i]);
}

static void
drain_worker(void *arg)
{
	struct engine_worker *ew = arg;

	if (ew->draining)
		return;
	ew->draining = true;
	stop_listening(ew);
	net_post(ew->engine->admin, stopped_listening, ew->engine);
	session_drain_all(ew);
	engine_settled(ew);
}

static void
cut_worker(void *arg)
{
	session_cut_all(arg);
}

/* Again and again: a session whose delivery could not be cut may have become one that can. */
static void
drain_over(void *arg)
{
	struct engine *e = arg;

	if (!e->is_cutting)
		log_warn(NULL, "stop", "state=%s", "drain_timeout is over, sessions are cut");
	e->is_cutting = true;
	for_all_workers(e, cut_worker);
	net_timer_set(&e->drain_timer, 1000);
}

static void
stop_at_once(void)
{
	log_warn(NULL, "stop", "state=%s", "asked twice, stopping at once");
	log_flush();
	_exit(0);
}

/* Finishes what is under way. */
static void
stop_engine(struct engine *e, const char *why)
{
	if (e->is_stopping)
		return;
	log_info(NULL, "stop", "why=%s", why);
	e->is_stopping = true;
	for_all_workers(e, drain_worker);
	net_timer_set(&e->drain_timer, e->settings->top.drain_timeout);
}

/* ---- the admin thread ---- */

/* The monitor's words (stop() there). What a terminal or a service manager says to all processes at once
 * comes twice: SIGTERM may, SIGINT and SIGQUIT are not for us. */
static void
on_signal(void *owner)
{
	struct engine *e = owner;
	struct signalfd_siginfo info;
	struct err err;

	while (read(e->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGUSR2)
			stop_at_once();
		else if (info.ssi_signo == SIGTERM)
			stop_engine(e, strsignal((int)info.ssi_signo));
		else if (log_reopen(&err) < 0)
			log_error(NULL, "log", "err=%s", err.text);
		else
			log_info(NULL, "log", "state=%s", "reopened");
	}
}

/* The monitor never writes: readable means that it is gone. */
static void
on_monitor(void *owner)
{
	struct engine *e = owner;

	net_watch_free(&e->monitor);
	stop_engine(e, "the monitor is gone");
}

static void
on_beat(void *arg)
{
	struct engine *e = arg;
	uint64_t now = clock_ms();

	for (int i = 0; i < e->worker_count; i++) {
		uint64_t beat = net_worker_beat(e->workers[i].net);

		if (beat != e->beats[i]) {
			e->beats[i] = beat;
			e->beat_seen[i] = now;
		} else if (e->beat_seen[i] != 0 && now - e->beat_seen[i] > STUCK_MS) {
			e->beat_seen[i] = 0;
			log_error(NULL, "stuck", "worker=w%d", i);
		}
	}
	net_timer_set(&e->beat_timer, 1000);
}

static void
programs_lost(void *owner)
{
	struct engine *e = owner;

	if (!e->is_stopping)
		log_error(NULL, "spawner", "err=%s", "the spawner is gone; the monitor starts a new engine");
}

static int
watch_signals(struct engine *e, struct err *err)
{
	sigset_t set;

	sigfillset(&set);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	e->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (e->signal_fd < 0)
		return err_sys(err, "signalfd");
	e->signals = net_watch_new(e->admin, e->signal_fd, on_signal, e);
	return 0;
}

/* ---- start ---- */

static int
make_worker(struct engine *e, int i, struct err *err)
{
	struct engine_worker *ew = &e->workers[i];

	ew->engine = e;
	ew->net = net_worker_new(i, err);
	if (ew->net == NULL)
		return -1;
	ew->has_room = true;
	TAILQ_INIT(&ew->sessions);
	TAILQ_INIT(&ew->orphans);
	net_worker_set_user(ew->net, ew);
	ew->filters.worker = ew->net;
	ew->filters.helpers = helper_pool_new(ew->net, e->programs, e->args->helper_path);
	listen_all(ew);
	return 0;
}

static void
make_dests(struct engine *e)
{
	const struct settings *st = e->settings;

	e->dests = xcalloc((size_t)st->backend_count + 1, sizeof(struct smtp_dest *));
	for (int i = 0; i < st->backend_count; i++)
		if (st->backends[i].kind == BACKEND_SMTP)
			e->dests[i] = smtp_dest_new(&st->backends[i].dest_conf, st->workers);
}

static int
start(struct engine *e, struct err *err)
{
	unsigned seed = 0;

	if (getrandom(&seed, sizeof(seed), 0) < 0)
		seed = (unsigned)clock_us();
	atomic_init(&e->next_session, seed & 0xffffff);
	e->admin = net_worker_new(-1, err);
	if (e->admin == NULL || watch_signals(e, err) < 0)
		return -1;
	if (net_threads_start(JOB_THREADS, err) < 0)
		return -1;
	e->programs = program_client_new(e->admin, e->args->spawner_fd, programs_lost, e);
	make_dests(e);
	for (int i = 0; i < e->settings->listener_count; i++)
		e->listen_count += (int)e->settings->listeners[i].conf.listen.count;
	e->worker_count = e->settings->workers;
	e->workers = xcalloc((size_t)e->worker_count, sizeof(*e->workers));
	e->beats = xcalloc((size_t)e->worker_count, sizeof(*e->beats));
	e->beat_seen = xcalloc((size_t)e->worker_count, sizeof(*e->beat_seen));
	for (int i = 0; i < e->worker_count; i++)
		if (make_worker(e, i, err) < 0)
			return -1;
	for (int i = 0; i < e->worker_count; i++)
		if (net_worker_start(e->workers[i].net, err) < 0)
			return -1;
	net_post(e->workers[0].net, probe_all, e);
	e->monitor = net_watch_new(e->admin, e->args->monitor_fd, on_monitor, e);
	net_timer_init(&e->beat_timer, e->admin, on_beat, e);
	net_timer_init(&e->drain_timer, e->admin, drain_over, e);
	on_beat(e);
	return 0;
}

static void
cleanup(struct engine *e)
{
	for (int i = 0; i < e->worker_count; i++)
		net_worker_join(e->workers[i].net);
	net_threads_stop();
	for (int i = 0; i < e->worker_count; i++)
		net_worker_settle(e->workers[i].net);
	for (int i = 0; i < e->settings->backend_count; i++)
		if (e->dests[i] != NULL)
			smtp_dest_close_all(e->dests[i]);
	for (int i = 0; i < e->worker_count; i++)
		helper_pool_free(&e->workers[i].filters.helpers);
	program_client_free(&e->programs);
	net_timer_deinit(&e->probe_timer);
	for (int i = 0; i < e->worker_count; i++) {
		while (e->workers[i].spare_count > 0)
			arena_free(&e->workers[i].spare[--e->workers[i].spare_count]);
		net_worker_free(&e->workers[i].net);
	}
	for (int i = 0; i < e->settings->backend_count; i++)
		smtp_dest_free(&e->dests[i]);
	net_watch_free(&e->monitor);
	net_watch_free(&e->signals);
	net_timer_deinit(&e->beat_timer);
	net_timer_deinit(&e->drain_timer);
	net_worker_free(&e->admin);
	free(e->dests);
	free(e->workers);
	free(e->beats);
	free(e->beat_seen);
	close(e->signal_fd);
	config_unref(&e->config);
}

int
engine_main(const struct engine_args *args)
{
	struct engine e = { .args = args, .config = args->config, .settings = args->settings };
	struct err err;

	signal(SIGPIPE, SIG_IGN);
	/* A file over the limit is an error of that write, not the end of the process. */
	signal(SIGXFSZ, SIG_IGN);
	log_thread("a");
	atexit(log_flush); /* libevent ends the process where it cannot get descriptors */
	if (start(&e, &err) < 0) {
		log_error(NULL, "start", "err=%s", err.text);
		return EX_OSERR;
	}
	if (write(args->monitor_fd, "R", 1) != 1)
		log_warn(NULL, "start", "err=%s", "the monitor does not listen");
	log_info(NULL, "ready", "workers=%d listeners=%d version=%s", e.worker_count,
		e.settings->listener_count, POSTERN_VERSION);
	log_flush();
	net_worker_run(e.admin);
	cleanup(&e);
	log_info(NULL, "stopped", "state=%s", "all transactions have ended");
	log_flush();
	return 0;
}
