/*
 * net/connect.c - one address after the other until one answers or the time is up.
 *
 * Each address gets its even share of the time that is left, so that a silent first one leaves some
 * to the next. All work begins in net_later(), so a callback never comes from inside start.
 */
#include "net/connect.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/xalloc.h"
#include "net/reason.h"
#include "net/threads.h"

/* connect() to a Unix socket whose queue is full says EAGAIN and tells us no more. */
#define UNIX_AGAIN_MS 20
#define TEXT_SIZE     300

/* Apart from the connect: a job thread may use it after the connect was cancelled. */
struct lookup {
	struct net_connect *connect;
	char host[256];
	char port[8];
	int rc;
	struct addrinfo *list;
};

struct net_connect {
	struct net_worker *worker;
	net_connect_cb cb; /* NULL: cancelled or told */
	void *owner;
	struct ip_endpoint ep;
	uint64_t due;
	int64_t timeout_ms;
	struct net_timer patience; /* for the name or the present address */
	struct net_job *job;
	struct addrinfo *list; /* of a name */
	struct addrinfo one;   /* of a numeric address or a path; refers to ep */
	struct addrinfo *next; /* to try */
	struct addrinfo *now;
	int fd;
	struct event event;
	struct err err; /* of the last address */
};

static void try_next(struct net_connect *c);

static void
lookup_free(void *arg)
{
	struct lookup *l = arg;

	if (l->list != NULL)
		freeaddrinfo(l->list);
	free(l);
}

static void
attempt_end(struct net_connect *c)
{
	if (c->fd < 0)
		return;
	event_del(&c->event);
	close(c->fd);
	c->fd = -1;
}

static void
connect_destroy(void *arg)
{
	free(arg);
}

/* The struct itself goes last, for `begin` may still wait in the worker's list. */
static void
connect_close(struct net_connect *c)
{
	c->cb = NULL;
	attempt_end(c);
	net_job_cancel(&c->job, lookup_free);
	net_timer_deinit(&c->patience);
	if (c->list != NULL)
		freeaddrinfo(c->list);
	c->list = NULL;
	net_later(c->worker, connect_destroy, c);
}

static void
tell(struct net_connect *c, int fd)
{
	const net_connect_cb cb = c->cb;

	connect_close(c);
	cb(c->owner, fd, &c->err);
}

static void
failed(struct net_connect *c, const char *words)
{
	char text[TEXT_SIZE];
	char address[INET6_ADDRSTRLEN + 1];
	struct ip_addr addr;

	ip_endpoint_text(&c->ep, text, sizeof(text));
	if (c->ep.kind != IP_NAME || c->now == NULL) {
		err_set_temp(&c->err, "%s: %s", text, words);
		return;
	}
	ip_addr_from_sockaddr(c->now->ai_addr, &addr);
	ip_addr_text(&addr, address, sizeof(address));
	err_set_temp(&c->err, "%s at %s: %s", text, address, words);
}

static void
failed_in_time(struct net_connect *c)
{
	char words[64];

	snprintf(words, sizeof(words), "no answer within %lld ms", (long long)c->timeout_ms);
	failed(c, words);
}

static int64_t
time_left(const struct net_connect *c)
{
	return (int64_t)(c->due - net_worker_now(c->worker));
}

/* Without a socket or a job it is the wait before a full Unix socket is tried again. */
static void
out_of_patience(void *arg)
{
	struct net_connect *c = arg;
	const bool in_time = time_left(c) > 0;

	if (c->fd >= 0 || c->job != NULL)
		failed_in_time(c);
	else if (in_time)
		c->next = c->now;
	attempt_end(c);
	if (in_time)
		try_next(c);
	else
		tell(c, -1);
}

static void
connected(struct net_connect *c)
{
	const int fd = c->fd;

	c->fd = -1;
	tell(c, fd);
}

static void
got_writable(evutil_socket_t fd, short what, void *arg)
{
	struct net_connect *c = arg;
	int errnum = 0;
	socklen_t len = sizeof(errnum);

	(void)what;
	event_del(&c->event);
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &errnum, &len) < 0)
		errnum = errno;
	if (errnum == 0) {
		connected(c);
		return;
	}
	attempt_end(c);
	failed(c, net_reason(errnum));
	try_next(c);
}

static int64_t
share_of_time(const struct net_connect *c)
{
	int64_t count = 1;

	for (const struct addrinfo *a = c->next; a != NULL; a = a->ai_next)
		count++;
	return time_left(c) / count;
}

/* 0: connected or under way; else the errno. */
static int
attempt(struct net_connect *c, const struct addrinfo *a)
{
	c->fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return errno;
	event_assign(&c->event, net_worker_base(c->worker), c->fd, EV_WRITE, got_writable, c);
	if (connect(c->fd, a->ai_addr, a->ai_addrlen) == 0 || errno == EINPROGRESS)
		return 0;
	return errno;
}

/* A connection that stands at once is writable at once: one way for both. */
static void
try_next(struct net_connect *c)
{
	int errnum;

	while ((c->now = c->next) != NULL) {
		c->next = c->now->ai_next;
		errnum = attempt(c, c->now);
		if (errnum == 0) {
			event_add(&c->event, NULL);
			net_timer_set(&c->patience, share_of_time(c));
			return;
		}
		attempt_end(c);
		failed(c, net_reason(errnum));
		if (errnum == EAGAIN && c->now->ai_family == AF_UNIX) {
			net_timer_set(&c->patience, UNIX_AGAIN_MS);
			return;
		}
	}
	tell(c, -1);
}

static void
run_lookup(void *arg)
{
	const struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV};
	struct lookup *l = arg;

	l->rc = getaddrinfo(l->host, l->port, &hints, &l->list);
}

static void
lookup_done(void *arg)
{
	struct lookup *l = arg;
	struct net_connect *c = l->connect;

	c->job = NULL;
	if (l->rc == 0) {
		c->list = l->list;
		l->list = NULL;
		c->next = c->list;
	} else {
		failed(c, gai_strerror(l->rc));
	}
	lookup_free(l);
	try_next(c);
}

static void
resolve(struct net_connect *c)
{
	struct lookup *l = xcalloc(1, sizeof(*l));

	l->connect = c;
	snprintf(l->host, sizeof(l->host), "%s", c->ep.host);
	snprintf(l->port, sizeof(l->port), "%u", c->ep.port);
	net_timer_set(&c->patience, time_left(c));
	c->job = net_job_start(c->worker, run_lookup, lookup_done, l);
}

static void
begin(void *arg)
{
	struct net_connect *c = arg;

	if (c->cb == NULL)
		return;
	switch (c->ep.kind) {
	case IP_NAME:
		resolve(c);
		return;
	case IP_NUMERIC:
	case IP_UNIX:
		c->one.ai_family = c->ep.addr.ss_family;
		c->one.ai_addr = (struct sockaddr *)&c->ep.addr;
		c->one.ai_addrlen = c->ep.addr_len;
		c->next = &c->one;
		break;
	case IP_FD:
		failed(c, "an inherited socket cannot be connected to");
		break;
	}
	try_next(c);
}

struct net_connect *
net_connect_start(struct net_worker *w, const struct ip_endpoint *ep, int64_t timeout_ms,
	net_connect_cb cb, void *owner)
{
	struct net_connect *c = xcalloc(1, sizeof(*c));

	c->worker = w;
	c->cb = cb;
	c->owner = owner;
	c->ep = *ep;
	c->fd = -1;
	c->timeout_ms = timeout_ms;
	c->due = net_worker_now(w) + (uint64_t)timeout_ms;
	net_timer_init(&c->patience, w, out_of_patience, c);
	net_later(w, begin, c);
	return c;
}

void
net_connect_cancel(struct net_connect **c_p)
{
	struct net_connect *c = *c_p;

	*c_p = NULL;
	if (c != NULL)
		connect_close(c);
}
