/*
 * proxy/separate.h - senders whose recipients are taken one at a time for a while.
 *
 * After a transaction whose recipients got differing results, nothing was delivered and the front was told 4xx;
 * when it comes again, each recipient gets a transaction, and so an answer, of its own. Shared by all workers.
 */
#ifndef PROXY_SEPARATE_H
#define PROXY_SEPARATE_H

#include <stdbool.h>
#include <stdint.h>

/* For so long from now on; 0: not at all. */
void separate_note(const char *listener, const char *sender, int64_t ms);
/* Asked when a second recipient comes. A yes lets the time begin anew, within bounds. */
bool separate_is_on(const char *listener, const char *sender);

#endif
