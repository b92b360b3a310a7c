/*
 * net/timer.c - one-shot timers that are cheap to move: the event stays where it is, and looks
 * at the due time when it fires.
 */
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdlib.h>
#include <sys/time.h>

#include "base/xalloc.h"
#include "net/worker.h"

static void
arm(struct net_timer *t, uint64_t now)
{
	const uint64_t ms = t->due > now ? t->due - now : 0;
	const struct timeval tv = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000)};

	event_add(t->event, &tv);
	t->armed = t->due;
}

/* fn may free what the timer lives in. */
static void
fired(evutil_socket_t fd, short what, void *arg)
{
	struct net_timer *t = arg;
	const uint64_t now = net_worker_now(t->worker);

	(void)fd;
	(void)what;
	t->armed = 0;
	if (t->due == 0)
		return;
	if (t->due > now) {
		arm(t, now);
		return;
	}
	t->due = 0;
	t->fn(t->arg);
}

void
net_timer_init(struct net_timer *t, struct net_worker *w, void (*fn)(void *arg), void *arg)
{
	*t = (struct net_timer){.worker = w, .fn = fn, .arg = arg};
}

void
net_timer_set(struct net_timer *t, int64_t ms)
{
	const uint64_t now = net_worker_now(t->worker);

	t->due = now + (ms > 0 ? (uint64_t)ms : 0);
	if (t->armed != 0 && t->armed <= t->due)
		return;
	if (t->event == NULL) {
		t->event = xcalloc(1, sizeof(struct event));
		event_assign(t->event, net_worker_base(t->worker), -1, 0, fired, t);
	}
	arm(t, now);
}

void
net_timer_clear(struct net_timer *t)
{
	t->due = 0;
}

void
net_timer_deinit(struct net_timer *t)
{
	if (t->event != NULL)
		event_del(t->event);
	free(t->event);
	t->event = NULL;
	t->due = 0;
	t->armed = 0;
}
