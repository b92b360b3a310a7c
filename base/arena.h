/*
 * base/arena.h - memory of one transaction (or one configuration), freed at once.
 *
 * Nothing taken from an arena is freed alone. An arena is used by one thread at a time.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

struct arena;

struct arena *arena_new(void);
void arena_free(struct arena **a);
/* Forgets all contents; keeps one small block, so that the next transaction needs no malloc. */
void arena_reset(struct arena *a);

/* Once everything in the arena is about to go (reset or free): fn(arg), the latest first. For what holds more than
 * memory. fn takes nothing from the arena. */
void arena_defer(struct arena *a, void (*fn)(void *arg), void *arg);

/* Aligned for any type. Never NULL. */
void *arena_alloc(struct arena *a, size_t size);
void *arena_zalloc(struct arena *a, size_t size);
void *arena_memdup(struct arena *a, const void *data, size_t len);
char *arena_strdup(struct arena *a, const char *s);
/* Copies len bytes and adds a NUL. */
char *arena_strndup(struct arena *a, const char *s, size_t len);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
