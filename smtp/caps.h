/*
 * smtp/caps.h - EHLO words, ours and theirs. Pure, fuzzed.
 */
#ifndef SMTP_CAPS_H
#define SMTP_CAPS_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

enum smtp_cap {
	SMTP_CAP_PIPELINING = 1 << 0,
	SMTP_CAP_8BITMIME = 1 << 1,
	SMTP_CAP_SIZE = 1 << 2,
	SMTP_CAP_CHUNKING = 1 << 3,
	SMTP_CAP_STATUSCODES = 1 << 4, /* ENHANCEDSTATUSCODES */
	SMTP_CAP_SMTPUTF8 = 1 << 5,
	SMTP_CAP_DSN = 1 << 6,
	SMTP_CAP_STARTTLS = 1 << 7,
	SMTP_CAP_AUTH = 1 << 8,
	SMTP_CAP_XCLIENT = 1 << 9,
	SMTP_CAP_XFORWARD = 1 << 10,
	SMTP_CAP_BINARYMIME = 1 << 11,
};

struct smtp_caps {
	unsigned bits;
	int64_t size; /* of SIZE; 0: no limit said */
	unsigned auth; /* enum smtp_auth_mech bits of AUTH */
};

/* One line of an EHLO reply behind its code, such as "SIZE 1000"; unknown words are ignored. */
void smtp_caps_add_line(struct smtp_caps *caps, const char *text, size_t len);
/* The words to offer, one per line joined by '\n', in a fixed order ("PIPELINING\nSIZE 100\n..."). */
void smtp_caps_write(const struct smtp_caps *caps, struct str *out);

#endif
