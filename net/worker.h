/*
 * net/worker.h - a thread with its own event base, and what belongs to it.
 *
 * Bases are never shared. A session lives and dies on one worker. The only way across
 * is net_post(). All other functions here are called on the worker's own thread.
 */
#ifndef NET_WORKER_H
#define NET_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/str.h"

struct event_base;
struct net_worker;

/*
 * Makes the base; no thread yet. index names it in logs ("w0"); -1 is the admin thread ("a").
 * A unit test may drive it itself with net_worker_run().
 */
struct net_worker *net_worker_new(int index, struct err *err);
/* All signals are blocked in the new thread. Returns -1 with errno in err when no thread could be
 * made. */
int net_worker_start(struct net_worker *w, struct err *err);
/* Runs the loop on the calling thread until net_worker_stop(). */
void net_worker_run(struct net_worker *w);
/* Any thread: leaves the loop after the present turn. */
void net_worker_stop(struct net_worker *w);
/* Waits for the thread's end. */
void net_worker_join(struct net_worker *w);
/* After the join: runs on this thread what was posted or put off and has not run yet. */
void net_worker_settle(struct net_worker *w);
/* After the join. What was posted or put off and has not run yet runs now, on this thread. */
void net_worker_free(struct net_worker **w);

int net_worker_index(const struct net_worker *w);
const char *net_worker_name(const struct net_worker *w); /* "w0", "a" */
struct event_base *net_worker_base(const struct net_worker *w);
/* What the program hangs onto the worker (pools, counters). */
void *net_worker_user(const struct net_worker *w);
void net_worker_set_user(struct net_worker *w, void *user);
/* Milliseconds (clock_ms) of the present loop turn; cheap. */
uint64_t net_worker_now(const struct net_worker *w);
/* Turns since the start, for the heartbeat; any thread. A worker turns at least once a second. */
uint64_t net_worker_beat(const struct net_worker *w);

/* Any thread: fn(arg) runs on w's thread, in order of posting. Never called from inside net_post().
 */
void net_post(struct net_worker *w, void (*fn)(void *arg), void *arg);
/* Own thread: fn(arg) at the end of this loop turn; for memory that a caller up the stack still
 * uses. */
void net_later(struct net_worker *w, void (*fn)(void *arg), void *arg);

/*
 * A one-shot timer. Moving it to a later time costs nothing (it fires, sees, and waits on), so a
 * deadline per command is cheap. Lives inside its owner's struct.
 */
struct net_timer {
	struct net_worker *worker;
	void (*fn)(void *arg);
	void *arg;
	uint64_t due;   /* clock_ms; 0: not set */
	uint64_t armed; /* when the event fires; 0: not added */
	void *event;    /* struct event *, made at first use */
};
void net_timer_init(struct net_timer *t, struct net_worker *w, void (*fn)(void *arg), void *arg);
void net_timer_set(struct net_timer *t, int64_t ms);
void net_timer_clear(struct net_timer *t);
void net_timer_deinit(struct net_timer *t);

/*
 * Buffers that all streams of a worker share, so that a stream that waits owns none. Only for
 * net/stream.c: what is in recv lasts for one event; a gather belongs to one corked stream. With a
 * receive buffer of 64 KiB a large message cost a fifth more CPU per MiB (bench/run).
 */
#define NET_RECV_SIZE   (256 * 1024)
#define NET_GATHER_SIZE (32 * 1024)
#define NET_GATHERS     4 /* corked streams at a time; a fifth writes through */
#define NET_RECORD_SIZE (16 * 1024) /* of TLS: the most that one may hold */
#define NET_OPENED_SIZE (NET_RECV_SIZE + 4 * NET_RECORD_SIZE)

struct net_gather {
	const void *owner; /* NULL: free */
	size_t len;
	char data[NET_GATHER_SIZE];
};
struct net_buffers {
	char recv[NET_RECV_SIZE];
	/* TLS: what was received, opened; what is about to be sealed; what is sealed and on its way to sendmsg. */
	char opened[NET_OPENED_SIZE];
	char record[NET_RECORD_SIZE];
	struct str sealed;
	struct net_gather gathers[NET_GATHERS];
};
struct net_buffers *net_worker_buffers(struct net_worker *w);

/* Streams that nobody owns any more but that are still saying goodbye; only for net/stream.c, which
 * closes them when the worker is freed. */
LIST_HEAD(net_stream_list, net_stream);
struct net_stream_list *net_worker_finishing(struct net_worker *w);

#endif
