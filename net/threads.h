/*
 * net/threads.h - job threads for calls that block: fsync, getaddrinfo, other people's paths.
 *
 * A job belongs to the worker that started it: its `done` runs there, unless the job was cancelled.
 */
#ifndef NET_THREADS_H
#define NET_THREADS_H

#include "base/err.h"
#include "net/worker.h"

struct net_job;

/* Once per process, before workers start. */
int net_threads_start(int count, struct err *err);
/* Finishes what is queued, then joins the threads. */
void net_threads_stop(void);

/* run(arg) on a job thread, then done(arg) on w's thread. */
struct net_job *net_job_start(
	struct net_worker *w, void (*run)(void *arg), void (*done)(void *arg), void *arg);
/* done is not called any more; when run has not begun it never will, else it ends in its own time.
 * `gone(arg)` then runs on the worker once run is over or will never begin, to free arg; may be
 * NULL. */
void net_job_cancel(struct net_job **job, void (*gone)(void *arg));

#endif
