/*
 * net/listener.c - accepting on one worker, and what to do when descriptors are gone.
 *
 * One accept4 per wake-up: with one worker per connection waiting that is the fewest calls, and it
 * spreads a burst over the workers. EPOLLEXCLUSIVE does not help here: it does not reach through an
 * epoll descriptor inside libevent's, and the kernel looks again whether the socket is still ready
 * before a worker that was woken in vain leaves epoll_wait (measured: 1 % of accepts find nothing).
 */
#include "net/listener.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/xalloc.h"
#include "net/reason.h"

#define REST_MS      100
#define SHED_MAX     16 /* clients turned away per rest */

struct net_listener {
	struct net_worker *worker;
	int fd;
	int spare; /* given up to turn clients away; -1: could not be had back yet */
	net_accept_cb cb;
	void *owner;
	struct event *event;
	struct net_timer rest;
	bool paused;
	bool resting;
};

static void
spare_take(struct net_listener *l)
{
	if (l->spare < 0)
		l->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void
spare_drop(struct net_listener *l)
{
	if (l->spare >= 0)
		close(l->spare);
	l->spare = -1;
}

/* A closed connection tells a client more than one that hangs in the queue. */
static void
shed_clients(struct net_listener *l)
{
	int fd = -1;

	spare_drop(l);
	for (int i = 0; i < SHED_MAX; i++) {
		fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			break;
		close(fd);
	}
	spare_take(l);
}

static void
rest_begin(struct net_listener *l)
{
	event_del(l->event);
	l->resting = true;
	net_timer_set(&l->rest, REST_MS);
}

static void
rest_end(void *arg)
{
	struct net_listener *l = arg;

	l->resting = false;
	spare_take(l);
	if (!l->paused)
		event_add(l->event, NULL);
}

static void
accept_failed(struct net_listener *l, int errnum)
{
	switch (errnum) {
	case EAGAIN: /* another worker was quicker */
	case EINTR:
	case ECONNABORTED: /* the rest: accept(2), errors of that one client's network */
	case EPROTO:
	case ENOPROTOOPT:
	case EPERM:
	case ENETDOWN:
	case ENETUNREACH:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case ENONET:
	case ETIMEDOUT:
		return;
	case EMFILE:
	case ENFILE:
		shed_clients(l);
		break;
	default:
		break;
	}
	log_repeat(LOG_LEVEL_WARN, NULL, NULL, "accept", "err=%s resting_ms=%d", net_reason(errnum), REST_MS);
	rest_begin(l);
}

static void
got_client(evutil_socket_t listening, short what, void *arg)
{
	struct net_listener *l = arg;
	const int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)what;
	if (fd < 0)
		accept_failed(l, errno);
	else
		l->cb(l->owner, l->worker, fd);
}

struct net_listener *
net_listener_new(struct net_worker *w, int fd, net_accept_cb cb, void *owner)
{
	struct net_listener *l = xcalloc(1, sizeof(*l));

	/* Inherited sockets may come as blocking ones, and then the slower worker would hang. */
	evutil_make_socket_nonblocking(fd);
	l->worker = w;
	l->fd = fd;
	l->cb = cb;
	l->owner = owner;
	l->spare = -1;
	spare_take(l);
	net_timer_init(&l->rest, w, rest_end, l);
	l->event = event_new(net_worker_base(w), fd, EV_READ | EV_PERSIST, got_client, l);
	event_add(l->event, NULL);
	return l;
}

void
net_listener_pause(struct net_listener *l)
{
	l->paused = true;
	event_del(l->event);
}

void
net_listener_resume(struct net_listener *l)
{
	l->paused = false;
	if (!l->resting)
		event_add(l->event, NULL);
}

void
net_listener_free(struct net_listener **l_p)
{
	struct net_listener *l = *l_p;

	*l_p = NULL;
	if (l == NULL)
		return;
	event_free(l->event);
	net_timer_deinit(&l->rest);
	spare_drop(l);
	free(l);
}
