/*
 * proxy/engine.h - the process that carries mail: workers, admin thread, what they share.
 */
#ifndef PROXY_ENGINE_H
#define PROXY_ENGINE_H

#include <stdatomic.h>

#include "base/list.h"
#include "filters/chain.h"
#include "net/worker.h"
#include "proxy/options.h"
#include "spool/file.h"

struct engine;
struct session;
struct txn;

TAILQ_HEAD(session_list, session);
TAILQ_HEAD(txn_list, txn);

/* What belongs to one worker; net_worker_user() gives it. */
struct engine_worker {
	struct engine *engine;
	struct net_worker *net;
	struct spool_worker spool;
	struct filter_env filters;
	struct session_list sessions;
	struct txn_list orphans; /* transactions whose front is gone and whose dot has left */
	struct arena *spare[32]; /* arenas between two transactions */
	int spare_count;
	uint64_t room_checked; /* clock_ms of the last look at the spool's room */
	bool has_room;
	bool draining;
	struct net_listener **listeners;
	int listener_count;
	atomic_int busy; /* sessions + orphans, for the drain */
};

/* What the monitor gives to the engine. */
struct engine_args {
	struct config *config;
	struct settings *settings;
	const int *listen_fds;	 /* in the order of listeners and their addresses */
	int spawner_fd;		 /* SOCK_SEQPACKET to the spawner */
	int monitor_fd;		 /* tells the monitor that we are ready; its end tells us to stop */
	const char *helper_path; /* postern-helper */
};

/* Runs until it is stopped; the process's exit status. */
int engine_main(const struct engine_args *args);

/* The snapshot that is in force; borrowed. */
struct config *engine_config(struct engine *e);
struct arena *engine_arena_take(struct engine_worker *ew);
void engine_arena_give(struct engine_worker *ew, struct arena **arena);
/* Has the spool room for new mail? Looks at most once a second. */
bool engine_has_room(struct engine_worker *ew);
/* The destination of a BACKEND_SMTP back-end. */
struct smtp_dest *engine_dest(struct engine *e, const struct backend *backend);
/* A number that no other session of this engine has; starts at random. */
unsigned engine_next_session(struct engine *e);
/* A session or an orphan is gone: does the drain end now? */
void engine_settled(struct engine_worker *ew);

#endif
