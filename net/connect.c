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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/xalloc.h"
#include "net/reason.h"

/* connect() to a Unix socket whose queue is full says EAGAIN and tells us no more. */
#define UNIX_AGAIN_MS 20
#define TEXT_SIZE     300

struct net_connect {
	struct net_worker *worker;
	net_connect_cb cb; /* NULL: cancelled or told */
	void *owner;
	struct ip_endpoint ep;
	uint64_t due;
	int64_t timeout_ms;
	struct net_timer patience; /* for the name or the present address */
	struct net_name *name;
	struct net_name *own_name; /* of one who has no better */
	struct net_name_wait *wait;
	struct net_addrs *addrs; /* NULL: not found yet */
	size_t next;		 /* to try */
	const struct net_addr *now;
	int fd;
	struct event event;
	struct err err; /* of the last address */
};

static void try_next(struct net_connect *c);

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
	net_name_cancel(&c->wait);
	net_name_free(&c->own_name);
	net_timer_deinit(&c->patience);
	free(c->addrs);
	c->addrs = NULL;
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
	ip_addr_from_sockaddr((const struct sockaddr *)&c->now->sa, &addr);
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

/* Without a socket or a name to wait for it is the wait before a full Unix socket is tried again. */
static void
out_of_patience(void *arg)
{
	struct net_connect *c = arg;
	const bool in_time = time_left(c) > 0;

	if (c->fd >= 0 || c->wait != NULL)
		failed_in_time(c);
	else if (in_time)
		c->next--;
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
	return time_left(c) / (int64_t)(c->addrs->count - c->next + 1);
}

/* 0: connected or under way; else the errno. */
static int
attempt(struct net_connect *c, const struct net_addr *a)
{
	c->fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return errno;
	event_assign(&c->event, net_worker_base(c->worker), c->fd, EV_WRITE, got_writable, c);
	if (connect(c->fd, (const struct sockaddr *)&a->sa, a->len) == 0 || errno == EINPROGRESS)
		return 0;
	return errno;
}

/* A connection that stands at once is writable at once: one way for both. */
static void
try_next(struct net_connect *c)
{
	int errnum;

	while (c->addrs != NULL && c->next < c->addrs->count) {
		c->now = &c->addrs->list[c->next++];
		errnum = attempt(c, c->now);
		if (errnum == 0) {
			event_add(&c->event, NULL);
			net_timer_set(&c->patience, share_of_time(c));
			return;
		}
		attempt_end(c);
		failed(c, net_reason(errnum));
		if (errnum == EAGAIN && c->now->sa.ss_family == AF_UNIX) {
			net_timer_set(&c->patience, UNIX_AGAIN_MS);
			return;
		}
	}
	tell(c, -1);
}

static void
got_addrs(void *owner, struct net_addrs *addrs, const char *why)
{
	struct net_connect *c = owner;

	c->wait = NULL;
	c->addrs = addrs;
	if (addrs == NULL)
		failed(c, why);
	try_next(c);
}

static void
find(struct net_connect *c)
{
	struct net_addrs *addrs;

	if (c->name == NULL)
		c->name = c->own_name = net_name_new(c->ep.host, c->ep.port, 0);
	addrs = net_name_get(c->name, c->worker, got_addrs, c, &c->wait);
	if (addrs != NULL)
		got_addrs(c, addrs, NULL);
	else
		net_timer_set(&c->patience, time_left(c));
}

static struct net_addrs *
only_address(const struct ip_endpoint *ep)
{
	struct net_addrs *addrs = xcalloc(1, sizeof(*addrs) + sizeof(addrs->list[0]));

	addrs->count = 1;
	addrs->list[0].sa = ep->addr;
	addrs->list[0].len = ep->addr_len;
	return addrs;
}

static void
begin(void *arg)
{
	struct net_connect *c = arg;

	if (c->cb == NULL)
		return;
	switch (c->ep.kind) {
	case IP_NAME:
		find(c);
		return;
	case IP_NUMERIC:
	case IP_UNIX:
		c->addrs = only_address(&c->ep);
		break;
	case IP_FD:
		failed(c, "an inherited socket cannot be connected to");
		break;
	}
	try_next(c);
}

struct net_connect *
net_connect_start(struct net_worker *w, const struct ip_endpoint *ep, struct net_name *name,
	int64_t timeout_ms, net_connect_cb cb, void *owner)
{
	struct net_connect *c = xcalloc(1, sizeof(*c));

	c->worker = w;
	c->cb = cb;
	c->owner = owner;
	c->ep = *ep;
	c->name = name;
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
