/*
 * proxy/summary.c - the one line that every transaction leaves in the log.
 */
#include "proxy/summary.h"

#include <inttypes.h>

#include "proxy/txn_private.h"

/* One field must not push the others out of a syslog line. */
#define ADDRESS_MAX 256
#define TEXT_MAX    300

/* The last word: of the whole, or where no recipient was taken, of the first that was refused. */
static const struct smtp_reply *
last_reply(const struct txn *txn)
{
	return txn->reply == NULL && txn->rcpt_count == 0 ? txn->rcpt_refusal : txn->reply;
}

/* What became of the message, in one word. */
static const char *
outcome(const struct txn *txn, const struct smtp_reply *reply)
{
	if (reply == NULL)
		return "abandoned";
	if (txn->chained_ms != 0 && txn->verdict.kind != VERDICT_PASS && txn->verdict.kind != VERDICT_ACCEPT)
		return verdict_names[txn->verdict.kind];
	switch (reply->code / 100) {
	case 2:
		return verdict_names[txn->verdict.kind];
	case 5:
		return "reject";
	default:
		return "tempfail";
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

void
summary_log(const struct txn *txn)
{
	const struct delivery_result *r = deliver_result(txn->delivery);
	const struct smtp_reply *last = last_reply(txn);
	const struct listener *l = txn->front.listener;
	struct str filters = STR_INIT, reply = STR_INIT, backend = STR_INIT;
	char client[64];

	if (!log_wants(LOG_LEVEL_INFO))
		return;
	ip_addr_port_text(&txn->front.origin->client, client, sizeof(client));
	if (txn->chain != NULL)
		chain_describe(txn->chain, &filters);
	if (last != NULL)
		smtp_reply_line(last, &reply);
	str_add(&backend, l->backend->name);
	if (r->host[0] != '\0')
		str_printf(&backend, "/%s", r->host);
	log_info(&txn->front.log, "msg",
		"listener=%s client=%s helo=%s from=<%.*s> to=<%.*s> rcpts=%zu size=%jd msgid=%s verdict=%s "
		"code=%d filters=%s backend=%s reply=%.*s back=%s receive_ms=%jd filter_ms=%jd deliver_ms=%jd "
		"bare_lf=%jd bare_cr=%jd why=%s note=%s",
		l->name, client, log_some(txn->front.origin->helo), ADDRESS_MAX, txn->sender->addr,
		ADDRESS_MAX, txn->rcpt_count > 0 ? txn->rcpts[0]->addr : NULL, txn->rcpt_count, (intmax_t)txn->body.size,
		txn->msgid, outcome(txn, last), last != NULL ? last->code : 0,
		log_some(str_text(&filters)), str_text(&backend), TEXT_MAX, log_some(str_text(&reply)),
		log_some(r->queue_id), span(txn->begun_ms, txn->end_ms),
		span(txn->end_ms, txn->chained_ms),
		span(txn->chained_ms, txn->delivered_ms),
		if_any(txn->bare_lf), if_any(txn->bare_cr), txn->gone, note(txn));
	str_deinit(&filters);
	str_deinit(&reply);
	str_deinit(&backend);
}
