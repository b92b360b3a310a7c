/*
 * spool/file.c - one message while it arrives: memory first, then an unnamed file.
 */
#include "spool/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "spool/folder.h"

#define BUFFER_SIZE   (64 * 1024)
#define SLOW_WRITE_US 20000
#define INODES_MIN    100

const struct config_option spool_options[] = {
	CONFIG_STRING("directory", struct spool_conf, directory, "/var/spool/postern",
		"the folder for content that does not stay in memory; an absolute path, on a local file "
		"system, with mode 0700"),
	CONFIG_SIZE("inline", struct spool_conf, inline_max, "64K", 0, 16 << 20,
		"the largest message that stays in memory"),
	CONFIG_SIZE("inline_total", struct spool_conf, inline_total, "32M", 0, INT64_C(16) << 30,
		"the memory for such messages per worker; above it new content goes to a file"),
	CONFIG_SIZE("min_free", struct spool_conf, min_free, "64M", 0, INT64_C(1) << 50,
		"no new mail is taken while less than this is free in the folder's file system, or fewer than 100 "
		"inodes, nor a message whose SIZE would leave less"),
	CONFIG_END,
};

/* The second way is for file systems without O_TMPFILE (NFS, some FUSE, old overlays). */
int
spool_open_unnamed(const char *directory)
{
	char path[PATH_MAX];
	int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
		return fd;
	if (snprintf(path, sizeof(path), "%s/content.XXXXXX", directory) >= (int)sizeof(path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	fd = mkostemp(path, O_CLOEXEC);
	if (fd >= 0 && unlink(path) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

int
spool_check(const struct spool_conf *conf, struct err *err)
{
	return folder_check(conf->directory, "spool", err);
}

int64_t
spool_room(const struct spool_conf *conf, struct err *err)
{
	struct statvfs fs;
	uint64_t octets;

	if (statvfs(conf->directory, &fs) < 0) {
		err_sys(err, "the spool cannot be asked for its free space");
		err->temporary = true;
		return -1;
	}
	octets = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (octets < (uint64_t)conf->min_free)
		return err_set_temp(err, "the spool has too little free space");
	if (fs.f_files > 0 && fs.f_favail < INODES_MIN)
		return err_set_temp(err, "the spool has too few free inodes");
	octets -= (uint64_t)conf->min_free;
	return octets < INT64_MAX ? (int64_t)octets : INT64_MAX;
}

void
spool_writer_init(struct spool_writer *w, const struct spool_conf *conf,
	struct spool_worker *worker, struct mail_body *body)
{
	w->conf = conf;
	w->worker = worker;
	w->body = body;
	w->buffer = NULL;
	w->buffered = 0;
	w->held = w->filed = 0;
	w->failed = false;
}

/* Gives back what inline_used counts. */
static void
release_held(struct spool_writer *w)
{
	count_sub(&w->worker->inline_used, (uint64_t)w->held);
	w->held = 0;
}

void
spool_writer_deinit(struct spool_writer *w)
{
	release_held(w);
	count_sub(&w->worker->file_used, (uint64_t)w->filed);
	w->filed = 0;
	free(w->buffer);
	w->buffer = NULL;
	w->buffered = 0;
}

void
spool_writer_reuse(struct spool_writer *w)
{
	if (w->body->fd >= 0 && !w->failed &&
		spool_spares_give(&w->worker->spares, w->conf->directory, w->body->fd))
		w->body->fd = -1;
}

static int
fail(struct spool_writer *w, const char *what)
{
	int saved = errno;

	w->failed = true;
	if (saved == ENOSPC || saved == EDQUOT)
		return err_set_temp(&w->err, "the spool is full");
	errno = saved;
	err_sys(&w->err, "%s", what);
	w->err.temporary = true;
	return -1;
}

static void
note_slow(struct spool_writer *w, uint64_t us, size_t len)
{
	count_add(&w->worker->slow_writes, 1);
	log_repeat(LOG_LEVEL_WARN, NULL, NULL, "slow_write", "directory=%s ms=%lu octets=%zu", w->conf->directory,
		(unsigned long)(us / 1000), len);
}

/* One gathering write, gone on with where it was cut short. */
static int
write_parts(int fd, struct iovec *part, int count)
{
	while (count > 0) {
		ssize_t n = writev(fd, part, count);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		while (count > 0 && (size_t)n >= part->iov_len) {
			n -= part->iov_len;
			part++;
			count--;
		}
		if (count > 0) {
			part->iov_base = (char *)part->iov_base + n;
			part->iov_len -= n;
		}
	}
	return 0;
}

/* Writes what is buffered, and data behind it. */
static int
flush(struct spool_writer *w, const char *data, size_t len)
{
	struct iovec parts[2] = {
		{.iov_base = w->buffer, .iov_len = w->buffered},
		{.iov_base = (void *)(uintptr_t)data, .iov_len = len},
	};
	size_t total = w->buffered + len;
	uint64_t begin, us;

	if (total == 0)
		return 0;
	begin = clock_us();
	if (write_parts(w->body->fd, parts, 2) < 0)
		return fail(w, "cannot write to the spool");
	us = clock_us() - begin;
	if (us > SLOW_WRITE_US)
		note_slow(w, us, total);
	w->buffered = 0;
	return 0;
}

static int
put(struct spool_writer *w, const char *data, size_t len)
{
	count_add(&w->worker->file_used, len);
	w->filed += (int64_t)len;
	if (w->buffered + len >= BUFFER_SIZE)
		return flush(w, data, len);
	memcpy(w->buffer + w->buffered, data, len);
	w->buffered += len;
	return 0;
}

/* From memory to file: opens it and moves the chunks there. */
static int
go_to_file(struct spool_writer *w)
{
	const struct mail_chunk *chunk;
	int fd = spool_spares_take(&w->worker->spares, w->conf->directory);

	if (fd < 0)
		fd = spool_open_unnamed(w->conf->directory);
	if (fd < 0)
		return fail(w, "cannot make a file in the spool");
	w->body->fd = fd;
	w->buffer = xmalloc(BUFFER_SIZE);
	STAILQ_FOREACH(chunk, &w->body->chunks, next)
	{
		if (put(w, chunk->data, chunk->len) < 0)
			return -1;
	}
	mail_body_free_chunks(w->body);
	release_held(w);
	return 0;
}

static bool
fits_inline(const struct spool_writer *w, size_t more)
{
	return w->held + (int64_t)more <= w->conf->inline_max &&
	       (int64_t)count_get(&w->worker->inline_used) + (int64_t)more <= w->conf->inline_total;
}

void
spool_append(struct spool_writer *w, const char *data, size_t len, bool dot_line)
{
	struct mail_body *body = w->body;

	if (w->failed || len == 0)
		return;
	if (body->fd < 0 && fits_inline(w, len)) {
		mail_body_keep(body, data, len);
		w->held += len;
		count_add(&w->worker->inline_used, len);
	} else {
		if (body->fd < 0 && go_to_file(w) < 0)
			return;
		if (put(w, data, len) < 0)
			return;
	}
	mail_body_note(body, data, len, dot_line);
}

int
spool_finish(struct spool_writer *w, struct err *err)
{
	if (!w->failed)
		flush(w, NULL, 0);
	free(w->buffer);
	w->buffer = NULL;
	w->buffered = 0;
	if (w->failed) {
		*err = w->err;
		return -1;
	}
	return 0;
}
