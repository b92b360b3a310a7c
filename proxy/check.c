/*
 * proxy/check.c - the children that look, and what they report.
 */
#include "proxy/check.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "proxy/check_private.h"
#include "proxy/user.h"

enum report_kind { REPORT_ERROR, REPORT_WARNING, REPORT_BEGIN };

/* The place lies in memory that was there before the fork. One write is less than PIPE_BUF: never torn. */
struct report {
	enum report_kind kind;
	const struct config_place *place;
	char text[1000];
};
_Static_assert(sizeof(struct report) <= PIPE_BUF, "a report is written at once");

/* ---- in the child ---- */

const struct config_place *
check_place(const struct check *c, const struct config_block *block, const char *option)
{
	const struct config_place *place = config_place_of(block, option);

	return place->file != NULL ? place : &c->settings->config->top->place;
}

__attribute__((format(printf, 4, 0))) static void
report(const struct check *c, enum report_kind kind, const struct config_place *place, const char *fmt, va_list ap)
{
	struct report r = { .kind = kind, .place = place };

	vsnprintf(r.text, sizeof(r.text), fmt, ap);
	if (write(c->fd, &r, sizeof(r)) != (ssize_t)sizeof(r))
		_exit(EXIT_FAILURE);
}

void
check_error(const struct check *c, const struct config_place *place, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	report(c, REPORT_ERROR, place, fmt, ap);
	va_end(ap);
}

void
check_warn(const struct check *c, const struct config_place *place, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	report(c, REPORT_WARNING, place, fmt, ap);
	va_end(ap);
}

__attribute__((format(printf, 3, 4))) static void
begin(const struct check *c, const struct config_place *place, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	report(c, REPORT_BEGIN, place, fmt, ap);
	va_end(ap);
}

void
check_begin(const struct check *c, const struct config_place *place, const char *what)
{
	begin(c, place, "%s", what);
}

void
check_parent(const char *path, char *dst, size_t size)
{
	size_t len = strlen(path);

	while (len > 1 && path[len - 1] == '/')
		len--;
	while (len > 0 && path[len - 1] != '/')
		len--;
	while (len > 1 && path[len - 1] == '/')
		len--;
	snprintf(dst, size, "%.*s", len > 0 ? (int)len : 1, len > 0 ? path : ".");
}

/* systemd makes these when it starts our unit, not before. */
static bool
comes_with_unit(const char *folder)
{
	static const char *const folders[] = { "/run/postern", "/var/run/postern", "/var/lib/postern", "/var/log/postern" };

	for (size_t i = 0; i < ARRAY_COUNT(folders); i++)
		if (strcmp(folder, folders[i]) == 0)
			return true;
	return false;
}

bool
check_folder(const struct check *c, const struct config_place *place, const char *what, const char *folder, bool must_write)
{
	struct stat st;

	if (stat(folder, &st) < 0 && errno == ENOENT && comes_with_unit(folder))
		check_warn(c, place, "%s: the folder %s is not there (systemd makes it for our unit; for any other start it must "
			"be made)", what, folder);
	else if (stat(folder, &st) < 0 && errno == ENOENT)
		check_error(c, place, "%s: the folder %s is not there (try mkdir, and chown to the user)", what, folder);
	else if (stat(folder, &st) < 0)
		check_error(c, place, "%s: the folder %s: %s", what, folder, strerror(errno));
	else if (!S_ISDIR(st.st_mode))
		check_error(c, place, "%s: %s is not a folder", what, folder);
	else if (must_write && access(folder, W_OK | X_OK) < 0)
		check_error(c, place, "%s: %s cannot make files in %s: %s", what, c->whose, folder, strerror(errno));
	else
		return true;
	return false;
}

/* Who is not root sees with other eyes than the service will. */
static void
compare_users(const struct check *c)
{
	const struct top_conf *top = &c->settings->top;
	const struct passwd *pw = top->user != NULL ? getpwnam(top->user) : NULL;

	if (!c->was_root && pw != NULL && pw->pw_uid != geteuid())
		check_warn(c, check_place(c, c->settings->config->top, "user"),
			"user: what follows is how user id %u sees it, not %s (try sudo postern -t)", (unsigned)geteuid(),
			top->user);
}

/* Says of what is wrong with the user only once: the others are silent. */
static bool
see_as_user(struct check *c, bool is_first, char *whose, size_t size)
{
	const struct config_block *top = c->settings->config->top;
	struct user user;
	struct err err;

	if (user_find(c->settings, &user, &err) < 0) {
		if (is_first)
			check_error(c, check_place(c, top, strncmp(err.text, "group", 5) == 0 ? "group" : "user"), "%s",
				err.text);
		return false;
	}
	if (user_become(&user, &err) < 0) {
		if (is_first)
			check_error(c, check_place(c, top, "user"), "%s", err.text);
		return false;
	}
	user_drop_capabilities();
	if (user.name != NULL)
		snprintf(whose, size, "user %s", user.name);
	if (is_first)
		compare_users(c);
	return true;
}

static const struct look {
	void (*run)(struct check *);
	bool as_user;
	bool needs_user; /* else there is something to see with root's eyes, too */
} looks[] = {
	{ check_files, true, true },
	{ check_certificates, true, false },
	{ check_hosts, true, true },
	{ check_services, true, true },
	{ check_ports, false, false },
};
#define LOOKS ARRAY_COUNT(looks)

__attribute__((noreturn)) static void
run_look(size_t n, struct settings *settings, int fd)
{
	char whose[300];
	struct check c = { settings, fd, geteuid() == 0, whose };

	signal(SIGPIPE, SIG_IGN);
	umask(077);
	snprintf(whose, sizeof(whose), "user id %u", (unsigned)geteuid());
	begin(&c, &settings->config->top->place, "the user");
	if (!looks[n].as_user || see_as_user(&c, n == 0, whose, sizeof(whose)) || !looks[n].needs_user)
		looks[n].run(&c);
	_exit(EXIT_SUCCESS);
}

/* ---- in the parent ---- */

struct child {
	pid_t pid; /* -1: there is none */
	int fd;	   /* -1: it has said all */
	struct report last;
};

static void
start_child(struct child *child, size_t n, struct settings *settings)
{
	int fds[2];

	*child = (struct child){ .pid = -1, .fd = -1 };
	if (pipe2(fds, O_CLOEXEC) < 0)
		return;
	child->pid = fork();
	if (child->pid == 0) {
		close(fds[0]);
		run_look(n, settings, fds[1]);
	}
	close(fds[1]);
	child->fd = fds[0];
}

static void
take_report(struct child *child, struct config *conf)
{
	struct report r;
	ssize_t n = read(child->fd, &r, sizeof(r));

	if (n != (ssize_t)sizeof(r)) {
		close(child->fd);
		child->fd = -1;
	} else if (r.kind == REPORT_ERROR) {
		config_error(conf, r.place, "%s", r.text);
	} else if (r.kind == REPORT_WARNING) {
		config_warn(conf, r.place, "%s", r.text);
	} else {
		child->last = r;
	}
}

/* Did one of those before it stop at the same thing? Then that is said already. */
static bool
is_said(const struct child *children, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (children[i].last.place == children[n].last.place && strcmp(children[i].last.text, children[n].last.text) == 0)
			return true;
	return false;
}

/* One that sits in the kernel, waiting for a server of files that is gone, does not even die: it is left to init. */
static void
end_child(struct child *children, size_t n, struct config *conf)
{
	struct child *child = &children[n];
	int status = 0;

	if (child->fd >= 0) {
		close(child->fd);
		kill(child->pid, SIGKILL);
		if (!is_said(children, n))
			config_warn(conf, child->last.place, "looking at %s took longer than %d seconds and was given up",
				child->last.text, (CHECK_PATIENCE_MS + 500) / 1000);
		waitpid(child->pid, &status, WNOHANG);
	} else if (child->pid < 0) {
		config_warn(conf, NULL, "not everything could be looked at: %s", strerror(EAGAIN));
	} else if (waitpid(child->pid, &status, 0) == child->pid && status != 0) {
		config_warn(conf, child->last.place, "looking at %s ended with wait status %d", child->last.text, status);
	}
}

/* false: the time is over, or nobody has more to say. */
static bool
listen_to(struct child *children, uint64_t end, struct config *conf)
{
	struct pollfd polls[LOOKS];
	uint64_t now = clock_ms();
	bool is_open = false;

	for (size_t i = 0; i < LOOKS; i++) {
		polls[i] = (struct pollfd){ .fd = children[i].fd, .events = POLLIN };
		is_open |= children[i].fd >= 0;
	}
	if (!is_open || now >= end)
		return false;
	if (poll(polls, LOOKS, (int)(end - now)) < 0)
		return errno == EINTR;
	for (size_t i = 0; i < LOOKS; i++)
		if (polls[i].revents != 0)
			take_report(&children[i], conf);
	return true;
}

void
check_settings(struct settings *settings)
{
	struct child children[LOOKS];
	uint64_t end = clock_ms() + CHECK_PATIENCE_MS;

	fflush(NULL);
	for (size_t i = 0; i < LOOKS; i++)
		start_child(&children[i], i, settings);
	while (listen_to(children, end, settings->config))
		continue;
	for (size_t i = 0; i < LOOKS; i++)
		end_child(children, i, settings->config);
}
