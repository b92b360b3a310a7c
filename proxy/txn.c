/*
 * proxy/txn.c - one mail under way (doc/architecture.md: session, spool, plan, chain, deliver, answer).
 */
#include "proxy/txn.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "filters/gate.h"
#include "filters/set.h"
#include "mail/header.h"
#include "mail/trace.h"
#include "proxy/deliver.h"
#include "proxy/explain.h"
#include "proxy/metrics.h"
#include "proxy/relay.h"
#include "proxy/separate.h"
#include "proxy/summary.h"
#include "proxy/txn_private.h"

/* Times a message may pass the same listener of this instance. */
#define PASSES_MAX 3

static const struct delivery_ops delivery_ops;

const struct settings *
txn_settings(const struct txn *txn)
{
	return txn->front.snapshot->settings;
}

struct txn *
txn_new(const struct txn_front *front)
{
	struct arena *arena = engine_arena_take(front->ew);
	struct txn *txn = arena_zalloc(arena, sizeof(*txn));
	const struct backend *b = front->listener->backend;

	txn->arena = arena;
	txn->front = *front;
	snapshot_ref(front->snapshot);
	mail_body_init(&txn->body);
	txn->started_ms = clock_ms();
	txn->delivery = deliver_new(front->ew, front->listener,
		b->kind == BACKEND_SMTP ? snapshot_dest(front->snapshot, b) : NULL, arena, &txn->front.log,
		&delivery_ops, txn);
	return txn;
}

struct arena *
txn_arena(struct txn *txn)
{
	return txn->arena;
}

/* ---- replies ---- */

const struct smtp_reply *
txn_keep_reply(struct txn *txn, const struct smtp_reply *reply)
{
	struct smtp_reply *copy = smtp_reply_dup(txn->arena, reply), soft;

	if (txn->front.listener->conf.smtp.soft_bounce && smtp_reply_soften(copy, &soft))
		*copy = soft;
	return copy;
}

void
txn_note_reply(struct txn *txn, const struct smtp_reply *reply)
{
	txn->reply = txn_keep_reply(txn, reply);
}

enum smtp_step
txn_answer(struct txn *txn, const struct smtp_reply *reply)
{
	struct smtp_cmd *cmd = txn->cmd;

	txn->cmd = NULL;
	return smtp_cmd_reply_with(cmd, reply);
}

bool
txn_has_dropped(const struct txn *txn)
{
	return txn->dropped.kind != VERDICT_PASS;
}

/* ---- content ---- */

bool
txn_begin(struct txn *txn, struct smtp_reply *refusal)
{
	(void)refusal;
	txn->begun_ms = clock_ms();
	txn->has_content = true;
	spool_writer_init(&txn->writer, &txn_settings(txn)->spool, &txn->front.ew->spool, &txn->body);
	return true;
}

void
txn_content(struct txn *txn, const char *data, size_t len, bool dot_line)
{
	spool_append(&txn->writer, data, len, dot_line);
}

/* ---- the end of data ---- */

void
txn_finish(struct txn *txn, const struct smtp_reply *reply)
{
	txn_note_reply(txn, reply);
	if (!txn->is_orphan)
		net_timer_clear(txn->front.budget);
	if (txn->cmd == NULL)
		return;
	if (txn->verdict.kind == VERDICT_DISCONNECT) {
		struct smtp_cmd *cmd = txn->cmd;

		txn->cmd = NULL;
		smtp_cmd_reply_close(cmd, txn->reply);
		return;
	}
	txn_answer(txn, txn->reply);
}

static enum smtp_step
finish_now(struct txn *txn, int code, const char *status, const char *text)
{
	txn_finish(txn, relay_ours(txn->arena, code, status, text));
	return SMTP_REPLIED;
}

/* The loop guard and the log want to know the header. Returns false when the message was refused. */
static bool
look_at_header(struct txn *txn)
{
	const struct listener *l = txn->front.listener;
	const char *text;
	size_t len, pos = 0;
	struct mail_field field;
	unsigned hops, passes;

	switch (mail_header_load(&txn->body, MAIL_HEADER_MAX, txn->arena, &text, &len)) {
	case MAIL_HEADER_TOO_LONG:
		finish_now(txn, 554, "5.6.0", "the header is larger than 1048576 octets");
		return false;
	case MAIL_HEADER_READ:
		finish_now(txn, 451, "4.3.0", "the message could not be read back, try again later");
		return false;
	case MAIL_HEADER_OK:
		break;
	}
	mail_trace_count(text, len, l->token, &hops, &passes);
	txn->front_id = mail_trace_top_id(text, len, txn->arena);
	while (mail_header_next(text, len, &pos, &field))
		if (mail_field_is(&field, "Message-ID")) {
			txn->msgid = mail_field_text(&field, 200, txn->arena);
			break;
		}
	if ((int)hops > l->conf.max_hops || passes > PASSES_MAX) {
		char why[160];

		snprintf(why, sizeof(why), "mail loop: %u Received lines (%d allowed), %u of them ours (%d allowed)",
			hops, l->conf.max_hops, passes, PASSES_MAX);
		count_add(&engine_counts(txn->front.ew, l)->loops, 1);
		log_repeat(LOG_LEVEL_WARN, &txn->front.log, l->name, "loop", "hops=%u passes=%u", hops, passes);
		finish_now(txn, 554, "5.4.6", why);
		return false;
	}
	return true;
}

const char *
txn_received_line(const struct txn *txn, const struct mail_msg *msg)
{
	const struct listener *l = txn->front.listener;
	char id[32];

	snprintf(id, sizeof(id), "%06x-%u", txn->front.log.session, txn->front.log.txn);
	return mail_trace_received(msg, l->conf.smtp.hostname, id, l->token);
}

static void
build_msg(struct txn *txn)
{
	const struct listener *l = txn->front.listener;
	struct mail_msg *msg = &txn->msg;

	msg->origin = txn->front.origin;
	msg->sender = txn->sender;
	msg->rcpts = txn->rcpts;
	msg->rcpt_count = txn->rcpt_count;
	msg->body = &txn->body;
	msg->arena = txn->arena;
	mail_edits_init(&msg->edits, txn->arena);
	if (l->conf.received)
		mail_edit_prepend(&msg->edits, txn_received_line(txn, msg));
}

static uint64_t
dot_deadline(const struct txn *txn)
{
	const struct listener_conf *lc = &txn->front.listener->conf;

	return txn->end_ms + (uint64_t)(lc->budget - lc->final_reserve);
}

/* The groups that hear one word, told apart: what was dropped, and for whom, is not lost on the log. */
static void
log_groups(const struct txn *txn)
{
	for (size_t i = 0; i < txn->settled.group_count; i++) {
		const struct settled_group *g = &txn->settled.groups[i];

		if (g->is_emptied)
			log_info(&txn->front.log, "envelope", "from=<%s> rcpts=%d added=%d removed=%zu", txn->sender->addr, 0, 0,
				g->rcpt_count);
		if (txn->settled.group_count > 1)
			log_info(&txn->front.log, "group", "verdict=%s filter=%s rcpts=%zu to=<%s>", verdict_names[g->verdict->kind],
				g->verdict->filter, g->rcpt_count, g->rcpts[0]->addr);
	}
}

static void
come_alone(const struct txn *txn)
{
	separate_note(txn->front.listener->name, txn->sender->addr, txn->front.listener->conf.separate_for);
}

/* A filter that takes the last recipient away has dropped the message. */
static void
drop(struct txn *txn, const struct mail_envelope *envelope, size_t removed)
{
	const struct smtp_reply *reply = relay_ours(txn->arena, 250, "2.0.0", "Ok: discarded");

	log_info(&txn->front.log, "envelope", "from=<%s> rcpts=%d added=%d removed=%zu", envelope->sender->addr, 0, 0, removed);
	if (txn->aside != NULL) {
		txn_aside_commit(txn, reply);
		return;
	}
	txn->verdict.kind = VERDICT_DISCARD;
	txn_finish(txn, reply);
}

/* One group of several is another envelope than the one that was given early. */
static void
deliver(struct txn *txn, const struct settled_group *g)
{
	const struct mail_msg *msg = &txn->msg;
	struct mail_envelope envelope;

	mail_edits_envelope(txn->arena, g->edits, txn->sender, g->rcpts, g->rcpt_count, &envelope);
	if (envelope.rcpt_count == 0) {
		drop(txn, &envelope, g->rcpt_count);
		return;
	}
	if (txn->settled.group_count > 1) {
		deliver_put_back(txn->delivery);
		txn->parted = txn->msg;
		txn->parted.rcpts = g->rcpts;
		txn->parted.rcpt_count = g->rcpt_count;
		msg = &txn->parted;
	}
	txn->delivering = true;
	deliver_content(txn->delivery, msg, g->edits, dot_deadline(txn));
}

/* The reply of a message that is not delivered. */
static const struct smtp_reply *
verdict_answer(struct txn *txn)
{
	struct mail_verdict v = verdict_reply(&txn->verdict);

	if (v.kind == VERDICT_DISCARD)
		return relay_ours(txn->arena, 250, "2.0.0", "Ok: discarded");
	if (v.kind == VERDICT_QUARANTINE) /* what a back-end would say, with what the log calls this transaction */
		return relay_ours(txn->arena, 250, "2.0.0", arena_printf(txn->arena, "Ok: queued as %06x-%u",
			txn->front.log.session, txn->front.log.txn));
	return relay_ours(txn->arena, v.code, v.status, v.text);
}

void
txn_carry_out(struct txn *txn)
{
	if (txn->settled.deliver != NULL)
		deliver(txn, txn->settled.deliver);
	else if (txn->aside != NULL)
		txn_aside_commit(txn, verdict_answer(txn));
	else
		txn_finish(txn, verdict_answer(txn));
}

/* The gate has decided that nothing is delivered: of the message, or of all its recipients. */
static bool
is_discarded(const struct txn *txn)
{
	return txn->forced.kind == VERDICT_DISCARD || txn->rcpt_count == 0;
}

static enum smtp_step
discard(struct txn *txn)
{
	txn->chained_ms = clock_ms();
	txn->verdict = txn->forced.kind == VERDICT_DISCARD ? txn->forced : txn->dropped;
	return finish_now(txn, 250, "2.0.0", "Ok: discarded");
}

static void
chain_over(void *owner)
{
	struct txn *txn = owner;
	const struct mail_verdict *gate = txn->forced.kind != VERDICT_PASS ? &txn->forced : NULL;

	txn->chained_ms = clock_ms();
	settle(&txn->settled, txn->chain, &txn->msg, gate, txn_has_dropped(txn), txn_settings(txn)->quarantine.directory != NULL);
	txn->verdict = txn->settled.verdict;
	log_groups(txn);
	if (txn->front.ew->explain != NULL) {
		explain_settled(txn->front.ew->explain, &txn->msg, &txn->settled);
		txn_finish(txn, verdict_answer(txn));
		return;
	}
	if (txn->settled.differs)
		come_alone(txn);
	if (txn->settled.quarantined > 0)
		txn_aside_begin(txn);
	else
		txn_carry_out(txn);
}

enum smtp_step
txn_end(struct txn *txn, struct smtp_cmd *cmd, const struct smtp_dot *how)
{
	const struct listener_conf *lc = &txn->front.listener->conf;
	struct err err;

	txn->cmd = cmd;
	txn->end_ms = clock_ms();
	txn->bare_lf = how->bare_lf;
	txn->bare_cr = how->bare_cr;
	if (spool_finish(&txn->writer, &err) < 0) {
		log_repeat(LOG_LEVEL_ERROR, &txn->front.log, NULL, "spool", "err=%s", err.text);
		return finish_now(txn, 452, "4.3.1", "the message could not be spooled, try again later");
	}
	if (!look_at_header(txn))
		return SMTP_REPLIED;
	if (is_discarded(txn))
		return discard(txn);
	build_msg(txn);
	net_timer_set(txn->front.budget, lc->budget);
	if (chain_start(txn_settings(txn)->filters, &txn->front.ew->filters, &txn->front.log, &txn->msg,
		    lc->budget - lc->final_reserve, chain_over, txn, &txn->chain) == CHAIN_DONE)
		chain_over(txn);
	/* When all went at once the command is answered already. */
	return txn->cmd == NULL ? SMTP_REPLIED : SMTP_WAIT;
}

/* ---- delivery ---- */

static void
set_hold(void *owner, int64_t ms)
{
	struct txn *txn = owner;

	if (txn->is_orphan)
		return;
	if (ms > 0)
		net_timer_set(txn->front.hold, ms);
	else
		net_timer_clear(txn->front.hold);
}

static bool
may_commit(void *owner)
{
	struct txn *txn = owner;

	return txn->cmd != NULL; /* somebody waits for the answer */
}

/* To refuse them all for what one group got would be wrong for those that were to be dropped or set aside. */
static const struct smtp_reply *
delivery_reply(struct txn *txn, const struct delivery_result *r)
{
	if (r->reply->code / 100 != 5 || (txn->settled.group_count == 1 && !txn_has_dropped(txn)))
		return r->reply;
	come_alone(txn);
	return relay_fault(txn->arena, "4.5.3", "recipients were answered differently; send them one at a time");
}

static void
delivered(void *owner)
{
	struct txn *txn = owner;
	const struct delivery_result *r = deliver_result(txn->delivery);

	txn->delivered_ms = clock_ms();
	if (r->mixed)
		come_alone(txn);
	if (r->delivered && txn->aside != NULL && txn->cmd != NULL) {
		txn_aside_commit(txn, r->reply);
		return;
	}
	txn_finish(txn, delivery_reply(txn, r));
	if (txn->is_orphan)
		txn_over(&txn);
}

static const struct delivery_ops delivery_ops = {
	.mail = txn_got_mail,
	.rcpt = txn_got_rcpt,
	.hold = set_hold,
	.may_commit = may_commit,
	.done = delivered,
};

void
txn_hold_over(struct txn *txn)
{
	log_debug(&txn->front.log, "early", "state=%s", "early_hold is over");
	deliver_put_back(txn->delivery);
}

/* The chain's memory stays for the summary line. */
static void
cancel_work(struct txn *txn)
{
	struct chain *chain = txn->chain;

	gate_cancel(txn->front.gate);
	chain_cancel(&chain);
}

/* What runs is cancelled; past the point of no return only the back-end's reply ends the wait. */
void
txn_budget_over(struct txn *txn)
{
	if (txn->cmd == NULL || txn_is_committed(txn))
		return;
	cancel_work(txn);
	deliver_cancel_late(txn->delivery);
	finish_now(txn, 451, "4.3.2", "no time left to deliver, try again later");
}

bool
txn_is_committed(const struct txn *txn)
{
	return txn->cmd != NULL && (deliver_is_committed(txn->delivery) || aside_is_busy(txn->aside));
}

/* ---- the end of a transaction ---- */

void
txn_refused(struct txn *txn, const struct smtp_reply *why)
{
	if (txn->reply == NULL)
		txn_note_reply(txn, why);
	if (txn->sender == NULL)
		log_info(&txn->front.log, "mail", "client=%s code=%d text=%s", txn->front.origin->client_text,
			why->code, why->text);
}

static void
release(void *arg)
{
	struct txn *txn = arg;
	struct engine_worker *ew = txn->front.ew;
	struct arena *arena = txn->arena;
	struct snapshot *snapshot = txn->front.snapshot;
	bool was_orphan = txn->is_orphan;

	if (txn->has_content) {
		spool_writer_reuse(&txn->writer);
		spool_writer_deinit(&txn->writer);
	}
	mail_body_deinit(&txn->body);
	engine_arena_give(ew, &arena); /* what filters have left in it is of this configuration */
	engine_trim_spool(ew);
	snapshot_unref(&snapshot);
	if (was_orphan) {
		atomic_fetch_sub(&ew->busy, 1);
		engine_settled(ew);
	}
}

void
txn_over(struct txn **txn_p)
{
	struct txn *txn = *txn_p;

	if (txn == NULL)
		return;
	*txn_p = NULL;
	txn->cmd = NULL;
	cancel_work(txn);
	deliver_cancel(txn->delivery);
	aside_drop(&txn->aside); /* what was not answered for */
	if (txn->sender != NULL) {
		summary_count(txn);
		summary_log(txn);
	}
	if (txn->is_orphan) {
		TAILQ_REMOVE(&txn->front.ew->orphans, txn, next);
	} else {
		net_timer_clear(txn->front.hold);
		net_timer_clear(txn->front.budget);
	}
	/* A caller up the stack may still look at it. */
	net_later(txn->front.ew->net, release, txn);
}

/* The origin lives in the session, which may go before us. */
void
txn_own_origin(struct txn *txn)
{
	struct mail_origin *origin = arena_memdup(txn->arena, txn->front.origin, sizeof(*origin));

	origin->client_text = arena_strdup(txn->arena, origin->client_text);
	origin->client_port_text = arena_strdup(txn->arena, origin->client_port_text);
	origin->helo = arena_strdup(txn->arena, origin->helo);
	origin->listener = txn->front.listener->name; /* the session's is of another snapshot, maybe */
	if (origin->tls_cert != NULL)
		origin->tls_cert = arena_strdup(txn->arena, origin->tls_cert);
	txn->front.origin = origin;
	txn->msg.origin = origin;
}

static void
become_orphan(struct txn *txn)
{
	txn_own_origin(txn);
	txn->front.hold = txn->front.budget = NULL;
	txn->front.gate = NULL;
	txn->is_orphan = true;
	TAILQ_INSERT_TAIL(&txn->front.ew->orphans, txn, next);
	atomic_fetch_add(&txn->front.ew->busy, 1);
}

void
txn_front_gone(struct txn **txn_p, const char *why)
{
	struct txn *txn = *txn_p;

	if (txn == NULL)
		return;
	*txn_p = NULL;
	txn->gone = arena_strdup(txn->arena, why);
	net_timer_clear(txn->front.hold);
	net_timer_clear(txn->front.budget);
	if (txn_is_committed(txn)) {
		txn->cmd = NULL;
		become_orphan(txn);
		return;
	}
	txn_over(&txn);
}
