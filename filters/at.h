/*
 * filters/at.h - the option `at` of kinds that can speak at any stage: which of them an instance does.
 */
#ifndef FILTERS_AT_H
#define FILTERS_AT_H

#include "filters/filter.h"

/* A member of a kind's conf. */
struct filter_at {
	struct config_words words;
	unsigned stages; /* one bit per enum filter_stage; filled by filter_at_read() */
};

#define FILTER_AT_OPTION(st_, m_, def_)                                                            \
	CONFIG_WORDS("at", st_, m_.words, def_,                                                    \
		"when it speaks: connect, helo, mail and rcpt where it stands in the gate of a "   \
		"listener, message where it stands in a chain")

/* For setup(). */
int filter_at_read(struct filter_at *at, struct err *err);

#endif
