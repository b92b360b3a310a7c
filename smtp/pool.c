/*
 * smtp/pool.c - idle connections per worker, one count and one queue per destination.
 */
#include "smtp/pool.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/list.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "net/connect.h"
#include "net/stream.h"

/* A connection as long as it lives; in a transaction's hands only `client` matters. */
struct pool_conn {
	struct smtp_dest *dest;
	struct net_worker *worker;
	struct smtp_client *client;
	struct net_connect *connecting;
	struct net_timer idle_timer;
	struct smtp_pool_wait *wait; /* for whom it connects; NULL: nobody (any more) */
	struct smtp_pool_wait *give_to; /* who gets it at the end of this loop turn */
	bool is_idle;
	TAILQ_ENTRY(pool_conn) next; /* in the worker's idle list */
	TAILQ_ENTRY(pool_conn) next_of_all;
};
TAILQ_HEAD(pool_conns, pool_conn);

struct smtp_pool_wait {
	struct smtp_dest *dest;
	struct net_worker *worker;
	struct net_timer timer;
	smtp_pool_cb cb;
	void *owner;
	struct pool_conn *conn; /* connecting for it */
	struct smtp_client *moving; /* handed over by another worker */
	bool queued;
	bool cancelled; /* a hand-over is on its way; freed when it arrives */
	TAILQ_ENTRY(smtp_pool_wait) next;
};

/* What one worker has of a destination; touched only by its own thread, but for `idle`'s emptiness. */
struct dest_worker {
	struct smtp_dest *dest;
	struct net_worker *worker; /* NULL until it first had an idle connection */
	struct pool_conns idle;
};

struct smtp_dest {
	const struct smtp_dest_conf *conf;
	pthread_mutex_t lock; /* guards all below */
	int worker_count;
	int used, idle_count;
	struct pool_conns all; /* whatever their state */
	bool closing;
	struct dest_worker *workers;
	TAILQ_HEAD(, smtp_pool_wait) queue;
	unsigned queue_len;
	unsigned caps; /* of the last EHLO */
	int64_t caps_size;
};

static void conn_idle(struct pool_conn *pc);
static void conn_attach(struct pool_conn *pc, struct net_worker *w);
static void connect_for(struct smtp_pool_wait *wait);
static void release_slot(struct smtp_dest *dest);

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
	dest->caps = SMTP_CAP_8BITMIME;
	return dest;
}

void
smtp_dest_free(struct smtp_dest **dest_p)
{
	struct smtp_dest *dest = *dest_p;

	if (dest == NULL)
		return;
	*dest_p = NULL;
	pthread_mutex_destroy(&dest->lock);
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

static void
learn_caps(struct smtp_dest *dest, const struct smtp_caps *caps)
{
	__atomic_store_n(&dest->caps, caps->bits, __ATOMIC_RELAXED);
	__atomic_store_n(&dest->caps_size, caps->size, __ATOMIC_RELAXED);
}

struct smtp_pool_counts
smtp_dest_counts(struct smtp_dest *dest)
{
	struct smtp_pool_counts n;

	pthread_mutex_lock(&dest->lock);
	n = (struct smtp_pool_counts){ dest->used, dest->idle_count, (int)dest->queue_len };
	pthread_mutex_unlock(&dest->lock);
	return n;
}

/* ---- the queue; all with the lock held ---- */

static void
enqueue(struct smtp_dest *dest, struct smtp_pool_wait *wait)
{
	wait->queued = true;
	TAILQ_INSERT_TAIL(&dest->queue, wait, next);
	dest->queue_len++;
}

static void
dequeue(struct smtp_dest *dest, struct smtp_pool_wait *wait)
{
	wait->queued = false;
	TAILQ_REMOVE(&dest->queue, wait, next);
	dest->queue_len--;
}

static struct smtp_pool_wait *
first_waiting(struct smtp_dest *dest)
{
	struct smtp_pool_wait *wait = TAILQ_FIRST(&dest->queue);

	if (wait != NULL)
		dequeue(dest, wait);
	return wait;
}

static struct dest_worker *
own_part(struct smtp_dest *dest, const struct net_worker *w)
{
	return &dest->workers[net_worker_index(w)];
}

static void
idle_add(struct pool_conn *pc)
{
	struct dest_worker *dw = own_part(pc->dest, pc->worker);

	pc->is_idle = true;
	TAILQ_INSERT_HEAD(&dw->idle, pc, next);
	dw->worker = pc->worker;
	pc->dest->idle_count++;
}

static void
idle_remove(struct pool_conn *pc)
{
	pc->is_idle = false;
	TAILQ_REMOVE(&own_part(pc->dest, pc->worker)->idle, pc, next);
	pc->dest->idle_count--;
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

	if (client == NULL && wait->cancelled) {
		wait_free(wait);
		release_slot(dest);
		return;
	}
	if (client == NULL) {
		connect_for(wait);
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
		dequeue(dest, wait);
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
	wait = first_waiting(dest);
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
	pthread_mutex_lock(&pc->dest->lock);
	TAILQ_REMOVE(&pc->dest->all, pc, next_of_all);
	pthread_mutex_unlock(&pc->dest->lock);
	net_timer_deinit(&pc->idle_timer);
	net_later(pc->worker, free, pc);
}

/* It could not be made, or died while nobody used it. */
static void
conn_failed(struct pool_conn *pc, const struct err *err, const struct smtp_reply *reply)
{
	struct smtp_dest *dest = pc->dest;
	struct smtp_pool_wait *wait = pc->wait;

	if (pc->is_idle) {
		pthread_mutex_lock(&dest->lock);
		idle_remove(pc);
		pthread_mutex_unlock(&dest->lock);
	}
	smtp_client_free(&pc->client);
	conn_free(pc);
	if (pc->give_to != NULL) {
		/* It died on its way to him: he may make a new one. */
		net_post(pc->give_to->worker, wait_arrived, pc->give_to);
		pc->give_to = NULL;
	} else {
		release_slot(dest);
	}
	if (wait != NULL)
		wait_end(wait, NULL, err, reply);
}

static void
on_failed(void *owner, const struct err *err, const struct smtp_reply *reply)
{
	conn_failed(owner, err, reply);
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

static void
on_ready(void *owner)
{
	struct pool_conn *pc = owner;
	struct smtp_pool_wait *wait = pc->wait;

	if (smtp_client_messages(pc->client) == 0 && !smtp_client_is_reused(pc->client))
		learn_caps(pc->dest, smtp_client_caps(pc->client));
	if (wait == NULL) {
		conn_idle(pc);
		return;
	}
	wait_end(wait, conn_take(pc), NULL, NULL);
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
	struct smtp_dest *dest = pc->dest;

	smtp_client_quit(&pc->client);
	conn_free(pc);
	release_slot(dest);
}

static void
idle_timeout(void *arg)
{
	struct pool_conn *pc = arg;

	pthread_mutex_lock(&pc->dest->lock);
	idle_remove(pc);
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
	wait->moving = conn_take(pc);
	if (wait->worker == pc->worker) {
		wait_arrived(wait);
		return;
	}
	net_timer_deinit(&pc->idle_timer);
	smtp_client_detach(wait->moving);
	net_post(wait->worker, wait_arrived, wait);
}

/* Gives an idle connection to the first in the queue, wherever he lives; else lets it rest. */
static void
conn_idle(struct pool_conn *pc)
{
	struct smtp_dest *dest = pc->dest;
	const struct smtp_dest_conf *conf = dest->conf;
	struct smtp_pool_wait *wait;
	bool rests;

	if (conf->max_messages > 0 && smtp_client_messages(pc->client) >= (unsigned)conf->max_messages) {
		conn_close(pc);
		return;
	}
	smtp_client_set_reused(pc->client);
	pthread_mutex_lock(&dest->lock);
	wait = dest->closing ? NULL : first_waiting(dest);
	rests = wait == NULL && !dest->closing && dest->idle_count < conf->max_idle;
	if (rests)
		idle_add(pc);
	pthread_mutex_unlock(&dest->lock);
	if (wait != NULL) {
		pc->give_to = wait;
		net_later(pc->worker, hand_over, pc);
	} else if (rests) {
		net_timer_set(&pc->idle_timer, conf->idle_timeout);
	} else {
		conn_close(pc);
	}
}

static void
conn_attach(struct pool_conn *pc, struct net_worker *w)
{
	pc->worker = w;
	net_timer_init(&pc->idle_timer, w, idle_timeout, pc);
}

static struct pool_conn *
conn_new(struct smtp_dest *dest, struct net_worker *w)
{
	struct pool_conn *pc = xcalloc(1, sizeof(*pc));

	pc->dest = dest;
	conn_attach(pc, w);
	pthread_mutex_lock(&dest->lock);
	TAILQ_INSERT_TAIL(&dest->all, pc, next_of_all);
	pthread_mutex_unlock(&dest->lock);
	return pc;
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
	pc->client = smtp_client_new(net_stream_new(pc->worker, fd, NULL, NULL),
		&pc->dest->conf->client, NULL, &conn_ops, pc);
	smtp_client_set_pool(pc->client, pc);
}

/* The slot is counted already. */
static void
connect_for(struct smtp_pool_wait *wait)
{
	struct smtp_dest *dest = wait->dest;
	struct pool_conn *pc = conn_new(dest, wait->worker);

	net_timer_clear(&wait->timer);
	pc->wait = wait;
	wait->conn = pc;
	pc->connecting = net_connect_start(
		pc->worker, &dest->conf->endpoint, dest->conf->connect_timeout, connected, pc);
}

/* ---- interface ---- */

static struct dest_worker *
someone_idle(struct smtp_dest *dest)
{
	for (int i = 0; i < dest->worker_count; i++)
		if (!TAILQ_EMPTY(&dest->workers[i].idle))
			return &dest->workers[i];
	return NULL;
}

/* On a worker that has idle connections while another one's transaction waits. */
static void
give_idle(void *arg)
{
	struct dest_worker *dw = arg;
	struct smtp_dest *dest = dw->dest;
	struct dest_worker *donor = NULL;
	struct pool_conn *pc;

	pthread_mutex_lock(&dest->lock);
	pc = TAILQ_FIRST(&dw->idle);
	if (pc != NULL)
		idle_remove(pc);
	else if (!TAILQ_EMPTY(&dest->queue))
		donor = someone_idle(dest); /* two who wait may have asked the same worker */
	pthread_mutex_unlock(&dest->lock);
	if (donor != NULL)
		net_post(donor->worker, give_idle, donor);
	if (pc == NULL)
		return;
	net_timer_clear(&pc->idle_timer);
	conn_idle(pc);
}

static struct smtp_client *
take_idle(struct pool_conn *pc)
{
	net_timer_clear(&pc->idle_timer);
	return conn_take(pc);
}

static struct smtp_pool_wait *
wait_new(struct smtp_dest *dest, struct net_worker *w, smtp_pool_cb cb, void *owner)
{
	struct smtp_pool_wait *wait = xcalloc(1, sizeof(*wait));

	wait->dest = dest;
	wait->worker = w;
	wait->cb = cb;
	wait->owner = owner;
	net_timer_init(&wait->timer, w, wait_timeout, wait);
	return wait;
}

struct smtp_pool_wait *
smtp_pool_get(struct smtp_dest *dest, struct net_worker *w, enum smtp_pool_how how, bool fresh,
	int64_t timeout_ms, smtp_pool_cb cb, void *owner, struct smtp_client **client_r)
{
	struct smtp_pool_wait *wait = NULL;
	struct pool_conn *pc = NULL;
	struct dest_worker *donor = NULL;
	bool may_connect = false;

	*client_r = NULL;
	pthread_mutex_lock(&dest->lock);
	if (!fresh)
		pc = TAILQ_FIRST(&own_part(dest, w)->idle);
	if (pc != NULL) {
		idle_remove(pc);
	} else if (dest->used < dest->conf->max_connections) {
		dest->used++;
		may_connect = true;
	} else if ((donor = someone_idle(dest)) != NULL || how == SMTP_POOL_QUEUE) {
		wait = wait_new(dest, w, cb, owner);
		net_timer_set(&wait->timer, timeout_ms);
		enqueue(dest, wait);
	}
	pthread_mutex_unlock(&dest->lock);
	if (pc != NULL)
		*client_r = take_idle(pc);
	if (may_connect) {
		wait = wait_new(dest, w, cb, owner);
		connect_for(wait);
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
		dequeue(wait->dest, wait);
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
	if (*client == NULL)
		return;
	conn_free(smtp_client_pool(*client));
	smtp_client_free(client);
	release_slot(dest);
}

void
smtp_dest_close_idle(struct smtp_dest *dest, struct net_worker *w)
{
	struct pool_conn *pc;

	for (;;) {
		pthread_mutex_lock(&dest->lock);
		dest->closing = true;
		pc = TAILQ_FIRST(&own_part(dest, w)->idle);
		if (pc != NULL)
			idle_remove(pc);
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

	while ((pc = TAILQ_FIRST(&dest->all)) != NULL) {
		net_connect_cancel(&pc->connecting);
		smtp_client_free(&pc->client);
		if (pc->wait != NULL)
			wait_free(pc->wait);
		conn_free(pc);
	}
}
