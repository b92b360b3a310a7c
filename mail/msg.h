/*
 * mail/msg.h - what passes down the line: origin, envelope, body, edits, arena.
 *
 * Built by proxy/txn.c; filters/ build their runs from it and never change it.
 */
#ifndef MAIL_MSG_H
#define MAIL_MSG_H

#include <time.h>

#include "base/arena.h"
#include "base/ip.h"
#include "mail/body.h"
#include "mail/edit.h"
#include "mail/envelope.h"

/* Who gave us the message. */
struct mail_origin {
	struct ip_addr client;
	const char *client_text; /* "192.0.2.7" */
	const char *client_port_text; /* "192.0.2.7:40112", "[2001:db8::7]:40112", "unix" */
	const char *helo;        /* "" before EHLO */
	const char *protocol;    /* for "with": SMTP, ESMTP, LMTP, UTF8SMTP ... */
	const char *listener;
	/* Of its connection; NULL in clear. */
	const char *tls_version; /* "TLSv1.3" */
	const char *tls_cipher;
	const char *tls_cert; /* SHA-256 of its certificate in hexadecimal, NULL: it gave none */
	bool tls_verified;    /* which an authority of ours has signed */
};

struct mail_msg {
	const struct mail_origin *origin;
	const struct mail_sender *sender;
	time_t when; /* its transaction began; for what depends on the time. 0: now */
	const struct mail_rcpt *const *rcpts;
	size_t rcpt_count;
	const struct mail_body *body;
	struct mail_edits edits; /* what Postern itself adds: the Received line */
	struct arena *arena;
};

#endif
