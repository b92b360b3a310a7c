/* mail/verdict.c - what was decided about a message: names, and the reply that says so. */
#include "mail/verdict.h"

#include <stddef.h>

const char *const verdict_names[] = {
	[VERDICT_PASS] = "pass",
	[VERDICT_ACCEPT] = "accept",
	[VERDICT_REJECT] = "reject",
	[VERDICT_TEMPFAIL] = "tempfail",
	[VERDICT_DISCARD] = "discard",
	[VERDICT_QUARANTINE] = "quarantine",
	[VERDICT_DISCONNECT] = "disconnect",
};

const struct mail_verdict verdict_pass = {.kind = VERDICT_PASS};

static const struct {
	int code;
	const char *status, *text;
} defaults[] = {
	[VERDICT_PASS] = {250, "2.0.0", "ok"},
	[VERDICT_ACCEPT] = {250, "2.0.0", "ok"},
	[VERDICT_REJECT] = {550, "5.7.1", "message refused"},
	[VERDICT_TEMPFAIL] = {451, "4.7.1", "please try again later"},
	[VERDICT_DISCARD] = {250, "2.0.0", "ok"},
	[VERDICT_QUARANTINE] = {250, "2.0.0", "ok"},
	[VERDICT_DISCONNECT] = {421, "4.7.0", "closing the connection"},
};

/* The kind decides, whatever code it was given: a refusal is never a 2xx, a passing one never a
 * 5xx. */
struct mail_verdict
verdict_reply(const struct mail_verdict *v)
{
	struct mail_verdict reply = *v;

	if (reply.code / 100 != defaults[v->kind].code / 100)
		reply.code = defaults[v->kind].code;
	if (reply.status == NULL || reply.status[0] != defaults[v->kind].status[0])
		reply.status = defaults[v->kind].status;
	if (reply.text == NULL)
		reply.text = defaults[v->kind].text;
	return reply;
}
