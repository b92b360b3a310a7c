/*
 * filters/chain.h - one message through its plan: steps, waiting, deadlines, on_failure.
 *
 * proxy/txn.c makes a chain when the message is complete and asks for each recipient's result when
 * it is over. A chain lives on one worker, in the message's arena.
 */
#ifndef FILTERS_CHAIN_H
#define FILTERS_CHAIN_H

#include "base/log.h"
#include "base/str.h"
#include "mail/msg.h"
#include "mail/verdict.h"
#include "net/worker.h"

struct chain;
struct filter_set;
struct filter_trace;
struct helper_pool;
struct program_client;
struct spool_worker;

/* What filters find around them; filled by proxy/ once per worker, borrowed. */
struct filter_env {
	struct net_worker *worker;
	struct helper_pool *helpers;	 /* NULL: there are none */
	struct program_client *programs; /* likewise */
	struct spool_worker *spool;	 /* where new bodies are counted */
	const struct filter_trace *trace; /* NULL: nobody watches */
};

enum chain_step {
	CHAIN_DONE, /* every recipient is settled; the callback was not and will not be called */
	CHAIN_WAIT, /* the callback will be called, once, from the loop */
};

/* The outcome for one recipient. edits is the version of the message it gets. */
struct chain_result {
	struct mail_verdict verdict;
	const struct mail_edits *edits;
	unsigned group; /* from 0; the same verdict (accept is a pass here) and the same edits */
};

/*
 * Plans and starts. budget_ms bounds all of it: a chain that is not over by then is a tempfail. set
 * is kept alive by the caller (the transaction's configuration snapshot) until the chain is over or
 * cancelled.
 */
enum chain_step chain_start(const struct filter_set *set, const struct filter_env *env,
	const struct log_ctx *log, const struct mail_msg *msg, int64_t budget_ms,
	void (*done)(void *owner), void *owner, struct chain **chain_r);
/* Ends all runs; the callback never comes. Accepts NULL. The memory goes with the arena. */
void chain_cancel(struct chain **chain);

/* Once it is over. */
const struct chain_result *chain_result(const struct chain *chain, size_t rcpt);
unsigned chain_group_count(const struct chain *chain);
/* "spf:skipped,virus:pass/41ms" in the order they ran; nothing when there was no filter. */
void chain_describe(const struct chain *chain, struct str *out);

#endif
