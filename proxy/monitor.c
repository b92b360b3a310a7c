/*
 * proxy/monitor.c - starts, watches and replaces engines with their spawners, while the listening sockets stay
 * open: clients wait, none is refused. And it is who is asked to reload, to stop, to make way for a new program.
 *
 * There is one engine that carries mail; there may be one that is getting ready to take over, and some that
 * finish what they have.
 */
#include "proxy/monitor_private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sysexits.h>

#include "base/clock.h"
#include "base/list.h"
#include "proxy/engine.h"
#include "proxy/helper_path.h"
#include "proxy/pid_file.h"
#include "proxy/service.h"
#include "proxy/user.h"
#include "spool/file.h"

/* After a second request to stop, for an engine to do as it is told. */
#define KILL_MS 2000

/* ---- before the start ---- */

/* A folder that only we could make, as root, for the user we become. */
static int
prepare_folder(const char *path, uid_t uid, gid_t gid, struct err *err)
{
	if (mkdir(path, 0700) == 0) {
		if (lchown(path, uid, gid) < 0)
			return err_sys(err, "chown %s", path);
	} else if (errno != EEXIST) {
		return err_sys(err, "cannot make the folder %s", path);
	}
	return 0;
}

static int
become_user(const struct settings *st, struct err *err)
{
	struct user user;

	if (user_find(st, &user, err) < 0)
		return -1;
	if (user.name != NULL && prepare_folder(st->spool.directory, user.uid, user.gid, err) < 0)
		return -1;
	if (user.name != NULL && st->quarantine.directory != NULL &&
		prepare_folder(st->quarantine.directory, user.uid, user.gid, err) < 0)
		return -1;
	return user_become(&user, err);
}

/* By the name we have now, which a later version of us will have, too; soon that may be another file. */
static void
find_programs(struct monitor *m)
{
	ssize_t n = readlink("/proc/self/exe", m->program, sizeof(m->program) - 1);

	m->program[n > 0 ? n : 0] = '\0';
	helper_path_find(m->helper_path, sizeof(m->helper_path));
}

/* The soft limit of descriptors is for programs that use select(); we do not. */
static void
raise_descriptors(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
}

/* ---- for children, too ---- */

void
reset_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

int
to_null(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), rc = -1;

	if (null >= 0) {
		rc = dup2(null, fd);
		close(null);
	}
	return rc;
}

void
leave_terminal(const struct monitor *m)
{
	if (m->args->foreground)
		return;
	to_null(STDIN_FILENO);
	to_null(STDOUT_FILENO);
	if (m->settings != NULL && settings_log_conf(m->settings, false, false).target != LOG_TO_STDERR)
		to_null(STDERR_FILENO);
}

/* ---- stop ---- */

/* The engine knows SIGTERM, finish, and ENGINE_STOP_NOW: whatever else reaches all processes alike, from a
 * terminal or a service manager, is said to it by us alone. */
static void
stop(struct monitor *m)
{
	tell_engines(m, m->is_stopping ? ENGINE_STOP_NOW : SIGTERM);
	if (!m->is_stopping)
		service_stopping();
	else
		m->kill_at = clock_ms() + KILL_MS;
	m->is_stopping = true;
	m->wants_next = m->reload_again = false;
	m->restart_at = m->retire_at = 0;
	bind_close_all(&m->sockets);
}

static void
reopen_log(struct monitor *m, int sig)
{
	struct err err;

	if (log_reopen(&err) < 0)
		log_error(NULL, "log", "err=%s", err.text);
	tell_engines(m, sig);
}

/* ---- supervision ---- */

static void
got_signals(struct monitor *m)
{
	struct signalfd_siginfo info;

	while (read(m->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		switch ((int)info.ssi_signo) {
		case SIGCHLD:
			reap(m);
			break;
		case SIGHUP:
		case SIGUSR1:
			reopen_log(m, (int)info.ssi_signo);
			if (!m->is_stopping)
				reload(m);
			break;
		case SIGUSR2:
			check_program(m);
			break;
		default:
			stop(m);
			break;
		}
	}
}

static bool
is_any_left(const struct monitor *m)
{
	return m->current.engine > 0 || m->next.engine > 0 || m->leaving_count > 0;
}

/* They were asked twice. */
static void
kill_engines(struct monitor *m)
{
	m->kill_at = 0;
	if (!is_any_left(m))
		return;
	log_error(NULL, "stuck", "process=%s what=%s", "engine", "it does not stop, and is killed");
	tell_engines(m, SIGKILL);
}

static void
retire_widow(struct monitor *m)
{
	m->retire_at = 0;
	log_error(NULL, "died", "process=%s", "spawner");
	want_next(m);
}

/* Is there an engine? */
static bool
is_due(uint64_t at)
{
	return at != 0 && clock_ms() >= at;
}

static int
patience(const struct monitor *m)
{
	const uint64_t times[] = { m->restart_at, m->retire_at, m->kill_at, service_alive_at() };
	uint64_t now = clock_ms(), due = now + TURN_MS;

	for (size_t i = 0; i < ARRAY_COUNT(times); i++)
		if (times[i] != 0 && times[i] < due)
			due = times[i];
	return due > now ? (int)(due - now) : 0;
}

static void
wait_for_events(const struct monitor *m)
{
	struct pollfd polls[3 + LEAVING_MAX];
	nfds_t n = 0;

	polls[n++] = (struct pollfd){ .fd = m->signal_fd, .events = POLLIN };
	if (m->current.engine > 0 && !m->current.is_foreign)
		polls[n++] = (struct pollfd){ .fd = m->current.fd, .events = POLLIN };
	if (m->next.engine > 0)
		polls[n++] = (struct pollfd){ .fd = m->next.fd, .events = POLLIN };
	for (int i = 0; i < m->leaving_count; i++)
		if (!m->leaving[i].is_foreign)
			polls[n++] = (struct pollfd){ .fd = m->leaving[i].fd, .events = POLLIN };
	poll(polls, n, patience(m));
}

static void
turn(struct monitor *m)
{
	wait_for_events(m);
	hear(m, &m->current);
	hear(m, &m->next);
	for (int i = 0; i < m->leaving_count; i++)
		hear(m, &m->leaving[i]);
	got_signals(m);
	if (is_due(m->retire_at))
		retire_widow(m);
	if (is_due(m->restart_at))
		restart(m);
	if (is_due(m->kill_at))
		kill_engines(m);
	look_at_engines(m);
	if (!m->is_stopping) {
		watch_files(m);
		if (m->reload_again && m->pending == NULL)
			reload(m);
	}
	service_alive();
	log_flush();
}

static void
supervise(struct monitor *m)
{
	while (!m->is_stopping || is_any_left(m) || m->current.spawner > 0 || m->next.spawner > 0)
		turn(m);
}

static int
take_signals(struct monitor *m)
{
	static const int ours[] = { SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2 };
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_COUNT(ours); i++)
		sigaddset(&set, ours[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	m->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	return m->signal_fd;
}

/* The process that was started stays until the daemon is ready, and exits with what came of it. */
static void
become_daemon(struct monitor *m)
{
	int fds[2];
	char c = EX_OSERR;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		perror("postern");
		exit(EX_OSERR);
	}
	if (pid > 0) {
		close(fds[1]);
		if (read(fds[0], &c, 1) != 1)
			c = EX_SOFTWARE;
		_exit(c);
	}
	close(fds[0]);
	m->ready_fd = fds[1];
	setsid();
	if (chdir("/") < 0)
		perror("postern: chdir /");
}

static void
tell_starter(struct monitor *m, int status)
{
	char c = (char)status;

	if (m->ready_fd < 0)
		return;
	leave_terminal(m);
	if (write(m->ready_fd, &c, 1) != 1)
		log_warn(NULL, "start", "err=%s", "whoever started us is gone");
	close(m->ready_fd);
	m->ready_fd = -1;
}

/* ---- the whole life ---- */

static int
open_log(struct monitor *m, struct err *err)
{
	struct log_conf lc = settings_log_conf(m->settings, m->args->to_stderr, m->args->verbose);
	struct err why;

	if (log_open(&lc, &why) < 0)
		return err_set(err, "%s (%s)", why.text, lc.target == LOG_TO_SYSLOG
			? "does a syslog daemon run? else try log { to /var/log/postern/log }"
			: lc.target == LOG_TO_JOURNAL ? "does systemd-journald run? else try log { to syslog }"
			: "it must be writable for the user Postern becomes, and a FIFO must have a reader");
	m->has_log = lc.target != LOG_TO_STDERR;
	return 0;
}

static int
begin_pid_file(struct monitor *m, struct err *err)
{
	snprintf(m->pid_file, sizeof(m->pid_file), "%s", m->settings->top.pid_file);
	m->pid_fd = pid_file_write(m->pid_file, err);
	return m->pid_fd < 0 ? -1 : 0;
}

static int
prepare(struct monitor *m, struct err *err)
{
	const struct settings *st = m->settings;

	if (geteuid() == 0 && st->top.user == NULL)
		return become_user(st, err); /* says why not, before anything was touched */
	raise_descriptors();
	/* First: whoever starts a second copy by mistake is told that, and not that a port is taken. */
	if (st->top.pid_file != NULL && m->pid_fd < 0 && begin_pid_file(m, err) < 0)
		return -1;
	if (bind_missing(st, &m->inherited, &m->sockets, err) < 0)
		return -1;
	if (become_user(st, err) < 0)
		return -1;
	/* As the user: so it is the one who can open it again after a rotation, and root follows no link. */
	return open_log(m, err) < 0 ? -1 : prepare_folders(m, st, err);
}

/* To whoever started us; and to the log, once that is another place. */
static void
say_failure(const struct monitor *m, const struct err *err)
{
	fprintf(stderr, "postern: %s\n", err->text);
	if (m->has_log)
		log_error(NULL, "start", "err=%s", err->text);
	log_flush();
}

/* The first engine. What goes wrong is told by who waits for the start, and by the status. */
static int
wait_until_ready(struct monitor *m, struct err *err)
{
	while (m->next.engine > 0 && !m->is_stopping)
		turn(m);
	if (m->current.engine > 0 && !m->is_stopping)
		return 0;
	if (m->is_stopping)
		return err_set(err, "the start was stopped before the engine was ready");
	return err_set(err, "the engine did not become ready; the log says why");
}

int
begin(struct monitor *m, struct err *err)
{
	if (prepare(m, err) < 0)
		return EX_CONFIG;
	if (start_engine(m, m->config, err) < 0)
		return EX_OSERR;
	keep_pending_spool(m);
	bind_log(m->settings, &m->sockets, 0);
	log_flush();
	return EX_OK;
}

static int
begin_first(struct monitor *m, struct err *err)
{
	int status;

	m->config = m->args->config;
	m->settings = m->args->settings;
	m->watched = config_ref(m->config);
	config_watch_begin(&m->watch, m->watched, &m->args->read_at);
	status = begin(m, err);
	if (status == EX_OK && wait_until_ready(m, err) < 0)
		status = EX_OSERR;
	if (status == EX_OK)
		reload_over(m, "started");
	return status;
}

static int
begin_somehow(struct monitor *m, struct err *err)
{
	if (m->args->handover == NULL)
		return begin_first(m, err);
	take_place(m);
	begin_in_place(m);
	return EX_OK; /* there is an engine that carries mail */
}

/* After a start that failed or was stopped. */
static void
end_engines(struct monitor *m)
{
	if (!m->is_stopping)
		stop(m);
	hurry_next(m);
	supervise(m);
}

int
monitor_main(const struct monitor_args *args)
{
	struct monitor m = { .args = args, .generation = 1,
		.inherited = args->inherited, .ready_fd = -1, .pid_fd = -1, .spool_fd = -1, .pending_spool_fd = -1,
		.current.fd = -1, .next.fd = -1 };
	struct err err;
	int status;

	umask(077);
	signal(SIGPIPE, SIG_IGN);
	log_unblock_stderr();
	if (!args->foreground && args->handover == NULL)
		become_daemon(&m);
	log_thread("m");
	service_begin();
	if (take_signals(&m) < 0) {
		perror("postern: signalfd");
		return EX_OSERR;
	}
	find_programs(&m);
	status = begin_somehow(&m, &err);
	if (status == EX_OK) {
		tell_starter(&m, EX_OK);
		supervise(&m);
	} else {
		if (m.is_stopping && m.ready_fd < 0)
			status = EX_OK; /* nobody waits for more than that we do as we were told */
		else
			say_failure(&m, &err);
		end_engines(&m);
	}
	bind_close_all(&m.sockets);
	pid_file_remove(m.pid_file, m.pid_fd);
	close_some(m.spool_fd);
	close_some(m.pending_spool_fd);
	sockets_close(&m.inherited.named);
	log_flush();
	tell_starter(&m, status);
	config_unref(&m.watched);
	config_unref(&m.pending);
	config_unref(&m.config);
	return status;
}
