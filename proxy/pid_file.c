/*
 * proxy/pid_file.c - writing and locking the pid file, and locking the spool's folder.
 */
#include "proxy/pid_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

/* The lock, not the number, tells whether another one runs: numbers are used again. */
static int
lock(int fd, struct err *err)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(err, "fstat");
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
		return err_set(err, "not a file of its own");
	if (fcntl(fd, F_SETLK, &lock) == 0)
		return 0;
	if (fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK)
		return err_set(err, "another postern that runs has it (process %ld)", (long)lock.l_pid);
	return err_set(err, "another postern that runs has it");
}

int
pid_file_write(const char *path, struct err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);
	char text[32];
	int len;

	if (fd < 0)
		return err_sys(err, "pid_file %s", path);
	if (lock(fd, err) < 0) {
		close(fd);
		return err_prefix(err, "pid_file %s", path);
	}
	fchmod(fd, 0644); /* our umask is for mail */
	len = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) < 0 || write(fd, text, (size_t)len) != len) {
		err_sys(err, "pid_file %s", path);
		close(fd);
		return -1;
	}
	return fd;
}

void
pid_file_remove(const char *path, int fd)
{
	if (fd < 0)
		return;
	if (unlink(path) < 0 && ftruncate(fd, 0) < 0)
		log_warn(NULL, "pid_file", "err=%s", strerror(errno));
	close(fd);
}

int
spool_lock(const char *directory, struct err *err)
{
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return err_sys(err, "spool directory %s", directory);
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	close(fd);
	if (errno != EWOULDBLOCK)
		return err_sys(err, "spool directory %s: flock", directory);
	return err_set(err, "spool directory %s: another postern that runs has it (each needs one of its own; "
		"or is it running already?)", directory);
}
