/*
 * proxy/monitor_engines.c - engines with their spawners: how they start, what they say, and what becomes of them.
 */
#include "proxy/monitor_private.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sysexits.h>

#include "base/clock.h"
#include "proxy/channel.h"
#include "proxy/engine.h"
#include "proxy/service.h"
#include "proxy/user.h"
#include "spawn/spawn.h"

/* Between two engines that die at once. */
#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 30000
/* An engine that lived so many times the last wait has earned a quick restart. */
#define STEADY_TIMES 10
/* A spawner ends when its engine does, and may be noticed first. */
#define WIDOW_MS 100
/* For a new engine to be ready. */
#define READY_MS 60000
/* When the start is over: to leave in order, should it have become ready meanwhile. */
#define LAST_READY_MS 1000
/* An engine says each second that it lives; more patience than it has with its workers. */
#define SILENCE_MS(st) ((uint64_t)(st)->top.stuck_timeout + 5000)
/* One that is leaving and silent for so long will not end by itself. */
#define DEAD_MS 60000

/* ---- starting ---- */

void
become_child(struct monitor *m)
{
	leave_terminal(m);
	user_drop_capabilities();
	close_some(m->ready_fd);
	close_some(m->pid_fd);
	close_some(m->spool_fd);
	close_some(m->pending_spool_fd);
	close_some(m->signal_fd);
	if (m->current.engine > 0)
		close_some(m->current.fd);
	for (int i = 0; i < m->leaving_count; i++)
		close_some(m->leaving[i].fd);
	sockets_close(&m->inherited.named);
}

static pid_t
fork_spawner(struct monitor *m, int fd, int other_fd)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	close(other_fd);
	become_child(m);
	log_thread("s");
	reset_signals();
	spawn_main(fd);
}

/* The monitor's is still that of the configuration in force. */
static void
go_by_log(const struct monitor *m, const struct settings *st)
{
	struct log_conf lc = settings_log_conf(st, m->args->to_stderr, m->args->verbose);
	struct err err;

	if (log_open(&lc, &err) == 0)
		return;
	log_error(NULL, "start", "err=%s", err.text);
	exit(EX_CONFIG);
}

static void
run_engine(struct monitor *m, struct config *config, int spawner_fd, int monitor_fd)
{
	struct engine_args args = {
		.config = config_ref(config),
		.generation = m->generation,
		.starts = m->starts,
		.sockets = &m->sockets,
		.spawner_fd = spawner_fd,
		.monitor_fd = monitor_fd,
		.config_path = m->args->file,
		.helper_path = m->helper_path,
		.to_stderr = m->args->to_stderr,
		.verbose = m->args->verbose,
	};

	prctl(PR_SET_NAME, "postern-engine");
	if (config != m->config)
		go_by_log(m, config->settings);
	exit(engine_main(&args));
}

int
start_engine(struct monitor *m, struct config *config, struct err *err)
{
	int spawner[2], channel[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, spawner) < 0)
		return err_sys(err, "socketpair");
	if (channel_pair(channel) < 0) {
		err_sys(err, "socketpair");
		close(spawner[0]);
		close(spawner[1]);
		return -1;
	}
	log_flush();
	fflush(NULL);
	m->starts++;
	m->next = (struct proc){ .fd = channel[0], .started_ms = clock_ms(), .heard_ms = clock_ms() };
	m->next.spawner = fork_spawner(m, spawner[1], spawner[0]);
	close(spawner[1]);
	m->next.engine = m->next.spawner > 0 ? fork() : -1;
	if (m->next.engine == 0) {
		close(channel[0]);
		become_child(m);
		run_engine(m, config, spawner[0], channel[1]);
	}
	close(spawner[0]);
	close(channel[1]);
	if (m->next.engine > 0)
		return 0;
	err_sys(err, "fork");
	close(channel[0]);
	m->next.engine = 0;
	return -1;
}

/* ---- coming and going ---- */

static void
say_death(const char *what, pid_t pid, int status)
{
	if (WIFSIGNALED(status))
		log_error(NULL, "died", "process=%s pid=%d signal=%d", what, (int)pid, WTERMSIG(status));
	else
		log_error(NULL, "died", "process=%s pid=%d status=%d", what, (int)pid, WEXITSTATUS(status));
}

/* The right pause before another engine is tried. */
static void
plan_restart(struct monitor *m, const struct proc *died)
{
	int64_t lived = (int64_t)(clock_ms() - died->started_ms);

	if (m->restart_at != 0)
		return;
	m->backoff_ms = lived >= m->backoff_ms * STEADY_TIMES ? BACKOFF_MIN_MS : m->backoff_ms * 2;
	if (m->backoff_ms > BACKOFF_MAX_MS)
		m->backoff_ms = BACKOFF_MAX_MS;
	m->restart_at = clock_ms() + (uint64_t)m->backoff_ms;
	log_info(NULL, "restart", "in_ms=%lld", (long long)m->backoff_ms);
}

void
restart(struct monitor *m)
{
	struct err err;

	m->restart_at = 0;
	if (m->next.engine > 0)
		return;
	if (start_engine(m, m->pending != NULL ? m->pending : m->config, &err) < 0) {
		log_error(NULL, "start", "err=%s", err.text);
		plan_restart(m, &m->next);
	}
}

/* There are too many; one that does not hear has to go, too. */
static void
end_oldest(struct monitor *m)
{
	const struct proc *p = &m->leaving[0];
	bool hears = clock_ms() - p->heard_ms < SILENCE_MS(m->settings);

	log_warn(NULL, "stuck", "process=%s pid=%d what=%s", "engine", (int)p->engine,
		"it has been leaving for long, others follow, and it is ended");
	kill(p->engine, hears ? ENGINE_STOP_NOW : SIGKILL);
	close(p->fd);
	memmove(&m->leaving[0], &m->leaving[1], (LEAVING_MAX - 1) * sizeof(m->leaving[0]));
	m->leaving_count--;
}

/* It finishes what it has, while another one takes over. */
static void
let_leave(struct monitor *m, struct proc *p)
{
	if (p->engine <= 0)
		return;
	if (m->leaving_count == LEAVING_MAX)
		end_oldest(m);
	kill(p->engine, ENGINE_LEAVE);
	kill(p->engine, SIGCONT); /* one in a debugger's hands may have been stopped */
	m->leaving[m->leaving_count++] = *p;
	p->engine = 0;
}

/* The next one answers. */
static void
take_over(struct monitor *m)
{
	bool was_replacing = m->current.engine > 0;

	let_leave(m, &m->current);
	m->current = m->next;
	m->next = (struct proc){ .fd = -1 };
	m->wants_next = false;
	m->retire_at = 0;
	if (was_replacing)
		log_info(NULL, "engine", "state=%s pid=%d", "has taken over", (int)m->current.engine);
	if (m->pending != NULL)
		commit_pending(m);
	else if (was_replacing)
		reload_over(m, "another engine has taken over");
	bind_close_unwanted(m->settings, &m->sockets);
}

void
want_next(struct monitor *m)
{
	if (m->wants_next || m->is_stopping)
		return;
	m->wants_next = true;
	if (m->restart_at == 0 && m->next.engine == 0)
		m->restart_at = clock_ms();
}

static void
current_ended(struct monitor *m, int status)
{
	struct proc p = m->current;

	m->current = (struct proc){ .spawner = p.spawner, .fd = -1 };
	m->retire_at = 0;
	close(p.fd);
	if (m->is_stopping)
		return;
	say_death("engine", p.engine, status);
	if (m->pending != NULL && m->next.engine == 0)
		drop_pending(m, "the engine died");
	if (m->next.engine == 0 && !m->is_waiting)
		plan_restart(m, &p);
}

static void
next_ended(struct monitor *m, int status)
{
	struct proc p = m->next;

	m->next = (struct proc){ .spawner = p.spawner, .fd = -1 };
	close(p.fd);
	if (m->is_stopping)
		return;
	say_death("engine", p.engine, status);
	if (m->pending != NULL)
		drop_pending(m, "an engine with it does not become ready");
	if (m->wants_next || m->current.engine == 0)
		plan_restart(m, &p);
}

/* An engine without its spawner cannot run helpers. */
static void
spawner_ended(struct monitor *m, struct proc *p)
{
	p->spawner = 0;
	if (p == &m->current && !m->is_stopping && p->engine > 0)
		m->retire_at = clock_ms() + WIDOW_MS;
	if (p == &m->next && p->engine > 0)
		kill(p->engine, ENGINE_STOP_NOW);
}

static void
leaving_ended(struct monitor *m, pid_t pid)
{
	for (int i = 0; i < m->leaving_count; i++)
		if (m->leaving[i].engine == pid) {
			close(m->leaving[i].fd);
			m->leaving[i] = m->leaving[--m->leaving_count];
			return;
		}
}

void
reap(struct monitor *m)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == m->current.engine)
			current_ended(m, status);
		else if (pid == m->next.engine)
			next_ended(m, status);
		else if (pid == m->current.spawner)
			spawner_ended(m, &m->current);
		else if (pid == m->next.spawner)
			spawner_ended(m, &m->next);
		else if (pid == m->checker)
			checked(m, status);
		else
			leaving_ended(m, pid);
	}
}

/* ---- what they say ---- */

static void
say_stuck(struct monitor *m, const char *what)
{
	log_error(NULL, "stuck", "process=%s what=%s", "engine", what);
	service_status("%s is stuck; another engine takes over", what);
	want_next(m);
}

static void
got_packet(struct monitor *m, struct proc *p, const struct channel_packet *packet)
{
	bool answers = p == &m->current && m->pending != NULL && m->next.engine == 0;

	if (m->is_stopping) /* nothing begins any more */
		return;
	switch ((enum channel_kind)packet->kind) {
	case CHANNEL_READY:
		if (p == &m->next)
			take_over(m);
		break;
	case CHANNEL_STUCK:
		if (p == &m->current)
			say_stuck(m, packet->text);
		break;
	case CHANNEL_RELOADED:
		if (answers)
			commit_pending(m);
		break;
	case CHANNEL_STALE:
		if (answers)
			read_anew(m, packet->text);
		break;
	case CHANNEL_REFUSED:
		if (answers)
			drop_pending(m, packet->text);
		break;
	case CHANNEL_BEAT:
	case CHANNEL_SOCKET:
	case CHANNEL_RELOAD:
	case CHANNEL_KEPT:
		break;
	}
}

/* Its end of file is its end, of which SIGCHLD tells. A proc may move while it is heard. */
void
hear(struct monitor *m, struct proc *p)
{
	struct channel_packet packet;

	while (p->engine > 0 && !p->is_foreign && channel_receive(p->fd, &packet) > 0) {
		p->heard_ms = clock_ms();
		got_packet(m, p, &packet);
	}
}

static void
kill_if_silent(struct proc *p, uint64_t now)
{
	if (p->engine <= 0 || p->is_foreign || now - p->heard_ms < DEAD_MS)
		return;
	log_error(NULL, "stuck", "process=%s pid=%d what=%s", "engine", (int)p->engine,
		"it does not leave, and is killed");
	kill(p->engine, SIGKILL);
	p->heard_ms = now;
}

void
hurry_next(struct monitor *m)
{
	m->next.started_ms = clock_ms() - READY_MS + LAST_READY_MS;
}

void
look_at_engines(struct monitor *m)
{
	uint64_t now = clock_ms();

	if (m->is_stopping)
		kill_if_silent(&m->current, now);
	else if (m->current.engine > 0 && !m->current.is_foreign && !m->wants_next &&
		now - m->current.heard_ms > SILENCE_MS(m->settings))
		say_stuck(m, "the whole engine");
	if (m->next.engine > 0 && now - m->next.started_ms > READY_MS) {
		log_error(NULL, "stuck", "process=%s pid=%d what=%s", "engine", (int)m->next.engine,
			"it does not become ready, and is killed");
		kill(m->next.engine, SIGKILL);
		m->next.started_ms = now;
	}
	for (int i = 0; i < m->leaving_count; i++)
		kill_if_silent(&m->leaving[i], now);
}

/* ---- what they are told ---- */

void
tell_engines(const struct monitor *m, int sig)
{
	if (m->current.engine > 0)
		kill(m->current.engine, sig);
	if (m->next.engine > 0)
		kill(m->next.engine, sig);
	for (int i = 0; i < m->leaving_count; i++)
		kill(m->leaving[i].engine, sig);
}
