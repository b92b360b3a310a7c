/*
 * proxy/snapshot.h - one generation of the configuration in the engine, immutable and counted.
 *
 * Each worker has the newest, a session the one of its last EHLO, a transaction the one it began with. The last
 * one to let go frees it, whatever thread that is.
 */
#ifndef PROXY_SNAPSHOT_H
#define PROXY_SNAPSHOT_H

#include "proxy/dests.h"
#include "proxy/options.h"

struct snapshot {
	unsigned generation; /* from 1; each reload that succeeded is one more */
	struct config *config;
	const struct settings *settings;
	/* Private. */
	unsigned refs; /* atomic */
	struct engine *engine;
	struct dest_share **shares; /* by back-end; NULL for embedded ones */
};

/* On the admin thread. Takes over the reference to config, whose certificates and passwords are loaded. */
struct snapshot *snapshot_new(struct engine *e, struct config *config, unsigned generation);
struct snapshot *snapshot_ref(struct snapshot *snapshot);
/* Any thread. */
void snapshot_unref(struct snapshot **snapshot);

/* The destination of one of its BACKEND_SMTP back-ends. */
struct smtp_dest *snapshot_dest(const struct snapshot *snapshot, const struct backend *backend);
/* NULL: it has none of that name. */
const struct listener *snapshot_listener(const struct snapshot *snapshot, const char *name);

#endif
