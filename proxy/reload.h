/*
 * proxy/reload.h - from one generation of the configuration to the next, inside the engine.
 *
 * The monitor has read and checked the files, and asks. The engine reads the same ones on a job thread, with
 * certificates and passwords, asks back-ends that are new what they offer, and then gives the new snapshot to
 * all workers. Nothing that is under way is touched. The first generation goes the same way. All on the admin thread.
 */
#ifndef PROXY_RELOAD_H
#define PROXY_RELOAD_H

#include "proxy/engine.h"
#include "proxy/snapshot.h"

struct channel_packet;
struct reload;

/* Told when all workers go by the newest snapshot. */
typedef void (*reload_done_fn)(struct engine *e, unsigned generation);

/* sockets is borrowed: sockets are added and closed as the configuration changes. */
struct reload *reload_new(struct engine *e, const struct engine_args *args, struct sockets *sockets);
/* When no worker runs. */
void reload_free(struct reload **reload);

/* The configuration the engine begins with. */
void reload_first(struct reload *reload, reload_done_fn done);
/* CHANNEL_SOCKET, CHANNEL_RELOAD, which is answered over the channel, and CHANNEL_KEPT. */
void reload_packet(struct reload *reload, const struct channel_packet *packet);
struct snapshot *reload_snapshot(struct reload *reload);
/* How many have failed, and whether the last one did. */
unsigned reload_failures(const struct reload *reload, bool *is_last_r);

#endif
