/*
 * smtp/pool_private.h - what pool.c, pool_dest.c and pool_health.c share.
 */
#ifndef SMTP_POOL_PRIVATE_H
#define SMTP_POOL_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/list.h"
#include "net/connect.h"
#include "smtp/pool.h"

/* With one of several hosts, from the beginning of a connection up to EHLO's reply. */
#define POOL_PATIENCE_MS 10000
/* How long a host with which TLS has failed is spoken to in clear, where TLS is not required. */
#define POOL_CLEAR_MS (10 * 60 * 1000)

/* A connection as long as it lives; in a transaction's hands only `client` matters. */
struct pool_conn {
	struct smtp_dest *dest;
	int host;
	struct net_worker *worker;
	struct smtp_client *client;
	struct net_connect *connecting;
	struct net_timer timer; /* while new: patience with this host; while idle: idle_timeout */
	struct smtp_pool_wait *wait; /* for whom it connects; NULL: nobody (any more) */
	struct smtp_pool_wait *give_to; /* who gets it at the end of this loop turn */
	uint64_t begun_ms;
	bool is_new;	 /* greeting and EHLO are not over */
	bool is_refresh; /* a probe that only wants to hear EHLO's reply */
	bool has_slot;	 /* counted in `used`; a probe is not */
	bool is_idle;
	bool in_clear; /* while idle, by the lock: it could be TLS, and is not */
	TAILQ_ENTRY(pool_conn) next; /* in the worker's idle list */
	TAILQ_ENTRY(pool_conn) next_of_all;
};
TAILQ_HEAD(pool_conns, pool_conn);

struct smtp_pool_wait {
	struct smtp_dest *dest;
	struct net_worker *worker;
	struct net_timer timer;
	struct smtp_pool_want want;
	uint64_t tried;	 /* hosts that failed, beside those that are not wanted */
	uint64_t due_ms; /* the end of patience_ms */
	smtp_pool_cb cb;
	void *owner;
	struct pool_conn *conn; /* connecting for it */
	struct smtp_client *moving; /* handed over by another worker */
	bool queued;
	bool cancelled; /* a hand-over is on its way; freed when it arrives */
	TAILQ_ENTRY(smtp_pool_wait) next;
};

/* What one worker has of a destination; touched only by its own thread, but for `idle`, which the lock
 * guards. */
struct dest_worker {
	struct smtp_dest *dest;
	struct net_worker *worker; /* NULL until it first had an idle connection */
	struct pool_conns idle;
};

/* What there is to a host beside its state (smtp/hosts.h). */
struct pool_host {
	struct smtp_dest *dest;
	int index;
	const struct ip_endpoint *endpoint; /* as configured */
	char text[300];			    /* for logs */
	struct net_name *name;		    /* NULL: it has an address, or a path */
	int making;			    /* connections that are new; by the lock, as are the next three */
	uint64_t heard_ms;		    /* when it last answered EHLO */
	uint64_t clear_until_ms;	    /* TLS has failed with it */
	uint64_t insisted_ms;		    /* when it last took nothing in clear; by the lock, too */
	bool is_doubted;		    /* it left a mail without a reply, and none has passed since; by the lock,
					     * but glanced at without it, as is the next one */
	uint64_t passed_ms;		    /* when it last answered a final dot */
	struct net_timer timer;		    /* the watcher's, as is the next one: for the next probe */
	int64_t pause;
	_Atomic int state;		    /* a copy for smtp_dest_host() */
};

struct smtp_dest {
	const struct smtp_dest_conf *conf;
	struct pool_host *hosts;
	unsigned caps; /* of all hosts; atomic, as is the next one */
	int64_t caps_size;
	struct net_worker *watcher; /* NULL: nobody probes */
	bool is_unwatched;	    /* the watcher's: no timer is set any more */
	smtp_dest_known_cb on_known;
	void *owner;

	pthread_mutex_t lock; /* guards all below */
	int worker_count;
	atomic_int used, idle_count; /* glanced at without the lock, as is queue_len */
	int turn; /* of round-robin */
	struct smtp_host *states;
	int unknown; /* hosts that have not been heard of yet, good or bad */
	struct pool_conns all; /* whatever their state */
	bool closing;
	struct dest_worker *workers;
	TAILQ_HEAD(, smtp_pool_wait) queue;
	atomic_int queue_len;
};

/* ---- pool_dest.c; with the lock held, but for the last one ---- */

/* Whom to ask, and whose turn it is then; -1: all are in `but`. */
int pool_choose(struct smtp_dest *dest, uint64_t but);
/* It is asked indeed: what is to be found out about it is found out once. */
void pool_use(struct smtp_dest *dest, int host);
bool pool_suits(struct smtp_dest *dest, const struct smtp_pool_want *want, const struct pool_conn *pc);
void pool_enqueue(struct smtp_dest *dest, struct smtp_pool_wait *wait);
void pool_dequeue(struct smtp_dest *dest, struct smtp_pool_wait *wait);
struct smtp_pool_wait *pool_first_waiting(struct smtp_dest *dest);
struct dest_worker *pool_part(struct smtp_dest *dest, const struct net_worker *w);
void pool_idle_add(struct pool_conn *pc);
void pool_idle_remove(struct pool_conn *pc);
/* Is it in clear, and older than the host's word that it takes nothing so? */
bool pool_is_refused(const struct pool_conn *pc);
/* An idle connection of this worker to this host. */
struct pool_conn *pool_idle_to(struct dest_worker *dw, int host);
/* One that will do as well as a new one of the host that was chosen. */
struct pool_conn *pool_idle_for(struct dest_worker *dw, const struct smtp_pool_want *want);
/* Who has an idle connection for him; else who has any, which is closed to make room. */
struct dest_worker *pool_someone_idle(struct smtp_dest *dest, const struct smtp_pool_want *want);
/* How long one host may be silent, as long as there are others to go to, which are not in `but`: an even share of
 * the time that is left, and no longer than POOL_PATIENCE_MS when one of them is up. 0: no bound. */
int64_t pool_share_of(struct smtp_dest *dest, uint64_t but, int host, int64_t left);
/* The same for one who waits. */
int64_t pool_share_of_patience(const struct smtp_pool_wait *wait, int host);

/* ---- pool.c ---- */

/* Begins a connection that nobody waits for, on the watcher's thread. */
void pool_probe(struct smtp_dest *dest, int host, bool is_refresh);

/* ---- pool_health.c ---- */

/* EHLO was answered. */
void pool_host_heard(struct pool_conn *pc);
/* It did not get so far. */
void pool_host_failed(struct pool_conn *pc, const struct err *err);
/* It has answered a final dot. */
void pool_host_passed(struct pool_conn *pc);
/* In the middle of a mail it has been silent since then. */
void pool_host_hung(struct pool_conn *pc, uint64_t since_ms, bool in_haste, const struct err *err);
#endif
