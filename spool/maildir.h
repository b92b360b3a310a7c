/*
 * spool/maildir.h - delivery into a maildir: the embedded back-end `maildir PATH`.
 *
 * The message is written to tmp/, synced, and linked into new/, which is synced too: when the
 * function says 0, the mail survives a power failure. Line ends become LF, as every reader of
 * maildirs expects; Return-Path and Delivered-To lines stand in front. A failure leaves no file
 * behind.
 */
#ifndef SPOOL_MAILDIR_H
#define SPOOL_MAILDIR_H

#include <stddef.h>

#include "base/err.h"
#include "mail/body.h"
#include "mail/edit.h"
#include "mail/envelope.h"

/* All borrowed. */
struct maildir_mail {
	const struct mail_sender *sender;
	const struct mail_rcpt *const *rcpts; /* one Delivered-To line each */
	size_t rcpt_count;
	const struct mail_body *body;
	const struct mail_edits *edits; /* may be NULL */
};

/*
 * Blocking: for job threads and tools. Makes the maildir and its three folders (0700) where its
 * parent exists. hostname goes into the file's name. 0, or -1 with a temporary error.
 */
int maildir_deliver(
	const char *path, const char *hostname, const struct maildir_mail *mail, struct err *err);

#endif
