/*
 * base/clock.c - the system's clocks plus what a test has turned them by.
 */
#include "base/clock.h"

#include <stdatomic.h>

static atomic_llong turned_us;
static atomic_llong pretended; /* seconds */

static int64_t
read_us(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000 +
	       atomic_load_explicit(&turned_us, memory_order_relaxed);
}

uint64_t
clock_ms(void)
{
	return clock_us() / 1000;
}

uint64_t
clock_us(void)
{
	return (uint64_t)read_us(CLOCK_MONOTONIC);
}

time_t
clock_wall(void)
{
	return (time_t)(read_us(CLOCK_REALTIME) / 1000000);
}

int64_t
clock_wall_ms(void)
{
	return read_us(CLOCK_REALTIME) / 1000;
}

time_t
clock_calendar(void)
{
	return clock_wall() + (time_t)atomic_load_explicit(&pretended, memory_order_relaxed);
}

void
clock_pretend(time_t then)
{
	atomic_store(&pretended, (long long)(then - clock_wall()));
}

void
clock_turn_ms(int64_t ms)
{
	atomic_fetch_add(&turned_us, ms * 1000);
}
