/*
 * spawn/exec.h - one fork and what happens in the child before its program runs.
 */
#ifndef SPAWN_EXEC_H
#define SPAWN_EXEC_H

#include <sys/types.h>

#include "work/proto.h"

/* Once, before the first spawn_exec(). 0 or -1. */
int spawn_prepare(void);
/* All signals to their defaults, none blocked. */
void spawn_reset_signals(void);

/*
 * Forks spec's program into its own process group. Borrows fds. Returns its pid, or -1 with errno.
 * report_r becomes a non-blocking descriptor: end of file when the program runs, an int (errno)
 * when it could not be started.
 */
pid_t spawn_exec(const struct work_spawn *spec, const int *fds, int *report_r);

#endif
