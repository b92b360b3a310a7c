/*
 * mail/envelope.h - sender, recipients and their ESMTP parameters.
 *
 * All strings live in the transaction's arena and are kept as they were given (xtext stays xtext).
 */
#ifndef MAIL_ENVELOPE_H
#define MAIL_ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mail_body_type { MAIL_BODY_UNSET, MAIL_BODY_7BIT, MAIL_BODY_8BITMIME };
enum mail_ret { MAIL_RET_UNSET, MAIL_RET_FULL, MAIL_RET_HDRS };

struct mail_sender {
	const char *addr;   /* without brackets; "" is the null sender */
	const char *domain; /* within addr, behind the '@'; "" when there is none */
	int64_t size;       /* SIZE=, -1 when not given */
	enum mail_body_type body;
	bool smtputf8;
	enum mail_ret ret;
	const char *envid; /* NULL when not given */
	const char *auth;  /* AUTH=: "<>" whatever was given, NULL when it was not */
};

struct mail_rcpt {
	const char *addr;   /* without brackets */
	const char *domain; /* as above */
	const char *notify; /* NOTIFY= as given, NULL when not given */
	const char *orcpt;  /* ORCPT= as given */
};

#endif
