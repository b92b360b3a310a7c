/*
 * filters/clamd_reply.h - what clamd says of a message, held against the few forms that it may have.
 *
 * Clean is one exact form, and so is a find; whatever else it says, it did not look at the message.
 */
#ifndef FILTERS_CLAMD_REPLY_H
#define FILTERS_CLAMD_REPLY_H

#include <stdbool.h>
#include <stddef.h>

/* Longer ones are none. */
#define CLAMD_REPLY_MAX 2048
#define CLAMD_TEXT_MAX	300

enum clamd_said {
	CLAMD_CLEAN,
	CLAMD_INFECTED,	 /* text is the name of what it found */
	CLAMD_TOO_LARGE, /* for what it may take by INSTREAM */
	CLAMD_WRONG,	 /* text is what it said */
};

struct clamd_reply {
	enum clamd_said said;
	bool is_ours; /* it has the number of our command */
	char text[CLAMD_TEXT_MAX + 1]; /* clean */
};

/* line: without its NUL. id: the command's number in its session, 0: there is no session. is_fildes: else INSTREAM. */
void clamd_reply_parse(const char *line, size_t len, unsigned id, bool is_fildes, struct clamd_reply *reply_r);

#endif
