/*
 * base/log_line.h - one log line from its parts, as text or as a JSON object. Private to the log.
 */
#ifndef BASE_LOG_LINE_H
#define BASE_LOG_LINE_H

#include <stdarg.h>
#include <stdint.h>

#include "base/log.h"
#include "base/str.h"

struct log_head {
	int64_t time_ms; /* wall clock */
	enum log_level level;
	const char *who;
	unsigned session;
	unsigned txn;
	const char *event;
};

/* Adds the line without its end. with_time: text begins with the time; JSON always has it. */
void log_line_add(struct str *out, enum log_format format, bool with_time,
	const struct log_head *head, const char *fmt, va_list ap)
	__attribute__((format(printf, 5, 0)));

#endif
