/*
 * filters/breaker.h - failures and retry_after: a filter that fails time after time is not asked for a while.
 *
 * Closed: every run begins. After so many failures in a row it is open: nobody begins, on_failure answers at once.
 * When retry_after is over one run begins as a probe, and nobody else until that has ended: well, and the breaker is
 * closed; badly, and it stays open for another retry_after. A probe that was given up says nothing, and the next run is
 * the probe. What others, begun before it opened, have to say then no longer counts.
 *
 * A breaker belongs to the filter's name and outlives configurations (filters/registry.h). Any thread; while nothing
 * fails no lock is taken.
 */
#ifndef FILTERS_BREAKER_H
#define FILTERS_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

struct breaker;

enum breaker_answer {
	BREAKER_GO,
	BREAKER_PROBE, /* go; and say how it ended, with is_probe */
	BREAKER_STOP,  /* do not begin */
};

enum breaker_end {
	BREAKER_WELL,	/* there was an answer, whatever it was */
	BREAKER_BADLY,	/* there was none, or none of use */
	BREAKER_UNKNOWN, /* it was given up */
};

/* What a run's end has changed, for the log. */
enum breaker_change { BREAKER_SAME, BREAKER_OPENED, BREAKER_CLOSED };

struct breaker_conf {
	int failures; /* in a row; 0: never open */
	int64_t retry_after_ms;
};

struct breaker *breaker_new(void);
void breaker_free(struct breaker **breaker);

/* now: clock_ms, in all of these. */
enum breaker_answer breaker_ask(struct breaker *b, uint64_t now);
enum breaker_change breaker_ended(struct breaker *b, const struct breaker_conf *conf, enum breaker_end how, bool is_probe,
	uint64_t now);
/* Would a run that begins now be stopped? Nothing is asked for. */
bool breaker_stops(struct breaker *b, uint64_t now);
/* Open, also while a probe is due or under way. */
bool breaker_is_open(const struct breaker *b);
/* Closed from now on, for a configuration without one. Returns whether it was open. */
bool breaker_reset(struct breaker *b);

#endif
