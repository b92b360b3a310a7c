/*
 * spool/scratch.c - one locked folder per process and spool, and numbered ones inside.
 */
#include "spool/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/list.h"
#include "base/xalloc.h"

#define PREFIX "programs."
/* Descriptors that a walk may hold; deeper folders cost it time only. */
#define WALK_FDS 16
/* A folder that is written to while it is removed, or has no right to be read, needs more than one go. */
#define REMOVE_TRIES 20

/* The folder of this process in one spool. */
struct base {
	char *spool, *path;
	int fd; /* has the lock */
	unsigned long last;
	LIST_ENTRY(base) next;
};

struct scratch {
	char *path;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static LIST_HEAD(, base) bases = LIST_HEAD_INITIALIZER(bases);

/* ---- removal ------------------------------------------------------------------------------ */

static int
remove_one(const char *path, const struct stat *st, int what, struct FTW *place)
{
	(void)st;
	(void)place;
	if (what == FTW_DNR && chmod(path, 0700) < 0)
		return 0;
	if (what == FTW_D || what == FTW_DP || what == FTW_DNR)
		rmdir(path);
	else
		unlink(path);
	return 0;
}

/* Links are not followed, other file systems not entered. */
static void
remove_all(const char *path)
{
	for (int i = 0; i < REMOVE_TRIES; i++)
		if (nftw(path, remove_one, WALK_FDS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) < 0 || access(path, F_OK) < 0)
			return;
}

/* ---- the folder of a process -------------------------------------------------------------- */

static void
base_free(struct base *b)
{
	if (b->fd >= 0)
		close(b->fd);
	free(b->spool);
	free(b->path);
	free(b);
}

/* Whoever sweeps may have found it between its making and its lock: then it is gone, and is made again. */
static int
lock_base(struct base *b, struct err *err)
{
	struct stat mine;

	for (int i = 0; i < REMOVE_TRIES; i++) {
		if (mkdir(b->path, 0700) < 0 && errno != EEXIST)
			break;
		b->fd = open(b->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (b->fd < 0 && errno != ENOENT)
			break;
		if (b->fd >= 0 && flock(b->fd, LOCK_EX | LOCK_NB) == 0 && fstat(b->fd, &mine) == 0 && mine.st_nlink > 0)
			return 0;
		if (b->fd >= 0)
			close(b->fd);
		b->fd = -1;
	}
	err_sys(err, "cannot make %s", b->path);
	err->temporary = true;
	return -1;
}

/* Lock held. */
static struct base *
base_of(const char *spool, struct err *err)
{
	struct base *b;

	LIST_FOREACH(b, &bases, next)
	if (strcmp(b->spool, spool) == 0)
		return b;
	b = xcalloc(1, sizeof(*b));
	b->fd = -1;
	b->spool = xstrdup(spool);
	b->path = xasprintf("%s/" PREFIX "%d", spool, (int)getpid());
	if (lock_base(b, err) < 0) {
		base_free(b);
		return NULL;
	}
	LIST_INSERT_HEAD(&bases, b, next);
	return b;
}

/* Lock held. Made anew when somebody has removed it. */
static char *
make_folder(const char *spool, struct err *err)
{
	for (int i = 0; i < REMOVE_TRIES; i++) {
		struct base *b = base_of(spool, err);
		char *path;
		int why;

		if (b == NULL)
			return NULL;
		path = xasprintf("%s/%lu", b->path, ++b->last);
		if (mkdir(path, 0700) == 0)
			return path;
		why = errno;
		err_sys(err, "cannot make %s", path);
		free(path);
		if (why == ENOENT) {
			LIST_REMOVE(b, next);
			base_free(b);
		} else if (why != EEXIST) {
			break;
		}
	}
	err->temporary = true;
	return NULL;
}

/* ---- one run ------------------------------------------------------------------------------ */

struct scratch *
scratch_new(const char *spool, struct err *err)
{
	struct scratch *s;
	char *path;

	pthread_mutex_lock(&lock);
	path = make_folder(spool, err);
	pthread_mutex_unlock(&lock);
	if (path == NULL)
		return NULL;
	s = xcalloc(1, sizeof(*s));
	s->path = path;
	return s;
}

const char *
scratch_path(const struct scratch *s)
{
	return s->path;
}

void
scratch_free(struct scratch **s_p)
{
	struct scratch *s = *s_p;

	*s_p = NULL;
	if (s == NULL)
		return;
	/* Most have only files in them, or nothing. */
	if (rmdir(s->path) < 0)
		remove_all(s->path);
	free(s->path);
	free(s);
}

/* ---- start and end ------------------------------------------------------------------------ */

static void
sweep_one(const char *spool, const char *name)
{
	char path[PATH_MAX];
	int fd;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", spool, name) >= sizeof(path))
		return;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		remove_all(path);
	close(fd);
}

void
scratch_sweep(const char *spool)
{
	DIR *dir = opendir(spool);
	struct dirent *entry;

	if (dir == NULL)
		return;
	while ((entry = readdir(dir)) != NULL)
		if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) == 0)
			sweep_one(spool, entry->d_name);
	closedir(dir);
}

void
scratch_end(void)
{
	struct base *b;

	pthread_mutex_lock(&lock);
	while ((b = LIST_FIRST(&bases)) != NULL) {
		LIST_REMOVE(b, next);
		remove_all(b->path);
		base_free(b);
	}
	pthread_mutex_unlock(&lock);
}
