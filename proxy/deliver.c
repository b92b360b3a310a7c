/*
 * proxy/deliver.c - the SMTP back-end: connection, envelope, content, point of no return.
 *
 * The embedded back-ends, maildir and discard, are in deliver_local.c.
 */
#include "proxy/deliver.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "proxy/deliver_private.h"
#include "proxy/relay.h"

/* How long an early MAIL waits for another worker's idle connection. */
#define EARLY_WAIT 1000

static const struct smtp_client_ops client_ops;

static void early_busy(struct delivery *d);
static void early_lost(struct delivery *d, const struct smtp_reply *reply);
static void end_with(struct delivery *d, const struct smtp_reply *reply);

struct delivery *
deliver_new(struct engine_worker *ew, const struct listener *listener, struct arena *arena,
	const struct log_ctx *log, const struct delivery_ops *ops, void *owner)
{
	struct delivery *d = arena_zalloc(arena, sizeof(*d));

	d->ew = ew;
	d->listener = listener;
	d->backend = listener->backend;
	d->arena = arena;
	d->log = log;
	d->ops = ops;
	d->owner = owner;
	if (d->backend->kind == BACKEND_SMTP)
		d->dest = engine_dest(ew->engine, d->backend);
	return d;
}

/* ---- the connection ---- */

/* Gives it back in whatever state it is. */
static void
let_go(struct delivery *d)
{
	d->ops->hold(d->owner, 0);
	smtp_pool_cancel(&d->wait);
	if (d->client != NULL)
		smtp_pool_put(d->dest, &d->client);
	d->is_open = false;
}

void
deliver_cancel(struct delivery *d)
{
	if (d == NULL)
		return;
	d->state = DELIVERY_OVER;
	deliver_local_cancel(d);
	smtp_pool_cancel(&d->wait);
	if (d->client != NULL)
		smtp_pool_put(d->dest, &d->client);
}

void
deliver_put_back(struct delivery *d)
{
	if (d->state != DELIVERY_EARLY)
		return;
	if (d->asked) {
		log_warn(d->log, "backend", "backend=%s host=%s err=%s", d->backend->name,
			log_some(d->result.host), "no answer within the budget");
		early_lost(d, relay_fault(d->arena, "4.4.1", "the next hop does not answer, try again later"));
		return;
	}
	let_go(d);
	d->state = DELIVERY_NONE;
}

static void
take_client(struct delivery *d, struct smtp_client *client)
{
	d->client = client;
	smtp_client_set_owner(client, &client_ops, d, d->log);
	ip_addr_port_text(smtp_client_peer(client), d->result.host, sizeof(d->result.host));
}

static void
log_fault(struct delivery *d, const struct err *err)
{
	log_warn(d->log, "backend", "backend=%s host=%s err=%s", d->backend->name,
		log_some(d->result.host), err->text);
}

/* All connections stayed in use for too long. */
static void
got_none(struct delivery *d)
{
	if (d->state == DELIVERY_EARLY) {
		early_busy(d);
		return;
	}
	log_warn(d->log, "backend", "backend=%s err=%s", d->backend->name, "all connections are in use");
	deliver_fail(d, relay_fault(d->arena, "4.3.2",
		"all connections to the next hop are in use, try again later"));
}

static void
got_client(void *owner, struct smtp_client *client, const struct err *err, const struct smtp_reply *reply)
{
	struct delivery *d = owner;

	d->wait = NULL;
	if (client != NULL) {
		take_client(d, client);
		if (d->state == DELIVERY_EARLY)
			deliver_say_mail(d);
		else
			deliver_say_envelope(d);
		return;
	}
	if (err == NULL) {
		got_none(d);
		return;
	}
	log_fault(d, err);
	(void)reply; /* a refused greeting or EHLO is our hop's matter, not the front's */
	deliver_fail(d, relay_fault(d->arena, "4.4.1", "the next hop cannot be reached, try again later"));
}

/* Returns false when there is none to be had (only with NOWAIT). */
static bool
get_client(struct delivery *d, enum smtp_pool_how how, bool fresh, int64_t timeout)
{
	struct smtp_client *client;

	d->wait = smtp_pool_get(d->dest, d->ew->net, how, fresh, timeout, got_client, d, &client);
	if (client != NULL)
		got_client(d, client, NULL, NULL);
	return d->wait != NULL || client != NULL;
}

/* ---- early envelope ---- */

/* 8-bit or UTF-8 mail for a host that turns out not to take it: said at once. */
static const struct smtp_reply *
missing_capability(const struct delivery *d)
{
	unsigned bits = smtp_client_caps(d->client)->bits;

	if (d->sender->smtputf8 && !(bits & SMTP_CAP_SMTPUTF8))
		return relay_fault(d->arena, "4.6.7", "the next hop does not take internationalized addresses now");
	if (d->sender->body == MAIL_BODY_8BITMIME && !(bits & SMTP_CAP_8BITMIME))
		return relay_fault(d->arena, "4.6.3", "the next hop does not take 8-bit messages now");
	return NULL;
}

void
deliver_say_mail(struct delivery *d)
{
	const struct smtp_reply *missing = missing_capability(d);

	if (missing != NULL)
		deliver_fail(d, missing);
	else
		smtp_client_mail(d->client, d->sender, d->sender->size);
}

/* The front waits for this command no longer than for the end of data (Postfix: 100s for either). */
static void
early_ask(struct delivery *d)
{
	d->asked = true;
	d->ops->hold(d->owner, d->listener->conf.budget);
}

bool
deliver_mail(struct delivery *d, const struct mail_sender *sender)
{
	d->sender = sender;
	if (d->dest == NULL || d->listener->conf.envelope != ENVELOPE_EARLY)
		return false;
	d->state = DELIVERY_EARLY;
	early_ask(d);
	if (get_client(d, SMTP_POOL_NOWAIT, false, EARLY_WAIT))
		return true;
	d->ops->hold(d->owner, 0);
	d->state = DELIVERY_NONE;
	d->asked = false;
	return false;
}

bool
deliver_rcpt(struct delivery *d, const struct mail_rcpt *rcpt)
{
	if (d->state != DELIVERY_EARLY)
		return false;
	early_ask(d);
	smtp_client_rcpt(d->client, rcpt);
	return true;
}

/* From now on the connection is held only for so long. */
static void
early_answer(struct delivery *d, const struct smtp_reply *reply, bool is_rcpt)
{
	d->asked = false;
	if (!is_rcpt)
		d->is_open = reply->code / 100 == 2;
	if (d->is_open)
		d->ops->hold(d->owner, d->listener->conf.early_hold);
	else
		deliver_put_back(d);
	if (is_rcpt)
		d->ops->rcpt(d->owner, reply);
	else
		d->ops->mail(d->owner, reply);
}

/* The early connection is gone. Whoever waits for a reply is told; the envelope is given anew later. */
static void
early_lost(struct delivery *d, const struct smtp_reply *reply)
{
	bool was_open = d->is_open, was_asked = d->asked;

	let_go(d);
	d->state = DELIVERY_NONE;
	d->asked = false;
	if (was_asked && was_open)
		d->ops->rcpt(d->owner, reply);
	else if (was_asked)
		d->ops->mail(d->owner, reply);
}

/* No connection is free for an early envelope: it is taken unasked and given later. */
static void
early_busy(struct delivery *d)
{
	early_lost(d, relay_ours(d->arena, 250, "2.1.0", "Ok"));
}

/* ---- late envelope ---- */

static bool
pipelines(const struct delivery *d)
{
	return smtp_client_caps(d->client)->bits & SMTP_CAP_PIPELINING;
}

void
deliver_say_envelope(struct delivery *d)
{
	const struct smtp_reply *missing = missing_capability(d);

	if (missing != NULL) {
		deliver_fail(d, missing);
		return;
	}
	smtp_client_cork(d->client);
	smtp_client_mail(d->client, d->sender, d->size);
	for (size_t i = 0; i < d->msg->rcpt_count; i++)
		smtp_client_rcpt(d->client, d->msg->rcpts[i]);
	if (pipelines(d))
		smtp_client_data(d->client, d->msg->body, d->edits);
	smtp_client_uncork(d->client);
}

static int64_t
time_left(const struct delivery *d)
{
	uint64_t now = clock_ms();

	return d->deadline > now ? (int64_t)(d->deadline - now) : 0;
}

static void
begin_late(struct delivery *d, bool fresh)
{
	int64_t left = time_left(d);

	d->state = DELIVERY_LATE;
	d->heard = 0;
	d->refusal = NULL;
	d->mixed = false;
	d->mail_heard = false;
	d->mail_refused = false;
	if (left <= 0) {
		deliver_fail(d, relay_fault(d->arena, "4.3.2", "no time left to deliver, try again later"));
		return;
	}
	get_client(d, SMTP_POOL_QUEUE, fresh, left);
}

void
deliver_content(struct delivery *d, const struct mail_msg *msg, const struct mail_edits *edits,
	uint64_t deadline)
{
	d->msg = msg;
	d->sender = msg->sender;
	d->edits = edits;
	d->deadline = deadline;
	d->size = mail_view_size(msg->body, edits);
	if (d->dest == NULL) {
		deliver_local(d);
		return;
	}
	if (d->state == DELIVERY_EARLY) {
		d->ops->hold(d->owner, 0);
		d->state = DELIVERY_CONTENT;
		smtp_client_data(d->client, msg->body, edits);
		return;
	}
	begin_late(d, false);
}

/* ---- what the back-end says ---- */

static void
on_mail(void *owner, const struct smtp_reply *reply)
{
	struct delivery *d = owner;

	if (d->state == DELIVERY_EARLY) {
		early_answer(d, relay_reply(d->log, d->arena, d->backend->name, "MAIL", reply), false);
		return;
	}
	d->mail_heard = true;
	if (reply->code / 100 == 2)
		return;
	d->refusal = relay_reply(d->log, d->arena, d->backend->name, "MAIL", reply);
	d->mail_refused = true;
	if (!pipelines(d))
		end_with(d, d->refusal);
}

/* All recipients have been answered, not all alike: what loses nothing is a 4xx for all. */
static const struct smtp_reply *
envelope_result(const struct delivery *d)
{
	if (!d->mixed)
		return d->refusal;
	return relay_fault(
		d->arena, "4.5.3", "recipients were answered differently; send them one at a time");
}

static void
late_rcpt(struct delivery *d, size_t index, const struct smtp_reply *reply)
{
	bool refused = reply->code / 100 != 2;

	if (d->mail_refused)
		return; /* a 503 to each, of no interest */
	if (refused) {
		const struct smtp_reply *r = relay_reply(d->log, d->arena, d->backend->name, "RCPT", reply);

		log_info(d->log, "rcpt", "to=<%s> code=%d text=%s", d->msg->rcpts[index]->addr, reply->code, r->text);
		if (d->refusal == NULL)
			d->mixed = index > 0;
		else if (d->refusal->code / 100 != r->code / 100)
			d->mixed = true;
		if (d->refusal == NULL)
			d->refusal = r;
	} else if (d->refusal != NULL) {
		d->mixed = true;
	}
	if (++d->heard < d->msg->rcpt_count || pipelines(d))
		return;
	if (d->refusal == NULL)
		smtp_client_data(d->client, d->msg->body, d->edits);
	else
		end_with(d, envelope_result(d));
}

static void
on_rcpt(void *owner, size_t index, const struct smtp_reply *reply)
{
	struct delivery *d = owner;

	if (d->state == DELIVERY_EARLY)
		early_answer(d, relay_reply(d->log, d->arena, d->backend->name, "RCPT", reply), true);
	else
		late_rcpt(d, index, reply);
}

static void
on_refused(void *owner, const struct smtp_reply *reply)
{
	struct delivery *d = owner;

	/* The recipients' refusals say more than "no valid recipients". */
	if (d->refusal != NULL)
		end_with(d, envelope_result(d));
	else
		end_with(d, relay_reply(d->log, d->arena, d->backend->name, "DATA", reply));
}

/* The 354: may the content go? The connection is closed when not. */
static bool
on_go(void *owner)
{
	struct delivery *d = owner;

	if (d->refusal == NULL)
		return true;
	smtp_pool_drop(d->dest, &d->client);
	end_with(d, envelope_result(d));
	return false;
}

static bool
on_dot(void *owner)
{
	struct delivery *d = owner;

	if (clock_ms() <= d->deadline && d->ops->may_commit(d->owner)) {
		d->committed = true;
		return true;
	}
	smtp_pool_drop(d->dest, &d->client);
	end_with(d, relay_fault(d->arena, "4.3.2", "no time left to deliver, try again later"));
	return false;
}

static void
on_final(void *owner, const struct smtp_reply *reply)
{
	struct delivery *d = owner;

	d->result.delivered = reply->code / 100 == 2;
	if (d->result.delivered)
		smtp_reply_queue_id(reply, d->result.queue_id, sizeof(d->result.queue_id));
	end_with(d, relay_reply(d->log, d->arena, d->backend->name, "end of data", reply));
}

static void
on_ready(void *owner)
{
	(void)owner; /* the pool gives only ready ones, and resets by itself */
}

/* An idle connection that proves dead before MAIL is answered is replaced once, silently. */
static bool
may_replace(const struct delivery *d, const struct smtp_reply *reply)
{
	bool before_mail = d->state == DELIVERY_EARLY  ? !d->is_open
			   : d->state == DELIVERY_LATE ? !d->mail_heard
						       : false;

	return before_mail && !d->replaced && smtp_client_is_reused(d->client) &&
	       (reply == NULL || reply->code == 421);
}

static void
replace(struct delivery *d)
{
	d->replaced = true;
	smtp_pool_drop(d->dest, &d->client);
	if (d->state == DELIVERY_LATE)
		begin_late(d, true);
	else if (!get_client(d, SMTP_POOL_NOWAIT, true, EARLY_WAIT))
		early_busy(d);
}

/* Was the envelope refused, completely, before the connection ended? Some close behind a 5xx. */
static bool
was_refused(const struct delivery *d)
{
	return d->state == DELIVERY_LATE && d->refusal != NULL &&
	       (d->mail_refused || d->heard == d->msg->rcpt_count);
}

/* Only a 421 gives a reason that the front may hear; any other reply was none to what we said. */
static const struct smtp_reply *
fault_reply(const struct delivery *d, const struct smtp_reply *reply)
{
	if (was_refused(d) && !smtp_client_is_odd(d->client))
		return envelope_result(d);
	if (reply != NULL && reply->code == 421)
		return relay_reply(d->log, d->arena, d->backend->name, "a command", reply);
	if (d->committed)
		return relay_fault(d->arena, "4.4.2",
			"the next hop did not confirm the message; it may have been delivered");
	return relay_fault(d->arena, "4.4.2", "lost the connection to the next hop, try again later");
}

static void
on_failed(void *owner, const struct err *err, const struct smtp_reply *reply)
{
	struct delivery *d = owner;

	if (may_replace(d, reply)) {
		log_debug(d->log, "replace", "host=%s err=%s", d->result.host, err->text);
		replace(d);
		return;
	}
	log_fault(d, err);
	deliver_fail(d, fault_reply(d, reply));
}

static const struct smtp_client_ops client_ops = {
	.ready = on_ready,
	.mail = on_mail,
	.rcpt = on_rcpt,
	.refused = on_refused,
	.go = on_go,
	.dot = on_dot,
	.final = on_final,
	.failed = on_failed,
};

/* ---- the end ---- */

/* A fault, never a 2xx or 5xx of ours. */
void
deliver_fail(struct delivery *d, const struct smtp_reply *reply)
{
	if (d->client != NULL && !smtp_client_is_reusable(d->client) && !smtp_client_may_reset(d->client))
		smtp_pool_drop(d->dest, &d->client);
	if (d->state == DELIVERY_EARLY)
		early_lost(d, reply);
	else
		end_with(d, reply);
}

static void
end_with(struct delivery *d, const struct smtp_reply *reply)
{
	assert(d->state != DELIVERY_OVER);
	let_go(d);
	d->state = DELIVERY_OVER;
	d->result.reply = reply;
	d->result.mixed = d->mixed;
	d->ops->done(d->owner);
}

void
deliver_end(struct delivery *d, const struct smtp_reply *reply)
{
	end_with(d, reply);
}

bool
deliver_is_committed(const struct delivery *d)
{
	return d->committed;
}

const struct delivery_result *
deliver_result(const struct delivery *d)
{
	return &d->result;
}
