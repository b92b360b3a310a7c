/*
 * proxy/monitor_upgrade.c - another program takes the monitor's place, or it takes another's.
 */
#include "proxy/monitor_private.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>

#include "base/clock.h"
#include "proxy/service.h"

static char *const *
arguments(const struct monitor *m, const char *check, char *argv[8])
{
	int n = 0;

	argv[n++] = (char *)m->program;
	argv[n++] = (char *)"-c";
	argv[n++] = (char *)m->args->file;
	if (check != NULL)
		argv[n++] = (char *)check;
	if (m->args->foreground)
		argv[n++] = (char *)(m->args->to_stderr ? "-f" : "-F");
	if (m->args->verbose)
		argv[n++] = (char *)"-v";
	argv[n] = NULL;
	return argv;
}

void
check_program(struct monitor *m)
{
	char *argv[8];

	if (m->checker > 0 || m->is_stopping)
		return;
	log_flush();
	m->checker = fork();
	if (m->checker == 0) {
		become_child(m);
		reset_signals();
		to_null(STDOUT_FILENO);
		execv(m->program, arguments(m, "-t", argv));
		_exit(EX_OSFILE);
	}
}

/* The place of the one that carries mail may be empty. */
static void
add_engine(struct handover *h, const struct proc *p)
{
	h->engines[h->engine_count++] = (struct handover_engine){ p->engine, p->spawner, p->engine > 0 ? p->fd : -1 };
}

static void
hand_over(struct monitor *m)
{
	struct handover h = { .generation = m->generation, .sockets = m->sockets, .inherited = m->inherited,
		.pid_fd = m->pid_fd, .spool_fd = m->spool_fd };
	char *argv[8];
	struct err err;

	if (m->pending != NULL)
		drop_pending(m, "another program takes over");
	if (m->next.engine > 0) /* the successor makes its own */
		kill(m->next.engine, SIGKILL);
	snprintf(h.pid_file, sizeof(h.pid_file), "%s", m->pid_file);
	add_engine(&h, &m->current);
	for (int i = 0; i < m->leaving_count; i++)
		add_engine(&h, &m->leaving[i]);
	log_info(NULL, "handover", "program=%s version=%s", m->program, POSTERN_VERSION);
	log_flush();
	service_keep();
	handover_exec(&h, (char *const *)arguments(m, NULL, argv), &err);
	service_begin();
	log_error(NULL, "handover", "err=%s", err.text);
}

/* It was when the program looked, which may be seconds ago; and there is no way back from exec. */
static bool
is_still_good(const struct monitor *m, struct err *err)
{
	struct config *config;
	struct settings *st;
	struct log_conf lc;
	bool is_good = false;

	if (settings_load(m->args->file, &config, &st) == 0) {
		lc = settings_log_conf(st, m->args->to_stderr, m->args->verbose);
		is_good = log_check(&lc, err) == 0;
	}
	config_unref(&config);
	return is_good;
}

void
checked(struct monitor *m, int status)
{
	struct err err;

	m->checker = 0;
	if (m->is_stopping)
		return;
	err_set(&err, "it does not start with this configuration (postern -t tells why); the one that runs goes on");
	if (WIFEXITED(status) && WEXITSTATUS(status) == EX_OK && is_still_good(m, &err))
		hand_over(m);
	else
		log_error(NULL, "handover", "program=%s err=%s", m->program, err.text);
}

/* ---- in its place ---- */

void
take_place(struct monitor *m)
{
	const struct handover *h = m->args->handover;

	m->generation = h->generation + 1;
	m->sockets = h->sockets;
	m->inherited = h->inherited;
	m->wants_next = m->is_waiting = true;
	m->pid_fd = h->pid_fd;
	m->spool_fd = h->spool_fd;
	snprintf(m->pid_file, sizeof(m->pid_file), "%s", h->pid_file);
	for (int i = 0; i < h->engine_count; i++) {
		struct proc p = { .engine = h->engines[i].pid, .spawner = h->engines[i].spawner,
			.fd = h->engines[i].fd, .started_ms = clock_ms(), .is_foreign = true };

		if (i == 0)
			m->current = p;
		else if (m->leaving_count < LEAVING_MAX)
			m->leaving[m->leaving_count++] = p;
	}
}

static const char *
first_error(const struct config *config)
{
	const struct config_problem *p;

	TAILQ_FOREACH(p, &config->problems, next)
		if (!p->is_warning)
			return p->text;
	return "";
}

/* Once, and into the log that the files name, even if they are bad: a daemon is heard nowhere else. */
static void
say_waiting(struct monitor *m, const struct config *config, const struct err *why)
{
	struct log_conf lc = settings_log_conf(config->settings, m->args->to_stderr, m->args->verbose);
	struct err err;

	if (strcmp(m->waits_for, why->text) == 0)
		return;
	snprintf(m->waits_for, sizeof(m->waits_for), "%s", why->text);
	if (log_open(&lc, &err) < 0)
		log_error(NULL, "log", "err=%s", err.text);
	log_error(NULL, "handover", "state=%s err=%s", "waits", why->text);
	service_ready("the engine from before carries the mail; the log says what the new program waits for");
}

static int
try_with(struct monitor *m, struct config *config, struct err *err)
{
	int before = m->sockets.count;

	m->config = config;
	m->settings = config->settings;
	if (begin(m, err) == EX_OK)
		return 0;
	m->config = NULL;
	m->settings = NULL;
	bind_close_from(&m->sockets, before);
	close_some(m->pending_spool_fd);
	m->pending_spool_fd = -1;
	return -1;
}

/*
 * The program that was here before saw a good configuration (postern -t). It may have changed since, or what it asks for
 * cannot be had: a port is taken, a folder locked, which for -t are warnings. There is no way back from exec, and the
 * engine from before carries the mail, so that is no reason to leave: a reload would keep it, too.
 */
void
begin_in_place(struct monitor *m)
{
	struct config *config;
	struct err err;

	if (read_again(m, &config) < 0)
		err_set(&err, "%s", first_error(config));
	else if (try_with(m, config, &err) == 0) {
		m->is_waiting = false;
		log_problems(config);
		reload_over(m, "started");
		return;
	}
	say_waiting(m, config, &err);
	config_unref(&config);
}
