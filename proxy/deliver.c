/*
 * proxy/deliver.c - the SMTP back-end: connection, envelope, content, point of no return.
 *
 * The embedded back-ends, maildir and discard, are in deliver_local.c.
 */
#include "proxy/deliver.h"

#include <assert.h>
#include <ctype.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "proxy/deliver_private.h"
#include "proxy/metrics.h"
#include "proxy/relay.h"

/* How long an early MAIL waits for another worker's idle connection. */
#define EARLY_WAIT 1000
/* How long a front may be silent behind an early envelope while others wait for a connection. */
#define EARLY_GRACE 100

static const struct smtp_client_ops client_ops;

static bool move_on(struct delivery *d, const struct smtp_reply *fault);
static void begin_late(struct delivery *d, bool fresh);
static void early_busy(struct delivery *d);
static void early_lost(struct delivery *d, const struct smtp_reply *reply);
static void end_with(struct delivery *d, const struct smtp_reply *reply);

struct delivery *
deliver_new(struct engine_worker *ew, const struct listener *listener, struct smtp_dest *dest,
	struct arena *arena, const struct log_ctx *log, const struct delivery_ops *ops, void *owner)
{
	struct delivery *d = arena_zalloc(arena, sizeof(*d));

	d->ew = ew;
	d->listener = listener;
	d->backend = listener->backend;
	d->arena = arena;
	d->log = log;
	d->ops = ops;
	d->owner = owner;
	d->dest = dest;
	return d;
}

/* ---- early envelopes whose front is silent ---- */

static atomic_int resting; /* on all workers */

static void
rest_begin(struct delivery *d)
{
	TAILQ_INSERT_TAIL(&d->ew->resting, d, next_resting);
	atomic_fetch_add(&resting, 1);
	d->is_resting = true;
	d->is_hurried = false;
	d->resting_since = net_worker_now(d->ew->net);
	d->ops->hold(d->owner, d->listener->conf.early_hold);
}

static void
rest_end(struct delivery *d)
{
	if (!d->is_resting)
		return;
	TAILQ_REMOVE(&d->ew->resting, d, next_resting);
	atomic_fetch_sub(&resting, 1);
	d->is_resting = false;
}

static void
hurry(struct delivery *d)
{
	int64_t hold = d->listener->conf.early_hold < EARLY_GRACE ? d->listener->conf.early_hold : EARLY_GRACE;
	int64_t age = (int64_t)(net_worker_now(d->ew->net) - d->resting_since);

	d->is_hurried = true;
	d->ops->hold(d->owner, hold > age ? hold - age : 1);
}

/* Does somebody wait for a connection, and not only for one that is on its way from another worker? */
static bool
is_scarce(struct smtp_dest *dest)
{
	struct smtp_pool_counts counts = smtp_dest_counts(dest);

	return counts.waiting > counts.idle;
}

/* The one that rests longest, of those that somebody waits for. */
static void
hurry_one(void *engine_worker)
{
	struct engine_worker *ew = engine_worker;
	struct delivery *d;

	TAILQ_FOREACH(d, &ew->resting, next_resting)
		if (!d->is_hurried && is_scarce(d->dest)) {
			hurry(d);
			return;
		}
}

/* Without this a few silent clients would keep all connections for early_hold, from everybody. */
static void
hurry_others(struct delivery *d)
{
	if (atomic_load(&resting) > 0 && is_scarce(d->dest))
		engine_for_workers(d->ew->engine, hurry_one);
}

/* ---- the connection ---- */

/* Gives it back in whatever state it is. */
static void
let_go(struct delivery *d)
{
	rest_end(d);
	d->ops->hold(d->owner, 0);
	smtp_pool_cancel(&d->wait);
	if (d->client != NULL)
		smtp_pool_put(d->dest, &d->client);
	d->is_open = false;
}

/* What is to be said next would stand behind a reply that may never come. */
static void
close_overdue(struct delivery *d)
{
	if (d->client != NULL && smtp_client_is_waiting(d->client))
		smtp_pool_drop(d->dest, &d->client);
}

void
deliver_cancel_late(struct delivery *d)
{
	close_overdue(d);
	deliver_cancel(d);
}

void
deliver_cancel(struct delivery *d)
{
	if (d == NULL)
		return;
	d->state = DELIVERY_OVER;
	rest_end(d);
	deliver_local_cancel(d);
	smtp_pool_cancel(&d->wait);
	if (d->client != NULL)
		smtp_pool_put(d->dest, &d->client);
}

/* Each message says in its summary line what became of it: this is for the fault that they share. */
static void
log_fault(struct delivery *d, const char *text)
{
	log_repeat(LOG_LEVEL_WARN, d->log, d->backend->name, "backend", "backend=%s host=%s err=%s", d->backend->name,
		log_some(d->result.host), text);
}

static void
note_overdue(struct delivery *d)
{
	struct err err;

	if (d->client == NULL || !smtp_client_is_waiting(d->client))
		return;
	err_set_temp(&err, "no reply to %s within the budget", d->rcpt != NULL ? "RCPT" : "MAIL");
	smtp_pool_hung(d->client, d->in_haste, &err);
}

void
deliver_put_back(struct delivery *d)
{
	if (d->state != DELIVERY_EARLY)
		return;
	if (d->asked) {
		log_fault(d, "no answer within the budget");
		note_overdue(d);
		close_overdue(d);
		early_lost(d, relay_fault(d->arena, "4.4.1", "the next hop does not answer, try again later"));
		return;
	}
	let_go(d);
	d->state = DELIVERY_NONE;
}

static int64_t
time_left(const struct delivery *d)
{
	uint64_t now = clock_ms();

	return d->deadline > now ? (int64_t)(d->deadline - now) : 0;
}

/* From the next command on, as long as another host may be asked instead. */
static void
share_patience(struct delivery *d)
{
	int64_t left = time_left(d);

	d->in_haste = left < d->listener->conf.budget / 2;
	smtp_client_set_patience(d->client, smtp_pool_patience(d->client, d->tried, left));
}

static void
take_client(struct delivery *d, struct smtp_client *client)
{
	d->client = client;
	smtp_client_set_owner(client, &client_ops, d, d->log);
	share_patience(d);
	ip_addr_port_text(smtp_client_peer(client), d->result.host, sizeof(d->result.host));
}

/* All connections stayed in use for too long. */
static void
got_none(struct delivery *d)
{
	if (d->state == DELIVERY_EARLY) {
		early_busy(d);
		return;
	}
	log_fault(d, "all connections are in use");
	deliver_fail(d, d->fault != NULL ? d->fault : relay_fault(d->arena, "4.3.2",
		"all connections to the next hop are in use, try again later"));
}

/* What the front hears when no host could be used: why the last delivery failed, or what of the last attempt may be
 * told. */
static const struct smtp_reply *
unreachable(const struct delivery *d, const struct err *err)
{
	if (d->fault != NULL)
		return d->fault;
	if (err->outside != NULL)
		return relay_fault(d->arena, "4.7.5",
			arena_printf(d->arena, "TLS with the next hop failed: %s", err->outside));
	return relay_fault(d->arena, "4.4.1", "the next hop cannot be reached, try again later");
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
	log_fault(d, err->text);
	(void)reply; /* a refused greeting or EHLO is our hop's matter, not the front's */
	deliver_fail(d, unreachable(d, err));
}

/* Returns false when there is none to be had (only with NOWAIT). */
static bool
get_client(struct delivery *d, enum smtp_pool_how how, bool fresh, int64_t patience)
{
	struct smtp_client *client;
	const struct smtp_pool_want want = {
		.how = how,
		.fresh = fresh,
		.but = d->tried,
		.queue_ms = how == SMTP_POOL_NOWAIT ? EARLY_WAIT : patience,
		.patience_ms = patience,
	};

	d->wait = smtp_pool_get(d->dest, d->ew->net, &want, got_client, d, &client);
	if (client != NULL)
		got_client(d, client, NULL, NULL);
	return d->wait != NULL || client != NULL;
}

static bool
get_client_early(struct delivery *d, bool fresh)
{
	int64_t left = time_left(d);

	return get_client(d, SMTP_POOL_NOWAIT, fresh, left > 0 ? left : 1);
}

/* ---- another host ---- */

static bool
has_other_hosts(const struct delivery *d)
{
	return smtp_dest_conf(d->dest)->host_count > 1;
}

/* Is there a host that has not been tried, beside the present one? */
static bool
has_untried(const struct delivery *d)
{
	uint64_t tried = d->tried | SMTP_HOST_BIT(smtp_pool_host(d->client));

	for (int i = 0; i < smtp_dest_conf(d->dest)->host_count; i++)
		if (!(tried & SMTP_HOST_BIT(i)))
			return true;
	return false;
}

/* Gives the connection back, in whatever state it is, and the envelope to another host. False: there is none. */
static bool
move_on(struct delivery *d, const struct smtp_reply *fault)
{
	if (!has_untried(d))
		return false;
	d->tried |= SMTP_HOST_BIT(smtp_pool_host(d->client));
	d->fault = fault;
	log_info(d->log, "backend", "backend=%s host=%s state=%s text=%s", d->backend->name, d->result.host,
		"another host is asked", fault->text);
	smtp_pool_put(d->dest, &d->client);
	if (d->state == DELIVERY_EARLY) {
		d->is_open = false;
		if (!get_client_early(d, false))
			early_busy(d);
	} else {
		begin_late(d, false);
	}
	return true;
}

/* ---- early envelope ---- */

static bool
offers_dsn(const struct delivery *d)
{
	return smtp_client_caps(d->client)->bits & SMTP_CAP_DSN;
}

static const struct smtp_reply *
missing_dsn(const struct delivery *d)
{
	return relay_fault(d->arena, "4.6.0", "the next hop does not take DSN parameters now");
}

static bool
wants_dsn(const struct mail_rcpt *rcpt)
{
	return rcpt->notify != NULL || rcpt->orcpt != NULL;
}

/* Was something given by the front that this host turns out not to take, though we offered it? */
static const struct smtp_reply *
missing_capability(const struct delivery *d)
{
	unsigned bits = smtp_client_caps(d->client)->bits;
	bool dsn = d->sender->ret != MAIL_RET_UNSET || d->sender->envid != NULL;

	if (d->sender->smtputf8 && !(bits & SMTP_CAP_SMTPUTF8))
		return relay_fault(d->arena, "4.6.7", "the next hop does not take internationalized addresses now");
	if (d->sender->body == MAIL_BODY_8BITMIME && !(bits & SMTP_CAP_8BITMIME))
		return relay_fault(d->arena, "4.6.3", "the next hop does not take 8-bit messages now");
	/* Of those that filters have added nobody asked for it. */
	for (size_t i = 0; !dsn && d->msg != NULL && i < d->envelope.own_count; i++)
		dsn = wants_dsn(d->envelope.rcpts[i]);
	return dsn && !offers_dsn(d) ? missing_dsn(d) : NULL;
}

void
deliver_say_mail(struct delivery *d)
{
	const struct smtp_reply *missing = missing_capability(d);

	if (missing == NULL)
		smtp_client_mail(d->client, d->sender, d->size);
	else if (!move_on(d, missing))
		deliver_fail(d, missing);
}

/* The front waits for this command no longer than for the end of data (Postfix: 100s for either). */
static void
early_ask(struct delivery *d)
{
	d->asked = true;
	d->deadline = clock_ms() + (uint64_t)d->listener->conf.budget;
	rest_end(d);
	d->ops->hold(d->owner, d->listener->conf.budget);
}

bool
deliver_mail(struct delivery *d, const struct mail_sender *sender, int64_t size)
{
	d->sender = sender;
	d->size = size;
	if (d->dest == NULL || d->listener->conf.envelope != ENVELOPE_EARLY)
		return false;
	d->state = DELIVERY_EARLY;
	early_ask(d);
	if (get_client_early(d, false))
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
	if (wants_dsn(rcpt) && !offers_dsn(d)) {
		/* MAIL asked for nothing special. Another host is found when the envelope is complete. */
		if (has_other_hosts(d)) {
			deliver_put_back(d);
			return false;
		}
		d->ops->rcpt(d->owner, missing_dsn(d));
		return true;
	}
	early_ask(d);
	d->rcpt = rcpt;
	share_patience(d);
	if (d->rcpts_heard > 0)
		smtp_client_set_patience(d->client, 0); /* then there is no other host */
	smtp_client_rcpt(d->client, rcpt);
	return true;
}

/* From now on the connection is held only for so long. */
static void
early_answer(struct delivery *d, const struct smtp_reply *reply)
{
	bool is_rcpt = d->rcpt != NULL;

	d->asked = false;
	d->rcpt = NULL;
	if (is_rcpt)
		d->rcpts_heard++;
	else
		d->is_open = reply->code / 100 == 2;
	if (d->is_open)
		rest_begin(d);
	else
		deliver_put_back(d);
	if (is_rcpt)
		d->ops->rcpt(d->owner, reply);
	else
		d->ops->mail(d->owner, reply);
}

/* A host that is asked in place of another one, at the first RCPT, hears MAIL again; what it says against MAIL it
 * says against this recipient. */
static void
early_mail(struct delivery *d, const struct smtp_reply *reply)
{
	const struct mail_rcpt *rcpt = d->rcpt;

	if (rcpt == NULL) {
		early_answer(d, reply);
		return;
	}
	d->is_open = reply->code / 100 == 2;
	if (!d->is_open)
		early_answer(d, reply);
	else if (wants_dsn(rcpt) && !offers_dsn(d))
		early_answer(d, missing_dsn(d));
	else
		smtp_client_rcpt(d->client, rcpt);
}

/* The early connection is gone. Whoever waits for a reply is told; the envelope is given anew later. */
static void
early_lost(struct delivery *d, const struct smtp_reply *reply)
{
	bool was_rcpt = d->rcpt != NULL, was_asked = d->asked;

	let_go(d);
	d->state = DELIVERY_NONE;
	d->asked = false;
	d->rcpt = NULL;
	if (was_rcpt)
		d->ops->rcpt(d->owner, reply);
	else if (was_asked)
		d->ops->mail(d->owner, reply);
}

/* No connection is free for an early envelope: it is taken unasked and given later. */
static void
early_busy(struct delivery *d)
{
	early_lost(d, relay_ours(d->arena, 250, d->rcpt != NULL ? "2.1.5" : "2.1.0", "Ok"));
}

/* ---- late envelope ---- */

/* Then DATA leaves with the envelope: the 354 holds the content back until all recipients were heard of. */
static bool
pipelines(const struct delivery *d)
{
	return smtp_client_caps(d->client)->bits & SMTP_CAP_PIPELINING;
}

/* BODY= is about the content that leaves, which a filter may have made. */
static void
say_mail_late(struct delivery *d)
{
	struct mail_sender sender = *d->sender;

	if (mail_edits_content(d->msg->body, d->edits)->has_8bit)
		sender.body = MAIL_BODY_8BITMIME;
	smtp_client_mail(d->client, &sender, d->size);
}

void
deliver_say_envelope(struct delivery *d)
{
	const struct smtp_reply *missing = missing_capability(d);

	if (missing != NULL) {
		if (!move_on(d, missing))
			deliver_fail(d, missing);
		return;
	}
	smtp_client_cork(d->client);
	say_mail_late(d);
	for (size_t i = 0; i < d->envelope.rcpt_count; i++)
		smtp_client_rcpt(d->client, d->envelope.rcpts[i]);
	if (pipelines(d))
		smtp_client_data(d->client, d->msg->body, d->edits);
	smtp_client_uncork(d->client);
}

static void
begin_late(struct delivery *d, bool fresh)
{
	int64_t left = time_left(d);

	d->state = DELIVERY_LATE;
	d->heard = d->taken = 0;
	d->refusal = NULL;
	d->mixed = false;
	d->mail_heard = false;
	d->mail_refused = false;
	if (left <= 0) {
		deliver_fail(d, d->fault != NULL ? d->fault
			: relay_fault(d->arena, "4.3.2", "no time left to deliver, try again later"));
		return;
	}
	get_client(d, SMTP_POOL_QUEUE, fresh, left);
	if (d->wait != NULL)
		hurry_others(d);
}

static bool
is_ascii(const char *text)
{
	while (*text != '\0' && isascii((unsigned char)*text))
		text++;
	return *text == '\0';
}

/* RFC 6531 3.4: with such an address in it, whoever has written it, MAIL says so. */
static bool
needs_smtputf8(const struct mail_envelope *envelope)
{
	bool needs = !is_ascii(envelope->sender->addr);

	for (size_t i = 0; !needs && i < envelope->rcpt_count; i++)
		needs = !is_ascii(envelope->rcpts[i]->addr);
	return needs;
}

static void
set_envelope(struct delivery *d)
{
	const struct mail_msg *msg = d->msg;
	struct mail_envelope *envelope = &d->envelope;

	mail_edits_envelope(d->arena, d->edits, msg->sender, msg->rcpts, msg->rcpt_count, envelope);
	assert(envelope->rcpt_count > 0);
	d->sender = envelope->sender;
	if (!envelope->is_changed)
		return;
	log_info(d->log, "envelope", "from=<%s> rcpts=%zu added=%zu removed=%zu", envelope->sender->addr,
		envelope->rcpt_count, envelope->rcpt_count - envelope->own_count, msg->rcpt_count - envelope->own_count);
	if (!d->sender->smtputf8 && needs_smtputf8(envelope)) {
		struct mail_sender *sender = arena_memdup(d->arena, d->sender, sizeof(*sender));

		sender->smtputf8 = true;
		d->sender = sender;
	}
}

/* RFC 1870 6.3: more than was said may be refused, and who came with less would hear of what filters have added. */
static bool
is_larger(const struct delivery *d, int64_t said)
{
	return said >= 0 && d->size > said && d->size > mail_view_size(d->msg->body, &d->msg->edits);
}

/* What was said early holds for the envelope that came, and for a body of that size and kind. */
static bool
fits_early(const struct delivery *d, int64_t said)
{
	return !d->envelope.is_changed && mail_edits_content(d->msg->body, d->edits) == d->msg->body && !is_larger(d, said);
}

void
deliver_content(struct delivery *d, const struct mail_msg *msg, const struct mail_edits *edits,
	uint64_t deadline)
{
	int64_t said = d->size;

	d->msg = msg;
	d->edits = edits;
	d->deadline = deadline;
	d->size = mail_view_size(msg->body, edits);
	set_envelope(d);
	if (d->dest == NULL) {
		deliver_local(d);
		return;
	}
	if (!fits_early(d, said))
		deliver_put_back(d);
	if (d->state == DELIVERY_EARLY) {
		rest_end(d);
		d->ops->hold(d->owner, 0);
		d->state = DELIVERY_CONTENT;
		d->tried = 0;
		d->fault = NULL;
		share_patience(d);
		smtp_client_data(d->client, msg->body, edits);
		return;
	}
	d->tried = 0;
	d->fault = NULL;
	begin_late(d, false);
}

/* ---- what the back-end says ---- */

static void
replace(struct delivery *d, const char *why)
{
	log_debug(d->log, "replace", "host=%s err=%s", d->result.host, why);
	d->replaced = true;
	smtp_pool_drop(d->dest, &d->client);
	if (d->state == DELIVERY_LATE)
		begin_late(d, true);
	else if (!get_client_early(d, true))
		early_busy(d);
}

static void
on_mail(void *owner, const struct smtp_reply *reply)
{
	struct delivery *d = owner;

	if (smtp_client_insists_on_tls(d->client) && !d->replaced) {
		replace(d, "the host takes no mail in clear");
		return;
	}
	if (d->state == DELIVERY_EARLY) {
		early_mail(d, relay_reply(d->log, d->arena, d->backend->name, "MAIL", reply));
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

/* Has a filter put others in the place of some? Then its recipients are answered for as those of the front are. */
static bool
is_redirected(const struct delivery *d)
{
	return d->envelope.own_count < d->msg->rcpt_count;
}

static void
own_refused(struct delivery *d, const struct mail_rcpt *rcpt, const struct smtp_reply *r)
{
	log_info(d->log, "rcpt", "to=<%s> code=%d text=%s", rcpt->addr, r->code, r->text);
	if (d->refusal == NULL)
		d->refusal = r;
	else if (d->refusal->code / 100 != r->code / 100)
		d->mixed = true;
}

/* The front knows nothing of it, so the host's words are not for the front. */
static void
added_refused(struct delivery *d, const struct mail_rcpt *rcpt, const struct smtp_reply *r)
{
	log_repeat(LOG_LEVEL_ERROR, d->log, d->backend->name, "added_rcpt", "backend=%s to=<%s> code=%d text=%s",
		d->backend->name, rcpt->addr, r->code, r->text);
	count_add(&d->backend->counts[net_worker_index(d->ew->net)].added_refused, 1);
	if (r->code / 100 == 5 && !is_redirected(d))
		return;
	if (d->refusal == NULL)
		d->refusal = relay_fault(d->arena, "4.3.0", "not all recipients can be served now, try again later");
	else if (is_redirected(d) && d->refusal->code / 100 != 4)
		d->mixed = true;
}

static void
late_rcpt(struct delivery *d, size_t index, const struct smtp_reply *reply)
{
	const struct mail_rcpt *rcpt = d->envelope.rcpts[index];
	bool is_added = index >= d->envelope.own_count;

	if (d->mail_refused)
		return; /* a 503 to each, of no interest */
	if (reply->code / 100 == 2)
		d->taken++;
	else if (is_added)
		added_refused(d, rcpt, relay_reply(d->log, d->arena, d->backend->name, "RCPT", reply));
	else
		own_refused(d, rcpt, relay_reply(d->log, d->arena, d->backend->name, "RCPT", reply));
	/* The front's own come first. */
	if (d->refusal != NULL && d->taken > 0 && (!is_added || is_redirected(d)))
		d->mixed = true;
	if (++d->heard < d->envelope.rcpt_count || pipelines(d))
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
		early_answer(d, relay_reply(d->log, d->arena, d->backend->name, "RCPT", reply));
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
		end_with(d, relay_reply(d->log, d->arena, d->backend->name,
			smtp_client_chunks(d->client) ? "BDAT" : "DATA", reply));
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

	smtp_pool_passed(d->client);
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

/* Was the envelope refused, completely, before the connection ended? Some close behind a 5xx. */
static bool
was_refused(const struct delivery *d)
{
	return d->state == DELIVERY_LATE && d->refusal != NULL &&
	       (d->mail_refused || d->heard == d->envelope.rcpt_count);
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

/* Up to the dot nothing is lost when another host gets it all. In `envelope early` MAIL and the first RCPT are given
 * anew at once; behind it, the envelope is given anew with the content. */
static bool
may_move(const struct delivery *d)
{
	if (d->committed || was_refused(d))
		return false;
	return d->state != DELIVERY_EARLY || (d->asked && d->rcpts_heard == 0);
}

static void
on_failed(void *owner, const struct err *err, const struct smtp_reply *reply)
{
	struct delivery *d = owner;

	if (may_replace(d, reply)) {
		replace(d, err->text);
		return;
	}
	log_fault(d, err->text);
	if (smtp_client_timed_out(d->client) && !d->committed)
		smtp_pool_hung(d->client, d->in_haste, err);
	reply = fault_reply(d, reply);
	if (!may_move(d) || !move_on(d, reply))
		deliver_fail(d, reply);
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
	if (d->state == DELIVERY_EARLY) {
		early_lost(d, reply);
		return;
	}
	d->is_lost = true;
	end_with(d, reply);
}

static void
count_end(const struct delivery *d, const struct smtp_reply *reply)
{
	struct backend_counts *c = &d->backend->counts[net_worker_index(d->ew->net)];
	enum delivery_class class = d->is_lost ? DELIVERY_LOST : reply->code / 100 == 2 ? DELIVERY_2XX
		: reply->code / 100 == 5 ? DELIVERY_5XX : DELIVERY_4XX;

	count_add(&c->replies[class], 1);
}

static void
end_with(struct delivery *d, const struct smtp_reply *reply)
{
	assert(d->state != DELIVERY_OVER);
	let_go(d);
	d->state = DELIVERY_OVER;
	d->result.reply = reply;
	d->result.mixed = d->mixed;
	count_end(d, reply);
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
