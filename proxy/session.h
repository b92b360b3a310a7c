/*
 * proxy/session.h - one connection from the front that speaks SMTP.
 */
#ifndef PROXY_SESSION_H
#define PROXY_SESSION_H

#include "proxy/engine.h"

/* Takes over fd. */
void session_start(struct engine_worker *ew, const struct listener *listener, int fd);
/* The engine stops: transactions under way may finish, then 421. */
void session_drain_all(struct engine_worker *ew);
/* The engine stops now: everything that has no dot on its way is cut. */
void session_cut_all(struct engine_worker *ew);

#endif
