/* t/unit/test_cron.c - times of crontab(5): what is one, and when it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cron.h"
#include "base/list.h"
#include "base/zone.h"

static time_t
utc(const char *when)
{
	struct tm tm = {0};
	char *end = strptime(when, "%Y-%m-%d %H:%M:%S", &tm);

	if (end == NULL || *end != '\0')
		fail_msg("%s", when);
	return timegm(&tm);
}

/* 2026-11-24 is a Tuesday. The machine's zone is Berlin's. */
static const struct {
	const char *text, *when;
	bool want;
} cases[] = {
	{"* * * * *", "2026-11-24 13:00:30", true},
	{"@always", "2026-11-24 13:00:30", true},
	{"@never", "2026-11-24 13:00:30", false},
	{"0 14 * * *", "2026-11-24 13:00:59", true},
	{"0 14 * * *", "2026-11-24 13:01:00", false},
	{"0 13 * * * UTC", "2026-11-24 13:00:00", true},
	{"0 13 * * * utc", "2026-11-24 12:00:00", false},
	{"0 15 * * * +0200", "2026-11-24 13:00:00", true},
	{"30 9 * * * -03:30", "2026-11-24 13:00:00", true},
	{"* 8-17 * * mon-fri", "2026-11-24 16:59:59", true},
	{"* 8-17 * * mon-fri", "2026-11-24 17:00:00", false},
	{"* 8-17 * * MON-Fri", "2026-11-28 12:00:00", false},
	{"* * * * sat,sun", "2026-11-28 12:00:00", true},
	{"* * * * sat-sun", "2026-11-29 12:00:00", true},
	{"* * * * sat-sun", "2026-11-27 12:00:00", false},
	{"* * * * 7", "2026-11-29 12:00:00", true},
	{"* * * * 0", "2026-11-29 12:00:00", true},
	{"* * * * 1-7/2", "2026-11-29 12:00:00", true},
	{"* * * * sun-tue", "2026-11-24 12:00:00", true},
	{"*/15 * * * *", "2026-11-24 13:45:00", true},
	{"*/15 * * * *", "2026-11-24 13:46:00", false},
	{"10-40/10 * * * *", "2026-11-24 13:40:00", true},
	{"10-40/10 * * * *", "2026-11-24 13:50:00", false},
	{"1,3,5-7 * * * *", "2026-11-24 13:06:00", true},
	{"* * * nov *", "2026-11-24 13:00:00", true},
	{"* * * jan-mar,11 *", "2026-11-24 13:00:00", true},
	{"* * * dec *", "2026-11-24 13:00:00", false},
	/* day and weekday: one will do when both are restricted */
	{"* * 24 * fri", "2026-11-24 13:00:00", true},
	{"* * 25 * tue", "2026-11-24 13:00:00", true},
	{"* * 25 * fri", "2026-11-24 13:00:00", false},
	{"* * 25 * *", "2026-11-24 13:00:00", false},
	{"* * * * fri", "2026-11-24 13:00:00", false},
	{"* * */2 * tue", "2026-11-24 13:00:00", false},
	/* six: seconds in front */
	{"0-9 * * * * *", "2026-11-24 13:00:09", true},
	{"0-9 * * * * *", "2026-11-24 13:00:10", false},
	{"30 0 13 * * * UTC", "2026-11-24 13:00:30", true},
	{"59 * * * * *", "2026-11-24 13:00:59", true},
	/* 2026-03-29: 02:00 to 02:59 is left out */
	{"30 2 * * *", "2026-03-29 00:30:00", false},
	{"30 1 * * *", "2026-03-29 00:30:00", true},
	{"30 3 * * *", "2026-03-29 01:30:00", true},
	{"30 2 * * *", "2026-03-29 01:30:00", false},
	/* 2026-10-25: 02:00 to 02:59 comes twice */
	{"30 2 * * *", "2026-10-25 00:30:00", true},
	{"30 2 * * *", "2026-10-25 01:30:00", true},
	{"30 2 * * *", "2026-10-25 02:30:00", false},
	{"30 2 * * * +0100", "2026-10-25 00:30:00", false},
	{"30 2 * * * +0100", "2026-10-25 01:30:00", true},
};

/* Likewise, where its files are. */
static const struct {
	const char *text, *when;
	bool want;
} zones[] = {
	{"30 9 * * * America/New_York", "2026-11-24 14:30:00", true},
	{"30 9 * * * America/New_York", "2026-07-24 13:30:00", true},
	{"30 9 * * * America/New_York", "2026-07-24 14:30:00", false},
	{"* 0 1 jan * Asia/Kolkata", "2025-12-31 18:30:00", true},
	{"0 30 2 * * * Europe/Berlin", "2026-03-29 00:30:00", false},
	{"0 30 2 * * * Europe/Berlin", "2026-03-29 01:30:00", false},
	{"30 2 * * * Europe/Berlin", "2026-10-25 00:30:00", true},
	{"30 2 * * * Europe/Berlin", "2026-10-25 01:30:00", true},
	{"30 2 * * * Europe/Berlin", "2026-10-25 02:30:00", false},
};

static void
check(const char *text, const char *when, bool want)
{
	struct arena *arena = arena_new();
	struct cron cron;
	struct err err;

	if (cron_parse(text, arena, &cron, &err) < 0)
		fail_msg("%s: %s", text, err.text);
	if (cron_matches(&cron, utc(when)) != want)
		fail_msg("\"%s\" at %s", text, when);
	arena_free(&arena);
}

static void
a_time_matches_while_it_is(void **state)
{
	(void)state;
	setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
	tzset();
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
		check(cases[i].text, cases[i].when, cases[i].want);
}

static void
a_named_zone_has_its_own_summer(void **state)
{
	(void)state;
	if (access(ZONE_FOLDER, F_OK) < 0)
		skip();
	for (size_t i = 0; i < ARRAY_COUNT(zones); i++)
		check(zones[i].text, zones[i].when, zones[i].want);
}

static void
what_is_no_time_is_told(void **state)
{
	static const struct {
		const char *text, *want;
	} wrong[] = {
		{"", "\"\" is no time (try \"* 8-17 * * mon-fri\", minute hour day month weekday in quotes, or @always or @never)"},
		{"*", "\"*\" is no time"},
		{"* * * *", "is no time"},
		{"* * * * * * * *", "is no time"},
		{"@hourly", "\"@hourly\" is no time"},
		{"60 * * * *", "\"60\" is no minute (try *, 0-59, a list with commas, or */2)"},
		{"60 * * * * *", "\"60\" is no second"},
		{"* 24 * * *", "\"24\" is no hour"},
		{"* * 0 * *", "\"0\" is no day (try *, 1-31"},
		{"* * * 13 *", "\"13\" is no month (try *, 1-12, jan to dec"},
		{"* * * * 8", "\"8\" is no weekday (try *, 0-7, sun to sat"},
		{"* * * * montag", "\"montag\" is no weekday"},
		{"5/10 * * * *", "\"5/10\" is no minute"},
		{"*/0 * * * *", "\"*/0\" is no minute"},
		{"1,,2 * * * *", "is no minute"},
		{"1, * * * *", "is no minute"},
		{"1-x * * * *", "\"1-x\" is no minute"},
		{"1000 * * * *", "\"1000\" is no minute"},
		{"* 22-6 * * *", "hour: \"22-6\" runs backwards (try 22-23,0-6)"},
		{"* * * * fri-mon", "weekday: \"fri-mon\" runs backwards (try 5-6,0-1)"},
		{"* * * * * Europe/Berln", "\"Europe/Berln\" is no zone"},
		{"* * * * * ../zoneinfo/UTC", "\"../zoneinfo/UTC\" is no zone"},
		{"* * * * * +1", "\"+1\" is no zone"},
		{"* * * * * +0175", "\"+0175\" is no zone"},
		{"* * * * * * MARS", "\"MARS\" is no zone"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
		struct arena *arena = arena_new();
		struct cron cron;
		struct err err = {.text = ""};

		if (cron_parse(wrong[i].text, arena, &cron, &err) == 0 || strstr(err.text, wrong[i].want) == NULL)
			fail_msg("\"%s\": %s", wrong[i].text, err.text);
		arena_free(&arena);
	}
}

static void
a_day_that_no_calendar_has_never_matches(void **state)
{
	static const struct {
		const char *text;
		bool want;
	} days[] = {
		{"* * * * *", true},
		{"@never", false},
		{"* * 31 2 *", false},
		{"* * 30-31 feb *", false},
		{"* * 31 apr,jun *", false},
		{"* * 29 2 *", true},
		{"* * 31 2,3 *", true},
		{"* * 31 2 mon", true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(days); i++) {
		struct arena *arena = arena_new();
		struct cron cron;
		struct err err;

		assert_int_equal(cron_parse(days[i].text, arena, &cron, &err), 0);
		if (cron_can_match(&cron) != days[i].want)
			fail_msg("%s", days[i].text);
		arena_free(&arena);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_time_matches_while_it_is),
		cmocka_unit_test(a_named_zone_has_its_own_summer),
		cmocka_unit_test(what_is_no_time_is_told),
		cmocka_unit_test(a_day_that_no_calendar_has_never_matches),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
