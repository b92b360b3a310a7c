/*
 * base/log_pairs.h - the keys and values of one line, in the form they will have. Private to the log.
 *
 * Values are bounded here, whatever a caller gives: LOG_VALUE_MAX octets each, and by
 * log_pairs_fit() as many as a whole line may have.
 */
#ifndef BASE_LOG_PAIRS_H
#define BASE_LOG_PAIRS_H

#include <stdarg.h>

#include "base/log.h"
#include "base/str.h"

#define LOG_VALUE_MAX 500 /* octets of one value; what is longer ends in "..." */
#define LOG_PAIRS_MAX 40  /* values of one line that can be shortened */

/* The third form is not for the eye: the fields of the journal, with the text form as its message. */
enum { LOG_FORMAT_JOURNAL = LOG_FORMAT_JSON + 1 };

struct log_pairs {
	int format;
	struct str text;    /* ` key=value`, `,"key":"value"`, or fields `POSTERN_KEY=value\n` */
	struct str message; /* of the journal: the text form */
	struct log_value {
		unsigned begin, len; /* of the encoded value, in text */
	} values[LOG_PAIRS_MAX];
	unsigned count;
};

void log_pairs_begin(struct log_pairs *p, int format);
void log_pairs_copy(struct log_pairs *dst, const struct log_pairs *src);
void log_pairs_deinit(struct log_pairs *p);

void log_pairs_string(struct log_pairs *p, const char *key, size_t key_len, const char *s, size_t len);
/* The digits of a number, or anything else that needs no quotes in any form. */
void log_pairs_number(struct log_pairs *p, const char *key, size_t key_len, const char *s, size_t len);
void log_pairs_int(struct log_pairs *p, const char *key, intmax_t n);
/* All of "key=%spec key=%spec" (see base/log.h). */
void log_pairs_format(struct log_pairs *p, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

/* Shortens the longest values until the text has at most max octets: no key is lost. */
void log_pairs_fit(struct log_pairs *p, size_t max);

/* A string as it stands in a JSON object, with its quotes. */
void log_json_string(struct str *out, const char *s, size_t len);
/* A number in decimal or hexadecimal, with zeros up to the width. */
void log_number(struct str *out, uintmax_t value, unsigned radix, int width);
/* A field of the journal: "NAME=value\n", or where the value has line ends with its length. */
void log_journal_field(struct str *out, const char *name, const char *value, size_t len);

#endif
