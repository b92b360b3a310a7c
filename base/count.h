/*
 * base/count.h - counters and histograms that one thread writes and any thread may read, without a lock.
 *
 * Whoever counts has a struct of them per worker, and only its own worker writes to it: so adding is a plain
 * load and store. Who asks sums up the parts of all workers (proxy/metrics.h).
 */
#ifndef BASE_COUNT_H
#define BASE_COUNT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct count {
	_Atomic uint64_t n;
};

static inline uint64_t
count_get(const struct count *c)
{
	return atomic_load_explicit(&c->n, memory_order_relaxed);
}

static inline void
count_add(struct count *c, uint64_t n)
{
	atomic_store_explicit(&c->n, count_get(c) + n, memory_order_relaxed);
}

/* For what goes up and down again on the same thread. */
static inline void
count_sub(struct count *c, uint64_t n)
{
	atomic_store_explicit(&c->n, count_get(c) - n, memory_order_relaxed);
}

/* How long things took: each time is counted in the first bucket that holds it; the last one has no bound. */
#define COUNT_BOUNDS 16
extern const unsigned count_bounds_ms[COUNT_BOUNDS];

struct count_times {
	struct count buckets[COUNT_BOUNDS + 1];
	struct count sum_ms;
};
void count_time(struct count_times *t, uint64_t ms);

/* One zeroed struct for each worker. Their size must be a multiple of COUNT_APART, so that no two workers write
 * to the same cache line; free() takes it. */
#define COUNT_APART 64
#define COUNT_ALIGNED __attribute__((aligned(COUNT_APART)))
void *count_parts(int workers, size_t size);

#endif
