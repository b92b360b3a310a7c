/*
 * filters/rate_table.h - how often something was counted within the last so many seconds, for all workers.
 *
 * Counts belong to the name of a filter and to what it counts, and outlive configurations, as those of metrics do. A
 * limit holds over a sliding window that is reckoned from two fixed ones: what was counted in the present one, and of
 * the one before the share that still lies in the window, as if it had been spread evenly.
 *
 * Memory is bounded: RATE_KEYS per filter. Where there is no place for a new key, the one of least weight among eight
 * has to go, and loses its count. So many keys that were seen once do not push out one that is near its limit; and as
 * the places are found by a keyed hash, nobody can choose them.
 */
#ifndef FILTERS_RATE_TABLE_H
#define FILTERS_RATE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RATE_KEYS 65536

/* What is counted. Those of the same name with another one of these begin anew. */
struct rate_what {
	int by, count; /* as the filter has them */
	int ipv4_prefix, ipv6_prefix;
	int64_t per_ms; /* the window, at least a second */
};

/* Any thread. Counts one more of the key and returns true; or false when that would be more than the limit: then
 * nothing is counted, so that whoever tries again too early does not stay out for good. now: clock_ms(). */
bool rate_take(const char *filter, const struct rate_what *what, unsigned limit, const void *key, size_t len, uint64_t now);

#endif
