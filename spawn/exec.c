/* spawn/exec.c - fork, place descriptors, set limits, run the program. */
#include "spawn/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/list.h"

/* Descriptors wait above this number until they are put where the program wants them. */
#define PARKED           64
#define HELPER_OOM_SCORE "500"

static int null_fd = -1;

int
spawn_prepare(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	null_fd = fcntl(fd, F_DUPFD_CLOEXEC, PARKED);
	close(fd);
	return null_fd < 0 ? -1 : 0;
}

void
spawn_reset_signals(void)
{
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* From here on only what dup2 puts in place survives exec. */
static void
mark_all_cloexec(void)
{
	if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
		return;
	for (int fd = 3, end = (int)sysconf(_SC_OPEN_MAX); fd < end; fd++)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static bool
is_target(const struct work_spawn *spec, int fd)
{
	for (size_t i = 0; i < spec->target_count; i++)
		if (spec->targets[i] == fd)
			return true;
	return false;
}

/* Parked first, because one's target may be another's source. */
static int
place_fds(const struct work_spawn *spec, const int *fds)
{
	int parked[WORK_FDS_MAX];

	mark_all_cloexec();
	for (size_t i = 0; i < spec->target_count; i++)
		if ((parked[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, PARKED)) < 0)
			return -1;
	for (size_t i = 0; i < spec->target_count; i++)
		if (dup2(parked[i], spec->targets[i]) < 0)
			return -1;
	for (int fd = 0; fd <= 2; fd++) {
		bool keeps = fd == 2 && spec->profile == WORK_HELPER;

		if (!is_target(spec, fd) && !keeps && dup2(null_fd, fd) < 0)
			return -1;
	}
	return 0;
}

/* Never above what we may give. */
static int
set_limit(int resource, uint64_t value)
{
	struct rlimit now;

	if (value == 0)
		return 0;
	if (getrlimit(resource, &now) < 0)
		return -1;
	if (now.rlim_max != RLIM_INFINITY && value > now.rlim_max)
		value = now.rlim_max;
	return setrlimit(resource, &(struct rlimit){value, value});
}

static int
set_limits(const struct work_limits *limits)
{
	const struct rlimit no_core = {0, 0};

	if (setrlimit(RLIMIT_CORE, &no_core) < 0 || set_limit(RLIMIT_AS, limits->memory) < 0 ||
		set_limit(RLIMIT_CPU, limits->cpu_seconds) < 0 ||
		set_limit(RLIMIT_FSIZE, limits->file_size) < 0 ||
		set_limit(RLIMIT_NOFILE, limits->open_files) < 0 ||
		set_limit(RLIMIT_NPROC, limits->processes) < 0)
		return -1;
	return 0;
}

/* Best effort: raising one's own score needs no right, but /proc may be missing. */
static void
offer_to_oom_killer(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, HELPER_OOM_SCORE, strlen(HELPER_OOM_SCORE)) < 0)
		errno = 0;
	close(fd);
}

static int
confine(const struct work_spawn *spec, pid_t spawner)
{
	umask(077);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return -1;
	if (getppid() != spawner)
		_exit(0);
	if (spec->profile == WORK_HELPER)
		offer_to_oom_killer();
	if (chdir(spec->directory[0] != '\0' ? spec->directory : "/") < 0)
		return -1;
	return set_limits(&spec->limits);
}

static void __attribute__((noreturn))
run_child(const struct work_spawn *spec, const int *fds, int report, pid_t spawner)
{
	int reason;

	setpgid(0, 0);
	spawn_reset_signals();
	report = fcntl(report, F_DUPFD_CLOEXEC, PARKED);
	if (report >= 0 && place_fds(spec, fds) == 0 && confine(spec, spawner) == 0)
		execve(spec->argv[0], (char *const *)spec->argv, (char *const *)spec->env);
	reason = errno;
	if (write(report, &reason, sizeof(reason)) < 0)
		_exit(126);
	_exit(127);
}

pid_t
spawn_exec(const struct work_spawn *spec, const int *fds, int *report_r)
{
	pid_t spawner = getpid();
	int pipes[2];
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -1;
	pid = fork();
	if (pid == 0)
		run_child(spec, fds, pipes[1], spawner);
	close(pipes[1]);
	if (pid < 0) {
		int reason = errno;

		close(pipes[0]);
		errno = reason;
		return -1;
	}
	/* Here too, so that a KILL that comes at once finds the group. */
	setpgid(pid, pid);
	fcntl(pipes[0], F_SETFL, O_NONBLOCK);
	*report_r = pipes[0];
	return pid;
}
