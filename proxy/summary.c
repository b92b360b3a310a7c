/*
 * proxy/summary.c - the one line that every transaction leaves in the log, and what it adds to the counters.
 */
#include "proxy/summary.h"

#include "proxy/metrics.h"
#include "proxy/txn_private.h"

/* The last word: of the whole, or where no recipient was taken, of the first that was refused. */
static const struct smtp_reply *
last_reply(const struct txn *txn)
{
	return txn->reply == NULL && txn->rcpt_count == 0 ? txn->rcpt_refusal : txn->reply;
}

/* What became of the message: an enum verdict_kind, or OUTCOME_ABANDONED. */
static int
outcome(const struct txn *txn, const struct smtp_reply *reply)
{
	if (reply == NULL)
		return OUTCOME_ABANDONED;
	if (txn->verdict.kind != VERDICT_PASS && txn->verdict.kind != VERDICT_ACCEPT)
		return (int)txn->verdict.kind;
	switch (reply->code / 100) {
	case 2:
		return (int)txn->verdict.kind;
	case 5:
		return VERDICT_REJECT;
	default:
		return VERDICT_TEMPFAIL;
	}
}

/* Milliseconds between two points, when both were reached. */
static intmax_t
span(uint64_t from, uint64_t to)
{
	return from == 0 || to == 0 ? LOG_NONE : (intmax_t)(to - from);
}

static intmax_t
if_any(uint64_t n)
{
	return n == 0 ? LOG_NONE : (intmax_t)n;
}

static const char *
note(const struct txn *txn)
{
	if (txn->gone == NULL)
		return NULL;
	return deliver_result(txn->delivery)->delivered ? "front gone, delivered" : "front gone";
}

static const char *
host_of(const struct delivery_result *r)
{
	return r->host[0] != '\0' ? r->host : NULL;
}

static void
log_reply(const struct smtp_reply *reply)
{
	struct str line = STR_INIT;

	if (reply == NULL)
		return;
	smtp_reply_line(reply, &line);
	log_key("reply", log_some(str_text(&line)));
	str_deinit(&line);
}

static void
log_gate(const struct gate_txn *gate)
{
	struct str asked = STR_INIT;

	gate_describe(gate, &asked);
	log_key("gate", log_some(str_text(&asked)));
	str_deinit(&asked);
}

static void
log_filters(const struct chain *chain)
{
	struct str filters = STR_INIT;

	if (chain == NULL)
		return;
	chain_describe(chain, &filters);
	log_key("filters", log_some(str_text(&filters)));
	str_deinit(&filters);
}

/* Two of the times were read at other moments of the same turn. */
static void
count_span(struct count_times *t, uint64_t from, uint64_t to)
{
	if (from != 0 && to != 0)
		count_time(t, to > from ? to - from : 0);
}

void
summary_count(const struct txn *txn)
{
	struct engine_worker *ew = txn->front.ew;
	const struct listener *l = txn->front.listener;
	struct listener_counts *c = engine_counts(ew, l);

	count_add(&c->outcomes[outcome(txn, last_reply(txn))], 1);
	if (txn->gone != NULL)
		count_add(&c->front_gone, 1);
	if (txn->end_ms == 0)
		return;
	count_add(&c->messages, 1);
	count_add(&c->octets, (uint64_t)txn->body.size);
	count_add(&c->bare_newlines, txn->bare_lf + txn->bare_cr);
	count_span(&c->receive, txn->begun_ms, txn->end_ms);
	count_span(&c->chain, txn->end_ms, txn->chained_ms);
	count_span(&c->message, txn->end_ms, net_worker_now(ew->net));
	count_span(&l->backend->counts[net_worker_index(ew->net)].deliver, txn->chained_ms, txn->delivered_ms);
}

void
summary_log(const struct txn *txn)
{
	const struct delivery_result *r = deliver_result(txn->delivery);
	const struct smtp_reply *last = last_reply(txn);
	const struct mail_origin *origin = txn->front.origin;
	const struct listener *l = txn->front.listener;

	if (!log_begin(LOG_LEVEL_INFO, &txn->front.log, "msg"))
		return;
	log_key("front", txn->front_id);
	log_key("listener", l->name);
	log_key("client", origin->client_port_text);
	log_key("helo", log_some(origin->helo));
	log_key("tls", origin->tls_version);
	log_key("cert", origin->tls_cert);
	log_key_join("from", "<", txn->sender->addr, ">");
	log_key_join("to", "<", txn->rcpt_count > 0 ? txn->rcpts[0]->addr : NULL, ">");
	log_key_int("rcpts", (intmax_t)txn->rcpt_count);
	log_key_int("size", (intmax_t)txn->body.size);
	log_key("msgid", txn->msgid);
	log_key("verdict", outcome_names[outcome(txn, last)]);
	log_key_int("code", last != NULL ? last->code : 0);
	log_gate(&txn->gate);
	log_filters(txn->chain);
	if (host_of(r) == NULL)
		log_key("backend", l->backend->name);
	else
		log_key_join("backend", l->backend->name, "/", host_of(r));
	log_reply(last);
	log_key("back", log_some(r->queue_id));
	log_key("quarantine", txn->quarantine_ids);
	log_key_int("receive_ms", span(txn->begun_ms, txn->end_ms));
	log_key_int("filter_ms", span(txn->end_ms, txn->chained_ms));
	log_key_int("deliver_ms", span(txn->chained_ms, txn->delivered_ms));
	log_key_int("bare_lf", if_any(txn->bare_lf));
	log_key_int("bare_cr", if_any(txn->bare_cr));
	log_key("why", txn->gone);
	log_key("note", note(txn));
	log_end();
}
