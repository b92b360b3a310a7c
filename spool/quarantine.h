/*
 * spool/quarantine.h - messages set aside: written, synced, and kept until somebody looks at them.
 *
 * An entry is a folder named by its id, with two files: `message`, the content with its edits, and
 * `metadata.json`, who sent it to whom and why it is here. It is written below tmp/ and appears, whole and
 * synced, by one rename. Ids sort by time.
 *
 * What is prepared and not committed was never promised to anybody: the front still has the message. So it is
 * removed, at the next start if need be; a lock on its folder tells those of engines that live. All functions
 * block: they are for job threads and for the start.
 */
#ifndef SPOOL_QUARANTINE_H
#define SPOOL_QUARANTINE_H

#include <stddef.h>

#include "base/err.h"
#include "config/option.h"
#include "mail/body.h"
#include "mail/edit.h"
#include "mail/envelope.h"
#include "mail/msg.h"

#define QUARANTINE_MESSAGE  "message"
#define QUARANTINE_METADATA "metadata.json"
/* Of the metadata; one that only adds members keeps it. */
#define QUARANTINE_VERSION 1
#define QUARANTINE_ID_SIZE 64

struct quarantine_conf {
	const char *directory; /* NULL: there is no quarantine */
};
extern const struct config_option quarantine_options[];

/* As spool_check(); 0 when there is no quarantine. */
int quarantine_check(const struct quarantine_conf *conf, struct err *err);

/* What is written. All borrowed; NULL where it is not known. */
struct quarantine_mail {
	const char *verdict, *filter, *reason;
	const char *session; /* "7f3a01-1": session and transaction, as in the log */
	const char *front_id, *msgid;
	const struct mail_origin *origin;
	const struct mail_sender *sender;
	const struct mail_rcpt *const *rcpts; /* those for whom it is quarantined */
	size_t rcpt_count;
	const struct mail_body *body;
	const struct mail_edits *edits;
};

struct quarantine_entry;

/* On disk and synced, but not to be seen. NULL: nothing is left behind, the error is temporary. */
struct quarantine_entry *quarantine_prepare(
	const char *directory, const struct quarantine_mail *mail, struct err *err);
/* It appears. -1 with a temporary error: it does not, and can only be dropped. */
int quarantine_commit(struct quarantine_entry *entry, struct err *err);
/* Borrowed from the entry. */
const char *quarantine_id(const struct quarantine_entry *entry);
/* It stays as it is; the memory goes. Accepts NULL. */
void quarantine_keep(struct quarantine_entry **entry);
/* It goes, whether it was committed or not. Accepts NULL. */
void quarantine_drop(struct quarantine_entry **entry);

/* Removes what was prepared by those who do not live any more. Returns how many. */
unsigned quarantine_sweep(const char *directory);

#endif
