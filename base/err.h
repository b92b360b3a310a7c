/*
 * base/err.h - text and kind of a failure.
 *
 * Functions that can fail return 0 or -1 and fill the struct err given as their last parameter.
 * All setters return -1, so failing is one statement. Text is one clean line without its end.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdbool.h>

struct err {
	bool temporary;	     /* trying again may help */
	const char *outside; /* what the other side may hear of it, a static text; NULL: nothing */
	char text[500];
};

int err_set(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int err_set_temp(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Adds ": " and the words for errno. What the system refuses is our trouble: temporary. */
int err_sys(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Puts context and ": " in front of what is there. */
int err_prefix(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
