/*
 * work/program.h - the engine's client of the spawner: run a program, hear of its end, kill it.
 *
 * One client per engine. Its socket is read on the admin worker; what happens to a program is
 * posted to the worker that started it. The engine itself never forks.
 */
#ifndef WORK_PROGRAM_H
#define WORK_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "net/worker.h"
#include "work/proto.h"

struct program_client;
struct program;

/* Takes over fd, the engine's end of the spawner's SOCK_SEQPACKET pair. lost() comes once, on the
 * admin worker, when the spawner is gone: every program then ends with an error, and so does every
 * new one. */
struct program_client *program_client_new(
	struct net_worker *admin, int fd, void (*lost)(void *owner), void *owner);
/* After all workers have stopped, before they are freed. The spawner then kills what still runs. */
void program_client_free(struct program_client **client);

/* How a program ended. */
struct program_end {
	bool ran;       /* false: it was never started, err says why */
	bool timed_out; /* we killed it */
	int status;     /* as wait(2) gives it */
	struct err err;
};
typedef void (*program_end_cb)(void *owner, const struct program_end *end);

struct program_spec {
	enum work_profile profile;
	struct work_limits limits;
	const char *directory;   /* NULL: "/" */
	const char *const *argv; /* argv[0] is an absolute path */
	const char *const *env;  /* NULL: a short default */
	const int *fds;          /* taken over */
	const int *targets; /* their numbers in the program; 0 to 2 are /dev/null when not given */
	size_t fd_count;
	int64_t timeout_ms; /* 0: none */
	int64_t grace_ms;   /* between TERM and KILL; 0: KILL at once */
};

/* On w's thread. Everything in spec is copied. Never fails: trouble arrives in the callback, which
 * comes once, from the loop; then the handle is gone. */
struct program *program_start(struct program_client *client, struct net_worker *w,
	const struct program_spec *spec, program_end_cb cb, void *owner);
/* Begins to end it (TERM, grace, KILL to its process group); the callback still comes. */
void program_stop(struct program *p);
/* As program_stop(), but nobody hears of it any more. Accepts NULL, clears the pointer. */
void program_cancel(struct program **p);
/* 0 until the spawner has said that it runs. */
pid_t program_pid(const struct program *p);

/* "exit status 3", "signal 11", "not started: ..." */
void program_end_text(const struct program_end *end, char *dst, size_t size);

#endif
