/*
 * net/watch.c - a call when a descriptor can be read.
 */
#include "net/watch.h"

#include <event2/event.h>
#include <stdlib.h>

#include "base/xalloc.h"

struct net_watch {
	struct event *event;
	void (*ready)(void *owner);
	void *owner;
};

static void
on_event(evutil_socket_t fd, short what, void *arg)
{
	struct net_watch *watch = arg;

	(void)fd;
	(void)what;
	watch->ready(watch->owner);
}

struct net_watch *
net_watch_new(struct net_worker *w, int fd, void (*ready)(void *owner), void *owner)
{
	struct net_watch *watch = xcalloc(1, sizeof(*watch));

	watch->ready = ready;
	watch->owner = owner;
	watch->event = event_new(net_worker_base(w), fd, EV_READ | EV_PERSIST, on_event, watch);
	event_add(watch->event, NULL);
	return watch;
}

void
net_watch_free(struct net_watch **watch)
{
	if (*watch == NULL)
		return;
	event_free((*watch)->event);
	free(*watch);
	*watch = NULL;
}
