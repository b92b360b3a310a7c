/*
 * proxy/dests.h - the destinations of back-ends over all generations of the configuration.
 *
 * A back-end that a reload leaves as it is keeps its destination: connections, counts, what is known of its
 * hosts. One that was changed gets a new one; the old one goes when no snapshot has it any more, and its last
 * connection is closed. All on the admin thread, but for what snapshots read.
 */
#ifndef PROXY_DESTS_H
#define PROXY_DESTS_H

#include "proxy/engine.h"
#include "smtp/pool.h"

struct dests;
struct dest_share;

struct dests *dests_new(struct engine *e);
/* When no worker runs any more. */
void dests_free(struct dests **dests);

/* The destination of a BACKEND_SMTP back-end of this configuration, which lives on as long as it is needed. */
struct dest_share *dests_take(struct dests *dests, struct config *config, const struct backend *backend);
void dests_give(struct dests *dests, struct dest_share **share);
struct smtp_dest *dest_share_dest(const struct dest_share *share);
/* The back-end it was made for, of the configuration it came with. */
const struct backend *dest_share_backend(const struct dest_share *share);

/* Asks the hosts of those that are new; done comes, on the admin thread, when all have answered or failed. */
void dests_watch_new(struct dests *dests, void (*done)(void *owner), void *owner);
/* From time to time: frees what nobody uses any more. */
void dests_sweep(struct dests *dests);
/* Each one that a snapshot has. */
void dests_each(struct dests *dests, void (*fn)(struct smtp_dest *dest, void *arg), void *arg);

#endif
