/*
 * net/reason.h - the words for an errno as they stand in our messages.
 */
#ifndef NET_REASON_H
#define NET_REASON_H

/* "connection refused"; lasts for ever, never NULL. */
const char *net_reason(int errnum);

#endif
