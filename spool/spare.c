/*
 * spool/spare.c - taking, giving back and closing files that are used again.
 */
#include "spool/spare.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/xalloc.h"

void
spool_spares_close(struct spool_spares *s)
{
	while (s->count > 0)
		close(s->fds[--s->count]);
	free(s->directory);
	*s = (struct spool_spares){ .count = 0 };
}

static bool
is_of(const struct spool_spares *s, const char *directory)
{
	return s->directory != NULL && strcmp(s->directory, directory) == 0;
}

/* The one used last: the others may not be needed. */
int
spool_spares_take(struct spool_spares *s, const char *directory)
{
	if (s->count == 0 || !is_of(s, directory))
		return -1;
	s->count--;
	if (s->unused > s->count)
		s->unused = s->count;
	return s->fds[s->count];
}

/* The kernel grants a write lease only on a file that is not open elsewhere (fcntl(2)): so a filter that was given
 * an open file description of its own, and still has it, keeps what it was given. */
static bool
is_ours_alone(int fd)
{
	return fcntl(fd, F_SETLEASE, F_WRLCK) == 0 && fcntl(fd, F_SETLEASE, F_UNLCK) == 0;
}

/* Pages that a socket still has to send are its own from then on: they leave the file whole. */
static bool
make_empty(int fd)
{
	return ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0;
}

bool
spool_spares_give(struct spool_spares *s, const char *directory, int fd)
{
	if (!is_of(s, directory)) {
		spool_spares_close(s);
		s->directory = xstrdup(directory);
	}
	if (s->count == SPOOL_SPARES_MAX || !is_ours_alone(fd) || !make_empty(fd))
		return false;
	s->fds[s->count++] = fd;
	return true;
}

/* Those at the bottom were not taken. */
bool
spool_spares_trim(struct spool_spares *s)
{
	for (int i = 0; i < s->unused; i++)
		close(s->fds[i]);
	s->count -= s->unused;
	memmove(s->fds, s->fds + s->unused, (size_t)s->count * sizeof(s->fds[0]));
	s->unused = s->count;
	return s->count > 0;
}
