/*
 * net/resolve.h - the addresses of a host name, kept and refreshed in the background.
 *
 * A name is shared by all workers. Looking up blocks, so a job thread does it, once at a time for each
 * name. Addresses that are due for a refresh serve while it runs; when it fails, old ones serve on.
 */
#ifndef NET_RESOLVE_H
#define NET_RESOLVE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "net/worker.h"

/* IPv4 and IPv6, in the order in which they are to be tried; one allocation. */
struct net_addr {
	struct sockaddr_storage sa;
	socklen_t len;
};
struct net_addrs {
	size_t count;
	struct net_addr list[];
};

struct net_name;
struct net_name_wait;

/* refresh_ms: how long addresses count as fresh; 0: look up each time. */
struct net_name *net_name_new(const char *host, uint16_t port, int64_t refresh_ms);
/* Nobody waits any more. On the worker that used it last, or when no worker runs. */
void net_name_free(struct net_name **name);
/* Any thread: is it being looked up, or waited for? */
bool net_name_is_busy(struct net_name *name);

/* addrs is NULL when there are none, and then why says it in words; else the callback takes it over. */
typedef void (*net_name_cb)(void *owner, struct net_addrs *addrs, const char *why);

/* Returns the addresses (to be freed by the caller) with NULL in *wait_r; or NULL and a handle: then the
 * callback comes, never from inside this call, and the handle is gone. */
struct net_addrs *net_name_get(struct net_name *name, struct net_worker *w, net_name_cb cb,
	void *owner, struct net_name_wait **wait_r);
void net_name_cancel(struct net_name_wait **wait);

/* For tests: what blocks, on a job thread. Returns NULL and words in *why_r; the default asks getaddrinfo. */
typedef struct net_addrs *(*net_lookup_fn)(const char *host, uint16_t port, const char **why_r);
void net_name_set_lookup(net_lookup_fn lookup);

#endif
