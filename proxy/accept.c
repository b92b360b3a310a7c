/*
 * proxy/accept.c - a worker's net_listeners over the generations of the configuration.
 */
#include "proxy/accept.h"

#include <stdlib.h>
#include <string.h>

#include "base/xalloc.h"
#include "net/listener.h"
#include "proxy/session.h"

struct accept_point {
	struct engine_worker *ew;
	struct net_listener *net;
	int fd;
	const struct listener *listener; /* in ew->snapshot */
	bool is_wanted;
	TAILQ_ENTRY(accept_point) next;
};

static void
accepted(void *owner, struct net_worker *w, int fd)
{
	struct accept_point *p = owner;

	(void)w;
	session_start(p->ew, p->ew->snapshot, p->listener, fd);
}

static struct accept_point *
point_at(struct engine_worker *ew, int fd)
{
	struct accept_point *p;

	TAILQ_FOREACH(p, &ew->accepting, next)
		if (p->fd == fd)
			return p;
	p = xcalloc(1, sizeof(*p));
	p->ew = ew;
	p->fd = fd;
	p->net = net_listener_new(ew->net, fd, accepted, p);
	TAILQ_INSERT_TAIL(&ew->accepting, p, next);
	return p;
}

static void
leave(struct accept_point *p)
{
	TAILQ_REMOVE(&p->ew->accepting, p, next);
	net_listener_free(&p->net);
	free(p);
}

struct renewal {
	struct engine_worker *ew;
	const struct sockets *sockets;
};

static int
want(const struct socket_want *w, void *arg)
{
	struct renewal *r = arg;
	int fd;

	if (w->listener == NULL)
		return 0;
	for (int n = 0; (fd = sockets_find(r->sockets, w->key, n)) >= 0; n++) {
		struct accept_point *p = point_at(r->ew, fd);

		p->listener = w->listener;
		p->is_wanted = true;
	}
	return 0;
}

void
accept_renew(struct engine_worker *ew, const struct sockets *sockets)
{
	struct renewal r = { ew, sockets };
	struct accept_point *p, *next;

	TAILQ_FOREACH(p, &ew->accepting, next)
		p->is_wanted = false;
	sockets_each_want(ew->snapshot->settings, want, &r);
	TAILQ_FOREACH_SAFE(p, &ew->accepting, next, next)
		if (!p->is_wanted)
			leave(p);
}

void
accept_stop(struct engine_worker *ew)
{
	while (!TAILQ_EMPTY(&ew->accepting))
		leave(TAILQ_FIRST(&ew->accepting));
}
