/*
 * proxy/accept.h - on which sockets a worker accepts, and for which listener. Each worker's own thread.
 */
#ifndef PROXY_ACCEPT_H
#define PROXY_ACCEPT_H

#include "proxy/engine.h"
#include "proxy/snapshot.h"
#include "proxy/sockets.h"

/* Goes by ew->snapshot from now on: begins with sockets that are new to it, leaves those that are gone. What
 * is under way is not touched. */
void accept_renew(struct engine_worker *ew, const struct sockets *sockets);
/* Leaves all. */
void accept_stop(struct engine_worker *ew);

#endif
