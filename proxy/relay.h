/*
 * proxy/relay.h - what of the back-end's replies reaches the front, and in what form.
 */
#ifndef PROXY_RELAY_H
#define PROXY_RELAY_H

#include "base/arena.h"
#include "base/log.h"
#include "mail/verdict.h"
#include "smtp/reply.h"

/*
 * A reply to MAIL, RCPT, DATA or the end of data keeps code, enhanced code and lines, except 421, which
 * becomes 451 with its text, and 500 to 504 and 530 to 538, which say that our own hop is misconfigured:
 * 451, and an error in the log. A code that makes no sense here is 451, too.
 */
const struct smtp_reply *relay_reply(const struct log_ctx *log, struct arena *arena,
	const char *backend, const char *what, const struct smtp_reply *reply);

/* 451 with a text of ours, without internals. */
const struct smtp_reply *relay_fault(struct arena *arena, const char *status, const char *text);
/* What a verdict says. */
const struct smtp_reply *relay_verdict(struct arena *arena, const struct mail_verdict *verdict);
const struct smtp_reply *relay_ours(struct arena *arena, int code, const char *status, const char *text);

#endif
