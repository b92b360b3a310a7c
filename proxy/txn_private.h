/*
 * proxy/txn_private.h - the transaction's struct: txn.c fills it, summary.c tells it.
 */
#ifndef PROXY_TXN_PRIVATE_H
#define PROXY_TXN_PRIVATE_H

#include "mail/msg.h"
#include "mail/verdict.h"
#include "proxy/deliver.h"
#include "proxy/txn.h"

struct txn {
	struct arena *arena;
	struct txn_front front;
	struct smtp_cmd *cmd; /* waits for our answer; NULL: none, or the front is gone */
	const struct mail_sender *sender;
	const struct mail_rcpt **rcpts; /* accepted */
	size_t rcpt_count, rcpt_size;
	const struct mail_rcpt *asked; /* RCPT under way */
	bool has_content;
	struct mail_body body;
	struct spool_writer writer;
	struct mail_msg msg;
	struct chain *chain;
	struct delivery *delivery;
	bool delivering;
	struct mail_verdict verdict;
	const struct mail_edits *edits;
	const struct smtp_reply *rcpt_refusal; /* the first one */
	const struct smtp_reply *reply; /* what the front was told at last, or would have been */
	const char *gone; /* why the front went away, or NULL */
	bool is_orphan;
	const char *msgid;
	uint64_t bare_lf, bare_cr;
	uint64_t started_ms, begun_ms, end_ms, chained_ms, delivered_ms;
	TAILQ_ENTRY(txn) next; /* among its worker's orphans */
};

#endif
