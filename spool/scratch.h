/*
 * spool/scratch.h - a folder in the spool for one run of a program: gone when the run is over, whatever is in it.
 *
 * Those of one process lie together in SPOOL/programs.PID, which it keeps locked. So what a crash left is told from
 * what another engine still uses, and is swept away by the next one that starts. Any thread may call these.
 */
#ifndef SPOOL_SCRATCH_H
#define SPOOL_SCRATCH_H

#include "base/err.h"

struct scratch;

/* A new folder, 0700. NULL: a temporary error. A few system calls in the spool, as for a message's file. */
struct scratch *scratch_new(const char *spool, struct err *err);
/* Its path; another path in it is at most 40 octets longer. */
const char *scratch_path(const struct scratch *s);
/* Removes it and all that is in it. Takes as long as there are files: for job threads. Accepts NULL. */
void scratch_free(struct scratch **s);

/* At the start: removes what processes that are gone have left. */
void scratch_sweep(const char *spool);
/* At the end of the process: removes what is left of its own. */
void scratch_end(void);

#endif
