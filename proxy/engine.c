/*
 * proxy/engine.c - workers, admin thread, start and orderly stop.
 *
 * The first thread is the admin thread: it has the signals, the monitor's channel, the configuration and the
 * workers' heartbeat, and it never carries mail.
 */
#include "proxy/engine.h"

#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/xalloc.h"
#include "filters/registry.h"
#include "net/threads.h"
#include "net/watch.h"
#include "proxy/accept.h"
#include "proxy/channel.h"
#include "proxy/health.h"
#include "proxy/limits.h"
#include "proxy/metrics.h"
#include "proxy/reload.h"
#include "proxy/secret.h"
#include "proxy/session.h"
#include "proxy/tls_files.h"
#include "spool/scratch.h"
#include "work/helper.h"
#include "work/program.h"

#define JOB_THREADS 4
#define BEAT_MS	    1000
#define TRIM_MS	    1000

struct engine {
	const struct engine_args *args;
	struct sockets *sockets;
	struct net_worker *admin;
	struct engine_worker *workers;
	int worker_count;
	struct reload *reload;
	struct dests *dests;
	struct program_client *programs;
	struct tls_files *tls_files;
	struct limits *limits;
	struct metrics *metrics;
	struct filter_registry *filters;
	struct health *health;
	struct net_watch *signals, *monitor; /* monitor NULL: it has closed the channel */
	pid_t monitor_pid;
	int signal_fd;
	struct net_timer beat_timer, drain_timer;
	struct heart {
		uint64_t beat;
		uint64_t moved_ms; /* clock_ms, when it last did */
		bool is_stuck;
	} *hearts; /* one per worker */
	atomic_uint next_session;
	int settled; /* workers that have nothing left */
	int deaf;    /* workers that no longer listen */
	bool is_stopping;
	bool is_leaving; /* because another engine has taken over */
	bool is_cutting; /* drain_timeout is over */
};

int
engine_worker_count(const struct engine *e)
{
	return e->worker_count;
}

struct engine_worker *
engine_worker(const struct engine *e, int index)
{
	return &e->workers[index];
}

struct net_worker *
engine_admin(struct engine *e)
{
	return e->admin;
}

struct limits *
engine_limits(struct engine *e)
{
	return e->limits;
}

struct dests *
engine_dests(struct engine *e)
{
	return e->dests;
}

struct health *
engine_health(struct engine *e)
{
	return e->health;
}

unsigned
engine_starts(const struct engine *e)
{
	return e->args->starts;
}

unsigned
engine_reload_failures(const struct engine *e, bool *is_last_r)
{
	return reload_failures(e->reload, is_last_r);
}

struct snapshot *
engine_snapshot(struct engine *e)
{
	return reload_snapshot(e->reload);
}

struct filter_registry *
engine_filters(const struct engine *e)
{
	return e->filters;
}

struct metrics *
engine_metrics(const struct engine *e)
{
	return e->metrics;
}

struct listener_counts *
engine_counts(struct engine_worker *ew, const struct listener *listener)
{
	return &listener->counts[net_worker_index(ew->net)];
}

bool
engine_is_stopping(const struct engine *e)
{
	return e->is_stopping;
}

static const struct settings *
settings(struct engine *e)
{
	return engine_snapshot(e)->settings;
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

/* Without mail all are closed within two seconds. */
static void
trim_spares(void *arg)
{
	struct engine_worker *ew = arg;

	ew->is_trimming = spool_spares_trim(&ew->spool.spares);
	if (ew->is_trimming)
		net_timer_set(&ew->trim, TRIM_MS);
}

void
engine_trim_spool(struct engine_worker *ew)
{
	if (ew->is_trimming || ew->spool.spares.count == 0)
		return;
	ew->is_trimming = true;
	net_timer_set(&ew->trim, TRIM_MS);
}

static void
look_at_room(struct engine_worker *ew)
{
	bool had_room = ew->room >= 0;
	struct err err;

	ew->room_checked = net_worker_now(ew->net);
	ew->room = spool_room(&ew->snapshot->settings->spool, &err);
	if (had_room && ew->room < 0)
		log_error(NULL, "spool", "err=%s", err.text);
	else if (!had_room && ew->room >= 0)
		log_info(NULL, "spool", "state=%s", "there is room again");
}

bool
engine_has_room(struct engine_worker *ew, int64_t size)
{
	if (ew->room_checked == 0 || net_worker_now(ew->net) - ew->room_checked >= 1000)
		look_at_room(ew);
	return ew->room >= 0 && ew->room >= size;
}

void
engine_for_workers(struct engine *e, void (*fn)(void *))
{
	for (int i = 0; i < e->worker_count; i++)
		net_post(e->workers[i].net, fn, &e->workers[i]);
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

static void
close_idle(struct engine_worker *ew)
{
	const struct snapshot *sn = ew->snapshot;

	for (int i = 0; sn != NULL && i < sn->settings->backend_count; i++)
		if (sn->settings->backends[i].kind == BACKEND_SMTP)
			smtp_dest_close_idle(snapshot_dest(sn, &sn->settings->backends[i]), ew->net);
}

void
engine_settled(struct engine_worker *ew)
{
	if (!ew->draining || ew->settled || atomic_load(&ew->busy) > 0)
		return;
	ew->settled = true;
	close_idle(ew);
	net_post(ew->engine->admin, worker_settled, ew->engine);
}

/* Monitoring is still answered while we drain. */
static void
close_listeners(struct engine *e)
{
	for (int i = e->sockets->count - 1; i >= 0; i--)
		if (!health_has_socket(e->health, e->sockets->list[i].fd)) {
			close(e->sockets->list[i].fd);
			sockets_remove(e->sockets, i);
		}
}

static void
close_if_deaf(struct engine *e)
{
	if (e->deaf == e->worker_count)
		close_listeners(e);
}

/* On the admin thread. The workers share the sockets: the last one that has let go closes them, so that new
 * clients are refused and do not wait for the end of the drain. */
static void
stopped_listening(void *arg)
{
	struct engine *e = arg;

	e->deaf++;
	close_if_deaf(e);
}

/* The monitor has died, and the next one wants our addresses: a worker that does not turn does not keep them from it.
 * The descriptors stay, for it may turn again. What a service manager has opened is not ours to end. */
static void
give_up_addresses(struct engine *e)
{
	for (int i = 0; i < e->sockets->count; i++)
		if (strncmp(e->sockets->list[i].key, "fd:", 3) != 0)
			shutdown(e->sockets->list[i].fd, SHUT_RD);
}

static void
stop_accepting(struct engine_worker *ew)
{
	ew->draining = true;
	accept_stop(ew);
	net_post(ew->engine->admin, stopped_listening, ew->engine);
}

static void
drain_worker(void *arg)
{
	struct engine_worker *ew = arg;

	stop_accepting(ew);
	session_drain_all(ew);
	engine_settled(ew);
}

/* Another engine has taken over. */
static void
retire_worker(void *arg)
{
	struct engine_worker *ew = arg;

	ew->is_leaving = true;
	stop_accepting(ew);
	session_retire_all(ew);
	engine_settled(ew);
}

/* After all the machine goes down: who was not hurried is now. */
static void
hurry_worker(void *arg)
{
	struct engine_worker *ew = arg;

	ew->is_leaving = false;
	session_drain_all(ew);
}

static void
cut_worker(void *arg)
{
	hurry_worker(arg);
	session_cut_all(arg);
}

/* Only workers that do not turn any more are left: what they have is lost to us, and not to the front. */
static void
give_up_stuck(struct engine *e)
{
	int stuck = 0;

	for (int i = 0; i < e->worker_count; i++)
		stuck += e->hearts[i].is_stuck;
	if (stuck == 0 || e->settled + stuck < e->worker_count)
		return;
	log_error(NULL, "stop", "err=%s workers=%d", "workers that are stuck are given up", stuck);
	log_flush();
	_exit(EX_SOFTWARE);
}

/* Again and again: a session whose delivery could not be cut may have become one that can. */
static void
drain_over(void *arg)
{
	struct engine *e = arg;

	if (!e->is_cutting)
		log_warn(NULL, "stop", "state=%s", "drain_timeout is over, sessions are cut");
	e->is_cutting = true;
	engine_for_workers(e, cut_worker);
	give_up_stuck(e);
	net_timer_set(&e->drain_timer, 1000);
}

static void
stop_at_once(void)
{
	log_warn(NULL, "stop", "state=%s", "asked twice, stopping at once");
	log_flush();
	_exit(0);
}

/* Finishes what is under way; how: one of the worker's functions above. */
static void
begin_stop(struct engine *e, const char *why, void (*how)(void *))
{
	log_info(NULL, "stop", "why=%s", why);
	e->is_stopping = true;
	engine_for_workers(e, how);
	net_timer_set(&e->drain_timer, settings(e)->top.drain_timeout);
}

static void
stop_engine(struct engine *e, const char *why)
{
	if (!e->is_stopping)
		begin_stop(e, why, drain_worker);
	else if (e->is_leaving)
		engine_for_workers(e, hurry_worker);
	e->is_leaving = false;
}

static void
leave(struct engine *e)
{
	health_free(&e->health);
	if (e->is_stopping)
		return;
	e->is_leaving = true;
	begin_stop(e, "another engine has taken over", retire_worker);
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
		if ((int)info.ssi_signo == ENGINE_STOP_NOW)
			stop_at_once();
		else if ((int)info.ssi_signo == ENGINE_LEAVE)
			leave(e);
		else if (info.ssi_signo == SIGTERM)
			stop_engine(e, strsignal((int)info.ssi_signo));
		else if (log_reopen(&err) < 0)
			log_error(NULL, "log", "err=%s", err.text);
		else
			log_info(NULL, "log", "state=%s", "reopened");
	}
}

static void
tell_monitor(struct engine *e, enum channel_kind kind, const char *text)
{
	struct channel_packet p = { .kind = kind, .fd = -1 };

	strncat(p.text, text, sizeof(p.text) - 1);
	channel_send(e->args->monitor_fd, &p); /* if it is gone, its end of the channel tells us */
}

static void
on_monitor(void *owner)
{
	struct engine *e = owner;
	struct channel_packet packet;
	int rc;

	while ((rc = channel_receive(e->args->monitor_fd, &packet)) > 0)
		reload_packet(e->reload, &packet);
	if (rc == 0)
		return;
	net_watch_free(&e->monitor);
	health_free(&e->health); /* as leave() does: the next monitor wants its address */
	close_if_deaf(e);
	stop_engine(e, "the monitor is gone");
}

uint64_t
engine_beat_age(struct engine *e, int i)
{
	struct heart *h = &e->hearts[i];
	uint64_t beat = net_worker_beat(e->workers[i].net), now = clock_ms();

	if (beat != h->beat) {
		h->beat = beat;
		h->moved_ms = now;
	}
	return now - h->moved_ms;
}

bool
engine_is_stuck(struct engine *e, int i)
{
	return engine_beat_age(e, i) > (uint64_t)settings(e)->top.stuck_timeout;
}

/* The monitor starts another engine beside us, and this one drains. */
static void
look_at_heart(struct engine *e, int i)
{
	struct heart *h = &e->hearts[i];
	const char *name = net_worker_name(e->workers[i].net);
	bool was_stuck = h->is_stuck;

	h->is_stuck = engine_is_stuck(e, i);
	if (h->is_stuck && !was_stuck) {
		log_error(NULL, "stuck", "worker=%s for_ms=%llu", name, (unsigned long long)engine_beat_age(e, i));
		tell_monitor(e, CHANNEL_STUCK, name);
	} else if (was_stuck && !h->is_stuck) {
		log_warn(NULL, "stuck", "worker=%s state=%s", name, "turns again");
	}
}

static void
on_beat(void *arg)
{
	struct engine *e = arg;

	for (int i = 0; i < e->worker_count; i++)
		look_at_heart(e, i);
	if (e->monitor == NULL && getppid() != e->monitor_pid)
		give_up_addresses(e);
	tell_monitor(e, CHANNEL_BEAT, "");
	dests_sweep(e->dests);
	net_timer_set(&e->beat_timer, BEAT_MS);
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
	sigaddset(&set, ENGINE_STOP_NOW);
	sigaddset(&set, ENGINE_LEAVE);
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
	TAILQ_INIT(&ew->sessions);
	TAILQ_INIT(&ew->orphans);
	TAILQ_INIT(&ew->resting);
	TAILQ_INIT(&ew->accepting);
	net_timer_init(&ew->trim, ew->net, trim_spares, ew);
	net_worker_set_user(ew->net, ew);
	ew->filters.worker = ew->net;
	ew->filters.programs = e->programs;
	ew->filters.spool = &ew->spool;
	ew->filters.helpers = helper_pool_new(ew->net, e->programs, e->args->helper_path);
	e->hearts[i].moved_ms = clock_ms();
	return 0;
}

static int
make_workers(struct engine *e, int count, struct err *err)
{
	e->worker_count = count;
	e->workers = xcalloc((size_t)count, sizeof(*e->workers));
	e->hearts = xcalloc((size_t)count, sizeof(*e->hearts));
	for (int i = 0; i < count; i++)
		if (make_worker(e, i, err) < 0)
			return -1;
	for (int i = 0; i < count; i++)
		if (net_worker_start(e->workers[i].net, err) < 0)
			return -1;
	return 0;
}

/* What was turned away since the start, if anything. */
static void
log_refused(const struct engine *e)
{
	unsigned long n[REFUSED_COUNT], all = 0;

	for (int i = 0; i < REFUSED_COUNT; i++)
		all += n[i] = limits_noted(e->limits, (enum limits_refusal)i);
	if (all > 0)
		log_info(NULL, "refused", "clients=%lu max_connections=%lu max_per_client=%lu early_talker=%lu mail=%lu",
			n[REFUSED_CLIENTS], n[REFUSED_CONNECTIONS], n[REFUSED_PER_CLIENT], n[REFUSED_EARLY],
			n[REFUSED_MAIL]);
}

/* All workers accept: a client that connects now is greeted. */
static void
is_ready(struct engine *e, unsigned generation)
{
	if (e->args->ready != NULL)
		e->args->ready(e, e->args->ready_arg);
	log_info(NULL, "ready", "workers=%d listeners=%d max_connections=%d generation=%u version=%s",
		e->worker_count, settings(e)->listener_count, limits_max(settings(e)), generation, POSTERN_VERSION);
	tell_monitor(e, CHANNEL_READY, "");
}

/* Of engines that were killed. */
static void
sweep_quarantine(const struct settings *st)
{
	unsigned n = st->quarantine.directory != NULL ? quarantine_sweep(st->quarantine.directory) : 0;

	if (n > 0)
		log_info(NULL, "quarantine", "removed=%u", n);
}

static int
start(struct engine *e, struct err *err)
{
	struct settings *st = e->args->config->settings;
	unsigned seed = 0;

	/* Before anything is made: these are what a start fails for. */
	if (tls_files_load(st, err) < 0 || secrets_load(st, err) < 0)
		return -1;
	if (e->args->ready == NULL)
		sweep_quarantine(st);
	if (getrandom(&seed, sizeof(seed), 0) < 0)
		seed = (unsigned)clock_us();
	atomic_init(&e->next_session, seed & 0xffffff);
	e->admin = net_worker_new(-1, err);
	if (e->admin == NULL || watch_signals(e, err) < 0)
		return -1;
	json_object_seed(0); /* before there are threads that could do it at the same time */
	if (net_threads_start(JOB_THREADS, err) < 0)
		return -1;
	scratch_sweep(st->spool.directory);
	e->programs = program_client_new(e->admin, e->args->spawner_fd, programs_lost, e);
	e->metrics = metrics_new(st->workers);
	e->filters = filter_registry_new();
	limits_check(st);
	e->limits = limits_new(limits_max(st));
	e->dests = dests_new(e);
	e->reload = reload_new(e, e->args, e->sockets);
	if (make_workers(e, st->workers, err) < 0)
		return -1;
	reload_first(e->reload, is_ready);
	e->health = health_start(e);
	e->tls_files = tls_files_watch(e);
	e->monitor = net_watch_new(e->admin, e->args->monitor_fd, on_monitor, e);
	net_timer_init(&e->beat_timer, e->admin, on_beat, e);
	net_timer_init(&e->drain_timer, e->admin, drain_over, e);
	net_timer_set(&e->beat_timer, BEAT_MS);
	return 0;
}

static void
free_worker(struct engine_worker *ew)
{
	while (ew->spare_count > 0)
		arena_free(&ew->spare[--ew->spare_count]);
	net_timer_deinit(&ew->trim);
	spool_spares_close(&ew->spool.spares);
	net_worker_free(&ew->net);
}

/* The last references to snapshots end on the admin thread. */
static void
free_snapshots(struct engine *e)
{
	for (int i = 0; i < e->worker_count; i++) {
		accept_stop(&e->workers[i]);
		snapshot_unref(&e->workers[i].snapshot);
	}
	reload_free(&e->reload);
	net_worker_settle(e->admin);
	dests_free(&e->dests);
}

static void
cleanup(struct engine *e)
{
	health_free(&e->health);
	for (int i = 0; i < e->worker_count; i++)
		net_worker_join(e->workers[i].net);
	tls_files_free(&e->tls_files);
	net_threads_stop();
	for (int i = 0; i < e->worker_count; i++)
		net_worker_settle(e->workers[i].net);
	net_worker_settle(e->admin);
	free_snapshots(e);
	for (int i = 0; i < e->worker_count; i++)
		helper_pool_free(&e->workers[i].filters.helpers);
	program_client_free(&e->programs);
	scratch_end();
	for (int i = 0; i < e->worker_count; i++)
		free_worker(&e->workers[i]);
	net_watch_free(&e->monitor);
	net_watch_free(&e->signals);
	net_timer_deinit(&e->beat_timer);
	net_timer_deinit(&e->drain_timer);
	net_worker_free(&e->admin);
	limits_free(&e->limits);
	metrics_free(&e->metrics);
	filter_registry_free(&e->filters);
	sockets_close(e->sockets);
	free(e->workers);
	free(e->hearts);
	close(e->signal_fd);
}

int
engine_main(const struct engine_args *args)
{
	struct engine e = { .args = args, .sockets = args->sockets, .monitor_pid = getppid() };
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
	net_worker_run(e.admin);
	log_refused(&e);
	cleanup(&e);
	log_info(NULL, "stopped", "state=%s", "all transactions have ended");
	log_flush();
	return 0;
}
