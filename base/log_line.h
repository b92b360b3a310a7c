/*
 * base/log_line.h - one log line: its head, and behind it keys and values. Private to the log.
 */
#ifndef BASE_LOG_LINE_H
#define BASE_LOG_LINE_H

#include <stdint.h>

#include "base/log.h"
#include "base/log_pairs.h"
#include "base/str.h"

struct log_head {
	unsigned form;	 /* of the log's: see log.c */
	int64_t time_ms; /* wall clock */
	enum log_level level;
	int facility; /* of the journal */
	const char *who;
	unsigned session;
	unsigned txn;
	const char *event;
};

/*
 * Adds the line in the form of the pairs, with its end. with_time: text begins with the time (JSON
 * always has it). max: values are shortened until the line has no more octets; 0: it may be long.
 */
void log_line_add(struct str *out, const struct log_head *head, bool with_time, struct log_pairs *pairs, size_t max);

#endif
