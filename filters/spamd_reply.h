/*
 * filters/spamd_reply.h - the head of spamd's answer: its result, the score, and how much follows. Pure, fuzzed.
 */
#ifndef FILTERS_SPAMD_REPLY_H
#define FILTERS_SPAMD_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* Longer heads are none. */
#define SPAMD_HEAD_MAX 4096

struct spamd_reply {
	bool is_spam; /* in its own view */
	double score, threshold;
	char score_text[16], threshold_text[16]; /* as it wrote them */
	int64_t length; /* of what follows; -1: not said */
};

/* Octets of the head, up to and with its empty line; 0: it is not complete; -1: it is none, or says that the message was
 * not looked at. */
ssize_t spamd_reply_parse(const char *data, size_t len, struct spamd_reply *reply_r, struct err *err);

/* A number as SpamAssassin writes them: "-1.5". Also for the configuration. */
bool spamd_number(const char *text, size_t len, double *number_r);

#endif
