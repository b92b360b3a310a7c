/*
 * smtp/pool.h - connections to back-ends: idle ones, new ones, and who waits for one.
 *
 * A destination is shared by all workers: how many connections it may have is one number, and who has to
 * wait stands in one fair queue, behind one small mutex in pool.c. A connection lives on one worker; when
 * the first in the queue lives on another one, the idle connection moves there. `struct smtp_pool` is a
 * worker's view of its destinations.
 */
#ifndef SMTP_POOL_H
#define SMTP_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/ip.h"
#include "net/worker.h"
#include "smtp/client.h"

struct smtp_dest;
struct smtp_pool_wait;

struct smtp_dest_conf {
	const char *name; /* of the back-end, for logs */
	struct ip_endpoint endpoint;
	struct smtp_client_conf client;
	int64_t connect_timeout;
	int64_t idle_timeout;
	int max_connections;
	int max_idle;	  /* over all workers */
	int max_messages; /* per connection; 0: any number */
};

/* conf is borrowed and must outlive the destination. */
struct smtp_dest *smtp_dest_new(const struct smtp_dest_conf *conf, int worker_count);
/* After the workers have been joined. */
void smtp_dest_free(struct smtp_dest **dest);
/* Each worker's own thread: closes its idle connections; those given back later are closed too. */
void smtp_dest_close_idle(struct smtp_dest *dest, struct net_worker *w);
/* At the end, when no worker runs and nobody has or wants one: those in the middle of a RSET, say. */
void smtp_dest_close_all(struct smtp_dest *dest);
const struct smtp_dest_conf *smtp_dest_conf(const struct smtp_dest *dest);
/* What the host offered at its last EHLO; before the first one: only 8BITMIME. Any thread. */
struct smtp_caps smtp_dest_caps(const struct smtp_dest *dest);

enum smtp_pool_how {
	SMTP_POOL_QUEUE,  /* wait in the queue when all connections are in use */
	SMTP_POOL_NOWAIT, /* rather fail (but wait for a new one's greeting, or for another worker's idle one) */
};

/* client is NULL on failure, and then err says why and reply is the greeting or EHLO refusal, or NULL.
 * Both are NULL when none became free in time.
 * Never comes from inside smtp_pool_get(). The handle is gone when it comes. */
typedef void (*smtp_pool_cb)(
	void *owner, struct smtp_client *client, const struct err *err, const struct smtp_reply *reply);

/*
 * An idle connection is given at once: *client_r, and NULL is returned. Else NULL in *client_r and a handle;
 * or both NULL with SMTP_POOL_NOWAIT when none is free. fresh: never an idle one. timeout_ms bounds the
 * wait in the queue; connecting and greeting have their own timeouts.
 */
struct smtp_pool_wait *smtp_pool_get(struct smtp_dest *dest, struct net_worker *w,
	enum smtp_pool_how how, bool fresh, int64_t timeout_ms, smtp_pool_cb cb, void *owner,
	struct smtp_client **client_r);
void smtp_pool_cancel(struct smtp_pool_wait **wait);
/* Gives a connection back, in any state: it becomes idle (after a RSET when a transaction is open), or goes. */
void smtp_pool_put(struct smtp_dest *dest, struct smtp_client **client);
/* Closes a connection: nothing of it is to be trusted. */
void smtp_pool_drop(struct smtp_dest *dest, struct smtp_client **client);

struct smtp_pool_counts {
	int used, idle, waiting; /* used includes idle */
};
struct smtp_pool_counts smtp_dest_counts(struct smtp_dest *dest);

#endif
