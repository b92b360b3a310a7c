/*
 * helper/helper.h - the contract between the helper process and one kind of job.
 *
 * postern-helper is started by the spawner with the name of a row of helper/list.h and one socket
 * as descriptor 3. It confines itself as the row says, then does one job after the other, blocking:
 * nobody else waits for this process. A job is one .c in this folder and one row in the list.
 */
#ifndef HELPER_HELPER_H
#define HELPER_HELPER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/str.h"
#include "work/proto.h"

#define HELPER_FD 3

enum helper_profile {
	HELPER_PLAIN, /* computes, and reads what it was given */
};

struct helper;

struct helper_row {
	const char *name;
	enum helper_profile profile;
	bool may_exec;
	const char *const
		*writable; /* paths under which it may write, NULL-terminated; NULL: none */
	/* Does one job. 0 with *done filled (a pass by default), or -1 with err: the job failed. */
	int (*run)(struct helper *h, const struct work_frame *job, struct work_done *done,
		struct err *err);
};

/* A table made from helper/list.h; ends with a row without a name. */
extern const struct helper_row helper_rows[];
const struct helper_row *helper_row_find(const char *name);

/* The whole life of a helper process; returns its exit status. */
int helper_serve(const struct helper_row *row);

/* For jobs. The value of an argument of the job, NULL when it was not given. */
const struct work_word *helper_argument(const struct work_frame *job, const char *name);
/* Asks the engine and waits for its answer, which is appended. text may be NULL. */
int helper_ask(struct helper *h, const char *question, const char *text, struct str *answer,
	struct err *err);

/*
 * Takes all rights away that the row does not need. 0, or -1 with err: then the process must not go
 * on. notes gets a line for each means that this kernel does not have.
 */
int helper_confine(const struct helper_row *row, struct str *notes, struct err *err);

#endif
