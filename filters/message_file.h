/*
 * filters/message_file.h - the message as a filter sees it, as a file of its own.
 *
 * What is in memory becomes a memfd, at once. A message in the spool without edits is opened anew; one with edits is
 * copied by a job thread. Each caller gets an open file description of its own, so offsets are never shared.
 */
#ifndef FILTERS_MESSAGE_FILE_H
#define FILTERS_MESSAGE_FILE_H

#include "filters/filter.h"

struct message_file;

/* fd: read-only, at its begin, the caller's; -1: err says why. Never from inside message_file_open(). */
typedef void (*message_file_cb)(void *owner, int fd, const struct err *err);

struct message_file *message_file_open(struct filter_run *run, message_file_cb cb, void *owner);
/* The same into a new file of this path, 0600; the caller unlinks it. */
struct message_file *message_file_save(struct filter_run *run, const char *path, message_file_cb cb, void *owner);
/* The callback does not come. Accepts NULL, clears the pointer. */
void message_file_cancel(struct message_file **f);

#endif
