/* base/zone.c - TZif files (RFC 9636) and the rule in their footer (POSIX, and its section 3.3.2). */
#include "base/zone.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX_LEN 16384 /* the largest there is has less than 4K */
#define WHEN_MAX     (INT64_C(1) << 40) /* some 30,000 years */
#define NAME_MAX_LEN 64
#define HEADER_LEN   44
#define TYPE_LEN     6
#define DAY_S	     86400
/* RFC 9636 3.2: no zone is further away. */
#define WEST_MAX_S (25 * 3600 - 1)
#define EAST_MAX_S (26 * 3600 - 1)

/* When a year's summer begins or ends. */
struct change {
	enum { DAY_OF_365, DAY_OF_YEAR, WEEKDAY_OF_MONTH } how; /* "J60", without 29 February; "59"; "M3.5.0" */
	int day, month, week; /* week 5: the last */
	int time_s;	      /* by the clock that is changed; may be on another day */
};

/* What holds behind the last change in the file. */
struct footer {
	bool is_given, has_summer;
	int winter_s, summer_s;
	struct change begin, end;
};

struct zone {
	size_t count;
	int64_t *times; /* of the changes, ascending */
	int *offsets;	/* from then on */
	int first;	/* before the first of them */
	struct footer footer;
};

/* ---- the footer: "CET-1CEST,M3.5.0,M10.5.0/3" ---- */

/* Is there such a character? Then it is skipped. */
static bool
skip(const char **s, char c)
{
	if (**s != c)
		return false;
	++*s;
	return true;
}

static bool
read_number(const char **s, int min, int max, int *number_r)
{
	int number = 0, digits = 0;

	for (; isdigit((unsigned char)**s) && digits < 3; digits++)
		number = number * 10 + *(*s)++ - '0';
	*number_r = number;
	return digits > 0 && number >= min && number <= max;
}

/* "-1", "2:30", "-3:30:00" */
static bool
read_time(const char **s, int hours_max, int *time_r)
{
	int sign = skip(s, '-') ? -1 : 1, hours, minutes = 0, seconds = 0;

	if (sign > 0)
		skip(s, '+');
	if (!read_number(s, 0, hours_max, &hours))
		return false;
	if (skip(s, ':') && !read_number(s, 0, 59, &minutes))
		return false;
	if (skip(s, ':') && !read_number(s, 0, 59, &seconds))
		return false;
	*time_r = sign * ((hours * 60 + minutes) * 60 + seconds);
	return true;
}

/* "CET" or "<+0330>": what the clock is called there is nothing to us. */
static bool
skip_name(const char **s)
{
	const char *begin = *s;

	if (skip(s, '<')) {
		while (isalnum((unsigned char)**s) || **s == '+' || **s == '-')
			++*s;
		return skip(s, '>');
	}
	while (isalpha((unsigned char)**s))
		++*s;
	return *s - begin >= 3;
}

static bool
read_day(const char **s, struct change *c)
{
	if (skip(s, 'J')) {
		c->how = DAY_OF_365;
		return read_number(s, 1, 365, &c->day);
	}
	if (!skip(s, 'M')) {
		c->how = DAY_OF_YEAR;
		return read_number(s, 0, 365, &c->day);
	}
	c->how = WEEKDAY_OF_MONTH;
	return read_number(s, 1, 12, &c->month) && skip(s, '.') && read_number(s, 1, 5, &c->week) && skip(s, '.') &&
	       read_number(s, 0, 6, &c->day);
}

static bool
read_change(const char **s, struct change *c)
{
	c->time_s = 2 * 3600;
	return skip(s, ',') && read_day(s, c) && (!skip(s, '/') || read_time(s, 167, &c->time_s));
}

/* In POSIX offsets are those west of UTC. */
static bool
parse_footer(const char *s, struct footer *f)
{
	if (*s == '\0')
		return true;
	f->is_given = true;
	if (!skip_name(&s) || !read_time(&s, 24, &f->winter_s))
		return false;
	f->winter_s = -f->winter_s;
	f->summer_s = f->winter_s + 3600;
	if (*s == '\0')
		return true;
	f->has_summer = true;
	if (!skip_name(&s))
		return false;
	if (*s != ',') {
		if (!read_time(&s, 24, &f->summer_s))
			return false;
		f->summer_s = -f->summer_s;
	}
	return read_change(&s, &f->begin) && read_change(&s, &f->end) && *s == '\0';
}

static bool
is_leap(int year)
{
	return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/* The first day of a month, in days since the epoch. */
static int64_t
first_day(int year, int month)
{
	struct tm tm = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = 1};

	return timegm(&tm) / DAY_S;
}

static int64_t
weekday_of_month(const struct change *c, int year)
{
	int64_t first = first_day(year, c->month), next = first_day(year, c->month + 1);
	int weekday = (int)((first % 7 + 11) % 7); /* the epoch was a Thursday */
	int64_t day = first + (c->day - weekday + 7) % 7 + (c->week - 1) * 7;

	return day < next ? day : day - 7;
}

/* Without the distance from UTC. */
static int64_t
moment_of(const struct change *c, int year)
{
	int64_t day = 0;

	switch (c->how) {
	case DAY_OF_365:
		day = first_day(year, 1) + c->day - 1 + (is_leap(year) && c->day >= 60);
		break;
	case DAY_OF_YEAR:
		day = first_day(year, 1) + c->day;
		break;
	case WEEKDAY_OF_MONTH:
		day = weekday_of_month(c, year);
		break;
	}
	return day * DAY_S + c->time_s;
}

/* The latest change decides. One of the last year may be it, and one that is written as of the next: a time may lie a
 * week beside its day. Summer that begins in the moment in which it ends goes on. */
static int
footer_offset(const struct footer *f, int64_t when)
{
	int64_t latest = INT64_MIN, moment;
	time_t t = (time_t)when;
	int offset = f->winter_s;
	struct tm tm;

	if (!f->has_summer || when < -WHEN_MAX || when > WHEN_MAX || gmtime_r(&t, &tm) == NULL)
		return offset;
	for (int year = tm.tm_year + 1900 - 1; year <= tm.tm_year + 1900 + 1; year++) {
		moment = moment_of(&f->end, year) - f->summer_s;
		if (moment <= when && moment >= latest) {
			latest = moment;
			offset = f->winter_s;
		}
		moment = moment_of(&f->begin, year) - f->winter_s;
		if (moment <= when && moment >= latest) {
			latest = moment;
			offset = f->summer_s;
		}
	}
	return offset;
}

/* ---- the file ---- */

/* What is left of it. */
struct octets {
	const unsigned char *at;
	size_t len;
};

/* NULL: there are not so many. */
static const unsigned char *
take(struct octets *o, size_t len)
{
	const unsigned char *at = o->at;

	if (len > o->len)
		return NULL;
	o->at += len;
	o->len -= len;
	return at;
}

static uint32_t
number_at(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int64_t
time_at(const unsigned char *p)
{
	return (int64_t)((uint64_t)number_at(p) << 32 | number_at(p + 4));
}

struct counts {
	size_t is_utc, is_standard, leaps, times, types, name_octets; /* in the order of the header */
};

static bool
read_counts(struct octets *o, struct counts *c)
{
	const unsigned char *h = take(o, HEADER_LEN);

	if (h == NULL || memcmp(h, "TZif", 4) != 0 || h[4] < '2')
		return false;
	for (size_t i = 20; i < HEADER_LEN; i += 4)
		if (number_at(h + i) > FILE_MAX_LEN)
			return false;
	*c = (struct counts){number_at(h + 20), number_at(h + 24), number_at(h + 28), number_at(h + 32),
		number_at(h + 36), number_at(h + 40)};
	return c->types > 0 && c->types <= 256;
}

/* The block for programs that know times of 32 bits only. */
static bool
skip_first_block(struct octets *o)
{
	struct counts c;

	return read_counts(o, &c) && take(o, c.times * 5 + c.types * TYPE_LEN + c.name_octets + c.leaps * 8 +
		c.is_standard + c.is_utc) != NULL;
}

static bool
read_offset(const unsigned char *types, size_t i, int *offset_r)
{
	int32_t offset = (int32_t)number_at(types + i * TYPE_LEN);

	*offset_r = offset;
	return offset >= -WEST_MAX_S && offset <= EAST_MAX_S;
}

static bool
read_changes(struct zone *zone, const unsigned char *times, const unsigned char *which, const unsigned char *types,
	size_t type_count)
{
	for (size_t i = 0; i < zone->count; i++) {
		zone->times[i] = time_at(times + i * 8);
		if (i > 0 && zone->times[i] <= zone->times[i - 1])
			return false;
		if (which[i] >= type_count || !read_offset(types, which[i], &zone->offsets[i]))
			return false;
	}
	return read_offset(types, 0, &zone->first);
}

/* Leap seconds are counted in none of our clocks: a zone with them ("right/UTC") is of no use. */
static bool
read_second_block(struct octets *o, struct zone *zone, struct arena *arena)
{
	const unsigned char *times, *which, *types;
	struct counts c;

	if (!read_counts(o, &c) || c.leaps > 0)
		return false;
	times = take(o, c.times * 8);
	which = take(o, c.times);
	types = take(o, c.types * TYPE_LEN);
	if (times == NULL || which == NULL || types == NULL ||
		take(o, c.name_octets + c.is_standard + c.is_utc) == NULL)
		return false;
	zone->count = c.times;
	zone->times = arena_alloc(arena, c.times * sizeof(zone->times[0]));
	zone->offsets = arena_alloc(arena, c.times * sizeof(zone->offsets[0]));
	return read_changes(zone, times, which, types, c.types);
}

/* A line of its own, behind all the rest. */
static bool
read_footer(struct octets *o, struct zone *zone, struct arena *arena)
{
	const unsigned char *begin = take(o, 1), *end;

	if (begin == NULL || *begin != '\n')
		return false;
	end = memchr(o->at, '\n', o->len);
	return end != NULL && parse_footer(arena_strndup(arena, (const char *)o->at, (size_t)(end - o->at)), &zone->footer);
}

const struct zone *
zone_parse(const void *data, size_t len, struct arena *arena, struct err *err)
{
	struct zone *zone = arena_zalloc(arena, sizeof(*zone));
	struct octets o = {data, len};

	if (skip_first_block(&o) && read_second_block(&o, zone, arena) && read_footer(&o, zone, arena))
		return zone;
	err_set(err, "is no time zone as zic(8) writes them, without leap seconds");
	return NULL;
}

/* ---- its name ---- */

/* So that it stays below its folder. */
static bool
is_name(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len <= NAME_MAX_LEN && isalpha((unsigned char)*name) &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-_/") == len;
}

/* A folder is no file, and what is larger than any zone is none. */
static ssize_t
read_file(int fd, char *buf, size_t size)
{
	size_t len = 0;
	ssize_t n = 1;
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > (off_t)size)
		return -1;
	while (n > 0 && len < size) {
		n = read(fd, buf + len, size - len);
		len += n > 0 ? (size_t)n : 0;
	}
	return n < 0 ? -1 : (ssize_t)len;
}

static int
no_zone(const char *name, struct err *err)
{
	struct stat st;

	if (stat(ZONE_FOLDER, &st) < 0)
		return err_set(err, "\"%s\" is no zone that is known here: there is no " ZONE_FOLDER
			" (install tzdata, or try UTC or +0100)", name);
	return err_set(err, "\"%s\" is no zone (try UTC, +0100, or a name below " ZONE_FOLDER
		" as it is written there, such as Europe/Berlin)", name);
}

const struct zone *
zone_load(const char *name, struct arena *arena, struct err *err)
{
	char path[sizeof(ZONE_FOLDER) + 1 + NAME_MAX_LEN], buf[FILE_MAX_LEN];
	const struct zone *zone = NULL;
	ssize_t len;
	int fd = -1;

	if (is_name(name)) {
		snprintf(path, sizeof(path), ZONE_FOLDER "/%s", name);
		fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	}
	if (fd < 0) {
		no_zone(name, err);
		return NULL;
	}
	len = read_file(fd, buf, sizeof(buf));
	close(fd);
	if (len < 0)
		no_zone(name, err);
	else if ((zone = zone_parse(buf, (size_t)len, arena, err)) == NULL)
		err_prefix(err, "%s", path);
	return zone;
}

int
zone_offset(const struct zone *zone, time_t when)
{
	size_t low = 0, high = zone->count;

	if (zone->footer.is_given && (zone->count == 0 || when >= zone->times[zone->count - 1]))
		return footer_offset(&zone->footer, when);
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (zone->times[middle] <= when)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 ? zone->offsets[low - 1] : zone->first;
}
