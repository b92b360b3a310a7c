/*
 * proxy/log_events.h - every event of the log and its keys, for doc/log-lines.md and the tests.
 */
#ifndef PROXY_LOG_EVENTS_H
#define PROXY_LOG_EVENTS_H

#include <stdio.h>

/* The page doc/log-lines.md. */
void log_events_print(FILE *out);

#endif
