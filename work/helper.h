/*
 * work/helper.h - the engine's client of the helpers: job, ask, answer, edit, done.
 *
 * One pool per worker. Per row of helper/list.h it keeps up to HELPER_PROCESSES_MAX long-lived
 * processes, started when they are first needed; each does one job at a time, further jobs wait in
 * order. A helper is replaced after HELPER_JOBS_MAX jobs; one that dies, talks nonsense or is too
 * late is killed, costs the job it had, and is started again with growing pauses.
 */
#ifndef WORK_HELPER_H
#define WORK_HELPER_H

#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "mail/edit.h"
#include "mail/verdict.h"
#include "net/worker.h"
#include "work/program.h"

#define HELPER_PROCESSES_MAX 4    /* per worker and row */
#define HELPER_JOBS_MAX      200  /* then a fresh process */
#define HELPER_ASKS_MAX      1000 /* per job */
#define HELPER_EDITS_MAX     100  /* per job */
#define HELPER_PAUSE_MIN_MS  100
#define HELPER_PAUSE_MAX_MS  10000

struct helper_pool;
struct helper_job;

/* helper_path: the absolute path of postern-helper; copied. */
struct helper_pool *helper_pool_new(
	struct net_worker *w, struct program_client *programs, const char *helper_path);
/* On w's thread or after it has stopped, before the program client is freed. No job may be left. */
void helper_pool_free(struct helper_pool **pool);

struct helper_result {
	bool failed; /* crash, garbage, too late, not started, or the job said so: err says which */
	struct err err;
	struct mail_verdict verdict; /* strings are borrowed until the callback returns */
};
typedef void (*helper_done_cb)(void *owner, const struct helper_result *result);

struct helper_spec {
	const char *row;          /* of helper/list.h; a string constant */
	const char *const *words; /* name, value, name, value ...; copied */
	size_t word_count;
	int64_t timeout_ms; /* waiting for a helper included; 0: the owner watches the time and
			       cancels */
	struct mail_edits *edits; /* where EDIT goes, meaningful only when the job did not fail;
				     NULL: a helper that edits is at fault */
	const struct log_ctx *log;
};

/* The callback never comes from inside helper_job_start(). The handle is gone when it comes. */
struct helper_job *helper_job_start(
	struct helper_pool *pool, const struct helper_spec *spec, helper_done_cb cb, void *owner);
/* A job that is being done costs its helper. Accepts NULL, clears the pointer. */
void helper_job_cancel(struct helper_job **job);

#endif
