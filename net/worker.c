/*
 * net/worker.c - the loop of one thread: turns, posts from other threads, put-off calls, timers.
 */
#include "net/stream.h"
#include "net/worker.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "net/reason.h"

struct task {
	void (*fn)(void *arg);
	void *arg;
	STAILQ_ENTRY(task) next;
};
STAILQ_HEAD(task_list, task);

struct net_worker {
	int index;
	char name[16];
	void *user;
	struct event_base *base;
	struct event *heartbeat;
	uint64_t now; /* 0: ask the clock */

	pthread_t thread;
	bool started;
	atomic_bool stop;
	atomic_uint_fast64_t beat;

	struct task_list later;
	struct task_list spare; /* used nodes of `later`, so that an event needs no malloc */

	pthread_mutex_t post_lock; /* guards `posted` only */
	struct task_list posted;
	int post_fd;
	struct event *post_event;

	struct net_stream_list finishing;
	struct net_buffers buffers;
};

/* Else it would write to stderr, which a daemon has closed. */
static void
libevent_says(int severity, const char *text)
{
	if (severity >= EVENT_LOG_WARN)
		log_repeat(LOG_LEVEL_WARN, NULL, NULL, "libevent", "text=%s", text);
}

static void
ignore_beat(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

/* Returns false when nothing was waiting. */
static bool
run_posted(struct net_worker *w)
{
	struct task_list list = STAILQ_HEAD_INITIALIZER(list);
	struct task *t;

	pthread_mutex_lock(&w->post_lock);
	STAILQ_CONCAT(&list, &w->posted);
	pthread_mutex_unlock(&w->post_lock);
	if (STAILQ_EMPTY(&list))
		return false;
	while ((t = STAILQ_FIRST(&list)) != NULL) {
		STAILQ_REMOVE_HEAD(&list, next);
		t->fn(t->arg);
		free(t);
	}
	return true;
}

/* The eventfd is read before the list is taken: a post in between wakes us once too often, never
 * once too little. */
static void
got_post(evutil_socket_t fd, short what, void *arg)
{
	uint64_t count;

	(void)what;
	if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN && errno != EINTR)
		log_repeat(LOG_LEVEL_ERROR, NULL, NULL, "worker", "err=%s", net_reason(errno));
	run_posted(arg);
}

/* What these calls put off in turn waits for the next turn, so that sockets get theirs. */
static bool
run_later(struct net_worker *w)
{
	struct task_list list = STAILQ_HEAD_INITIALIZER(list);
	struct task *t;

	if (STAILQ_EMPTY(&w->later))
		return false;
	STAILQ_CONCAT(&list, &w->later);
	while ((t = STAILQ_FIRST(&list)) != NULL) {
		STAILQ_REMOVE_HEAD(&list, next);
		t->fn(t->arg);
		STAILQ_INSERT_HEAD(&w->spare, t, next);
	}
	return true;
}

static void
wake(struct net_worker *w)
{
	const uint64_t one = 1;

	while (write(w->post_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static struct event_base *
base_new(void)
{
	struct event_config *conf = event_config_new();
	struct event_base *base = NULL;

	if (conf != NULL && event_config_set_flag(conf, EVENT_BASE_FLAG_NOLOCK) == 0)
		base = event_base_new_with_config(conf);
	if (conf != NULL)
		event_config_free(conf);
	return base;
}

static int
worker_open(struct net_worker *w)
{
	const struct timeval second = {1, 0};

	w->post_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (w->post_fd < 0 || (w->base = base_new()) == NULL)
		return -1;
	w->post_event = event_new(w->base, w->post_fd, EV_READ | EV_PERSIST, got_post, w);
	w->heartbeat = event_new(w->base, -1, EV_PERSIST, ignore_beat, w);
	if (w->post_event == NULL || w->heartbeat == NULL)
		return -1;
	if (event_add(w->post_event, NULL) < 0 || event_add(w->heartbeat, &second) < 0)
		return -1;
	return 0;
}

struct net_worker *
net_worker_new(int index, struct err *err)
{
	struct net_worker *w = xcalloc(1, sizeof(*w));

	/* sendfile has no MSG_NOSIGNAL. */
	signal(SIGPIPE, SIG_IGN);
	event_set_log_callback(libevent_says);
	w->index = index;
	if (index < 0)
		snprintf(w->name, sizeof(w->name), "a");
	else
		snprintf(w->name, sizeof(w->name), "w%d", index);
	STAILQ_INIT(&w->later);
	LIST_INIT(&w->finishing);
	STAILQ_INIT(&w->spare);
	STAILQ_INIT(&w->posted);
	pthread_mutex_init(&w->post_lock, NULL);
	if (worker_open(w) < 0) {
		err_sys(err, "cannot make the event loop of %s", w->name);
		net_worker_free(&w);
	}
	return w;
}

void
net_worker_settle(struct net_worker *w)
{
	bool again;

	do {
		again = run_posted(w);
		again = run_later(w) || again;
	} while (again);
}

void
net_worker_free(struct net_worker **w_p)
{
	struct net_worker *w = *w_p;
	struct task *t;

	*w_p = NULL;
	if (w == NULL)
		return;
	assert(!w->started);
	net_stream_close_finishing(w);
	net_worker_settle(w);
	while ((t = STAILQ_FIRST(&w->spare)) != NULL) {
		STAILQ_REMOVE_HEAD(&w->spare, next);
		free(t);
	}
	if (w->post_event != NULL)
		event_free(w->post_event);
	if (w->heartbeat != NULL)
		event_free(w->heartbeat);
	if (w->base != NULL)
		event_base_free(w->base);
	if (w->post_fd >= 0)
		close(w->post_fd);
	pthread_mutex_destroy(&w->post_lock);
	str_deinit(&w->buffers.sealed);
	free(w);
}

static void
turn(struct net_worker *w)
{
	int flags = EVLOOP_ONCE;

	if (!STAILQ_EMPTY(&w->later))
		flags |= EVLOOP_NONBLOCK;
	w->now = 0;
	if (event_base_loop(w->base, flags) < 0)
		log_repeat(LOG_LEVEL_ERROR, NULL, NULL, "worker", "err=%s", "the event loop failed");
	run_later(w);
	log_flush();
	atomic_fetch_add_explicit(&w->beat, 1, memory_order_relaxed);
}

void
net_worker_run(struct net_worker *w)
{
	log_thread(w->name);
	do {
		turn(w);
	} while (!atomic_load(&w->stop));
	atomic_store(&w->stop, false);
}

static void *
thread_main(void *arg)
{
	net_worker_run(arg);
	return NULL;
}

int
net_worker_start(struct net_worker *w, struct err *err)
{
	sigset_t all, old;

	assert(!w->started);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	errno = pthread_create(&w->thread, NULL, thread_main, w);
	w->started = errno == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!w->started)
		return err_sys(err, "cannot start thread %s", w->name);
	pthread_setname_np(w->thread, w->name);
	return 0;
}

void
net_worker_stop(struct net_worker *w)
{
	atomic_store(&w->stop, true);
	wake(w);
}

void
net_worker_join(struct net_worker *w)
{
	if (!w->started)
		return;
	pthread_join(w->thread, NULL);
	w->started = false;
}

int
net_worker_index(const struct net_worker *w)
{
	return w->index;
}

const char *
net_worker_name(const struct net_worker *w)
{
	return w->name;
}

struct event_base *
net_worker_base(const struct net_worker *w)
{
	return w->base;
}

void *
net_worker_user(const struct net_worker *w)
{
	return w->user;
}

void
net_worker_set_user(struct net_worker *w, void *user)
{
	w->user = user;
}

uint64_t
net_worker_now(const struct net_worker *w)
{
	/* A cache, so not a change that a reader could see. */
	if (w->now == 0)
		((struct net_worker *)w)->now = clock_ms();
	return w->now;
}

uint64_t
net_worker_beat(const struct net_worker *w)
{
	return atomic_load_explicit(&w->beat, memory_order_relaxed);
}

struct net_stream_list *
net_worker_finishing(struct net_worker *w)
{
	return &w->finishing;
}

struct net_buffers *
net_worker_buffers(struct net_worker *w)
{
	return &w->buffers;
}

void
net_post(struct net_worker *w, void (*fn)(void *arg), void *arg)
{
	struct task *t = xmalloc(sizeof(*t));
	bool was_empty;

	t->fn = fn;
	t->arg = arg;
	pthread_mutex_lock(&w->post_lock);
	was_empty = STAILQ_EMPTY(&w->posted);
	STAILQ_INSERT_TAIL(&w->posted, t, next);
	/* Inside the lock: once fn can run, nothing may keep the worker from being freed. */
	if (was_empty)
		wake(w);
	pthread_mutex_unlock(&w->post_lock);
}

void
net_later(struct net_worker *w, void (*fn)(void *arg), void *arg)
{
	struct task *t = STAILQ_FIRST(&w->spare);

	if (t != NULL)
		STAILQ_REMOVE_HEAD(&w->spare, next);
	else
		t = xmalloc(sizeof(*t));
	t->fn = fn;
	t->arg = arg;
	STAILQ_INSERT_TAIL(&w->later, t, next);
}
