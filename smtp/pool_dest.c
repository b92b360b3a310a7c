/*
 * smtp/pool_dest.c - what workers share of a destination: its hosts, its count, its idle lists, its queue.
 */
#include <assert.h>
#include <stdlib.h>

#include "base/xalloc.h"
#include "smtp/pool_private.h"

static void
hosts_init(struct smtp_dest *dest)
{
	const struct smtp_dest_conf *conf = dest->conf;
	size_t count = (size_t)conf->host_count;

	assert(conf->host_count > 0 && conf->host_count <= SMTP_HOSTS_MAX);
	dest->states = xcalloc(count, sizeof(*dest->states));
	dest->hosts = xcalloc(count, sizeof(*dest->hosts));
	dest->unknown = conf->host_count;
	dest->caps = SMTP_CAP_8BITMIME;
	for (int i = 0; i < conf->host_count; i++) {
		struct pool_host *ph = &dest->hosts[i];

		ph->dest = dest;
		ph->index = i;
		ph->endpoint = &conf->hosts[i];
		ip_endpoint_text(ph->endpoint, ph->text, sizeof(ph->text));
		if (ph->endpoint->kind == IP_NAME)
			ph->name = net_name_new(ph->endpoint->host, ph->endpoint->port, conf->resolve_interval);
	}
}

struct smtp_dest *
smtp_dest_new(const struct smtp_dest_conf *conf, int worker_count)
{
	struct smtp_dest *dest = xcalloc(1, sizeof(*dest));

	dest->conf = conf;
	pthread_mutex_init(&dest->lock, NULL);
	dest->worker_count = worker_count;
	dest->workers = xcalloc((size_t)worker_count, sizeof(*dest->workers));
	for (int i = 0; i < worker_count; i++) {
		dest->workers[i].dest = dest;
		TAILQ_INIT(&dest->workers[i].idle);
	}
	TAILQ_INIT(&dest->queue);
	TAILQ_INIT(&dest->all);
	hosts_init(dest);
	return dest;
}

void
smtp_dest_free(struct smtp_dest **dest_p)
{
	struct smtp_dest *dest = *dest_p;

	if (dest == NULL)
		return;
	*dest_p = NULL;
	for (int i = 0; i < dest->conf->host_count; i++)
		net_name_free(&dest->hosts[i].name);
	pthread_mutex_destroy(&dest->lock);
	free(dest->hosts);
	free(dest->states);
	free(dest->workers);
	free(dest);
}

const struct smtp_dest_conf *
smtp_dest_conf(const struct smtp_dest *dest)
{
	return dest->conf;
}

struct smtp_caps
smtp_dest_caps(const struct smtp_dest *dest)
{
	struct smtp_caps caps;

	caps.bits = __atomic_load_n(&dest->caps, __ATOMIC_RELAXED);
	caps.size = __atomic_load_n(&dest->caps_size, __ATOMIC_RELAXED);
	return caps;
}

struct smtp_pool_counts
smtp_dest_counts(struct smtp_dest *dest)
{
	struct smtp_pool_counts n;

	pthread_mutex_lock(&dest->lock);
	n = smtp_dest_glance(dest);
	pthread_mutex_unlock(&dest->lock);
	return n;
}

/* Names are looked up without a connection that waits for it, too. */
static bool
is_looking_up(const struct smtp_dest *dest)
{
	for (int i = 0; i < dest->conf->host_count; i++)
		if (dest->hosts[i].name != NULL && net_name_is_busy(dest->hosts[i].name))
			return true;
	return false;
}

bool
smtp_dest_is_unused(struct smtp_dest *dest)
{
	bool is_unused;

	pthread_mutex_lock(&dest->lock);
	is_unused = dest->closing && TAILQ_EMPTY(&dest->all) && dest->used == 0 && dest->queue_len == 0;
	pthread_mutex_unlock(&dest->lock);
	return is_unused && !is_looking_up(dest);
}

struct smtp_pool_counts
smtp_dest_glance(const struct smtp_dest *dest)
{
	return (struct smtp_pool_counts){ atomic_load_explicit(&dest->used, memory_order_relaxed),
		atomic_load_explicit(&dest->idle_count, memory_order_relaxed),
		atomic_load_explicit(&dest->queue_len, memory_order_relaxed) };
}

enum smtp_host_state
smtp_dest_host(const struct smtp_dest *dest, int host, const char **text_r)
{
	*text_r = dest->hosts[host].text;
	return (enum smtp_host_state)atomic_load_explicit(&dest->hosts[host].state, memory_order_relaxed);
}

/* ---- what the lock guards; all with the lock held ---- */

void
pool_enqueue(struct smtp_dest *dest, struct smtp_pool_wait *wait)
{
	wait->queued = true;
	TAILQ_INSERT_TAIL(&dest->queue, wait, next);
	dest->queue_len++;
}

void
pool_dequeue(struct smtp_dest *dest, struct smtp_pool_wait *wait)
{
	wait->queued = false;
	TAILQ_REMOVE(&dest->queue, wait, next);
	dest->queue_len--;
}

int
pool_choose(struct smtp_dest *dest, uint64_t but)
{
	int host = smtp_hosts_choose(dest->states, dest->conf->host_count, dest->conf->balance, dest->turn, but);

	if (host >= 0)
		dest->turn = host + 1;
	return host;
}

void
pool_use(struct smtp_dest *dest, int host)
{
	dest->states[host].may_try = false;
}

bool
pool_is_refused(const struct pool_conn *pc)
{
	return pc->in_clear && pc->begun_ms <= pc->dest->hosts[pc->host].insisted_ms;
}

bool
pool_suits(struct smtp_dest *dest, const struct smtp_pool_want *want, const struct pool_conn *pc)
{
	return !pool_is_refused(pc) && smtp_hosts_suits(
		dest->states, dest->conf->host_count, dest->conf->balance, want->but, pc->host);
}

struct smtp_pool_wait *
pool_first_waiting(struct smtp_dest *dest)
{
	struct smtp_pool_wait *wait = TAILQ_FIRST(&dest->queue);

	if (wait != NULL)
		pool_dequeue(dest, wait);
	return wait;
}

struct dest_worker *
pool_part(struct smtp_dest *dest, const struct net_worker *w)
{
	return &dest->workers[net_worker_index(w)];
}

void
pool_idle_add(struct pool_conn *pc)
{
	struct dest_worker *dw = pool_part(pc->dest, pc->worker);

	pc->is_idle = true;
	TAILQ_INSERT_HEAD(&dw->idle, pc, next);
	if (dw->worker == NULL)
		dw->worker = pc->worker; /* once: who found it under the lock reads it outside */
	pc->dest->idle_count++;
	pc->dest->states[pc->host].busy--;
}

void
pool_idle_remove(struct pool_conn *pc)
{
	pc->is_idle = false;
	TAILQ_REMOVE(&pool_part(pc->dest, pc->worker)->idle, pc, next);
	pc->dest->idle_count--;
	pc->dest->states[pc->host].busy++;
}

struct pool_conn *
pool_idle_to(struct dest_worker *dw, int host)
{
	struct pool_conn *pc;

	TAILQ_FOREACH(pc, &dw->idle, next)
		if (pc->host == host && !pool_is_refused(pc))
			break;
	return pc;
}

struct pool_conn *
pool_idle_for(struct dest_worker *dw, const struct smtp_pool_want *want)
{
	struct pool_conn *pc;

	TAILQ_FOREACH(pc, &dw->idle, next)
		if (pool_suits(dw->dest, want, pc))
			break;
	return pc;
}

struct dest_worker *
pool_someone_idle(struct smtp_dest *dest, const struct smtp_pool_want *want)
{
	struct dest_worker *any = NULL;

	for (int i = 0; i < dest->worker_count; i++) {
		if (pool_idle_for(&dest->workers[i], want) != NULL)
			return &dest->workers[i];
		if (!TAILQ_EMPTY(&dest->workers[i].idle))
			any = &dest->workers[i];
	}
	return any;
}

int64_t
pool_share_of(struct smtp_dest *dest, uint64_t but, int host, int64_t left)
{
	int others = 0, others_up = 0;
	int64_t share;

	but |= SMTP_HOST_BIT(host);
	pthread_mutex_lock(&dest->lock);
	for (int i = 0; i < dest->conf->host_count; i++) {
		others += !(but & SMTP_HOST_BIT(i));
		others_up += !(but & SMTP_HOST_BIT(i)) && dest->states[i].state != SMTP_HOST_DOWN;
	}
	pthread_mutex_unlock(&dest->lock);
	if (others == 0)
		return 0;
	share = left > 0 ? left / (others + 1) + 1 : 1;
	return others_up > 0 && share > POOL_PATIENCE_MS ? POOL_PATIENCE_MS : share;
}

int64_t
pool_share_of_patience(const struct smtp_pool_wait *wait, int host)
{
	if (wait->want.patience_ms == 0)
		return 0;
	return pool_share_of(wait->dest, wait->want.but | wait->tried, host,
		(int64_t)(wait->due_ms - net_worker_now(wait->worker)));
}
