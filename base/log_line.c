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
add_number(struct str *out, uintmax_t value, unsigned radix, int width)
{
	char digits[3 * sizeof(value)], *s = digits + sizeof(digits);

	do
		*--s = "0123456789abcdef"[value % radix];
	while ((value /= radix) != 0);
	while (digits + sizeof(digits) - s < width && s > digits)
		*--s = '0';
	str_addn(out, s, (size_t)(digits + sizeof(digits) - s));
}

static void
add_time(struct str *out, int64_t ms)
{
	static _Thread_local time_t last = -1;
	static _Thread_local char date[32], zone[8];
	time_t now = (time_t)(ms / 1000);
	struct tm tm;

	if (now != last) {
		localtime_r(&now, &tm);
		strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S.", &tm);
		strftime(zone, sizeof(zone), "%z", &tm); /* +0200 */
		memmove(zone + 4, zone + 3, 3);
		zone[3] = ':';
		last = now;
	}
	str_add(out, date);
	add_number(out, (uintmax_t)(ms % 1000), 10, 3);
	str_add(out, zone);
}

/* How many octets at s stand for themselves in either form, quoted or not. */
static size_t
plain_len(const char *s, size_t len)
{
	size_t n = 0;

	while (n < len && (unsigned char)s[n] > ' ' && (unsigned char)s[n] < 0x7f && s[n] != '"' &&
		s[n] != '\\')
		n++;
	return n;
}

static size_t
add_json_char(struct str *out, const char *s, size_t len)
{
	size_t n = str_utf8_len(s, len);
	unsigned char c = (unsigned char)*s;

	if (n == 0) {
		str_add(out, "\xef\xbf\xbd"); /* U+FFFD */
		return 1;
	}
	if (c < ' ' || c == 0x7f) {
		str_printf(out, "\\u%04x", c);
		return 1;
	}
	if (c == '"' || c == '\\')
		str_addc(out, '\\');
	str_addn(out, s, n);
	return n;
}

static void
add_json_string(struct str *out, const char *s, size_t len)
{
	size_t n;

	str_addc(out, '"');
	for (; len != 0; s += n, len -= n) {
		n = plain_len(s, len);
		if (n != 0)
			str_addn(out, s, n);
		else
			n = add_json_char(out, s, len);
	}
	str_addc(out, '"');
}

/* Bytes that are no UTF-8 and C1 controls are as good as control characters: \xNN. */
static size_t
add_text_char(struct str *out, const char *s, size_t len)
{
	size_t i, valid = str_utf8_len(s, len), n = valid != 0 ? valid : 1;
	bool is_c1 = valid == 2 && (unsigned char)s[0] == 0xc2 && (unsigned char)s[1] < 0xa0;

	if (valid == 0 || is_c1 || (unsigned char)*s < ' ' || *s == 0x7f) {
		for (i = 0; i < n; i++)
			str_printf(out, "\\x%02x", (unsigned char)s[i]);
		return n;
	}
	if (*s == '"' || *s == '\\')
		str_addc(out, '\\');
	str_addn(out, s, n);
	return n;
}

static void
add_text_string(struct str *out, const char *s, size_t len)
{
	size_t n = plain_len(s, len);
	bool quoted;

	if (n == len && len != 0) {
		str_addn(out, s, len);
		return;
	}
	quoted = len == 0 || memchr(s, ' ', len) != NULL || memchr(s, '"', len) != NULL ||
		 memchr(s, '\\', len) != NULL;
	if (quoted)
		str_addc(out, '"');
	for (; len != 0; s += n, len -= n) {
		n = plain_len(s, len);
		if (n != 0)
			str_addn(out, s, n);
		else
			n = add_text_char(out, s, len);
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
		if (spec->length == 'j' && number == LOG_NONE) {
			v->kind = VALUE_ABSENT;
			return false;
		}
		if (number < 0)
			str_addc(&v->text, '-');
		add_number(&v->text, number < 0 ? 0 - (uintmax_t)number : (uintmax_t)number, 10,
			spec->zero ? spec->width - (number < 0) : 0);
		return !spec->zero;
	case 'u':
		add_number(&v->text, unsigned_arg(spec, args), 10, spec->zero ? spec->width : 0);
		return !spec->zero;
	default:
		add_number(&v->text, unsigned_arg(spec, args), 16, spec->zero ? spec->width : 0);
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
	if (head->session != 0) {
		str_add(out, " s=");
		add_number(out, head->session, 16, 6);
	}
	if (head->txn != 0) {
		str_add(out, " t=");
		add_number(out, head->txn, 10, 0);
	}
	str_addc(out, ' ');
	str_add(out, head->event);
}

static void
add_head_json(struct str *out, const struct log_head *head)
{
	str_add(out, "{\"time\":\"");
	add_time(out, head->time_ms);
	str_add(out, "\",\"level\":\"");
	str_add(out, log_level_names[head->level]);
	str_add(out, "\",\"who\":");
	add_json_string(out, head->who, strlen(head->who));
	if (head->session != 0) {
		str_add(out, ",\"session\":\"");
		add_number(out, head->session, 16, 6);
		str_addc(out, '"');
	}
	if (head->txn != 0) {
		str_add(out, ",\"txn\":");
		add_number(out, head->txn, 10, 0);
	}
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
