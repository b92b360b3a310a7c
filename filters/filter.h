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
#include "base/count.h"
#include "base/err.h"
#include "base/log.h"
#include "config/config.h"
#include "filters/breaker.h"
#include "filters/chain.h"
#include "filters/conditions.h"
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
	FILTER_FAIL_QUARANTINE,
};
extern const char *const filter_failure_names[];

/* What its reject becomes: not that of on_failure. */
enum filter_on_reject {
	FILTER_ON_REJECT_REJECT,
	FILTER_ON_REJECT_DISCARD,
	FILTER_ON_REJECT_QUARANTINE,
	FILTER_ON_REJECT_PASS,
};
extern const char *const filter_on_reject_names[];

/* When a filter is asked. The first four are the gate: the envelope is being given, and a refusal is the reply to
 * that command. */
enum filter_stage { FILTER_CONNECT, FILTER_HELO, FILTER_MAIL, FILTER_RCPT, FILTER_MESSAGE };
#define FILTER_STAGE_COUNT (FILTER_MESSAGE + 1)
extern const char *const filter_stage_names[];

/* Common to all kinds: groups[0] of their sections. */
struct filter_conf {
	int64_t timeout_ms;
	int on_failure; /* enum filter_failure */
	int max_instances; /* 0: no limit */
	int64_t max_wait_ms; /* 0: timeout_ms */
	struct breaker_conf breaker;
	int on_reject; /* enum filter_on_reject */
	const char *reject_text, *tempfail_text; /* NULL: the filter's */
	struct config_words may;
	bool shadow;
	struct condition_conf when;
};
extern const struct config_option filter_options[];

/* The edits a kind can ask for: one bit per enum mail_edit_kind. */
#define FILTER_MAY(edit) (1u << (edit))

struct dial_conf;
struct filter_kind;
struct slots;
struct filter_marks;

/* What is counted of one filter, on one worker. Those that were begun and neither ended with a verdict (also one as a
 * shadow) nor were cancelled are running; who waits for a slot has not begun. */
struct filter_counts {
	struct count begun, cancelled;
	struct count skipped; /* not begun, because of its conditions */
	struct count verdicts[VERDICT_COUNT];
	struct count shadows[VERDICT_COUNT]; /* likewise, of a shadow: what it would have been */
	struct count disagreements; /* of these, other than what became of the message */
	struct count failures, timeouts; /* on_failure or the budget answered; of these, because of its timeout */
	struct count wait_timeouts, stopped; /* of these, for want of a slot, and because the breaker was open */
	struct count_times duration;	 /* of those that ended with a verdict */
} COUNT_ALIGNED;

/* One configured instance; shared by all workers, read-only. */
struct filter {
	const char *name;
	const struct filter_kind *kind;
	const struct filter_conf *common;
	struct conditions *conditions; /* NULL: it looks at every message */
	void *conf;
	unsigned may;	/* FILTER_MAY bits: what the kind asks for and `may` permits */
	bool is_shadow; /* changes nothing of the message */
	const void *answer; /* of kind->choose(), for these recipients; else NULL */
	const char *unknown; /* why it is not known whether it looks at mail for these recipients; else NULL */
	struct filter_counts *counts; /* one per worker; NULL: nobody counts */
	struct slots *slots;	      /* of that name (filters/registry.h); NULL: no limits */
	struct breaker *breaker;      /* likewise; NULL: none */
};

/* What the common options say of it: into may and is_shadow; errors go to conf. */
void filter_set_up_common(struct config *conf, const struct config_block *block, struct filter *f);
/* As `may` has it: "add_header". */
const char *filter_may_word(enum mail_edit_kind kind);
/* Does an instance with these options change nothing of the message, ever? Then those behind it may run beside it. */
bool filter_looks_only(const struct filter_kind *kind, const void *conf, bool is_shadow);
/* May it begin, besides, while those before it are undecided? */
bool filter_may_join(const struct filter_kind *kind, const void *conf, bool is_shadow);

/* One filter at work on one message. Lives in the message's arena. */
struct filter_run {
	const struct filter *filter;
	const void *conf; /* the kind's own, filled from its options */
	void *data;       /* run_size octets, zeroed */
	enum filter_stage stage;
	struct arena *arena;
	const struct mail_msg *msg; /* in the gate: without what is not known yet (sender, body) */
	const struct mail_rcpt *rcpt; /* at FILTER_RCPT, the one that is being given */
	const struct spool_conf *spool; /* for filters/new_body.h */
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

/* option: which one is to blame. */
typedef void (*filter_warn_fn)(void *owner, const char *option, const char *text);

struct filter_kind {
	struct config_section section; /* FILTER_SECTION: name, sentence, options */

	size_t run_size; /* of run->data */
	bool inspects;   /* never edits: may run beside its neighbours */
	/* What it does outside of the message cannot be taken back: it begins, also as a shadow, only when the filters
	 * before it have let the message through. */
	bool has_effects;
	bool is_prompt;  /* never says FILTER_WAIT: its timeout takes nothing of the budget */
	unsigned may;    /* FILTER_MAY bits */
	/* Of these, all that an instance with these options will ever ask for; NULL: one cannot tell. With none of them
	 * it inspects. Before setup, too. */
	unsigned (*asks)(const void *conf);
	const char *job; /* a row of helper/list.h, or NULL */

	/* Before setup: files that belong to the configuration; what is wrong with them goes to conf as errors. */
	void (*read)(void *own, struct config *conf, const struct config_block *block);
	/*
	 * For a kind whose answer is a matter of sender and recipient alone. *answer_r: what it has to say to this
	 * recipient; recipients of one message with the same pointer share a run, which finds it in run->filter.
	 * NULL: nothing, and it is left out of this recipient's chain. -1: not known.
	 */
	int (*choose)(const void *own, const char *sender, const char *rcpt, const void **answer_r, struct err *err);

	/* After each load, in whatever thread loads; conf may be completed here. teardown comes
	 * once for each setup, also for one that failed. */
	int (*setup)(void *conf, struct err *err);
	void (*teardown)(void *conf);
	/* The command that it runs, its path first; for `postern -t`. NULL: it runs none. */
	const struct config_words *(*program)(const void *conf);
	/* Where the service is that it asks (filters/dial.h); for `postern -t`. NULL: it asks none. */
	const struct dial_conf *(*service)(const void *conf);

	/* Which fields its filters tell their verdicts by (filters/mark.h); NULL: none. After setup. */
	void (*marks)(const void *conf, struct filter_marks *marks);

	/* For `postern -t`, in a process that may be held up: what is not as it should be outside of the configuration,
	 * for messages of at most this size. NULL: nothing can be seen. */
	void (*check)(const void *conf, int64_t size_max, filter_warn_fn warn, void *owner);

	/* Of the stages below, those at which this instance speaks: one bit each. NULL: at all. */
	unsigned (*at)(const void *conf);
	/* The gate; NULL: it has nothing to say at this stage. */
	enum filter_step (*connect)(struct filter_run *);
	enum filter_step (*helo)(struct filter_run *);
	enum filter_step (*mail)(struct filter_run *);
	enum filter_step (*rcpt)(struct filter_run *);
	/* The message is complete and spooled. NULL: a filter for the gate alone. */
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
/* For cancel(): what was begun goes on for a while, and is still one of max_instances until slots_give(). NULL: there
 * is nothing to give back. */
struct slots *filter_keep_slot(struct filter_run *run);

/* For `return filter_reject(run, 550, "5.7.1", "no")` and for filter_resume(). Text is cleaned and
 * copied; 0 and NULL mean the kind's defaults. */
enum filter_step filter_reject(
	struct filter_run *run, int code, const char *status, const char *text);
enum filter_step filter_tempfail(
	struct filter_run *run, int code, const char *status, const char *text);
/* Always 421. */
enum filter_step filter_disconnect(struct filter_run *run, const char *status, const char *text);
enum filter_step filter_discard(struct filter_run *run);
/* text: the reason, for the log and for who looks at it later; never said to the client. */
enum filter_step filter_quarantine(struct filter_run *run, const char *text);
/* Only where the administrator wrote that this filter accepts. */
enum filter_step filter_accept(struct filter_run *run);
enum filter_step filter_fail(struct filter_run *run, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* What a helper said: its verdict, or a failure. */
enum filter_step filter_from_helper(struct filter_run *run, const struct helper_result *result);

#endif
