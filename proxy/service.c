/*
 * proxy/service.c - sd_notify's datagrams. The protocol is a line of text to a socket, and stable; a library for
 * it would be the largest part of it.
 */
#include "proxy/service.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/xalloc.h"

static struct {
	char *path; /* NULL: nobody listens */
	char *watchdog;
	uint64_t every_ms; /* half of what is asked; 0: nothing is */
	uint64_t told_ms;
} self;

static char *
take(const char *name)
{
	const char *value = getenv(name);
	char *copy = value != NULL && *value != '\0' ? xstrdup(value) : NULL;

	unsetenv(name);
	return copy;
}

void
service_begin(void)
{
	char *pid = take("WATCHDOG_PID");

	self.path = take("NOTIFY_SOCKET");
	self.watchdog = take("WATCHDOG_USEC");
	if (self.watchdog != NULL && (pid == NULL || atol(pid) == (long)getpid()))
		self.every_ms = strtoull(self.watchdog, NULL, 10) / 2000;
	free(pid);
}

void
service_keep(void)
{
	if (self.path != NULL)
		setenv("NOTIFY_SOCKET", self.path, 1);
	if (self.every_ms > 0)
		setenv("WATCHDOG_USEC", self.watchdog, 1);
}

/* A path, or with '@' an abstract name. */
static void
say(const char *text)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	size_t len = self.path != NULL ? strlen(self.path) : 0;
	int fd;

	if (len == 0 || len >= sizeof(sun.sun_path) || (self.path[0] != '/' && self.path[0] != '@'))
		return;
	memcpy(sun.sun_path, self.path, len);
	if (sun.sun_path[0] == '@')
		sun.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&sun,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
		log_debug(NULL, "notify", "err=%s", strerror(errno));
	close(fd);
}

void
service_ready(const char *status)
{
	char text[300];

	snprintf(text, sizeof(text), "READY=1\nSTATUS=%s\nMAINPID=%ld", status, (long)getpid());
	say(text);
}

/* The time is asked for by Type=notify-reload, and must be of the same clock as systemd's. */
void
service_reloading(void)
{
	struct timespec now;
	char text[100];

	clock_gettime(CLOCK_MONOTONIC, &now);
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%lld",
		(long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
	say(text);
}

void
service_stopping(void)
{
	say("STOPPING=1\nSTATUS=finishing what is under way");
}

void
service_status(const char *fmt, ...)
{
	char text[300] = "STATUS=";
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text + strlen(text), sizeof(text) - strlen(text), fmt, ap);
	va_end(ap);
	say(text);
}

uint64_t
service_alive_at(void)
{
	return self.every_ms > 0 ? self.told_ms + self.every_ms : 0;
}

void
service_alive(void)
{
	uint64_t now = clock_ms();

	if (self.every_ms == 0 || now < service_alive_at())
		return;
	self.told_ms = now;
	say("WATCHDOG=1");
}
