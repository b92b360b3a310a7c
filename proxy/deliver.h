/*
 * proxy/deliver.h - one back-end transaction: envelope early or late, content, and what came of it.
 *
 * A delivery belongs to a transaction (struct txn) and lives in its arena. In `envelope early` it begins at
 * MAIL and the back-end's replies go to the front as they come; whenever the early envelope is lost (held too
 * long, no connection free, connection died) it is given anew by deliver_content(), as in `envelope late`.
 *
 * Replies handed to the owner are fit for the front: 421 and replies that concern only our own hop are 451
 * (doc/architecture.md), faults of the connection are 451 with a text of ours.
 */
#ifndef PROXY_DELIVER_H
#define PROXY_DELIVER_H

#include <stdbool.h>

#include "base/log.h"
#include "mail/msg.h"
#include "proxy/engine.h"
#include "smtp/reply.h"

struct delivery;

struct delivery_ops {
	/* The back-end's word on the early envelope; borrowed. */
	void (*mail)(void *owner, const struct smtp_reply *reply);
	void (*rcpt)(void *owner, const struct smtp_reply *reply);
	/* Call deliver_put_back() after so many milliseconds; 0: not any more. */
	void (*hold)(void *owner, int64_t ms);
	/* The dot is about to leave; false: the delivery ends with a 451. */
	bool (*may_commit)(void *owner);
	/* All is over: see deliver_result(). */
	void (*done)(void *owner);
};

/* dest: of the listener's back-end, NULL when that is an embedded one. */
struct delivery *deliver_new(struct engine_worker *ew, const struct listener *listener,
	struct smtp_dest *dest, struct arena *arena, const struct log_ctx *log, const struct delivery_ops *ops, void *owner);
/* Stops whatever is under way and gives the connection back or closes it. Nothing is called any more. */
void deliver_cancel(struct delivery *d);
/* The same when time has run out: a connection whose reply is overdue is closed. */
void deliver_cancel_late(struct delivery *d);

/*
 * Early. size: for SIZE=, as far as it is known now; -1: it is not. True: ops->mail (ops->rcpt) will be
 * called, maybe from inside this call. False: no early envelope (any more); the owner answers by itself.
 */
bool deliver_mail(struct delivery *d, const struct mail_sender *sender, int64_t size);
bool deliver_rcpt(struct delivery *d, const struct mail_rcpt *rcpt);
/* The early envelope is not wanted any more, or the time for a reply is up: then it is a 451. */
void deliver_put_back(struct delivery *d);

/*
 * Sends the message (this version of its edits, with what they make of msg's envelope, which must leave a
 * recipient). Of recipients that a filter has added: one that is refused for now is a 451 for all; one that is
 * refused for good is logged and counted, and changes the answer only where a filter has removed others, in whose
 * place it may stand: then it is a 451 for all, too. deadline is on the clock_ms clock: no dot
 * leaves after it. ops->done is called, maybe from inside this call.
 */
void deliver_content(struct delivery *d, const struct mail_msg *msg, const struct mail_edits *edits,
	uint64_t deadline);

/* Has the dot left (or the maildir write begun)? Then only the result can end it. */
bool deliver_is_committed(const struct delivery *d);

/* One reply for all recipients; the same reply is meant for each. */
struct delivery_result {
	const struct smtp_reply *reply; /* in the arena */
	bool mixed;	/* recipients were answered differently, so nothing was delivered: reply is a 451 */
	bool delivered; /* the back-end has taken the message */
	char host[80];	/* whom we spoke to, "" when nobody */
	char queue_id[64]; /* of the back-end, "" */
};
const struct delivery_result *deliver_result(const struct delivery *d);

#endif
