/*
 * filters/slots.c - a count, a limit and a queue behind one small mutex.
 *
 * A wait has memory of its own: who waits may be gone when the word that he has a slot arrives at his worker. Its
 * owner is touched by that worker alone; where it stands, by whoever holds the lock.
 */
#include "filters/slots.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/list.h"
#include "base/xalloc.h"

struct slot_wait {
	struct slots *slots;
	struct net_worker *worker;
	void (*got)(void *owner); /* the worker's own, as is the next one; NULL: cancelled */
	void *owner;
	bool is_queued; /* else it has a slot, and word of it is on its way */
	TAILQ_ENTRY(slot_wait) next;
};

struct slots {
	pthread_mutex_t lock; /* guards all below */
	atomic_int max;	      /* read without it */
	int used;
	int waiting;
	TAILQ_HEAD(, slot_wait) queue;
};

struct slots *
slots_new(void)
{
	struct slots *s = xcalloc(1, sizeof(*s));

	pthread_mutex_init(&s->lock, NULL);
	TAILQ_INIT(&s->queue);
	return s;
}

void
slots_free(struct slots **slots)
{
	struct slots *s = *slots;

	*slots = NULL;
	if (s == NULL)
		return;
	assert(TAILQ_EMPTY(&s->queue));
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* With the lock held. */
static void
dequeue(struct slots *s, struct slot_wait *wait)
{
	wait->is_queued = false;
	TAILQ_REMOVE(&s->queue, wait, next);
	s->waiting--;
}

static bool
has_room(const struct slots *s)
{
	return s->max == 0 || s->used < s->max;
}

static void
arrived(void *arg)
{
	struct slot_wait *wait = arg;
	void (*got)(void *owner) = wait->got;
	void *owner = wait->owner;

	free(wait);
	if (got != NULL)
		got(owner);
}

/* With the lock held, which keeps the order: who is first in the queue hears first. */
static void
serve(struct slots *s)
{
	struct slot_wait *wait;

	while (has_room(s) && (wait = TAILQ_FIRST(&s->queue)) != NULL) {
		dequeue(s, wait);
		s->used++;
		net_post(wait->worker, arrived, wait);
	}
}

void
slots_set_max(struct slots *s, int max)
{
	pthread_mutex_lock(&s->lock);
	s->max = max;
	serve(s);
	pthread_mutex_unlock(&s->lock);
}

int
slots_max(const struct slots *s)
{
	return atomic_load_explicit(&s->max, memory_order_relaxed);
}

int
slots_waiting(struct slots *s)
{
	int n;

	pthread_mutex_lock(&s->lock);
	n = s->waiting;
	pthread_mutex_unlock(&s->lock);
	return n;
}

enum slot_answer
slots_take(struct slots *s, struct net_worker *w, void (*got)(void *owner), void *owner, struct slot_wait **wait_r)
{
	struct slot_wait *wait;
	bool is_mine;

	if (slots_max(s) == 0)
		return SLOT_FREE;
	pthread_mutex_lock(&s->lock);
	is_mine = has_room(s); /* then nobody waits: who gives room serves the queue */
	if (is_mine) {
		s->used++;
	} else {
		wait = xcalloc(1, sizeof(*wait));
		*wait = (struct slot_wait){.slots = s, .worker = w, .got = got, .owner = owner, .is_queued = true};
		TAILQ_INSERT_TAIL(&s->queue, wait, next);
		s->waiting++;
		*wait_r = wait;
	}
	pthread_mutex_unlock(&s->lock);
	return is_mine ? SLOT_TAKEN : SLOT_WAIT;
}

void
slots_give(struct slots *s)
{
	pthread_mutex_lock(&s->lock);
	assert(s->used > 0);
	s->used--;
	serve(s);
	pthread_mutex_unlock(&s->lock);
}

void
slots_cancel(struct slot_wait **wait_p)
{
	struct slot_wait *wait = *wait_p;
	struct slots *s;
	bool was_queued;

	*wait_p = NULL;
	if (wait == NULL)
		return;
	s = wait->slots;
	wait->got = NULL;
	pthread_mutex_lock(&s->lock);
	was_queued = wait->is_queued;
	if (was_queued)
		dequeue(s, wait);
	pthread_mutex_unlock(&s->lock);
	if (was_queued)
		free(wait);
	else
		slots_give(s); /* arrived() frees it */
}
