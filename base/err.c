/*
 * base/err.c - filling a struct err.
 */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

/* Formats first and copies then: the arguments may point into err->text. */
__attribute__((format(printf, 4, 0))) static void
fill(struct err *err, const char *outside, const char *tail, const char *fmt, va_list ap)
{
	char text[sizeof(err->text) * 2];
	size_t len;

	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		text[0] = '\0';
	len = strlen(text);
	if (tail != NULL)
		snprintf(text + len, sizeof(text) - len, ": %s", tail);
	str_clean(err->text, sizeof(err->text) - 1, text, strlen(text), true);
	err->outside = outside;
}

int
err_set(struct err *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fill(err, NULL, NULL, fmt, ap);
	va_end(ap);
	err->temporary = false;
	return -1;
}

int
err_set_temp(struct err *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fill(err, NULL, NULL, fmt, ap);
	va_end(ap);
	err->temporary = true;
	return -1;
}

int
err_sys(struct err *err, const char *fmt, ...)
{
	char words[128];
	const char *text = strerror_r(errno, words, sizeof(words));
	va_list ap;

	va_start(ap, fmt);
	fill(err, NULL, text, fmt, ap);
	va_end(ap);
	err->temporary = true;
	return -1;
}

int
err_prefix(struct err *err, const char *fmt, ...)
{
	char old[sizeof(err->text)];
	va_list ap;

	memcpy(old, err->text, sizeof(old));
	va_start(ap, fmt);
	fill(err, err->outside, old, fmt, ap);
	va_end(ap);
	return -1;
}
