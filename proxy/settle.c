/*
 * proxy/settle.c - one answer for recipients whose chains ended differently.
 */
#include "proxy/settle.h"

#include <string.h>

static const struct mail_verdict differing = { .kind = VERDICT_TEMPFAIL, .code = 451, .status = "4.5.3",
	.text = "recipients got differing verdicts; send them one at a time" };
static const struct mail_verdict no_quarantine = { .kind = VERDICT_TEMPFAIL, .code = 451, .status = "4.3.0",
	.text = "the message could not be stored, try again later" };
static const struct mail_verdict dropped = { .kind = VERDICT_DISCARD };

static bool
is_delivery(enum verdict_kind kind)
{
	return kind == VERDICT_PASS || kind == VERDICT_ACCEPT;
}

static const struct mail_verdict *
verdict_of(const struct chain_result *r, const struct mail_verdict *gate, bool has_quarantine)
{
	const struct mail_verdict *v = gate != NULL && is_delivery(r->verdict.kind) ? gate : &r->verdict;

	return v->kind == VERDICT_QUARANTINE && !has_quarantine ? &no_quarantine : v;
}

/* A filter that takes the last recipient away has dropped the message. */
static void
look_for_recipients(struct settled_group *g, const struct mail_msg *msg)
{
	struct mail_envelope envelope;

	if (!is_delivery(g->verdict->kind))
		return;
	mail_edits_envelope(msg->arena, g->edits, msg->sender, g->rcpts, g->rcpt_count, &envelope);
	if (envelope.rcpt_count > 0)
		return;
	g->is_emptied = true;
	g->verdict = &dropped;
}

static struct settled_group *
collect(const struct chain *chain, const struct mail_msg *msg, const struct mail_verdict *gate, bool has_quarantine)
{
	size_t count = chain_group_count(chain);
	struct settled_group *groups = arena_zalloc(msg->arena, count * sizeof(*groups));

	for (size_t i = 0; i < msg->rcpt_count; i++) {
		const struct chain_result *r = chain_result(chain, i);
		struct settled_group *g = &groups[r->group];

		if (g->rcpts == NULL) {
			g->rcpts = arena_alloc(msg->arena, msg->rcpt_count * sizeof(struct mail_rcpt *));
			g->verdict = verdict_of(r, gate, has_quarantine);
			g->edits = r->edits;
		}
		g->rcpts[g->rcpt_count++] = msg->rcpts[i];
	}
	for (size_t i = 0; i < count; i++)
		look_for_recipients(&groups[i], msg);
	return groups;
}

static size_t
count_kind(const struct settlement *s, enum verdict_kind kind)
{
	size_t n = 0;

	for (size_t i = 0; i < s->group_count; i++)
		n += s->groups[i].verdict->kind == kind;
	return n;
}

/* The groups that a 2xx would deliver. */
static size_t
count_deliveries(const struct settlement *s)
{
	return count_kind(s, VERDICT_PASS) + count_kind(s, VERDICT_ACCEPT);
}

/* Is there a 2xx, or a refusal for good, that is true for each? Two versions of the message are two deliveries, and
 * the second could fail behind the first. */
static bool
can_be_said(const struct settlement *s, bool has_dropped)
{
	size_t rejects = count_kind(s, VERDICT_REJECT);
	size_t deliveries = count_deliveries(s);
	size_t kept = deliveries + count_kind(s, VERDICT_DISCARD) + count_kind(s, VERDICT_QUARANTINE);

	if (has_dropped && rejects > 0)
		return false;
	if (s->group_count == 1)
		return true;
	return (kept == s->group_count && deliveries <= 1) || rejects == s->group_count ||
	       count_kind(s, VERDICT_TEMPFAIL) == s->group_count;
}

/* The group that speaks for all: the one that is delivered, or set aside, or else the first. */
static const struct settled_group *
speaker(const struct settlement *s)
{
	for (size_t i = 0; i < s->group_count; i++)
		if (is_delivery(s->groups[i].verdict->kind))
			return &s->groups[i];
	for (size_t i = 0; i < s->group_count; i++)
		if (s->groups[i].verdict->kind == VERDICT_QUARANTINE)
			return &s->groups[i];
	return &s->groups[0];
}

void
settle(struct settlement *s, const struct chain *chain, const struct mail_msg *msg, const struct mail_verdict *gate,
	bool has_dropped, bool has_quarantine)
{
	const struct settled_group *g;

	memset(s, 0, sizeof(*s));
	s->group_count = chain_group_count(chain);
	s->groups = collect(chain, msg, gate, has_quarantine);
	s->differs = !can_be_said(s, has_dropped);
	if (s->differs) {
		s->verdict = differing;
		return;
	}
	g = speaker(s);
	s->verdict = *g->verdict;
	s->deliver = is_delivery(g->verdict->kind) ? g : NULL;
	s->quarantined = count_kind(s, VERDICT_QUARANTINE);
}
