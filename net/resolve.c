/*
 * net/resolve.c - one look-up at a time for each name, and who waits for it.
 */
#include "net/resolve.h"

#include <assert.h>
#include <netdb.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "net/threads.h"

/* After a look-up that failed, old addresses serve so long before the next one. */
#define RETRY_MS 10000
/* Addresses older than so many refreshes belong to somebody else, maybe: a new look-up is waited for. */
#define OLD 10

/* Apart from the name, which may be freed while a job thread is at it. */
struct lookup {
	struct net_name *name;
	struct net_worker *worker;
	char host[256];
	uint16_t port;
	struct net_addrs *addrs;
	const char *why;
};

struct net_name_wait {
	struct net_name *name;
	struct net_worker *worker;
	net_name_cb cb; /* NULL: cancelled while its answer was on the way */
	void *owner;
	bool waits; /* in the list */
	struct net_addrs *addrs;
	const char *why;
	TAILQ_ENTRY(net_name_wait) next;
};
TAILQ_HEAD(name_waits, net_name_wait);

struct net_name {
	char host[256];
	uint16_t port;
	int64_t refresh_ms;
	struct net_job *job; /* of the worker that looks up */

	pthread_mutex_t lock; /* guards all below */
	struct net_addrs *addrs;
	uint64_t known_ms; /* when they were found */
	uint64_t due_ms;   /* when they are looked up again */
	bool is_looking;
	bool is_failing;
	struct name_waits waits;
};

/* ---- on a job thread ---- */

static struct net_addrs *
ask_system(const char *host, uint16_t port, const char **why_r)
{
	const struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV};
	struct addrinfo *found, *a;
	struct net_addrs *addrs;
	size_t count = 0;
	char service[8];
	int rc;

	snprintf(service, sizeof(service), "%u", port);
	rc = getaddrinfo(host, service, &hints, &found);
	if (rc != 0) {
		*why_r = gai_strerror(rc);
		return NULL;
	}
	for (a = found; a != NULL; a = a->ai_next)
		count++;
	addrs = xcalloc(1, sizeof(*addrs) + count * sizeof(addrs->list[0]));
	for (a = found; a != NULL; a = a->ai_next) {
		struct net_addr *addr = &addrs->list[addrs->count++];

		memcpy(&addr->sa, a->ai_addr, a->ai_addrlen);
		addr->len = a->ai_addrlen;
	}
	freeaddrinfo(found);
	return addrs;
}

static net_lookup_fn lookup_now = ask_system;

void
net_name_set_lookup(net_lookup_fn lookup)
{
	lookup_now = lookup != NULL ? lookup : ask_system;
}

static void
run_lookup(void *arg)
{
	struct lookup *l = arg;

	l->addrs = lookup_now(l->host, l->port, &l->why);
}

static void
lookup_free(void *arg)
{
	struct lookup *l = arg;

	free(l->addrs);
	free(l);
}

/* ---- what is known ---- */

static struct net_addrs *
addrs_dup(const struct net_addrs *addrs)
{
	size_t size;
	struct net_addrs *copy;

	if (addrs == NULL)
		return NULL;
	size = sizeof(*addrs) + addrs->count * sizeof(addrs->list[0]);
	copy = xmalloc(size);
	memcpy(copy, addrs, size);
	return copy;
}

/* With the lock held. */
static void
keep(struct net_name *name, struct lookup *l)
{
	const uint64_t now = net_worker_now(l->worker);
	int64_t pause = name->refresh_ms;

	if (l->addrs != NULL) {
		free(name->addrs);
		name->addrs = l->addrs;
		name->known_ms = now;
		l->addrs = NULL;
	} else if (pause > RETRY_MS) {
		pause = RETRY_MS;
	}
	name->due_ms = now + (uint64_t)pause;
}

/* Once when it begins, once when it ends. */
static void
log_failing(struct net_name *name, bool is_failing, const char *why)
{
	if (is_failing && !name->is_failing && name->addrs != NULL)
		log_warn(NULL, "resolve", "host=%s err=%s state=%s", name->host, why, "its old addresses serve on");
	else if (!is_failing && name->is_failing)
		log_info(NULL, "resolve", "host=%s state=%s", name->host, "found again");
	name->is_failing = is_failing && (name->is_failing || name->addrs != NULL);
}

static void
arrived(void *arg)
{
	struct net_name_wait *wait = arg;

	if (wait->cb != NULL)
		wait->cb(wait->owner, wait->addrs, wait->why);
	else
		free(wait->addrs);
	free(wait);
}

static void
lookup_done(void *arg)
{
	struct lookup *l = arg;
	struct net_name *name = l->name;
	struct net_name_wait *wait;
	bool failed = l->addrs == NULL;

	name->job = NULL;
	pthread_mutex_lock(&name->lock);
	keep(name, l);
	log_failing(name, failed, l->why);
	name->is_looking = false;
	while ((wait = TAILQ_FIRST(&name->waits)) != NULL) {
		TAILQ_REMOVE(&name->waits, wait, next);
		wait->waits = false;
		wait->addrs = addrs_dup(name->addrs);
		wait->why = l->why;
		net_post(wait->worker, arrived, wait);
	}
	pthread_mutex_unlock(&name->lock);
	lookup_free(l);
}

static void
look_up(struct net_name *name, struct net_worker *w)
{
	struct lookup *l = xcalloc(1, sizeof(*l));

	l->name = name;
	l->worker = w;
	l->port = name->port;
	memcpy(l->host, name->host, sizeof(l->host));
	name->job = net_job_start(w, run_lookup, lookup_done, l);
}

static struct net_name_wait *
wait_new(struct net_name *name, struct net_worker *w, net_name_cb cb, void *owner)
{
	struct net_name_wait *wait = xcalloc(1, sizeof(*wait));

	wait->name = name;
	wait->worker = w;
	wait->cb = cb;
	wait->owner = owner;
	wait->waits = true;
	TAILQ_INSERT_TAIL(&name->waits, wait, next);
	return wait;
}

/* ---- interface ---- */

struct net_addrs *
net_name_get(struct net_name *name, struct net_worker *w, net_name_cb cb, void *owner,
	struct net_name_wait **wait_r)
{
	const uint64_t now = net_worker_now(w);
	struct net_addrs *addrs = NULL;
	bool is_due, is_old, begins;

	*wait_r = NULL;
	pthread_mutex_lock(&name->lock);
	is_due = name->addrs == NULL || now >= name->due_ms;
	is_old = name->addrs == NULL ||
		 (is_due && now >= name->known_ms + (uint64_t)name->refresh_ms * OLD);
	begins = is_due && !name->is_looking;
	if (begins)
		name->is_looking = true;
	if (is_old)
		*wait_r = wait_new(name, w, cb, owner);
	else
		addrs = addrs_dup(name->addrs);
	pthread_mutex_unlock(&name->lock);
	if (begins)
		look_up(name, w);
	return addrs;
}

void
net_name_cancel(struct net_name_wait **wait_p)
{
	struct net_name_wait *wait = *wait_p;
	bool did_wait;

	*wait_p = NULL;
	if (wait == NULL)
		return;
	pthread_mutex_lock(&wait->name->lock);
	did_wait = wait->waits;
	if (did_wait)
		TAILQ_REMOVE(&wait->name->waits, wait, next);
	pthread_mutex_unlock(&wait->name->lock);
	if (did_wait)
		free(wait);
	else
		wait->cb = NULL;
}

struct net_name *
net_name_new(const char *host, uint16_t port, int64_t refresh_ms)
{
	struct net_name *name = xcalloc(1, sizeof(*name));

	snprintf(name->host, sizeof(name->host), "%s", host);
	name->port = port;
	name->refresh_ms = refresh_ms;
	pthread_mutex_init(&name->lock, NULL);
	TAILQ_INIT(&name->waits);
	return name;
}

bool
net_name_is_busy(struct net_name *name)
{
	bool is_busy;

	pthread_mutex_lock(&name->lock);
	is_busy = name->is_looking || !TAILQ_EMPTY(&name->waits);
	pthread_mutex_unlock(&name->lock);
	return is_busy;
}

void
net_name_free(struct net_name **name_p)
{
	struct net_name *name = *name_p;

	*name_p = NULL;
	if (name == NULL)
		return;
	assert(TAILQ_EMPTY(&name->waits));
	net_job_cancel(&name->job, lookup_free);
	pthread_mutex_destroy(&name->lock);
	free(name->addrs);
	free(name);
}
