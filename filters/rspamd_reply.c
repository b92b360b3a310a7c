/*
 * filters/rspamd_reply.c - the JSON of an answer: action, texts, signatures; what becomes of the message.
 *
 * The edits come in the order of rspamd's own proxy: its milter block, DKIM signatures, then those of the action.
 */
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <string.h>

#include "base/str.h"
#include "filters/rspamd.h"
#include "filters/subject.h"

/* Symbols are named in the log up to here; the log cuts anyway. */
#define SYMBOLS_MAX 400

const char *const rspamd_action_names[] = {
	[RSPAMD_NO_ACTION] = "no action",
	[RSPAMD_GREYLIST] = "greylist",
	[RSPAMD_ADD_HEADER] = "add header",
	[RSPAMD_REWRITE_SUBJECT] = "rewrite subject",
	[RSPAMD_SOFT_REJECT] = "soft reject",
	[RSPAMD_REJECT] = "reject",
	[RSPAMD_DISCARD] = "discard",
	[RSPAMD_QUARANTINE] = "quarantine",
	NULL,
};

int
rspamd_wrong(struct rspamd_reply *r, const char *fmt, ...)
{
	struct str text = STR_INIT;
	va_list ap;

	va_start(ap, fmt);
	str_vprintf(&text, fmt, ap);
	va_end(ap);
	err_set(&r->run->err, "%s", str_text(&text));
	str_deinit(&text);
	return -1;
}

/* ---- reading -------------------------------------------------------------------------------- */

/* What a sender wrote may stand in it, so octets that are no UTF-8 must not make an answer unreadable. */
static json_t *
parse(struct filter_run *run, const char *text, size_t len)
{
	char *copy = arena_memdup(run->arena, text, len);
	json_error_t error;
	json_t *json;
	size_t n;

	for (size_t i = 0; i < len; i += n) {
		n = str_utf8_len(copy + i, len - i);
		if (n > 0)
			continue;
		copy[i] = '?';
		n = 1;
	}
	json = json_loadb(copy, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
	if (json == NULL)
		err_set(&run->err, "its answer is no JSON: %s (at octet %d)", error.text, error.position);
	return json;
}

/* -1: none that we know. */
static int
find_action(json_t *json)
{
	const char *word = json_string_value(json_object_get(json, "action"));

	for (int i = 0; word != NULL && i < RSPAMD_ACTION_COUNT; i++)
		if (strcmp(word, rspamd_action_names[i]) == 0)
			return i;
	return -1;
}

static const char *
smtp_message(json_t *json)
{
	return json_string_value(json_object_get(json_object_get(json, "messages"), "smtp_message"));
}

static const char *
number(const struct filter_run *run, json_t *json, const char *name)
{
	json_t *n = json_object_get(json, name);

	return json_is_number(n) ? arena_printf(run->arena, "%.2f", json_number_value(n)) : NULL;
}

static const char *
symbols(const struct filter_run *run, json_t *json)
{
	struct str out = STR_INIT;
	const char *name, *text;
	json_t *symbol;

	json_object_foreach(json_object_get(json, "symbols"), name, symbol) {
		if (out.len + strlen(name) > SYMBOLS_MAX)
			break;
		str_printf(&out, "%s%s", out.len > 0 ? "," : "", name);
		if (json_is_number(json_object_get(symbol, "score")))
			str_printf(&out, ":%.2f", json_number_value(json_object_get(symbol, "score")));
	}
	text = out.len > 0 ? arena_strdup(run->arena, out.data) : NULL;
	str_deinit(&out);
	return text;
}

static void
tell(const struct filter_run *run, json_t *json, enum rspamd_action action)
{
	if (log_wants(LOG_LEVEL_INFO))
		log_info(run->log, "score", "filter=%s action=%s score=%s required=%s symbols=%s", run->filter->name,
			rspamd_action_names[action], number(run, json, "score"), number(run, json, "required_score"),
			symbols(run, json));
}

/* ---- what is done --------------------------------------------------------------------------- */

static const struct rspamd_conf *
conf_of(const struct rspamd_reply *r)
{
	return r->run->conf;
}

static int
mark(struct rspamd_reply *r, const char *name, const char *value)
{
	if (rspamd_remove_all(r, name) < 0)
		return -1;
	return rspamd_add_field(r, -1, name, value);
}

/* Those the answer names, else the one of the configuration. */
static int
mark_spam(struct rspamd_reply *r)
{
	const struct rspamd_conf *c = conf_of(r);
	json_t *said = r->spam_header;
	const char *name;
	json_t *value;

	if (!json_is_object(said))
		return mark(r, c->spam_header, json_is_string(said) ? json_string_value(said) : c->spam_value);
	json_object_foreach(said, name, value) {
		if (!json_is_string(value))
			return rspamd_wrong(r, "its answer has a spam_header that is no text");
		if (mark(r, name, json_string_value(value)) < 0)
			return -1;
	}
	return 0;
}

/* rspamd's own, which has gone through its encoding already; else our tag. */
static int
rewrite_subject(struct rspamd_reply *r, json_t *json)
{
	json_t *subject = json_object_get(json, "subject");
	const struct rspamd_conf *c = conf_of(r);

	if (c->subject_tag == NULL && json_is_string(subject))
		return rspamd_change_field(r, "Subject", json_string_value(subject));
	if (!rspamd_may_edit(r))
		return -1;
	subject_tag_add(r->run, r->head, r->head_len, c->subject_tag != NULL ? c->subject_tag : "[SPAM]");
	return 0;
}

static int
insert_signatures(struct rspamd_reply *r, json_t *signatures)
{
	json_t *one;
	size_t i;

	if (json_is_string(signatures))
		return rspamd_add_field(r, 1, "DKIM-Signature", json_string_value(signatures));
	if (signatures != NULL && !json_is_array(signatures))
		return rspamd_wrong(r, "its answer has a dkim-signature that is no text");
	json_array_foreach(signatures, i, one) {
		if (!json_is_string(one))
			return rspamd_wrong(r, "its answer has a dkim-signature that is no text");
		if (rspamd_add_field(r, (int64_t)i + 1, "DKIM-Signature", json_string_value(one)) < 0)
			return -1;
	}
	return 0;
}

static int
report(struct rspamd_reply *r, json_t *json, enum rspamd_action action)
{
	const struct filter_run *run = r->run;
	const char *score = number(run, json, "score"), *required = number(run, json, "required_score");
	bool is_spam = action == RSPAMD_ADD_HEADER || action == RSPAMD_REWRITE_SUBJECT || action == RSPAMD_REJECT;

	score = score != NULL ? score : "?";
	if (mark(r, "X-Spam-Status",
		    arena_printf(run->arena, "%s, score=%s required=%s action=\"%s\"", is_spam ? "Yes" : "No", score,
			    required != NULL ? required : "?", rspamd_action_names[action])) < 0)
		return -1;
	return mark(r, "X-Rspamd-Score", score);
}

/* ---- verdicts ------------------------------------------------------------------------------- */

/* A rejection can be told to be another thing, by the answer itself. */
static enum rspamd_deed
deed_of(const struct rspamd_reply *r, enum rspamd_action action)
{
	int deed = conf_of(r)->deeds[action];

	if (deed != RSPAMD_DO_REJECT || r->on_reject == NULL)
		return (enum rspamd_deed)deed;
	if (strcmp(r->on_reject, "discard") == 0)
		return RSPAMD_DO_DISCARD;
	return strcmp(r->on_reject, "quarantine") == 0 ? RSPAMD_DO_QUARANTINE : RSPAMD_DO_REJECT;
}

static bool
delivers(enum rspamd_deed deed)
{
	return deed == RSPAMD_DO_PASS || deed == RSPAMD_DO_HEADER || deed == RSPAMD_DO_SUBJECT;
}

static int
edit_for_action(struct rspamd_reply *r, json_t *json, enum rspamd_action action, enum rspamd_deed deed)
{
	if (deed == RSPAMD_DO_HEADER && mark_spam(r) < 0)
		return -1;
	if (deed == RSPAMD_DO_SUBJECT && rewrite_subject(r, json) < 0)
		return -1;
	if (r->no_action && mark(r, "X-Rspamd-Action", rspamd_action_names[action]) < 0)
		return -1;
	return conf_of(r)->report ? report(r, json, action) : 0;
}

static int
edit(struct rspamd_reply *r, json_t *json, enum rspamd_action action, enum rspamd_deed deed)
{
	if (insert_signatures(r, json_object_get(json, "dkim-signature")) < 0)
		return -1;
	return delivers(deed) ? edit_for_action(r, json, action, deed) : 0;
}

static enum filter_step
conclude(struct filter_run *run, json_t *json, enum rspamd_action action, enum rspamd_deed deed)
{
	const char *text = smtp_message(json);

	switch (deed) {
	case RSPAMD_DO_TEMPFAIL:
		return filter_tempfail(run, 451, "4.7.1", text != NULL ? text : "please try again later");
	case RSPAMD_DO_REJECT:
		return filter_reject(run, 554, "5.7.1", text != NULL ? text : "this message looks like spam");
	case RSPAMD_DO_DISCARD:
		return filter_discard(run);
	case RSPAMD_DO_QUARANTINE:
		return filter_quarantine(run,
			arena_printf(run->arena, "rspamd: %s, score %s", rspamd_action_names[action],
				number(run, json, "score") != NULL ? number(run, json, "score") : "unknown"));
	case RSPAMD_DO_PASS:
	case RSPAMD_DO_HEADER:
	case RSPAMD_DO_SUBJECT:
		break;
	}
	return FILTER_NEXT;
}

static enum filter_step
act(struct rspamd_reply *r, json_t *json, enum rspamd_action action)
{
	json_t *block = json_object_get(json, "milter");
	enum rspamd_deed deed;

	if (block != NULL && !json_is_null(block) && rspamd_milter(r, block) < 0)
		return FILTER_ERROR;
	deed = r->no_action ? RSPAMD_DO_PASS : deed_of(r, action);
	if (edit(r, json, action, deed) < 0)
		return FILTER_ERROR;
	tell(r->run, json, action);
	return conclude(r->run, json, action, deed);
}

static enum filter_step
read_answer(struct filter_run *run, json_t *json)
{
	struct rspamd_reply r = { .run = run };
	int action;

	if (json_string_value(json_object_get(json, "error")) != NULL)
		return filter_fail(run, "it says: %s", json_string_value(json_object_get(json, "error")));
	action = find_action(json);
	if (action < 0)
		return filter_fail(run, "its answer has no action that is known");
	if (mail_edits_header(run->arena, run->msg->body, run->seen, &r.head, &r.head_len) < 0)
		return filter_fail(run, "cannot read the header: %s", strerror(errno));
	return act(&r, json, (enum rspamd_action)action);
}

enum filter_step
rspamd_answer(struct filter_run *run, const char *text, size_t len)
{
	json_t *json = parse(run, text, len);
	enum filter_step how = FILTER_ERROR;

	if (json != NULL && !json_is_object(json))
		err_set(&run->err, "its answer is no object");
	else if (json != NULL)
		how = read_answer(run, json);
	json_decref(json);
	return how;
}
