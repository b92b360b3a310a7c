/* filters/rate_table.c - counts by a keyed hash of the key, in sets of eight. */
#include "filters/rate_table.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/xalloc.h"

#define WAYS 8
#define SETS (RATE_KEYS / WAYS)

struct entry {
	uint64_t hash;
	uint32_t window; /* number of the window that `now` counts in */
	uint32_t before, now;
};

struct table {
	LIST_ENTRY(table) next;
	struct rate_what what;
	uint64_t used; /* clock_ms */
	struct entry *entries; /* zeroed: nobody */
	char name[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards all below */
static LIST_HEAD(, table) tables = LIST_HEAD_INITIALIZER(tables);
static uint64_t secret[2];
static bool has_secret;

/* ---- SipHash-2-4: nobody can find two keys of the same place without the secret ---- */

static uint64_t
rotate(uint64_t x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static void
sip_rounds(uint64_t v[4], int rounds)
{
	while (rounds-- > 0) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotate(v[1], 13) ^ v[0];
		v[3] = rotate(v[3], 16) ^ v[2];
		v[0] = rotate(v[0], 32) + v[3];
		v[2] += v[1];
		v[1] = rotate(v[1], 17) ^ v[2];
		v[3] = rotate(v[3], 21) ^ v[0];
		v[2] = rotate(v[2], 32);
	}
}

static uint64_t
word_at(const unsigned char *p, size_t len)
{
	uint64_t word = 0;

	for (size_t i = 0; i < len && i < 8; i++)
		word |= (uint64_t)p[i] << 8 * i;
	return word;
}

static uint64_t
sip_hash(const uint64_t k[2], const void *key, size_t len)
{
	uint64_t v[4] = {k[0] ^ 0x736f6d6570736575, k[1] ^ 0x646f72616e646f6d, k[0] ^ 0x6c7967656e657261,
		k[1] ^ 0x7465646279746573};
	const unsigned char *p = key;

	for (size_t left = len;; p += 8, left -= 8) {
		uint64_t word = left >= 8 ? word_at(p, 8) : word_at(p, left) | (uint64_t)len << 56;

		v[3] ^= word;
		sip_rounds(v, 2);
		v[0] ^= word;
		if (left < 8)
			break;
	}
	v[2] ^= 0xff;
	sip_rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* Locked. 0 is nobody's. */
static uint64_t
hash_of(const void *key, size_t len)
{
	uint64_t hash;

	if (!has_secret && getrandom(secret, sizeof(secret), GRND_NONBLOCK) != (ssize_t)sizeof(secret)) {
		secret[0] = clock_us();
		secret[1] = (uintptr_t)&hash;
	}
	has_secret = true;
	hash = sip_hash(secret, key, len);
	return hash != 0 ? hash : 1;
}

/* ---- one table ---- */

/* Moves the entry to the window of `now`. */
static void
entry_turn(struct entry *e, uint32_t window)
{
	if (e->window == window)
		return;
	e->before = e->window + 1 == window ? e->now : 0;
	e->now = 0;
	e->window = window;
}

/* How many lie in the window that ends now; a part of one counts as a whole. */
static uint64_t
entry_weight(struct entry *e, int64_t per, uint64_t now)
{
	uint64_t left = (uint64_t)per - now % (uint64_t)per;

	entry_turn(e, (uint32_t)(now / (uint64_t)per));
	return e->now + (e->before * left + (uint64_t)per - 1) / (uint64_t)per;
}

/* The key's own, or the one that it may have instead of another key. */
static struct entry *
find_entry(struct table *t, uint64_t hash, uint64_t now)
{
	struct entry *set = &t->entries[hash % SETS * WAYS], *least = NULL;
	uint64_t weight, lowest = 0;

	for (int i = 0; i < WAYS; i++) {
		if (set[i].hash == hash)
			return &set[i];
		weight = set[i].hash == 0 ? 0 : entry_weight(&set[i], t->what.per_ms, now);
		if (least == NULL || weight < lowest) {
			least = &set[i];
			lowest = weight;
		}
	}
	*least = (struct entry){.hash = hash};
	return least;
}

/* Threads bring the times of before they waited for the lock, in any order; it never goes back here. */
static bool
table_take(struct table *t, unsigned limit, const void *key, size_t len, uint64_t now)
{
	struct entry *e;

	now = now > t->used ? now : t->used;
	t->used = now;
	e = find_entry(t, hash_of(key, len), now);
	if (entry_weight(e, t->what.per_ms, now) >= limit)
		return false;
	e->now++;
	return true;
}

/* ---- all of them ---- */

/* Nothing in it counts any more: no configuration asks it, or nobody came. */
static void
drop_unused(uint64_t now)
{
	struct table *t, *next;

	LIST_FOREACH_SAFE(t, &tables, next, next)
		if (now > t->used && now - t->used > 2 * (uint64_t)t->what.per_ms) {
			LIST_REMOVE(t, next);
			free(t->entries);
			free(t);
		}
}

/* Pages that are not touched cost nothing. */
static struct table *
table_new(const char *name, const struct rate_what *what, uint64_t now)
{
	struct table *t = xcalloc(1, sizeof(*t) + strlen(name) + 1);

	drop_unused(now);
	strcpy(t->name, name);
	t->what = *what;
	t->entries = xcalloc(RATE_KEYS, sizeof(t->entries[0]));
	LIST_INSERT_HEAD(&tables, t, next);
	return t;
}

static struct table *
find_table(const char *name, const struct rate_what *what, uint64_t now)
{
	struct table *t;

	LIST_FOREACH(t, &tables, next)
		if (strcmp(t->name, name) == 0 && memcmp(&t->what, what, sizeof(*what)) == 0)
			return t;
	return table_new(name, what, now);
}

bool
rate_take(const char *filter, const struct rate_what *what, unsigned limit, const void *key, size_t len, uint64_t now)
{
	bool taken;

	pthread_mutex_lock(&lock);
	taken = table_take(find_table(filter, what, now), limit, key, len, now);
	pthread_mutex_unlock(&lock);
	return taken;
}
