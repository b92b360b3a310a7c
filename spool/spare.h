/*
 * spool/spare.h - unnamed files of a worker that are used again, emptied.
 *
 * A new unnamed file for each large message costs the file system an inode, which was up to a third of the CPU at
 * 1 MiB (ext4 looks for one that was not freed lately). So a worker keeps those that were just used, as long as
 * messages keep coming. A file that anybody else has open is never used again.
 */
#ifndef SPOOL_SPARE_H
#define SPOOL_SPARE_H

#include <stdbool.h>

#define SPOOL_SPARES_MAX 8

struct spool_spares {
	int fds[SPOOL_SPARES_MAX];
	int count;
	int unused; /* of them, not taken since the last spool_spares_trim() */
	char *directory; /* where they are */
};

/* An empty file, or -1: there is none of this folder. */
int spool_spares_take(struct spool_spares *spares, const char *directory);
/* Takes fd over, if it can be used again; else it stays the caller's. */
bool spool_spares_give(struct spool_spares *spares, const char *directory, int fd);
/* Now and then: closes those that were not needed since the last time. Returns whether there are any left. */
bool spool_spares_trim(struct spool_spares *spares);
void spool_spares_close(struct spool_spares *spares);

#endif
