/*
 * proxy/settle.h - one answer for recipients whose chains ended differently. Pure.
 *
 * SMTP has one reply for all recipients of a message. A 2xx is right for all when each is delivered, quarantined or
 * dropped on purpose; a refusal, when each was refused for good. Whatever else cannot be said in one reply is a 4xx:
 * nothing is delivered, and the recipients come again, one by one (DESIGN.md 5.7 without a queue).
 */
#ifndef PROXY_SETTLE_H
#define PROXY_SETTLE_H

#include <stdbool.h>

#include "filters/chain.h"

/* Recipients of one group. All in the arena. */
struct settled_group {
	const struct mail_verdict *verdict;
	const struct mail_edits *edits;
	const struct mail_rcpt **rcpts;
	size_t rcpt_count;
	bool is_emptied; /* it would pass, but filters have taken its last recipient away: that is a discard */
};

struct settlement {
	/* What holds for the whole: the reply, if nothing is delivered, and the log's word. */
	struct mail_verdict verdict;
	bool differs; /* no reply is right for all: verdict is a tempfail, and they shall come one by one */
	const struct settled_group *groups;
	size_t group_count;
	const struct settled_group *deliver; /* of groups; NULL: nothing is delivered */
	size_t quarantined;		     /* how many of groups are to be set aside */
};

/*
 * gate: a quarantine that was said before there was a message, or NULL: it takes the place of each pass. has_dropped:
 * the gate has taken and dropped other recipients, who are to hear of no refusal. has_quarantine: without one, to ask for
 * it is a fault, and a tempfail.
 */
void settle(struct settlement *s, const struct chain *chain, const struct mail_msg *msg, const struct mail_verdict *gate,
	bool has_dropped, bool has_quarantine);

#endif
