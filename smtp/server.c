/*
 * smtp/server.c - order of commands, pipelining, limits; content is in server_body.c.
 */
#include "smtp/server.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/list.h"
#include "base/str.h"
#include "base/xalloc.h"
#include "mail/address.h"
#include "smtp/params.h"
#include "smtp/server_private.h"

/* How long a client may take to read our last reply. */
#define LINGER_MS 2000
/* Refused recipients of one transaction. Each stays in its arena, so there must be an end to them. */
#define REFUSED_MAX 1000
/* Commands behind a refused one that are no fault of the client: he cannot have more under way, or nearly so. */
#define EXCUSED_MAX 1000
/* Commands of one client in one turn of the loop; then the others have theirs. */
#define TURN_MAX 64

const char *const smtp_gone_names[] = { "quit", "closed", "timeout", "eof", "broken", "tls", "timeout", "early", "errors", "http" };
static const char *const state_names[] = {
	"greet", "ready", "mail", "rcpt", "body", "chunks", "closing",
};

#define IN(s)  (1u << (s))
#define ALWAYS (~(IN(SRV_BODY) | IN(SRV_CLOSING)))

static enum smtp_step do_ehlo(struct smtp_cmd *cmd, const struct smtp_command *line);
static enum smtp_step do_helo(struct smtp_cmd *cmd, const struct smtp_command *line);
static enum smtp_step do_mail(struct smtp_cmd *cmd, const struct smtp_command *line);
static enum smtp_step do_rcpt(struct smtp_cmd *cmd, const struct smtp_command *line);
static enum smtp_step do_rset(struct smtp_cmd *cmd, const struct smtp_command *line);
static enum smtp_step do_noop(struct smtp_cmd *cmd, const struct smtp_command *line);
static enum smtp_step do_help(struct smtp_cmd *cmd, const struct smtp_command *line);
static enum smtp_step do_vrfy(struct smtp_cmd *cmd, const struct smtp_command *line);
static enum smtp_step do_quit(struct smtp_cmd *cmd, const struct smtp_command *line);
static enum smtp_step do_starttls(struct smtp_cmd *cmd, const struct smtp_command *line);
static enum smtp_step do_refuse(struct smtp_cmd *cmd, const struct smtp_command *line);
static void mail_replied(struct smtp_server *srv, int code);
static void rcpt_replied(struct smtp_server *srv, int code);
static void helo_replied(struct smtp_server *srv, int code);
static void starttls_replied(struct smtp_server *srv, int code);

/*
 * One row per verb. "alone": the last command of a pipelined group; input behind it before our reply
 * is an error (RFC 2920 3.1).
 */
static const struct srv_verb {
	const char *name;
	unsigned states;
	bool alone;
	enum smtp_step (*run)(struct smtp_cmd *, const struct smtp_command *);
	void (*replied)(struct smtp_server *, int code);
	const char *hint; /* when the state is wrong */
} verbs[] = {
	{ "EHLO", ALWAYS, true, do_ehlo, helo_replied, NULL },
	{ "HELO", ALWAYS, true, do_helo, helo_replied, NULL },
	{ "STARTTLS", IN(SRV_READY), true, do_starttls, starttls_replied, "STARTTLS is not possible in a transaction" },
	{ "MAIL", IN(SRV_READY), false, do_mail, mail_replied, "MAIL is not possible now" },
	{ "RCPT", IN(SRV_MAIL) | IN(SRV_RCPT), false, do_rcpt, rcpt_replied, "need MAIL before RCPT" },
	{ "DATA", IN(SRV_RCPT), true, srv_do_data, srv_body_replied, "need RCPT before DATA" },
	{ "BDAT", ALWAYS, false, srv_do_bdat, srv_body_replied, NULL },
	{ "RSET", ALWAYS, false, do_rset, NULL, NULL },
	{ "NOOP", ALWAYS, false, do_noop, NULL, NULL },
	{ "HELP", ALWAYS, false, do_help, NULL, NULL },
	{ "VRFY", ALWAYS, false, do_vrfy, NULL, NULL },
	{ "QUIT", ALWAYS, false, do_quit, NULL, NULL },
	{ "EXPN", ALWAYS, false, do_refuse, NULL, NULL },
	{ "ETRN", ALWAYS, false, do_refuse, NULL, NULL },
	{ "TURN", ALWAYS, false, do_refuse, NULL, NULL },
	{ "AUTH", ALWAYS, false, do_refuse, NULL, NULL },
};
static const struct srv_verb no_verb = { "", ALWAYS, false, NULL, NULL, NULL };
/* What a client says by connecting. */
static const struct srv_verb connect_verb = { "", ALWAYS, false, NULL, NULL, NULL };

void
srv_enter(struct smtp_server *srv, enum srv_state state)
{
	if (srv->state == state)
		return;
	log_debug(srv->log, "state", "old=%s new=%s", state_names[srv->state], state_names[state]);
	srv->state = state;
}

void
srv_reset(struct smtp_server *srv)
{
	bool was_open = srv->arena != NULL;

	srv_body_free(srv);
	srv->arena = NULL;
	srv->rcpt_count = 0;
	srv->refused_count = 0;
	srv->was_refused = false;
	if (srv->state != SRV_CLOSING)
		srv_enter(srv, srv->helo != NULL ? SRV_READY : SRV_GREET);
	if (was_open)
		srv->ops->reset(srv->owner, srv->refusal);
}

/* EHLO was refused, or nobody is left to whom it matters. */
static void
drop_name(struct smtp_cmd *cmd)
{
	free(cmd->helo);
	cmd->helo = NULL;
}

/* The session is over for its owner; what is still to be written leaves by itself. */
void
srv_end(struct smtp_server *srv, enum smtp_gone why)
{
	if (srv->over)
		return;
	srv->over = true;
	srv->cmd.running = false;
	drop_name(&srv->cmd);
	srv_enter(srv, SRV_CLOSING);
	if (why == SMTP_GONE_EOF || why == SMTP_GONE_BROKEN || why == SMTP_GONE_TLS)
		net_stream_free(&srv->stream);
	else
		net_stream_finish(&srv->stream, LINGER_MS);
	srv_body_free(srv);
	srv->ops->gone(srv->owner, why);
}

/* A command that began has one deadline for all of it, so a client that trickles gains nothing. */
void
srv_deadline(struct smtp_server *srv)
{
	int64_t ms;

	if (srv->over)
		return;
	if (srv->cmd.running)
		ms = 0; /* the owner bounds what it does */
	else if (srv->state == SRV_BODY)
		ms = srv_body_patience(srv);
	else if (srv->arena != NULL || srv->in_command || srv->in_handshake)
		ms = srv->conf->command_timeout;
	else
		ms = srv->conf->idle_timeout;
	net_stream_deadline(srv->stream, ms);
}

static void
send_reply(struct smtp_server *srv, const struct smtp_reply *reply, bool with_status)
{
	struct str out = STR_INIT;

	smtp_reply_write(reply, with_status, &out);
	net_stream_write(srv->stream, out.data, out.len);
	str_deinit(&out);
}

/* A reply that belongs to no command: 421. */
static void
send_goodbye(struct smtp_server *srv, const char *status, const char *text)
{
	struct smtp_reply reply = { .code = 421 };
	char line[300];

	if (srv->in_handshake)
		return;
	snprintf(line, sizeof(line), "%s %s", srv->conf->hostname, text);
	snprintf(reply.status, sizeof(reply.status), "%s", status);
	reply.text = line;
	send_reply(srv, &reply, true);
}

static void begin(struct smtp_server *srv);
static enum smtp_step connect_replied(struct smtp_server *srv, const struct smtp_reply *reply);
static enum smtp_step refuse_and_close(struct smtp_cmd *cmd, const char *text);

static bool
is_helo(const struct smtp_cmd *cmd)
{
	return cmd->verb->run == do_ehlo || cmd->verb->run == do_helo;
}

static bool
offers_starttls(const struct smtp_server *srv)
{
	return srv->starttls != SMTP_STARTTLS_NO && !net_stream_is_tls(srv->stream);
}

/* RFC 3207 4: nothing of the mail before it. */
static bool
needs_starttls(const struct smtp_server *srv)
{
	return srv->starttls == SMTP_STARTTLS_REQUIRE && offers_starttls(srv);
}

/* The 250 of an EHLO: our name and what we offer. */
static void
send_ehlo(struct smtp_server *srv)
{
	struct smtp_caps caps = { 0 };
	struct smtp_reply reply = { .code = 250 };
	struct str text = STR_INIT;

	srv->ops->caps(srv->owner, &caps);
	srv->starttls = srv->conf->starttls;
	if (offers_starttls(srv))
		caps.bits |= SMTP_CAP_STARTTLS;
	/* AUTH= on MAIL is understood though AUTH is not offered: some send it to whoever they trust. */
	srv->offered = srv->esmtp ? caps.bits | SMTP_CAP_AUTH : 0;
	str_add(&text, srv->conf->hostname);
	if (srv->esmtp && caps.bits != 0) {
		str_addc(&text, '\n');
		smtp_caps_write(&caps, &text);
	}
	reply.text = str_text(&text);
	send_reply(srv, &reply, false);
	str_deinit(&text);
}

/* The new name: nothing of what was before it. */
static void
take_name(struct smtp_cmd *cmd)
{
	struct smtp_server *srv = cmd->srv;

	srv_reset(srv);
	free(srv->helo);
	srv->helo = cmd->helo;
	cmd->helo = NULL;
	srv->esmtp = cmd->verb->run == do_ehlo;
	srv->ops->greeted(srv->owner, srv->helo, srv->esmtp);
}

struct smtp_cmd *
srv_policy(struct smtp_cmd *cmd)
{
	cmd->is_policy = true;
	return cmd;
}

struct smtp_cmd *
srv_out_of_order(struct smtp_cmd *cmd)
{
	struct smtp_server *srv = cmd->srv;

	cmd->is_excused = srv->was_refused && srv->excused_count++ < EXCUSED_MAX;
	return cmd;
}

static bool
is_behind_mail(const struct srv_verb *verb)
{
	return verb->run == do_rcpt || verb->run == srv_do_data || verb->run == srv_do_bdat;
}

/* Who pipelines MAIL, RCPT and DATA has said all of them before he hears that the first one is refused. */
static void
note_refusal(struct smtp_server *srv, const struct smtp_cmd *cmd)
{
	bool is_mail = cmd->verb->run == do_mail;

	if ((is_mail || is_behind_mail(cmd->verb)) && cmd->code >= 400 && (cmd->code != 503 || cmd->is_policy)) {
		srv->was_refused = true;
		srv->excused_count = 0;
	} else if (is_mail) {
		srv->was_refused = false;
	}
}

static bool
counts_as_error(const struct smtp_cmd *cmd)
{
	return cmd->code >= 500 && cmd->code <= 503 && !cmd->is_policy && !cmd->is_excused;
}

/* soft_bounce: what the client hears instead. */
static const struct smtp_reply *
soften(const struct smtp_server *srv, const struct smtp_reply *reply, struct smtp_reply *soft)
{
	if (!srv->conf->soft_bounce || !smtp_reply_soften(reply, soft))
		return reply;
	log_info(srv->log, "soft_bounce", "code=%d text=%s", reply->code, reply->text);
	return soft;
}

/* With what has come in behind it meanwhile. */
static void
go_on(struct smtp_server *srv)
{
	size_t held;

	srv_deadline(srv);
	if (srv->in_bytes)
		return; /* got_bytes() goes on by itself */
	net_stream_held(srv->stream, &held);
	if (held > 0)
		net_stream_again(srv->stream);
	else if (net_stream_got_eof(srv->stream))
		srv_end(srv, SMTP_GONE_EOF);
}

/* After each reply: end the session, or wait for the next command. */
static void
cmd_done(struct smtp_server *srv)
{
	if (srv->over)
		return;
	if (!srv->close_after && srv->error_count >= srv->conf->max_errors) {
		send_goodbye(srv, "4.7.0", "too many errors");
		srv->close_after = true;
		srv->close_why = SMTP_GONE_ERRORS;
	}
	if (!srv->close_after && srv->draining && srv->arena == NULL) {
		send_goodbye(srv, "4.3.2", "service is closing, try again");
		srv->close_after = true;
	}
	if (srv->close_after) {
		srv_end(srv, srv->cmd.verb->run == do_quit ? SMTP_GONE_QUIT : srv->close_why);
		return;
	}
	go_on(srv);
}

enum smtp_step
smtp_cmd_reply_with(struct smtp_cmd *cmd, const struct smtp_reply *reply)
{
	struct smtp_server *srv = cmd->srv;
	const struct srv_verb *verb = cmd->verb;
	struct smtp_reply soft;

	assert(cmd->running && reply->code >= 200 && reply->code <= 599);
	cmd->running = false;
	if (verb == &connect_verb)
		return connect_replied(srv, reply);
	if (cmd->is_policy)
		reply = soften(srv, reply, &soft);
	cmd->code = reply->code;
	if (is_helo(cmd) && reply->code == 250) {
		take_name(cmd);
		send_ehlo(srv);
	} else {
		drop_name(cmd);
		send_reply(srv, reply, true);
	}
	if (counts_as_error(cmd))
		srv->error_count++;
	srv->refusal = reply->code >= 400 ? reply : NULL;
	if (verb->replied != NULL)
		verb->replied(srv, reply->code);
	srv->refusal = NULL;
	note_refusal(srv, cmd); /* now: the end of the transaction has forgotten the one before */
	cmd_done(srv);
	return SMTP_REPLIED;
}

enum smtp_step
smtp_cmd_reply_close(struct smtp_cmd *cmd, const struct smtp_reply *reply)
{
	cmd->srv->close_after = true;
	return smtp_cmd_reply_with(cmd, reply);
}

enum smtp_step
smtp_cmd_reply(struct smtp_cmd *cmd, int code, const char *status, const char *fmt, ...)
{
	struct smtp_reply reply = { .code = code };
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (status != NULL)
		snprintf(reply.status, sizeof(reply.status), "%s", status);
	reply.text = text;
	return smtp_cmd_reply_with(cmd, &reply);
}

/* ---- verbs ---- */

static enum smtp_step
greet(struct smtp_cmd *cmd, const struct smtp_command *line, bool esmtp)
{
	struct smtp_server *srv = cmd->srv;

	if (line->args_len == 0 || !mail_helo_valid(line->args, line->args_len))
		return smtp_cmd_reply(cmd, 501, "5.5.4", "%s needs the name of your host", cmd->verb->name);
	cmd->helo = xstrndup(line->args, line->args_len);
	return srv->ops->helo(srv->owner, srv_policy(cmd), cmd->helo, esmtp);
}

static enum smtp_step
do_ehlo(struct smtp_cmd *cmd, const struct smtp_command *line)
{
	return greet(cmd, line, true);
}

static enum smtp_step
do_helo(struct smtp_cmd *cmd, const struct smtp_command *line)
{
	return greet(cmd, line, false);
}

static void
helo_replied(struct smtp_server *srv, int code)
{
	if (code == 250)
		srv_enter(srv, SRV_READY);
}

static enum smtp_step
refuse_clear(struct smtp_cmd *cmd)
{
	return smtp_cmd_reply(srv_policy(cmd), 530, "5.7.0", "say STARTTLS first");
}

static enum smtp_step
do_mail(struct smtp_cmd *cmd, const struct smtp_command *line)
{
	struct smtp_server *srv = cmd->srv;
	struct smtp_params_error why;
	struct mail_sender *sender;
	unsigned offered;
	struct err err;

	if (needs_starttls(srv))
		return refuse_clear(cmd);
	srv->arena = srv->ops->arena(srv->owner);
	srv->draining = srv->draining || srv->is_last;
	sender = arena_zalloc(srv->arena, sizeof(*sender));
	offered = srv->offered | (srv->conf->bare_sender ? SMTP_PARAMS_BARE : 0);
	if (smtp_params_mail(line->args, line->args_len, offered, srv->arena, sender, &why, &err) < 0)
		return smtp_cmd_reply(cmd, why.code, why.status, "%s", err.text);
	if (srv->conf->max_message > 0 && sender->size > srv->conf->max_message)
		return smtp_cmd_reply(srv_policy(cmd), 552, "5.3.4", "message is larger than the limit of %lld octets",
			(long long)srv->conf->max_message);
	srv->smtputf8 = sender->smtputf8;
	return srv->ops->mail(srv->owner, srv_policy(cmd), sender);
}

static void
mail_replied(struct smtp_server *srv, int code)
{
	if (code / 100 == 2)
		srv_enter(srv, SRV_MAIL);
	else
		srv_reset(srv);
}

static enum smtp_step
do_rcpt(struct smtp_cmd *cmd, const struct smtp_command *line)
{
	struct smtp_server *srv = cmd->srv;
	struct smtp_params_error why;
	struct mail_rcpt *rcpt;
	struct err err;

	if (srv->rcpt_count >= srv->conf->max_recipients || srv->refused_count >= REFUSED_MAX)
		return smtp_cmd_reply(cmd, 452, "4.5.3", "too many recipients");
	rcpt = arena_zalloc(srv->arena, sizeof(*rcpt));
	if (smtp_params_rcpt(line->args, line->args_len, srv->offered, srv->smtputf8, srv->arena, rcpt,
		    &why, &err) < 0)
		return smtp_cmd_reply(cmd, why.code, why.status, "%s", err.text);
	return srv->ops->rcpt(srv->owner, srv_policy(cmd), rcpt);
}

static void
rcpt_replied(struct smtp_server *srv, int code)
{
	if (code / 100 != 2) {
		srv->refused_count++;
		return;
	}
	srv->rcpt_count++;
	srv_enter(srv, SRV_RCPT);
}

static enum smtp_step
do_rset(struct smtp_cmd *cmd, const struct smtp_command *line)
{
	if (line->args_len > 0)
		return smtp_cmd_reply(cmd, 501, "5.5.4", "RSET takes no argument");
	srv_reset(cmd->srv);
	return smtp_cmd_reply(cmd, 250, "2.0.0", "Ok");
}

static enum smtp_step
do_noop(struct smtp_cmd *cmd, const struct smtp_command *line)
{
	(void)line;
	return smtp_cmd_reply(cmd, 250, "2.0.0", "Ok");
}

static enum smtp_step
do_help(struct smtp_cmd *cmd, const struct smtp_command *line)
{
	(void)line;
	return smtp_cmd_reply(
		cmd, 214, "2.0.0", "Commands: EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT");
}

static enum smtp_step
do_vrfy(struct smtp_cmd *cmd, const struct smtp_command *line)
{
	if (needs_starttls(cmd->srv))
		return refuse_clear(cmd);
	if (line->args_len == 0)
		return smtp_cmd_reply(cmd, 501, "5.5.4", "VRFY needs an address");
	return smtp_cmd_reply(cmd, 252, "2.0.0", "cannot verify, send the message and see");
}

static enum smtp_step
do_quit(struct smtp_cmd *cmd, const struct smtp_command *line)
{
	struct smtp_reply bye = { .code = 221, .status = "2.0.0" };
	char text[300];

	if (line->args_len > 0)
		return smtp_cmd_reply(cmd, 501, "5.5.4", "QUIT takes no argument");
	srv_reset(cmd->srv);
	snprintf(text, sizeof(text), "%s closing", cmd->srv->conf->hostname);
	bye.text = text;
	return smtp_cmd_reply_close(cmd, &bye);
}

static enum smtp_step
do_refuse(struct smtp_cmd *cmd, const struct smtp_command *line)
{
	return smtp_cmd_reply(cmd, 502, "5.5.1", "%s is not offered here", line->verb);
}

/* ---- TLS (RFC 3207) ---- */

static enum smtp_step
do_starttls(struct smtp_cmd *cmd, const struct smtp_command *line)
{
	struct smtp_server *srv = cmd->srv;

	if (net_stream_is_tls(srv->stream))
		return smtp_cmd_reply(cmd, 503, "5.5.1", "TLS is on already");
	if (!offers_starttls(srv))
		return do_refuse(cmd, line);
	if (line->args_len > 0)
		return smtp_cmd_reply(cmd, 501, "5.5.4", "STARTTLS takes no argument");
	return smtp_cmd_reply(cmd, 220, "2.0.0", "ready to start TLS");
}

static void
start_tls(struct smtp_server *srv)
{
	struct net_tls *tls = srv->ops->tls(srv->owner);

	srv->in_handshake = true;
	net_stream_start_tls(srv->stream, tls, NULL);
	net_tls_unref(&tls);
	srv_deadline(srv);
}

static void
starttls_replied(struct smtp_server *srv, int code)
{
	if (code == 220)
		start_tls(srv);
}

static void
got_tls(struct smtp_server *srv)
{
	struct net_tls_info info;

	srv->in_handshake = false;
	free(srv->helo);
	srv->helo = NULL;
	srv->esmtp = false;
	srv->offered = 0;
	srv->was_refused = false;
	srv_enter(srv, SRV_GREET);
	net_stream_tls(srv->stream, &info);
	srv->ops->secured(srv->owner, &info);
	if (srv->is_implicit_tls)
		begin(srv);
	else
		srv_deadline(srv);
}

/* ---- input ---- */

static const struct srv_verb *
find_verb(const char *name)
{
	for (size_t i = 0; i < ARRAY_COUNT(verbs); i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

/* HTTP, or content before the 354: what follows must not be obeyed as commands. */
static enum smtp_step
refuse_and_close(struct smtp_cmd *cmd, const char *text)
{
	struct smtp_reply reply = { .code = 554, .status = "5.5.0", .text = text };

	return smtp_cmd_reply_close(cmd, &reply);
}

static enum smtp_step
run_command(struct smtp_cmd *cmd, const struct smtp_command *line, bool behind)
{
	struct smtp_server *srv = cmd->srv;
	const struct srv_verb *verb = find_verb(line->verb);

	if (verb == NULL)
		return smtp_cmd_reply(cmd, 500, "5.5.1", "command not recognized");
	if (!(verb->states & IN(srv->state)))
		return smtp_cmd_reply(is_behind_mail(verb) ? srv_out_of_order(cmd) : cmd, 503, "5.5.1", "%s",
			srv->helo == NULL ? "say EHLO first" : verb->hint);
	if (verb->alone && behind && verb->run == do_starttls)
		return refuse_and_close(cmd, "nothing may come behind STARTTLS before its reply");
	if (verb->alone && behind && verb->run == srv_do_data)
		return refuse_and_close(cmd, "content must wait for the reply to DATA");
	if (verb->alone && behind)
		return smtp_cmd_reply(
			cmd, 503, "5.5.1", "%s must be the last command of its group", verb->name);
	cmd->verb = verb; /* only now: what is refused above changes nothing */
	return verb->run(cmd, line);
}

static void
take_command(struct smtp_server *srv, const char *line, size_t len, bool behind)
{
	struct smtp_cmd *cmd = &srv->cmd;
	struct smtp_command parsed;

	*cmd = (struct smtp_cmd){ .srv = srv, .verb = &no_verb, .running = true };
	srv->in_command = false;
	if (len > SMTP_LINE_MAX) {
		smtp_cmd_reply(cmd, 500, "5.5.6", "line is too long");
		return;
	}
	switch (smtp_command_parse(line, len, &parsed)) {
	case SMTP_COMMAND_BARE:
		smtp_cmd_reply(cmd, 500, "5.5.2", "commands end in CR LF; bare CR, LF or NUL is not allowed");
		return;
	case SMTP_COMMAND_CONTROL:
		smtp_cmd_reply(cmd, 500, "5.5.2", "control characters are not allowed");
		return;
	case SMTP_COMMAND_HTTP:
		srv->close_why = SMTP_GONE_HTTP;
		refuse_and_close(cmd, "this is a mail server");
		return;
	case SMTP_COMMAND_OK:
		break;
	}
	if (run_command(cmd, &parsed, behind) == SMTP_WAIT)
		srv_deadline(srv);
}

/* Takes the rest of an over-long line, up to its CRLF; a CR at the end may be half of it. */
static size_t
skip_line(struct smtp_server *srv, const char *data, size_t len)
{
	const char *end = memmem(data, len, "\r\n", 2);

	if (end == NULL)
		return data[len - 1] == '\r' ? len - 1 : len;
	srv->skip_line = false;
	return (size_t)(end - data) + 2;
}

/* The octet behind the CRLF that ends the line, or NULL. */
static const char *
line_end(const char *data, size_t len)
{
	const char *p = data, *end = data + len;

	while ((p = memchr(p, '\n', (size_t)(end - p))) != NULL) {
		p++;
		if (p - data >= 2 && p[-2] == '\r')
			return p;
		/* A bare LF is no line end; but a client that waits behind one gets its 500 now. */
		if (p == end)
			return p;
	}
	return NULL;
}

static size_t
take_line(struct smtp_server *srv, const char *data, size_t len)
{
	const char *end;
	size_t line_len;

	if (srv->skip_line)
		return skip_line(srv, data, len);
	end = line_end(data, len);
	if (end == NULL && len - (data[len - 1] == '\r') > SMTP_LINE_MAX) {
		srv->skip_line = true;
		take_command(srv, data, len, false);
		return data[len - 1] == '\r' ? len - 1 : len;
	}
	if (end == NULL) {
		if (!srv->in_command) {
			srv->in_command = true;
			srv_deadline(srv);
		}
		return 0;
	}
	line_len = (size_t)(end - data) - 1;
	if (line_len > 0 && data[line_len - 1] == '\r')
		line_len--;
	else
		line_len++; /* the parser sees the bare LF and refuses the line */
	take_command(srv, data, line_len, end < data + len);
	return (size_t)(end - data);
}

/* A client that does not read our replies is not heard further, so that they cannot pile up. */
static bool
is_clogged(const struct smtp_server *srv)
{
	return net_stream_waiting(srv->stream) > NET_HIGH_MARK;
}

/* Postfix pipelines QUIT with the final dot, some clients half-close behind it: served to the end. */
static bool
quit_is_waiting(const struct smtp_server *srv)
{
	size_t len;
	const char *held = net_stream_held(srv->stream, &len);

	return len >= 6 && strncasecmp(held + len - 6, "QUIT\r\n", 6) == 0 &&
	       (len == 6 || held[len - 7] == '\n');
}

/* The client says no more. One that has not heard all yet may be gone altogether. */
static void
after_eof(struct smtp_server *srv)
{
	bool is_behind = srv->cmd.running || srv->is_clogged;

	if (!srv->is_resting && !(is_behind && quit_is_waiting(srv)))
		srv_end(srv, SMTP_GONE_EOF);
}

/* Is there a reason to leave the rest of the input? */
static bool
must_stop(struct smtp_server *srv, int commands)
{
	if (srv->over || srv->cmd.running)
		return true;
	srv->is_resting = srv->state != SRV_BODY && commands == TURN_MAX;
	srv->is_clogged = is_clogged(srv);
	return srv->is_resting || srv->is_clogged;
}

static size_t
take_turn(struct smtp_server *srv, const char *data, size_t len)
{
	size_t used = 0, n;
	int commands = 0;

	srv->is_resting = srv->is_clogged = false;
	while (used < len && !must_stop(srv, commands)) {
		if (srv->state == SRV_BODY) {
			n = srv_body_bytes(srv, data + used, len - used);
		} else {
			n = take_line(srv, data + used, len - used);
			commands++;
		}
		if (n == 0)
			break;
		used += n;
	}
	return used;
}

static size_t
got_bytes(struct smtp_server *srv, const char *data, size_t len)
{
	size_t used;

	srv->in_bytes = true;
	net_stream_cork(srv->stream);
	used = take_turn(srv, data, len);
	srv->in_bytes = false;
	if (srv->over)
		return len;
	/* Else NET_DRAINED goes on. */
	if (net_stream_uncork(srv->stream) == 0 && srv->is_clogged)
		srv->is_resting = true;
	if (srv->is_resting)
		net_stream_again(srv->stream);
	if (net_stream_got_eof(srv->stream))
		after_eof(srv);
	return used;
}

static void
handshake_failed(struct smtp_server *srv, const char *words, enum smtp_gone why)
{
	log_info(srv->log, "tls", "side=%s err=%s", "front", words);
	srv_end(srv, why);
}

static void
got_timeout(struct smtp_server *srv)
{
	if (srv->in_handshake) {
		handshake_failed(srv, "the TLS handshake took too long", SMTP_GONE_TLS_TIMEOUT);
		return;
	}
	log_info(srv->log, "timeout", "state=%s", state_names[srv->state]);
	send_goodbye(srv, "4.4.2",
		srv->state == SRV_BODY ? "content comes too slowly" : "timeout while waiting for a command");
	srv_end(srv, SMTP_GONE_TIMEOUT);
}

static void
got_broken(struct smtp_server *srv)
{
	if (srv->in_handshake) {
		handshake_failed(srv, net_stream_error(srv->stream), SMTP_GONE_TLS);
		return;
	}
	log_debug(srv->log, "broken", "err=%s", net_stream_error(srv->stream));
	srv_end(srv, SMTP_GONE_BROKEN);
}

/* ---- the greeting ---- */

static void
send_greeting(struct smtp_server *srv)
{
	struct smtp_reply hello = { .code = 220 };
	char text[512];

	srv->is_held = false;
	snprintf(text, sizeof(text), "%s %s", srv->conf->hostname, srv->conf->greeting);
	hello.text = text;
	send_reply(srv, &hello, false);
}

static void
end_refused(void *arg)
{
	srv_end(arg, SMTP_GONE_CLOSED);
}

/* RFC 5321 3.1 knows 554, and 421 means that it may be otherwise later. */
int
smtp_server_no_greeting(int code)
{
	return code / 100 == 5 ? 554 : 421;
}

static void
send_no_greeting(struct smtp_server *srv, const struct smtp_reply *refusal)
{
	struct smtp_reply reply = *refusal, soft;

	reply = *soften(srv, &reply, &soft);
	reply.code = smtp_server_no_greeting(reply.code);
	send_reply(srv, &reply, true);
}

static bool
is_asking(const struct smtp_server *srv)
{
	return srv->cmd.running && srv->cmd.verb == &connect_verb;
}

static size_t got_early(struct smtp_server *srv, size_t len);

/* A client that waits for the greeting is a client. What has come in but was not shown yet came too early; what
 * still cannot be shown then is the begin of a TLS record, and may stay one for ever. */
static void
hold_over(struct smtp_server *srv)
{
	srv->is_due = true;
	if (is_asking(srv))
		return;
	if (!net_stream_is_readable(srv->stream)) {
		send_greeting(srv);
		srv_deadline(srv);
	} else if (!srv->is_last_look) {
		srv->is_last_look = true;
		net_stream_deadline(srv->stream, 1);
	} else {
		got_early(srv, 0);
	}
}

/* What the owner says to the connection: 220, and then it is time for the greeting, or not yet. */
static enum smtp_step
connect_replied(struct smtp_server *srv, const struct smtp_reply *reply)
{
	if (reply->code != 220) {
		send_no_greeting(srv, reply);
		srv_end(srv, SMTP_GONE_CLOSED);
	} else if (!srv->is_held) {
		send_greeting(srv);
		go_on(srv);
	} else if (srv->is_due) {
		hold_over(srv);
	}
	return SMTP_REPLIED;
}

static void
ask_connect(void *arg)
{
	struct smtp_server *srv = arg;

	if (is_asking(srv))
		srv->ops->connect(srv->owner, &srv->cmd);
}

/* The connection stands, with TLS if it begins so. */
static void
begin(struct smtp_server *srv)
{
	if (srv->greeting_refusal != NULL) {
		send_no_greeting(srv, srv->greeting_refusal);
		net_later(srv->worker, end_refused, srv);
		return;
	}
	srv->is_held = srv->conf->early_talker > 0;
	if (srv->ops->connect != NULL) {
		srv->cmd = (struct smtp_cmd){ .srv = srv, .verb = &connect_verb, .running = true };
		net_later(srv->worker, ask_connect, srv); /* our owner may not have us yet */
	} else if (!srv->is_held) {
		send_greeting(srv);
	}
	if (srv->is_held)
		net_stream_deadline(srv->stream, srv->conf->early_talker);
	else
		srv_deadline(srv);
}

/* Senders of bulk mail and of HTTP do not wait (RFC 5321 3.1: the client must). */
static size_t
got_early(struct smtp_server *srv, size_t len)
{
	const struct smtp_reply reply = { .code = 554, .status = "5.5.0",
		.text = "clients must wait for the greeting" };

	log_info(srv->log, "early_talker", "octets=%zu", len);
	send_reply(srv, &reply, true);
	srv_end(srv, SMTP_GONE_EARLY);
	return len;
}

static size_t
on_stream(void *owner, enum net_event ev, const char *data, size_t len)
{
	struct smtp_server *srv = owner;

	switch (ev) {
	case NET_BYTES:
		if (srv->greeting_refusal != NULL)
			return len; /* said behind the end of the handshake, before the session ends */
		return srv->is_held ? got_early(srv, len) : got_bytes(srv, data, len);
	case NET_EOF:
		after_eof(srv);
		return 0;
	case NET_TIMEOUT:
		if (srv->is_held)
			hold_over(srv);
		else
			got_timeout(srv);
		return 0;
	case NET_BROKEN:
		got_broken(srv);
		return 0;
	case NET_TLS_UP:
		got_tls(srv);
		return 0;
	case NET_DRAINED:
		if (!srv->cmd.running)
			net_stream_again(srv->stream);
		return 0;
	}
	return 0;
}

/* ---- life ---- */

struct smtp_server *
smtp_server_new(struct net_stream *stream, const struct smtp_server_conf *conf,
	const struct smtp_server_ops *ops, void *owner, const struct log_ctx *log,
	const struct smtp_reply *refusal)
{
	struct smtp_server *srv = xcalloc(1, sizeof(*srv));

	srv->stream = stream;
	srv->worker = net_stream_worker(stream);
	srv->conf = conf;
	srv->ops = ops;
	srv->owner = owner;
	srv->log = log;
	srv->cmd.verb = &no_verb;
	srv->close_why = SMTP_GONE_CLOSED;
	net_stream_set_owner(stream, on_stream, srv);
	srv->greeting_refusal = refusal;
	srv->starttls = conf->starttls;
	srv->is_implicit_tls = conf->implicit_tls;
	if (conf->implicit_tls)
		start_tls(srv);
	else
		begin(srv);
	return srv;
}

void
smtp_server_free(struct smtp_server **srv_p)
{
	struct smtp_server *srv = *srv_p;

	if (srv == NULL)
		return;
	*srv_p = NULL;
	srv->over = true;
	srv_body_free(srv);
	free(srv->helo);
	drop_name(&srv->cmd);
	net_stream_free(&srv->stream);
	/* A caller up the stack may still look at srv->over. */
	net_later(srv->worker, free, srv);
}

void
smtp_server_set_conf(struct smtp_server *srv, const struct smtp_server_conf *conf)
{
	srv->conf = conf;
}

void
smtp_server_drain(struct smtp_server *srv)
{
	srv->draining = true;
	if (srv->over || (srv->cmd.running && !is_asking(srv)) || srv->arena != NULL)
		return;
	send_goodbye(srv, "4.3.2", "service is closing, try again");
	srv_end(srv, SMTP_GONE_CLOSED);
}

void
smtp_server_retire(struct smtp_server *srv)
{
	if (srv->arena != NULL)
		srv->draining = true;
	srv->is_last = true;
}

bool
smtp_server_in_transaction(const struct smtp_server *srv)
{
	return srv->arena != NULL;
}

const char *
smtp_server_helo(const struct smtp_server *srv)
{
	return srv->helo != NULL ? srv->helo : "";
}

bool
smtp_server_is_esmtp(const struct smtp_server *srv)
{
	return srv->esmtp;
}

struct net_stream *
smtp_server_stream(const struct smtp_server *srv)
{
	return srv->stream;
}
