/*
 * base/hash.c - open addressing, at most half full; the seed differs from run to run.
 */
#include "base/hash.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/xalloc.h"

#define SIZE_MIN 16

struct hash_slot {
	const char *key;
	size_t len;
	void *value; /* NULL: free */
};

struct hash {
	struct hash_slot *slots;
	size_t size; /* a power of 2 */
	size_t count;
	uint64_t seed;
};

struct hash *
hash_new(void)
{
	struct hash *h = xcalloc(1, sizeof(*h));

	h->size = SIZE_MIN;
	h->slots = xcalloc(h->size, sizeof(*h->slots));
	if (getrandom(&h->seed, sizeof(h->seed), GRND_NONBLOCK) != sizeof(h->seed))
		h->seed = (uintptr_t)h;
	return h;
}

void
hash_free(struct hash **h)
{
	if (*h == NULL)
		return;
	free((*h)->slots);
	free(*h);
	*h = NULL;
}

/* FNV-1a, then mixed, since only the low bits choose the slot. */
static uint64_t
hash_of(const struct hash *h, const char *key, size_t len)
{
	uint64_t x = 0xcbf29ce484222325ULL ^ h->seed;
	size_t i;

	for (i = 0; i < len; i++)
		x = (x ^ (unsigned char)key[i]) * 0x100000001b3ULL;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ULL;
	return x ^ x >> 32;
}

/* The slot that holds the key, or the free one where it would go. */
static struct hash_slot *
slot_of(const struct hash *h, const char *key, size_t len)
{
	size_t i = (size_t)hash_of(h, key, len) & (h->size - 1);

	while (h->slots[i].value != NULL) {
		const struct hash_slot *slot = &h->slots[i];

		if (slot->len == len && (len == 0 || memcmp(slot->key, key, len) == 0))
			break;
		i = (i + 1) & (h->size - 1);
	}
	return &h->slots[i];
}

static void
grow(struct hash *h)
{
	struct hash_slot *old = h->slots;
	size_t i, old_size = h->size;

	h->size *= 2;
	h->slots = xcalloc(h->size, sizeof(*h->slots));
	for (i = 0; i < old_size; i++) {
		if (old[i].value != NULL)
			*slot_of(h, old[i].key, old[i].len) = old[i];
	}
	free(old);
}

void *
hash_put(struct hash *h, const char *key, size_t len, void *value)
{
	struct hash_slot *slot = slot_of(h, key, len);
	void *old = slot->value;

	if (old == NULL && ++h->count > h->size / 2) {
		grow(h);
		slot = slot_of(h, key, len);
	}
	*slot = (struct hash_slot){key, len, value};
	return old;
}

void *
hash_get(const struct hash *h, const char *key, size_t len)
{
	return slot_of(h, key, len)->value;
}

void
hash_each(const struct hash *h, void (*fn)(void *value))
{
	size_t i;

	for (i = 0; i < h->size; i++) {
		if (h->slots[i].value != NULL)
			fn(h->slots[i].value);
	}
}

size_t
hash_count(const struct hash *h)
{
	return h->count;
}
