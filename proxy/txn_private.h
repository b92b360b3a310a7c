/*
 * proxy/txn_private.h - the transaction's struct: txn*.c fill it, summary.c tells it.
 */
#ifndef PROXY_TXN_PRIVATE_H
#define PROXY_TXN_PRIVATE_H

#include "filters/gate.h"
#include "mail/msg.h"
#include "mail/verdict.h"
#include "proxy/aside.h"
#include "proxy/deliver.h"
#include "proxy/settle.h"
#include "proxy/txn.h"

struct txn {
	struct arena *arena;
	struct txn_front front;
	struct smtp_cmd *cmd; /* waits for our answer; NULL: none, or the front is gone */
	const struct mail_sender *sender;
	const struct mail_rcpt **rcpts; /* accepted */
	size_t rcpt_count, rcpt_size;
	const struct mail_rcpt *asked; /* RCPT under way */
	struct gate_txn gate;
	struct mail_verdict forced; /* discard or quarantine: the gate's, of the message whatever its content */
	bool is_forced_by_rcpt; /* of those recipients that it has */
	struct mail_verdict dropped; /* the last recipient that was taken and dropped; kind pass: none */
	bool has_content;
	struct mail_body body;
	struct spool_writer writer;
	struct mail_msg msg;
	struct chain *chain;
	struct delivery *delivery;
	bool delivering;
	struct settlement settled;
	struct mail_verdict verdict;
	struct mail_msg parted; /* msg with the recipients of one group */
	struct aside *aside; /* what is set aside, until it is kept or dropped */
	const struct quarantine_mail *asides; /* so many are settled.quarantined */
	const struct smtp_reply *aside_reply; /* to be given once they are committed; NULL: not yet */
	const char *quarantine_ids; /* of what was kept, for the log */
	const struct smtp_reply *rcpt_refusal; /* the first one */
	const struct smtp_reply *reply; /* what the front was told at last, or would have been */
	const char *gone; /* why the front went away, or NULL */
	bool is_orphan;
	const char *msgid;
	const char *front_id; /* the front's queue id, as its Received line says */
	uint64_t bare_lf, bare_cr;
	uint64_t started_ms, begun_ms, end_ms, chained_ms, delivered_ms;
	TAILQ_ENTRY(txn) next; /* among its worker's orphans */
};

/* ---- txn.c ---- */

const struct settings *txn_settings(const struct txn *txn);
/* A copy in the arena, as the front hears it. */
const struct smtp_reply *txn_keep_reply(struct txn *txn, const struct smtp_reply *reply);
/* What the summary line will say of the outcome. */
void txn_note_reply(struct txn *txn, const struct smtp_reply *reply);
/* To the command that waits. */
enum smtp_step txn_answer(struct txn *txn, const struct smtp_reply *reply);
/* The line that we put in front of msg. */
const char *txn_received_line(const struct txn *txn, const struct mail_msg *msg);
/* Has the gate dropped a recipient, who heard 250? */
bool txn_has_dropped(const struct txn *txn);

/* The chain's verdict is carried out, now that what it sets aside is prepared. */
void txn_carry_out(struct txn *txn);
/* From now on its session may go at any time. */
void txn_own_origin(struct txn *txn);
/* The reply to the end of data. */
void txn_finish(struct txn *txn, const struct smtp_reply *reply);

/* ---- txn_envelope.c ---- */

/* struct delivery_ops' mail and rcpt. */
void txn_got_mail(void *owner, const struct smtp_reply *reply);
void txn_got_rcpt(void *owner, const struct smtp_reply *reply);

/* ---- txn_aside.c ---- */

/* Writes what is set aside, then txn_carry_out(); or ends it all. */
void txn_aside_begin(struct txn *txn);
/* Commits it, then finishes with this reply. */
void txn_aside_commit(struct txn *txn, const struct smtp_reply *reply);

#endif
