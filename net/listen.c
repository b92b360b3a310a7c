/*
 * net/listen.c - making a listening socket, and saying in words why it could not be made.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/listener.h"
#include "net/reason.h"

#define BACKLOG   4096
#define TEXT_SIZE 300

static int
fail(const struct ip_endpoint *ep, int errnum, struct err *err)
{
	char text[TEXT_SIZE];
	const char *hint = "";

	ip_endpoint_text(ep, text, sizeof(text));
	if (errnum == EACCES && ep->kind != IP_UNIX && ep->port < 1024)
		hint = " (ports below 1024 need root or CAP_NET_BIND_SERVICE)";
	if (errnum == EADDRINUSE)
		hint = " (another program listens there; ss -ltnp tells which)";
	if (errnum == EADDRNOTAVAIL)
		hint = " (no interface of this machine has it)";
	return err_set(err, "cannot listen on %s: %s%s", text, net_reason(errnum), hint);
}

static int
fail_words(const struct ip_endpoint *ep, const char *words, struct err *err)
{
	char text[TEXT_SIZE];

	ip_endpoint_text(ep, text, sizeof(text));
	return err_set(err, "cannot listen on %s: %s", text, words);
}

static int
stream_socket(int family)
{
	return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static int
bind_and_listen(int fd, const struct sockaddr *sa, socklen_t len)
{
	if (bind(fd, sa, len) < 0 || listen(fd, BACKLOG) < 0)
		return -1;
	return 0;
}

static int
listen_ip(const struct ip_endpoint *ep, const struct sockaddr *sa, socklen_t len, struct err *err)
{
	const int on = 1;
	const int fd = stream_socket(sa->sa_family);

	if (fd < 0)
		return fail(ep, errno, err);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (sa->sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind_and_listen(fd, sa, len) < 0) {
		fail(ep, errno, err);
		close(fd);
		return -1;
	}
	return fd;
}

/* Only at start and reload, so it may block. The first address is taken. */
static int
listen_name(const struct ip_endpoint *ep, struct err *err)
{
	const struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
	struct addrinfo *list = NULL;
	char port[8];
	int fd, rc;

	snprintf(port, sizeof(port), "%u", ep->port);
	rc = getaddrinfo(ep->host, port, &hints, &list);
	if (rc != 0)
		return fail_words(ep, gai_strerror(rc), err);
	fd = listen_ip(ep, list->ai_addr, list->ai_addrlen, err);
	freeaddrinfo(list);
	return fd;
}

/* 0: connected, or the errno that says who is there. */
static int
probe_unix(const struct ip_endpoint *ep)
{
	const int fd = stream_socket(AF_UNIX);
	int rc = 0;

	if (fd < 0)
		return errno;
	if (connect(fd, (const struct sockaddr *)&ep->addr, ep->addr_len) < 0)
		rc = errno;
	close(fd);
	return rc;
}

/* A socket that nobody listens on is what a process that died has left behind. */
static int
remove_stale(const struct ip_endpoint *ep, struct err *err)
{
	struct stat st;
	int who;

	if (lstat(ep->host, &st) < 0)
		return errno == ENOENT ? 0 : fail(ep, errno, err);
	if (!S_ISSOCK(st.st_mode))
		return fail_words(ep, "a file that is not a socket is in the way", err);
	who = probe_unix(ep);
	if (who == 0 || who == EAGAIN)
		return fail_words(ep, "already in use by a running process", err);
	if (who != ECONNREFUSED && who != ENOENT)
		return fail(ep, who, err);
	if (unlink(ep->host) < 0 && errno != ENOENT)
		return fail(ep, errno, err);
	return 0;
}

static int
listen_unix(const struct ip_endpoint *ep, struct err *err)
{
	int fd;

	if (remove_stale(ep, err) < 0)
		return -1;
	fd = stream_socket(AF_UNIX);
	if (fd < 0)
		return fail(ep, errno, err);
	if (bind_and_listen(fd, (const struct sockaddr *)&ep->addr, ep->addr_len) < 0) {
		fail(ep, errno, err);
		close(fd);
		return -1;
	}
	return fd;
}

int
net_listen(const struct ip_endpoint *ep, struct err *err)
{
	switch (ep->kind) {
	case IP_NUMERIC:
		return listen_ip(ep, (const struct sockaddr *)&ep->addr, ep->addr_len, err);
	case IP_NAME:
		return listen_name(ep, err);
	case IP_UNIX:
		return listen_unix(ep, err);
	case IP_FD:
		break;
	}
	return fail_words(ep, "an inherited socket is taken over, not opened", err);
}
