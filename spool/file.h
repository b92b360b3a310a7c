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

#include "base/count.h"
#include "base/err.h"
#include "config/option.h"
#include "mail/body.h"
#include "spool/spare.h"

struct spool_conf {
	const char *directory;
	int64_t inline_max;
	int64_t inline_total;
	int64_t min_free;
};
extern const struct config_option spool_options[];

/* spool/folder.h says of what. Sweeps nothing: unnamed files vanish by themselves. */
int spool_check(const struct spool_conf *conf, struct err *err);

/* A new file without a name, for reading and writing; -1 with errno. Any thread. */
int spool_open_unnamed(const char *directory);

/* Is there room for more mail: min_free octets, and inodes where the file system counts them. How many
 * octets more than min_free are free, or -1 with a temporary error. */
int64_t spool_room(const struct spool_conf *conf, struct err *err);

/* What one worker has in its spool now, in octets, and how often a write was slow; any thread may read it. */
struct spool_worker {
	struct count inline_used;
	struct count file_used;
	struct count slow_writes;
	struct spool_spares spares; /* its own thread's */
};

/* Writes into a body that mail_body_init() prepared. Lives in its owner's struct. */
struct spool_writer {
	const struct spool_conf *conf;
	struct spool_worker *worker;
	struct mail_body *body;
	char *buffer; /* 64 KiB, only once there is a file */
	size_t buffered;
	int64_t held;  /* octets counted in worker->inline_used */
	int64_t filed; /* likewise in worker->file_used */
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
/* Nobody reads the body any more: if it has a file the worker may keep it as a spare one. */
void spool_writer_reuse(struct spool_writer *w);
/* Gives back what inline_used and file_used count. Call before mail_body_deinit(). */
void spool_writer_deinit(struct spool_writer *w);

#endif
