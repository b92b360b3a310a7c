/* base/cron.c - fields of crontab(5) as sets of bits. */
#include "base/cron.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/list.h"
#include "base/zone.h"

#define TEXT_MAX 400
#define WORD_MAX 8 /* six fields, a zone, and one too many */

static const char *const month_names[] = {
	"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", NULL};
static const char *const day_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL};

static const struct {
	const char *name;
	int min, max;
	const char *const *words; /* names of the values from min on */
} fields[CRON_FIELDS] = {
	[CRON_SECOND] = {"second", 0, 59, NULL},
	[CRON_MINUTE] = {"minute", 0, 59, NULL},
	[CRON_HOUR] = {"hour", 0, 23, NULL},
	[CRON_DAY] = {"day", 1, 31, NULL},
	[CRON_MONTH] = {"month", 1, 12, month_names},
	[CRON_WEEKDAY] = {"weekday", 0, 7, day_names},
};

/* A number or name at *s, which is moved behind it; -1: none of this field. */
static int
read_value(const char **s, enum cron_field f)
{
	const char *const *words = fields[f].words;
	int value = 0, digits = 0;

	for (int i = 0; words != NULL && words[i] != NULL; i++)
		if (strncasecmp(*s, words[i], 3) == 0) {
			*s += 3;
			return fields[f].min + i;
		}
	for (; **s >= '0' && **s <= '9' && digits < 3; digits++)
		value = value * 10 + *(*s)++ - '0';
	return digits > 0 && value >= fields[f].min && value <= fields[f].max ? value : -1;
}

/* "/5" or nothing; 0: wrong. */
static int
read_step(const char **s)
{
	int step = 0, digits = 0;

	if (**s != '/')
		return 1;
	for (++*s; **s >= '0' && **s <= '9' && digits < 3; digits++)
		step = step * 10 + *(*s)++ - '0';
	return step;
}

static int
complain(struct err *err, enum cron_field f, const char *text)
{
	const char *words = f == CRON_MONTH ? ", jan to dec" : f == CRON_WEEKDAY ? ", sun to sat" : "";

	return err_set(err, "\"%.*s\" is no %s (try *, %d-%d%s, a list with commas, or */2)",
		(int)strcspn(text, ","), text, fields[f].name, fields[f].min, fields[f].max, words);
}

/* "*", "*"/5, "7", "mon-fri", "0-30/10". */
static int
parse_item(struct cron *cron, enum cron_field f, const char **s, struct err *err)
{
	const char *begin = *s;
	int low = fields[f].min, high = fields[f].max, step = 1;

	if (**s == '*') {
		++*s;
		step = read_step(s);
	} else {
		low = high = read_value(s, f);
		if (low >= 0 && **s == '-') {
			++*s;
			high = read_value(s, f);
			step = read_step(s);
		}
		if (f == CRON_WEEKDAY && high == 0 && low > 0) /* "sat-sun" */
			high = 7;
	}
	if (low < 0 || high < 0 || step < 1 || (**s != '\0' && **s != ','))
		return complain(err, f, begin);
	if (low > high)
		return err_set(err, "%s: \"%.*s\" runs backwards (try %d-%d,%d-%d)", fields[f].name,
			(int)(*s - begin), begin, low, f == CRON_WEEKDAY ? 6 : fields[f].max, fields[f].min, high);
	for (int i = low; i <= high; i += step)
		cron->set[f] |= UINT64_C(1) << (f == CRON_WEEKDAY ? i % 7 : i);
	return 0;
}

static int
parse_field(struct cron *cron, enum cron_field f, const char *s, struct err *err)
{
	cron->is_star[f] = *s == '*';
	for (;; s++) {
		if (parse_item(cron, f, &s, err) < 0)
			return -1;
		if (*s == '\0')
			return 0;
	}
}

/* "UTC", "+0100", "-03:30". */
static bool
parse_distance(const char *s, struct cron *cron)
{
	char digits[5] = "";
	size_t n = 0;
	int hhmm;

	if (strcasecmp(s, "UTC") == 0)
		return true;
	if (*s != '+' && *s != '-')
		return false;
	for (const char *p = s + 1; *p != '\0'; p++) {
		if (*p == ':' && n == 2 && p == s + 3)
			continue;
		if (*p < '0' || *p > '9' || n == 4)
			return false;
		digits[n++] = *p;
	}
	hhmm = atoi(digits);
	cron->zone_s = (hhmm / 100 * 60 + hhmm % 100) * (*s == '-' ? -60 : 60);
	return n == 4 && hhmm / 100 <= 14 && hhmm % 100 <= 59;
}

static int
parse_zone(const char *s, struct arena *arena, struct cron *cron, struct err *err)
{
	cron->has_zone = true;
	if (parse_distance(s, cron))
		return 0;
	cron->zone = zone_load(s, arena, err);
	return cron->zone != NULL ? 0 : -1;
}

static void
match_all(struct cron *cron, enum cron_field f)
{
	cron->set[f] = UINT64_MAX;
	cron->is_star[f] = true;
}

/* Parts the copy at blanks. One word more than there may be tells that there are too many. */
static size_t
split(char *copy, const char *words_r[WORD_MAX])
{
	char *rest = NULL;
	size_t n = 0;

	for (char *w = strtok_r(copy, " \t", &rest); w != NULL && n < WORD_MAX; w = strtok_r(NULL, " \t", &rest))
		words_r[n++] = w;
	return n;
}

/* The last of six words: a weekday behind seconds, or a zone behind five fields? */
static bool
begins_weekday(const char *word)
{
	return strchr("*0123456789", *word) != NULL || read_value(&word, CRON_WEEKDAY) >= 0;
}

int
cron_parse(const char *text, struct arena *arena, struct cron *cron, struct err *err)
{
	const char *words[WORD_MAX];
	char copy[TEXT_MAX];
	size_t count, f;

	memset(cron, 0, sizeof(*cron));
	if (strlen(text) >= sizeof(copy))
		return err_set(err, "the time is longer than %d octets", TEXT_MAX - 1);
	if (strcmp(text, "@never") == 0)
		return 0;
	if (strcmp(text, "@always") == 0) {
		for (f = 0; f < CRON_FIELDS; f++)
			match_all(cron, f);
		return 0;
	}
	strcpy(copy, text);
	count = split(copy, words);
	if (count == 7 || (count == 6 && !begins_weekday(words[5])))
		if (parse_zone(words[--count], arena, cron, err) < 0)
			return -1;
	if (count != 5 && count != 6)
		return err_set(err, "\"%s\" is no time (try \"* 8-17 * * mon-fri\", minute hour day month "
			"weekday in quotes, or @always or @never)", text);
	if (count == 5)
		match_all(cron, CRON_SECOND);
	for (f = 0; f < count; f++)
		if (parse_field(cron, CRON_FIELDS - count + f, words[f], err) < 0)
			return -1;
	return 0;
}

static bool
has(const struct cron *cron, enum cron_field f, int value)
{
	return (cron->set[f] >> value & 1) != 0;
}

bool
cron_matches(const struct cron *cron, time_t when)
{
	bool day, weekday;
	struct tm tm;

	if (cron->has_zone) {
		when += cron->zone != NULL ? zone_offset(cron->zone, when) : cron->zone_s;
		gmtime_r(&when, &tm);
	} else {
		localtime_r(&when, &tm);
	}
	if (!has(cron, CRON_SECOND, tm.tm_sec < 60 ? tm.tm_sec : 59) || !has(cron, CRON_MINUTE, tm.tm_min) ||
		!has(cron, CRON_HOUR, tm.tm_hour) || !has(cron, CRON_MONTH, tm.tm_mon + 1))
		return false;
	day = has(cron, CRON_DAY, tm.tm_mday);
	weekday = has(cron, CRON_WEEKDAY, tm.tm_wday);
	if (cron->is_star[CRON_DAY] || cron->is_star[CRON_WEEKDAY])
		return day && weekday;
	return day || weekday;
}

bool
cron_can_match(const struct cron *cron)
{
	static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	if (cron->set[CRON_MINUTE] == 0)
		return false;
	if (!cron->is_star[CRON_DAY] && !cron->is_star[CRON_WEEKDAY])
		return true;
	for (int month = 1; month <= 12; month++)
		for (int day = 1; has(cron, CRON_MONTH, month) && day <= days[month - 1]; day++)
			if (has(cron, CRON_DAY, day))
				return true;
	return false;
}
