/*
 * base/zone.h - time zones by their names ("Europe/Berlin"): how far they are from UTC at a moment.
 *
 * A zone is what zic(8) has compiled, in the format of RFC 9636: the changes of the past, and in a footer the rule of
 * those to come. All of it is read at once, so nothing is opened when a zone is asked. Pure, but for zone_load().
 */
#ifndef BASE_ZONE_H
#define BASE_ZONE_H

#include <stddef.h>
#include <time.h>

#include "base/arena.h"
#include "base/err.h"

/* Where zones lie on this machine, as package tzdata has them. */
#define ZONE_FOLDER "/usr/share/zoneinfo"

struct zone;

/* NULL: there is none of that name, or it cannot be read. Lives in the arena. */
const struct zone *zone_load(const char *name, struct arena *arena, struct err *err);
/* The same of its octets; NULL: they are no zone. */
const struct zone *zone_parse(const void *data, size_t len, struct arena *arena, struct err *err);
/* Seconds east of UTC. Any number of threads may ask. */
int zone_offset(const struct zone *zone, time_t when);

#endif
