/*
 * t/unit/test_zone.c - time zones: made ones moment by moment, those of this machine against the C library.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/list.h"
#include "base/str.h"
#include "base/zone.h"

#define HOUR 3600

static time_t
utc(const char *when)
{
	struct tm tm = {0};
	char *end = strptime(when, "%Y-%m-%d %H:%M:%S", &tm);

	if (end == NULL || *end != '\0')
		fail_msg("%s", when);
	return timegm(&tm);
}

/* ---- a file of one's own ---- */

/* Each change is to the type of the same number, counted from 1; 0 holds before. */
struct made {
	const char *changes[3]; /* in UTC; NULL: no more */
	int offsets[4];
	const char *footer;
	char version;
};

static void
put(struct str *out, uint64_t number, int octets)
{
	while (octets-- > 0)
		str_addc(out, (char)(number >> (8 * octets)));
}

static void
put_header(struct str *out, char version, unsigned times, unsigned types)
{
	str_add(out, "TZif");
	str_addc(out, version);
	for (int i = 0; i < 15; i++)
		str_addc(out, '\0');
	put(out, 0, 4);
	put(out, 0, 4);
	put(out, 0, 4);
	put(out, times, 4);
	put(out, types, 4);
	put(out, 4, 4);
}

static void
put_types(struct str *out, const int *offsets, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		put(out, (uint64_t)(int64_t)offsets[i], 4);
		put(out, 0, 2);
	}
	str_addn(out, "ABC", 4);
}

static void
make(const struct made *m, struct str *out)
{
	static const int nothing[] = {0};
	unsigned count = 0;

	while (count < ARRAY_COUNT(m->changes) && m->changes[count] != NULL)
		count++;
	put_header(out, m->version, 0, 1);
	put_types(out, nothing, 1);
	put_header(out, m->version, count, count + 1);
	for (unsigned i = 0; i < count; i++)
		put(out, (uint64_t)utc(m->changes[i]), 8);
	for (unsigned i = 1; i <= count; i++)
		put(out, i, 1);
	put_types(out, m->offsets, count + 1);
	str_printf(out, "\n%s\n", m->footer);
}

static const struct made berlin = {{"1996-10-27 01:00:00", "2026-03-29 01:00:00", "2026-10-25 01:00:00"},
	{3208, HOUR, 2 * HOUR, HOUR}, "CET-1CEST,M3.5.0,M10.5.0/3", '2'};
static const struct made new_york = {{"2026-03-08 07:00:00", "2026-11-01 06:00:00"}, {-5 * HOUR, -4 * HOUR, -5 * HOUR},
	"EST5EDT,M3.2.0,M11.1.0", '2'};
static const struct made sydney = {{NULL}, {36292}, "AEST-10AEDT,M10.1.0,M4.1.0/3", '3'};
/* Where the law calls the summer standard, and winter begins a negative hour. */
static const struct made dublin = {{NULL}, {0}, "IST-1GMT0,M10.5.0,M3.5.0/1", '3'};
static const struct made nuuk = {{NULL}, {0}, "<-02>2<-01>,M3.5.0/-1,M10.5.0/0", '3'};
static const struct made kolkata = {{"1945-10-14 17:30:00"}, {6 * HOUR + 1800, 5 * HOUR + 1800}, "IST-5:30", '2'};
static const struct made ended = {{"2026-03-29 01:00:00"}, {HOUR, 2 * HOUR}, "", '2'};
/* RFC 9636 3.3.2: summer for ever; and both forms of a day of the year, of which one knows no 29 February. */
static const struct made eternal = {{NULL}, {0}, "XXX3EDT4,0/0,J365/23", '3'};
static const struct made by_days = {{NULL}, {0}, "AAA0BBB,J60/0,300/0", '2'};

static const struct {
	const struct made *made;
	const char *when;
	int want;
} cases[] = {
	{&berlin, "1800-01-01 00:00:00", 3208},
	{&berlin, "1996-10-27 00:59:59", 3208},
	{&berlin, "1996-10-27 01:00:00", HOUR},
	{&berlin, "2026-03-29 00:59:59", HOUR},
	{&berlin, "2026-03-29 01:00:00", 2 * HOUR},
	{&berlin, "2026-10-25 00:59:59", 2 * HOUR},
	{&berlin, "2026-10-25 01:00:00", HOUR},
	{&berlin, "2080-03-31 00:59:59", HOUR},
	{&berlin, "2080-03-31 01:00:00", 2 * HOUR},
	{&berlin, "2080-10-27 00:59:59", 2 * HOUR},
	{&berlin, "2080-10-27 01:00:00", HOUR},
	{&berlin, "2080-12-31 23:59:59", HOUR},
	{&new_york, "2026-03-08 06:59:59", -5 * HOUR},
	{&new_york, "2026-03-08 07:00:00", -4 * HOUR},
	{&new_york, "2026-11-01 05:59:59", -4 * HOUR},
	{&new_york, "2026-11-01 06:00:00", -5 * HOUR},
	{&new_york, "2080-03-10 06:59:59", -5 * HOUR},
	{&new_york, "2080-03-10 07:00:00", -4 * HOUR},
	{&new_york, "2080-11-03 05:59:59", -4 * HOUR},
	{&new_york, "2080-11-03 06:00:00", -5 * HOUR},
	{&sydney, "2025-12-31 23:59:59", 11 * HOUR},
	{&sydney, "2026-01-01 00:00:00", 11 * HOUR},
	{&sydney, "2026-04-04 15:59:59", 11 * HOUR},
	{&sydney, "2026-04-04 16:00:00", 10 * HOUR},
	{&sydney, "2026-10-03 15:59:59", 10 * HOUR},
	{&sydney, "2026-10-03 16:00:00", 11 * HOUR},
	{&sydney, "2080-04-06 15:59:59", 11 * HOUR},
	{&sydney, "2080-04-06 16:00:00", 10 * HOUR},
	{&sydney, "2080-10-05 16:00:00", 11 * HOUR},
	{&dublin, "2026-03-29 00:59:59", 0},
	{&dublin, "2026-03-29 01:00:00", HOUR},
	{&dublin, "2026-10-25 00:59:59", HOUR},
	{&dublin, "2026-10-25 01:00:00", 0},
	{&nuuk, "2026-03-29 00:59:59", -2 * HOUR},
	{&nuuk, "2026-03-29 01:00:00", -1 * HOUR},
	{&nuuk, "2026-10-25 00:59:59", -1 * HOUR},
	{&nuuk, "2026-10-25 01:00:00", -2 * HOUR},
	{&kolkata, "2026-06-01 00:00:00", 5 * HOUR + 1800},
	{&ended, "2026-03-29 00:59:59", HOUR},
	{&ended, "2090-12-01 00:00:00", 2 * HOUR},
	{&eternal, "2026-01-01 02:59:59", -4 * HOUR},
	{&eternal, "2026-01-01 03:00:00", -4 * HOUR},
	{&eternal, "2026-07-01 00:00:00", -4 * HOUR},
	{&eternal, "2027-12-31 23:59:59", -4 * HOUR},
	{&by_days, "2027-02-28 23:59:59", 0},
	{&by_days, "2027-03-01 00:00:00", HOUR},
	{&by_days, "2028-02-29 23:59:59", 0},
	{&by_days, "2028-03-01 00:00:00", HOUR},
	{&by_days, "2027-10-27 22:59:59", HOUR},
	{&by_days, "2027-10-27 23:00:00", 0},
	{&by_days, "2028-10-26 22:59:59", HOUR},
	{&by_days, "2028-10-26 23:00:00", 0},
};

static void
a_zone_changes_when_it_says(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct arena *arena = arena_new();
		struct str file = STR_INIT;
		const struct zone *zone;
		struct err err;
		int offset;

		make(cases[i].made, &file);
		zone = zone_parse(file.data, file.len, arena, &err);
		if (zone == NULL)
			fail_msg("%s: %s", cases[i].made->footer, err.text);
		offset = zone_offset(zone, utc(cases[i].when));
		if (offset != cases[i].want)
			fail_msg("%s at %s: %d", cases[i].made->footer, cases[i].when, offset);
		str_deinit(&file);
		arena_free(&arena);
	}
}

static void
what_is_no_zone_is_none(void **state)
{
	static const struct made wrong[] = {
		{{NULL}, {0}, "UTC0", '\0'},
		{{NULL}, {26 * HOUR}, "UTC0", '2'},
		{{NULL}, {-25 * HOUR}, "UTC0", '2'},
		{{"2026-01-01 00:00:00", "2026-01-01 00:00:00"}, {0, 0, 0}, "UTC0", '2'},
		{{NULL}, {0}, "UT0", '2'},
		{{NULL}, {0}, "UTC", '2'},
		{{NULL}, {0}, "UTC25", '2'},
		{{NULL}, {0}, "<UTC0", '2'},
		{{NULL}, {0}, "CET-1CEST", '2'},
		{{NULL}, {0}, "CET-1CEST,M3.5.0", '2'},
		{{NULL}, {0}, "CET-1CEST,M3.5.0,M13.5.0", '2'},
		{{NULL}, {0}, "CET-1CEST,M3.6.0,M10.5.0", '2'},
		{{NULL}, {0}, "CET-1CEST,M3.5.7,M10.5.0", '2'},
		{{NULL}, {0}, "CET-1CEST,J0,J300", '2'},
		{{NULL}, {0}, "CET-1CEST,M3.5.0/168,M10.5.0", '2'},
		{{NULL}, {0}, "CET-1CEST,M3.5.0,M10.5.0 ", '2'},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
		struct arena *arena = arena_new();
		struct str file = STR_INIT;
		struct err err;

		make(&wrong[i], &file);
		if (zone_parse(file.data, file.len, arena, &err) != NULL)
			fail_msg("%s", wrong[i].footer);
		str_deinit(&file);
		arena_free(&arena);
	}
}

static void
a_zone_that_is_cut_off_is_none(void **state)
{
	struct arena *arena = arena_new();
	struct str file = STR_INIT;
	struct err err;

	(void)state;
	make(&berlin, &file);
	for (size_t len = 0; len < file.len; len++) {
		/* Of its own size, so that a sanitizer sees what is read behind it. */
		char *part = arena_memdup(arena, file.data, len);

		assert_null(zone_parse(part, len, arena, &err));
		assert_string_equal(err.text, "is no time zone as zic(8) writes them, without leap seconds");
	}
	str_deinit(&file);
	arena_free(&arena);
}

/* ---- those of this machine ---- */

static int
offset_by_library(time_t when)
{
	struct tm tm;

	assert_non_null(localtime_r(&when, &tm));
	return (int)tm.tm_gmtoff;
}

static void
a_zone_of_this_machine_is_what_the_library_makes_of_it(void **state)
{
	static const char *const names[] = {"Europe/Berlin", "America/New_York", "Australia/Sydney", "Australia/Lord_Howe",
		"Europe/Dublin", "Africa/Casablanca", "America/Nuuk", "America/Sao_Paulo", "Asia/Kolkata", "Asia/Gaza",
		"Pacific/Apia", "Pacific/Chatham", "UTC", "Etc/GMT+5"};

	(void)state;
	if (access(ZONE_FOLDER, F_OK) < 0)
		skip();
	for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
		struct arena *arena = arena_new();
		const struct zone *zone;
		struct err err;

		zone = zone_load(names[i], arena, &err);
		if (zone == NULL)
			fail_msg("%s", err.text);
		setenv("TZ", names[i], 1);
		tzset();
		for (time_t t = utc("1900-01-01 00:30:00"); t < utc("2150-01-01 00:00:00"); t += 5 * HOUR + 1799)
			if (zone_offset(zone, t) != offset_by_library(t))
				fail_msg("%s at %lld: %d, and not %d", names[i], (long long)t, zone_offset(zone, t),
					offset_by_library(t));
		arena_free(&arena);
	}
}

static void
an_unknown_name_is_told(void **state)
{
	static const char *const names[] = {"Europe/Berln", "Europe", "Europe/", "", "/etc/passwd", "../zoneinfo/UTC",
		"Europe/../UTC", "zone.tab", "+1"};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
		struct arena *arena = arena_new();
		struct err err;

		assert_null(zone_load(names[i], arena, &err));
		if (strstr(err.text, "is no zone") == NULL || strstr(err.text, "try UTC") == NULL)
			fail_msg("%s: %s", names[i], err.text);
		arena_free(&arena);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_zone_changes_when_it_says),
		cmocka_unit_test(what_is_no_zone_is_none),
		cmocka_unit_test(a_zone_that_is_cut_off_is_none),
		cmocka_unit_test(a_zone_of_this_machine_is_what_the_library_makes_of_it),
		cmocka_unit_test(an_unknown_name_is_told),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
