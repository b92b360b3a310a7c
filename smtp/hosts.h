/*
 * smtp/hosts.h - the hosts of a back-end: which one to ask next, and what all of them offer. Pure.
 *
 * A host that is down is asked behind those that are up, but it is asked: so a host that has just come back is
 * found at once. One of which only a mail can tell whether it is well gets the next one as if it were up. A set of
 * hosts is a number with one bit for each.
 */
#ifndef SMTP_HOSTS_H
#define SMTP_HOSTS_H

#include <stdbool.h>
#include <stdint.h>

#include "smtp/caps.h"

#define SMTP_HOSTS_MAX	  64
#define SMTP_HOST_BIT(i) ((uint64_t)1 << (i))

enum smtp_balance {
	SMTP_BALANCE_ORDER,	  /* the first one, in the order written */
	SMTP_BALANCE_ROUND_ROBIN, /* one after the other */
	SMTP_BALANCE_LEAST,	  /* the one with the fewest connections in use */
};

enum smtp_host_state {
	SMTP_HOST_UNKNOWN, /* not asked yet; counts as up */
	SMTP_HOST_UP,
	SMTP_HOST_DOWN, /* or a mail got no reply, and none has passed since */
};

struct smtp_host {
	enum smtp_host_state state;
	bool may_try; /* down, and the next mail is to find out */
	bool is_known; /* caps are those of its last EHLO, kept while it is down */
	struct smtp_caps caps;
	int busy; /* connections in use or being made */
};

/* Which one is next; -1 when all are in `but`. turn: where round-robin goes on. */
int smtp_hosts_choose(
	const struct smtp_host *hosts, int count, enum smtp_balance balance, int turn, uint64_t but);
/* Is an idle connection to this host good enough for one who may not make a new one? */
bool smtp_hosts_suits(
	const struct smtp_host *hosts, int count, enum smtp_balance balance, uint64_t but, int host);
/* What each of them offers, and the smallest SIZE. One that is not known counts as 8BITMIME only. */
struct smtp_caps smtp_hosts_caps(const struct smtp_host *hosts, int count);

#endif
