/*
 * proxy/txn.c - one mail under way (doc/architecture.md: session, spool, plan, chain, deliver, answer).
 */
#include "proxy/txn.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/xalloc.h"
#include "filters/set.h"
#include "mail/header.h"
#include "mail/trace.h"
#include "proxy/deliver.h"
#include "proxy/relay.h"
#include "proxy/separate.h"
#include "proxy/summary.h"
#include "proxy/txn_private.h"

/* Octets of a message's header block; a longer one is refused. */
#define HEADER_MAX (1024 * 1024)
/* Times a message may pass the same listener of this instance. */
#define PASSES_MAX 3

static const struct delivery_ops delivery_ops;

static const struct settings *
settings(const struct txn *txn)
{
	return txn->front.config->settings;
}

struct txn *
txn_new(const struct txn_front *front)
{
	struct arena *arena = engine_arena_take(front->ew);
	struct txn *txn = arena_zalloc(arena, sizeof(*txn));

	txn->arena = arena;
	txn->front = *front;
	config_ref(front->config);
	mail_body_init(&txn->body);
	txn->started_ms = clock_ms();
	txn->delivery = deliver_new(front->ew, front->listener, arena, &txn->front.log, &delivery_ops, txn);
	return txn;
}

struct arena *
txn_arena(struct txn *txn)
{
	return txn->arena;
}

/* ---- replies ---- */

/* What the summary line will say of the outcome. */
static void
note_reply(struct txn *txn, const struct smtp_reply *reply)
{
	txn->reply = smtp_reply_dup(txn->arena, reply);
}

static enum smtp_step
answer(struct txn *txn, const struct smtp_reply *reply)
{
	struct smtp_cmd *cmd = txn->cmd;

	txn->cmd = NULL;
	return smtp_cmd_reply_with(cmd, reply);
}

static enum smtp_step
answer_ours(struct txn *txn, int code, const char *status, const char *text)
{
	return answer(txn, relay_ours(txn->arena, code, status, text));
}

/* ---- envelope ---- */

static void
got_mail(void *owner, const struct smtp_reply *reply)
{
	struct txn *txn = owner;

	if (reply->code / 100 != 2)
		note_reply(txn, reply);
	answer(txn, reply);
}

enum smtp_step
txn_mail(struct txn *txn, struct smtp_cmd *cmd, const struct mail_sender *sender)
{
	txn->cmd = cmd;
	txn->sender = sender;
	if (!engine_has_room(txn->front.ew)) {
		note_reply(txn, relay_ours(txn->arena, 452, "4.3.1", "the spool is full, try again later"));
		return answer(txn, txn->reply);
	}
	if (deliver_mail(txn->delivery, sender))
		return SMTP_WAIT;
	return answer_ours(txn, 250, "2.1.0", "Ok");
}

static void
keep_rcpt(struct txn *txn, const struct mail_rcpt *rcpt)
{
	if (txn->rcpt_count == txn->rcpt_size) {
		size_t size = txn->rcpt_size == 0 ? 4 : txn->rcpt_size * 2;
		const struct mail_rcpt **list = arena_alloc(txn->arena, size * sizeof(*list));

		if (txn->rcpt_count > 0)
			memcpy(list, txn->rcpts, txn->rcpt_count * sizeof(*list));
		txn->rcpts = list;
		txn->rcpt_size = size;
	}
	txn->rcpts[txn->rcpt_count++] = rcpt;
}

static enum smtp_step
answer_rcpt(struct txn *txn, const struct smtp_reply *reply)
{
	const struct mail_rcpt *rcpt = txn->asked;

	txn->asked = NULL;
	if (reply->code / 100 == 2) {
		keep_rcpt(txn, rcpt);
	} else {
		if (txn->rcpt_refusal == NULL)
			txn->rcpt_refusal = smtp_reply_dup(txn->arena, reply);
		log_info(&txn->front.log, "rcpt", "to=<%s> code=%d text=%s", rcpt->addr, reply->code, reply->text);
	}
	return answer(txn, reply);
}

static void
got_rcpt(void *owner, const struct smtp_reply *reply)
{
	answer_rcpt(owner, reply);
}

/* Must this recipient come in a transaction of its own? */
static bool
must_come_alone(const struct txn *txn, const struct mail_rcpt *rcpt)
{
	const struct listener *l = txn->front.listener;
	const struct filter_set *set = settings(txn)->filters;

	if (txn->rcpt_count == 0)
		return false;
	if (separate_is_on(l->name, txn->sender->addr))
		return true;
	return filter_set_may_differ(set, l->name) &&
	       !filter_set_same_chain(set, l->name, txn->sender, rcpt, txn->rcpts[0], txn->arena);
}

enum smtp_step
txn_rcpt(struct txn *txn, struct smtp_cmd *cmd, const struct mail_rcpt *rcpt)
{
	txn->cmd = cmd;
	txn->asked = rcpt;
	if (must_come_alone(txn, rcpt))
		return answer_rcpt(txn,
			relay_ours(txn->arena, 452, "4.5.3", "send this recipient in a transaction of its own"));
	if (deliver_rcpt(txn->delivery, rcpt))
		return SMTP_WAIT;
	return answer_rcpt(txn, relay_ours(txn->arena, 250, "2.1.5", "Ok"));
}

/* ---- content ---- */

bool
txn_begin(struct txn *txn, struct smtp_reply *refusal)
{
	(void)refusal;
	txn->begun_ms = clock_ms();
	txn->has_content = true;
	spool_writer_init(&txn->writer, &settings(txn)->spool, &txn->front.ew->spool, &txn->body);
	return true;
}

void
txn_content(struct txn *txn, const char *data, size_t len, bool dot_line)
{
	spool_append(&txn->writer, data, len, dot_line);
}

/* ---- the end of data ---- */

static void
finish(struct txn *txn, const struct smtp_reply *reply)
{
	note_reply(txn, reply);
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
	answer(txn, txn->reply);
}

static enum smtp_step
finish_now(struct txn *txn, int code, const char *status, const char *text)
{
	finish(txn, relay_ours(txn->arena, code, status, text));
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

	switch (mail_header_load(&txn->body, HEADER_MAX, txn->arena, &text, &len)) {
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
	while (mail_header_next(text, len, &pos, &field))
		if (mail_field_is(&field, "Message-ID")) {
			txn->msgid = mail_field_text(&field, 200, txn->arena);
			break;
		}
	if ((int)hops > l->conf.max_hops || passes > PASSES_MAX) {
		char why[160];

		snprintf(why, sizeof(why), "mail loop: %u Received lines (%d allowed), %u of them ours (%d allowed)",
			hops, l->conf.max_hops, passes, PASSES_MAX);
		log_warn(&txn->front.log, "loop", "hops=%u passes=%u", hops, passes);
		finish_now(txn, 554, "5.4.6", why);
		return false;
	}
	return true;
}

static void
build_msg(struct txn *txn)
{
	const struct listener *l = txn->front.listener;
	struct mail_msg *msg = &txn->msg;
	char id[32];

	msg->origin = txn->front.origin;
	msg->sender = txn->sender;
	msg->rcpts = txn->rcpts;
	msg->rcpt_count = txn->rcpt_count;
	msg->body = &txn->body;
	msg->arena = txn->arena;
	mail_edits_init(&msg->edits, txn->arena);
	if (!l->conf.received)
		return;
	snprintf(id, sizeof(id), "%06x-%u", txn->front.log.session, txn->front.log.txn);
	mail_edit_prepend(&msg->edits, mail_trace_received(msg, l->conf.smtp.hostname, id, l->token));
}

static uint64_t
dot_deadline(const struct txn *txn)
{
	const struct listener_conf *lc = &txn->front.listener->conf;

	return txn->end_ms + (uint64_t)(lc->budget - lc->final_reserve);
}

/* The verdict that holds for all: the first group's, or tempfail when groups differ. */
static void
settle_verdict(struct txn *txn)
{
	const struct chain_result *first = chain_result(txn->chain, 0);

	txn->verdict = first->verdict;
	txn->edits = first->edits;
	if (chain_group_count(txn->chain) == 1)
		return;
	separate_note(txn->front.listener->name, txn->sender->addr, txn->front.listener->conf.separate_for);
	txn->verdict = (struct mail_verdict){ .kind = VERDICT_TEMPFAIL, .code = 451, .status = "4.5.3",
		.text = "recipients got differing verdicts; send them one at a time" };
}

static void
chain_over(void *owner)
{
	struct txn *txn = owner;
	struct mail_verdict v;

	txn->chained_ms = clock_ms();
	settle_verdict(txn);
	switch (txn->verdict.kind) {
	case VERDICT_PASS:
	case VERDICT_ACCEPT:
		txn->delivering = true;
		deliver_content(txn->delivery, &txn->msg, txn->edits, dot_deadline(txn));
		return;
	case VERDICT_DISCARD:
		finish_now(txn, 250, "2.0.0", "Ok: discarded");
		return;
	case VERDICT_REJECT:
	case VERDICT_TEMPFAIL:
	case VERDICT_DISCONNECT:
	case VERDICT_QUARANTINE: /* nothing can ask for it until there is a quarantine: a fault */
		break;
	}
	v = verdict_reply(&txn->verdict);
	finish_now(txn, v.code, v.status, v.text);
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
		log_error(&txn->front.log, "spool", "err=%s", err.text);
		return finish_now(txn, 452, "4.3.1", "the message could not be spooled, try again later");
	}
	if (!look_at_header(txn))
		return SMTP_REPLIED;
	build_msg(txn);
	net_timer_set(txn->front.budget, lc->budget);
	if (chain_start(settings(txn)->filters, &txn->front.ew->filters, &txn->front.log, &txn->msg,
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

static void
delivered(void *owner)
{
	struct txn *txn = owner;
	const struct delivery_result *r = deliver_result(txn->delivery);
	const struct listener *l = txn->front.listener;

	txn->delivered_ms = clock_ms();
	if (r->mixed)
		separate_note(l->name, txn->sender->addr, l->conf.separate_for);
	finish(txn, r->reply);
	if (txn->is_orphan)
		txn_over(&txn);
}

static const struct delivery_ops delivery_ops = {
	.mail = got_mail,
	.rcpt = got_rcpt,
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

	chain_cancel(&chain);
	deliver_cancel(txn->delivery);
}

/* What runs is cancelled; past the point of no return only the back-end's reply ends the wait. */
void
txn_budget_over(struct txn *txn)
{
	if (txn->cmd == NULL || deliver_is_committed(txn->delivery))
		return;
	cancel_work(txn);
	finish_now(txn, 451, "4.3.2", "no time left to deliver, try again later");
}

bool
txn_is_committed(const struct txn *txn)
{
	return txn->cmd != NULL && deliver_is_committed(txn->delivery);
}

/* ---- the end of a transaction ---- */

void
txn_refused(struct txn *txn, const struct smtp_reply *why)
{
	if (txn->reply == NULL)
		note_reply(txn, why);
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
	bool was_orphan = txn->is_orphan;

	if (txn->has_content)
		spool_writer_deinit(&txn->writer);
	mail_body_deinit(&txn->body);
	config_unref(&txn->front.config);
	engine_arena_give(ew, &arena);
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
	if (txn->sender != NULL)
		summary_log(txn);
	if (txn->is_orphan) {
		TAILQ_REMOVE(&txn->front.ew->orphans, txn, next);
	} else {
		net_timer_clear(txn->front.hold);
		net_timer_clear(txn->front.budget);
	}
	/* A caller up the stack may still look at it. */
	net_later(txn->front.ew->net, release, txn);
}

/* The origin lives in the session, which is about to go. */
static void
become_orphan(struct txn *txn)
{
	struct mail_origin *origin = arena_memdup(txn->arena, txn->front.origin, sizeof(*origin));

	origin->client_text = arena_strdup(txn->arena, origin->client_text);
	origin->helo = arena_strdup(txn->arena, origin->helo);
	txn->front.origin = origin;
	txn->msg.origin = origin;
	txn->front.hold = txn->front.budget = NULL;
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
