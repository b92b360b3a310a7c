/*
 * proxy/txn_envelope.c - MAIL and RCPT of a transaction: what the gate says of them, and the back-end that is asked early.
 */
#include <string.h>

#include "base/clock.h"
#include "filters/rules.h"
#include "filters/set.h"
#include "mail/verdict.h"
#include "proxy/limits.h"
#include "proxy/relay.h"
#include "proxy/separate.h"
#include "proxy/txn_private.h"

/* ---- replies ---- */

static enum smtp_step
answer_ours(struct txn *txn, int code, const char *status, const char *text)
{
	return txn_answer(txn, relay_ours(txn->arena, code, status, text));
}

/* The gate's or the chain's word; the session may be over with it. */
static void
answer_verdict(struct txn *txn, const struct mail_verdict *v)
{
	const struct smtp_reply *reply = relay_verdict(txn->arena, v);
	struct smtp_cmd *cmd = txn->cmd;

	if (v->kind != VERDICT_DISCONNECT) {
		txn_answer(txn, reply);
		return;
	}
	txn->cmd = NULL;
	txn->verdict = *v;
	txn_note_reply(txn, reply);
	smtp_cmd_reply_close(cmd, reply);
}

/* ---- the gate ---- */

typedef void (*gate_answered)(void *txn, const struct mail_verdict *verdict);

static enum smtp_step
ask_gate(struct txn *txn, enum filter_stage stage, const struct mail_rcpt *rcpt, gate_answered answered)
{
	struct mail_msg *msg = arena_zalloc(txn->arena, sizeof(*msg));
	const struct gate_question q = {
		.stage = stage,
		.filters = txn->front.listener->gate,
		.env = &txn->front.ew->filters,
		.spool = &txn_settings(txn)->spool,
		.log = &txn->front.log,
		.arena = txn->arena,
		.msg = msg,
		.rcpt = rcpt,
		.txn = &txn->gate,
		.budget_ms = txn->front.listener->conf.budget,
		.answered = answered,
		.owner = txn,
	};
	struct mail_verdict verdict;

	*msg = (struct mail_msg){ .origin = txn->front.origin, .sender = txn->sender, .when = txn->msg.when,
		.rcpts = txn->rcpts, .rcpt_count = txn->rcpt_count, .arena = txn->arena };
	if (gate_ask(txn->front.gate, &q, &verdict))
		answered(txn, &verdict);
	return txn->cmd == NULL ? SMTP_REPLIED : SMTP_WAIT;
}

/* ---- envelope ---- */

void
txn_got_mail(void *owner, const struct smtp_reply *reply)
{
	struct txn *txn = owner;

	if (reply->code / 100 != 2)
		txn_note_reply(txn, reply);
	txn_answer(txn, reply);
}

/* Is there no place for this message now? *why_r is for the front. */
static bool
has_no_place(struct txn *txn, const struct smtp_reply **why_r)
{
	struct engine_worker *ew = txn->front.ew;
	struct limits *limits = engine_limits(ew->engine);

	*why_r = NULL;
	if (limits_is_tight(limits)) {
		limits_note(limits, REFUSED_MAIL);
		*why_r = relay_ours(txn->arena, 451, "4.3.2", "too many connections, try again later");
	} else if (!engine_has_room(ew, txn->sender->size)) {
		*why_r = relay_ours(txn->arena, 452, "4.3.1", "there is no room for the message, try again later");
	}
	return *why_r != NULL;
}

/*
 * What the front has declared, and our line in front of it: the back-end may refuse a message that is larger
 * than was said (RFC 1870 6.3), and what passes its limit only with our line is better refused here than
 * behind its content. The `for` clause is not known yet: to say too much could refuse what does fit.
 */
static int64_t
declared_size(const struct txn *txn)
{
	const struct mail_msg msg = { .origin = txn->front.origin, .sender = txn->sender, .arena = txn->arena };

	if (txn->sender->size < 0 || !txn->front.listener->conf.received)
		return txn->sender->size;
	return txn->sender->size + (int64_t)strlen(txn_received_line(txn, &msg));
}

/* Nobody of ours objects. */
static enum smtp_step
pass_mail(struct txn *txn)
{
	/* What is not going to be delivered is no matter of the back-end's. */
	if (txn->forced.kind == VERDICT_PASS && deliver_mail(txn->delivery, txn->sender, declared_size(txn)))
		return txn->cmd == NULL ? SMTP_REPLIED : SMTP_WAIT;
	return answer_ours(txn, 250, "2.1.0", "Ok");
}

static void
mail_asked(void *owner, const struct mail_verdict *v)
{
	struct txn *txn = owner;

	switch (v->kind) {
	case VERDICT_DISCARD:
	case VERDICT_QUARANTINE:
		txn->forced = *v;
		pass_mail(txn);
		return;
	case VERDICT_PASS:
	case VERDICT_ACCEPT:
		pass_mail(txn);
		return;
	case VERDICT_REJECT:
	case VERDICT_TEMPFAIL:
	case VERDICT_DISCONNECT:
		break;
	}
	txn->verdict = *v;
	txn_note_reply(txn, relay_verdict(txn->arena, v));
	answer_verdict(txn, v);
}

/* With unqualified_domain, where an address has none of its own: for us and for the back-end. The null sender needs
 * none. */
static void
qualify(const struct txn *txn, const char **addr, const char **domain)
{
	const char *ours = txn_settings(txn)->top.addresses.unqualified_domain;
	size_t len = strlen(*addr);

	if (ours == NULL || len == 0 || **domain != '\0')
		return;
	*addr = arena_printf(txn->arena, "%s@%s", *addr, ours);
	*domain = *addr + len + 1;
}

enum smtp_step
txn_mail(struct txn *txn, struct smtp_cmd *cmd, const struct mail_sender *given)
{
	struct mail_sender *sender = arena_memdup(txn->arena, given, sizeof(*given));
	const struct smtp_reply *why;

	qualify(txn, &sender->addr, &sender->domain);
	txn->cmd = cmd;
	txn->sender = sender;
	txn->msg.when = clock_calendar();
	if (has_no_place(txn, &why)) {
		txn_note_reply(txn, why);
		return txn_answer(txn, why);
	}
	if (txn->front.gate != NULL)
		return ask_gate(txn, FILTER_MAIL, NULL, mail_asked);
	return pass_mail(txn);
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

/* by: the gate's verdict, or NULL. */
static void
log_rcpt(const struct txn *txn, const struct mail_rcpt *rcpt, const struct smtp_reply *reply,
	const struct mail_verdict *by)
{
	log_info(&txn->front.log, "rcpt", "to=<%s> code=%d text=%s filter=%s verdict=%s", rcpt->addr, reply->code,
		reply->text, log_some(by != NULL ? by->filter : NULL),
		log_some(by != NULL ? verdict_names[by->kind] : NULL));
}

static enum smtp_step
refuse_rcpt(struct txn *txn, const struct smtp_reply *reply, const struct mail_verdict *by)
{
	const struct smtp_reply *kept = txn_keep_reply(txn, reply);

	if (txn->rcpt_refusal == NULL)
		txn->rcpt_refusal = kept;
	log_rcpt(txn, txn->asked, kept, by);
	txn->asked = NULL;
	if (by != NULL)
		answer_verdict(txn, by);
	else
		txn_answer(txn, reply);
	return SMTP_REPLIED;
}

static enum smtp_step
answer_rcpt(struct txn *txn, const struct smtp_reply *reply)
{
	if (reply->code / 100 != 2)
		return refuse_rcpt(txn, reply, NULL);
	keep_rcpt(txn, txn->asked);
	txn->asked = NULL;
	return txn_answer(txn, reply);
}

void
txn_got_rcpt(void *owner, const struct smtp_reply *reply)
{
	answer_rcpt(owner, reply);
}

/* Must this recipient come in a transaction of its own? */
static bool
must_come_alone(const struct txn *txn, const struct mail_rcpt *rcpt)
{
	const struct listener *l = txn->front.listener;
	const struct filter_set *set = txn_settings(txn)->filters;
	const struct rules_facts facts = {l->name, &txn->front.origin->client, txn->sender, txn->msg.when};

	if (txn->rcpt_count == 0 && !txn_has_dropped(txn))
		return false;
	if (separate_is_on(l->name, txn->sender->addr))
		return true;
	return txn->rcpt_count > 0 && filter_set_may_differ(set, l->name) &&
	       !filter_set_same_chain(set, &facts, rcpt, txn->rcpts[0], txn->arena);
}

static const struct mail_rcpt *
qualified_rcpt(const struct txn *txn, const struct mail_rcpt *given)
{
	struct mail_rcpt *rcpt = arena_memdup(txn->arena, given, sizeof(*given));

	qualify(txn, &rcpt->addr, &rcpt->domain);
	return rcpt;
}

static enum smtp_step
put_off_rcpt(struct txn *txn)
{
	return answer_rcpt(txn, relay_ours(txn->arena, 452, "4.5.3", "send this recipient in a transaction of its own"));
}

static enum smtp_step
take_rcpt(struct txn *txn)
{
	return answer_rcpt(txn, relay_ours(txn->arena, 250, "2.1.5", "Ok"));
}

static enum smtp_step
pass_rcpt(struct txn *txn)
{
	if (txn->forced.kind == VERDICT_PASS && deliver_rcpt(txn->delivery, txn->asked))
		return txn->cmd == NULL ? SMTP_REPLIED : SMTP_WAIT;
	return take_rcpt(txn);
}

/* Taken, and then there is nothing more to do for it. */
static void
drop_rcpt(struct txn *txn, const struct mail_verdict *v)
{
	const struct smtp_reply *reply = relay_ours(txn->arena, 250, "2.1.5", "Ok");

	txn->dropped = *v;
	log_rcpt(txn, txn->asked, reply, v);
	txn->asked = NULL;
	txn_answer(txn, reply);
}

/* A message is set aside for all of its recipients or for none. */
static void
rcpt_set_aside(struct txn *txn, const struct mail_verdict *v)
{
	if (txn->rcpt_count > 0 && txn->forced.kind == VERDICT_PASS) {
		put_off_rcpt(txn);
		return;
	}
	if (txn->forced.kind == VERDICT_PASS) {
		txn->forced = *v;
		txn->is_forced_by_rcpt = true;
		deliver_put_back(txn->delivery);
	}
	take_rcpt(txn);
}

static void
rcpt_asked(void *owner, const struct mail_verdict *v)
{
	struct txn *txn = owner;

	switch (v->kind) {
	case VERDICT_PASS:
	case VERDICT_ACCEPT:
		if (txn->is_forced_by_rcpt)
			put_off_rcpt(txn);
		else
			pass_rcpt(txn);
		break;
	case VERDICT_DISCARD:
		drop_rcpt(txn, v);
		break;
	case VERDICT_QUARANTINE:
		rcpt_set_aside(txn, v);
		break;
	case VERDICT_REJECT:
	case VERDICT_TEMPFAIL:
	case VERDICT_DISCONNECT:
		refuse_rcpt(txn, relay_verdict(txn->arena, v), v);
		break;
	}
}

enum smtp_step
txn_rcpt(struct txn *txn, struct smtp_cmd *cmd, const struct mail_rcpt *given)
{
	const struct mail_rcpt *rcpt = qualified_rcpt(txn, given);

	txn->cmd = cmd;
	txn->asked = rcpt;
	if (must_come_alone(txn, rcpt))
		return put_off_rcpt(txn);
	if (txn->front.gate != NULL && txn->forced.kind != VERDICT_DISCARD)
		return ask_gate(txn, FILTER_RCPT, rcpt, rcpt_asked);
	return pass_rcpt(txn);
}
