/* base/count.c - counters and histograms: buckets, memory. */
#include "base/count.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* From what a mail takes on one machine to what a session may last. */
const unsigned count_bounds_ms[COUNT_BOUNDS] = { 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000,
	60000, 300000, 1800000 };

void
count_time(struct count_times *t, uint64_t ms)
{
	size_t i = 0;

	while (i < COUNT_BOUNDS && ms > count_bounds_ms[i])
		i++;
	count_add(&t->buckets[i], 1);
	count_add(&t->sum_ms, ms);
}

void *
count_parts(int workers, size_t size)
{
	size_t len = (size_t)workers * size;
	void *parts;

	assert(size % COUNT_APART == 0);
	parts = aligned_alloc(COUNT_APART, len);
	if (parts == NULL)
		abort(); /* as xalloc.c does; at the start, or at a reload */
	return memset(parts, 0, len);
}
