/*
 * base/log_repeat.c - a fault that comes with every message is one line a minute, with a count.
 */
#include "base/log_repeat.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

/* One fault. What is counted and not yet told is in head, pairs and count. */
struct row {
	char event[32]; /* "": free */
	char which[64];
	enum log_level level;
	char who[16];
	uint64_t told_ms;
	unsigned long count;
	struct log_head head;
	struct log_pairs pairs;
};

static struct row rows[LOG_REPEAT_ROWS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic uint64_t next_ms; /* when a row is due; 0: none */

static void
row_tell(struct row *row, uint64_t now, log_repeat_put *put)
{
	put(&row->head, &row->pairs, row->count);
	row->count = 0;
	row->told_ms = now;
}

static bool
is_row(const struct row *row, enum log_level level, const char *event, const char *which)
{
	return row->level == level && strcmp(row->event, event) == 0 && strcmp(row->which, which) == 0;
}

/* The row of this fault, else a free one, else the one that was told of longest ago. */
static struct row *
find_row(enum log_level level, const char *event, const char *which)
{
	struct row *best = &rows[0];

	for (struct row *row = rows; row < rows + LOG_REPEAT_ROWS; row++) {
		if (is_row(row, level, event, which))
			return row;
		if (best->event[0] != '\0' && (row->event[0] == '\0' || row->told_ms < best->told_ms))
			best = row;
	}
	return best;
}

static void
row_count(struct row *row, const struct log_head *head, const struct log_pairs *pairs)
{
	row->count++;
	row->head = *head;
	row->head.event = row->event;
	snprintf(row->who, sizeof(row->who), "%s", head->who);
	row->head.who = row->who;
	log_pairs_copy(&row->pairs, pairs);
}

/* Tells what is due, forgets faults that are over, and notes when to look again. */
static void
look(uint64_t now, log_repeat_put *put)
{
	uint64_t next = 0, due;

	for (struct row *row = rows; row < rows + LOG_REPEAT_ROWS; row++) {
		if (row->event[0] == '\0')
			continue;
		if (now - row->told_ms >= LOG_REPEAT_MS) {
			if (row->count > 0)
				row_tell(row, now, put);
			else
				row->event[0] = '\0';
		}
		due = row->told_ms + LOG_REPEAT_MS;
		if (row->event[0] != '\0' && (next == 0 || due < next))
			next = due;
	}
	atomic_store_explicit(&next_ms, next, memory_order_relaxed);
}

/* What the parent has counted it tells itself. */
static void
forget(void)
{
	for (struct row *row = rows; row < rows + LOG_REPEAT_ROWS; row++)
		row->event[0] = '\0';
	atomic_store(&next_ms, 0);
}

static void
set_up(void)
{
	pthread_atfork(NULL, NULL, forget);
}

void
log_repeat_note(const struct log_head *head, const char *which, struct log_pairs *pairs, log_repeat_put *put)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	const uint64_t now = clock_ms();
	struct log_head first = *head;
	char name[sizeof(rows->which)];
	struct row *row;

	snprintf(name, sizeof(name), "%s", which != NULL ? which : "");
	which = name;
	pthread_once(&once, set_up);
	pthread_mutex_lock(&lock);
	look(now, put);
	row = find_row(head->level, head->event, which);
	if (is_row(row, head->level, head->event, which)) {
		row_count(row, head, pairs);
	} else {
		if (row->event[0] != '\0' && row->count > 0)
			row_tell(row, now, put);
		snprintf(row->event, sizeof(row->event), "%s", head->event);
		snprintf(row->which, sizeof(row->which), "%s", which);
		row->level = head->level;
		row->told_ms = now;
		row->count = 0;
		put(&first, pairs, 0);
		look(now, put);
	}
	pthread_mutex_unlock(&lock);
}

void
log_repeat_due(log_repeat_put *put)
{
	const uint64_t next = atomic_load_explicit(&next_ms, memory_order_relaxed);
	uint64_t now;

	if (next == 0 || (now = clock_ms()) < next)
		return;
	pthread_mutex_lock(&lock);
	look(now, put);
	pthread_mutex_unlock(&lock);
}

void
log_repeat_all(log_repeat_put *put)
{
	pthread_mutex_lock(&lock);
	for (struct row *row = rows; row < rows + LOG_REPEAT_ROWS; row++)
		if (row->event[0] != '\0' && row->count > 0)
			row_tell(row, clock_ms(), put);
	pthread_mutex_unlock(&lock);
}
