/*
 * config/value.c - one function per type of option.
 */
#include "config/value.h"

#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "base/list.h"
#include "config/hint.h"

struct setter {
	struct config *conf;
	const struct config_option *option;
	const struct config_words *words;
	void *member;
};

struct unit {
	const char *name;
	int64_t factor;
};

/* From small to large. */
static const struct unit durations[] = {
	{"ms", 1},
	{"s", 1000},
	{"m", 60 * 1000},
	{"h", 60 * 60 * 1000},
	{"d", 24 * 60 * 60 * 1000},
	{NULL, 0},
};
static const struct unit sizes[] = {
	{"", 1},
	{"K", 1LL << 10},
	{"M", 1LL << 20},
	{"G", 1LL << 30},
	{"T", 1LL << 40},
	{NULL, 0},
};

__attribute__((format(printf, 3, 4))) static int
fail(const struct setter *s, const struct config_word *word, const char *fmt, ...)
{
	struct str text = STR_INIT;
	va_list ap;

	va_start(ap, fmt);
	str_vprintf(&text, fmt, ap);
	va_end(ap);
	config_error(s->conf, &word->place, "%s: %s", s->option->name, str_text(&text));
	str_deinit(&text);
	return -1;
}

/* Digits at the beginning. Too large a number is INT64_MAX. NULL: there is no digit. */
static const char *
read_digits(const char *text, int64_t *value_r)
{
	const char *s = text;
	int64_t value = 0;

	for (; *s >= '0' && *s <= '9'; s++) {
		if (__builtin_mul_overflow(value, 10, &value) ||
			__builtin_add_overflow(value, *s - '0', &value))
			value = INT64_MAX;
	}
	*value_r = value;
	return s != text ? s : NULL;
}

static int
apply_unit(const struct unit *units, const char *name, int64_t *value)
{
	const struct unit *unit;

	for (unit = units; unit->name != NULL; unit++) {
		if (!str_caseeq(unit->name, name))
			continue;
		if (__builtin_mul_overflow(*value, unit->factor, value))
			*value = INT64_MAX;
		return 0;
	}
	return -1;
}

static const char *const duration_words[] = {"s", "m", "h", "d", "ms", NULL};
static const char *const size_words[] = {"K", "M", "G", "T", NULL};

static int
no_number(struct err *err, const char *text, const char *what, const char *const *units, const char *samples)
{
	size_t digits = strspn(text, "0123456789");
	struct str meant = STR_INIT;

	if (config_hint_unit(text, units, &meant))
		err_set(err, "\"%s\" is not %s (try %s)", text, what, str_text(&meant));
	else if (digits > 0 && strpbrk(text + digits, "0123456789") != NULL)
		err_set(err, "\"%s\" is not %s: one whole number and one unit (try %s)", text, what, samples);
	else
		err_set(err, "\"%s\" is not %s (try %s)", text, what, samples);
	str_deinit(&meant);
	return -1;
}

int
config_parse_duration(const char *text, int64_t *ms_r, struct err *err)
{
	const char *unit = read_digits(text, ms_r);

	if (unit != NULL && *unit == '\0') {
		if (*ms_r == 0)
			return 0;
		return err_set(err, "\"%s\" has no unit (try %ss or %sm)", text, text, text);
	}
	if (unit == NULL || apply_unit(durations, unit, ms_r) < 0)
		return no_number(err, text, "a duration", duration_words, "30s, 5m");
	return 0;
}

int
config_parse_size(const char *text, int64_t *octets_r, struct err *err)
{
	const char *unit = read_digits(text, octets_r);

	if (unit == NULL || apply_unit(sizes, unit, octets_r) < 0)
		return no_number(err, text, "a size", size_words, "64K, 50M");
	return 0;
}

/* In the largest unit that divides it. */
static void
add_units(struct str *out, const struct unit *units, int64_t value)
{
	const struct unit *unit, *best = units;

	for (unit = units; unit->name != NULL && value != 0; unit++) {
		if (value % unit->factor == 0)
			best = unit;
	}
	str_printf(out, "%" PRId64 "%s", value / best->factor, value != 0 ? best->name : "");
}

static void
add_value(struct str *out, const struct config_option *option, int64_t value)
{
	if (option->type == CONFIG_T_DURATION)
		add_units(out, durations, value);
	else if (option->type == CONFIG_T_SIZE)
		add_units(out, sizes, value);
	else
		str_printf(out, "%" PRId64, value);
}

void
config_value_range(const struct config_option *option, struct str *out)
{
	if (option->min >= option->max)
		return;
	add_value(out, option, option->min);
	str_add(out, " to ");
	add_value(out, option, option->max);
}

static int
check_range(const struct setter *s, const struct config_word *word, int64_t value)
{
	const struct config_option *o = s->option;
	bool is_int = o->type == CONFIG_T_INT || o->type == CONFIG_T_AUTO_INT;
	struct config_option bound = *o;
	struct str range = STR_INIT;

	if (o->min >= o->max) {
		bound.min = is_int ? INT_MIN : 0;
		bound.max = is_int ? INT_MAX : INT64_MAX - 1;
	}
	if (value >= bound.min && value <= bound.max)
		return 0;
	config_value_range(&bound, &range);
	fail(s, word, "%s is out of range (%s)", word->text, str_text(&range));
	str_deinit(&range);
	return -1;
}

static int
set_bool(const struct setter *s)
{
	static const char *const aliases[][2] = {
		{"yes", "yes"},
		{"no", "no"},
		{"true", "yes"},
		{"on", "yes"},
		{"1", "yes"},
		{"false", "no"},
		{"off", "no"},
		{"0", "no"},
	};
	const struct config_word *word = &s->words->list[0];
	size_t i;

	if (strcmp(word->text, "yes") == 0 || strcmp(word->text, "no") == 0) {
		*(bool *)s->member = *word->text == 'y';
		return 0;
	}
	for (i = 0; i < ARRAY_COUNT(aliases); i++) {
		if (str_caseeq(word->text, aliases[i][0]))
			return fail(s, word, "\"%s\" is neither yes nor no (try %s)", word->text,
				aliases[i][1]);
	}
	return fail(s, word, "\"%s\" is neither yes nor no", word->text);
}

static int
read_int(const char *text, int64_t *value_r)
{
	bool negative = *text == '-';
	const char *end = read_digits(text + negative, value_r);

	if (negative)
		*value_r = -*value_r;
	return end != NULL && *end == '\0' ? 0 : -1;
}

static int
set_int(const struct setter *s)
{
	const struct config_word *word = &s->words->list[0];
	int64_t value;

	if (read_int(word->text, &value) < 0) {
		struct str sample = STR_INIT;

		config_value_sample(s->option, &sample);
		fail(s, word, "\"%s\" is not a number (try %s)", word->text, str_text(&sample));
		str_deinit(&sample);
		return -1;
	}
	if (check_range(s, word, value) < 0)
		return -1;
	*(int *)s->member = (int)value;
	return 0;
}

static int
set_auto_int(const struct setter *s)
{
	const struct config_word *word = &s->words->list[0];
	int64_t value;

	if (strcmp(word->text, "auto") == 0) {
		*(int *)s->member = 0;
		return 0;
	}
	if (read_int(word->text, &value) < 0)
		return fail(s, word, "\"%s\" is neither a number nor auto", word->text);
	if (check_range(s, word, value) < 0)
		return -1;
	*(int *)s->member = (int)value;
	return 0;
}

static int
set_int64(const struct setter *s, int (*parse)(const char *, int64_t *, struct err *))
{
	const struct config_word *word = &s->words->list[0];
	int64_t value;
	struct err err;

	if (parse(word->text, &value, &err) < 0)
		return fail(s, word, "%s", err.text);
	if (check_range(s, word, value) < 0)
		return -1;
	*(int64_t *)s->member = value;
	return 0;
}

static int
set_size(const struct setter *s)
{
	return set_int64(s, config_parse_size);
}

static int
set_duration(const struct setter *s)
{
	return set_int64(s, config_parse_duration);
}

static int
set_string(const struct setter *s)
{
	*(const char **)s->member = s->words->list[0].text;
	return 0;
}

/* Words without quotes are a text whose quotes were forgotten, not lines. */
static int
set_lines(const struct setter *s)
{
	struct str text = STR_INIT;

	for (size_t i = 0; i < s->words->count; i++) {
		const struct config_word *word = &s->words->list[i];

		if (s->words->count > 1 && word->kind != CONFIG_WORD_QUOTED) {
			config_error(s->conf, &word->place, "%s: \"%s\": a text of several words, and each line of it, stands in quotes",
				s->option->name, word->text);
			str_deinit(&text);
			return -1;
		}
		str_printf(&text, "%s%s", i > 0 ? "\n" : "", word->text);
	}
	*(const char **)s->member = arena_strndup(s->conf->arena, str_text(&text), text.len);
	str_deinit(&text);
	return 0;
}

static int
set_words(const struct setter *s)
{
	*(struct config_words *)s->member = *s->words;
	return 0;
}

static void
add_choices(struct str *out, const char *const *choices, const char *between)
{
	size_t i;

	for (i = 0; choices[i] != NULL; i++)
		str_printf(out, "%s%s", i != 0 ? between : "", choices[i]);
}

static int
set_enum(const struct setter *s)
{
	const struct config_word *word = &s->words->list[0];
	const char *const *choices = s->option->choices, *meant;
	struct str list = STR_INIT;
	int i;

	for (i = 0; choices[i] != NULL; i++) {
		if (strcmp(word->text, choices[i]) == 0) {
			*(int *)s->member = i;
			return 0;
		}
	}
	add_choices(&list, choices, " ");
	meant = config_did_you_mean(word->text, choices);
	if (choices[1] == NULL)
		fail(s, word, "\"%s\" is not possible, only %s is", word->text, choices[0]);
	else if (meant != NULL)
		fail(s, word, "\"%s\" is not one of: %s (did you mean \"%s\"?)", word->text,
			str_text(&list), meant);
	else
		fail(s, word, "\"%s\" is not one of: %s", word->text, str_text(&list));
	str_deinit(&list);
	return -1;
}

static int
set_endpoints(const struct setter *s)
{
	struct config_endpoints eps = {.count = s->words->count};
	struct err err;
	size_t i;
	int rc = 0;

	eps.list = arena_zalloc(s->conf->arena, eps.count * sizeof(*eps.list));
	eps.places = arena_zalloc(s->conf->arena, eps.count * sizeof(*eps.places));
	for (i = 0; i < eps.count; i++) {
		const struct config_word *word = &s->words->list[i];

		eps.places[i] = word->place;
		if (ip_endpoint_parse(word->text, &eps.list[i], &err) < 0)
			rc = fail(s, word, "%s", err.text);
	}
	if (rc == 0)
		*(struct config_endpoints *)s->member = eps;
	return rc;
}

static int
set_nets(const struct setter *s)
{
	struct config_nets nets = {.count = 0};
	struct err err;
	size_t i;
	int rc = 0;

	nets.list = arena_zalloc(s->conf->arena, s->words->count * sizeof(*nets.list));
	for (i = 0; i < s->words->count; i++) {
		const struct config_word *word = &s->words->list[i];

		if (strcmp(word->text, "any") == 0)
			nets.any = true;
		else if (ip_net_parse(word->text, &nets.list[nets.count], &err) < 0)
			rc = fail(s, word, "%s", err.text);
		else
			nets.count++;
	}
	if (rc == 0)
		*(struct config_nets *)s->member = nets;
	return rc;
}

static int
set_ref(const struct setter *s)
{
	const struct config_word *word = &s->words->list[0];

	*(struct config_ref *)s->member = (struct config_ref){
		.name = word->text,
		.place = word->place,
	};
	return 0;
}

static const struct type {
	int (*set)(const struct setter *);
	bool many;          /* takes more than one word */
	const char *syntax; /* for the manual */
	const char *sample; /* when there is no default to show */
} types[] = {
	[CONFIG_T_BOOL] = {set_bool, false, "yes | no", "yes"},
	[CONFIG_T_INT] = {set_int, false, "NUMBER", "10"},
	[CONFIG_T_SIZE] = {set_size, false, "SIZE", "50M"},
	[CONFIG_T_DURATION] = {set_duration, false, "DURATION", "30s"},
	[CONFIG_T_STRING] = {set_string, false, "WORD", "WORD"},
	[CONFIG_T_LINES] = {set_lines, true, "TEXT ...", "WORD"},
	[CONFIG_T_WORDS] = {set_words, true, "WORD ...", "WORD"},
	[CONFIG_T_ENUM] = {set_enum, false, NULL, NULL},
	[CONFIG_T_ENDPOINTS] = {set_endpoints, true, "ADDRESS ...", "127.0.0.1:10025"},
	[CONFIG_T_NETS] = {set_nets, true, "any | NETWORK ...", "127.0.0.0/8"},
	[CONFIG_T_REF] = {set_ref, false, "NAME", "NAME"},
	[CONFIG_T_AUTO_INT] = {set_auto_int, false, "auto | NUMBER", "auto"},
};

void
config_value_sample(const struct config_option *option, struct str *out)
{
	if (option->def != NULL && *option->def != '\0' && option->type != CONFIG_T_BOOL)
		str_add(out, option->def);
	else if (option->type == CONFIG_T_ENUM)
		str_add(out, option->choices[0]);
	else if (option->min < option->max)
		add_value(out, option, option->min);
	else
		str_add(out, types[option->type].sample);
}

void
config_value_syntax(const struct config_option *option, struct str *out)
{
	if (option->type == CONFIG_T_ENUM)
		add_choices(out, option->choices, " | ");
	else
		str_add(out, types[option->type].syntax);
}

static int
too_many_words(const struct setter *s)
{
	const struct config_word *list = s->words->list;
	bool has_unit = s->option->type == CONFIG_T_DURATION || s->option->type == CONFIG_T_SIZE;
	struct str hint = STR_INIT;

	if (has_unit && strspn(list[0].text, "0123456789") == strlen(list[0].text) && strlen(list[1].text) <= 3)
		str_printf(&hint, " (no blank stands before a unit: try %s%s)", list[0].text, list[1].text);
	else if (strchr(list[0].text, '#') != NULL)
		str_add(&hint, " (a blank is missing in front of #)");
	else if (s->option->def != NULL && *s->option->def == '"')
		str_add(&hint, " (words that belong together stand in quotes)");
	config_error(s->conf, &list[1].place, "%s takes one value: unexpected \"%s\"%s", s->option->name, list[1].text,
		str_text(&hint));
	str_deinit(&hint);
	return -1;
}

static int
check_commas(const struct setter *s)
{
	bool has_many = s->option->type == CONFIG_T_ENDPOINTS || s->option->type == CONFIG_T_NETS;
	int rc = 0;

	for (size_t i = 0; i < s->words->count; i++) {
		const struct config_word *word = &s->words->list[i];
		struct str meant = STR_INIT;

		if (config_hint_commas(word, has_many, &meant))
			rc = fail(s, word, "\"%s\": blanks stand between values, not commas (try %s)", word->text,
				str_text(&meant));
		str_deinit(&meant);
	}
	return rc;
}

static int
check_words(const struct setter *s, const struct config_place *place)
{
	struct str sample = STR_INIT;
	size_t i;

	if (s->words->count == 0) {
		config_value_sample(s->option, &sample);
		config_error(s->conf, place, "%s needs a value (try %s %s)", s->option->name,
			s->option->name, str_text(&sample));
		str_deinit(&sample);
		return -1;
	}
	if (strcmp(s->words->list[0].text, "=") == 0 && s->words->count > 1) {
		config_error(s->conf, &s->words->list[0].place, "%s: no = is written here (try %s %s)",
			s->option->name, s->option->name, s->words->list[1].text);
		return -1;
	}
	if (s->words->count > 1 && !types[s->option->type].many)
		return too_many_words(s);
	if (check_commas(s) < 0)
		return -1;
	for (i = 0; i < s->words->count; i++) {
		if (s->words->list[i].kind == CONFIG_WORD_PATTERN &&
			s->option->type != CONFIG_T_WORDS)
			return fail(s, &s->words->list[i],
				"a pattern is not possible here (a path that ends in a slash "
				"stands in quotes)");
	}
	return 0;
}

int
config_value_set(struct config *conf, const struct config_option *option,
	const struct config_words *words, const struct config_place *place, void *data)
{
	struct setter s = {
		.conf = conf,
		.option = option,
		.words = words,
		.member = (char *)data + option->offset,
	};

	if (check_words(&s, place) < 0)
		return -1;
	return types[option->type].set(&s);
}
