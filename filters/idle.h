/*
 * filters/idle.h - connections of one filter that wait for its next message; of all workers.
 *
 * What is kept is a plain descriptor, so any worker may take it. One that the service has closed meanwhile, or on
 * which it said something unasked, is never given out. Those that are too old are closed when somebody looks.
 */
#ifndef FILTERS_IDLE_H
#define FILTERS_IDLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/ip.h"

struct idle_conns;

struct idle_conn {
	int fd;			      /* non-blocking */
	const struct ip_endpoint *to; /* borrowed from the configuration */
	unsigned uses;		      /* the kind's: so many commands were given */
};

/* max 0: keeps none. */
struct idle_conns *idle_new(int max, int64_t timeout_ms);
/* Any thread, when no run is left. Accepts NULL, clears the pointer. */
void idle_free(struct idle_conns **idle);

/* The one that was used last; false: there is none. The caller closes it. */
bool idle_take(struct idle_conns *idle, struct idle_conn *conn_r);
/* Takes over the descriptor. */
void idle_keep(struct idle_conns *idle, const struct idle_conn *conn);

#endif
