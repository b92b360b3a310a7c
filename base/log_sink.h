/*
 * base/log_sink.h - where finished lines go: stderr, a file, syslog, the journal. Private to the log.
 *
 * The sink is one for the process, behind one mutex; every function may be called by any thread.
 */
#ifndef BASE_LOG_SINK_H
#define BASE_LOG_SINK_H

#include <stdbool.h>

#include "base/log.h"
#include "base/str.h"

#define SYSLOG_LINE_MAX 900 /* behind the head; relays after RFC 3164 take 1024 in all */

struct log_line {
	size_t offset; /* in the batch's text */
	size_t len;    /* with its '\n' */
	enum log_level level;
};

/* Lines of one thread, waiting for the sink. */
struct log_batch {
	struct str text;
	struct log_line *lines;
	size_t count;
	size_t size;	/* allocated lines */
	unsigned place; /* where they were meant to go */
};

void log_batch_add_line(struct log_batch *b, size_t offset, enum log_level level);
/* Empty again; keeps the memory. */
void log_batch_clear(struct log_batch *b);
void log_batch_deinit(struct log_batch *b);

/* See log_check(). */
int log_sink_check(const struct log_conf *conf, struct err *err);
/* place_r: its number, for batches. Batches for the target of before go there for some seconds more. */
int log_sink_open(const struct log_conf *conf, unsigned *place_r, struct err *err);
int log_sink_reopen(struct err *err);
/* See base/log.h. */
void log_sink_unblock_stderr(void);
/* Closes the target of before when its time is over. Cheap while there is none. */
void log_sink_tidy(void);
/* In a child: what its parent has begun to write, and has not told yet, is the parent's. */
void log_sink_forked(void);
/*
 * Writes the batch and clears it, but for lines that a socket or pipe would take later. lost_r gets how many
 * lines of anybody were lost since this was last told, once lines get through again: the caller
 * logs it, or gives NULL.
 */
void log_sink_write(struct log_batch *b, unsigned long *lost_r);
/* A line of which only a part was taken goes on, also when nobody has another one. True: there is none. */
bool log_sink_end_line(void);
/* Counts its lines as lost. */
void log_sink_forget(struct log_batch *b);
/* Lines lost since the start; never waits. */
unsigned long log_sink_lost(void);

#endif
