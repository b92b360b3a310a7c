/*
 * proxy/handover.h - one monitor takes the place of another: the program that is on the disk now replaces the
 * one that runs, in the same process, with sockets, locks and the engine that carries mail.
 *
 * What is handed over are descriptors, and lines in a memory file that say which is which.
 */
#ifndef PROXY_HANDOVER_H
#define PROXY_HANDOVER_H

#include <stdbool.h>
#include <sys/types.h>

#include "proxy/bind.h"

#define HANDOVER_ENGINES 9

struct handover_engine {
	pid_t pid, spawner; /* spawner 0: it has none any more */
	int fd; /* its channel, which ends it when it is closed */
};

struct handover {
	unsigned generation;
	struct sockets sockets;
	struct inherited inherited;
	struct handover_engine engines[HANDOVER_ENGINES]; /* the first carries mail, the others are leaving */
	int engine_count;
	int pid_fd, spool_fd; /* -1: none */
	char pid_file[4096];
};

/* Becomes argv[0] with all of this. Returns only when that failed, and then nothing has changed. */
void handover_exec(const struct handover *handover, char *const argv[], struct err *err);
/* At the beginning: were we put in another one's place? The environment forgets it. -1: it cannot be read. */
int handover_take(struct handover *handover_r, bool *is_successor_r, struct err *err);

#endif
