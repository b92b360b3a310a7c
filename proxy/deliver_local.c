/*
 * proxy/deliver_local.c - the embedded back-ends: maildir (synced on a job thread) and discard.
 */
#include <stdlib.h>

#include "base/xalloc.h"
#include "proxy/deliver_private.h"
#include "proxy/relay.h"
#include "spool/maildir.h"

struct maildir_job {
	struct delivery *d;
	struct maildir_mail mail;
	const char *path;
	const char *hostname;
	int rc;
	struct err err;
};

static void
maildir_run(void *arg)
{
	struct maildir_job *job = arg;

	job->rc = maildir_deliver(job->path, job->hostname, &job->mail, &job->err);
}

static void
maildir_done(void *arg)
{
	struct maildir_job *job = arg;
	struct delivery *d = job->d;
	const struct smtp_reply *reply;

	d->job = NULL;
	if (job->rc == 0) {
		d->result.delivered = true;
		reply = relay_ours(d->arena, 250, "2.0.0", "Ok: stored");
	} else {
		log_repeat(LOG_LEVEL_WARN, d->log, d->backend->name, "backend", "backend=%s err=%s", d->backend->name, job->err.text);
		reply = relay_fault(d->arena, "4.3.0", "the message could not be stored, try again later");
	}
	deliver_end(d, reply);
}

static void
deliver_maildir(struct delivery *d)
{
	struct maildir_job *job = arena_zalloc(d->arena, sizeof(*job));

	job->d = d;
	job->path = d->backend->conf.maildir;
	job->hostname = d->listener->conf.smtp.hostname;
	job->mail.sender = d->envelope.sender;
	job->mail.rcpts = d->envelope.rcpts;
	job->mail.rcpt_count = d->envelope.rcpt_count;
	job->mail.body = d->msg->body;
	job->mail.edits = d->edits;
	/* Once it runs, it cannot be stopped half-way: this is its point of no return. */
	d->committed = true;
	d->job = net_job_start(d->ew->net, maildir_run, maildir_done, job);
}

void
deliver_local(struct delivery *d)
{
	d->state = DELIVERY_LATE;
	if (!d->ops->may_commit(d->owner)) {
		deliver_end(d, relay_fault(d->arena, "4.3.2", "no time left to deliver, try again later"));
		return;
	}
	if (d->backend->kind == BACKEND_MAILDIR) {
		deliver_maildir(d);
		return;
	}
	d->result.delivered = true;
	deliver_end(d, relay_ours(d->arena, 250, "2.0.0", "Ok: discarded"));
}

void
deliver_local_cancel(struct delivery *d)
{
	/* The owner waits for the result of a job that began (deliver_is_committed), so none is left. */
	if (d->job != NULL)
		net_job_cancel(&d->job, NULL);
}
