/*
 * proxy/deliver_private.h - what deliver.c and deliver_local.c share.
 */
#ifndef PROXY_DELIVER_PRIVATE_H
#define PROXY_DELIVER_PRIVATE_H

#include "net/threads.h"
#include "proxy/deliver.h"

enum delivery_state {
	DELIVERY_NONE,	  /* no back-end transaction is open */
	DELIVERY_EARLY,	  /* the envelope goes out as it comes */
	DELIVERY_LATE,	  /* envelope and content at once */
	DELIVERY_CONTENT, /* DATA was said behind an early envelope */
	DELIVERY_OVER,
};

struct delivery {
	struct engine_worker *ew;
	const struct listener *listener;
	const struct backend *backend;
	struct smtp_dest *dest; /* NULL for an embedded back-end */
	struct arena *arena;
	const struct log_ctx *log;
	const struct delivery_ops *ops;
	void *owner;
	enum delivery_state state;
	struct smtp_client *client;
	struct smtp_pool_wait *wait;
	const struct mail_sender *sender;
	bool is_open;	/* early: MAIL was accepted */
	bool asked;	/* early: the owner waits for a reply */
	const struct mail_rcpt *rcpt; /* early: to this RCPT */
	size_t rcpts_heard; /* early: answered before it */
	bool is_resting; /* early: the connection is kept, and the front is silent */
	bool is_hurried; /* and others want it */
	uint64_t resting_since;
	TAILQ_ENTRY(delivery) next_resting;
	bool mail_refused;
	bool mail_heard; /* late: MAIL was answered */
	bool replaced;	/* a connection was replaced already: dead when idle, or refused in clear */
	uint64_t tried; /* hosts on which this envelope has failed; each is asked once */
	const struct smtp_reply *fault; /* of the last of them, for when no other can be had */
	bool committed;
	const struct mail_msg *msg;
	const struct mail_edits *edits;
	struct mail_envelope envelope; /* msg's, with the edits; sender is its sender */
	int64_t size; /* for SIZE= */
	bool in_haste; /* less than half of the budget was left when the host was asked */
	uint64_t deadline; /* on the clock_ms clock: for the reply to an early command, then for the dot */
	size_t heard; /* late: recipients answered */
	size_t taken; /* of these, with 2xx */
	const struct smtp_reply *refusal; /* late: of MAIL or the first refused recipient */
	bool mixed;
	bool is_lost; /* it ends because of a fault, not with what the back-end said */
	struct net_job *job; /* maildir */
	struct maildir_job *maildir;
	struct delivery_result result;
};

void deliver_say_mail(struct delivery *d);
void deliver_say_envelope(struct delivery *d);
void deliver_fail(struct delivery *d, const struct smtp_reply *reply);
void deliver_end(struct delivery *d, const struct smtp_reply *reply);

/* The embedded back-ends. */
void deliver_local(struct delivery *d);
void deliver_local_cancel(struct delivery *d);

#endif
