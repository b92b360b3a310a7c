/*
 * filters/exec.c - a program of the administrator: arguments, files, exit codes.
 *
 * What is here is what its end means; its life is in filters/program_run.c.
 */
#include <string.h>

#include "base/str.h"
#include "filters/envelope.h"
#include "filters/exit_map.h"
#include "filters/program_answer.h"
#include "filters/program_run.h"
#include "filters/template.h"

#define LETTERS "fnhsrRaelit"

/* All that a program can ask for. */
#define EXEC_MAY \
	(FILTER_MAY(MAIL_EDIT_ADD) | FILTER_MAY(MAIL_EDIT_INSERT) | \
		FILTER_MAY(MAIL_EDIT_CHANGE) | FILTER_MAY(MAIL_EDIT_DELETE) | \
		FILTER_MAY(MAIL_EDIT_SENDER) | FILTER_MAY(MAIL_EDIT_ADD_RCPT) | \
		FILTER_MAY(MAIL_EDIT_REMOVE_RCPT) | FILTER_MAY(MAIL_EDIT_BODY) | \
		FILTER_MAY(MAIL_EDIT_MESSAGE))

extern const struct filter_kind filter_exec;

enum exec_output { OUTPUT_AUTO, OUTPUT_TEXT, OUTPUT_JSON, OUTPUT_MESSAGE };
static const char *const output_names[] = {"auto", "text", "json", "message", NULL};
enum exec_reply { REPLY_OUTPUT, REPLY_STDERR, REPLY_NONE };
static const char *const reply_names[] = {"output", "stderr", "none", NULL};
/* In the order of enum new_body_kind. */
static const char *const new_names[] = {"body", "message", NULL};

struct exec_conf {
	struct program_conf program;
	bool pipe;
	int output, reply, new;
	struct config_words pass, accept, reject, tempfail, discard, quarantine, disconnect;
	/* made by setup */
	struct exit_map map; /* the meaning is the verdict, from 1 */
};

struct exec_run {
	struct program_run *program;
	struct mail_edits asked; /* in JSON */
};

#define CODES(option, help) CONFIG_WORDS(#option "_codes", struct exec_conf, option, NULL, help)

static const struct config_option exec_options[] = {
	PROGRAM_OPTIONS(struct exec_conf, program,
		TEMPLATE_HELP "; %n is a file in which it may put a new body (see new), %h one for header fields to add, "
			      "\"Name: value\", one a line, which an empty line may end; files have CRLF line ends as "
			      "mail has, what comes back may have any"),
	CONFIG_BOOL("pipe", struct exec_conf, pipe, "no",
		"its standard input is the message, and its standard output the new one (unless output says otherwise); "
		"one that passes the message and prints nothing has failed"),
	CONFIG_ENUM("output", struct exec_conf, output, "auto", output_names,
		"what its standard output is: text, of which the first line is the reason of a refusal; json, an object "
		"with the verdict, its reason and edits, read when it exits with 0; message, the new message; auto is "
		"message with pipe, else text"),
	CONFIG_ENUM("reply", struct exec_conf, reply, "output", reply_names,
		"where the reply of a refusal comes from, a line such as 550 5.7.1 not here, or words alone; code and status "
		"count where they fit the verdict: output is the first line of standard output where that is text, or "
		"else the last of standard error, and what stands between << and >> before both; stderr is for "
		"scripts of proxsmtp: when it does not exit with 0, a code in the last line of standard error is the "
		"verdict (250 discards); none gives the reply of the verdict"),
	CONFIG_ENUM("new", struct exec_conf, new, "body", new_names, "what it writes into %n: a body, or a whole message"),
	CODES(pass, "exit codes and ranges, as 1-99, with which the message passes; when not given, 0. A code that is in no list "
		    "means that the filter has failed, as does the end by a signal"),
	CODES(accept, "those with which it passes, and no further filter is asked"),
	CODES(reject, "those with which it is refused"),
	CODES(tempfail, "those with which it is put off"),
	CODES(discard, "those with which it is dropped, and the client hears that it was taken"),
	CODES(quarantine, "those with which it is set aside"),
	CODES(disconnect, "those with which it is put off, and the connection closed"),
	CONFIG_END};

/* ---- setup -------------------------------------------------------------------------------- */

static const char *const code_options[] = {
	[VERDICT_PASS + 1] = "pass_codes",
	[VERDICT_ACCEPT + 1] = "accept_codes",
	[VERDICT_REJECT + 1] = "reject_codes",
	[VERDICT_TEMPFAIL + 1] = "tempfail_codes",
	[VERDICT_DISCARD + 1] = "discard_codes",
	[VERDICT_QUARANTINE + 1] = "quarantine_codes",
	[VERDICT_DISCONNECT + 1] = "disconnect_codes",
};

static int
set_codes(struct exec_conf *c, struct err *err)
{
	const struct config_words *const lists[] = {
		[VERDICT_PASS] = &c->pass,
		[VERDICT_ACCEPT] = &c->accept,
		[VERDICT_REJECT] = &c->reject,
		[VERDICT_TEMPFAIL] = &c->tempfail,
		[VERDICT_DISCARD] = &c->discard,
		[VERDICT_QUARANTINE] = &c->quarantine,
		[VERDICT_DISCONNECT] = &c->disconnect,
	};

	for (int kind = 0; kind < VERDICT_COUNT; kind++)
		if (exit_map_add(&c->map, lists[kind], (unsigned char)(kind + 1), code_options, err) < 0)
			return -1;
	if (c->pass.count == 0 && c->map.meaning[0] == 0)
		c->map.meaning[0] = VERDICT_PASS + 1;
	return 0;
}

static int
check_output(struct exec_conf *c, struct err *err)
{
	if (c->output == OUTPUT_AUTO)
		c->output = c->pipe ? OUTPUT_MESSAGE : OUTPUT_TEXT;
	if (c->output == OUTPUT_MESSAGE && program_conf_uses(&c->program, 'n'))
		return err_set(err, "the new message comes from standard output or from %%n, not from both");
	if (c->output == OUTPUT_JSON && c->map.meaning[0] != VERDICT_PASS + 1)
		return err_set(err, "%s: with output json, exit code 0 means that the verdict is in what it prints",
			code_options[c->map.meaning[0]]);
	return 0;
}

static int
exec_setup(void *conf, struct err *err)
{
	struct exec_conf *c = conf;

	c->map = (struct exit_map){.meaning = {0}};
	if (program_conf_check(&c->program, LETTERS, err) < 0 || set_codes(c, err) < 0)
		return -1;
	return check_output(c, err);
}

/* Words alone ask for nothing, and only JSON for all. */
static unsigned
exec_asks(const void *conf)
{
	const struct exec_conf *c = conf;
	unsigned asks = 0;

	if (c->output == OUTPUT_JSON)
		return EXEC_MAY;
	if (program_conf_uses(&c->program, 'h'))
		asks |= FILTER_MAY(MAIL_EDIT_ADD);
	if (c->output == OUTPUT_MESSAGE || (c->output == OUTPUT_AUTO && c->pipe) || program_conf_uses(&c->program, 'n'))
		asks |= FILTER_MAY(MAIL_EDIT_BODY) | FILTER_MAY(MAIL_EDIT_MESSAGE);
	return asks;
}

static const struct config_words *
exec_program(const void *conf)
{
	const struct exec_conf *c = conf;

	return &c->program.command;
}

/* ---- what its end means ------------------------------------------------------------------- */

/* Its last words, for the log. */
static enum filter_step
fail(struct filter_run *run, const struct program_result *result, const char *what)
{
	struct reason words;

	if (!reason_last(result->tail, result->tail_len, &words))
		return filter_fail(run, "%s", what);
	return filter_fail(run, "%s: %.200s", what, words.text);
}

static void
find_reason(const struct exec_conf *c, const struct program_result *result, struct reason *r)
{
	*r = (struct reason){.code = 0};
	if (c->reply == REPLY_NONE)
		return;
	if (c->reply == REPLY_OUTPUT && c->output == OUTPUT_TEXT && reason_first(result->text, result->text_len, r))
		return;
	reason_last(result->tail, result->tail_len, r);
}

/* The new message or body. */
static int
take_content(struct filter_run *run, struct program_result *result)
{
	const struct exec_conf *c = run->conf;

	if (result->body != NULL && result->body_size == 0 && (c->output == OUTPUT_MESSAGE || c->new == NEW_MESSAGE))
		return err_set(&run->err, "the new message is empty");
	if (result->body != NULL && new_body_end(&result->body, &run->err) < 0)
		return err_prefix(&run->err, "the new message");
	return 0;
}

/* The new content is an edit before those of the JSON, which may be about its header. */
static int
take_edits(struct filter_run *run, struct program_result *result, bool is_delivered)
{
	struct exec_run *e = run->data;

	if (is_delivered && take_content(run, result) < 0)
		return -1;
	STAILQ_CONCAT(&run->edits->list, &e->asked.list);
	if (!is_delivered || result->header == NULL)
		return 0;
	return program_header(result->header, result->header_len, run->edits, &run->err);
}

/* kind by an exit code, or by what it printed. */
static enum filter_step
answer(struct filter_run *run, struct program_result *result, enum verdict_kind kind, const struct reason *reason)
{
	bool is_delivered = kind == VERDICT_PASS || kind == VERDICT_ACCEPT;

	if (take_edits(run, result, is_delivered) < 0)
		return FILTER_ERROR;
	return reason_answer(run, kind, reason);
}

static enum filter_step
answer_json(struct filter_run *run, struct program_result *result)
{
	struct exec_run *e = run->data;
	struct mail_envelope envelope;
	enum verdict_kind kind;
	struct reason reason;

	if (result->is_text_cut)
		return filter_fail(run, "its JSON is longer than %d octets", PROGRAM_TEXT_MAX);
	filter_envelope(run, &envelope);
	if (program_json(result->text, result->text_len, &e->asked, envelope.sender, &kind, &reason, &run->err) < 0)
		return FILTER_ERROR;
	return answer(run, result, kind, &reason);
}

/* As proxsmtp has it: exit code 0 is a pass, else the reply says what it is. 250 is the silent drop. */
static bool
is_said_by_stderr(const struct exec_conf *c, const struct program_result *result, enum verdict_kind *kind_r,
	struct reason *reason)
{
	if (c->reply != REPLY_STDERR || result->code == 0 || !reason_last_line(result->tail, result->tail_len, reason))
		return false;
	*kind_r = reason_verdict(reason);
	if (*kind_r == VERDICT_PASS)
		*kind_r = reason->code == 250 ? VERDICT_DISCARD : VERDICT_COUNT;
	return *kind_r != VERDICT_COUNT;
}

static enum filter_step
exec_ended(struct filter_run *run, struct program_result *result)
{
	const struct exec_conf *c = run->conf;
	struct exec_run *e = run->data;
	enum verdict_kind kind;
	struct reason reason;
	char what[40];

	e->program = NULL;
	if (result->failed)
		return FILTER_ERROR;
	if (is_said_by_stderr(c, result, &kind, &reason))
		return answer(run, result, kind, &reason);
	if (c->map.meaning[result->code] == 0) {
		snprintf(what, sizeof(what), "exit code %d is in no list", result->code);
		return fail(run, result, what);
	}
	if (c->output == OUTPUT_JSON && result->code == 0)
		return answer_json(run, result);
	kind = (enum verdict_kind)(c->map.meaning[result->code] - 1);
	find_reason(c, result, &reason);
	return answer(run, result, kind, &reason);
}

static enum filter_step
exec_message(struct filter_run *run)
{
	const struct exec_conf *c = run->conf;
	struct exec_run *e = run->data;
	const struct program_use use = {
		.wants_message = c->pipe,
		.gives_message = c->output == OUTPUT_MESSAGE,
		.new = (enum new_body_kind)c->new,
	};

	mail_edits_init(&e->asked, run->arena);
	e->program = program_run_start(run, &c->program, &use, exec_ended);
	return e->program != NULL ? FILTER_WAIT : FILTER_ERROR;
}

static void
exec_cancel(struct filter_run *run)
{
	struct exec_run *e = run->data;

	program_run_cancel(&e->program);
}

const struct filter_kind filter_exec = {
	FILTER_SECTION(exec, "runs a program for each message, without a shell; its exit code is the verdict", exec_options,
		struct exec_conf),
	.section.example = "# A policy of one's own: exits with 0 or 1, and prints the reason.\n"
			   "exec policy {\n"
			   "    command       /usr/local/sbin/mail-policy --from=%s --to=%r %f\n"
			   "    reject_codes  1\n"
			   "    max_instances 4\n"
			   "    timeout       20s\n"
			   "}",
	.run_size = sizeof(struct exec_run),
	.has_effects = true,
	.may = EXEC_MAY,
	.asks = exec_asks,
	.setup = exec_setup,
	.program = exec_program,
	.message = exec_message,
	.cancel = exec_cancel,
};
