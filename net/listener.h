/*
 * net/listener.h - accept connections on one listening socket, on one worker.
 *
 * Every worker has its own net_listener on the same shared socket: one accept4 per wake-up. When
 * the process is out of descriptors a spare one is given up to accept and close the client (it sees
 * a closed connection, not a hanging one), and accepting rests for a moment.
 */
#ifndef NET_LISTENER_H
#define NET_LISTENER_H

#include "base/err.h"
#include "base/ip.h"
#include "net/worker.h"

struct net_listener;

/* fd: connected, non-blocking, close-on-exec; the callback takes it over. */
typedef void (*net_accept_cb)(void *owner, struct net_worker *w, int fd);

/* Binds and listens (backlog 4096 as the kernel allows; SO_REUSEADDR; IPV6_V6ONLY). A stale Unix
 * socket is replaced, a live one is an error. Returns the descriptor or -1. */
int net_listen(const struct ip_endpoint *ep, struct err *err);

/* Borrows fd. */
struct net_listener *net_listener_new(struct net_worker *w, int fd, net_accept_cb cb, void *owner);
void net_listener_pause(struct net_listener *l);
void net_listener_resume(struct net_listener *l);
void net_listener_free(struct net_listener **l);

#endif
