/*
 * filters/clamd_limits.h - what clamd's own configuration says of messages as large as ours may be. clamd has no command
 * that tells.
 */
#ifndef FILTERS_CLAMD_LIMITS_H
#define FILTERS_CLAMD_LIMITS_H

#include <stdbool.h>

#include "base/err.h"
#include "filters/filter.h"

struct clamd_limits {
	int64_t stream_max, file_max, scan_max; /* octets; 0: no limit */
	bool alerts_exceeded, alerts_encrypted;
};

/* Of clamd.conf's text; what does not stand there is as clamd 1.0 has it. */
void clamd_limits_parse(const char *text, size_t len, struct clamd_limits *limits_r);
/* Reads the file; blocking. */
int clamd_limits_read(const char *path, struct clamd_limits *limits_r, struct err *err);
/* size_max 0: messages may have any size. is_stream: they are sent, not given as files. */
void clamd_limits_compare(const struct clamd_limits *limits, const char *path, int64_t size_max, bool is_stream,
	filter_warn_fn warn, void *owner);

#endif
