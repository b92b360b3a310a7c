/*
 * smtp/auth.h - what a client says in AUTH (RFC 4954): PLAIN (RFC 4616) and LOGIN. Pure.
 *
 * Lines hold the password: they are never logged, and whoever made one wipes it (smtp_auth_wipe).
 */
#ifndef SMTP_AUTH_H
#define SMTP_AUTH_H

#include <stdbool.h>

#include "base/str.h"

enum smtp_auth_mech {
	SMTP_AUTH_PLAIN = 1 << 0,
	SMTP_AUTH_LOGIN = 1 << 1,
};

/* User names and passwords are at most this long. */
#define SMTP_AUTH_MAX 500

/* "AUTH PLAIN BASE64" and CRLF; "AUTH PLAIN" alone when that were more than 512 octets (RFC 4954 4). Returns whether
 * all is said so, else smtp_auth_plain_answer() follows on the 334. */
bool smtp_auth_plain(struct str *out, const char *user, const char *password);
void smtp_auth_plain_answer(struct str *out, const char *user, const char *password);
/* An answer to a 334 of LOGIN: BASE64 and CRLF. */
void smtp_auth_answer(struct str *out, const char *text);
void smtp_auth_wipe(struct str *line);

/* The mechanisms that an EHLO line offers behind "AUTH". */
unsigned smtp_auth_mechs(const char *text, size_t len);

#endif
