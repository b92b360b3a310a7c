/* filters/envelope.c - the envelope of one run, after the edits of those before it. */
#include "filters/envelope.h"

/* Both lists are in the order of msg->rcpts. */
static size_t
select_own(const struct filter_run *run, const struct mail_envelope *now, const struct mail_rcpt **own)
{
	const struct mail_msg *msg = run->msg;
	size_t count = 0;

	for (size_t i = 0, left = 0, k = 0; i < msg->rcpt_count; i++) {
		bool is_left = left < now->own_count && now->rcpts[left] == msg->rcpts[i];
		bool is_ours = k < run->rcpt_count && run->rcpts[k] == i;

		if (is_left && is_ours)
			own[count++] = msg->rcpts[i];
		left += is_left;
		k += is_ours;
	}
	return count;
}

void
filter_envelope(const struct filter_run *run, struct mail_envelope *envelope_r)
{
	const struct mail_msg *msg = run->msg;
	const struct mail_rcpt **rcpts;
	struct mail_envelope now;
	size_t own;

	mail_edits_envelope(run->arena, run->seen, msg->sender, msg->rcpts, msg->rcpt_count, &now);
	*envelope_r = now;
	if (run->rcpt_count == msg->rcpt_count)
		return;
	rcpts = arena_alloc(run->arena, now.rcpt_count * sizeof(rcpts[0]));
	own = select_own(run, &now, rcpts);
	envelope_r->rcpts = rcpts;
	envelope_r->own_count = envelope_r->rcpt_count = own;
	for (size_t i = now.own_count; i < now.rcpt_count; i++)
		rcpts[envelope_r->rcpt_count++] = now.rcpts[i];
}
