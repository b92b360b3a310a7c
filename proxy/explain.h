/*
 * proxy/explain.h - `postern -1` that does not send: tells what happens to the message, and what would.
 *
 * The watcher of one worker: what it hears of filters and of the end goes to a file as it happens.
 */
#ifndef PROXY_EXPLAIN_H
#define PROXY_EXPLAIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

#include "filters/trace.h"
#include "proxy/options.h"
#include "proxy/settle.h"

struct explain {
	const struct settings *settings;
	const struct listener *listener;
	FILE *story;   /* rule, filters, verdict; NULL: not wanted */
	FILE *message; /* what would be delivered; NULL: likewise */
	struct filter_trace trace; /* set by explain_init() */
	unsigned messages;	   /* told of */
	atomic_bool is_passed; /* the last one would be delivered, so that its reply is not ours; told by the worker to
				* the front */
};

void explain_init(struct explain *e);
/* A reply to a command of the envelope, or to the content ("."). */
void explain_reply(struct explain *e, const char *command, const char *reply);
/* In place of delivery and quarantine. */
void explain_settled(struct explain *e, const struct mail_msg *msg, const struct settlement *settled);

#endif
