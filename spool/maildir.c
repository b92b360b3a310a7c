/*
 * spool/maildir.c - delivery into a maildir.
 */
#include "spool/maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/list.h"
#include "base/str.h"
#include "base/xalloc.h"
#include "mail/view.h"

#define BUFFER_SIZE (64 * 1024)

enum maildir_folder { MAILDIR_TMP, MAILDIR_NEW, MAILDIR_CUR };
static const char *const folder_names[] = {"tmp", "new", "cur"};

/* The file that is being written. */
struct maildir_out {
	int fd;
	size_t len;
	bool cr; /* a CR is held back until its LF is seen */
	char data[BUFFER_SIZE];
	char input[BUFFER_SIZE];
};

static int
fail(struct err *err, const char *path, const char *what)
{
	err_sys(err, "maildir %s: %s", path, what);
	err->temporary = true;
	return -1;
}

static int
out_flush(struct maildir_out *out)
{
	size_t done = 0;

	while (done < out->len) {
		ssize_t n = write(out->fd, out->data + done, out->len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		done += n;
	}
	out->len = 0;
	return 0;
}

static int
out_add(struct maildir_out *out, const char *data, size_t len)
{
	while (len > 0) {
		size_t part = sizeof(out->data) - out->len;

		if (part > len)
			part = len;
		memcpy(out->data + out->len, data, part);
		out->len += part;
		data += part;
		len -= part;
		if (out->len == sizeof(out->data) && out_flush(out) < 0)
			return -1;
	}
	return 0;
}

/* Adds content with its CRLF made LF; a CR alone stays. */
static int
out_content(struct maildir_out *out, const char *data, size_t len)
{
	const char *end = data + len;

	while (data < end) {
		const char *cr;

		if (out->cr && *data != '\n' && out_add(out, "\r", 1) < 0)
			return -1;
		cr = memchr(data, '\r', end - data);
		out->cr = cr != NULL;
		if (out_add(out, data, (cr != NULL ? cr : end) - data) < 0)
			return -1;
		data = cr != NULL ? cr + 1 : end;
	}
	return 0;
}

static int
out_range(struct maildir_out *out, const struct mail_body *body, off_t off, size_t len)
{
	while (len > 0) {
		ssize_t n = mail_body_read(
			body, off, out->input, len < BUFFER_SIZE ? len : BUFFER_SIZE);

		if (n == 0)
			errno = EIO; /* the file is shorter than it was */
		if (n <= 0 || out_content(out, out->input, n) < 0)
			return -1;
		off += n;
		len -= n;
	}
	return 0;
}

static int
out_head(struct maildir_out *out, const struct maildir_mail *mail)
{
	struct str head = STR_INIT;
	int rc;

	str_printf(&head, "Return-Path: <%s>\n", mail->sender->addr);
	for (size_t i = 0; i < mail->rcpt_count; i++)
		str_printf(&head, "Delivered-To: %s\n", mail->rcpts[i]->addr);
	rc = out_add(out, head.data, head.len);
	str_deinit(&head);
	return rc;
}

static int
out_message(struct maildir_out *out, const struct maildir_mail *mail)
{
	struct mail_piece piece;
	struct mail_view v;
	int rc;

	mail_view_init(&v, mail->body, mail->edits, MAIL_VIEW_PLAIN);
	while ((rc = mail_view_next(&v, &piece)) > 0) {
		if (piece.data != NULL)
			rc = out_content(out, piece.data, piece.len);
		else
			rc = out_range(out, v.body, piece.off, piece.len);
		if (rc < 0)
			break;
	}
	mail_view_deinit(&v);
	if (rc == 0 && out->cr)
		rc = out_add(out, "\r", 1);
	return rc;
}

static int
write_message(int fd, const struct maildir_mail *mail)
{
	struct maildir_out *out = xmalloc(sizeof(*out));
	int rc;

	out->fd = fd;
	out->len = 0;
	out->cr = false;
	rc = out_head(out, mail);
	if (rc == 0)
		rc = out_message(out, mail);
	if (rc == 0)
		rc = out_flush(out);
	if (rc == 0)
		rc = fsync(fd);
	free(out);
	return rc;
}

/* "time.MusecPpidQcounter.host", with '/' and ':' written as the convention does. */
static void
unique_name(char *dst, size_t size, const char *hostname)
{
	static atomic_uint counter;
	struct timespec now;
	size_t len;

	clock_gettime(CLOCK_REALTIME, &now);
	len = snprintf(dst, size, "%lld.M%ldP%ldQ%u.", (long long)now.tv_sec, now.tv_nsec / 1000,
		(long)getpid(), atomic_fetch_add(&counter, 1) + 1);
	for (; *hostname != '\0' && len + 5 < size; hostname++) {
		unsigned char c = *hostname;

		if (c == '/' || c == ':' || c <= ' ' || c == 127)
			len += snprintf(dst + len, size - len, "\\%03o", c);
		else
			dst[len++] = c;
	}
	dst[len] = '\0';
}

/* Opens the folder, making it first where it is missing. Its parent is synced then. */
static int
open_folder(int parent, const char *name)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0 || errno != ENOENT)
		return fd;
	if (mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
		return -1;
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && parent != AT_FDCWD && fsync(parent) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Makes an entry above the maildir itself durable. */
static int
sync_parent(int dir)
{
	int fd = openat(dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

	if (fd < 0)
		return errno == EACCES ? 0 : -1; /* we may search it but not read it */
	rc = fsync(fd);
	close(fd);
	return rc;
}

static int
open_maildir(const char *path)
{
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir >= 0 || errno != ENOENT)
		return dir;
	dir = open_folder(AT_FDCWD, path);
	if (dir >= 0 && sync_parent(dir) < 0) {
		close(dir);
		return -1;
	}
	return dir;
}

/* link() and not rename(): it never replaces a mail that is there. */
static int
move_to_new(const int folders[], const char *name)
{
	int rc = linkat(folders[MAILDIR_TMP], name, folders[MAILDIR_NEW], name, 0);

	if (rc == 0 && (rc = fsync(folders[MAILDIR_NEW])) < 0) {
		int saved = errno;

		unlinkat(folders[MAILDIR_NEW], name, 0);
		errno = saved;
	}
	return rc;
}

static int
deliver(const int folders[], const char *path, const char *hostname,
	const struct maildir_mail *mail, struct err *err)
{
	char name[NAME_MAX + 1];
	int fd, rc = 0;

	unique_name(name, sizeof(name), hostname);
	fd = openat(folders[MAILDIR_TMP], name,
		O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail(err, path, "cannot make a file in tmp");
	if (write_message(fd, mail) < 0)
		rc = fail(err, path, "cannot write the message");
	if (close(fd) < 0 && rc == 0)
		rc = fail(err, path, "cannot write the message");
	if (rc == 0 && move_to_new(folders, name) < 0)
		rc = fail(err, path, "cannot put the message into new");
	unlinkat(folders[MAILDIR_TMP], name, 0);
	return rc;
}

int
maildir_deliver(
	const char *path, const char *hostname, const struct maildir_mail *mail, struct err *err)
{
	int folders[ARRAY_COUNT(folder_names)], rc = 0;
	int dir = open_maildir(path);
	size_t opened = 0;

	if (dir < 0)
		return fail(err, path, "cannot open it");
	for (; opened < ARRAY_COUNT(folder_names); opened++) {
		folders[opened] = open_folder(dir, folder_names[opened]);
		if (folders[opened] < 0) {
			rc = fail(err, path, folder_names[opened]);
			break;
		}
	}
	if (rc == 0)
		rc = deliver(folders, path, hostname, mail, err);
	while (opened > 0)
		close(folders[--opened]);
	close(dir);
	return rc;
}
