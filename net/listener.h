/*
 * net/listener.h - accept connections on one listening socket, on one worker.
 *
 * Every worker has its own net_listener on the same shared socket: one accept4 per wake-up. When
 * the process is out of descriptors a spare one is given up to accept and close the client (it sees
 * a closed connection, not a hanging one), and accepting rests for a moment.
 */
#ifndef NET_LISTENER_H
#define NET_LISTENER_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/ip.h"
#include "net/worker.h"

struct net_listener;

/* fd: connected, non-blocking, close-on-exec; the callback takes it over. */
typedef void (*net_accept_cb)(void *owner, struct net_worker *w, int fd);

/* Who may reach a Unix socket, beside what its folder says. */
struct net_unix_rights {
	mode_t mode;
	uid_t owner; /* -1: whoever makes it */
	gid_t group; /* likewise */
};

/* Binds and listens (backlog 4096 as the kernel allows; SO_REUSEADDR; IPV6_V6ONLY). A stale Unix
 * socket is replaced, a live one is an error; it has its rights before anybody can connect. They are
 * set by way of the umask, so only before there are threads; NULL leaves it to the umask. Returns
 * the descriptor or -1. */
int net_listen(const struct ip_endpoint *ep, const struct net_unix_rights *rights, struct err *err);

/* Which address of a name it takes: the first one; is_mixed_r: there are some of the other family, too. May block.
 * Returns 0, or what gai_strerror() has words for. */
int net_listen_resolve(const struct ip_endpoint *ep, struct ip_endpoint *first_r, bool *is_mixed_r);

/* Borrows fd. */
struct net_listener *net_listener_new(struct net_worker *w, int fd, net_accept_cb cb, void *owner);
void net_listener_pause(struct net_listener *l);
void net_listener_resume(struct net_listener *l);
void net_listener_free(struct net_listener **l);

#endif
