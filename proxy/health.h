/*
 * proxy/health.h - what monitoring asks over HTTP, on the admin thread: /healthz /readyz /metrics /status.
 *
 * It must answer when the workers cannot: so it waits for nobody. Counters are read without a lock, the spool's
 * room is looked at by a job thread once a second, and whether a worker still turns shows in its beat. It goes on
 * while the engine drains, unless another one has taken over: they share the sockets.
 */
#ifndef PROXY_HEALTH_H
#define PROXY_HEALTH_H

#include "base/str.h"
#include "proxy/engine.h"
#include "proxy/sockets.h"

struct health;

/* Answers nobody yet. */
struct health *health_start(struct engine *e);
/* When the workers go by a new configuration, the first or a later one: answers on those of the sockets that are of
 * `health { listen }`, if there are any. This and the next two accept NULL: a successor answers. */
void health_renew(struct health *health, const struct sockets *sockets);
bool health_has_socket(const struct health *health, int fd);
void health_free(struct health **health);

/* ---- what the pages tell; on the admin thread ---- */

struct engine *health_engine(const struct health *h);
const struct settings *health_settings(const struct health *h);
/* Milliseconds since the engine started. */
uint64_t health_uptime(const struct health *h);
/* Octets above min_free, at the last look; 0: no room for mail. */
int64_t health_room(const struct health *h);
/* Every reason for a no is a line. */
bool health_lives(const struct health *h, struct str *why);
bool health_is_ready(const struct health *h, struct str *why);

/* /status: health_status.c */
void health_status(const struct health *h, struct str *out);

#endif
