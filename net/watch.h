/*
 * net/watch.h - a call when a descriptor can be read: for signals, pipes and other small things that are no
 * stream.
 */
#ifndef NET_WATCH_H
#define NET_WATCH_H

#include "net/worker.h"

struct net_watch;

/* Borrows fd. Called on w's thread as long as there is something to read (or an end). */
struct net_watch *net_watch_new(struct net_worker *w, int fd, void (*ready)(void *owner), void *owner);
void net_watch_free(struct net_watch **watch);

#endif
