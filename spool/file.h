/*
 * spool/file.h - one message while it arrives: memory first, then an unnamed file.
 *
 * Up to `inline` octets stay in memory (bounded per worker by `inline_total`); larger content goes
 * to an O_TMPFILE file (create and unlink where the file system has none) in writes of at least
 * 64 KiB. The page cache makes that write quick; one over 20 ms is counted and logged.
 */
#ifndef SPOOL_FILE_H
#define SPOOL_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "config/option.h"
#include "mail/body.h"

struct spool_conf {
	const char *directory;
	int64_t inline_max;
	int64_t inline_total;
	int64_t min_free;
};
extern const struct config_option spool_options[];

/* Makes the folder (0700) when its parent allows, and refuses one that others can read or write,
 * that is a symbolic link (or reached by another user's), or that is not ours; the text says what
 * would be right. Sweeps nothing: unnamed files vanish by themselves. */
int spool_check(const struct spool_conf *conf, struct err *err);

/* Is there room for more mail: min_free octets, and inodes where the file system counts them. -1
 * with a temporary error. */
int spool_room(const struct spool_conf *conf, struct err *err);

/* What one worker holds in memory; plain counters, one per worker. */
struct spool_worker {
	int64_t inline_used;
	uint64_t slow_writes;
};

/* Writes into a body that mail_body_init() prepared. Lives in its owner's struct. */
struct spool_writer {
	const struct spool_conf *conf;
	struct spool_worker *worker;
	struct mail_body *body;
	char *buffer; /* 64 KiB, only once there is a file */
	size_t buffered;
	int64_t held; /* octets counted in worker->inline_used */
	bool slow;    /* logged once per message */
	bool failed;
	struct err err;
};

void spool_writer_init(struct spool_writer *w, const struct spool_conf *conf,
	struct spool_worker *worker, struct mail_body *body);
/* dot_line: the first octet is a '.' at the begin of a line. After a failure (disk full) it takes
 * and drops everything, so that the dialog stays in step; spool_finish() then says so. */
void spool_append(struct spool_writer *w, const char *data, size_t len, bool dot_line);
/* Writes what is buffered, frees the buffer. 0, or -1 with a temporary error (452 4.3.1). */
int spool_finish(struct spool_writer *w, struct err *err);
/* Gives back what inline_used counts. Call before mail_body_deinit(). */
void spool_writer_deinit(struct spool_writer *w);

#endif
