/*
 * smtp/pool.h - connections to back-ends: idle ones, new ones, and who waits for one.
 *
 * A destination is a back-end with all its hosts, and is shared by all workers: how many connections it may
 * have is one number, and who has to wait stands in one fair queue, behind one small mutex in pool.c. A
 * connection lives on one worker; when the first in the queue lives on another one, the idle connection
 * moves there. Which host is asked says smtp/hosts.h, which ones are up pool_health.c.
 */
#ifndef SMTP_POOL_H
#define SMTP_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/count.h"
#include "base/err.h"
#include "base/ip.h"
#include "net/worker.h"
#include "smtp/client.h"
#include "smtp/hosts.h"

struct smtp_dest;
struct smtp_pool_wait;

/* What is counted of a destination, on one worker. */
struct smtp_dest_tally {
	struct count attempts, failures; /* connections begun; of these, ended before they were ready for MAIL */
	struct count handshakes, handshakes_failed; /* of TLS */
} COUNT_ALIGNED;

struct smtp_dest_conf {
	const char *name; /* of the back-end, for logs */
	const struct ip_endpoint *hosts; /* SMTP_HOSTS_MAX at most */
	int host_count;
	enum smtp_balance balance;
	int64_t probe_interval;
	int64_t resolve_interval;
	struct smtp_client_conf client;
	int64_t connect_timeout;
	int64_t idle_timeout;
	int max_connections;
	int max_idle;	  /* over all workers */
	int max_messages; /* per connection; 0: any number */
	struct smtp_dest_tally *tally; /* one per worker; NULL: nobody counts */
};

/* conf is borrowed and must outlive the destination. */
struct smtp_dest *smtp_dest_new(const struct smtp_dest_conf *conf, int worker_count);
/* After the workers have been joined. */
void smtp_dest_free(struct smtp_dest **dest);
/* Each worker's own thread: closes its idle connections; those given back later are closed too. */
void smtp_dest_close_idle(struct smtp_dest *dest, struct net_worker *w);
/* On the thread of smtp_dest_watch(): its hosts are not looked after any more. For good. */
void smtp_dest_unwatch(struct smtp_dest *dest);
/* Any thread. After the last two, with nobody left who asks: has the last connection gone? What was posted
 * before that may still know the destination for one more turn of each worker. */
bool smtp_dest_is_unused(struct smtp_dest *dest);
/* At the end, when no worker runs and nobody has or wants one: those in the middle of a RSET, say. */
void smtp_dest_close_all(struct smtp_dest *dest);
const struct smtp_dest_conf *smtp_dest_conf(const struct smtp_dest *dest);
/* What all hosts offered at their last EHLO; one that never said any counts as 8BITMIME only. Any thread. */
struct smtp_caps smtp_dest_caps(const struct smtp_dest *dest);

typedef void (*smtp_dest_known_cb)(void *owner);
/* On a worker's own thread: asks all hosts now, and looks after them from then on. cb comes there, once, when
 * each host has answered or failed; never from inside this call. */
void smtp_dest_watch(
	struct smtp_dest *dest, struct net_worker *w, smtp_dest_known_cb cb, void *owner);

enum smtp_pool_how {
	SMTP_POOL_QUEUE,  /* wait in the queue when all connections are in use */
	SMTP_POOL_NOWAIT, /* rather fail (but wait for a new one's greeting, or for another worker's idle one) */
};

struct smtp_pool_want {
	enum smtp_pool_how how;
	bool fresh;	     /* never an idle one */
	uint64_t but;	     /* hosts that are not wanted; not all of them */
	int64_t queue_ms;    /* bounds the wait in the queue */
	int64_t patience_ms; /* shared by the hosts that are tried; the last one has only its own timeouts */
};

/* client is NULL on failure, and then err says why and reply is the greeting or EHLO refusal, or NULL: each host
 * was tried, the last one failed so. Both are NULL when none became free in time.
 * Never comes from inside smtp_pool_get(). The handle is gone when it comes. */
typedef void (*smtp_pool_cb)(
	void *owner, struct smtp_client *client, const struct err *err, const struct smtp_reply *reply);

/*
 * An idle connection is given at once: *client_r, and NULL is returned. Else NULL in *client_r and a handle;
 * or both NULL with SMTP_POOL_NOWAIT when none is free.
 */
struct smtp_pool_wait *smtp_pool_get(struct smtp_dest *dest, struct net_worker *w,
	const struct smtp_pool_want *want, smtp_pool_cb cb, void *owner, struct smtp_client **client_r);
void smtp_pool_cancel(struct smtp_pool_wait **wait);
/* Gives a connection back, in any state: it becomes idle (after a RSET when a transaction is open), or goes. */
void smtp_pool_put(struct smtp_dest *dest, struct smtp_client **client);
/* Closes a connection: nothing of it is to be trusted. */
void smtp_pool_drop(struct smtp_dest *dest, struct smtp_client **client);

/* Which of the hosts this connection goes to. */
int smtp_pool_host(const struct smtp_client *client);
/* How long this host may leave a mail without a reply when it has so much time left, and may go to other hosts that
 * are not in `but`. 0: there is none, and no bound. */
int64_t smtp_pool_patience(const struct smtp_client *client, uint64_t but, int64_t left);
/* What a mail has found out about its host: it has answered the final dot; or it is silent, though other hosts are to
 * be had. Then it is down until a mail has passed, however it greets: its probes let one mail at a time try it.
 * in_haste: it was given little time, so that only a long silence says something. */
void smtp_pool_passed(const struct smtp_client *client);
void smtp_pool_hung(const struct smtp_client *client, bool in_haste, const struct err *err);

struct smtp_pool_counts {
	int used, idle, waiting; /* used includes idle */
};
struct smtp_pool_counts smtp_dest_counts(struct smtp_dest *dest);
/* The same, and the state of one host, for one who must not wait for the lock and takes what may be in the middle of
 * a change. Any thread. */
struct smtp_pool_counts smtp_dest_glance(const struct smtp_dest *dest);
enum smtp_host_state smtp_dest_host(const struct smtp_dest *dest, int host, const char **text_r);

#endif
