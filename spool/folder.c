/*
 * spool/folder.c - is a folder fit for mail?
 */
#include "spool/folder.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "spool/file.h"

/* A link that another user made could lead elsewhere tomorrow. */
static int
check_links(char *path, struct err *err)
{
	for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		struct stat st;
		int rc;

		*slash = '\0';
		rc = lstat(path, &st);
		if (rc < 0)
			return err_sys(err, "%s", path);
		if (S_ISLNK(st.st_mode) && st.st_uid != 0 && st.st_uid != geteuid())
			return err_set(err,
				"%s is a symbolic link made by user id %u: name the real folder",
				path, (unsigned)st.st_uid);
		*slash = '/';
	}
	return 0;
}

static int
check_folder(const char *path, struct err *err)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return err_sys(err, "%s", path);
	if (S_ISLNK(st.st_mode))
		return err_set(err, "%s is a symbolic link: name the real folder", path);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, "%s is not a folder", path);
	if (st.st_uid != geteuid())
		return err_set(err, "%s belongs to user id %u and not to ours, %u: chown %u %s",
			path, (unsigned)st.st_uid, (unsigned)geteuid(), (unsigned)geteuid(), path);
	if ((st.st_mode & 0777) != 0700)
		return err_set(err, "%s has mode %04o, mail needs 0700: chmod 0700 %s", path,
			(unsigned)(st.st_mode & 07777), path);
	return 0;
}

int
folder_check(const char *directory, const char *what, struct err *err)
{
	char path[PATH_MAX];
	size_t len = strlen(directory);
	int fd;

	/* open() and lstat() follow a link when a slash stands behind it. */
	while (len > 1 && directory[len - 1] == '/')
		len--;
	if (len == 0 || len >= sizeof(path))
		return err_set(err, "%s directory: the path is empty or too long", what);
	memcpy(path, directory, len);
	path[len] = '\0';

	if (check_links(path, err) < 0)
		return err_prefix(err, "%s directory", what);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_sys(err, "%s directory: cannot make %s", what, path);
	if (check_folder(path, err) < 0)
		return err_prefix(err, "%s directory", what);
	fd = spool_open_unnamed(path);
	if (fd < 0)
		return err_sys(err, "%s directory: cannot make a file in %s", what, path);
	close(fd);
	return 0;
}
