/*
 * proxy/monitor_reload.c - the monitor's part of a reload: read, check, bind, ask the engine; then keep or drop it.
 */
#include "proxy/monitor_private.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "proxy/channel.h"
#include "proxy/pid_file.h"
#include "proxy/service.h"
#include "spool/file.h"

/* Differences that a reload tells. */
#define TELL_MAX 50
/* Files that change while they are read are read again so many times. */
#define STALE_MAX 5
/* For an engine that is slow to hear of many sockets. */
#define TELL_MS 1000

static void
tell_change(void *arg, const char *of, const char *option, const char *was, const char *now)
{
	int *n = arg;

	if (++*n <= TELL_MAX)
		log_info(NULL, "changed", "of=%s option=%s was=%s now=%s", log_some(of), option, was, now);
}

/* ---- Unix sockets that stay as they were made ---- */

struct lookup {
	const char *key;
	const struct listener *found;
};

static int
find_key(const struct socket_want *want, void *arg)
{
	struct lookup *l = arg;

	if (want->listener == NULL || strcmp(want->key, l->key) != 0)
		return 0;
	l->found = want->listener;
	return -1;
}

static bool
differ(const char *a, const char *b)
{
	return strcmp(a != NULL ? a : "", b != NULL ? b : "") != 0;
}

static int
warn_of_rights(const struct socket_want *want, void *arg)
{
	const struct settings *was = arg;
	struct lookup l = { .key = want->key };
	const char *option = NULL;

	if (want->listener == NULL || want->ep->kind != IP_UNIX || sockets_each_want(was, find_key, &l) == 0)
		return 0;
	if (l.found->socket_mode != want->listener->socket_mode)
		option = "socket_mode";
	else if (differ(l.found->conf.socket_owner, want->listener->conf.socket_owner))
		option = "socket_owner";
	else if (differ(l.found->conf.socket_group, want->listener->conf.socket_group))
		option = "socket_group";
	if (option != NULL)
		log_warn(NULL, "reload", "state=%s option=%s of=%s", "this option needs a restart", option, want->owner);
	return 0;
}

/* What a process cannot change while it runs. */
static void
warn_of_restart(const struct settings *was, const struct settings *now)
{
	const struct { const char *name, *was, *now; } fixed[] = {
		{ "user", was->top.user, now->top.user },
		{ "group", was->top.group, now->top.group },
		{ "pid_file", was->top.pid_file, now->top.pid_file },
	};

	for (size_t i = 0; i < ARRAY_COUNT(fixed); i++) {
		if (differ(fixed[i].was, fixed[i].now))
			log_warn(NULL, "reload", "state=%s option=%s", "this option needs a restart", fixed[i].name);
	}
	sockets_each_want(now, warn_of_rights, (void *)was);
}

/* ---- how it ends ---- */

void
reload_over(struct monitor *m, const char *how)
{
	char status[100];

	m->stale_count = 0;
	snprintf(status, sizeof(status), "generation %u of the configuration (%s)", m->generation, how);
	service_ready(status);
}

void
keep_pending_spool(struct monitor *m)
{
	if (m->pending_spool_fd < 0)
		return;
	close_some(m->spool_fd);
	m->spool_fd = m->pending_spool_fd;
	m->pending_spool_fd = -1;
}

/* The engine goes by it. */
void
commit_pending(struct monitor *m)
{
	struct settings *now = m->pending->settings;
	struct log_conf lc = settings_log_conf(now, m->args->to_stderr, m->args->verbose);
	struct err err;
	int changes = 0;

	if (log_open(&lc, &err) < 0)
		log_error(NULL, "log", "err=%s", err.text);
	config_diff(m->config, m->pending, tell_change, &changes);
	warn_of_restart(m->settings, now);
	bind_log(now, &m->sockets, m->pending_from);
	bind_close_unwanted(now, &m->sockets);
	keep_pending_spool(m);
	config_unref(&m->config);
	m->config = m->pending;
	m->settings = now;
	m->pending = NULL;
	log_info(NULL, "reload", "state=%s generation=%u changes=%d", "done", m->generation, changes);
	reload_over(m, "reloaded");
}

static void
failed(struct monitor *m)
{
	const struct channel_packet p = { .kind = CHANNEL_KEPT, .fd = -1 };

	if (m->current.engine > 0 && !m->current.is_foreign)
		channel_send(m->current.fd, &p);
	reload_over(m, "the last reload failed; the log says why");
}

/* Sockets that came with it go. */
void
drop_pending(struct monitor *m, const char *why)
{
	config_unref(&m->pending);
	bind_close_unwanted(m->settings, &m->sockets);
	close_some(m->pending_spool_fd);
	m->pending_spool_fd = -1;
	m->generation--;
	if (why == NULL)
		return;
	log_error(NULL, "reload", "state=%s err=%s", "kept", why);
	failed(m);
}

void
read_anew(struct monitor *m, const char *why)
{
	struct err err;

	m->reload_again = ++m->stale_count <= STALE_MAX;
	err_set(&err, "the engine reads something else than the monitor: %s", why);
	drop_pending(m, m->reload_again ? NULL : err.text);
}

void
log_problems(const struct config *config)
{
	const struct config_problem *p;

	TAILQ_FOREACH(p, &config->problems, next) {
		if (p->is_warning)
			log_warn(NULL, "reload", "warning=%s", p->text);
		else
			log_error(NULL, "reload", "state=%s err=%s", "kept", p->text);
	}
}

/* By whatever path. */
static bool
is_our_spool(const struct monitor *m, const char *path)
{
	struct stat ours, other;

	return fstat(m->spool_fd, &ours) == 0 && stat(path, &other) == 0 && ours.st_dev == other.st_dev &&
	       ours.st_ino == other.st_ino;
}

/* A spool elsewhere is ours as well, if it can be; until the engine has agreed we need both. */
static int
lock_spool(struct monitor *m, const struct settings *st, struct err *err)
{
	if (is_our_spool(m, st->spool.directory))
		return 0;
	if (spool_check(&st->spool, err) < 0)
		return -1;
	m->pending_spool_fd = spool_lock(st->spool.directory, err);
	return m->pending_spool_fd < 0 ? -1 : 0;
}

int
prepare_folders(struct monitor *m, const struct settings *st, struct err *err)
{
	return quarantine_check(&st->quarantine, err) < 0 ? -1 : lock_spool(m, st, err);
}

/* Many packets at once may be more than the channel holds. */
static bool
tell_engine(const struct monitor *m, const struct channel_packet *p)
{
	struct pollfd room = { .fd = m->current.fd, .events = POLLOUT };

	return channel_send(m->current.fd, p) ||
	       (poll(&room, 1, TELL_MS) == 1 && channel_send(m->current.fd, p));
}

static bool
send_sockets(const struct monitor *m, int from)
{
	for (int i = from; i < m->sockets.count; i++) {
		struct channel_packet p = { .kind = CHANNEL_SOCKET, .fd = m->sockets.list[i].fd };

		snprintf(p.text, sizeof(p.text), "%s", m->sockets.list[i].key);
		if (!tell_engine(m, &p))
			return false;
	}
	return true;
}

/* There is none that carries mail and hears us, or not as many workers as are wanted now. */
static bool
needs_another(const struct monitor *m, const struct settings *now)
{
	return m->current.engine == 0 || m->current.is_foreign || m->wants_next || now->workers != m->settings->workers;
}

/* The engine that runs takes it over; or, where that has to be another one, that one begins with it. */
static int
ask_engine(struct monitor *m, struct err *err)
{
	struct channel_packet p = { .kind = CHANNEL_RELOAD, .generation = m->generation,
		.digest = m->pending->digest, .fd = -1 };

	if (needs_another(m, m->pending->settings))
		return start_engine(m, m->pending, err);
	if (!send_sockets(m, m->pending_from) || !tell_engine(m, &p))
		return err_set(err, "the engine does not listen");
	return 0;
}

int
read_again(struct monitor *m, struct config **config_r)
{
	struct timespec began = config_watch_clock();
	struct settings *st;
	int rc = settings_load(m->args->file, config_r, &st);

	config_unref(&m->watched);
	m->watched = config_ref(*config_r);
	config_watch_begin(&m->watch, m->watched, &began);
	return rc;
}

void
reload(struct monitor *m)
{
	struct config *config;
	struct err err;
	int rc;

	if (m->is_waiting) {
		service_reloading();
		m->waits_for[0] = '\0';
		begin_in_place(m);
		return;
	}
	/* Now is not the time: an engine is just coming, or the last reload is under way. */
	if (m->pending != NULL || m->next.engine > 0) {
		m->reload_again = true;
		return;
	}
	m->reload_again = false;
	service_reloading();
	rc = read_again(m, &config);
	log_problems(config);
	if (rc < 0) {
		config_unref(&config);
		failed(m);
		return;
	}
	m->pending = config;
	m->pending_from = m->sockets.count;
	m->generation++;
	if (bind_missing(config->settings, &m->inherited, &m->sockets, &err) < 0 ||
		prepare_folders(m, config->settings, &err) < 0 || ask_engine(m, &err) < 0)
		drop_pending(m, err.text);
}

/* Files that are being worked on are not read because a list has changed: whoever does that will say so. */
static void
reload_lists(struct monitor *m)
{
	if (config_watch_is_as_read(&m->watch, m->watched))
		reload(m);
	else
		log_warn(NULL, "reload", "state=%s",
			"a list has changed, and so has the configuration itself: a reload reads both");
}

void
watch_files(struct monitor *m)
{
	uint64_t now = clock_ms();

	if (now - m->watched_ms < TURN_MS / 2)
		return;
	m->watched_ms = now;
	if (m->is_waiting)
		begin_in_place(m);
	else if (m->settings->top.watch_config) {
		if (config_watch_look(&m->watch, m->watched))
			reload(m);
	} else if (config_watch_look_at_lists(&m->watch, m->watched)) {
		reload_lists(m);
	}
}
