/*
 * base/str.h - a growing string, always NUL-terminated once something was added.
 *
 * `struct str s = STR_INIT;` needs no init call; str_deinit() frees and clears it.
 * The bytes may contain NUL: len counts.
 */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct str {
	char *data; /* NULL while nothing was added */
	size_t len;
	size_t size; /* allocated */
};
#define STR_INIT { NULL, 0, 0 }

void str_deinit(struct str *s);
/* Keeps the memory. */
void str_clear(struct str *s);
void str_reserve(struct str *s, size_t more);
void str_add(struct str *s, const char *text);
void str_addn(struct str *s, const void *data, size_t len);
void str_addc(struct str *s, char c);
void str_printf(struct str *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void str_vprintf(struct str *s, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* Removes the first len bytes. */
void str_drop(struct str *s, size_t len);
/* The text, "" when empty. */
const char *str_text(const struct str *s);

/* The length of the well-formed UTF-8 sequence that text begins with; 0 if there is none. */
size_t str_utf8_len(const char *text, size_t len);
/*
 * Text from outside made fit for one line of a reply, header or log: control characters and line
 * ends become a space, bytes over 126 become '?' unless utf8 is set (then only what is not UTF-8
 * does), at most max bytes. dst has room for max + 1. Returns the length.
 */
size_t str_clean(char *dst, size_t max, const char *src, size_t len, bool utf8);

/* Printable ASCII and blanks alone; "" is. */
bool str_is_printable(const char *text);
bool str_caseeq(const char *a, const char *b);
/* How different two words are (Damerau-Levenshtein); for "did you mean". */
unsigned str_distance(const char *a, const char *b);

#endif
