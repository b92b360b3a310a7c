/*
 * proxy/session.h - one connection from the front that speaks SMTP.
 */
#ifndef PROXY_SESSION_H
#define PROXY_SESSION_H

#include "proxy/engine.h"
#include "proxy/snapshot.h"

/* A client of this listener, which is one of the snapshot's. Takes over fd. */
void session_start(
	struct engine_worker *ew, struct snapshot *snapshot, const struct listener *listener, int fd);
/* Likewise, as if it came from that address (NULL: from where it comes). */
void session_start_as(struct engine_worker *ew, struct snapshot *snapshot, const struct listener *listener, int fd,
	const struct ip_addr *client);
/* The engine stops: transactions under way may finish, then 421. */
void session_drain_all(struct engine_worker *ew);
/* Likewise those whose listener the newest configuration does not have. */
void session_drain_removed(struct engine_worker *ew);
/* Another engine has taken over: a session that is here may have one more transaction. */
void session_retire_all(struct engine_worker *ew);
/* The engine stops now: everything that has no dot on its way is cut. */
void session_cut_all(struct engine_worker *ew);

#endif
