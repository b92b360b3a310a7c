/*
 * base/str.c - the growing string, and small questions about text.
 */
#include "base/str.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/xalloc.h"

#define SIZE_MIN     64
#define DISTANCE_MAX 63 /* longer words are never meant */

void
str_deinit(struct str *s)
{
	free(s->data);
	*s = (struct str)STR_INIT;
}

void
str_clear(struct str *s)
{
	s->len = 0;
	if (s->data != NULL)
		s->data[0] = '\0';
}

void
str_reserve(struct str *s, size_t more)
{
	size_t size = s->size != 0 ? s->size : SIZE_MIN;

	if (s->data != NULL && more < s->size - s->len)
		return;
	if (more > SIZE_MAX / 4)
		abort();
	while (size - s->len <= more)
		size *= 2;
	s->data = xrealloc(s->data, size);
	s->size = size;
	s->data[s->len] = '\0';
}

/* Most of the time there is room. */
static inline void
need(struct str *s, size_t more)
{
	if (s->data == NULL || more >= s->size - s->len)
		str_reserve(s, more);
}

void
str_add(struct str *s, const char *text)
{
	str_addn(s, text, strlen(text));
}

void
str_addn(struct str *s, const void *data, size_t len)
{
	need(s, len);
	if (len != 0)
		memcpy(s->data + s->len, data, len);
	s->len += len;
	s->data[s->len] = '\0';
}

void
str_addc(struct str *s, char c)
{
	need(s, 1);
	s->data[s->len++] = c;
	s->data[s->len] = '\0';
}

void
str_printf(struct str *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	str_vprintf(s, fmt, ap);
	va_end(ap);
}

void
str_vprintf(struct str *s, const char *fmt, va_list ap)
{
	va_list again;
	int len;

	str_reserve(s, SIZE_MIN);
	va_copy(again, ap);
	len = vsnprintf(s->data + s->len, s->size - s->len, fmt, ap);
	if (len < 0)
		abort();
	if ((size_t)len >= s->size - s->len) {
		str_reserve(s, (size_t)len);
		vsnprintf(s->data + s->len, s->size - s->len, fmt, again);
	}
	va_end(again);
	s->len += (size_t)len;
}

void
str_drop(struct str *s, size_t len)
{
	if (len >= s->len) {
		str_clear(s);
		return;
	}
	s->len -= len;
	memmove(s->data, s->data + len, s->len + 1);
}

const char *
str_text(const struct str *s)
{
	return s->data != NULL ? s->data : "";
}

/* RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
size_t
str_utf8_len(const char *text, size_t len)
{
	const unsigned char *s = (const unsigned char *)text;
	unsigned char low = 0x80, high = 0xbf;
	size_t want, i;

	if (len == 0)
		return 0;
	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	want = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	if (len < want)
		return 0;
	if (s[0] == 0xe0)
		low = 0xa0;
	else if (s[0] == 0xed)
		high = 0x9f;
	else if (s[0] == 0xf0)
		low = 0x90;
	else if (s[0] == 0xf4)
		high = 0x8f;
	if (s[1] < low || s[1] > high)
		return 0;
	for (i = 2; i < want; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	return want;
}

/* C1 controls drive terminals as C0 controls do. */
static bool
is_c1(const char *s, size_t len)
{
	return len == 2 && (unsigned char)s[0] == 0xc2 && (unsigned char)s[1] < 0xa0;
}

size_t
str_clean(char *dst, size_t max, const char *src, size_t len, bool utf8)
{
	size_t in = 0, out = 0, n;

	while (in < len && out < max) {
		unsigned char c = (unsigned char)src[in];

		if (c < 0x7f) {
			dst[out++] = c < ' ' ? ' ' : (char)c;
			in++;
			continue;
		}
		n = utf8 && c > 0x7f ? str_utf8_len(src + in, len - in) : 0;
		if (n == 0 || is_c1(src + in, n)) {
			dst[out++] = '?';
			in += n != 0 ? n : 1;
			continue;
		}
		if (n > max - out)
			break;
		memcpy(dst + out, src + in, n);
		in += n;
		out += n;
	}
	dst[out] = '\0';
	return out;
}

bool
str_is_printable(const char *text)
{
	while (*text >= ' ' && *text < 127)
		text++;
	return *text == '\0';
}

bool
str_caseeq(const char *a, const char *b)
{
	return strcasecmp(a, b) == 0;
}

static unsigned
least(unsigned a, unsigned b, unsigned c)
{
	if (b < a)
		a = b;
	return c < a ? c : a;
}

/* Optimal string alignment: a swap of two neighbours counts one. */
unsigned
str_distance(const char *a, const char *b)
{
	unsigned rows[3][DISTANCE_MAX + 1];
	unsigned *before = rows[0], *last = rows[1], *row = rows[2], *tmp;
	size_t alen = strlen(a), blen = strlen(b), i, j;

	if (alen > DISTANCE_MAX || blen > DISTANCE_MAX)
		return (unsigned)-1;
	memset(rows, 0, sizeof(rows));
	for (j = 0; j <= blen; j++)
		row[j] = (unsigned)j;
	for (i = 1; i <= alen; i++) {
		tmp = before, before = last, last = row, row = tmp;
		row[0] = (unsigned)i;
		for (j = 1; j <= blen; j++) {
			unsigned cost = a[i - 1] != b[j - 1];

			row[j] = least(last[j] + 1, row[j - 1] + 1, last[j - 1] + cost);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
				before[j - 2] + 1 < row[j])
				row[j] = before[j - 2] + 1;
		}
	}
	return row[blen];
}
