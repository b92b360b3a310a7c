/*
 * spawn/main.c - the spawner's loop: messages of the engine in, forks, news of children out.
 *
 * Single-threaded; poll over the engine's socket, a signalfd for SIGCHLD, and one pipe per child
 * that has not reached its program yet (exec closes it, a failure is written into it).
 */
#include "spawn/spawn.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/list.h"
#include "base/xalloc.h"
#include "spawn/exec.h"
#include "work/proto.h"

struct child {
	uint32_t id;
	pid_t pid;
	int report;          /* read end of its pipe; -1 once its program runs */
	struct pollfd *poll; /* of this turn */
	LIST_ENTRY(child) next;
};

struct spawner {
	int fd;
	int signal_fd;
	LIST_HEAD(, child) children;
	size_t child_count;
	char packet[WORK_MESSAGE_MAX];
};

static void
close_all_but(int fd)
{
	if (fd > 3)
		close_range(3, (unsigned)fd - 1, 0);
	close_range((unsigned)fd + 1, ~0U, 0);
}

/* The engine decides about the end: what a terminal or a service manager sends to all is not for
 * us. */
static int
take_signals(void)
{
	static const int ignored[] = {SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE};
	sigset_t set;

	spawn_reset_signals();
	for (size_t i = 0; i < ARRAY_COUNT(ignored); i++)
		signal(ignored[i], SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Everybody we started goes with us. */
static void __attribute__((noreturn)) end(struct spawner *s)
{
	struct child *c;

	LIST_FOREACH(c, &s->children, next)
	kill(-c->pid, SIGKILL);
	_exit(0);
}

/* Waits when the engine is slow to read: it always reads in the end, or closes. */
static void
tell(struct spawner *s, enum work_message_type type, uint32_t id, int32_t value)
{
	const struct work_message msg = {.type = type, .id = id, .value = value};
	struct str out = STR_INIT;
	struct err err;

	if (work_message_encode(&out, &msg, &err) == 0)
		while (send(s->fd, out.data, out.len, MSG_NOSIGNAL) < 0)
			if (errno != EINTR)
				end(s);
	str_deinit(&out);
}

static void
spawn(struct spawner *s, const struct work_message *msg, const int *fds)
{
	struct child *c = xcalloc(1, sizeof(*c));

	c->id = msg->id;
	c->pid = spawn_exec(&msg->spawn, fds, &c->report);
	if (c->pid < 0) {
		tell(s, WORK_FAILED, c->id, errno);
		free(c);
		return;
	}
	LIST_INSERT_HEAD(&s->children, c, next);
	s->child_count++;
}

static void
kill_child(struct spawner *s, uint32_t id, int sig)
{
	struct child *c;

	LIST_FOREACH(c, &s->children, next)
	if (c->id == id && sig > 0)
		kill(-c->pid, sig);
}

/* Descriptors beside a packet. More than we have room for are closed by the kernel (MSG_CTRUNC). */
static size_t
take_fds(struct msghdr *hdr, int *fds)
{
	size_t count = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(hdr); c != NULL; c = CMSG_NXTHDR(hdr, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(c), count * sizeof(int));
	}
	return count;
}

static void
obey(struct spawner *s, size_t len, const int *fds, size_t fd_count)
{
	struct work_message msg;
	struct err err;

	/* The engine is the same program as we are: what it cannot have meant is the end. */
	if (work_message_decode(s->packet, len, &msg, &err) < 0)
		end(s);
	if (msg.type == WORK_KILL)
		kill_child(s, msg.id, msg.value);
	else if (msg.type == WORK_SPAWN && msg.spawn.target_count == fd_count)
		spawn(s, &msg, fds);
	else if (msg.type == WORK_SPAWN)
		tell(s, WORK_FAILED, msg.id, EMFILE); /* our table is full: some were lost */
	else
		end(s);
}

static void
got_packet(struct spawner *s)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int) * WORK_FDS_MAX)];
	} control;
	struct iovec iov = {s->packet, sizeof(s->packet)};
	struct msghdr hdr = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.space,
		.msg_controllen = sizeof(control.space),
	};
	int fds[WORK_FDS_MAX];
	size_t fd_count;
	ssize_t n = recvmsg(s->fd, &hdr, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		end(s);
	fd_count = take_fds(&hdr, fds);
	obey(s, (size_t)n, fds, fd_count);
	for (size_t i = 0; i < fd_count; i++)
		close(fds[i]);
}

static void
child_free(struct spawner *s, struct child *c)
{
	if (c->report >= 0)
		close(c->report);
	LIST_REMOVE(c, next);
	s->child_count--;
	free(c);
}

/* Returns false when the program could not be started; then the child is gone. */
static bool
got_report(struct spawner *s, struct child *c)
{
	int reason = 0;
	ssize_t n = read(c->report, &reason, sizeof(reason));

	if (n < 0)
		return true;
	close(c->report);
	c->report = -1;
	if (n == 0) {
		tell(s, WORK_STARTED, c->id, c->pid);
		return true;
	}
	tell(s, WORK_FAILED, c->id, reason);
	waitpid(c->pid, NULL, 0);
	child_free(s, c);
	return false;
}

static struct child *
child_of(struct spawner *s, pid_t pid)
{
	struct child *c;

	LIST_FOREACH(c, &s->children, next)
	if (c->pid == pid)
		return c;
	return NULL;
}

/* The group is killed while the zombie still holds its number, so nobody else can have it. */
static void
reap(struct spawner *s, pid_t pid)
{
	struct child *c = child_of(s, pid);
	int status = 0;

	if (c != NULL && c->report >= 0 && !got_report(s, c))
		return;
	if (c != NULL)
		kill(-pid, SIGKILL);
	waitpid(pid, &status, 0);
	if (c == NULL)
		return;
	tell(s, WORK_EXITED, c->id, status);
	child_free(s, c);
}

static void
got_signal(struct spawner *s)
{
	struct signalfd_siginfo ignored;

	while (read(s->signal_fd, &ignored, sizeof(ignored)) > 0)
		;
	for (;;) {
		siginfo_t info = {.si_pid = 0};

		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
			return;
		reap(s, info.si_pid);
	}
}

static void
turn(struct spawner *s)
{
	struct pollfd *polls = xcalloc(s->child_count + 2, sizeof(*polls));
	size_t count = 0;
	struct child *c, *next;

	polls[count++] = (struct pollfd){.fd = s->fd, .events = POLLIN};
	polls[count++] = (struct pollfd){.fd = s->signal_fd, .events = POLLIN};
	LIST_FOREACH(c, &s->children, next)
	{
		c->poll = &polls[count];
		polls[count++] = (struct pollfd){.fd = c->report, .events = POLLIN};
	}
	if (poll(polls, count, -1) > 0) {
		LIST_FOREACH_SAFE(c, &s->children, next, next)
		if (c->poll->revents != 0)
			got_report(s, c);
		if (polls[1].revents != 0)
			got_signal(s);
		if (polls[0].revents != 0)
			got_packet(s);
	}
	free(polls);
}

void
spawn_main(int fd)
{
	struct spawner *s = xcalloc(1, sizeof(*s));

	close_all_but(fd);
	prctl(PR_SET_NAME, "postern-spawn");
	/* What a program leaves behind is ours to reap, also where process 1 does not. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	s->fd = fd;
	s->signal_fd = take_signals();
	LIST_INIT(&s->children);
	if (s->signal_fd < 0 || spawn_prepare() < 0)
		_exit(71);
	for (;;)
		turn(s);
}
