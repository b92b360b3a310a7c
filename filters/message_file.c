/* filters/message_file.c - a descriptor of the message: of memory, of its spool file, or of a copy. */
#include "filters/message_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/list.h"
#include "base/xalloc.h"
#include "mail/view.h"
#include "net/threads.h"
#include "spool/file.h"

#define COPY_SIZE (64 * 1024)

/* What a job copies: memory of its own, or a range of a file that it has open for itself. So it may go on when the
 * transaction is gone, and the worker does not take the file for a spare one meanwhile (spool/spare.c). */
struct part {
	STAILQ_ENTRY(part) next;
	int fd;
	off_t off;
	size_t len;
	char data[];
};

struct message_file {
	struct net_worker *worker;
	message_file_cb cb; /* NULL: cancelled or told */
	void *owner;
	int fd; /* the result */
	struct err err;
	/* Of a copy. */
	struct net_job *job;
	STAILQ_HEAD(, part) parts;
	char *path; /* the new file's, or the folder's of an unnamed one */
	bool is_named;
	atomic_bool is_cancelled;
};

static void
file_free(void *arg)
{
	struct message_file *f = arg;
	struct part *part;

	while ((part = STAILQ_FIRST(&f->parts)) != NULL) {
		STAILQ_REMOVE_HEAD(&f->parts, next);
		if (part->fd >= 0)
			close(part->fd);
		free(part);
	}
	if (f->fd >= 0)
		close(f->fd);
	free(f->path);
	free(f);
}

static void
tell(void *arg)
{
	struct message_file *f = arg;
	const message_file_cb cb = f->cb;
	void *owner = f->owner;
	struct err err = f->err;
	int fd = f->fd;

	f->fd = -1;
	if (cb == NULL && fd >= 0)
		close(fd);
	file_free(f);
	if (cb != NULL)
		cb(owner, fd, &err);
}

/* Another open file description of the same file: its own offset, and nothing can be written through it. */
static int
open_anew(int fd)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* ---- the copy, on a job thread ---- */

static int
copy_range(int to, const struct part *part, char *buffer)
{
	off_t off = part->off;
	size_t left = part->len;

	while (left > 0) {
		ssize_t n = pread(part->fd, buffer, left < COPY_SIZE ? left : COPY_SIZE, off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = EIO; /* the file is shorter than it was */
		if (n <= 0 || fd_write_all(to, buffer, (size_t)n) < 0)
			return -1;
		off += n;
		left -= (size_t)n;
	}
	return 0;
}

static int
copy_parts(struct message_file *f, int to)
{
	char *buffer = xmalloc(COPY_SIZE);
	const struct part *part;
	int rc = 0;

	STAILQ_FOREACH(part, &f->parts, next)
	{
		if (atomic_load(&f->is_cancelled))
			break;
		rc = part->fd < 0 ? fd_write_all(to, part->data, part->len) : copy_range(to, part, buffer);
		if (rc < 0)
			break;
	}
	free(buffer);
	return rc;
}

static int
open_target(const struct message_file *f)
{
	if (f->is_named)
		return open(f->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return spool_open_unnamed(f->path);
}

static int
copy_and_open(struct message_file *f, int to)
{
	if (copy_parts(f, to) < 0)
		return err_sys(&f->err, "cannot write a copy of the message to %s", f->path);
	f->fd = open_anew(to);
	return f->fd < 0 ? err_sys(&f->err, "cannot open the copy of the message anew") : 0;
}

/* The caller unlinks the new file only when it gets one, or has cancelled before this looks. */
static void
run_copy(void *arg)
{
	struct message_file *f = arg;
	int to = open_target(f);
	bool is_kept;

	if (to < 0) {
		err_sys(&f->err, "cannot make a file for the message in %s", f->path);
		return;
	}
	is_kept = copy_and_open(f, to) == 0 && !atomic_load(&f->is_cancelled);
	close(to);
	if (f->is_named && !is_kept)
		unlink(f->path);
}

static void
copied(void *arg)
{
	struct message_file *f = arg;

	f->job = NULL;
	tell(f);
}

/* ---- what to do ---- */

static int
add_part(struct message_file *f, const struct mail_piece *piece)
{
	const size_t room = piece->data != NULL ? piece->len : 0;
	struct part *part = xcalloc(1, sizeof(*part) + room);

	part->len = piece->len;
	part->off = piece->off;
	part->fd = -1;
	if (piece->data != NULL)
		memcpy(part->data, piece->data, piece->len);
	else if ((part->fd = open_anew(piece->fd)) < 0) {
		free(part);
		return -1;
	}
	STAILQ_INSERT_TAIL(&f->parts, part, next);
	return 0;
}

static int
add_parts(struct message_file *f, struct filter_run *run)
{
	struct mail_piece piece;
	struct mail_view v;
	int rc;

	mail_view_init(&v, run->msg->body, run->seen, MAIL_VIEW_PLAIN);
	while ((rc = mail_view_next(&v, &piece)) > 0 && (rc = add_part(f, &piece)) == 0)
		;
	mail_view_deinit(&v);
	return rc;
}

/* The file that is all of the message, -1: it is not one file. has_file_r: a part of it is in one. */
static int
only_file(const struct filter_run *run, bool *has_file_r)
{
	struct mail_piece piece, first = {.fd = -1};
	struct mail_view v;
	struct stat st;
	int count = 0;

	*has_file_r = false;
	mail_view_init(&v, run->msg->body, run->seen, MAIL_VIEW_PLAIN);
	while (mail_view_next(&v, &piece) > 0) {
		*has_file_r |= piece.data == NULL;
		if (count++ == 0)
			first = piece;
	}
	mail_view_deinit(&v);
	if (count != 1 || first.data != NULL || first.off != 0 || fstat(first.fd, &st) < 0 ||
		st.st_size != (off_t)first.len)
		return -1;
	return first.fd;
}

static int
write_memory(int fd, const struct filter_run *run)
{
	struct mail_piece piece;
	struct mail_view v;
	int rc;

	mail_view_init(&v, run->msg->body, run->seen, MAIL_VIEW_PLAIN);
	while ((rc = mail_view_next(&v, &piece)) > 0 && (rc = fd_write_all(fd, piece.data, piece.len)) == 0)
		;
	mail_view_deinit(&v);
	return rc;
}

/* A copy from memory to memory: never waits. */
static void
make_memfd(struct message_file *f, const struct filter_run *run)
{
	int fd = memfd_create("message", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0) {
		err_sys(&f->err, "cannot make a file of the message");
		return;
	}
	if (write_memory(fd, run) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0 ||
		(f->fd = open_anew(fd)) < 0)
		err_sys(&f->err, "cannot make a file of the message");
	close(fd);
}

static struct message_file *
file_new(struct filter_run *run, message_file_cb cb, void *owner)
{
	struct message_file *f = xcalloc(1, sizeof(*f));

	f->worker = run->env->worker;
	f->cb = cb;
	f->owner = owner;
	f->fd = -1;
	STAILQ_INIT(&f->parts);
	return f;
}

static void
start_copy(struct message_file *f, struct filter_run *run, const char *path, bool is_named)
{
	f->path = xstrdup(path);
	f->is_named = is_named;
	if (add_parts(f, run) == 0) {
		f->job = net_job_start(f->worker, run_copy, copied, f);
		return;
	}
	err_sys(&f->err, "cannot open the message anew");
	net_later(f->worker, tell, f);
}

struct message_file *
message_file_open(struct filter_run *run, message_file_cb cb, void *owner)
{
	struct message_file *f = file_new(run, cb, owner);
	bool has_file;
	int fd = only_file(run, &has_file);

	if (fd < 0 && has_file) {
		start_copy(f, run, run->spool->directory, false);
		return f;
	}
	if (fd < 0)
		make_memfd(f, run);
	else if ((f->fd = open_anew(fd)) < 0)
		err_sys(&f->err, "cannot open the message anew");
	net_later(f->worker, tell, f);
	return f;
}

struct message_file *
message_file_save(struct filter_run *run, const char *path, message_file_cb cb, void *owner)
{
	struct message_file *f = file_new(run, cb, owner);

	start_copy(f, run, path, true);
	return f;
}

/* One that has no job is about to be told, which frees it. */
void
message_file_cancel(struct message_file **f_p)
{
	struct message_file *f = *f_p;

	*f_p = NULL;
	if (f == NULL)
		return;
	f->cb = NULL;
	atomic_store(&f->is_cancelled, true);
	if (f->job != NULL)
		net_job_cancel(&f->job, file_free);
}
