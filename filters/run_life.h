/*
 * filters/run_life.h - the life of one run of a filter, from its conditions to its verdict.
 *
 * Private to filters/chain.c and filters/gate.c: they say of what a filter is asked and what its answer is good for.
 * Here are conditions, slots, breaker, deadlines, on_failure, on_reject, the edits a filter may make, shadow, counts and
 * the log, the same for both.
 *
 *	run_init(run, &(struct run_spec){ .filter = f, .stage = FILTER_RCPT, ... });
 *	if (run_start(run, facts, deadline))
 *		look at run->verdict
 *	else
 *		ended(owner) will come, once, from the loop; or run_cancel() comes first
 *
 * A run lives in the arena of its spec, on one worker. When ended() is called nothing here touches the run any more,
 * so the owner may free all of it. Who frees the arena of a run that waits must cancel it before.
 */
#ifndef FILTERS_RUN_LIFE_H
#define FILTERS_RUN_LIFE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/str.h"
#include "filters/filter.h"

enum run_state {
	RUN_NEW,       /* not begun */
	RUN_QUEUED,    /* for a slot */
	RUN_STARTING,  /* inside the kind's function */
	RUN_WAITING,   /* filter_resume() will come, or the timer */
	RUN_ENDED,     /* verdict holds */
	RUN_CANCELLED, /* nobody wants its verdict any more */
};

/* What is asked. Borrowed as long as the run lives, but for the struct itself. */
struct run_spec {
	const struct filter *filter;
	enum filter_stage stage;
	struct arena *arena;
	const struct filter_env *env;
	const struct log_ctx *log;
	const struct spool_conf *spool;
	const struct mail_msg *msg;   /* in the gate: what is known by then */
	const struct mail_rcpt *rcpt; /* at FILTER_RCPT */
	const size_t *rcpts;	      /* at FILTER_MESSAGE */
	size_t rcpt_count;
	const struct mail_edits *seen; /* the version it looks at; in the gate an empty list (mail_edits_init) */
	void (*ended)(void *owner);
	void *owner;
};

struct run {
	struct filter_run pub; /* first: filter_resume() finds the run by it */
	/* For the owner to read. */
	enum run_state state;
	bool is_skipped; /* it was not begun, because of its conditions or because it has nothing to do at this stage;
			  * and passes */
	bool failed;	 /* verdict is on_failure's; its edits do not count */
	bool is_shadow;	 /* verdict is a pass whatever it found, its edits do not count; and ... */
	enum verdict_kind found;	/* ... this is what it would have been */
	bool is_rejection;		/* on_reject has made another verdict of its reject */
	struct mail_verdict verdict;	/* once RUN_ENDED: what the owner acts upon; a legal one for its stage */
	const struct mail_edits *after; /* once RUN_ENDED: the version that its edits make; pub.seen without any */
	uint64_t ms;			/* how long it took */
	STAILQ_ENTRY(run) next;		/* a list of the owner's */
	/* Private to run_life.c. */
	void (*ended)(void *owner);
	void *owner;
	uint64_t began, deadline; /* clock_ms */
	bool is_budget;		  /* the timer is the deadline, not the filter's timeout or max_wait */
	bool has_begun;		  /* is counted */
	bool is_asked;		  /* of the kind, which the breaker wants to hear the end of */
	bool is_probe;
	bool has_slot;
	bool is_fault; /* it failed, and not for a reason of ours */
	struct slot_wait *wait;
	struct net_timer timer;
};
STAILQ_HEAD(run_list, run);

/* Has this filter anything to say at this stage? Who asks before making a run spares one that is skipped. */
bool run_has_stage(const struct filter *f, enum filter_stage stage);
void run_init(struct run *run, const struct run_spec *spec);
/*
 * facts: of the same message as spec's, one for all the runs that look at it; used only inside the call. deadline
 * (clock_ms): the end of the budget of all; a run that is not over by then is a tempfail, whatever on_failure says.
 * Returns true when the run has ended already; then ended() was not and will not be called.
 */
bool run_start(struct run *run, struct conditions_facts *facts, uint64_t deadline);
/* Its verdict is no longer wanted: ended() never comes. Does nothing to a run that neither waits nor is queued. */
void run_cancel(struct run *run);
/* One that is never begun, but told of: as if its conditions did not hold. */
void run_skip(struct run *run);
/* What became of the message, or the command, in the end. Had a shadow found otherwise, that is counted, and it returns
 * true: once is enough. */
bool run_compare(const struct run *run, enum verdict_kind outcome);
/*
 * "virus:pass/41ms", "spf:skipped" or "virus:cancelled/7ms"; of a shadow what it would have said,
 * "new:shadow-reject/3ms"; and what on_reject has made of a reject, "virus:reject-quarantine/3ms".
 */
void run_describe(const struct run *run, struct str *out);
/* Only what it said: "pass", "skipped", "shadow-reject". */
void run_word(const struct run *run, struct str *out);

#endif
