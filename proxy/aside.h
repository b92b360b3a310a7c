/*
 * proxy/aside.h - what one transaction sets aside: prepared, then committed with the answer, or dropped.
 *
 * Job threads do the work (spool/quarantine.h). While one is busy with it the mails' memory must stay.
 */
#ifndef PROXY_ASIDE_H
#define PROXY_ASIDE_H

#include <stdbool.h>

#include "base/arena.h"
#include "net/worker.h"
#include "spool/quarantine.h"

struct aside;

/* What was begun last is over; err is NULL when it went well. From the loop, never from inside a call. */
typedef void (*aside_cb)(void *owner, const struct err *err);

/* Prepares all of them, or none. directory is copied, mails is borrowed until done() was called for the first time. */
struct aside *aside_start(struct net_worker *worker, const char *directory, const struct quarantine_mail *mails,
	size_t count, aside_cb done, void *owner);
/* Once they are prepared. When it fails they can only be dropped. */
void aside_commit(struct aside *aside);
/* done() is still to come. */
bool aside_is_busy(const struct aside *aside);
/* The id of each, once they are prepared. Borrowed. */
const char *aside_id(const struct aside *aside, size_t i);

/* When it is not busy. They stay; or they go, in their own time. Both accept NULL. */
void aside_keep(struct aside **aside);
void aside_drop(struct aside **aside);

#endif
