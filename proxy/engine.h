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

struct accept_point;
struct dests;
struct engine;
struct explain;
struct filter_registry;
struct health;
struct limits;
struct listener_counts;
struct metrics;
struct session;
struct snapshot;
struct sockets;
struct txn;

TAILQ_HEAD(accept_point_list, accept_point);
TAILQ_HEAD(session_list, session);
TAILQ_HEAD(txn_list, txn);
TAILQ_HEAD(delivery_list, delivery);

/* What belongs to one worker; net_worker_user() gives it. */
struct engine_worker {
	struct engine *engine;
	struct net_worker *net;
	struct spool_worker spool;
	struct net_timer trim; /* of its spare files */
	bool is_trimming;
	struct filter_env filters;
	struct session_list sessions;
	struct txn_list orphans; /* transactions whose front is gone and whose dot has left */
	struct delivery_list resting; /* of deliver.c: they keep a connection and wait for the front */
	struct arena *spare[32]; /* arenas between two transactions */
	int spare_count;
	struct explain *explain; /* of `postern -1`: nothing is delivered nor set aside; NULL: it is */
	uint64_t room_checked; /* clock_ms of the last look at the spool's room */
	int64_t room; /* octets, or -1: none */
	bool draining;
	bool is_leaving; /* another engine has taken over: while draining, nobody is hurried */
	bool settled; /* the drain is over here */
	struct accept_point_list accepting;
	struct snapshot *snapshot; /* the newest one; NULL before the first */
	atomic_int busy; /* sessions + orphans, for the drain */
};

/* Beside SIGTERM, finish what you have, the monitor's signals to an engine: stop at once; and finish, another one
 * is at work, who also answers for our health. None that people send to all processes of a name. */
#define ENGINE_STOP_NOW SIGRTMIN
#define ENGINE_LEAVE	(SIGRTMIN + 1)

/* What the monitor gives to the engine. */
struct engine_args {
	struct config *config;	 /* loaded without an error; the engine takes the reference over */
	unsigned generation;
	unsigned starts; /* engines that this monitor has started, with this one */
	struct sockets *sockets; /* likewise */
	int spawner_fd;		 /* SOCK_SEQPACKET to the spawner */
	int monitor_fd;		 /* proxy/channel.h; its end tells us to stop */
	const char *config_path;
	const char *helper_path; /* postern-helper */
	/* Of `postern -1`: on the admin thread, when the workers are ready; NULL: clients come by listeners. */
	void (*ready)(struct engine *e, void *arg);
	void *ready_arg;
	bool to_stderr, verbose; /* the log, by the command line: they hold over reloads */
};

/* Runs until it is stopped; the process's exit status. */
int engine_main(const struct engine_args *args);

struct arena *engine_arena_take(struct engine_worker *ew);
void engine_arena_give(struct engine_worker *ew, struct arena **arena);
/* A message has gone: is there a file in the spool to be used again, or to be closed after a while? */
void engine_trim_spool(struct engine_worker *ew);
/* Has the spool room for a new message of so many octets (-1: not known)? Looks at most once a second. */
bool engine_has_room(struct engine_worker *ew, int64_t size);
/* A number that no other session of this engine has; starts at random. */
unsigned engine_next_session(struct engine *e);
/* Any thread: fn gets each worker's struct engine_worker, on its own thread. */
void engine_for_workers(struct engine *e, void (*fn)(void *engine_worker));
int engine_worker_count(const struct engine *e);
struct engine_worker *engine_worker(const struct engine *e, int index);
struct net_worker *engine_admin(struct engine *e);
/* How many connections there may be; shared by all workers. */
struct limits *engine_limits(struct engine *e);
/* The admin thread's; NULL in the first moments. */
struct health *engine_health(struct engine *e);
/* Of all generations; the admin thread's. */
struct dests *engine_dests(struct engine *e);
unsigned engine_starts(const struct engine *e);
/* Reloads that have failed, and whether the last one did. */
unsigned engine_reload_failures(const struct engine *e, bool *is_last_r);
/* The newest one. The admin thread's; a worker has its own. */
struct snapshot *engine_snapshot(struct engine *e);
/* Where this worker counts what happens on a listener. */
struct listener_counts *engine_counts(struct engine_worker *ew, const struct listener *listener);
/* What filters have in common over workers and configurations; the admin thread's. */
struct filter_registry *engine_filters(const struct engine *e);
/* For those who tell how things are, on the admin thread. */
struct metrics *engine_metrics(const struct engine *e);
/* How long ago it was seen that this worker's loop had turned, in milliseconds; it does once a second at least. */
uint64_t engine_beat_age(struct engine *e, int worker);
/* For longer than stuck_timeout it has not. */
bool engine_is_stuck(struct engine *e, int worker);
bool engine_is_stopping(const struct engine *e);
/* A session or an orphan is gone: does the drain end now? */
void engine_settled(struct engine_worker *ew);

#endif
