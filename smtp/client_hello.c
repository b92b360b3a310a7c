/*
 * smtp/client_hello.c - from the greeting until the connection is ready for MAIL: EHLO, STARTTLS, AUTH.
 */
#include <stdio.h>
#include <string.h>

#include "smtp/auth.h"
#include "smtp/client_private.h"

/* ---- AUTH (RFC 4954) ---- */

static void
ready(struct smtp_client *c)
{
	c->is_ready = true;
	c->ops->ready(c->owner);
}

/* A line that holds a secret leaves no copy behind. */
static void
say_secret(struct smtp_client *c, enum cli_kind kind, struct str *line)
{
	cli_say(c, kind, 0, line->data, line->len);
	smtp_auth_wipe(line);
}

static void
authenticate(struct smtp_client *c)
{
	struct str line = STR_INIT;
	enum cli_kind kind;
	struct err err;

	if (!net_stream_is_tls(c->stream) && !c->conf->auth_plaintext) {
		err_set_temp(&err, "AUTH would send the password in clear (try tls required, or auth_plaintext yes)");
		cli_fail(c, &err, NULL);
	} else if (c->caps.auth & SMTP_AUTH_PLAIN) {
		kind = smtp_auth_plain(&line, c->conf->auth_user, c->conf->auth_password) ? CLI_AUTH : CLI_AUTH_PLAIN;
		say_secret(c, kind, &line);
	} else if (c->caps.auth & SMTP_AUTH_LOGIN) {
		cli_say(c, CLI_AUTH_LOGIN, 0, "AUTH LOGIN\r\n", 12);
	} else {
		err_set_temp(&err, "auth_user is set, but neither AUTH PLAIN nor AUTH LOGIN is offered");
		cli_fail(c, &err, NULL);
	}
}

/* 334: it asks for the user name first, then for the password; or for both. */
void
cli_got_auth_prompt(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r)
{
	struct str line = STR_INIT;

	if (r->code != 334) {
		cli_fail_reply(c, "AUTH", r);
	} else if (e->kind == CLI_AUTH_LOGIN) {
		smtp_auth_answer(&line, c->conf->auth_user);
		say_secret(c, CLI_AUTH_USER, &line);
	} else if (e->kind == CLI_AUTH_PLAIN) {
		smtp_auth_plain_answer(&line, c->conf->auth_user, c->conf->auth_password);
		say_secret(c, CLI_AUTH, &line);
	} else {
		smtp_auth_answer(&line, c->conf->auth_password);
		say_secret(c, CLI_AUTH, &line);
	}
}

void
cli_got_auth(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r)
{
	(void)e;
	if (r->code != 235) {
		cli_fail_reply(c, "AUTH", r);
		return;
	}
	c->authenticated = true;
	ready(c);
}

/* ---- EHLO ---- */

static void
say_hello(struct smtp_client *c, enum cli_kind kind)
{
	char line[300];
	int len = snprintf(line, sizeof(line), "%s %s\r\n", kind == CLI_EHLO ? "EHLO" : "HELO", c->conf->helo);

	cli_say(c, kind, 0, line, (size_t)len);
}

void
cli_got_banner(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r)
{
	(void)e;
	if (r->code != 220) {
		cli_fail_reply(c, "our connection", r);
		return;
	}
	say_hello(c, CLI_EHLO);
}

static bool
wants_tls(const struct smtp_client *c)
{
	return c->conf->tls != NULL && !c->in_clear && !net_stream_is_tls(c->stream);
}

void
cli_start_tls(struct smtp_client *c)
{
	struct net_tls *tls = net_tls_live_get(c->conf->tls);

	c->in_handshake = true;
	net_stream_start_tls(c->stream, tls, c->conf->tls_name != NULL ? c->conf->tls_name : c->name);
	net_tls_unref(&tls);
	cli_set_deadline(c);
}

static void
tls_failed(struct smtp_client *c, const char *outside, struct err *err)
{
	c->tls_failed = true;
	err->outside = outside;
	cli_fail(c, err, NULL);
}

/* EHLO or HELO was taken: TLS, then AUTH, then to work. */
static void
greeted(struct smtp_client *c)
{
	struct err err;

	if (wants_tls(c) && (c->caps.bits & SMTP_CAP_STARTTLS)) {
		cli_say(c, CLI_STARTTLS, 0, "STARTTLS\r\n", 10);
		return;
	}
	if (wants_tls(c) && c->conf->tls_required) {
		err_set_temp(&err, "TLS is required, but STARTTLS is not offered");
		tls_failed(c, "it does not offer STARTTLS", &err);
		return;
	}
	if (c->conf->auth_user != NULL)
		authenticate(c);
	else
		ready(c);
}

void
cli_got_ehlo(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r)
{
	const char *line = r->text;

	(void)e;
	if (r->code / 100 == 5) {
		say_hello(c, CLI_HELO);
		return;
	}
	if (r->code != 250) {
		cli_fail_reply(c, "EHLO", r);
		return;
	}
	c->caps = (struct smtp_caps){ 0 }; /* the first line is the peer's name */
	while ((line = strchr(line, '\n')) != NULL) {
		line++;
		smtp_caps_add_line(&c->caps, line, strcspn(line, "\n"));
	}
	greeted(c);
}

void
cli_got_helo(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r)
{
	(void)e;
	if (r->code != 250) {
		cli_fail_reply(c, "HELO", r);
		return;
	}
	greeted(c);
}

/* ---- STARTTLS (RFC 3207) ---- */

/* What came in clear behind the reply may be anybody's (RFC 3207 6). */
void
cli_got_starttls(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r)
{
	struct err err;

	(void)e;
	if (r->code == 220 && c->unread > 0) {
		cli_protocol_error(c, "is followed by octets in clear");
	} else if (r->code == 220) {
		cli_start_tls(c);
	} else if (c->conf->tls_required) {
		cli_reply_err(&err, "STARTTLS", r);
		err.outside = "it refused STARTTLS";
		cli_fail(c, &err, r);
	} else {
		c->in_clear = true;
		greeted(c);
	}
}

void
cli_got_tls(struct smtp_client *c)
{
	struct net_tls_info info;

	c->in_handshake = false;
	c->caps = (struct smtp_caps){ 0 }; /* what was offered in clear may be anybody's */
	net_stream_tls(c->stream, &info);
	log_debug(c->log, "tls", "side=%s host=%s version=%s cipher=%s resumed=%s cert=%s verified=%s", "back",
		c->peer_text, info.version, info.cipher, info.resumed ? "yes" : "no", log_some(info.fingerprint),
		info.verified ? "yes" : "no");
	if (c->conf->implicit_tls)
		cli_expect(c, CLI_BANNER);
	else
		say_hello(c, CLI_EHLO);
}

/* Between STARTTLS and the first reply through TLS: it is TLS that has failed. Some refuse our certificate only
 * when the handshake is over for us (RFC 8446 4.4.2.4, its client side). */
static bool
is_about_tls(const struct smtp_client *c)
{
	const struct cli_entry *e = STAILQ_FIRST(&c->expected);

	return c->in_handshake || (e != NULL && e->kind == CLI_STARTTLS) ||
	       (c->stream != NULL && !c->heard_tls && net_stream_tls_phrase(c->stream) != NULL);
}

/* What the front may hear of it. */
static const char *
tls_phrase(const struct smtp_client *c)
{
	const char *phrase = net_stream_tls_phrase(c->stream);

	return phrase != NULL ? phrase : "it gave no answer to STARTTLS";
}

bool
cli_tls_timed_out(struct smtp_client *c)
{
	struct err err;

	if (!is_about_tls(c))
		return false;
	if (c->in_handshake) {
		err_set_temp(&err, "TLS: no answer in the handshake");
		tls_failed(c, "it does not answer in the TLS handshake", &err);
	} else {
		err_set_temp(&err, "no reply to STARTTLS in time");
		tls_failed(c, tls_phrase(c), &err);
	}
	return true;
}

bool
cli_tls_closed(struct smtp_client *c, const char *why)
{
	const struct cli_entry *e = STAILQ_FIRST(&c->expected);
	struct err err;

	if (!is_about_tls(c))
		return false;
	err_set_temp(
		&err, "%s%s", why, e != NULL && e->kind == CLI_STARTTLS ? " before the reply to STARTTLS" : "");
	tls_failed(c, tls_phrase(c), &err);
	return true;
}
