/*
 * base/clock.h - monotonic and wall-clock time; tests may turn its hands.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Monotonic; for deadlines and durations. */
uint64_t clock_ms(void);
uint64_t clock_us(void);
/* Seconds since the epoch; for headers and log lines. */
time_t clock_wall(void);
/* The same in milliseconds. */
int64_t clock_wall_ms(void);
/* Seconds since the epoch as conditions see them: the wall clock's, but for `postern -1 --time`. */
time_t clock_calendar(void);
/* From now on it is then, and goes on from there. */
void clock_pretend(time_t then);
/* Tests: adds to all clocks from now on. */
void clock_turn_ms(int64_t ms);

#endif
