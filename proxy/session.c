/*
 * proxy/session.c - one connection from the front: who may speak, and the way from commands to the transaction.
 */
#include "proxy/session.h"

#include <stdlib.h>

#include "base/xalloc.h"
#include "net/stream.h"
#include "proxy/txn.h"
#include "smtp/server.h"

struct session {
	struct engine_worker *ew;
	const struct listener *listener;
	struct config *config;
	struct log_ctx log;
	struct smtp_server *server;
	struct mail_origin origin;
	char client_text[64];
	char client_port_text[64];
	struct txn *txn;
	unsigned txn_count;
	struct net_timer hold, budget;
	TAILQ_ENTRY(session) next;
};

/* ---- what smtp/server.c asks ---- */

static void
on_caps(void *owner, struct smtp_caps *caps)
{
	struct session *s = owner;
	const struct backend *b = s->listener->backend;
	int64_t ours = s->listener->conf.smtp.max_message;
	struct smtp_caps theirs = { .bits = SMTP_CAP_8BITMIME | SMTP_CAP_SMTPUTF8 };

	if (b->kind == BACKEND_SMTP)
		theirs = smtp_dest_caps(engine_dest(s->ew->engine, b));
	caps->bits = SMTP_CAP_PIPELINING | SMTP_CAP_CHUNKING | SMTP_CAP_STATUSCODES | SMTP_CAP_SIZE;
	caps->bits |= theirs.bits & (SMTP_CAP_8BITMIME | SMTP_CAP_SMTPUTF8 | SMTP_CAP_DSN);
	caps->size = ours;
	if (theirs.size > 0 && (ours == 0 || theirs.size < ours))
		caps->size = theirs.size;
}

static enum smtp_step
on_helo(void *owner, struct smtp_cmd *cmd, const char *name, bool esmtp)
{
	struct session *s = owner;

	s->origin.helo = name;
	s->origin.protocol = esmtp ? "ESMTP" : "SMTP";
	return smtp_cmd_reply(cmd, 250, NULL, "Ok");
}

static struct arena *
on_arena(void *owner)
{
	struct session *s = owner;
	struct txn_front front = {
		.ew = s->ew,
		.listener = s->listener,
		.config = s->config,
		.origin = &s->origin,
		.log = s->log,
		.hold = &s->hold,
		.budget = &s->budget,
	};

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

	TAILQ_REMOVE(&ew->sessions, s, next);
	smtp_server_free(&s->server);
	net_timer_deinit(&s->hold);
	net_timer_deinit(&s->budget);
	config_unref(&s->config);
	net_later(ew->net, free, s);
	atomic_fetch_sub(&ew->busy, 1);
	engine_settled(ew);
}

static void
on_gone(void *owner, enum smtp_gone why)
{
	struct session *s = owner;

	if (s->txn != NULL && (why == SMTP_GONE_QUIT || why == SMTP_GONE_CLOSED))
		txn_over(&s->txn);
	else
		txn_front_gone(&s->txn, smtp_gone_names[why]);
	log_info(&s->log, "disconnect", "client=%s listener=%s why=%s txns=%u", s->client_port_text,
		s->listener->name, smtp_gone_names[why], s->txn_count);
	session_free(s);
}

static const struct smtp_server_ops server_ops = {
	.caps = on_caps,
	.helo = on_helo,
	.arena = on_arena,
	.mail = on_mail,
	.rcpt = on_rcpt,
	.begin = on_begin,
	.content = on_content,
	.end = on_end,
	.reset = on_reset,
	.gone = on_gone,
};

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

static bool
may_speak(const struct listener *l, const struct ip_addr *client)
{
	const struct config_nets *clients = &l->conf.clients;

	if (clients->any || client->family == AF_UNIX)
		return true;
	for (size_t i = 0; i < clients->count; i++)
		if (ip_net_has(&clients->list[i], client))
			return true;
	return false;
}

void
session_start(struct engine_worker *ew, const struct listener *listener, int fd)
{
	static const struct smtp_reply stranger = {
		.code = 554, .status = "5.7.1", .text = "you may not speak to this server" };
	struct session *s = xcalloc(1, sizeof(*s));
	struct net_stream *stream = net_stream_new(ew->net, fd, NULL, NULL);
	bool is_welcome;

	s->ew = ew;
	s->listener = listener;
	s->config = config_ref(engine_config(ew->engine));
	s->log = (struct log_ctx){ .who = net_worker_name(ew->net), .session = engine_next_session(ew->engine) };
	s->origin.client = *net_stream_peer(stream);
	ip_addr_text(&s->origin.client, s->client_text, sizeof(s->client_text));
	ip_addr_port_text(&s->origin.client, s->client_port_text, sizeof(s->client_port_text));
	s->origin.client_text = s->client_text;
	s->origin.helo = "";
	s->origin.protocol = "SMTP";
	s->origin.listener = listener->name;
	net_timer_init(&s->hold, ew->net, hold_over, s);
	net_timer_init(&s->budget, ew->net, budget_over, s);
	TAILQ_INSERT_TAIL(&ew->sessions, s, next);
	atomic_fetch_add(&ew->busy, 1);
	is_welcome = may_speak(listener, &s->origin.client);
	log_info(&s->log, "connect", "client=%s listener=%s refused=%s", s->client_port_text,
		listener->name, is_welcome ? log_some("") : "clients");
	s->server = smtp_server_new(stream, &listener->conf.smtp, &server_ops, s, &s->log,
		is_welcome ? NULL : &stranger);
	if (ew->draining)
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
