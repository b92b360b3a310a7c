/*
 * mail/trace.h - our Received line, and the loop guard that reads it.
 */
#ifndef MAIL_TRACE_H
#define MAIL_TRACE_H

#include "base/arena.h"
#include "mail/header.h"
#include "mail/msg.h"

/* Lower-case hex digits of a token, and its NUL. */
#define MAIL_TOKEN_SIZE 17

/* Derives the token of one listener of this instance: the same after a restart, different for
 * another host name, spool folder or listener. */
void mail_trace_token(char token_r[MAIL_TOKEN_SIZE], const char *hostname, const char *spool,
	const char *listener);

/*
 * "Received: from HELO ([ADDR]) by HOSTNAME (Postern) with ESMTP id ID.TOKEN for <RCPT>; DATE\r\n",
 * folded. `for` only with exactly one recipient. id is "7f3a01-1".
 */
const char *mail_trace_received(
	const struct mail_msg *msg, const char *hostname, const char *id, const char *token);

/* Counts all Received fields, and those whose id clause carries the token. */
void mail_trace_count(
	const char *header, size_t len, const char *token, unsigned *hops_r, unsigned *passes_r);

/*
 * The id clause of the topmost Received field: the queue id of whoever gave us the message, if it
 * adds that field. NULL when there is none, or it is no id: Postfix says NOQUEUE before its queue.
 */
const char *mail_trace_top_id(const char *header, size_t len, struct arena *arena);

/* "Sun, 22 Nov 2026 16:45:58 +0000" in local time; dst needs 40 octets. */
void mail_trace_date(char *dst, size_t size);

#endif
