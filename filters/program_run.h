/*
 * filters/program_run.h - an administrator's program at work on one message: its files, its output, its end.
 *
 * Shared by the kinds that run programs. The message goes to it as a file of its own (%f), on its standard input, or
 * both; neither needs anybody who feeds it, so a program that reads nothing is never in the way. What it prints is read
 * as it comes, kept up to a bound, and thrown away behind; past max_output it is killed, and has failed. Its folder in
 * the spool, when it has one, is removed after its end, also when nobody waits for it any more.
 */
#ifndef FILTERS_PROGRAM_RUN_H
#define FILTERS_PROGRAM_RUN_H

#include "filters/filter.h"
#include "filters/new_body.h"

#define PROGRAM_TEXT_MAX   (64 * 1024) /* kept of standard output */
#define PROGRAM_TAIL_MAX   (4 * 1024)  /* kept of the end of standard error */
#define PROGRAM_HEADER_MAX (64 * 1024) /* of %h */

/* A member of a kind's conf. */
struct program_conf {
	struct config_words command, environment;
	int one_recipient; /* 1: the last */
	int64_t grace_ms, max_output, cpu_ms, memory, file_size;
	int open_files, processes;
};
extern const char *const program_recipient_names[];

/* The rows; help_ is the sentence of `command`. */
#define PROGRAM_OPTIONS(st_, m_, help_)                                                            \
	CONFIG_WORDS("command", st_, m_.command, NULL, help_),                                     \
	CONFIG_ENUM("one_recipient", st_, m_.one_recipient, "first", program_recipient_names,      \
		"which recipient %r is, of those that the run is about"),                          \
	CONFIG_WORDS("environment", st_, m_.environment, NULL,                                     \
		"NAME=VALUE, one or more of these (in quotes when there are blanks): variables "   \
		"beside its own, which are PATH, LANG, SENDER (empty for the null sender), "       \
		"RECIPIENTS (one a line; not there when they have more than 32K together), "       \
		"CLIENT and REMOTE (the client's address), REMOTE_HELO, SERVER (this machine's "   \
		"name), TMPDIR, and EMAIL (%f, when the command has it); in values the command's " \
		"%-letters count"),                                                                \
	CONFIG_DURATION("grace", st_, m_.grace_ms, "5s", 0, 600 * 1000,                            \
		"how long a program that is too late has after TERM until its process group is "   \
		"killed; 0: no TERM"),                                                             \
	CONFIG_SIZE("max_output", st_, m_.max_output, "50M", 4096, INT64_C(1) << 40,               \
		"a program that writes more than this, on one of its outputs or into %n, is "      \
		"killed and has failed"),                                                          \
	CONFIG_DURATION("cpu", st_, m_.cpu_ms, NULL, 1000, 24 * 3600 * 1000,                       \
		"the processor time that each of its processes may use, in whole seconds"),        \
	CONFIG_SIZE("memory", st_, m_.memory, NULL, 1 << 20, INT64_C(1) << 50,                     \
		"the address space that each of its processes may have"),                          \
	CONFIG_SIZE("file_size", st_, m_.file_size, NULL, 1, INT64_C(1) << 50,                     \
		"the largest file that it may write"),                                             \
	CONFIG_INT("open_files", st_, m_.open_files, NULL, 8, 1 << 20,                             \
		"how many descriptors each of its processes may have"),                            \
	CONFIG_INT("processes", st_, m_.processes, NULL, 1, 1 << 22,                               \
		"how many processes and threads its user may have, Postern's own included: the "   \
		"system counts no other way")

/* For setup(). letters: what %x may be in its words (filters/template.h). */
int program_conf_check(const struct program_conf *conf, const char *letters, struct err *err);
/* Is %letter in its command, or in a variable? */
bool program_conf_uses(const struct program_conf *conf, char letter);

/* What its standard input and output are for. */
struct program_use {
	bool wants_message;	/* standard input is the message; else it is empty */
	bool gives_message;	/* standard output is the new message; else text */
	enum new_body_kind new; /* what %n is */
};

struct program_result {
	bool failed; /* it did not end by itself, or not in bounds; run->err says why */
	int code;    /* else, its exit code */
	const char *text, *tail, *header; /* standard output, the end of standard error, %h (NULL: not written) */
	size_t text_len, tail_len, header_len;
	bool is_text_cut;
	/* What it gave in place of the message. NULL: nothing. An edit once new_body_end() took it; else it is dropped. */
	struct new_body *body;
	int64_t body_size; /* octets as written */
};

struct program_run;
/* Decides; the return value is that of filter_resume(), which the caller calls. The handle is gone by then. */
typedef enum filter_step (*program_run_cb)(struct filter_run *run, struct program_result *result);

/* NULL: run->err says why. cb never comes from inside. conf is the configuration's, and needed until cb or cancel. */
struct program_run *program_run_start(struct filter_run *run, const struct program_conf *conf,
	const struct program_use *use, program_run_cb cb);
/* For cancel(). Ends the program in its own time (TERM, grace, KILL), and tidies up after it; until then it is one of
 * max_instances. Accepts NULL, clears the pointer. */
void program_run_cancel(struct program_run **p);

#endif
