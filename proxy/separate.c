/*
 * proxy/separate.c - a small table with expiry; a lost entry costs one more round.
 */
#include "proxy/separate.h"

#include <pthread.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/list.h"

/* Entries; a new one takes the place of whatever has its slot. */
#define SLOTS 4096
/* So many times as long, and no sender is separated without another reason. */
#define RENEWALS 12

struct entry {
	uint64_t hash;
	uint64_t until; /* clock_ms */
	uint64_t latest; /* that `until` may become */
	uint64_t ms;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct entry entries[SLOTS];
static unsigned live; /* atomic: while nothing was ever noted, nobody takes the lock */

/* FNV-1a over both, case folded: a false match only separates recipients that need not be. */
static uint64_t
hash(const char *listener, const char *sender)
{
	uint64_t h = 14695981039346656037ULL;
	const char *parts[] = { listener, sender };

	for (size_t i = 0; i < ARRAY_COUNT(parts); i++)
		for (const char *p = parts[i];; p++) {
			unsigned char c = (unsigned char)*p;

			h = (h ^ (c >= 'A' && c <= 'Z' ? c + 32u : c)) * 1099511628211ULL;
			if (c == '\0')
				break;
		}
	return h;
}

void
separate_note(const char *listener, const char *sender, int64_t ms)
{
	uint64_t h = hash(listener, sender), now = clock_ms();

	if (ms <= 0)
		return;
	pthread_mutex_lock(&lock);
	entries[h % SLOTS] = (struct entry){ h, now + (uint64_t)ms, now + RENEWALS * (uint64_t)ms, (uint64_t)ms };
	pthread_mutex_unlock(&lock);
	__atomic_store_n(&live, 1, __ATOMIC_RELEASE);
}

/* A message that has just come alone is to do so the next time, however long the front's pauses have become. */
static void
renew(struct entry *e, uint64_t now)
{
	e->until = now + e->ms < e->latest ? now + e->ms : e->latest;
}

bool
separate_is_on(const char *listener, const char *sender)
{
	uint64_t h, now;
	struct entry *e;
	bool on;

	if (__atomic_load_n(&live, __ATOMIC_ACQUIRE) == 0)
		return false;
	h = hash(listener, sender);
	now = clock_ms();
	e = &entries[h % SLOTS];
	pthread_mutex_lock(&lock);
	on = e->hash == h && e->until > now;
	if (on)
		renew(e, now);
	pthread_mutex_unlock(&lock);
	return on;
}
