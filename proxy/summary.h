/*
 * proxy/summary.h - the one line that every transaction leaves in the log, and what it adds to the counters.
 */
#ifndef PROXY_SUMMARY_H
#define PROXY_SUMMARY_H

struct txn;

void summary_log(const struct txn *txn);
/* The same for the counters. */
void summary_count(const struct txn *txn);

#endif
