/*
 * base/arena.c - blocks that only grow; the first one stays over a reset.
 */
#include "base/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/xalloc.h"

#define FIRST_SIZE 4096
#define BLOCK_MAX  ((size_t)64 << 10)

struct arena_block {
	struct arena_block *next; /* older */
	size_t size;              /* of data */
	size_t used;
	alignas(max_align_t) char data[];
};

struct arena_deferred {
	struct arena_deferred *next; /* older */
	void (*fn)(void *arg);
	void *arg;
};

struct arena {
	struct arena_block *current; /* the list begins here and ends with the first block */
	size_t next_size;
	struct arena_deferred *deferred;
};

static struct arena_block *
block_new(size_t size)
{
	struct arena_block *b = xmalloc(sizeof(*b) + size);

	b->next = NULL;
	b->size = size;
	b->used = 0;
	return b;
}

static size_t
aligned(size_t size)
{
	return (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
}

struct arena *
arena_new(void)
{
	struct arena *a = xmalloc(sizeof(*a));

	a->current = block_new(FIRST_SIZE - sizeof(struct arena_block));
	a->next_size = FIRST_SIZE * 2;
	a->deferred = NULL;
	return a;
}

void
arena_free(struct arena **a)
{
	if (*a == NULL)
		return;
	arena_reset(*a);
	free((*a)->current);
	free(*a);
	*a = NULL;
}

static void
run_deferred(struct arena *a)
{
	struct arena_deferred *d = a->deferred;

	a->deferred = NULL;
	for (; d != NULL; d = d->next)
		d->fn(d->arg);
}

void
arena_reset(struct arena *a)
{
	struct arena_block *next;

	run_deferred(a);
	while ((next = a->current->next) != NULL) {
		free(a->current);
		a->current = next;
	}
	a->current->used = 0;
	a->next_size = FIRST_SIZE * 2;
}

void
arena_defer(struct arena *a, void (*fn)(void *arg), void *arg)
{
	struct arena_deferred *d = arena_alloc(a, sizeof(*d));

	*d = (struct arena_deferred){.next = a->deferred, .fn = fn, .arg = arg};
	a->deferred = d;
}

/* What is large gets a block of its own, so that the rest of the current one is not wasted. */
static void *
alloc_large(struct arena *a, size_t size)
{
	struct arena_block *current = a->current;
	struct arena_block *large = block_new(size);

	large->used = size;
	if (current->next == NULL) { /* nothing may stand behind the first block */
		large->next = current;
		a->current = large;
	} else {
		large->next = current->next;
		current->next = large;
	}
	return large->data;
}

static void *
alloc_in_new_block(struct arena *a, size_t size)
{
	struct arena_block *b;

	if (size > a->next_size / 4)
		return alloc_large(a, size);
	b = block_new(a->next_size - sizeof(*b));
	if (a->next_size < BLOCK_MAX)
		a->next_size *= 2;
	b->next = a->current;
	b->used = size;
	a->current = b;
	return b->data;
}

void *
arena_alloc(struct arena *a, size_t size)
{
	struct arena_block *b = a->current;
	void *ptr;

	if (size > SIZE_MAX / 2)
		abort();
	size = aligned(size != 0 ? size : 1);
	if (size > b->size - b->used)
		return alloc_in_new_block(a, size);
	ptr = b->data + b->used;
	b->used += size;
	return ptr;
}

void *
arena_zalloc(struct arena *a, size_t size)
{
	return memset(arena_alloc(a, size), 0, size);
}

void *
arena_memdup(struct arena *a, const void *data, size_t len)
{
	void *copy = arena_alloc(a, len);

	if (len != 0)
		memcpy(copy, data, len);
	return copy;
}

char *
arena_strdup(struct arena *a, const char *s)
{
	return arena_memdup(a, s, strlen(s) + 1);
}

char *
arena_strndup(struct arena *a, const char *s, size_t len)
{
	char *copy = arena_alloc(a, len + 1);

	if (len != 0)
		memcpy(copy, s, len);
	copy[len] = '\0';
	return copy;
}

char *
arena_printf(struct arena *a, const char *fmt, ...)
{
	char small[256], *text;
	va_list ap, again;
	int len;

	va_start(ap, fmt);
	va_copy(again, ap);
	len = vsnprintf(small, sizeof(small), fmt, ap);
	if (len < 0)
		abort();
	text = arena_alloc(a, (size_t)len + 1);
	if ((size_t)len < sizeof(small))
		memcpy(text, small, (size_t)len + 1);
	else
		vsnprintf(text, (size_t)len + 1, fmt, again);
	va_end(again);
	va_end(ap);
	return text;
}
