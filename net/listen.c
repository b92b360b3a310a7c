/*
 * net/listen.c - making a listening socket, and saying in words why it could not be made.
 */
#include <errno.h>
#include <fcntl.h>
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

int
net_listen_resolve(const struct ip_endpoint *ep, struct ip_endpoint *first_r, bool *is_mixed_r)
{
	const struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
	struct addrinfo *list = NULL;
	char port[8];
	int rc;

	snprintf(port, sizeof(port), "%u", ep->port);
	rc = getaddrinfo(ep->host, port, &hints, &list);
	if (rc != 0)
		return rc;
	*first_r = *ep;
	first_r->kind = IP_NUMERIC;
	memcpy(&first_r->addr, list->ai_addr, list->ai_addrlen);
	first_r->addr_len = list->ai_addrlen;
	*is_mixed_r = false;
	for (const struct addrinfo *ai = list; ai != NULL; ai = ai->ai_next)
		if (ai->ai_family != list->ai_family)
			*is_mixed_r = true;
	freeaddrinfo(list);
	return 0;
}

/* Only at start and reload, so it may block. */
static int
listen_name(const struct ip_endpoint *ep, struct err *err)
{
	struct ip_endpoint first;
	bool is_mixed;
	const int rc = net_listen_resolve(ep, &first, &is_mixed);

	if (rc != 0)
		return fail_words(ep, gai_strerror(rc), err);
	return listen_ip(ep, (const struct sockaddr *)&first.addr, first.addr_len, err);
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

/* The mode comes with the file: chmod by name would follow whatever had been put in its place. */
static int
bind_unix(int fd, const struct ip_endpoint *ep, const struct net_unix_rights *rights)
{
	const mode_t old = rights != NULL ? umask(~rights->mode & 0777) : 0;
	const int rc = bind(fd, (const struct sockaddr *)&ep->addr, ep->addr_len);
	const int saved = errno;

	if (rights != NULL)
		umask(old);
	errno = saved;
	return rc;
}

/* As root in a folder of somebody else's: what stands there now may be no socket. */
static int
give_away(const char *path, const struct net_unix_rights *rights)
{
	struct stat st;
	int fd, rc = -1, saved;

	if (rights == NULL || (rights->owner == (uid_t)-1 && rights->group == (gid_t)-1))
		return 0;
	fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) == 0 && !S_ISSOCK(st.st_mode))
		errno = ENOTSOCK;
	else
		rc = fchownat(fd, "", rights->owner, rights->group, AT_EMPTY_PATH);
	saved = errno;
	close(fd);
	errno = saved;
	return rc;
}

/* Nobody can connect before listen(). */
static int
listen_unix(const struct ip_endpoint *ep, const struct net_unix_rights *rights, struct err *err)
{
	int fd;

	if (remove_stale(ep, err) < 0)
		return -1;
	fd = stream_socket(AF_UNIX);
	if (fd < 0)
		return fail(ep, errno, err);
	if (bind_unix(fd, ep, rights) < 0) {
		fail(ep, errno, err);
		close(fd);
		return -1;
	}
	if (give_away(ep->host, rights) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	if (errno == EPERM)
		fail_words(ep, "only root can give the socket to another user, or to a group that is not its own", err);
	else
		fail(ep, errno, err);
	unlink(ep->host);
	close(fd);
	return -1;
}

int
net_listen(const struct ip_endpoint *ep, const struct net_unix_rights *rights, struct err *err)
{
	switch (ep->kind) {
	case IP_NUMERIC:
		return listen_ip(ep, (const struct sockaddr *)&ep->addr, ep->addr_len, err);
	case IP_NAME:
		return listen_name(ep, err);
	case IP_UNIX:
		return listen_unix(ep, rights, err);
	case IP_FD:
		break;
	}
	return fail_words(ep, "an inherited socket is taken over, not opened", err);
}
