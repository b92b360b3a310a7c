/*
 * filters/reason.h - the line that a program printed for the client: "550 5.7.1 no such thing", or words alone. Pure,
 * fuzzed.
 */
#ifndef FILTERS_REASON_H
#define FILTERS_REASON_H

#include <stdbool.h>
#include <stddef.h>

#include "filters/answer.h"

#define REASON_MAX 400

struct reason {
	int code;	 /* 200 to 599; 0: it begins with none */
	char status[12]; /* fits the code; "" likewise */
	char text[FILTER_TEXT_SIZE]; /* clean, without both; may be ""; of JSON it may have lines */
};

/* The first or last line of output that is not blank, or what stands between << and >> somewhere in it (scripts of
 * E-MailRelay print that). False: there is none. */
bool reason_first(const char *output, size_t len, struct reason *r);
bool reason_last(const char *output, size_t len, struct reason *r);
/* The last line alone: where its code is a verdict, what stands in the others may be repeated from the message. */
bool reason_last_line(const char *output, size_t len, struct reason *r);
void reason_parse(const char *line, size_t len, struct reason *r);

/* A verdict with this reason. Code and status count where they fit the verdict; the text of a discard, a pass or an
 * accept is for nobody. */
enum filter_step reason_answer(struct filter_run *run, enum verdict_kind kind, const struct reason *r);
/* What its code says by itself: 2xx is pass. VERDICT_COUNT: it has no code. */
enum verdict_kind reason_verdict(const struct reason *r);

#endif
