/*
 * base/log_repeat.h - which faults were told of late, and how often they came since. Private to the log.
 *
 * One table for the process, behind one mutex. It is bounded: when it is full the oldest row makes
 * place, and what it had counted is told.
 */
#ifndef BASE_LOG_REPEAT_H
#define BASE_LOG_REPEAT_H

#include "base/log_line.h"

#define LOG_REPEAT_MS 60000
#define LOG_REPEAT_ROWS 64

/* Writes the line, with its count unless that is 0; called with the lock held. */
typedef void log_repeat_put(struct log_head *head, struct log_pairs *pairs, unsigned long count);

/* A fault has come: puts it now, or counts it. */
void log_repeat_note(const struct log_head *head, const char *which, struct log_pairs *pairs, log_repeat_put *put);
/* Puts what was counted and is due. Cheap while there is nothing. */
void log_repeat_due(log_repeat_put *put);
/* Puts all that was counted, at the end of the process. */
void log_repeat_all(log_repeat_put *put);

#endif
