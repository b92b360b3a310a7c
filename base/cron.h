/*
 * base/cron.h - moments as in crontab(5): does one contain this time? Pure, but for the machine's
 * time zone, and its files of those with a name.
 *
 * "MINUTE HOUR DAY MONTH WEEKDAY", as Vixie has them, with SECOND in front when there are six, and
 * behind them a zone: "UTC", "+0130" or "Europe/Berlin"; without one the machine's own, whose clock is asked: an
 * hour that is left out in spring never comes, one that comes twice in autumn counts twice.
 * "@always" and "@never" are what they say. Where a second or minute is meant, all of it matches.
 */
#ifndef BASE_CRON_H
#define BASE_CRON_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/arena.h"
#include "base/err.h"

enum cron_field { CRON_SECOND, CRON_MINUTE, CRON_HOUR, CRON_DAY, CRON_MONTH, CRON_WEEKDAY, CRON_FIELDS };

struct cron {
	uint64_t set[CRON_FIELDS]; /* bits of the values that match */
	bool is_star[CRON_FIELDS]; /* began with a star; day and weekday are ORed when neither did */
	bool has_zone;
	int zone_s; /* seconds east of UTC */
	const struct zone *zone; /* base/zone.h: its own say; NULL: zone_s */
};

/* What it refers to lives in the arena. */
int cron_parse(const char *text, struct arena *arena, struct cron *cron_r, struct err *err);
bool cron_matches(const struct cron *cron, time_t when);
/* False for what no calendar has, such as 31 February, and for @never. */
bool cron_can_match(const struct cron *cron);

#endif
