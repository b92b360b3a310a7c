/*
 * proxy/secret.c - passwords from files that only we can read.
 */
#include "proxy/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/xalloc.h"
#include "smtp/auth.h"

#define CREDENTIAL "credential:"

/* Root only looks for `postern -t`: the engine, as its user, looks again. */
static int
check_mode(const char *path, const struct stat *st, struct err *err)
{
	if (!S_ISREG(st->st_mode))
		return err_set(err, "%s is not a regular file", path);
	if (st->st_uid != 0 && geteuid() != 0 && st->st_uid != geteuid())
		return err_set(err, "%s belongs to another user (uid %u); it must belong to root or to us (uid %u)",
			path, (unsigned)st->st_uid, (unsigned)geteuid());
	if (st->st_mode & (S_IROTH | S_IWOTH | S_IWGRP))
		return err_set(err, "%s can be read by everybody or written by others (mode %04o; try chmod 0600, or "
			"0640 with our group)", path, (unsigned)st->st_mode & 07777);
	return 0;
}

static int
first_line(const char *path, char *buf, ssize_t len, struct err *err)
{
	const char *end = memchr(buf, '\n', (size_t)len);
	size_t n = end != NULL ? (size_t)(end - buf) : (size_t)len;

	n -= n > 0 && buf[n - 1] == '\r';
	buf[n] = '\0';
	if (n == 0)
		return err_set(err, "%s holds no password in its first line", path);
	if (n > SMTP_AUTH_MAX)
		return err_set(err, "%s holds a password of more than %d octets", path, SMTP_AUTH_MAX);
	if (strlen(buf) < n)
		return err_set(err, "%s holds a NUL octet", path);
	return 0;
}

static int
read_file(const char *path, char **text_r, struct err *err)
{
	char buf[SMTP_AUTH_MAX + 100] = "";
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), rc = -1;
	ssize_t len;

	if (fd < 0)
		return err_sys(err, "%s", path);
	if (fstat(fd, &st) < 0) {
		err_sys(err, "%s", path);
		goto out;
	}
	if (check_mode(path, &st, err) < 0)
		goto out;
	len = read(fd, buf, sizeof(buf) - 1);
	if (len < 0) {
		err_sys(err, "%s", path);
		goto out;
	}
	rc = first_line(path, buf, len, err);
	if (rc == 0)
		*text_r = xstrdup(buf);
out:
	explicit_bzero(buf, sizeof(buf));
	close(fd);
	return rc;
}

int
secret_read(const char *source, char **text_r, struct err *err)
{
	const char *folder = getenv("CREDENTIALS_DIRECTORY");
	char *path;
	int rc;

	*text_r = NULL;
	if (strncmp(source, CREDENTIAL, strlen(CREDENTIAL)) != 0)
		return read_file(source, text_r, err);
	if (folder == NULL)
		return err_set(err, "%s: there are no credentials (CREDENTIALS_DIRECTORY is not set; try "
			"LoadCredential= in the systemd unit, or the path of a file)", source);
	path = xasprintf("%s/%s", folder, source + strlen(CREDENTIAL));
	rc = read_file(path, text_r, err);
	free(path);
	return rc;
}

void
secret_free(char **text)
{
	if (*text != NULL)
		explicit_bzero(*text, strlen(*text));
	free(*text);
	*text = NULL;
}

int
secrets_load(struct settings *st, struct err *err)
{
	for (int i = 0; i < st->backend_count; i++) {
		struct backend *b = &st->backends[i];

		if (b->conf.auth_password_file == NULL || b->password != NULL)
			continue;
		if (secret_read(b->conf.auth_password_file, &b->password, err) < 0)
			return err_prefix(err, "backend %s: auth_password_file", b->name);
		b->dest_conf.client.auth_password = b->password;
	}
	return 0;
}
