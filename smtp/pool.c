/*
 * smtp/pool.c - connections as they are made, lent, given back, handed on, and those who wait for one.
 */
#include "smtp/pool.h"

#include <assert.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "net/stream.h"
#include "smtp/pool_private.h"

static struct smtp_client *conn_take(struct pool_conn *pc);
static void conn_close(struct pool_conn *pc);
static void conn_idle(struct pool_conn *pc);
static void conn_attach(struct pool_conn *pc, struct net_worker *w);
static void conn_end(struct pool_conn *pc);
static void conn_start(struct pool_conn *pc);
static void connect_for(struct smtp_pool_wait *wait, int host);
static void release_slot(struct smtp_dest *dest);

/* Where this connection's worker counts; one that nobody reads when nobody asked for counts. */
static struct smtp_dest_tally *
tally(const struct pool_conn *pc)
{
	static _Thread_local struct smtp_dest_tally unread;
	struct smtp_dest_tally *all = pc->dest->conf->tally;

	return all == NULL ? &unread : &all[net_worker_index(pc->worker)];
}

/* It is ready, or has failed: what came of TLS? */
static void
count_tls(const struct pool_conn *pc)
{
	if (pc->client == NULL || !pc->is_new)
		return;
	if (smtp_client_tls_failed(pc->client))
		count_add(&tally(pc)->handshakes_failed, 1);
	else if (smtp_client_is_tls(pc->client))
		count_add(&tally(pc)->handshakes, 1);
}

/* ---- waiting ---- */

static void
wait_free(struct smtp_pool_wait *wait)
{
	net_timer_deinit(&wait->timer);
	free(wait);
}

static void
wait_end(struct smtp_pool_wait *wait, struct smtp_client *client, const struct err *err,
	const struct smtp_reply *reply)
{
	smtp_pool_cb cb = wait->cb;
	void *owner = wait->owner;

	wait_free(wait);
	cb(owner, client, err, reply);
}

/* On the waiter's worker: a connection from another one has arrived, or the right to make one. */
static void
wait_arrived(void *arg)
{
	struct smtp_pool_wait *wait = arg;
	struct smtp_client *client = wait->moving;
	struct smtp_dest *dest = wait->dest;
	int host;

	if (client == NULL && wait->cancelled) {
		wait_free(wait);
		release_slot(dest);
		return;
	}
	if (client == NULL) {
		pthread_mutex_lock(&dest->lock);
		host = pool_choose(dest, wait->want.but | wait->tried);
		pool_use(dest, host);
		pthread_mutex_unlock(&dest->lock);
		connect_for(wait, host);
		return;
	}
	if (smtp_client_worker(client) != wait->worker) {
		smtp_client_attach(client, wait->worker);
		conn_attach(smtp_client_pool(client), wait->worker);
	}
	if (wait->cancelled) {
		wait_free(wait);
		smtp_pool_put(dest, &client);
		return;
	}
	wait_end(wait, client, NULL, NULL);
}

static void
wait_timeout(void *arg)
{
	struct smtp_pool_wait *wait = arg;
	struct smtp_dest *dest = wait->dest;
	bool was_queued;

	pthread_mutex_lock(&dest->lock);
	was_queued = wait->queued;
	if (was_queued)
		pool_dequeue(dest, wait);
	pthread_mutex_unlock(&dest->lock);
	if (!was_queued)
		return; /* one is on its way */
	wait_end(wait, NULL, NULL, NULL);
}

/* A connection is closed: the right to have one goes to the first in the queue. */
static void
release_slot(struct smtp_dest *dest)
{
	struct smtp_pool_wait *wait;

	pthread_mutex_lock(&dest->lock);
	wait = pool_first_waiting(dest);
	if (wait == NULL)
		dest->used--;
	pthread_mutex_unlock(&dest->lock);
	if (wait != NULL)
		net_post(wait->worker, wait_arrived, wait);
}

/* ---- connections ---- */

static void
conn_free(struct pool_conn *pc)
{
	struct smtp_dest *dest = pc->dest;

	pthread_mutex_lock(&dest->lock);
	TAILQ_REMOVE(&dest->all, pc, next_of_all);
	dest->states[pc->host].busy--;
	if (pc->is_new)
		dest->hosts[pc->host].making--;
	pthread_mutex_unlock(&dest->lock);
	net_timer_deinit(&pc->timer);
	net_later(pc->worker, free, pc);
}

static void
conn_end(struct pool_conn *pc)
{
	struct smtp_dest *dest = pc->dest;
	bool had_slot = pc->has_slot;

	conn_free(pc);
	if (had_slot)
		release_slot(dest);
}

/* The host it was for has failed: is there another one? The slot stays with him who waits. */
static bool
ask_another(struct smtp_pool_wait *wait, struct pool_conn *pc)
{
	struct smtp_dest *dest = pc->dest;
	struct pool_conn *idle = NULL;
	int host;

	wait->tried |= SMTP_HOST_BIT(pc->host);
	pthread_mutex_lock(&dest->lock);
	host = pool_choose(dest, wait->want.but | wait->tried);
	if (host >= 0)
		pool_use(dest, host);
	if (host >= 0 && !wait->want.fresh)
		idle = pool_idle_to(pool_part(dest, wait->worker), host);
	if (idle != NULL)
		pool_idle_remove(idle);
	pthread_mutex_unlock(&dest->lock);
	if (host < 0)
		return false;
	if (idle != NULL) {
		conn_end(pc);
		net_timer_clear(&idle->timer);
		wait_end(wait, conn_take(idle), NULL, NULL);
		return true;
	}
	conn_free(pc);
	connect_for(wait, host);
	return true;
}

/* It could not be made, or died while nobody used it. */
static void
conn_failed(struct pool_conn *pc, const struct err *err, const struct smtp_reply *reply)
{
	struct smtp_dest *dest = pc->dest;
	struct smtp_pool_wait *wait = pc->wait;

	if (pc->is_new) {
		count_add(&tally(pc)->failures, 1);
		pool_host_failed(pc, err);
	}
	if (pc->is_idle) {
		pthread_mutex_lock(&dest->lock);
		pool_idle_remove(pc);
		pthread_mutex_unlock(&dest->lock);
	}
	if (pc->give_to != NULL) {
		/* It died on its way to him: he may make a new one. */
		net_post(pc->give_to->worker, wait_arrived, pc->give_to);
		pc->give_to = NULL;
		pc->has_slot = false;
	}
	if (wait == NULL || !ask_another(wait, pc)) {
		conn_end(pc);
		if (wait != NULL)
			wait_end(wait, NULL, err, reply);
	}
}

/* The same host again, without the TLS that failed: mail must not wait for what nobody insists on. */
static void
go_clear(struct pool_conn *pc, const struct err *err)
{
	struct smtp_dest *dest = pc->dest;
	struct pool_host *ph = &dest->hosts[pc->host];
	const uint64_t now = clock_ms();
	bool is_known;

	count_add(&tally(pc)->failures, 1);
	pthread_mutex_lock(&dest->lock);
	is_known = now < ph->clear_until_ms; /* from another connection of the same time */
	ph->clear_until_ms = now + POOL_CLEAR_MS;
	pthread_mutex_unlock(&dest->lock);
	if (!is_known)
		log_warn(NULL, "backend", "backend=%s host=%s state=%s err=%s", dest->conf->name, ph->text, "in clear",
			err->text);
	conn_start(pc);
}

static void
on_failed(void *owner, const struct err *err, const struct smtp_reply *reply)
{
	struct pool_conn *pc = owner;
	bool may_go_clear = pc->is_new && smtp_client_may_go_clear(pc->client);

	count_tls(pc);
	smtp_client_free(&pc->client);
	if (may_go_clear)
		go_clear(pc, err);
	else
		conn_failed(pc, err, reply);
}

/* Replies to what a former owner said, before our RSET. */
static void
ignore_reply(void *owner, const struct smtp_reply *reply)
{
	(void)owner;
	(void)reply;
}

static void
ignore_rcpt(void *owner, size_t index, const struct smtp_reply *reply)
{
	(void)index;
	ignore_reply(owner, reply);
}

static bool
never(void *owner)
{
	(void)owner;
	return false;
}

/* Out of our hands and into a transaction's. */
static struct smtp_client *
conn_take(struct pool_conn *pc)
{
	pc->wait = NULL;
	smtp_client_set_owner(pc->client, NULL, NULL, NULL);
	return pc->client;
}

/* A probe that turned out well becomes a connection like others, when there is room for it. */
static bool
get_slot(struct pool_conn *pc)
{
	struct smtp_dest *dest = pc->dest;

	pthread_mutex_lock(&dest->lock);
	if (!pc->has_slot && !pc->is_refresh && dest->used < dest->conf->max_connections) {
		pc->has_slot = true;
		dest->used++;
	}
	pthread_mutex_unlock(&dest->lock);
	return pc->has_slot;
}

static void
on_ready(void *owner)
{
	struct pool_conn *pc = owner;
	struct smtp_pool_wait *wait = pc->wait;

	net_timer_clear(&pc->timer);
	count_tls(pc);
	pc->in_clear = smtp_client_is_in_clear(pc->client);
	if (pc->is_new)
		pool_host_heard(pc);
	if (wait != NULL)
		wait_end(wait, conn_take(pc), NULL, NULL);
	else if (get_slot(pc))
		conn_idle(pc);
	else
		conn_close(pc);
}

static const struct smtp_client_ops conn_ops = {
	.ready = on_ready,
	.mail = ignore_reply,
	.rcpt = ignore_rcpt,
	.refused = ignore_reply,
	.go = never,
	.dot = never,
	.final = ignore_reply,
	.failed = on_failed,
};

static void
conn_close(struct pool_conn *pc)
{
	smtp_client_quit(&pc->client);
	conn_end(pc);
}

/* With this host, when there is another one. */
static void
out_of_patience(struct pool_conn *pc)
{
	struct err err;

	if (pc->client != NULL && smtp_client_give_up_tls(pc->client))
		return;
	err_set_temp(&err, "%s: no %s in time", pc->dest->hosts[pc->host].text,
		pc->connecting != NULL ? "connection" : "greeting");
	net_connect_cancel(&pc->connecting);
	count_tls(pc);
	smtp_client_free(&pc->client);
	conn_failed(pc, &err, NULL);
}

static void
conn_timeout(void *arg)
{
	struct pool_conn *pc = arg;

	if (pc->is_new) {
		out_of_patience(pc);
		return;
	}
	pthread_mutex_lock(&pc->dest->lock);
	pool_idle_remove(pc);
	pthread_mutex_unlock(&pc->dest->lock);
	conn_close(pc);
}

/* At the end of the loop turn, when nobody up the stack uses the client any more. */
static void
hand_over(void *arg)
{
	struct pool_conn *pc = arg;
	struct smtp_pool_wait *wait = pc->give_to;

	if (wait == NULL)
		return;
	pc->give_to = NULL;
	if (wait->worker != pc->worker && !smtp_client_may_move(pc->client)) {
		/* He makes a new one in its place. */
		pc->has_slot = false;
		smtp_client_free(&pc->client);
		conn_end(pc);
		net_post(wait->worker, wait_arrived, wait);
		return;
	}
	wait->moving = conn_take(pc);
	if (wait->worker == pc->worker) {
		wait_arrived(wait);
		return;
	}
	net_timer_deinit(&pc->timer);
	smtp_client_detach(wait->moving);
	net_post(wait->worker, wait_arrived, wait);
}

/* What becomes of a connection that nobody uses. */
enum fate { FATE_GIVEN, FATE_RESTS, FATE_CLOSED };

/* With the lock held. Who waits first gets it, wherever he lives; when it goes to a host that he does not want,
 * or that is not the one for him now, he gets its place. */
static enum fate
decide(struct pool_conn *pc, struct smtp_pool_wait **wait_r)
{
	struct smtp_dest *dest = pc->dest;

	if (dest->closing || pool_is_refused(pc))
		return FATE_CLOSED;
	*wait_r = TAILQ_FIRST(&dest->queue);
	if (*wait_r == NULL) {
		if (dest->idle_count >= dest->conf->max_idle)
			return FATE_CLOSED;
		pool_idle_add(pc);
		return FATE_RESTS;
	}
	if (!pool_suits(dest, &(*wait_r)->want, pc))
		return FATE_CLOSED;
	pool_dequeue(dest, *wait_r);
	return FATE_GIVEN;
}

static void
conn_idle(struct pool_conn *pc)
{
	struct smtp_dest *dest = pc->dest;
	const struct smtp_dest_conf *conf = dest->conf;
	struct smtp_pool_wait *wait = NULL;
	enum fate fate;

	if (conf->max_messages > 0 && smtp_client_messages(pc->client) >= (unsigned)conf->max_messages) {
		conn_close(pc);
		return;
	}
	smtp_client_set_reused(pc->client);
	pthread_mutex_lock(&dest->lock);
	fate = decide(pc, &wait);
	pthread_mutex_unlock(&dest->lock);
	switch (fate) {
	case FATE_GIVEN:
		pc->give_to = wait;
		net_later(pc->worker, hand_over, pc);
		break;
	case FATE_RESTS:
		net_timer_set(&pc->timer, conf->idle_timeout);
		break;
	case FATE_CLOSED:
		conn_close(pc);
		break;
	}
}

static void
conn_attach(struct pool_conn *pc, struct net_worker *w)
{
	pc->worker = w;
	net_timer_init(&pc->timer, w, conn_timeout, pc);
}

static struct pool_conn *
conn_new(struct smtp_dest *dest, struct net_worker *w, int host)
{
	struct pool_conn *pc = xcalloc(1, sizeof(*pc));

	pc->dest = dest;
	pc->host = host;
	pc->is_new = true;
	pc->begun_ms = clock_ms();
	conn_attach(pc, w);
	pthread_mutex_lock(&dest->lock);
	TAILQ_INSERT_TAIL(&dest->all, pc, next_of_all);
	dest->states[host].busy++;
	dest->hosts[host].making++;
	pthread_mutex_unlock(&dest->lock);
	return pc;
}

/* A Unix socket has none. */
static const char *
name_for_tls(const struct pool_conn *pc)
{
	const struct ip_endpoint *ep = pc->dest->hosts[pc->host].endpoint;

	return ep->kind == IP_UNIX ? NULL : ep->host;
}

/* `tls opportunistic`: has TLS failed with this host, and not long ago? */
static bool
goes_in_clear(const struct pool_conn *pc)
{
	struct smtp_dest *dest = pc->dest;
	uint64_t until;

	pthread_mutex_lock(&dest->lock);
	until = dest->hosts[pc->host].clear_until_ms;
	pthread_mutex_unlock(&dest->lock);
	return clock_ms() < until;
}

/* It takes nothing in clear: TLS is tried again, whatever has come of it before. */
static void
host_insists(const struct pool_conn *pc)
{
	struct smtp_dest *dest = pc->dest;

	pthread_mutex_lock(&dest->lock);
	dest->hosts[pc->host].clear_until_ms = 0;
	dest->hosts[pc->host].insisted_ms = clock_ms();
	pthread_mutex_unlock(&dest->lock);
}

static void
connected(void *owner, int fd, const struct err *err)
{
	struct pool_conn *pc = owner;

	pc->connecting = NULL;
	if (fd < 0) {
		conn_failed(pc, err, NULL);
		return;
	}
	pc->client = smtp_client_new(net_stream_new(pc->worker, fd, NULL, NULL), &pc->dest->conf->client,
		name_for_tls(pc), goes_in_clear(pc), NULL, &conn_ops, pc);
	smtp_client_set_pool(pc->client, pc);
}

/* Up to EHLO's reply. 0: only the client's own timeouts bound it. One that is probed is found out when it is silent,
 * whatever the timeouts for mail are. */
static int64_t
patience_with(const struct pool_conn *pc)
{
	if (pc->wait != NULL)
		return pool_share_of_patience(pc->wait, pc->host);
	return pc->dest->conf->host_count > 1 ? POOL_PATIENCE_MS : 0;
}

static void
conn_start(struct pool_conn *pc)
{
	const struct pool_host *ph = &pc->dest->hosts[pc->host];
	int64_t patience = patience_with(pc);

	if (patience > 0)
		net_timer_set(&pc->timer, patience);
	count_add(&tally(pc)->attempts, 1);
	pc->connecting = net_connect_start(
		pc->worker, ph->endpoint, ph->name, pc->dest->conf->connect_timeout, connected, pc);
}

void
pool_probe(struct smtp_dest *dest, int host, bool is_refresh)
{
	struct pool_conn *pc = conn_new(dest, dest->watcher, host);

	pc->is_refresh = is_refresh;
	conn_start(pc);
}

/* The slot is counted already. */
static void
connect_for(struct smtp_pool_wait *wait, int host)
{
	struct pool_conn *pc = conn_new(wait->dest, wait->worker, host);

	net_timer_clear(&wait->timer);
	pc->has_slot = true;
	pc->wait = wait;
	wait->conn = pc;
	conn_start(pc);
}

/* ---- interface ---- */

/* On a worker that has idle connections while another one's transaction waits. */
static void
give_idle(void *arg)
{
	struct dest_worker *dw = arg;
	struct smtp_dest *dest = dw->dest;
	struct dest_worker *donor = NULL;
	struct pool_conn *pc = NULL;
	struct smtp_pool_wait *wait;

	pthread_mutex_lock(&dest->lock);
	wait = TAILQ_FIRST(&dest->queue);
	if (wait != NULL && (pc = pool_idle_for(dw, &wait->want)) == NULL)
		pc = TAILQ_FIRST(&dw->idle);
	if (pc != NULL)
		pool_idle_remove(pc);
	else if (wait != NULL)
		donor = pool_someone_idle(dest, &wait->want); /* two who wait may have asked the same worker */
	pthread_mutex_unlock(&dest->lock);
	if (donor != NULL)
		net_post(donor->worker, give_idle, donor);
	if (pc == NULL)
		return;
	net_timer_clear(&pc->timer);
	conn_idle(pc);
}

static struct smtp_client *
take_idle(struct pool_conn *pc)
{
	net_timer_clear(&pc->timer);
	return conn_take(pc);
}

static struct smtp_pool_wait *
wait_new(struct smtp_dest *dest, struct net_worker *w, const struct smtp_pool_want *want,
	smtp_pool_cb cb, void *owner)
{
	struct smtp_pool_wait *wait = xcalloc(1, sizeof(*wait));

	wait->dest = dest;
	wait->worker = w;
	wait->want = *want;
	wait->due_ms = net_worker_now(w) + (uint64_t)want->patience_ms;
	wait->cb = cb;
	wait->owner = owner;
	net_timer_init(&wait->timer, w, wait_timeout, wait);
	return wait;
}

struct smtp_pool_wait *
smtp_pool_get(struct smtp_dest *dest, struct net_worker *w, const struct smtp_pool_want *want,
	smtp_pool_cb cb, void *owner, struct smtp_client **client_r)
{
	struct dest_worker *dw = pool_part(dest, w);
	struct smtp_pool_wait *wait = NULL;
	struct pool_conn *pc = NULL;
	struct dest_worker *donor = NULL;
	bool may_connect = false;
	int host;

	*client_r = NULL;
	pthread_mutex_lock(&dest->lock);
	host = pool_choose(dest, want->but);
	assert(host >= 0);
	if (!want->fresh)
		pc = pool_idle_to(dw, host);
	if (pc == NULL && dest->used < dest->conf->max_connections) {
		dest->used++;
		may_connect = true;
	} else if (pc == NULL && !want->fresh) {
		pc = pool_idle_for(dw, want);
	}
	if (may_connect || (pc != NULL && pc->host == host))
		pool_use(dest, host);
	if (pc != NULL) {
		pool_idle_remove(pc);
	} else if (!may_connect && ((donor = pool_someone_idle(dest, want)) != NULL || want->how == SMTP_POOL_QUEUE)) {
		wait = wait_new(dest, w, want, cb, owner);
		net_timer_set(&wait->timer, want->queue_ms);
		pool_enqueue(dest, wait);
	}
	pthread_mutex_unlock(&dest->lock);
	if (pc != NULL)
		*client_r = take_idle(pc);
	if (may_connect) {
		wait = wait_new(dest, w, want, cb, owner);
		connect_for(wait, host);
	}
	if (donor != NULL)
		net_post(donor->worker, give_idle, donor);
	return wait;
}

void
smtp_pool_cancel(struct smtp_pool_wait **wait_p)
{
	struct smtp_pool_wait *wait = *wait_p;
	bool was_queued;

	if (wait == NULL)
		return;
	*wait_p = NULL;
	if (wait->conn != NULL) {
		/* The connection under way becomes an idle one. */
		wait->conn->wait = NULL;
		wait_free(wait);
		return;
	}
	pthread_mutex_lock(&wait->dest->lock);
	was_queued = wait->queued;
	if (was_queued)
		pool_dequeue(wait->dest, wait);
	pthread_mutex_unlock(&wait->dest->lock);
	net_timer_clear(&wait->timer);
	if (was_queued)
		wait_free(wait);
	else
		wait->cancelled = true;
}

void
smtp_pool_put(struct smtp_dest *dest, struct smtp_client **client_p)
{
	struct smtp_client *client = *client_p;
	struct pool_conn *pc;

	*client_p = NULL;
	if (client == NULL)
		return;
	if (!smtp_client_may_reset(client)) {
		smtp_pool_drop(dest, &client);
		return;
	}
	pc = smtp_client_pool(client);
	smtp_client_set_owner(client, &conn_ops, pc, NULL);
	if (smtp_client_is_reusable(client))
		conn_idle(pc);
	else
		smtp_client_rset(client);
}

void
smtp_pool_drop(struct smtp_dest *dest, struct smtp_client **client)
{
	struct pool_conn *pc;

	if (*client == NULL)
		return;
	pc = smtp_client_pool(*client);
	assert(pc->dest == dest);
	if (smtp_client_insists_on_tls(*client))
		host_insists(pc);
	smtp_client_free(client);
	conn_end(pc);
}

int
smtp_pool_host(const struct smtp_client *client)
{
	const struct pool_conn *pc = smtp_client_pool(client);

	return pc->host;
}

int64_t
smtp_pool_patience(const struct smtp_client *client, uint64_t but, int64_t left)
{
	const struct pool_conn *pc = smtp_client_pool(client);

	return pc->dest->conf->host_count > 1 ? pool_share_of(pc->dest, but, pc->host, left) : 0;
}

void
smtp_pool_passed(const struct smtp_client *client)
{
	pool_host_passed(smtp_client_pool(client));
}

void
smtp_pool_hung(const struct smtp_client *client, bool in_haste, const struct err *err)
{
	pool_host_hung(smtp_client_pool(client), smtp_client_waits_since(client), in_haste, err);
}

void
smtp_dest_close_idle(struct smtp_dest *dest, struct net_worker *w)
{
	struct pool_conn *pc;

	for (;;) {
		pthread_mutex_lock(&dest->lock);
		dest->closing = true;
		pc = TAILQ_FIRST(&pool_part(dest, w)->idle);
		if (pc != NULL)
			pool_idle_remove(pc);
		pthread_mutex_unlock(&dest->lock);
		if (pc == NULL)
			return;
		conn_close(pc);
	}
}

void
smtp_dest_close_all(struct smtp_dest *dest)
{
	struct pool_conn *pc;

	smtp_dest_unwatch(dest);
	while ((pc = TAILQ_FIRST(&dest->all)) != NULL) {
		net_connect_cancel(&pc->connecting);
		smtp_client_free(&pc->client);
		if (pc->wait != NULL)
			wait_free(pc->wait);
		conn_free(pc);
	}
}
