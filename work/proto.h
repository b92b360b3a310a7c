/*
 * work/proto.h - the frames between engine and helper, and the messages between engine and spawner.
 *
 * Pure: bytes in, structs out, and back; no sockets. Both sides check everything, because a helper
 * is the process that touches hostile content. What was decoded points into the bytes it came from.
 *
 * A frame (stream socket, helper): octets of the rest (4), type (1), job number (4), count of words
 * (1), and each word as length (4) and octets. Numbers are big-endian. There is one encoding of a
 * frame only.
 *
 *     JOB    engine -> helper  the job's arguments: name, value, name, value ...
 *     ASK    helper -> engine  question, arguments ...
 *     ANSWER engine -> helper  "ok" or "error", text
 *     EDIT   helper -> engine  kind ("prepend"), text
 *     DONE   helper -> engine  verdict or "error", code, status, text, "" or "last"
 *
 * A message (SOCK_SEQPACKET, spawner) is one packet; descriptors travel beside it by SCM_RIGHTS.
 */
#ifndef WORK_PROTO_H
#define WORK_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"
#include "mail/verdict.h"

#define WORK_FRAME_MAX (64 * 1024) /* a whole frame; less than NET_HELD_MAX */
#define WORK_WORDS_MAX 16

enum work_frame_type {
	WORK_JOB = 1,
	WORK_ASK,
	WORK_ANSWER,
	WORK_EDIT,
	WORK_DONE,
};
extern const char *const work_frame_names[]; /* by type; [0] is NULL */

struct work_word {
	const char *data; /* no NUL at its end */
	size_t len;
};

struct work_frame {
	enum work_frame_type type;
	uint32_t job;
	size_t count;
	struct work_word words[WORK_WORDS_MAX];
};

/* Octets used, 0 when the frame is not complete yet, -1 when it can never become one. */
ssize_t work_frame_decode(
	const char *data, size_t len, struct work_frame *frame_r, struct err *err);
/* Appends the frame, or adds nothing and returns -1: a bound, or the wrong count of words for its
 * type. */
int work_frame_encode(struct str *out, const struct work_frame *frame, struct err *err);
/* Borrows text. Adding to a full frame is an assertion. */
void work_frame_add(struct work_frame *frame, const char *text);
bool work_word_is(const struct work_word *word, const char *text);
/* A decimal number from 0 to max; -1 when the word is none. */
int64_t work_word_number(const struct work_word *word, int64_t max);

/* What DONE says. */
struct work_done {
	bool failed; /* the job could not be done; text says why */
	enum verdict_kind kind;
	int code;        /* 0: the default for the kind */
	char status[12]; /* "" likewise */
	char text[500];  /* one clean line, may be "" */
	bool is_last;    /* the helper ends itself now, because its memory has grown */
};

int work_done_encode(struct str *out, uint32_t job, const struct work_done *done, struct err *err);
/* Refuses a code or a status that does not fit its verdict; cleans the text. */
int work_done_decode(const struct work_frame *frame, struct work_done *done_r, struct err *err);

/* The text of an EDIT "prepend": whole header lines with CRLF, as mail_edit_prepend() demands. */
bool work_header_valid(const char *text, size_t len);

#define WORK_MESSAGE_MAX   (64 * 1024)
#define WORK_ARGV_MAX      512
#define WORK_ENV_MAX       64
#define WORK_FDS_MAX       8
#define WORK_FD_TARGET_MAX 15

enum work_message_type {
	WORK_SPAWN = 1, /* engine -> spawner: spawn */
	WORK_KILL,      /* engine -> spawner: value is the signal, for the whole process group */
	WORK_STARTED,   /* spawner -> engine: value is the pid; the program is running */
	WORK_FAILED,    /* spawner -> engine: value is errno; nothing runs */
	WORK_EXITED,    /* spawner -> engine: value is the status of wait(2); the group is gone */
};

enum work_profile {
	WORK_PROGRAM, /* an administrator's program */
	WORK_HELPER,  /* our helper: keeps stderr, and is the first to go when memory is short */
};

/* 0 leaves a limit as it is. */
struct work_limits {
	uint64_t memory; /* octets of address space */
	uint64_t cpu_seconds;
	uint64_t file_size; /* octets of any file it writes */
	uint64_t open_files;
	uint64_t processes; /* of its user, all together: the system counts no other way */
};

struct work_spawn {
	enum work_profile profile;
	struct work_limits limits;
	const char *directory;               /* to start in; "" is "/" */
	const char *argv[WORK_ARGV_MAX + 1]; /* argv[0] is the absolute path; NULL-terminated */
	const char *env[WORK_ENV_MAX + 1];
	int targets[WORK_FDS_MAX]; /* the number each descriptor gets in the program, all different
				    */
	size_t target_count;       /* so many descriptors come with the message */
};

struct work_message {
	enum work_message_type type;
	uint32_t id; /* the engine's number for this program, never 0 */
	int32_t value;
	struct work_spawn spawn; /* of WORK_SPAWN */
};

int work_message_encode(struct str *out, const struct work_message *msg, struct err *err);
int work_message_decode(const char *data, size_t len, struct work_message *msg_r, struct err *err);

#endif
