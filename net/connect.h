/*
 * net/connect.h - resolve, connect, next address.
 *
 * The addresses of a name (net/resolve.h) are tried in order. One deadline bounds all of it, finding
 * them included. Each address gets an even share of what is left, so that a silent one leaves time
 * for the next. A Unix socket whose queue is full is tried again until the deadline.
 */
#ifndef NET_CONNECT_H
#define NET_CONNECT_H

#include "base/err.h"
#include "base/ip.h"
#include "net/resolve.h"
#include "net/worker.h"

struct net_connect;

/* fd is -1 on failure, and then err says why ("127.0.0.1:10026: connection refused"). The callback
 * takes over fd. It never comes from inside net_connect_start(). The handle is gone then. */
typedef void (*net_connect_cb)(void *owner, int fd, const struct err *err);

/* name: where the addresses of an IP_NAME come from, and borrowed; NULL: it is looked up for this once. */
struct net_connect *net_connect_start(struct net_worker *w, const struct ip_endpoint *ep,
	struct net_name *name, int64_t timeout_ms, net_connect_cb cb, void *owner);
void net_connect_cancel(struct net_connect **c);

#endif
