/*
 * mail/address.h - paths and mailboxes as RFC 5321 4.1.2 writes them. Pure, fuzzed.
 *
 * Addresses are checked, never rewritten: what goes out is octet for octet what came in.
 */
#ifndef MAIL_ADDRESS_H
#define MAIL_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* Limits of RFC 5321 4.5.3.1, doubled where real mail needs it. */
#define MAIL_PATH_MAX 512
#define MAIL_LOCAL_MAX 256
#define MAIL_DOMAIN_MAX 255

enum mail_path_flags {
	MAIL_PATH_NULL = 1,   /* "<>" is allowed (MAIL FROM) */
	MAIL_PATH_BARE = 2,   /* a local part without a domain is allowed (RCPT TO:<postmaster>) */
	MAIL_PATH_UTF8 = 4,   /* RFC 6531: valid UTF-8 in local part and domain */
};

/* Offsets into the text that was parsed. */
struct mail_path {
	size_t begin, end;    /* inside the angle brackets, a source route included */
	size_t mailbox;	      /* begin of the mailbox, behind a source route */
	size_t at;	      /* of the '@' before the domain; == end when there is none */
	bool has_utf8;
};

/*
 * Parses "<...>" at the start of text. Strict: quoted local parts may hold '>', '@' and spaces;
 * control characters, NUL, bare 8-bit without MAIL_PATH_UTF8, empty labels, over-long parts are
 * errors. Address literals "[1.2.3.4]", "[IPv6:...]" are allowed. Returns the octets used (with both
 * brackets), or 0 with err set.
 */
size_t mail_path_parse(
	const char *text, size_t len, unsigned flags, struct mail_path *path_r, struct err *err);

/* Can it stand behind an '@'? In ASCII. */
bool mail_domain_valid(const char *text);
/* Behind the last '@', within addr; "" when there is none. */
const char *mail_address_domain(const char *addr);
/* The same mailbox? Local parts octet for octet, domains without regard to case (RFC 5321 2.4); and any postmaster
 * without a domain (4.5.1). */
bool mail_address_same(const char *a, const char *b);

/* A host name or address literal as EHLO gives it: letters, digits, '-', '.', '_', ':' and brackets.
 * Lenient as real clients need (underscores, single labels), strict about anything that could end a
 * header comment or a line. */
bool mail_helo_valid(const char *text, size_t len);

#endif
