/*
 * proxy/session.c - one connection from the front: who may speak, and the way from commands to the transaction.
 */
#include "proxy/session.h"

#include <stdlib.h>

#include "base/xalloc.h"
#include "filters/gate.h"
#include "net/stream.h"
#include "proxy/limits.h"
#include "proxy/metrics.h"
#include "proxy/relay.h"
#include "proxy/txn.h"
#include "smtp/server.h"

struct session {
	struct engine_worker *ew;
	struct snapshot *snapshot; /* of the last MAIL or EHLO, as is the listener */
	const struct listener *listener;
	struct snapshot *offered; /* of the last EHLO: a client that was offered TLS may begin it */
	const struct listener *offering;
	struct log_ctx log;
	struct smtp_server *server;
	struct mail_origin origin;
	char client_text[64];
	char client_port_text[64];
	struct net_tls_info tls; /* when origin.tls_version is not NULL */
	struct gate *gate; /* NULL: the listener has none */
	struct asked *asked; /* of the gate, about the connection or a name */
	struct txn *txn;
	unsigned txn_count;
	uint64_t started_ms;
	struct net_timer hold, budget;
	struct limits_place place;
	TAILQ_ENTRY(session) next;
};

/* A question to the gate before there is a transaction. Lives in its arena. */
struct asked {
	struct session *session;
	struct arena *arena;
	struct smtp_cmd *cmd;
	enum filter_stage stage;
	struct mail_origin origin; /* with the name that it is about */
	struct mail_msg msg;
};

/* From one reference to another. */
static void
refer(struct snapshot **held, struct snapshot *sn)
{
	struct snapshot *before = *held;

	*held = snapshot_ref(sn);
	snapshot_unref(&before);
}

/* What EHLO says of TLS holds until the next one. */
static void
renew_offer(struct session *s)
{
	s->offering = s->listener;
	refer(&s->offered, s->snapshot);
}

static bool
may_begin_tls(const struct session *s)
{
	return s->offering->tls != NULL && s->origin.tls_version == NULL;
}

/* Goes by the newest configuration from now on, if it still has this listener. */
static void
renew(struct session *s)
{
	struct snapshot *newest = s->ew->snapshot;
	const struct listener *l;

	if (newest == s->snapshot || (l = snapshot_listener(newest, s->listener->name)) == NULL)
		return;
	smtp_server_set_conf(s->server, &l->conf.smtp);
	s->listener = l;
	s->origin.listener = l->name;
	refer(&s->snapshot, newest);
	if (!may_begin_tls(s))
		renew_offer(s); /* an old snapshot is not kept for nothing */
}

/* ---- what smtp/server.c asks ---- */

static void
on_caps(void *owner, struct smtp_caps *caps)
{
	struct session *s = owner;
	const struct backend *b = s->listener->backend;
	int64_t ours = s->listener->conf.smtp.max_message;
	struct smtp_caps theirs = { .bits = SMTP_CAP_8BITMIME | SMTP_CAP_SMTPUTF8 };

	if (b->kind == BACKEND_SMTP)
		theirs = smtp_dest_caps(snapshot_dest(s->snapshot, b));
	caps->bits = SMTP_CAP_PIPELINING | SMTP_CAP_CHUNKING | SMTP_CAP_STATUSCODES | SMTP_CAP_SIZE;
	caps->bits |= theirs.bits & (SMTP_CAP_8BITMIME | SMTP_CAP_SMTPUTF8 | SMTP_CAP_DSN);
	caps->size = ours;
	if (theirs.size > 0 && (ours == 0 || theirs.size < ours))
		caps->size = theirs.size;
}

/* RFC 3848 */
static const char *
protocol(const struct session *s, bool esmtp)
{
	if (!esmtp)
		return "SMTP";
	return s->origin.tls_version != NULL ? "ESMTPS" : "ESMTP";
}

/* ---- the gate, before there is a transaction ---- */

/* The session's own, from the first time that its listener has filters for it. */
static struct gate *
gate_of(struct session *s)
{
	if (s->listener->gate == NULL)
		return NULL;
	if (s->gate == NULL)
		s->gate = gate_new();
	return s->gate;
}

/* As the client gets it. */
static int
code_heard(const struct asked *a, const struct smtp_reply *reply)
{
	struct smtp_reply soft;

	if (a->session->listener->conf.smtp.soft_bounce && smtp_reply_soften(reply, &soft))
		reply = &soft;
	return a->stage == FILTER_CONNECT ? smtp_server_no_greeting(reply->code) : reply->code;
}

static void
log_refusal(const struct asked *a, const struct mail_verdict *v, const struct smtp_reply *reply)
{
	const struct session *s = a->session;

	log_info(&s->log, "gate", "stage=%s client=%s helo=%s filter=%s verdict=%s code=%d text=%s",
		filter_stage_names[a->stage], s->client_port_text, log_some(a->origin.helo), v->filter,
		verdict_names[v->kind], code_heard(a, reply), reply->text);
}

/* The session may be over with the reply. */
static void
got_gate(void *owner, const struct mail_verdict *v)
{
	struct asked *a = owner;
	struct session *s = a->session;
	struct engine_worker *ew = s->ew;
	struct arena *arena = a->arena;
	const struct smtp_reply *reply;

	s->asked = NULL;
	if (v->kind == VERDICT_PASS) {
		smtp_cmd_reply(a->cmd, a->stage == FILTER_CONNECT ? 220 : 250, NULL, "Ok");
	} else {
		reply = relay_verdict(arena, v);
		log_refusal(a, v, reply);
		if (v->kind == VERDICT_DISCONNECT)
			smtp_cmd_reply_close(a->cmd, reply);
		else
			smtp_cmd_reply_with(a->cmd, reply);
	}
	engine_arena_give(ew, &arena);
}

static enum smtp_step
ask_gate(struct session *s, struct smtp_cmd *cmd, enum filter_stage stage, const char *helo)
{
	struct arena *arena = engine_arena_take(s->ew);
	struct asked *a = arena_zalloc(arena, sizeof(*a));
	struct mail_verdict verdict;

	a->session = s;
	a->arena = arena;
	a->cmd = cmd;
	a->stage = stage;
	a->origin = s->origin;
	a->origin.helo = helo;
	a->msg = (struct mail_msg){ .origin = &a->origin, .arena = arena };
	s->asked = a;
	if (!gate_ask(s->gate, &(struct gate_question){
			.stage = stage,
			.filters = s->listener->gate,
			.env = &s->ew->filters,
			.spool = &s->snapshot->settings->spool,
			.log = &s->log,
			.arena = arena,
			.msg = &a->msg,
			.budget_ms = s->listener->conf.budget,
			.answered = got_gate,
			.owner = a,
		}, &verdict))
		return SMTP_WAIT;
	got_gate(a, &verdict);
	return SMTP_REPLIED;
}

static void
forget_gate(struct session *s)
{
	gate_free(&s->gate);
	if (s->asked != NULL) {
		struct arena *arena = s->asked->arena;

		s->asked = NULL;
		engine_arena_give(s->ew, &arena);
	}
}

static enum smtp_step
on_connect(void *owner, struct smtp_cmd *cmd)
{
	return ask_gate(owner, cmd, FILTER_CONNECT, "");
}

static enum smtp_step
on_helo(void *owner, struct smtp_cmd *cmd, const char *name, bool esmtp)
{
	struct session *s = owner;

	(void)esmtp;
	renew(s);
	if (gate_of(s) == NULL)
		return smtp_cmd_reply(cmd, 250, NULL, "Ok");
	return ask_gate(s, cmd, FILTER_HELO, name);
}

static void
on_greeted(void *owner, const char *name, bool esmtp)
{
	struct session *s = owner;

	renew_offer(s);
	s->origin.helo = name;
	s->origin.protocol = protocol(s, esmtp);
}

static struct net_tls *
on_tls(void *owner)
{
	return net_tls_live_get(((struct session *)owner)->offering->tls);
}

static void
on_secured(void *owner, const struct net_tls_info *info)
{
	struct session *s = owner;
	struct mail_origin *o = &s->origin;

	count_add(&engine_counts(s->ew, s->listener)->handshakes, 1);
	s->tls = *info;
	o->helo = "";
	o->protocol = "SMTP";
	o->tls_version = s->tls.version;
	o->tls_cipher = s->tls.cipher;
	o->tls_cert = log_some(s->tls.fingerprint);
	o->tls_verified = s->tls.verified;
	log_info(&s->log, "tls", "side=%s version=%s cipher=%s resumed=%s name=%s cert=%s verified=%s", "front",
		info->version, info->cipher, info->resumed ? "yes" : "no", log_some(info->name), o->tls_cert,
		o->tls_cert == NULL ? NULL : info->verified ? "yes" : "no");
}

static struct arena *
on_arena(void *owner)
{
	struct session *s = owner;
	struct txn_front front = {
		.ew = s->ew,
		.origin = &s->origin,
		.log = s->log,
		.hold = &s->hold,
		.budget = &s->budget,
	};

	renew(s);
	front.listener = s->listener;
	front.gate = gate_of(s);
	front.snapshot = s->snapshot;
	front.log.txn = ++s->txn_count;
	s->txn = txn_new(&front);
	return txn_arena(s->txn);
}

static enum smtp_step
on_mail(void *owner, struct smtp_cmd *cmd, const struct mail_sender *sender)
{
	return txn_mail(((struct session *)owner)->txn, cmd, sender);
}

static enum smtp_step
on_rcpt(void *owner, struct smtp_cmd *cmd, const struct mail_rcpt *rcpt)
{
	return txn_rcpt(((struct session *)owner)->txn, cmd, rcpt);
}

static bool
on_begin(void *owner, struct smtp_reply *refusal)
{
	return txn_begin(((struct session *)owner)->txn, refusal);
}

static void
on_content(void *owner, const char *data, size_t len, bool dot_line)
{
	txn_content(((struct session *)owner)->txn, data, len, dot_line);
}

static enum smtp_step
on_end(void *owner, struct smtp_cmd *cmd, const struct smtp_dot *how)
{
	return txn_end(((struct session *)owner)->txn, cmd, how);
}

static void
on_reset(void *owner, const struct smtp_reply *why)
{
	struct session *s = owner;

	if (why != NULL)
		txn_refused(s->txn, why);
	txn_over(&s->txn);
}

static void
session_free(struct session *s)
{
	struct engine_worker *ew = s->ew;
	struct listener_counts *counts = engine_counts(ew, s->listener);

	count_add(&counts->closed, 1);
	count_time(&counts->session, net_worker_now(ew->net) - s->started_ms);
	TAILQ_REMOVE(&ew->sessions, s, next);
	smtp_server_free(&s->server);
	forget_gate(s);
	net_timer_deinit(&s->hold);
	net_timer_deinit(&s->budget);
	limits_leave(engine_limits(ew->engine), &s->place);
	snapshot_unref(&s->snapshot);
	snapshot_unref(&s->offered);
	net_later(ew->net, free, s);
	atomic_fetch_sub(&ew->busy, 1);
	engine_settled(ew);
}

static void
on_gone(void *owner, enum smtp_gone why)
{
	struct session *s = owner;

	if (s->txn != NULL && (why == SMTP_GONE_QUIT || why == SMTP_GONE_CLOSED || why == SMTP_GONE_ERRORS || why == SMTP_GONE_HTTP))
		txn_over(&s->txn);
	else
		txn_front_gone(&s->txn, smtp_gone_names[why]);
	if (why == SMTP_GONE_EARLY)
		limits_note(engine_limits(s->ew->engine), REFUSED_EARLY);
	if (why == SMTP_GONE_TLS || why == SMTP_GONE_TLS_TIMEOUT)
		count_add(&engine_counts(s->ew, s->listener)->handshakes_failed, 1);
	log_info(&s->log, "disconnect", "client=%s listener=%s why=%s txns=%u", s->client_port_text,
		s->listener->name, smtp_gone_names[why], s->txn_count);
	session_free(s);
}

#define SERVER_OPS                                                                                          \
	.caps = on_caps, .helo = on_helo, .greeted = on_greeted, .tls = on_tls, .secured = on_secured,      \
	.arena = on_arena, .mail = on_mail, .rcpt = on_rcpt, .begin = on_begin, .content = on_content,      \
	.end = on_end, .reset = on_reset, .gone = on_gone

static const struct smtp_server_ops server_ops = { SERVER_OPS };
/* Where somebody is asked before the greeting. */
static const struct smtp_server_ops gated_ops = { .connect = on_connect, SERVER_OPS };

/* ---- life ---- */

static void
hold_over(void *arg)
{
	struct session *s = arg;

	if (s->txn != NULL)
		txn_hold_over(s->txn);
}

static void
budget_over(void *arg)
{
	struct session *s = arg;

	if (s->txn != NULL)
		txn_budget_over(s->txn);
}

/* Is the client served? If so it has its place. */
static enum limits_refusal
admit(struct session *s)
{
	struct limits *limits = engine_limits(s->ew->engine);

	if (nets_admit(&s->listener->conf.clients, &s->origin.client))
		return limits_enter(limits, s->listener, &s->origin.client, &s->place);
	limits_note(limits, REFUSED_CLIENTS);
	return REFUSED_CLIENTS;
}

/* Instead of the greeting. */
static const struct smtp_reply refusals[REFUSED_COUNT] = {
	[REFUSED_CLIENTS] = { .code = 554, .status = "5.7.1", .text = "you may not speak to this server" },
	[REFUSED_CONNECTIONS] = { .code = 421, .status = "4.3.2", .text = "too many connections, try again later" },
	[REFUSED_PER_CLIENT] = { .code = 421, .status = "4.7.0", .text = "too many connections from your address" },
};

void
session_start(struct engine_worker *ew, struct snapshot *snapshot, const struct listener *listener, int fd)
{
	session_start_as(ew, snapshot, listener, fd, NULL);
}

void
session_start_as(struct engine_worker *ew, struct snapshot *snapshot, const struct listener *listener, int fd,
	const struct ip_addr *client)
{
	struct session *s = xcalloc(1, sizeof(*s));
	struct net_stream *stream = net_stream_new(ew->net, fd, NULL, NULL);
	enum limits_refusal why;

	s->ew = ew;
	s->listener = s->offering = listener;
	s->snapshot = snapshot_ref(snapshot);
	s->offered = snapshot_ref(snapshot);
	s->started_ms = net_worker_now(ew->net);
	count_add(&engine_counts(ew, listener)->opened, 1);
	s->log = (struct log_ctx){ .who = net_worker_name(ew->net), .session = engine_next_session(ew->engine) };
	s->origin.client = client != NULL ? *client : *net_stream_peer(stream);
	ip_addr_text(&s->origin.client, s->client_text, sizeof(s->client_text));
	ip_addr_port_text(&s->origin.client, s->client_port_text, sizeof(s->client_port_text));
	s->origin.client_text = s->client_text;
	s->origin.client_port_text = s->client_port_text;
	s->origin.helo = "";
	s->origin.protocol = "SMTP";
	s->origin.listener = listener->name;
	net_timer_init(&s->hold, ew->net, hold_over, s);
	net_timer_init(&s->budget, ew->net, budget_over, s);
	TAILQ_INSERT_TAIL(&ew->sessions, s, next);
	atomic_fetch_add(&ew->busy, 1);
	why = admit(s);
	log_info(&s->log, "connect", "client=%s listener=%s refused=%s", s->client_port_text,
		listener->name, log_some(limits_refusal_names[why]));
	s->server = smtp_server_new(stream, &listener->conf.smtp,
		why == REFUSED_NOT && gate_of(s) != NULL ? &gated_ops : &server_ops, s, &s->log,
		why == REFUSED_NOT ? NULL : &refusals[why]);
	if (ew->is_leaving)
		smtp_server_retire(s->server);
	else if (ew->draining)
		smtp_server_drain(s->server);
}

void
session_drain_all(struct engine_worker *ew)
{
	struct session *s, *next;

	TAILQ_FOREACH_SAFE(s, &ew->sessions, next, next)
		smtp_server_drain(s->server);
}

void
session_retire_all(struct engine_worker *ew)
{
	struct session *s, *next;

	TAILQ_FOREACH_SAFE(s, &ew->sessions, next, next)
		smtp_server_retire(s->server);
}

void
session_drain_removed(struct engine_worker *ew)
{
	struct session *s, *next;

	TAILQ_FOREACH_SAFE(s, &ew->sessions, next, next)
		if (snapshot_listener(ew->snapshot, s->listener->name) == NULL)
			smtp_server_drain(s->server);
}

void
session_cut_all(struct engine_worker *ew)
{
	struct session *s, *next;

	TAILQ_FOREACH_SAFE(s, &ew->sessions, next, next) {
		/* Its dot has left: without our answer the front would send the message again. */
		if (s->txn != NULL && txn_is_committed(s->txn))
			continue;
		txn_front_gone(&s->txn, "stopped");
		session_free(s);
	}
}
