/*
 * smtp/server_body.c - DATA (RFC 5321 4.1.1.4) and BDAT (RFC 3030) on the server side.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/xalloc.h"
#include "smtp/params.h"
#include "smtp/server_private.h"

void
srv_body_free(struct smtp_server *srv)
{
	free(srv->body);
	srv->body = NULL;
}

static bool
is_too_big(const struct smtp_server *srv)
{
	return srv->conf->max_message > 0 && srv->body->size > srv->conf->max_message;
}

static void
content_run(void *owner, const char *data, size_t len, bool dot_line)
{
	struct smtp_server *srv = owner;

	srv->body->size += (int64_t)len;
	if (!is_too_big(srv))
		srv->ops->content(srv->owner, data, len, dot_line);
}

static void
body_new(struct smtp_server *srv, enum smtp_dot_mode mode)
{
	srv->body = xcalloc(1, sizeof(*srv->body));
	srv->body->credit_us = srv->conf->data_timeout * 1000;
	smtp_dot_init(&srv->body->dot, mode, content_run, srv);
}

/* ---- patience ---- */

/* From now on we wait for octets. */
static void
credit_resume(struct smtp_server *srv)
{
	srv->body->credit_at = net_worker_now(srv->worker);
}

/* One pause may be as long as data_timeout, but many of them only with octets enough in between: a client
 * that trickles cannot hold its place. */
static void
credit_reckon(struct smtp_server *srv, size_t octets)
{
	struct srv_body *b = srv->body;
	int64_t full = srv->conf->data_timeout * 1000, rate = srv->conf->min_rate;
	uint64_t now = net_worker_now(srv->worker);

	if (rate == 0 && octets > 0)
		b->credit_us = full;
	else
		b->credit_us -= (int64_t)(now - b->credit_at) * 1000;
	if (rate > 0)
		b->credit_us += (int64_t)octets * 1000000 / rate;
	if (b->credit_us > full)
		b->credit_us = full;
	b->credit_at = now;
}

int64_t
srv_body_patience(struct smtp_server *srv)
{
	if (srv->conf->data_timeout == 0)
		return 0;
	credit_reckon(srv, 0);
	return srv->body->credit_us >= 1000 ? srv->body->credit_us / 1000 : 1;
}

/* All octets are here: the owner decides, unless the content itself is at fault. */
static void
content_complete(struct smtp_server *srv)
{
	struct smtp_cmd *cmd = &srv->cmd;
	const struct smtp_dot *dot = &srv->body->dot;

	cmd->running = true;
	if (is_too_big(srv)) {
		smtp_cmd_reply(srv_policy(cmd), 552, "5.3.4", "message is larger than the limit of %lld octets",
			(long long)srv->conf->max_message);
		return;
	}
	if (srv->conf->bare_newline == SMTP_BARE_REJECT && dot->bare_lf + dot->bare_cr > 0) {
		smtp_cmd_reply(srv_policy(cmd), 550, "5.6.11", "bare CR or LF in the message is not allowed");
		return;
	}
	if (srv->ops->end(srv->owner, srv_policy(cmd), dot) == SMTP_WAIT)
		srv_deadline(srv);
}

/* ---- DATA ---- */

enum smtp_step
srv_do_data(struct smtp_cmd *cmd, const struct smtp_command *line)
{
	struct smtp_server *srv = cmd->srv;
	struct smtp_reply refusal = { 0 };

	if (line->args_len > 0)
		return smtp_cmd_reply(cmd, 501, "5.5.4", "DATA takes no argument");
	if (!srv->ops->begin(srv->owner, &refusal))
		return smtp_cmd_reply_with(srv_policy(cmd), &refusal);
	body_new(srv, SMTP_DOT_DATA);
	return smtp_cmd_reply(cmd, 354, NULL, "End data with <CR><LF>.<CR><LF>");
}

/* ---- BDAT ---- */

static void
swallow(struct smtp_server *srv, int code, const char *status, const char *text)
{
	struct srv_body *b = srv->body;

	b->swallow = true;
	b->code = code;
	b->status = status;
	b->text = text;
}

/* It is no part of a transaction; if one is open, that goes on. */
static bool
is_stray_chunk(const struct srv_body *b)
{
	return b->dot.mode == SMTP_DOT_CHUNK && b->before != SRV_RCPT && b->before != SRV_CHUNKS;
}

/* Why this chunk cannot be taken; its octets still have to be read. */
static void
check_chunk(struct smtp_server *srv)
{
	struct srv_body *b = srv->body;
	struct smtp_reply refusal = { 0 };
	int64_t max = srv->conf->max_message;

	if (is_stray_chunk(b))
		swallow(srv, 503, "5.5.1", srv->helo == NULL ? "say EHLO first" : "need RCPT before BDAT");
	else if (max > 0 && b->chunk_size > max - b->size)
		swallow(srv, 552, "5.3.4", "message is larger than the limit");
	else if (b->before == SRV_RCPT && !srv->ops->begin(srv->owner, &refusal))
		swallow(srv, refusal.code, arena_strdup(srv->arena, refusal.status),
			arena_strdup(srv->arena, refusal.text));
}

/* The last octet of a chunk is here. */
static void
chunk_complete(struct smtp_server *srv)
{
	struct srv_body *b = srv->body;
	struct smtp_cmd *cmd = &srv->cmd;

	if (b->swallow) {
		cmd->running = true;
		smtp_cmd_reply(is_stray_chunk(b) ? srv_out_of_order(cmd) : srv_policy(cmd), b->code, b->status, "%s", b->text);
		return;
	}
	if (!b->chunk_last) {
		cmd->running = true;
		smtp_cmd_reply(cmd, 250, "2.0.0", "%lld octets received", (long long)b->chunk_size);
		return;
	}
	smtp_dot_finish(&b->dot);
	content_complete(srv);
}

enum smtp_step
srv_do_bdat(struct smtp_cmd *cmd, const struct smtp_command *line)
{
	struct smtp_server *srv = cmd->srv;
	struct smtp_reply bad = { .code = 501, .status = "5.5.4" };
	int64_t octets;
	bool last;
	struct err err;

	if (smtp_params_bdat(line->args, line->args_len, &octets, &last, &err) < 0) {
		/* Where the chunk ends is unknown, so nothing behind this line can be obeyed. */
		bad.text = err.text;
		return smtp_cmd_reply_close(cmd, &bad);
	}
	if (srv->body == NULL)
		body_new(srv, SMTP_DOT_CHUNK);
	srv->body->before = srv->state;
	srv->body->chunk_size = octets;
	srv->body->chunk_left = octets;
	srv->body->chunk_last = last;
	check_chunk(srv);
	srv_enter(srv, SRV_BODY);
	credit_resume(srv);
	cmd->running = false; /* its reply follows the chunk */
	srv_deadline(srv);
	if (octets == 0)
		chunk_complete(srv);
	return SMTP_REPLIED;
}

static size_t
chunk_bytes(struct smtp_server *srv, const char *data, size_t len)
{
	struct srv_body *b = srv->body;

	if ((int64_t)len > b->chunk_left)
		len = (size_t)b->chunk_left;
	credit_reckon(srv, len);
	b->chunk_left -= (int64_t)len;
	if (!b->swallow)
		smtp_dot_feed(&b->dot, data, len);
	if (b->chunk_left == 0)
		chunk_complete(srv);
	else
		srv_deadline(srv);
	return len;
}

/* ---- both ---- */

size_t
srv_body_bytes(struct smtp_server *srv, const char *data, size_t len)
{
	size_t used;

	if (srv->body->dot.mode == SMTP_DOT_CHUNK)
		return chunk_bytes(srv, data, len);
	credit_reckon(srv, len);
	used = smtp_dot_feed(&srv->body->dot, data, len);
	if (srv->body->dot.done)
		content_complete(srv);
	else
		srv_deadline(srv);
	return used;
}

void
srv_body_replied(struct smtp_server *srv, int code)
{
	const struct srv_body *b = srv->body;

	if (code == 354) {
		srv_enter(srv, SRV_BODY);
		credit_resume(srv);
	} else if (b == NULL) {
		if (code / 100 == 4)
			srv_reset(srv);
	} else if (is_stray_chunk(b)) {
		srv_enter(srv, b->before);
		srv_body_free(srv);
	} else if (code == 250 && b->dot.mode == SMTP_DOT_CHUNK && !b->chunk_last) {
		srv_enter(srv, SRV_CHUNKS);
	} else {
		if (code / 100 == 2)
			srv->error_count = 0;
		srv_reset(srv);
	}
}
