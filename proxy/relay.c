/*
 * proxy/relay.c - what of the back-end's replies reaches the front.
 */
#include "proxy/relay.h"

#include <stdio.h>
#include <string.h>

const struct smtp_reply *
relay_ours(struct arena *arena, int code, const char *status, const char *text)
{
	struct smtp_reply *r = arena_zalloc(arena, sizeof(*r));

	r->code = code;
	snprintf(r->status, sizeof(r->status), "%s", status);
	r->text = arena_strdup(arena, text);
	return r;
}

const struct smtp_reply *
relay_verdict(struct arena *arena, const struct mail_verdict *verdict)
{
	const struct mail_verdict v = verdict_reply(verdict);

	return relay_ours(arena, v.code, v.status, v.text);
}

const struct smtp_reply *
relay_fault(struct arena *arena, const char *status, const char *text)
{
	return relay_ours(arena, 451, status, text);
}

static bool
is_our_hop(int code)
{
	return (code >= 500 && code <= 504) || (code >= 530 && code <= 538);
}

const struct smtp_reply *
relay_reply(const struct log_ctx *log, struct arena *arena, const char *backend, const char *what,
	const struct smtp_reply *reply)
{
	struct smtp_reply *r = smtp_reply_dup(arena, reply);

	if (is_our_hop(reply->code)) {
		log_repeat(LOG_LEVEL_ERROR, log, backend, "backend", "backend=%s err=%s to=%s code=%d text=%s", backend,
			"the back-end does not take what we say; check its restrictions for this host", what,
			reply->code, reply->text);
		return relay_fault(arena, "4.3.5", "the next hop refuses our commands; the postmaster has to act");
	}
	if (reply->code == 421) {
		r->code = 451;
		if (r->status[0] != '4')
			strcpy(r->status, "4.4.2");
	} else if (reply->code / 100 == 3) {
		return relay_fault(arena, "4.5.0", "the next hop gave a reply that makes no sense here");
	}
	return r;
}
