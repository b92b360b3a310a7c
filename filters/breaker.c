/* filters/breaker.c - a count of failures in a row; behind a mutex what there is to know once it is too many. */
#include "filters/breaker.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/xalloc.h"

struct breaker {
	pthread_mutex_t lock; /* taken to change any of these, and to read the last two */
	atomic_int in_a_row;
	atomic_bool is_open;
	bool has_probe;
	uint64_t retry_at;
};

struct breaker *
breaker_new(void)
{
	struct breaker *b = xcalloc(1, sizeof(*b));

	pthread_mutex_init(&b->lock, NULL);
	return b;
}

void
breaker_free(struct breaker **breaker)
{
	struct breaker *b = *breaker;

	*breaker = NULL;
	if (b == NULL)
		return;
	pthread_mutex_destroy(&b->lock);
	free(b);
}

bool
breaker_is_open(const struct breaker *b)
{
	return atomic_load_explicit(&b->is_open, memory_order_relaxed);
}

/* With the lock held. */
static bool
is_shut_off(const struct breaker *b, uint64_t now)
{
	return b->is_open && (b->has_probe || now < b->retry_at);
}

enum breaker_answer
breaker_ask(struct breaker *b, uint64_t now)
{
	enum breaker_answer answer = BREAKER_GO;

	if (!breaker_is_open(b))
		return BREAKER_GO;
	pthread_mutex_lock(&b->lock);
	if (is_shut_off(b, now)) {
		answer = BREAKER_STOP;
	} else if (b->is_open) {
		answer = BREAKER_PROBE;
		b->has_probe = true;
	}
	pthread_mutex_unlock(&b->lock);
	return answer;
}

bool
breaker_stops(struct breaker *b, uint64_t now)
{
	bool stops;

	if (!breaker_is_open(b))
		return false;
	pthread_mutex_lock(&b->lock);
	stops = is_shut_off(b, now);
	pthread_mutex_unlock(&b->lock);
	return stops;
}

/* ---- with the lock held ---- */

static enum breaker_change
close_it(struct breaker *b)
{
	b->is_open = false;
	b->has_probe = false;
	b->in_a_row = 0;
	return BREAKER_CLOSED;
}

static void
open_it(struct breaker *b, const struct breaker_conf *conf, uint64_t now)
{
	b->is_open = true;
	b->has_probe = false;
	b->retry_at = now + (uint64_t)conf->retry_after_ms;
}

static enum breaker_change
probe_ended(struct breaker *b, const struct breaker_conf *conf, enum breaker_end how, uint64_t now)
{
	if (how == BREAKER_WELL)
		return close_it(b);
	if (how == BREAKER_BADLY)
		open_it(b, conf, now);
	b->has_probe = false;
	return BREAKER_SAME;
}

static enum breaker_change
other_ended(struct breaker *b, const struct breaker_conf *conf, enum breaker_end how, uint64_t now)
{
	if (b->is_open)
		return BREAKER_SAME;
	if (how == BREAKER_WELL)
		b->in_a_row = 0;
	else if (conf->failures > 0 && ++b->in_a_row >= conf->failures)
		open_it(b, conf, now);
	return b->is_open ? BREAKER_OPENED : BREAKER_SAME;
}

enum breaker_change
breaker_ended(struct breaker *b, const struct breaker_conf *conf, enum breaker_end how, bool is_probe, uint64_t now)
{
	enum breaker_change change;

	if (!is_probe && how == BREAKER_UNKNOWN)
		return BREAKER_SAME;
	if (!is_probe && how == BREAKER_WELL && atomic_load_explicit(&b->in_a_row, memory_order_relaxed) == 0)
		return BREAKER_SAME;
	pthread_mutex_lock(&b->lock);
	/* Of a probe that began before the breaker was reset: one like all others. */
	if (is_probe && b->is_open)
		change = probe_ended(b, conf, how, now);
	else if (how != BREAKER_UNKNOWN)
		change = other_ended(b, conf, how, now);
	else
		change = BREAKER_SAME;
	pthread_mutex_unlock(&b->lock);
	return change;
}

bool
breaker_reset(struct breaker *b)
{
	bool was_open;

	pthread_mutex_lock(&b->lock);
	was_open = b->is_open;
	close_it(b);
	pthread_mutex_unlock(&b->lock);
	return was_open;
}
