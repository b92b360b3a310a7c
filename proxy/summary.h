/*
 * proxy/summary.h - the one line that every transaction leaves in the log.
 */
#ifndef PROXY_SUMMARY_H
#define PROXY_SUMMARY_H

struct txn;

void summary_log(const struct txn *txn);

#endif
