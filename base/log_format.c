/*
 * base/log_format.c - walks a "key=%spec key=%spec" format and makes its keys and values.
 */
#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <sys/types.h>

#include "base/log_pairs.h"

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
		log_number(&v->text, number < 0 ? 0 - (uintmax_t)number : (uintmax_t)number, 10,
			spec->zero ? spec->width - (number < 0) : 0);
		return !spec->zero;
	case 'u':
		log_number(&v->text, unsigned_arg(spec, args), 10, spec->zero ? spec->width : 0);
		return !spec->zero;
	default:
		log_number(&v->text, unsigned_arg(spec, args), 16, spec->zero ? spec->width : 0);
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

/* The commonest template, "%s", needs no copy. */
static bool
is_lone_string(const char *s)
{
	return s[0] == '%' && s[1] == 's' && (s[2] == ' ' || s[2] == '\0');
}

void
log_pairs_format(struct log_pairs *p, const char *fmt, va_list ap)
{
	struct value v = {VALUE_STRING, STR_INIT};
	struct args args;
	const char *s = fmt, *equals, *text;

	va_copy(args.ap, ap);
	while (*s != '\0') {
		equals = strchr(s, '=');
		assert(equals != NULL && equals != s);
		const char *key = s;
		size_t key_len = (size_t)(equals - key);

		if (is_lone_string(equals + 1)) {
			text = va_arg(args.ap, const char *);
			if (text != NULL)
				log_pairs_string(p, key, key_len, text, strlen(text));
			s = equals + 3;
		} else {
			s = value_compose(&v, equals + 1, &args);
			if (v.kind == VALUE_NUMBER)
				log_pairs_number(p, key, key_len, str_text(&v.text), v.text.len);
			else if (v.kind == VALUE_STRING)
				log_pairs_string(p, key, key_len, str_text(&v.text), v.text.len);
		}
		if (*s == ' ')
			s++;
	}
	va_end(args.ap);
	str_deinit(&v.text);
}
