/*
 * smtp/client.c - steps, expected replies, what may leave when. What comes before the first MAIL is in
 * client_hello.c, content in client_body.c.
 */
#include "smtp/client.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/xalloc.h"
#include "smtp/client_private.h"
#include "smtp/params.h"

static void got_mail(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r);
static void got_rcpt(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r);
static void got_data(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r);
static void got_chunk(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r);
static void got_final(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r);
static void got_rset(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r);

#define PATIENCE(member) offsetof(struct smtp_client_conf, member)

/* One row per thing we say (or wait for): who hears the reply, which first digits make sense, how
 * long we wait, and whether it may be sent in one group with what precedes it. */
static const struct cli_step {
	const char *name;
	void (*got)(struct smtp_client *, const struct cli_entry *, const struct smtp_reply *);
	const char *classes;
	size_t patience;
	bool pipelines;
} steps[] = {
	[CLI_BANNER] = { "greeting", cli_got_banner, "245", PATIENCE(greeting_timeout), false },
	[CLI_EHLO] = { "EHLO", cli_got_ehlo, "245", PATIENCE(command_timeout), false },
	[CLI_HELO] = { "HELO", cli_got_helo, "245", PATIENCE(command_timeout), false },
	[CLI_STARTTLS] = { "STARTTLS", cli_got_starttls, "245", PATIENCE(command_timeout), false },
	[CLI_AUTH] = { "AUTH", cli_got_auth, "2345", PATIENCE(command_timeout), false },
	[CLI_AUTH_PLAIN] = { "AUTH", cli_got_auth_prompt, "2345", PATIENCE(command_timeout), false },
	[CLI_AUTH_LOGIN] = { "AUTH", cli_got_auth_prompt, "2345", PATIENCE(command_timeout), false },
	[CLI_AUTH_USER] = { "AUTH", cli_got_auth_prompt, "2345", PATIENCE(command_timeout), false },
	[CLI_MAIL] = { "MAIL", got_mail, "245", PATIENCE(command_timeout), true },
	[CLI_RCPT] = { "RCPT", got_rcpt, "245", PATIENCE(command_timeout), true },
	[CLI_DATA] = { "DATA", got_data, "345", PATIENCE(command_timeout), true },
	[CLI_CHUNK] = { "BDAT", got_chunk, "245", PATIENCE(command_timeout), false },
	[CLI_FINAL] = { "end of data", got_final, "245", PATIENCE(final_timeout), false },
	[CLI_RSET] = { "RSET", got_rset, "245", PATIENCE(command_timeout), true },
};

static int64_t
shorter(const struct smtp_client *c, int64_t ms)
{
	return c->patience > 0 && c->patience < ms ? c->patience : ms;
}

/* Past the dot, and for RSET, which is the pool's, the owner's patience does not count. */
static int64_t
patience(const struct smtp_client *c, enum cli_kind kind)
{
	int64_t ms = *(const int64_t *)((const char *)c->conf + steps[kind].patience);

	return kind == CLI_FINAL || kind == CLI_RSET ? ms : shorter(c, ms);
}

/* The deadline belongs to the reply we wait for now; it restarts with each complete reply, and as content leaves. */
void
cli_set_deadline(struct smtp_client *c)
{
	const struct cli_entry *first = STAILQ_FIRST(&c->expected);

	c->waits_since = net_worker_now(c->worker);
	if (c->sending)
		net_stream_deadline(c->stream, shorter(c, c->conf->data_timeout));
	else if (c->in_handshake)
		net_stream_deadline(c->stream, c->conf->command_timeout);
	else
		net_stream_deadline(c->stream, first != NULL ? patience(c, first->kind) : 0);
}

/* ---- saying ---- */

/* Without PIPELINING a command waits until nothing is outstanding. */
static bool
may_leave(const struct smtp_client *c, const struct cli_entry *e)
{
	if (STAILQ_EMPTY(&c->expected))
		return true;
	return steps[e->kind].pipelines && (c->caps.bits & SMTP_CAP_PIPELINING) != 0 &&
	       STAILQ_FIRST(&c->expected)->kind != CLI_FINAL && !c->sending;
}

static void
wipe_entry(struct cli_entry *e)
{
	if (e->kind == CLI_AUTH || e->kind == CLI_AUTH_USER)
		explicit_bzero(e->line, e->len);
}

static void
send_waiting(struct smtp_client *c)
{
	struct cli_entry *e;
	bool was_idle = STAILQ_EMPTY(&c->expected);

	while ((e = STAILQ_FIRST(&c->unsent)) != NULL && may_leave(c, e)) {
		STAILQ_REMOVE_HEAD(&c->unsent, next);
		STAILQ_INSERT_TAIL(&c->expected, e, next);
		if (e->len > 0)
			net_stream_write(c->stream, e->line, e->len);
		wipe_entry(e);
	}
	if (was_idle && c->stream != NULL)
		cli_set_deadline(c);
}

void
cli_say(struct smtp_client *c, enum cli_kind kind, size_t index, const char *line, size_t len)
{
	struct cli_entry *e = xmalloc(sizeof(*e) + len);

	e->kind = kind;
	e->index = index;
	e->len = len;
	memcpy(e->line, line, len);
	STAILQ_INSERT_TAIL(&c->unsent, e, next);
	send_waiting(c);
}

void
cli_expect(struct smtp_client *c, enum cli_kind kind)
{
	cli_say(c, kind, 0, "", 0);
}

void
smtp_client_mail(struct smtp_client *c, const struct mail_sender *sender, int64_t size)
{
	struct smtp_caps peer = c->caps;
	struct str line = STR_INIT;

	assert(STAILQ_EMPTY(&c->expected) && STAILQ_EMPTY(&c->unsent));
	c->rcpt_count = 0;
	c->busy = true;
	c->chunks = false;
	if (!c->authenticated)
		peer.bits &= ~(unsigned)SMTP_CAP_AUTH;
	smtp_params_write_mail(&line, sender, size, &peer);
	str_add(&line, "\r\n");
	cli_say(c, CLI_MAIL, 0, line.data, line.len);
	str_deinit(&line);
}

void
smtp_client_rcpt(struct smtp_client *c, const struct mail_rcpt *rcpt)
{
	struct str line = STR_INIT;

	smtp_params_write_rcpt(&line, rcpt, &c->caps);
	str_add(&line, "\r\n");
	cli_say(c, CLI_RCPT, c->rcpt_count++, line.data, line.len);
	str_deinit(&line);
}

void
smtp_client_data(struct smtp_client *c, const struct mail_body *body, const struct mail_edits *edits)
{
	c->body = body;
	c->edits = edits;
	c->chunks = c->conf->chunking && (c->caps.bits & SMTP_CAP_CHUNKING) != 0 &&
		    STAILQ_EMPTY(&c->expected) && STAILQ_EMPTY(&c->unsent);
	if (c->chunks)
		cli_chunk_start(c);
	else
		cli_say(c, CLI_DATA, 0, "DATA\r\n", 6);
}

static void
free_entries(struct cli_entries *list)
{
	struct cli_entry *e;

	while ((e = STAILQ_FIRST(list)) != NULL) {
		STAILQ_REMOVE_HEAD(list, next);
		wipe_entry(e);
		free(e);
	}
}

void
smtp_client_rset(struct smtp_client *c)
{
	free_entries(&c->unsent); /* recipients that need not be asked any more */
	cli_say(c, CLI_RSET, 0, "RSET\r\n", 6);
}

void
smtp_client_cork(struct smtp_client *c)
{
	net_stream_cork(c->stream);
}

void
smtp_client_uncork(struct smtp_client *c)
{
	net_stream_uncork(c->stream);
}

/* ---- hearing ---- */

/* The connection is of no use any more: close it, then tell the owner, who frees us. */
void
cli_fail(struct smtp_client *c, const struct err *err, const struct smtp_reply *reply)
{
	const struct smtp_client_ops *ops = c->ops;

	if (c->dead)
		return;
	c->dead = true;
	c->sending = false;
	net_stream_free(&c->stream);
	if (ops != NULL)
		ops->failed(c->owner, err, reply);
}

void
cli_reply_err(struct err *err, const char *what, const struct smtp_reply *reply)
{
	struct str line = STR_INIT;

	smtp_reply_line(reply, &line);
	err_set_temp(err, "%s was answered: %s", what, str_text(&line));
	str_deinit(&line);
}

void
cli_fail_reply(struct smtp_client *c, const char *what, const struct smtp_reply *reply)
{
	struct err err;

	cli_reply_err(&err, what, reply);
	cli_fail(c, &err, reply);
}

static void
got_mail(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r)
{
	(void)e;
	c->insists_on_tls = r->code == 530 && c->in_clear; /* RFC 3207 4 */
	c->ops->mail(c->owner, r);
}

static void
got_rcpt(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r)
{
	c->ops->rcpt(c->owner, e->index, r);
}

static void
got_data(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r)
{
	(void)e;
	if (r->code == 354)
		cli_body_start(c);
	else if (r->code / 100 == 3)
		cli_fail_reply(c, "DATA", r);
	else
		c->ops->refused(c->owner, r);
}

static void
got_chunk(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r)
{
	(void)e;
	if (r->code / 100 == 2)
		cli_chunk_last(c);
	else
		c->ops->refused(c->owner, r);
}

static void
got_final(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r)
{
	(void)e;
	c->messages++;
	/* Behind a refused BDAT the transaction may still be open at the peer: RSET ends it (RFC 3030 2). */
	c->busy = smtp_client_chunks(c) && r->code / 100 != 2;
	c->committed = false;
	c->ops->final(c->owner, r);
}

static void
got_rset(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r)
{
	(void)e;
	if (r->code != 250) {
		cli_fail_reply(c, "RSET", r);
		return;
	}
	c->busy = false;
	c->ops->ready(c->owner);
}

/* Was it sent before that which it could answer? The dot, or the chunk's end, may still be on its way. */
static bool
is_early(const struct smtp_client *c, const struct cli_entry *e)
{
	if (e == NULL || c->sending)
		return true;
	return (e->kind == CLI_FINAL || e->kind == CLI_CHUNK) && net_stream_unconfirmed(c->stream) > 0;
}

/* 421 may come instead of any reply (RFC 5321 3.8). */
static void
got_reply(struct smtp_client *c, const struct smtp_reply *r)
{
	struct cli_entry *e = STAILQ_FIRST(&c->expected);
	struct err err;

	if (c->is_early) {
		c->odd = true;
		if (r->code == 421) {
			cli_fail_reply(c, e == NULL && !c->sending ? "nothing" : "content that was still being sent", r);
			return;
		}
		err_set_temp(&err, "the back-end sent a reply (%d) to nothing we said", r->code);
		cli_fail(c, &err, NULL);
		return;
	}
	if (r->code == 421 || strchr(steps[e->kind].classes, '0' + r->code / 100) == NULL) {
		c->odd = r->code != 421;
		cli_fail_reply(c, steps[e->kind].name, r);
		return;
	}
	STAILQ_REMOVE_HEAD(&c->expected, next);
	steps[e->kind].got(c, e, r);
	free(e);
	if (c->dead || c->stream == NULL)
		return;
	send_waiting(c);
	cli_set_deadline(c);
}

void
cli_protocol_error(struct smtp_client *c, const char *why)
{
	const struct cli_entry *e = STAILQ_FIRST(&c->expected);
	struct err err;

	c->odd = true;
	err_set_temp(&err, "the reply to %s %s", e != NULL ? steps[e->kind].name : "nothing", why);
	cli_fail(c, &err, NULL);
}

/*
 * Does more follow the last reply we wait for? Then one of them answers nothing (a reply given twice, or
 * early), and which one nobody can tell. Only a 421 may come unasked.
 */
static bool
is_followed(const struct smtp_client *c, const char *rest, size_t len)
{
	const struct cli_entry *e = STAILQ_FIRST(&c->expected);

	return len > 0 && e != NULL && STAILQ_NEXT(e, next) == NULL &&
	       memcmp(rest, "421", len < 3 ? len : 3) != 0;
}

/* Its first octet is here: what begins too early does not become an answer by its end. */
static void
begin_reply(struct smtp_client *c)
{
	if (c->in_reply)
		return;
	c->in_reply = true;
	c->is_early = is_early(c, STAILQ_FIRST(&c->expected));
}

/* One line of a reply, which ends in CRLF and nothing else. Returns the octets taken. */
static size_t
take_line(struct smtp_client *c, const char *data, size_t len)
{
	const char *lf = memchr(data, '\n', len);
	struct smtp_reply reply;
	size_t line_len;

	begin_reply(c);
	c->heard_tls = net_stream_is_tls(c->stream);
	if (lf == NULL) {
		if (len > SMTP_REPLY_LINE_MAX)
			cli_protocol_error(c, "is too long");
		return 0;
	}
	line_len = (size_t)(lf - data);
	if (line_len == 0 || data[line_len - 1] != '\r') {
		cli_protocol_error(c, "has a line that does not end in CR LF");
		return 0;
	}
	switch (smtp_reply_feed(&c->parser, data, line_len - 1, &reply)) {
	case SMTP_REPLY_MORE:
		break;
	case SMTP_REPLY_BAD:
		cli_protocol_error(c, "is not well formed");
		return 0;
	case SMTP_REPLY_DONE:
		c->in_reply = false;
		/* An owner that is done with us looks whether anything odd came behind its reply. */
		c->unread = len - line_len - 1;
		if (is_followed(c, lf + 1, c->unread)) {
			cli_protocol_error(c, "is followed by another one");
			return 0;
		}
		got_reply(c, &reply);
		break;
	}
	return line_len + 1;
}

static size_t
got_bytes(struct smtp_client *c, const char *data, size_t len)
{
	size_t used = 0, n;

	while (used < len && !c->dead && !c->freed && c->stream != NULL) {
		n = take_line(c, data + used, len - used);
		if (n == 0)
			break;
		used += n;
	}
	if (c->dead || c->freed || c->stream == NULL)
		return len;
	c->unread = len - used;
	/* Not even the rest of such a line or reply is waited for: the connection may move or be used again. */
	if ((c->unread > 0 || c->in_reply) && STAILQ_EMPTY(&c->expected) && !c->sending) {
		cli_protocol_error(c, "has come unasked");
		return len;
	}
	return used;
}

/* A large file is one piece for the stream: it may take long, as long as something of it leaves. */
static bool
has_moved(struct smtp_client *c)
{
	size_t before = c->stuck;

	c->stuck = net_stream_unconfirmed(c->stream);
	return c->stuck < before;
}

static void
got_timeout(struct smtp_client *c)
{
	const struct cli_entry *e = STAILQ_FIRST(&c->expected);
	struct err err;

	if (c->sending && has_moved(c)) {
		cli_set_deadline(c);
		return;
	}
	if (cli_tls_timed_out(c))
		return;
	c->timed_out = true;
	if (c->sending)
		err_set_temp(&err, "the back-end takes no content (data_timeout)");
	else
		err_set_temp(&err, "no reply to %s in time", e != NULL ? steps[e->kind].name : "nothing");
	cli_fail(c, &err, NULL);
}

static void
got_closed(struct smtp_client *c, const char *why)
{
	const struct cli_entry *e = STAILQ_FIRST(&c->expected);
	struct err err;

	if (cli_tls_closed(c, why))
		return;
	if (c->sending)
		err_set_temp(&err, "%s while content was being sent", why);
	else if (e != NULL)
		err_set_temp(&err, "%s before the reply to %s", why, steps[e->kind].name);
	else
		err_set_temp(&err, "%s while idle", why);
	cli_fail(c, &err, NULL);
}

static size_t
on_stream(void *owner, enum net_event ev, const char *data, size_t len)
{
	struct smtp_client *c = owner;

	switch (ev) {
	case NET_BYTES:
		return got_bytes(c, data, len);
	case NET_DRAINED:
		if (c->sending)
			cli_body_more(c);
		return 0;
	case NET_EOF:
		got_closed(c, "the back-end closed the connection");
		return 0;
	case NET_TIMEOUT:
		got_timeout(c);
		return 0;
	case NET_BROKEN:
		got_closed(c, net_stream_error(c->stream));
		return 0;
	case NET_TLS_UP:
		cli_got_tls(c);
		return 0;
	}
	return 0;
}

/* ---- life ---- */

struct smtp_client *
smtp_client_new(struct net_stream *stream, const struct smtp_client_conf *conf,
	const char *name, bool in_clear,
	const struct log_ctx *log, const struct smtp_client_ops *ops, void *owner)
{
	struct smtp_client *c = xcalloc(1, sizeof(*c));

	c->stream = stream;
	c->worker = net_stream_worker(stream);
	c->conf = conf;
	c->log = log;
	c->ops = ops;
	c->owner = owner;
	c->peer = *net_stream_peer(stream);
	STAILQ_INIT(&c->expected);
	STAILQ_INIT(&c->unsent);
	smtp_reply_parser_init(&c->parser);
	c->name = name != NULL ? xstrdup(name) : NULL;
	c->in_clear = in_clear;
	ip_addr_port_text(&c->peer, c->peer_text, sizeof(c->peer_text));
	net_stream_set_owner(stream, on_stream, c);
	if (conf->implicit_tls)
		cli_start_tls(c);
	else
		cli_expect(c, CLI_BANNER);
	return c;
}

void
smtp_client_free(struct smtp_client **c_p)
{
	struct smtp_client *c = *c_p;

	if (c == NULL)
		return;
	*c_p = NULL;
	c->freed = true;
	c->ops = NULL;
	cli_body_end(c);
	net_stream_free(&c->stream);
	free_entries(&c->expected);
	free_entries(&c->unsent);
	smtp_reply_parser_deinit(&c->parser);
	free(c->name);
	/* A caller up the stack may still look at c->freed. */
	net_later(c->worker, free, c);
}

void
smtp_client_quit(struct smtp_client **c)
{
	struct smtp_client *client = *c;

	if (client != NULL && client->stream != NULL) {
		net_stream_write(client->stream, "QUIT\r\n", 6);
		net_stream_finish(&client->stream, 1000);
	}
	smtp_client_free(c);
}

void
smtp_client_set_owner(struct smtp_client *c, const struct smtp_client_ops *ops, void *owner,
	const struct log_ctx *log)
{
	c->ops = ops;
	c->owner = owner;
	c->log = log;
	c->patience = 0;
}

void
smtp_client_set_patience(struct smtp_client *c, int64_t ms)
{
	c->patience = ms;
}

uint64_t
smtp_client_waits_since(const struct smtp_client *c)
{
	return c->waits_since;
}

bool
smtp_client_timed_out(const struct smtp_client *c)
{
	return c->timed_out;
}

bool
smtp_client_is_waiting(const struct smtp_client *c)
{
	return c->sending || !STAILQ_EMPTY(&c->expected);
}

const struct smtp_caps *
smtp_client_caps(const struct smtp_client *c)
{
	return &c->caps;
}

bool
smtp_client_chunks(const struct smtp_client *c)
{
	return c->chunks;
}

bool
smtp_client_is_reusable(const struct smtp_client *c)
{
	return !c->dead && !c->odd && !c->insists_on_tls && c->is_ready && !c->busy && c->unread == 0 &&
	       STAILQ_EMPTY(&c->expected) && STAILQ_EMPTY(&c->unsent);
}

/* May a RSET bring it back to rest? Not while the peer may be waiting for content, or reading it. */
bool
smtp_client_may_reset(const struct smtp_client *c)
{
	const struct cli_entry *e;

	if (c->dead || c->odd || c->insists_on_tls || !c->is_ready || c->sending || c->committed)
		return false;
	if (c->unread > 0 && STAILQ_EMPTY(&c->expected))
		return false;
	STAILQ_FOREACH(e, &c->expected, next)
		if (e->kind != CLI_MAIL && e->kind != CLI_RCPT)
			return false;
	STAILQ_FOREACH(e, &c->unsent, next)
		if (e->kind != CLI_MAIL && e->kind != CLI_RCPT)
			return false;
	return true;
}

struct net_worker *
smtp_client_worker(const struct smtp_client *c)
{
	return c->worker;
}

bool
smtp_client_is_reused(const struct smtp_client *c)
{
	return c->was_idle;
}

unsigned
smtp_client_messages(const struct smtp_client *c)
{
	return c->messages;
}

bool
smtp_client_is_odd(const struct smtp_client *c)
{
	return c->odd;
}

bool
smtp_client_tls_failed(const struct smtp_client *c)
{
	return c->tls_failed;
}

bool
smtp_client_is_tls(const struct smtp_client *c)
{
	return c->heard_tls;
}

bool
smtp_client_give_up_tls(struct smtp_client *c)
{
	return cli_tls_timed_out(c);
}

/* Where AUTH is a must and may not be said in clear, that leads nowhere: TLS is tried again. */
bool
smtp_client_may_go_clear(const struct smtp_client *c)
{
	const struct smtp_client_conf *conf = c->conf;

	return c->tls_failed && !conf->tls_required && (conf->auth_user == NULL || conf->auth_plaintext);
}

bool
smtp_client_is_in_clear(const struct smtp_client *c)
{
	return c->in_clear;
}

bool
smtp_client_insists_on_tls(const struct smtp_client *c)
{
	return c->insists_on_tls;
}

bool
smtp_client_is_committed(const struct smtp_client *c)
{
	return c->committed;
}

const struct ip_addr *
smtp_client_peer(const struct smtp_client *c)
{
	return &c->peer;
}

void
smtp_client_set_reused(struct smtp_client *c)
{
	c->was_idle = true;
}

void *
smtp_client_pool(const struct smtp_client *c)
{
	return c->pool;
}

void
smtp_client_set_pool(struct smtp_client *c, void *pool)
{
	c->pool = pool;
}

bool
smtp_client_may_move(const struct smtp_client *c)
{
	return c->stream != NULL && net_stream_is_at_rest(c->stream);
}

void
smtp_client_detach(struct smtp_client *c)
{
	c->parcel = net_stream_release(&c->stream);
}

void
smtp_client_attach(struct smtp_client *c, struct net_worker *w)
{
	c->worker = w;
	c->stream = net_stream_adopt(w, c->parcel, on_stream, c);
}
