/*
 * proxy/aside.c - what one transaction sets aside, in the hands of job threads.
 */
#include "proxy/aside.h"

#include <assert.h>
#include <stdlib.h>

#include "base/xalloc.h"
#include "net/threads.h"

struct aside {
	struct net_worker *worker;
	char *directory;
	const struct quarantine_mail *mails;
	size_t count;
	aside_cb done;
	void *owner;
	struct net_job *job; /* NULL: none is under way */
	int rc;
	struct err err;
	struct quarantine_entry *entries[];
};

static void
drop_entries(struct aside *a)
{
	for (size_t i = 0; i < a->count; i++)
		quarantine_drop(&a->entries[i]);
}

/* ---- on a job thread ---- */

static void
run_prepare(void *arg)
{
	struct aside *a = arg;

	for (size_t i = 0; i < a->count && a->rc == 0; i++) {
		a->entries[i] = quarantine_prepare(a->directory, &a->mails[i], &a->err);
		if (a->entries[i] == NULL)
			a->rc = -1;
	}
	if (a->rc < 0)
		drop_entries(a);
}

static void
run_commit(void *arg)
{
	struct aside *a = arg;

	for (size_t i = 0; i < a->count && a->rc == 0; i++)
		a->rc = quarantine_commit(a->entries[i], &a->err);
}

static void
run_drop(void *arg)
{
	drop_entries(arg);
}

/* ---- on the worker ---- */

static void
job_done(void *arg)
{
	struct aside *a = arg;

	a->job = NULL;
	a->done(a->owner, a->rc < 0 ? &a->err : NULL);
}

struct aside *
aside_start(struct net_worker *worker, const char *directory, const struct quarantine_mail *mails, size_t count,
	aside_cb done, void *owner)
{
	struct aside *a = xcalloc(1, sizeof(*a) + count * sizeof(a->entries[0]));

	a->worker = worker;
	a->directory = xstrdup(directory);
	a->mails = mails;
	a->count = count;
	a->done = done;
	a->owner = owner;
	a->job = net_job_start(worker, run_prepare, job_done, a);
	return a;
}

void
aside_commit(struct aside *a)
{
	assert(a->job == NULL && a->rc == 0);
	a->job = net_job_start(a->worker, run_commit, job_done, a);
}

bool
aside_is_busy(const struct aside *a)
{
	return a != NULL && a->job != NULL;
}

const char *
aside_id(const struct aside *a, size_t i)
{
	return quarantine_id(a->entries[i]);
}

static void
release(void *arg)
{
	struct aside *a = arg;

	free(a->directory);
	free(a);
}

void
aside_keep(struct aside **aside)
{
	struct aside *a = *aside;

	*aside = NULL;
	if (a == NULL)
		return;
	assert(a->job == NULL);
	for (size_t i = 0; i < a->count; i++)
		quarantine_keep(&a->entries[i]);
	release(a);
}

void
aside_drop(struct aside **aside)
{
	struct aside *a = *aside;

	*aside = NULL;
	if (a == NULL)
		return;
	assert(a->job == NULL);
	net_job_start(a->worker, run_drop, release, a);
}
