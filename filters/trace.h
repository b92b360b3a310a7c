/*
 * filters/trace.h - for who watches one message on its way through the filters: `postern -1 --explain`.
 *
 * Called on the worker, between two steps of the chain; what is handed in is borrowed for the call.
 */
#ifndef FILTERS_TRACE_H
#define FILTERS_TRACE_H

struct filter_chain;
struct mail_msg;
struct run;

struct filter_trace {
	/* The chain of each recipient; NULL where the rules could not be asked to the end. */
	void (*chosen)(void *owner, const struct mail_msg *msg, const struct filter_chain *const *chains);
	/* A run has ended, was skipped or cancelled. One that all recipients' conditions left out has no msg. */
	void (*ran)(void *owner, const struct run *run);
	void *owner;
};

#endif
