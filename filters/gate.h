/*
 * filters/gate.h - the filters of a listener that are asked while the envelope is being given.
 *
 * A session whose listener names any has a gate. proxy/ asks it when the client connects, at HELO, MAIL and RCPT,
 * one question at a time, and gets one verdict: the reply to that command. It asks the filters in their order; one
 * that does not pass ends the stage.
 *
 * What holds for longer than a command is remembered here. `accept`: none of the others is asked any more, at connect
 * for the session, at helo until the next name, at mail for the transaction, at rcpt for this recipient. `quarantine`:
 * of the messages within that scope. A fault is not remembered: at connect and helo the client may go on (but with
 * `on_failure pass`, which is an answer), and each MAIL asks that stage again, until there is one.
 */
#ifndef FILTERS_GATE_H
#define FILTERS_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "filters/filter.h"
#include "filters/rules.h"

struct gate;

/* What one transaction has of it. Lives in the transaction, zeroed. */
struct gate_txn {
	bool is_accepted; /* at mail: nobody is asked about its recipients */
	struct gate_told *told, *last; /* private: for gate_describe() */
};

/* All is borrowed until the answer. */
struct gate_question {
	enum filter_stage stage;	    /* not FILTER_MESSAGE */
	const struct filter_chain *filters; /* of the listener */
	const struct filter_env *env;
	const struct spool_conf *spool;
	const struct log_ctx *log;
	struct arena *arena;	    /* for the runs and the verdict */
	const struct mail_msg *msg; /* with what is known by now, sender and body NULL before */
	const struct mail_rcpt *rcpt; /* at FILTER_RCPT */
	struct gate_txn *txn; /* from FILTER_MAIL on */
	int64_t budget_ms;    /* for all that is asked; then it is a tempfail */
	/* The last thing in an event: the owner may free everything. */
	void (*answered)(void *owner, const struct mail_verdict *verdict);
	void *owner;
};

struct gate *gate_new(void);
void gate_free(struct gate **gate);

/*
 * true: *verdict_r holds, and answered() is not called. At connect and helo the verdict is pass, reject, tempfail or
 * disconnect; at mail and rcpt also discard and quarantine, which are about the message or this recipient. Never
 * accept. Its texts live in the arena.
 */
bool gate_ask(struct gate *gate, const struct gate_question *question, struct mail_verdict *verdict_r);
/* answered() never comes. Accepts NULL, and a gate that is asked nothing. */
void gate_cancel(struct gate *gate);

/* Can this filter be of use in a gate? Not where no stage is both its own and one at which its conditions are known.
 * NULL: yes. Else why not, in the arena. */
const char *gate_objection(const struct filter *filter, struct arena *arena);

/* "black@mail:pass/0ms,rate@rcpt:pass*3/1ms": what the transaction's MAIL and RCPTs have asked, alike answers of one
 * filter together; nothing when there were none. */
void gate_describe(const struct gate_txn *txn, struct str *out);

#endif
