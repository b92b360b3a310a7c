/*
 * base/hash.h - a table from strings to pointers, for look-ups by octets.
 *
 * Keys are borrowed and must outlive the table. Once filled, any number of threads may look up.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>

struct hash;

struct hash *hash_new(void);
void hash_free(struct hash **h);
/* Returns the value that stood there before, or NULL. value must not be NULL. */
void *hash_put(struct hash *h, const char *key, size_t len, void *value);
/* NULL when there is none. */
void *hash_get(const struct hash *h, const char *key, size_t len);
/* Calls fn with every value, in no order; fn must not use the table. */
void hash_each(const struct hash *h, void (*fn)(void *value));
size_t hash_count(const struct hash *h);

#endif
