/*
 * base/log_line.c - walks a "key=%spec key=%spec" format and writes the line in either form.
 */
#include "base/log_line.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

const char *const log_level_names[] = {"error", "warn", "info", "debug", NULL};

/* One conversion of the format, and what it became. */
struct spec {
	bool zero;
	int width;
	int precision; /* -1: none */
	char length;   /* 'H' for hh, 'L' for ll */
	char conv;
};

enum value_kind {
	VALUE_STRING,
	VALUE_NUMBER,
	VALUE_ABSENT, /* a NULL string: the key is left out */
};

/* A value as composed from its template. */
struct value {
	enum value_kind kind;
	struct str text;
};

/* The va_list travels in a struct, since an array type would decay differently by platform. */
struct args {
	va_list ap;
};

static void
add_time(struct str *out, int64_t ms)
{
	static _Thread_local time_t last = -1;
	static _Thread_local char date[32], zone[8];
	time_t now = (time_t)(ms / 1000);
	struct tm tm;

	if (now != last) {
		localtime_r(&now, &tm);
		strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
		strftime(zone, sizeof(zone), "%z", &tm); /* +0200 */
		last = now;
	}
	str_printf(out, "%s.%03d%.3s:%s", date, (int)(ms % 1000), zone, zone + 3);
}

static void
add_json_string(struct str *out, const char *s, size_t len)
{
	size_t n;

	str_addc(out, '"');
	for (; len != 0; s += n, len -= n) {
		unsigned char c = (unsigned char)*s;

		n = str_utf8_len(s, len);
		if (n == 0) {
			str_add(out, "\xef\xbf\xbd"); /* U+FFFD */
			n = 1;
		} else if (c < ' ' || c == 0x7f) {
			str_printf(out, "\\u%04x", c);
		} else {
			if (c == '"' || c == '\\')
				str_addc(out, '\\');
			str_addn(out, s, n);
		}
	}
	str_addc(out, '"');
}

/* Bytes that are no UTF-8 and C1 controls are as good as control characters: \xNN. */
static void
add_text_char(struct str *out, const char *s, size_t n, size_t len)
{
	size_t i;

	if (len != 0 && (unsigned char)*s >= ' ' && *s != 0x7f &&
		!(len == 2 && (unsigned char)s[0] == 0xc2 && (unsigned char)s[1] < 0xa0)) {
		str_addn(out, s, n);
		return;
	}
	for (i = 0; i < n; i++)
		str_printf(out, "\\x%02x", (unsigned char)s[i]);
}

static void
add_text_string(struct str *out, const char *s, size_t len)
{
	bool quoted = len == 0 || memchr(s, ' ', len) != NULL || memchr(s, '"', len) != NULL ||
		      memchr(s, '\\', len) != NULL;
	size_t n, valid;

	if (quoted)
		str_addc(out, '"');
	for (; len != 0; s += n, len -= n) {
		valid = str_utf8_len(s, len);
		n = valid != 0 ? valid : 1;
		if (*s == '"' || *s == '\\')
			str_addc(out, '\\');
		add_text_char(out, s, n, valid);
	}
	if (quoted)
		str_addc(out, '"');
}

/* Parses what stands behind a '%'; the format is the programmer's, so mistakes are assertions. */
static const char *
spec_parse(const char *s, struct spec *spec, struct args *args)
{
	*spec = (struct spec){.precision = -1};
	if (*s == '0') {
		spec->zero = true;
		s++;
	}
	for (; *s >= '0' && *s <= '9'; s++)
		spec->width = spec->width * 10 + (*s - '0');
	if (*s == '.') {
		s++;
		spec->precision = 0;
		if (*s == '*') {
			spec->precision = va_arg(args->ap, int);
			s++;
		}
		for (; *s >= '0' && *s <= '9'; s++)
			spec->precision = spec->precision * 10 + (*s - '0');
	}
	if (*s != '\0' && strchr("hlzjt", *s) != NULL) {
		spec->length = *s++;
		if (*s == spec->length && (*s == 'l' || *s == 'h'))
			spec->length = *s++ == 'l' ? 'L' : 'H';
	}
	spec->conv = *s;
	assert(*s != '\0' && strchr("sdiuxXc%", *s) != NULL);
	return s + 1;
}

static intmax_t
signed_arg(const struct spec *spec, struct args *args)
{
	switch (spec->length) {
	case 'l':
		return va_arg(args->ap, long);
	case 'L':
		return va_arg(args->ap, long long);
	case 'z':
		return va_arg(args->ap, ssize_t);
	case 'j':
		return va_arg(args->ap, intmax_t);
	case 't':
		return va_arg(args->ap, ptrdiff_t);
	default:
		return va_arg(args->ap, int);
	}
}

static uintmax_t
unsigned_arg(const struct spec *spec, struct args *args)
{
	switch (spec->length) {
	case 'l':
		return va_arg(args->ap, unsigned long);
	case 'L':
		return va_arg(args->ap, unsigned long long);
	case 'z':
		return va_arg(args->ap, size_t);
	case 'j':
		return va_arg(args->ap, uintmax_t);
	case 't':
		return (uintmax_t)va_arg(args->ap, ptrdiff_t);
	case 'h':
		return (unsigned short)va_arg(args->ap, unsigned);
	case 'H':
		return (unsigned char)va_arg(args->ap, unsigned);
	default:
		return va_arg(args->ap, unsigned);
	}
}

static void
add_number(struct str *out, uintmax_t value, unsigned radix, bool negative, const struct spec *spec)
{
	char digits[3 * sizeof(value)], *s = digits + sizeof(digits);
	int len;

	do
		*--s = "0123456789abcdef"[value % radix];
	while ((value /= radix) != 0);
	if (negative)
		str_addc(out, '-');
	len = (int)(digits + sizeof(digits) - s);
	for (; spec->zero && len + negative < spec->width; len++)
		str_addc(out, '0');
	str_addn(out, s, (size_t)(digits + sizeof(digits) - s));
}

static void
add_string_arg(struct value *v, const struct spec *spec, struct args *args)
{
	const char *s = va_arg(args->ap, const char *);

	if (s == NULL)
		v->kind = VALUE_ABSENT;
	else if (spec->precision >= 0)
		str_addn(&v->text, s, strnlen(s, (size_t)spec->precision));
	else
		str_add(&v->text, s);
}

/* Adds one argument. Returns whether it reads as a JSON number when it stands alone. */
static bool
value_add_arg(struct value *v, const struct spec *spec, struct args *args)
{
	intmax_t number;

	switch (spec->conv) {
	case 's':
		add_string_arg(v, spec, args);
		return false;
	case 'c':
		str_addc(&v->text, (char)va_arg(args->ap, int));
		return false;
	case '%':
		str_addc(&v->text, '%');
		return false;
	case 'd':
	case 'i':
		number = signed_arg(spec, args);
		add_number(&v->text, number < 0 ? 0 - (uintmax_t)number : (uintmax_t)number, 10,
			number < 0, spec);
		return !spec->zero;
	case 'u':
		add_number(&v->text, unsigned_arg(spec, args), 10, false, spec);
		return !spec->zero;
	default:
		add_number(&v->text, unsigned_arg(spec, args), 16, false, spec);
		return false;
	}
}

/* Composes the value whose template begins at s. Returns where the template ends. */
static const char *
value_compose(struct value *v, const char *s, struct args *args)
{
	const char *begin = s;
	struct spec spec;

	v->kind = VALUE_STRING;
	str_clear(&v->text);
	while (*s != '\0' && *s != ' ') {
		if (*s != '%') {
			str_addc(&v->text, *s++);
			continue;
		}
		bool is_first = s == begin;

		s = spec_parse(s + 1, &spec, args);
		if (value_add_arg(v, &spec, args) && is_first && (*s == '\0' || *s == ' '))
			v->kind = VALUE_NUMBER;
	}
	return s;
}

static void
add_pair(struct str *out, enum log_format format, const char *key, size_t key_len,
	const struct value *v)
{
	const char *text = str_text(&v->text);

	if (v->kind == VALUE_ABSENT)
		return;
	if (format == LOG_FORMAT_JSON) {
		str_addc(out, ',');
		add_json_string(out, key, key_len);
		str_addc(out, ':');
		if (v->kind == VALUE_NUMBER)
			str_addn(out, text, v->text.len);
		else
			add_json_string(out, text, v->text.len);
		return;
	}
	str_addc(out, ' ');
	str_addn(out, key, key_len);
	str_addc(out, '=');
	if (v->kind == VALUE_NUMBER)
		str_addn(out, text, v->text.len);
	else
		add_text_string(out, text, v->text.len);
}

static void
add_head_text(struct str *out, bool with_time, const struct log_head *head)
{
	if (with_time) {
		add_time(out, head->time_ms);
		str_addc(out, ' ');
	}
	str_add(out, log_level_names[head->level]);
	str_addc(out, ' ');
	str_add(out, head->who);
	if (head->session != 0)
		str_printf(out, " s=%06x", head->session);
	if (head->txn != 0)
		str_printf(out, " t=%u", head->txn);
	str_addc(out, ' ');
	str_add(out, head->event);
}

static void
add_head_json(struct str *out, const struct log_head *head)
{
	str_add(out, "{\"time\":\"");
	add_time(out, head->time_ms);
	str_printf(out, "\",\"level\":\"%s\",\"who\":", log_level_names[head->level]);
	add_json_string(out, head->who, strlen(head->who));
	if (head->session != 0)
		str_printf(out, ",\"session\":\"%06x\"", head->session);
	if (head->txn != 0)
		str_printf(out, ",\"txn\":%u", head->txn);
	str_add(out, ",\"event\":");
	add_json_string(out, head->event, strlen(head->event));
}

void
log_line_add(struct str *out, enum log_format format, bool with_time, const struct log_head *head,
	const char *fmt, va_list ap)
{
	struct value v = {VALUE_STRING, STR_INIT};
	struct args args;
	const char *s = fmt, *equals;

	va_copy(args.ap, ap);
	if (format == LOG_FORMAT_JSON)
		add_head_json(out, head);
	else
		add_head_text(out, with_time, head);
	while (*s != '\0') {
		equals = strchr(s, '=');
		assert(equals != NULL && equals != s);
		const char *key = s;

		s = value_compose(&v, equals + 1, &args);
		add_pair(out, format, key, (size_t)(equals - key), &v);
		if (*s == ' ')
			s++;
	}
	if (format == LOG_FORMAT_JSON)
		str_addc(out, '}');
	va_end(args.ap);
	str_deinit(&v.text);
}
