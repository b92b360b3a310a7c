/*
 * proxy/txn_aside.c - the quarantine of a transaction: written before anything is delivered, committed with the answer.
 */
#include "base/str.h"
#include "mail/verdict.h"
#include "proxy/metrics.h"
#include "proxy/relay.h"
#include "proxy/txn_private.h"

/* To whom it would go now: with what the filters have changed. One that they have left nobody keeps those it came for. */
static void
set_envelope(struct txn *txn, struct quarantine_mail *mail)
{
	struct mail_envelope envelope;

	mail_edits_envelope(txn->arena, mail->edits, mail->sender, mail->rcpts, mail->rcpt_count, &envelope);
	mail->sender = envelope.sender;
	if (envelope.rcpt_count == 0)
		return;
	mail->rcpts = envelope.rcpts;
	mail->rcpt_count = envelope.rcpt_count;
}

static const struct quarantine_mail *
describe(struct txn *txn)
{
	struct quarantine_mail *mails = arena_zalloc(txn->arena, txn->settled.quarantined * sizeof(*mails)), *mail = mails;
	const char *session = arena_printf(txn->arena, "%06x-%u", txn->front.log.session, txn->front.log.txn);

	for (size_t i = 0; i < txn->settled.group_count; i++) {
		const struct settled_group *g = &txn->settled.groups[i];

		if (g->verdict->kind != VERDICT_QUARANTINE)
			continue;
		*mail = (struct quarantine_mail){
			.verdict = verdict_names[g->verdict->kind],
			.filter = g->verdict->filter,
			.reason = g->verdict->text,
			.session = session,
			.front_id = txn->front_id,
			.msgid = txn->msgid,
			.origin = txn->front.origin,
			.sender = txn->sender,
			.rcpts = g->rcpts,
			.rcpt_count = g->rcpt_count,
			.body = &txn->body,
			.edits = g->edits,
		};
		set_envelope(txn, mail++);
	}
	return mails;
}

/* The front is told to come again; what is there already goes. */
static void
give_up(struct txn *txn, const struct err *err)
{
	static const struct mail_verdict failed = { .kind = VERDICT_TEMPFAIL };
	struct engine_worker *ew = txn->front.ew;

	aside_drop(&txn->aside);
	log_repeat(LOG_LEVEL_ERROR, &txn->front.log, NULL, "quarantine", "err=%s", err->text);
	count_add(&engine_counts(ew, txn->front.listener)->quarantine_failures, 1);
	txn->verdict = failed;
	txn_finish(txn, relay_fault(txn->arena, "4.3.0", "the message could not be stored, try again later"));
}

static void
log_kept(const struct txn *txn, const char *id, const struct quarantine_mail *mail)
{
	log_info(&txn->front.log, "quarantine", "id=%s filter=%s reason=%s rcpts=%zu to=<%s>", id, mail->filter, mail->reason,
		mail->rcpt_count, mail->rcpts[0]->addr);
}

static void
keep(struct txn *txn)
{
	struct listener_counts *counts = engine_counts(txn->front.ew, txn->front.listener);
	struct str ids = STR_INIT;

	for (size_t i = 0; i < txn->settled.quarantined; i++) {
		str_printf(&ids, "%s%s", i > 0 ? "," : "", aside_id(txn->aside, i));
		log_kept(txn, aside_id(txn->aside, i), &txn->asides[i]);
	}
	txn->quarantine_ids = arena_strdup(txn->arena, str_text(&ids));
	str_deinit(&ids);
	count_add(&counts->quarantined, txn->settled.quarantined);
	aside_keep(&txn->aside);
}

static void
is_committed(struct txn *txn, const struct err *err)
{
	if (err != NULL) {
		give_up(txn, err);
		return;
	}
	keep(txn);
	txn_finish(txn, txn->aside_reply);
}

static void
is_prepared(struct txn *txn, const struct err *err)
{
	if (err != NULL)
		give_up(txn, err);
	else
		txn_carry_out(txn);
}

/* Nobody waits for an answer any more: then the front still has the message, and brings it again. */
static void
over(void *owner, const struct err *err)
{
	struct txn *txn = owner;

	if (txn->cmd != NULL && txn->aside_reply != NULL)
		is_committed(txn, err);
	else if (txn->cmd != NULL)
		is_prepared(txn, err);
	else
		txn_over(&txn);
}

void
txn_aside_begin(struct txn *txn)
{
	txn_own_origin(txn); /* a job thread reads it */
	if (txn->settled.deliver == NULL)
		deliver_put_back(txn->delivery);
	txn->asides = describe(txn);
	txn->aside = aside_start(txn->front.ew->net, txn->front.snapshot->settings->quarantine.directory, txn->asides,
		txn->settled.quarantined, over, txn);
}

void
txn_aside_commit(struct txn *txn, const struct smtp_reply *reply)
{
	txn->aside_reply = reply;
	aside_commit(txn->aside);
}
