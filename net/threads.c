/*
 * net/threads.c - a queue of jobs and the threads that empty it.
 */
#include "net/threads.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/list.h"
#include "base/log.h"
#include "base/xalloc.h"

struct net_job {
	struct net_worker *worker;
	void (*run)(void *arg);
	void (*done)(void *arg);
	void *arg;
	bool queued;    /* by the pool's lock */
	bool cancelled; /* by the worker's thread alone, as is gone */
	void (*gone)(void *arg);
	TAILQ_ENTRY(net_job) next;
};
TAILQ_HEAD(job_list, net_job);

static struct {
	pthread_mutex_t lock; /* guards queue, stopping, and queued of each job */
	pthread_cond_t more;
	struct job_list queue;
	bool stopping;
	pthread_t *threads;
	int count;
} pool = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.more = PTHREAD_COND_INITIALIZER,
	.queue = TAILQ_HEAD_INITIALIZER(pool.queue),
};

/* On the job's worker, when run is over or will never begin. */
static void
job_over(void *arg)
{
	struct net_job *job = arg;

	if (!job->cancelled)
		job->done(job->arg);
	else if (job->gone != NULL)
		job->gone(job->arg);
	free(job);
}

/* NULL: stopping and nothing left. */
static struct net_job *
next_job(void)
{
	struct net_job *job;

	pthread_mutex_lock(&pool.lock);
	while ((job = TAILQ_FIRST(&pool.queue)) == NULL && !pool.stopping)
		pthread_cond_wait(&pool.more, &pool.lock);
	if (job != NULL) {
		TAILQ_REMOVE(&pool.queue, job, next);
		job->queued = false;
	}
	pthread_mutex_unlock(&pool.lock);
	return job;
}

static void *
thread_main(void *arg)
{
	struct net_job *job;

	(void)arg;
	log_thread("j");
	log_batch(false);
	while ((job = next_job()) != NULL) {
		job->run(job->arg);
		net_post(job->worker, job_over, job);
	}
	return NULL;
}

static int
start_one(pthread_t *thread, struct err *err)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(thread, NULL, thread_main, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0) {
		errno = rc;
		return err_sys(err, "cannot start a job thread");
	}
	pthread_setname_np(*thread, "job");
	return 0;
}

int
net_threads_start(int count, struct err *err)
{
	assert(pool.count == 0 && count > 0);
	pool.threads = xcalloc((size_t)count, sizeof(*pool.threads));
	pool.stopping = false;
	while (pool.count < count) {
		if (start_one(&pool.threads[pool.count], err) < 0) {
			net_threads_stop();
			return -1;
		}
		pool.count++;
	}
	return 0;
}

void
net_threads_stop(void)
{
	pthread_mutex_lock(&pool.lock);
	pool.stopping = true;
	pthread_cond_broadcast(&pool.more);
	pthread_mutex_unlock(&pool.lock);
	for (int i = 0; i < pool.count; i++)
		pthread_join(pool.threads[i], NULL);
	free(pool.threads);
	pool.threads = NULL;
	pool.count = 0;
}

struct net_job *
net_job_start(struct net_worker *w, void (*run)(void *arg), void (*done)(void *arg), void *arg)
{
	struct net_job *job = xcalloc(1, sizeof(*job));

	job->worker = w;
	job->run = run;
	job->done = done;
	job->arg = arg;
	job->queued = true;
	pthread_mutex_lock(&pool.lock);
	TAILQ_INSERT_TAIL(&pool.queue, job, next);
	pthread_cond_signal(&pool.more);
	pthread_mutex_unlock(&pool.lock);
	return job;
}

void
net_job_cancel(struct net_job **job_p, void (*gone)(void *arg))
{
	struct net_job *job = *job_p;
	bool was_queued;

	*job_p = NULL;
	if (job == NULL)
		return;
	job->cancelled = true;
	job->gone = gone;
	pthread_mutex_lock(&pool.lock);
	was_queued = job->queued;
	if (was_queued)
		TAILQ_REMOVE(&pool.queue, job, next);
	pthread_mutex_unlock(&pool.lock);
	if (was_queued)
		net_later(job->worker, job_over, job);
}
