/*
 * filters/scanner.c - a virus scanner that is a program: its exit code says whether, its output says what.
 */
#include <stdlib.h>
#include <string.h>

#include "base/match.h"
#include "base/str.h"
#include "base/xalloc.h"
#include "filters/answer.h"
#include "filters/exit_map.h"
#include "filters/fields.h"
#include "filters/mark.h"
#include "filters/program_run.h"
#include "filters/template.h"

#define LETTERS	 "fsrRaelit"
#define NAME_MAX_LEN 100
/* With the name in it. */
#define TEXT_MAX FILTER_TEXT_SIZE

extern const struct filter_kind filter_scanner;

struct scanner_conf {
	struct program_conf program;
	bool pipe;
	struct config_words infected, clean_codes, infected_codes, error_codes;
	const char *mark;
	struct filter_answer answer;
	/* made by setup */
	struct exit_map map; /* enum scanner_code */
	struct match_list *patterns;
};

struct scanner_run {
	struct program_run *program;
};

enum scanner_code { CODE_UNLISTED, CODE_CLEAN, CODE_INFECTED, CODE_ERROR };
static const char *const code_options[] = {
	[CODE_CLEAN] = "clean_codes", [CODE_INFECTED] = "infected_codes", [CODE_ERROR] = "error_codes"};

static const struct config_option scanner_options[] = {
	PROGRAM_OPTIONS(struct scanner_conf, program, TEMPLATE_HELP),
	CONFIG_BOOL("pipe", struct scanner_conf, pipe, "no", "its standard input is the message"),
	CONFIG_WORDS("infected", struct scanner_conf, infected, "/: (.+) FOUND$/",
		"patterns, as /.../, tried on each line of its output: one that matches means that something was found, whatever the exit "
		"code, and the first group in it is the name; when not given, what clamscan prints. They see the first 64K of "
		"standard output and the last 4K of standard error; a scanner that prints more on standard output and calls the "
		"message clean has failed"),
	CONFIG_WORDS("clean_codes", struct scanner_conf, clean_codes, "0", "exit codes and ranges, as 2-9, that mean that nothing was found"),
	CONFIG_WORDS("infected_codes", struct scanner_conf, infected_codes, "1",
		"those that mean that something was found, also when no line says what"),
	CONFIG_WORDS("error_codes", struct scanner_conf, error_codes, NULL,
		"those that mean that it failed; so does every code that is in no list, and the end by a signal"),
	CONFIG_STRING("mark", struct scanner_conf, mark, NULL,
		"the name of a header field that tells the result of a delivered message, such as X-Virus-Status: clean, or "
		"infected and the name of what was found; those that came with the message are removed; none when not given"),
	FILTER_ANSWER_OPTIONS(struct scanner_conf, answer, "reject",
		"of a message in which something was found, whose name is %v in text"),
	CONFIG_END};

/* ---- setup -------------------------------------------------------------------------------- */

static int
set_codes(struct scanner_conf *c, struct err *err)
{
	if (exit_map_add(&c->map, &c->clean_codes, CODE_CLEAN, code_options, err) < 0 ||
		exit_map_add(&c->map, &c->infected_codes, CODE_INFECTED, code_options, err) < 0)
		return -1;
	return exit_map_add(&c->map, &c->error_codes, CODE_ERROR, code_options, err);
}

static int
set_patterns(struct scanner_conf *c, struct err *err)
{
	struct match_word *words = xcalloc(c->infected.count + 1, sizeof(*words));
	size_t bad;
	int rc = 0;

	for (size_t i = 0; i < c->infected.count && rc == 0; i++) {
		words[i] = (struct match_word){c->infected.list[i].text, true};
		if (c->infected.list[i].kind != CONFIG_WORD_PATTERN)
			rc = err_set(err, "infected: \"%.100s\" is no /pattern/", c->infected.list[i].text);
	}
	if (rc == 0)
		c->patterns = match_list_new(MATCH_TEXTS, words, c->infected.count, &bad, err);
	free(words);
	if (rc == 0 && c->patterns == NULL)
		return err_prefix(err, "infected");
	return rc;
}

static int
scanner_setup(void *conf, struct err *err)
{
	struct scanner_conf *c = conf;

	c->map = (struct exit_map){.meaning = {0}};
	if (program_conf_check(&c->program, LETTERS, err) < 0 || set_codes(c, err) < 0 || set_patterns(c, err) < 0)
		return -1;
	if (!c->pipe && !template_uses(&c->program.command, 'f'))
		return err_set(err, "the command does not see the message (give it %%f, or say pipe yes)");
	if (c->mark != NULL && filter_field_check("mark", c->mark, err) < 0)
		return -1;
	if (filter_answer_passes(&c->answer) && c->mark == NULL)
		return err_set(err, "it does nothing: give it mark, or another verdict than pass");
	return filter_answer_check(&c->answer, err);
}

static void
scanner_teardown(void *conf)
{
	struct scanner_conf *c = conf;

	match_list_free(&c->patterns);
}

static const struct config_words *
scanner_program(const void *conf)
{
	const struct scanner_conf *c = conf;

	return &c->program.command;
}

static unsigned
scanner_asks(const void *conf)
{
	const struct scanner_conf *c = conf;

	return c->mark != NULL ? FILTER_MAY(MAIL_EDIT_ADD) : 0;
}

static void
scanner_marks(const void *conf, struct filter_marks *marks)
{
	const struct scanner_conf *c = conf;

	if (c->mark != NULL)
		filter_mark_declare(marks, c->mark);
}

/* ---- what it said ------------------------------------------------------------------------- */

static size_t
line_len(const char *text, size_t len)
{
	const char *end = memchr(text, '\n', len);

	return end != NULL ? (size_t)(end - text) : len;
}

/* The first line that matches. A pattern that goes over its limits is not tried on what follows: there may be very
 * many lines. name: in the arena. */
static enum match_result
find_name(const struct scanner_conf *c, const char *text, size_t len, const char **name_r, struct arena *arena,
	struct err *err)
{
	while (len > 0) {
		size_t n = line_len(text, len), begin, end;
		size_t bare = n > 0 && text[n - 1] == '\r' ? n - 1 : n;
		enum match_result result = match_list_find(c->patterns, text, bare, &begin, &end, err);

		if (result == MATCH_YES) {
			char clean[NAME_MAX_LEN + 1];

			str_clean(clean, NAME_MAX_LEN, text + begin, end - begin, false);
			*name_r = arena_strdup(arena, clean);
			return MATCH_YES;
		}
		if (result == MATCH_ERROR)
			return MATCH_ERROR;
		n += n < len;
		text += n;
		len -= n;
	}
	return MATCH_NO;
}

static const char *
make_text(const char *text, const char *name, struct arena *arena)
{
	const char *made = "";

	for (const char *v; (v = strstr(text, "%v")) != NULL; text = v + 2)
		made = arena_printf(arena, "%s%.*s%s", made, (int)(v - text), text, name);
	return arena_printf(arena, "%.*s", TEXT_MAX, arena_printf(arena, "%s%s", made, text));
}

static void
mark(struct filter_run *run, const char *value)
{
	const struct scanner_conf *c = run->conf;

	if (c->mark != NULL)
		filter_mark(run, c->mark, value);
}

static enum filter_step
infected(struct filter_run *run, const char *name)
{
	const struct scanner_conf *c = run->conf;
	struct filter_answer answer = c->answer;

	log_info(run->log, "virus", "filter=%s virus=%s", run->filter->name, name);
	mark(run, arena_printf(run->arena, "infected (%s)", name));
	answer.text = make_text(answer.text != NULL ? answer.text : "the message contains %v", name, run->arena);
	return filter_answer(run, &answer);
}

/* With its last words, for the log. */
static enum filter_step
unknown(struct filter_run *run, const struct program_result *result)
{
	const char *words = result->tail_len > 0 ? result->tail : result->text;
	char clean[200 + 1];

	str_clean(clean, 200, words, line_len(words, strlen(words)), false);
	return filter_fail(run, "exit code %d%s%s", result->code, clean[0] != '\0' ? ": " : "", clean);
}

/* A name in its output counts more than the code: a scanner may have had trouble besides. */
static enum filter_step
judge(struct filter_run *run, const struct program_result *result)
{
	const struct scanner_conf *c = run->conf;
	const char *name = "something";
	enum match_result found = find_name(c, result->text, result->text_len, &name, run->arena, &run->err);

	if (found == MATCH_NO)
		found = find_name(c, result->tail, result->tail_len, &name, run->arena, &run->err);
	if (found == MATCH_YES || c->map.meaning[result->code] == CODE_INFECTED)
		return infected(run, name);
	if (found == MATCH_ERROR)
		return FILTER_ERROR;
	if (c->map.meaning[result->code] != CODE_CLEAN)
		return unknown(run, result);
	if (result->is_text_cut)
		return filter_fail(run, "its output is longer than %d octets, and was not looked at behind them", PROGRAM_TEXT_MAX);
	mark(run, "clean");
	return FILTER_NEXT;
}

static enum filter_step
scanner_ended(struct filter_run *run, struct program_result *result)
{
	struct scanner_run *s = run->data;

	s->program = NULL;
	return result->failed ? FILTER_ERROR : judge(run, result);
}

static enum filter_step
scanner_message(struct filter_run *run)
{
	const struct scanner_conf *c = run->conf;
	struct scanner_run *s = run->data;
	const struct program_use use = {.wants_message = c->pipe};

	s->program = program_run_start(run, &c->program, &use, scanner_ended);
	return s->program != NULL ? FILTER_WAIT : FILTER_ERROR;
}

static void
scanner_cancel(struct filter_run *run)
{
	struct scanner_run *s = run->data;

	program_run_cancel(&s->program);
}

const struct filter_kind filter_scanner = {
	FILTER_SECTION(scanner, "runs a virus scanner for each message; its exit code and its output say what it found",
		scanner_options, struct scanner_conf),
	.section.example = "# Where clamd cannot be had; slow, for clamscan reads its database each time.\n"
			   "scanner clamscan {\n"
			   "    command        /usr/bin/clamscan --no-summary --stdout %f\n"
			   "    infected       /: (.+) FOUND$/\n"
			   "    infected_codes 1\n"
			   "    error_codes    2\n"
			   "    text           \"virus %v found\"\n"
			   "    mark           X-Virus-Status\n"
			   "}",
	.run_size = sizeof(struct scanner_run),
	.may = FILTER_MAY(MAIL_EDIT_ADD),
	.asks = scanner_asks,
	.setup = scanner_setup,
	.teardown = scanner_teardown,
	.marks = scanner_marks,
	.program = scanner_program,
	.message = scanner_message,
	.cancel = scanner_cancel,
};
