/*
 * mail/msg.h - what passes down the line: origin, envelope, body, edits, arena.
 *
 * Built by proxy/txn.c; filters/ build their runs from it and never change it.
 */
#ifndef MAIL_MSG_H
#define MAIL_MSG_H

#include "base/arena.h"
#include "base/ip.h"
#include "mail/body.h"
#include "mail/edit.h"
#include "mail/envelope.h"

/* Who gave us the message. */
struct mail_origin {
	struct ip_addr client;
	const char *client_text; /* "192.0.2.7" */
	const char *helo;        /* "" before EHLO */
	const char *protocol;    /* for "with": SMTP, ESMTP, LMTP, UTF8SMTP ... */
	const char *listener;
};

struct mail_msg {
	const struct mail_origin *origin;
	const struct mail_sender *sender;
	const struct mail_rcpt *const *rcpts;
	size_t rcpt_count;
	const struct mail_body *body;
	struct mail_edits edits; /* what Postern itself adds: the Received line */
	struct arena *arena;
};

#endif
