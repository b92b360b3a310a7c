/*
 * proxy/monitor.c - binds the sockets, gives up root, forks spawner and engine, and starts a new engine
 * when one dies, while the listening sockets stay open: clients wait, none is refused.
 */
#include "proxy/monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/xalloc.h"
#include "net/listener.h"
#include "proxy/engine.h"
#include "spawn/spawn.h"
#include "spool/file.h"

/* Between two engines that die at once. */
#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 30000
/* An engine that lived so many times the last wait has earned a quick restart. */
#define STEADY_TIMES 10
/* A spawner ends when its engine does, and may be noticed first. */
#define WIDOW_MS 100
/* For the first engine to be ready, and how often we look whether the start is to be stopped. */
#define READY_MS      60000
#define READY_LOOK_MS 100
/* Engines that finish what they have while another one is at work already. */
#define LEAVING_MAX 8

struct monitor {
	const struct monitor_args *args;
	int *listen_fds;
	int listen_count;
	char helper_path[PATH_MAX];
	char log_path[PATH_MAX];
	pid_t engine, spawner;
	int engine_fd; /* our end of its channel; its end of file tells it that we are gone */
	struct leaving {
		pid_t pid;
		int fd;
	} leaving[LEAVING_MAX];
	int leaving_count;
	int pid_fd; /* of the pid file, locked; -1: none */
	uint64_t started_ms;
	int64_t backoff_ms;
	uint64_t restart_at; /* clock_ms; 0: none is due */
	uint64_t retire_at;  /* likewise: the spawner is gone */
	bool is_stopping;
	bool has_log; /* apart from stderr */
	int ready_fd; /* the process that started the daemon waits at its other end */
};

/* ---- before the start ---- */

static int
find_ids(const struct settings *st, uid_t *uid, gid_t *gid, struct err *err)
{
	const struct passwd *pw;
	const struct group *gr;

	pw = getpwnam(st->top.user);
	if (pw == NULL)
		return err_set(err, "user: there is no user \"%s\" (try adduser --system --group %s)",
			st->top.user, st->top.user);
	*uid = pw->pw_uid;
	*gid = pw->pw_gid;
	if (st->top.group == NULL)
		return 0;
	gr = getgrnam(st->top.group);
	if (gr == NULL)
		return err_set(err, "group: there is no group \"%s\"", st->top.group);
	*gid = gr->gr_gid;
	return 0;
}

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
	uid_t uid = 0;
	gid_t gid = 0;

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (geteuid() != 0)
		return 0;
	if (st->top.user == NULL)
		return err_set(err, "refusing to run as root: name a user to become (try user postern)");
	if (find_ids(st, &uid, &gid, err) < 0)
		return -1;
	if (uid == 0)
		return err_set(err, "refusing to run as root: user must be another one");
	if (prepare_folder(st->spool.directory, uid, gid, err) < 0)
		return -1;
	if (initgroups(st->top.user, gid) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return err_sys(err, "cannot become user %s", st->top.user);
	if (setuid(0) == 0)
		return err_set(err, "root rights could not be given up");
	return 0;
}

/* A Unix socket is for whoever reaches it: the folder's rights say who that is. */
static int
listen_at(const struct ip_endpoint *ep, struct err *err)
{
	mode_t old = umask(0111);
	int fd = net_listen(ep, err);

	umask(old);
	return fd;
}

static int
bind_all(struct monitor *m, struct err *err)
{
	const struct settings *st = m->args->settings;
	size_t n = 0;

	for (int i = 0; i < st->listener_count; i++)
		n += st->listeners[i].conf.listen.count;
	m->listen_fds = xcalloc(n, sizeof(int));
	for (int i = 0; i < st->listener_count; i++) {
		const struct listener *l = &st->listeners[i];

		for (size_t k = 0; k < l->conf.listen.count; k++) {
			int fd = listen_at(&l->conf.listen.list[k], err);

			if (fd < 0)
				return err_prefix(err, "listener %s", l->name);
			m->listen_fds[m->listen_count++] = fd;
		}
	}
	return 0;
}

static void
close_listeners(struct monitor *m)
{
	for (int i = 0; i < m->listen_count; i++)
		if (m->listen_fds[i] >= 0)
			close(m->listen_fds[i]);
	m->listen_count = 0;
}

/* Where we may not, the next start replaces the stale one. */
static void
remove_sockets(const struct monitor *m, int bound)
{
	const struct settings *st = m->args->settings;
	int n = 0;

	for (int i = 0; i < st->listener_count; i++)
		for (size_t k = 0; k < st->listeners[i].conf.listen.count && n < bound; k++, n++)
			if (st->listeners[i].conf.listen.list[k].kind == IP_UNIX)
				unlink(st->listeners[i].conf.listen.list[k].host);
}

/* Where a listener really stands: the port may have been 0. */
static void
log_listeners(const struct monitor *m)
{
	const struct settings *st = m->args->settings;
	int n = 0;

	for (int i = 0; i < st->listener_count; i++)
		for (size_t k = 0; k < st->listeners[i].conf.listen.count; k++) {
			struct sockaddr_storage ss;
			socklen_t len = sizeof(ss);
			struct ip_addr addr;
			char text[300];

			ip_endpoint_text(&st->listeners[i].conf.listen.list[k], text, sizeof(text));
			if (getsockname(m->listen_fds[n++], (struct sockaddr *)&ss, &len) == 0 &&
				ss.ss_family != AF_UNIX) {
				ip_addr_from_sockaddr((struct sockaddr *)&ss, &addr);
				ip_addr_port_text(&addr, text, sizeof(text));
			}
			log_info(NULL, "listen", "listener=%s address=%s", st->listeners[i].name, text);
		}
}

/* The lock, not the number, tells whether another one runs: numbers are used again. */
static int
lock_pid_file(int fd, struct err *err)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(err, "fstat");
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
		return err_set(err, "not a file of its own");
	if (fcntl(fd, F_SETLK, &lock) < 0)
		return err_set(err, "another postern that runs has it");
	return 0;
}

static int
write_pid_file(struct monitor *m, struct err *err)
{
	const char *path = m->args->settings->top.pid_file;
	char text[32];
	int len;

	if (path == NULL)
		return 0;
	m->pid_fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);
	if (m->pid_fd < 0)
		return err_sys(err, "pid_file %s", path);
	if (lock_pid_file(m->pid_fd, err) < 0) {
		close(m->pid_fd);
		m->pid_fd = -1;
		return err_prefix(err, "pid_file %s", path);
	}
	fchmod(m->pid_fd, 0644); /* our umask is for mail */
	len = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(m->pid_fd, 0) < 0 || write(m->pid_fd, text, (size_t)len) != len)
		return err_sys(err, "pid_file %s", path);
	return 0;
}

/* Empty where it cannot be removed, in a folder of root say. */
static void
remove_pid_file(struct monitor *m)
{
	if (m->pid_fd < 0)
		return;
	if (unlink(m->args->settings->top.pid_file) < 0 && ftruncate(m->pid_fd, 0) < 0)
		log_warn(NULL, "pid_file", "err=%s", strerror(errno));
	close(m->pid_fd);
	m->pid_fd = -1;
}

/* The helper program: beside us in a build tree, else where it was installed. */
static void
find_helper(struct monitor *m)
{
	char self[PATH_MAX - 64];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n > 0) {
		self[n] = '\0';
		slash = strrchr(self, '/');
		if (slash != NULL)
			*slash = '\0';
		snprintf(m->helper_path, sizeof(m->helper_path), "%s/postern-helper", self);
		if (access(m->helper_path, X_OK) == 0)
			return;
	}
	snprintf(m->helper_path, sizeof(m->helper_path), "%s", POSTERN_HELPER);
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

/* ---- children ---- */

static void
reset_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int
to_null(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), rc = -1;

	if (null >= 0) {
		rc = dup2(null, fd);
		close(null);
	}
	return rc;
}

/* Whoever started the daemon waits for the end of its output. */
static void
leave_terminal(const struct monitor *m)
{
	if (m->args->foreground)
		return;
	to_null(STDIN_FILENO);
	to_null(STDOUT_FILENO);
	if (settings_log_conf(m->args->settings).target != LOG_TO_STDERR)
		to_null(STDERR_FILENO);
}

/* What is the monitor's alone. */
static void
become_child(const struct monitor *m)
{
	leave_terminal(m);
	if (m->ready_fd >= 0)
		close(m->ready_fd);
	if (m->pid_fd >= 0)
		close(m->pid_fd);
	for (int i = 0; i < m->leaving_count; i++)
		close(m->leaving[i].fd);
}

static pid_t
fork_spawner(const struct monitor *m, int fd, int other_fd)
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

static void
run_engine(struct monitor *m, int spawner_fd, int monitor_fd)
{
	struct engine_args args = {
		.config = config_ref(m->args->config),
		.settings = m->args->settings,
		.listen_fds = m->listen_fds,
		.spawner_fd = spawner_fd,
		.monitor_fd = monitor_fd,
		.helper_path = m->helper_path,
	};

	prctl(PR_SET_NAME, "postern-engine");
	exit(engine_main(&args));
}

static int
start_engine(struct monitor *m, struct err *err)
{
	int spawner[2], channel[2];

	m->started_ms = clock_ms();
	m->restart_at = 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, spawner) < 0)
		return err_sys(err, "socketpair");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel) < 0) {
		close(spawner[0]);
		close(spawner[1]);
		return err_sys(err, "socketpair");
	}
	log_flush();
	fflush(NULL);
	m->spawner = fork_spawner(m, spawner[1], spawner[0]);
	close(spawner[1]);
	m->engine = m->spawner > 0 ? fork() : -1;
	if (m->engine == 0) {
		close(channel[0]);
		become_child(m);
		run_engine(m, spawner[0], channel[1]);
	}
	close(spawner[0]);
	close(channel[1]);
	if (m->engine < 0) {
		close(channel[0]);
		return err_sys(err, "fork");
	}
	m->engine_fd = channel[0];
	return 0;
}

/* Our signals are blocked until supervise() takes them. */
static bool
is_stop_asked(void)
{
	sigset_t pending;

	return sigpending(&pending) == 0 && (sigismember(&pending, SIGTERM) || sigismember(&pending, SIGINT) ||
		sigismember(&pending, SIGQUIT));
}

static int
wait_until_ready(const struct monitor *m, struct err *err)
{
	struct pollfd p = { .fd = m->engine_fd, .events = POLLIN };
	uint64_t end = clock_ms() + READY_MS;
	char c;

	while (poll(&p, 1, READY_LOOK_MS) <= 0) {
		if (!is_stop_asked() && clock_ms() < end)
			continue;
		kill(m->engine, SIGKILL);
		return err_set(err, "the engine was not ready when the start was %s",
			clock_ms() < end ? "stopped" : "given up");
	}
	if (read(m->engine_fd, &c, 1) != 1)
		return err_set(err, "the engine did not become ready; the log says why");
	return 0;
}

/* ---- supervision ---- */

static void
say_death(const char *what, pid_t pid, int status)
{
	if (WIFSIGNALED(status))
		log_error(NULL, "died", "process=%s pid=%d signal=%d", what, (int)pid, WTERMSIG(status));
	else
		log_error(NULL, "died", "process=%s pid=%d status=%d", what, (int)pid, WEXITSTATUS(status));
}

static void
plan_restart(struct monitor *m)
{
	int64_t lived = (int64_t)(clock_ms() - m->started_ms);

	m->backoff_ms = lived >= m->backoff_ms * STEADY_TIMES ? BACKOFF_MIN_MS : m->backoff_ms * 2;
	if (m->backoff_ms > BACKOFF_MAX_MS)
		m->backoff_ms = BACKOFF_MAX_MS;
	m->restart_at = clock_ms() + (uint64_t)m->backoff_ms;
	log_info(NULL, "restart", "in_ms=%lld", (long long)m->backoff_ms);
}

static void
engine_ended(struct monitor *m, int status)
{
	pid_t pid = m->engine;

	m->engine = 0;
	m->retire_at = 0;
	close(m->engine_fd);
	if (m->is_stopping)
		return;
	say_death("engine", pid, status);
	plan_restart(m);
}

static void
spawner_ended(struct monitor *m)
{
	m->spawner = 0;
	if (!m->is_stopping && m->engine > 0)
		m->retire_at = clock_ms() + WIDOW_MS;
}

/* An engine without its spawner cannot run helpers: it finishes what it has while a new pair takes over. */
static void
retire_engine(struct monitor *m)
{
	m->retire_at = 0;
	log_error(NULL, "died", "process=%s", "spawner");
	if (m->leaving_count == LEAVING_MAX) {
		kill(m->engine, SIGUSR2);
		return;
	}
	kill(m->engine, SIGTERM);
	m->leaving[m->leaving_count++] = (struct leaving){ m->engine, m->engine_fd };
	m->engine = 0;
	plan_restart(m);
}

static void
leaving_ended(struct monitor *m, pid_t pid)
{
	for (int i = 0; i < m->leaving_count; i++)
		if (m->leaving[i].pid == pid) {
			close(m->leaving[i].fd);
			m->leaving[i] = m->leaving[--m->leaving_count];
			return;
		}
}

static void
reap(struct monitor *m)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == m->engine)
			engine_ended(m, status);
		else if (pid == m->spawner)
			spawner_ended(m);
		else
			leaving_ended(m, pid);
	}
}

static void
restart(struct monitor *m)
{
	struct err err;

	if (start_engine(m, &err) < 0) {
		log_error(NULL, "start", "err=%s", err.text);
		plan_restart(m);
	}
}

/* To the engine, and to those that are on their way out. */
static void
tell_engines(const struct monitor *m, int sig)
{
	if (m->engine > 0)
		kill(m->engine, sig);
	for (int i = 0; i < m->leaving_count; i++)
		kill(m->leaving[i].pid, sig);
}

/* The engine knows SIGTERM, finish, and SIGUSR2, at once: whatever else reaches all processes alike, from a
 * terminal or a service manager, is said to it by us alone. */
static void
stop(struct monitor *m)
{
	tell_engines(m, m->is_stopping ? SIGUSR2 : SIGTERM);
	m->is_stopping = true;
	m->restart_at = m->retire_at = 0;
}

static void
reopen_log(struct monitor *m, int sig)
{
	struct err err;

	if (log_reopen(&err) < 0)
		log_error(NULL, "log", "err=%s", err.text);
	tell_engines(m, sig);
}

/* Nothing to do earlier: an hour. */
static struct timespec
until(uint64_t at)
{
	uint64_t now = clock_ms();
	uint64_t ms = at == 0 ? 3600 * 1000 : at > now ? at - now : 0;

	return (struct timespec){ (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };
}

static bool
is_due(uint64_t at)
{
	return at != 0 && clock_ms() >= at;
}

static void
supervise(struct monitor *m, const sigset_t *signals)
{
	int bound = m->listen_count;

	while (!m->is_stopping || m->engine > 0 || m->spawner > 0 || m->leaving_count > 0) {
		/* Never both: there is an engine, or there is none. */
		struct timespec patience = until(m->retire_at != 0 ? m->retire_at : m->restart_at);
		int sig = sigtimedwait(signals, NULL, &patience);

		if (sig == SIGCHLD)
			reap(m);
		else if (sig == SIGTERM || sig == SIGINT || sig == SIGQUIT)
			stop(m);
		else if (sig == SIGHUP || sig == SIGUSR1)
			reopen_log(m, sig);
		if (is_due(m->retire_at))
			retire_engine(m);
		if (is_due(m->restart_at))
			restart(m);
		if (m->is_stopping)
			close_listeners(m);
		log_flush();
	}
	remove_sockets(m, bound);
}

static void
block_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGCHLD);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGQUIT);
	sigaddset(set, SIGHUP);
	sigaddset(set, SIGUSR1);
	sigprocmask(SIG_BLOCK, set, NULL);
}

/* ---- daemon ---- */

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
	struct log_conf lc = settings_log_conf(m->args->settings);
	struct err why;

	if (m->args->foreground)
		lc.target = LOG_TO_STDERR;
	if (m->args->verbose)
		lc.level = LOG_LEVEL_DEBUG;
	if (log_open(&lc, &why) < 0)
		return err_set(err, "%s (%s)", why.text, lc.target == LOG_TO_SYSLOG
			? "does a syslog daemon run? else try log { to /var/log/postern/log }"
			: "it must be writable for the user Postern becomes");
	m->has_log = lc.target != LOG_TO_STDERR;
	return 0;
}

static int
prepare(struct monitor *m, struct err *err)
{
	const struct settings *st = m->args->settings;

	if (geteuid() == 0 && st->top.user == NULL)
		return become_user(st, err); /* says why not, before anything was touched */
	raise_descriptors();
	find_helper(m);
	if (bind_all(m, err) < 0 || write_pid_file(m, err) < 0 || become_user(st, err) < 0)
		return -1;
	/* As the user: so it is the one who can open it again after a rotation, and root follows no link. */
	if (open_log(m, err) < 0)
		return -1;
	return spool_check(&st->spool, err);
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

static int
begin(struct monitor *m, struct err *err)
{
	if (prepare(m, err) < 0)
		return EX_CONFIG;
	if (start_engine(m, err) < 0)
		return EX_OSERR;
	log_listeners(m);
	log_flush();
	return wait_until_ready(m, err) < 0 ? EX_OSERR : EX_OK;
}

int
monitor_main(const struct monitor_args *args)
{
	struct monitor m = { .args = args, .ready_fd = -1, .pid_fd = -1 };
	sigset_t signals;
	struct err err;
	int status;

	umask(077);
	signal(SIGPIPE, SIG_IGN);
	if (!args->foreground)
		become_daemon(&m);
	log_thread("m");
	block_signals(&signals);
	status = begin(&m, &err);
	if (status == EX_OK) {
		tell_starter(&m, EX_OK);
		supervise(&m, &signals);
	} else {
		say_failure(&m, &err);
		remove_sockets(&m, m.listen_count);
	}
	close_listeners(&m);
	remove_pid_file(&m);
	free(m.listen_fds);
	log_flush();
	tell_starter(&m, status);
	return status;
}
