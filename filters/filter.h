/*
 * filters/filter.h - the contract between the chain and one kind of filter.
 *
 * A kind is one constant struct filter_kind in one file, and one line in filters/list.h. Its
 * instances are blocks of the configuration. For each message a filter looks at, the chain makes a
 * struct filter_run and calls message(); the filter answers now, or says FILTER_WAIT and calls
 * filter_resume() once, later, from the loop. It never touches the message: it returns a verdict
 * and edits.
 *
 * Deadlines, on_failure, order and logging are the chain's; a kind only says what it found.
 */
#ifndef FILTERS_FILTER_H
#define FILTERS_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/log.h"
#include "config/config.h"
#include "filters/chain.h"
#include "mail/edit.h"
#include "mail/msg.h"
#include "mail/verdict.h"
#include "net/worker.h"
#include "work/helper.h"

enum filter_step {
	FILTER_NEXT,  /* nothing to object, go on with the next filter */
	FILTER_STOP,  /* run->verdict is final, skip the others */
	FILTER_WAIT,  /* filter_resume() will be called, once */
	FILTER_ERROR, /* run->err says why; on_failure decides */
};

/* What becomes of a message when a filter fails. Never an accept. */
enum filter_failure {
	FILTER_FAIL_TEMPFAIL,
	FILTER_FAIL_REJECT,
	FILTER_FAIL_PASS,
	FILTER_FAIL_DISCONNECT,
};
extern const char *const filter_failure_names[];

/* Common to all kinds: groups[0] of their sections. */
struct filter_conf {
	int64_t timeout_ms;
	int on_failure; /* enum filter_failure */
};
extern const struct config_option filter_options[];

/* The edits a kind can ask for: one bit per enum mail_edit_kind. */
#define FILTER_MAY(edit) (1u << (edit))

struct filter_kind;

/* One configured instance; shared by all workers, read-only. */
struct filter {
	const char *name;
	const struct filter_kind *kind;
	const struct filter_conf *common;
	void *conf;
};

/* One filter at work on one message. Lives in the message's arena. */
struct filter_run {
	const struct filter *filter;
	const void *conf; /* the kind's own, filled from its options */
	void *data;       /* run_size octets, zeroed */
	struct arena *arena;
	const struct mail_msg *msg;
	const size_t *rcpts; /* those it speaks about: indices into msg->rcpts */
	size_t rcpt_count;
	const struct mail_edits
		*seen; /* the message as it is for this filter; for mail_view_init() */
	const struct filter_env *env;
	const struct log_ctx *log;

	struct mail_edits *edits;    /* out: count only together with a valid final verdict */
	struct mail_verdict verdict; /* out: for FILTER_STOP */
	struct err err;              /* out: for FILTER_ERROR */
};

struct filter_kind {
	struct config_section section; /* FILTER_SECTION: name, sentence, options */

	size_t run_size; /* of run->data */
	bool inspects;   /* never edits: may run beside its neighbours */
	unsigned may;    /* FILTER_MAY bits */
	const char *job; /* a row of helper/list.h, or NULL */

	/* After each load, in whatever thread loads; conf may be completed here. teardown comes
	 * once for each setup, also for one that failed. */
	int (*setup)(void *conf, struct err *err);
	void (*teardown)(void *conf);

	/* The message is complete and spooled. */
	enum filter_step (*message)(struct filter_run *);
	/* The deadline has passed, the verdict is no longer wanted or the client left while this
	 * run waits. Stop, and do not resume. */
	void (*cancel)(struct filter_run *);
};

/* The kind is filter_NAME; options_ has rows for conf_. */
#define FILTER_SECTION(name_, help_, options_, conf_)                                              \
	.section = {                                                                               \
		.name = #name_,                                                                    \
		.help = help_,                                                                     \
		.arity = CONFIG_NAMED,                                                             \
		.space = "filter",                                                                 \
		.groups = {{filter_options, sizeof(struct filter_conf)},                           \
			{options_, sizeof(conf_)}},                                                \
		.owner = &filter_##name_,                                                          \
	}

/* Ends a run that waits; never from inside message(). The last thing the caller does with the run:
 * its memory may be gone afterwards. A second call for the same run is an assertion. */
void filter_resume(struct filter_run *run, enum filter_step how);

/* For `return filter_reject(run, 550, "5.7.1", "no")` and for filter_resume(). Text is cleaned and
 * copied; 0 and NULL mean the kind's defaults. */
enum filter_step filter_reject(
	struct filter_run *run, int code, const char *status, const char *text);
enum filter_step filter_tempfail(
	struct filter_run *run, int code, const char *status, const char *text);
enum filter_step filter_discard(struct filter_run *run);
/* Only where the administrator wrote that this filter accepts. */
enum filter_step filter_accept(struct filter_run *run);
enum filter_step filter_fail(struct filter_run *run, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* What a helper said: its verdict, or a failure. */
enum filter_step filter_from_helper(struct filter_run *run, const struct helper_result *result);

#endif
