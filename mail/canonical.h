/*
 * mail/canonical.h - the one form in which addresses are compared, however they are written. Pure.
 *
 * Without a source route, without quotes that the local part does not need, and the domain in A-labels (RFC 5890).
 * The case of letters is left to who compares (base/match.h takes none into account); what stands behind a plus in
 * the local part belongs to it. Brackets and comments cannot come: mail/address.h refuses them.
 */
#ifndef MAIL_CANONICAL_H
#define MAIL_CANONICAL_H

#include <stdbool.h>
#include <stddef.h>

/* More than any address that mail/address.h lets through can become. */
#define MAIL_CANONICAL_MAX 1024

struct mail_canonical {
	char text[MAIL_CANONICAL_MAX];
	size_t len;
};

/*
 * An address ("" for the null sender) or, from lists, "@domain", ".domain" or a domain alone, when is_domain.
 * False: it is in that form already, and c_r is not filled. What cannot be written in A-labels stays as it is.
 */
bool mail_canonical(const char *text, size_t len, bool is_domain, struct mail_canonical *c_r);
/* The other way, for people and their patterns: A-labels become what they stand for. False: there are none. */
bool mail_readable(const char *text, size_t len, struct mail_canonical *c_r);

#endif
