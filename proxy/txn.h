/*
 * proxy/txn.h - one mail under way: envelope, content, chain, delivery, answer, summary line.
 *
 * A transaction belongs to its session from MAIL until its reply. When the front goes away after the point of
 * no return it lives on alone (an orphan of its worker) until the back-end has answered.
 */
#ifndef PROXY_TXN_H
#define PROXY_TXN_H

#include "proxy/engine.h"
#include "proxy/snapshot.h"
#include "smtp/server.h"

struct gate;
struct txn;

/* What a transaction needs to know of its session; timers are the session's, as they are cheap to keep. */
struct txn_front {
	struct engine_worker *ew;
	const struct listener *listener;
	struct snapshot *snapshot; /* the listener's; the transaction takes a reference */
	const struct mail_origin *origin;
	struct gate *gate; /* the session's; NULL: the listener has none */
	struct log_ctx log;
	struct net_timer *hold;   /* fires txn_hold_over() */
	struct net_timer *budget; /* fires txn_budget_over() */
};

struct txn *txn_new(const struct txn_front *front);
struct arena *txn_arena(struct txn *txn);

/* The commands, as smtp/server.h gives them. */
enum smtp_step txn_mail(struct txn *txn, struct smtp_cmd *cmd, const struct mail_sender *sender);
enum smtp_step txn_rcpt(struct txn *txn, struct smtp_cmd *cmd, const struct mail_rcpt *rcpt);
bool txn_begin(struct txn *txn, struct smtp_reply *refusal);
void txn_content(struct txn *txn, const char *data, size_t len, bool dot_line);
enum smtp_step txn_end(struct txn *txn, struct smtp_cmd *cmd, const struct smtp_dot *how);

void txn_hold_over(struct txn *txn);
void txn_budget_over(struct txn *txn);

/* Has the dot left, or the quarantine begun to be written, and is the front still to be answered? */
bool txn_is_committed(const struct txn *txn);
/* The session ended it with this reply; for the log. */
void txn_refused(struct txn *txn, const struct smtp_reply *why);
/* It was answered, or abandoned by RSET, QUIT or a refused message: writes the summary line, frees it. */
void txn_over(struct txn **txn);
/* The front went away. Cancels all, unless the dot has left: then it lives on as an orphan. */
void txn_front_gone(struct txn **txn, const char *why);

#endif
