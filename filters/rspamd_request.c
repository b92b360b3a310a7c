/*
 * filters/rspamd_request.c - what rspamd is told about a message beside its octets.
 *
 * No value can become a second line: net_http_request_field() sees to it.
 */
#include "filters/rspamd.h"

#include "filters/envelope.h"
#include "mail/header.h"
#include "mail/trace.h"
#include "net/http_client.h"

static void
put(struct str *out, const char *name, const char *value)
{
	if (value != NULL && *value != '\0')
		net_http_request_field(out, name, value);
}

static void
put_address(struct str *out, struct arena *arena, const char *name, const char *addr)
{
	net_http_request_field(out, name, arena_printf(arena, "<%s>", addr));
}

static void
put_client(const struct mail_origin *o, struct str *out)
{
	if (o->client.family == AF_INET || o->client.family == AF_INET6)
		put(out, "IP", o->client_text);
	put(out, "Helo", o->helo);
	put(out, "TLS-Version", o->tls_version);
	put(out, "TLS-Cipher", o->tls_cipher);
}

/* The front's, which the administrator finds in its log; the header as it came, our own line is above. */
static const char *
queue_id(const struct filter_run *run)
{
	const char *text;
	size_t len;

	if (mail_header_load(run->msg->body, MAIL_HEADER_MAX, run->arena, &text, &len) != MAIL_HEADER_OK)
		return NULL;
	return mail_trace_top_id(text, len, run->arena);
}

static void
put_ids(const struct filter_run *run, struct str *out)
{
	const char *own = arena_printf(run->arena, "%06x-%u", run->log->session, run->log->txn);
	const char *front = queue_id(run);

	put(out, "Queue-Id", front != NULL ? front : own);
	put(out, "Log-Tag", own);
}

static void
put_envelope(const struct filter_run *run, struct str *out)
{
	struct mail_envelope envelope;

	filter_envelope(run, &envelope);
	put_address(out, run->arena, "From", envelope.sender->addr);
	for (size_t i = 0; i < envelope.rcpt_count; i++)
		put_address(out, run->arena, "Rcpt", envelope.rcpts[i]->addr);
	if (envelope.rcpt_count == 1)
		put(out, "Deliver-To", envelope.rcpts[0]->addr);
}

/* milter: the answer has a block of edits, and of a rewritten message the body alone. */
static void
put_flags(const struct rspamd_conf *c, struct str *out)
{
	struct str flags = STR_INIT;

	if (c->rewrite != RSPAMD_REWRITE_MESSAGE)
		str_add(&flags, ",milter");
	if (c->rewrite != RSPAMD_REWRITE_NO)
		str_add(&flags, ",body_block");
	for (size_t i = 0; i < c->flags.count; i++)
		str_printf(&flags, ",%s", c->flags.list[i].text);
	put(out, "Flags", str_text(&flags) + 1);
	str_deinit(&flags);
}

void
rspamd_request(const struct filter_run *run, const char *host, int64_t size, struct str *out)
{
	const struct rspamd_conf *c = run->conf;

	net_http_request_begin(out, "POST", c->path, host);
	put_client(run->msg->origin, out);
	put_envelope(run, out);
	put_ids(run, out);
	put(out, "User", c->user);
	put(out, "MTA-Name", c->mta_name);
	put(out, "MTA-Tag", c->mta_tag);
	put(out, "Settings-ID", c->settings_id);
	put(out, "Settings", c->settings);
	put(out, "Pass", c->pass_all ? "all" : NULL);
	put_flags(c, out);
	net_http_request_end(out, size);
}
