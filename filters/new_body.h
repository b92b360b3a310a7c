/*
 * filters/new_body.h - content that a filter puts in the place of a message's: spooled as a message is, in memory
 * first, then in an unnamed file.
 *
 * What is written may have any line ends: LF and CR LF end a line, a CR elsewhere becomes one space, so that it can be passed on
 * (doc/architecture.md, end of data). Nothing is seen by anybody before the run's verdict is valid.
 */
#ifndef FILTERS_NEW_BODY_H
#define FILTERS_NEW_BODY_H

#include "filters/filter.h"

enum new_body_kind {
	NEW_BODY,    /* what stands behind the header's empty line: MAIL_EDIT_BODY */
	NEW_MESSAGE, /* header and body: MAIL_EDIT_MESSAGE */
};

struct new_body;

/* One per run at a time. max: octets; more is a failure, said by new_body_end(). */
struct new_body *new_body_begin(struct filter_run *run, enum new_body_kind kind, int64_t max);
void new_body_write(struct new_body *b, const char *data, size_t len);
/* Makes it an edit of the run. 0, or -1: it could not be spooled, or is too large; then there is no edit. */
int new_body_end(struct new_body **b, struct err *err);
/* It is not wanted. Accepts NULL. Also done for all that a message left when its transaction ends. */
void new_body_cancel(struct new_body **b);

#endif
