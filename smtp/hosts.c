/* smtp/hosts.c - the choice of a host, and what all hosts offer. */
#include "smtp/hosts.h"

static bool
is_avoided(const struct smtp_host *host)
{
	return host->state == SMTP_HOST_DOWN && !host->may_try;
}

static bool
is_better(const struct smtp_host *a, const struct smtp_host *b, enum smtp_balance balance)
{
	bool a_down = is_avoided(a), b_down = is_avoided(b);

	if (a_down != b_down)
		return b_down;
	return balance == SMTP_BALANCE_LEAST && a->busy < b->busy;
}

/* The first of the best, beginning at the first or at him whose turn it is. */
int
smtp_hosts_choose(
	const struct smtp_host *hosts, int count, enum smtp_balance balance, int turn, uint64_t but)
{
	int best = -1;

	for (int i = 0; i < count; i++) {
		int host = balance == SMTP_BALANCE_ROUND_ROBIN ? (turn + i) % count : i;

		if (but & SMTP_HOST_BIT(host))
			continue;
		if (best < 0 || is_better(&hosts[host], &hosts[best], balance))
			best = host;
	}
	return best;
}

bool
smtp_hosts_suits(
	const struct smtp_host *hosts, int count, enum smtp_balance balance, uint64_t but, int host)
{
	int best = smtp_hosts_choose(hosts, count, balance, 0, but);

	if (best < 0 || (but & SMTP_HOST_BIT(host)))
		return false;
	if (balance == SMTP_BALANCE_ORDER)
		return host == best;
	/* What is to be found out is found out once, by him for whom it is chosen. */
	return hosts[host].state != SMTP_HOST_DOWN || is_avoided(&hosts[best]);
}

struct smtp_caps
smtp_hosts_caps(const struct smtp_host *hosts, int count)
{
	struct smtp_caps all = { .bits = ~0u };

	for (int i = 0; i < count; i++) {
		const struct smtp_caps *caps = &hosts[i].caps;

		all.bits &= hosts[i].is_known ? caps->bits : SMTP_CAP_8BITMIME;
		if (hosts[i].is_known && caps->size > 0 && (all.size == 0 || caps->size < all.size))
			all.size = caps->size;
	}
	return all;
}
