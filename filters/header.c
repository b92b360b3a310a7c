/*
 * filters/header.c - looks at header fields, and adds, changes, removes and tags some.
 *
 * Options come as words in pairs; header_setup() makes lists of them, once for each load.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/match.h"
#include "base/str.h"
#include "base/xalloc.h"
#include "filters/answer.h"
#include "filters/fields.h"
#include "filters/mark.h"
#include "filters/subject.h"
#include "mail/encoded.h"
#include "mail/header.h"


extern const struct filter_kind filter_header;

struct matcher {
	const char *name;
	struct match_list *pattern;
};

struct header_conf {
	struct config_words match, add, change, remove, mark;
	const char *subject_tag;
	struct filter_answer answer;
	/* made by setup */
	struct matcher *matchers;
	size_t matcher_count;
};

static const struct config_option header_options[] = {
	CONFIG_WORDS("match", struct header_conf, match, NULL,
		"NAME /PATTERN/, one or more of these: the messages it is about, those with a field of such a "
		"name whose value matches, without regard to case (one is enough); tried on the unfolded value "
		"as it stands, and with its encoded words decoded; when not given, all messages"),
	FILTER_ANSWER_OPTIONS(struct header_conf, answer, "pass", "of a message that matches"),
	CONFIG_WORDS("remove", struct header_conf, remove, NULL,
		"names: all fields of these names go"),
	CONFIG_WORDS("change", struct header_conf, change, NULL,
		"NAME VALUE, one or more of these: the first field of that name gets the value, and keeps its "
		"place and spelling; when there is none, the field is added"),
	CONFIG_WORDS("add", struct header_conf, add, NULL,
		"NAME VALUE, one or more of these: a field at the end of the header, also when there is one of "
		"that name"),
	CONFIG_WORDS("mark", struct header_conf, mark, NULL,
		"NAME VALUE, one or more of these: as add, for what others may believe: fields of such a name that come in "
		"from outside are removed, from every message of the listeners that may use this filter"),
	CONFIG_STRING("subject_tag", struct header_conf, subject_tag, NULL,
		"the text is put in front of the subject, unless it stands somewhere in it already"),
	CONFIG_END};

/* ---- setup -------------------------------------------------------------------------------- */

static int
check_removed(const struct config_words *words, struct err *err)
{
	for (size_t i = 0; i < words->count; i++)
		if (filter_field_check("remove", words->list[i].text, err) < 0)
			return -1;
	return 0;
}

static int
add_matcher(struct header_conf *c, const char *name, const struct config_word *pattern, struct err *err)
{
	const struct match_word word = {pattern->text, true};
	struct matcher *m = &c->matchers[c->matcher_count];
	size_t bad;

	if (filter_field_name_check("match", name, err) < 0)
		return -1;
	if (pattern->kind != CONFIG_WORD_PATTERN)
		return err_set(err, "match: behind %s stands a /pattern/ (\"%s\" is none)", name, pattern->text);
	m->name = name;
	m->pattern = match_list_new(MATCH_TEXTS, &word, 1, &bad, err);
	if (m->pattern == NULL)
		return err_prefix(err, "match %s", name);
	c->matcher_count++;
	return 0;
}

static int
set_matchers(struct header_conf *c, struct err *err)
{
	const struct config_words *w = &c->match;

	if (filter_pairs_check("match", w, "/pattern/", err) < 0)
		return -1;
	c->matchers = xcalloc(w->count / 2 + 1, sizeof(c->matchers[0]));
	for (size_t i = 0; i < w->count; i += 2)
		if (add_matcher(c, w->list[i].text, &w->list[i + 1], err) < 0)
			return -1;
	return 0;
}

static bool
has_edits(const struct header_conf *c)
{
	return c->add.count > 0 || c->change.count > 0 || c->remove.count > 0 || c->mark.count > 0 ||
	       c->subject_tag != NULL;
}

static int
header_setup(void *conf, struct err *err)
{
	struct header_conf *c = conf;

	if (set_matchers(c, err) < 0 || filter_answer_check(&c->answer, err) < 0 || check_removed(&c->remove, err) < 0 ||
		filter_fields_check("change", &c->change, err) < 0 || filter_fields_check("add", &c->add, err) < 0 ||
		filter_fields_check("mark", &c->mark, err) < 0 ||
		subject_tag_check(c->subject_tag, err) < 0)
		return -1;
	if (has_edits(c) && !filter_answer_delivers(&c->answer))
		return err_set(err, "it edits messages that are not delivered (verdict %s)",
			filter_answer_names[c->answer.verdict]);
	if (!has_edits(c) && filter_answer_passes(&c->answer))
		return err_set(err, "it does nothing: give it add, change, remove, mark, subject_tag or another verdict");
	return 0;
}

static void
header_teardown(void *conf)
{
	struct header_conf *c = conf;

	for (size_t i = 0; i < c->matcher_count; i++)
		match_list_free(&c->matchers[i].pattern);
	free(c->matchers);
	c->matchers = NULL;
	c->matcher_count = 0;
}

/* ---- one message -------------------------------------------------------------------------- */

struct head {
	const char *text;
	size_t len;
	struct arena *scratch; /* for one field at a time: a header may have very many */
};

static char *
raw_value(const struct head *head, const struct mail_field *field)
{
	return mail_field_text(field, field->value_len, head->scratch);
}

/* Raw and decoded: a pattern may be meant for either. */
static enum match_result
ask_field(struct filter_run *run, const struct matcher *m, const struct head *head,
	const struct mail_field *field)
{
	const char *raw = raw_value(head, field), *decoded;
	enum match_result result = match_list_ask(m->pattern, raw, strlen(raw), &run->err);
	size_t len;

	if (result != MATCH_NO || strstr(raw, "=?") == NULL)
		return result;
	decoded = mail_decode(raw, strlen(raw), head->scratch, &len);
	return match_list_ask(m->pattern, decoded, len, &run->err);
}

static enum match_result
ask_matcher(struct filter_run *run, const struct matcher *m, const struct head *head)
{
	enum match_result worst = MATCH_NO;
	struct mail_field field;
	size_t pos = 0;

	while (mail_header_next(head->text, head->len, &pos, &field)) {
		enum match_result result;

		if (!mail_field_is(&field, m->name))
			continue;
		result = ask_field(run, m, head, &field);
		arena_reset(head->scratch);
		if (result == MATCH_YES)
			return MATCH_YES;
		if (result == MATCH_ERROR)
			worst = MATCH_ERROR;
	}
	return worst;
}

/* What is not known for one of them does not matter when another one matches. */
static enum match_result
is_meant(struct filter_run *run, const struct head *head)
{
	const struct header_conf *c = run->conf;
	enum match_result worst = c->matcher_count == 0 ? MATCH_YES : MATCH_NO;

	for (size_t i = 0; i < c->matcher_count; i++) {
		enum match_result result = ask_matcher(run, &c->matchers[i], head);

		if (result == MATCH_YES)
			return MATCH_YES;
		if (result == MATCH_ERROR)
			worst = MATCH_ERROR;
	}
	return worst;
}

static void
edit(struct filter_run *run, const struct head *head)
{
	const struct header_conf *c = run->conf;

	/* First, for its index is that of the subject that was looked at. */
	if (c->subject_tag != NULL)
		subject_tag_add(run, head->text, head->len, c->subject_tag);
	for (size_t i = 0; i < c->remove.count; i++)
		mail_edit_delete(run->edits, MAIL_EDIT_ALL, c->remove.list[i].text);
	for (size_t i = 0; i < c->change.count; i += 2)
		mail_edit_change(run->edits, 1, c->change.list[i].text, c->change.list[i + 1].text);
	for (size_t i = 0; i < c->add.count; i += 2)
		mail_edit_add(run->edits, c->add.list[i].text, c->add.list[i + 1].text);
	for (size_t i = 0; i < c->mark.count; i += 2)
		filter_mark(run, c->mark.list[i].text, c->mark.list[i + 1].text);
}

static enum filter_step
look(struct filter_run *run, const struct head *head)
{
	const struct header_conf *c = run->conf;

	switch (is_meant(run, head)) {
	case MATCH_ERROR:
		return FILTER_ERROR;
	case MATCH_NO:
		return FILTER_NEXT;
	case MATCH_YES:
		break;
	}
	edit(run, head);
	return filter_answer(run, &c->answer);
}

static enum filter_step
header_message(struct filter_run *run)
{
	enum filter_step how;
	struct head head;

	if (mail_edits_header(run->arena, run->msg->body, run->seen, &head.text, &head.len) < 0)
		return filter_fail(run, "cannot read the header: %s", strerror(errno));
	head.scratch = arena_new();
	how = look(run, &head);
	arena_free(&head.scratch);
	return how;
}

static void
header_marks(const void *conf, struct filter_marks *marks)
{
	const struct header_conf *c = conf;

	for (size_t i = 0; i < c->mark.count; i += 2)
		filter_mark_declare(marks, c->mark.list[i].text);
}

const struct filter_kind filter_header = {
	FILTER_SECTION(header,
		"looks at header fields as the filters before it left them, gives a verdict, and edits: tags the "
		"subject, removes, changes, adds and marks, in this order",
		header_options, struct header_conf),
	.section.example = "# Marks what looks like advertising, for those who sort it by the subject.\n"
			   "header advertising {\n"
			   "    match       List-Unsubscribe /./ Subject /^(sale|win)\\b/\n"
			   "    remove      X-Advertising\n"
			   "    add         X-Advertising yes\n"
			   "    subject_tag \"[ad]\"\n"
			   "}",
	.may = FILTER_MAY(MAIL_EDIT_ADD) | FILTER_MAY(MAIL_EDIT_CHANGE) | FILTER_MAY(MAIL_EDIT_DELETE),
	.setup = header_setup,
	.teardown = header_teardown,
	.marks = header_marks,
	.is_prompt = true,
	.message = header_message,
};
