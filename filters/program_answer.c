/* filters/program_answer.c - what a program wrote for us, as JSON or as header lines. */
#include "filters/program_answer.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/list.h"
#include "base/str.h"
#include "mail/address.h"

#define EDITS_MAX    1000
#define NAME_MAX_LEN 100
/* RFC 5322 2.1.1. */
#define LINE_MAX_LEN 998

/* ---- fields ------------------------------------------------------------------------------- */

/* Line ends become CRLF. NULL: it cannot be a field's value. */
static const char *
make_value(const char *text, size_t len, size_t name_len, struct arena *arena)
{
	struct str out = STR_INIT;
	const char *value = NULL;
	size_t line = name_len + 2;
	bool good = true;

	str_reserve(&out, len + 1);
	for (size_t i = 0; i < len && good; i++) {
		unsigned char c = (unsigned char)text[i];
		bool is_end = c == '\n' || (c == '\r' && i + 1 < len && text[i + 1] == '\n');

		if (is_end) {
			str_add(&out, "\r\n");
			i += c == '\r';
			line = 0;
		} else {
			str_addc(&out, (char)c);
			good = (c >= ' ' || c == '\t') && c != 127 && ++line <= LINE_MAX_LEN;
		}
	}
	if (good && mail_edit_is_value(str_text(&out)))
		value = arena_strdup(arena, str_text(&out));
	str_deinit(&out);
	return value;
}

/* The loop guard lives on Received lines. */
static int
check_name(const char *name, struct err *err)
{
	if (!mail_edit_is_name(name) || strlen(name) > NAME_MAX_LEN)
		return err_set(err, "\"%.60s\" is no name of a header field", name);
	if (str_caseeq(name, "Received"))
		return err_set(err, "it may not touch Received lines");
	return 0;
}

/* ---- lines of header fields --------------------------------------------------------------- */

/* Octets up to and with the line end that no blank follows. */
static size_t
field_len(const char *text, size_t len)
{
	size_t pos = 0;

	do {
		const char *end = memchr(text + pos, '\n', len - pos);

		pos = end != NULL ? (size_t)(end - text) + 1 : len;
	} while (pos < len && (text[pos] == ' ' || text[pos] == '\t'));
	return pos;
}

static int
add_field(const char *text, size_t len, struct mail_edits *edits, struct err *err)
{
	const char *colon = memchr(text, ':', len), *name, *value;
	size_t skip;

	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
		len--;
	if (colon == NULL || colon >= text + len)
		return err_set(err, "its header lines: a line without a name and a colon");
	name = arena_strndup(edits->arena, text, (size_t)(colon - text));
	if (check_name(name, err) < 0)
		return err_prefix(err, "its header lines");
	for (skip = 1; colon + skip < text + len && (colon[skip] == ' ' || colon[skip] == '\t'); skip++)
		;
	value = make_value(colon + skip, (size_t)(text + len - colon) - skip, strlen(name), edits->arena);
	if (value == NULL)
		return err_set(err, "its header lines: the value of %s has control characters, is badly folded, or has a "
			"line longer than %d octets", name, LINE_MAX_LEN);
	mail_edit_add(edits, name, value);
	return 0;
}

/* Nothing more, or only empty lines: who writes a header block writes its end, too. */
static bool
is_end(const char *text, size_t len)
{
	while (len > 0) {
		size_t n = *text == '\r' && len > 1 ? 2 : 1;

		if (text[n - 1] != '\n')
			return false;
		text += n;
		len -= n;
	}
	return true;
}

int
program_header(const char *text, size_t len, struct mail_edits *edits, struct err *err)
{
	size_t count = 0;

	while (!is_end(text, len)) {
		size_t n = field_len(text, len);

		if (++count > EDITS_MAX)
			return err_set(err, "its header lines: more than %d fields", EDITS_MAX);
		if (add_field(text, n, edits, err) < 0)
			return -1;
		text += n;
		len -= n;
	}
	return 0;
}

/* ---- JSON --------------------------------------------------------------------------------- */

struct reading {
	struct mail_edits *edits;
	const struct mail_sender *sender;
	enum verdict_kind kind; /* VERDICT_COUNT: not given */
	struct reason *reason;
	struct err *err;
};

static int
take_verdict(struct reading *r, const json_t *json)
{
	const char *word = json_string_value(json);

	for (int i = 0; word != NULL && i < VERDICT_COUNT; i++)
		if (strcmp(word, verdict_names[i]) == 0) {
			r->kind = (enum verdict_kind)i;
			return 0;
		}
	return err_set(r->err, "verdict: no such verdict");
}

static int
take_code(struct reading *r, const json_t *json)
{
	json_int_t code = json_integer_value(json);

	if (!json_is_integer(json) || code < 200 || code > 599)
		return err_set(r->err, "code: no reply code");
	r->reason->code = (int)code;
	return 0;
}

/* Whether it is one, and of the code's class, is seen when code and text are put together. */
static int
take_status(struct reading *r, const json_t *json)
{
	const char *text = json_string_value(json);

	if (text == NULL || strlen(text) >= sizeof(r->reason->status))
		return err_set(r->err, "status: no enhanced status code");
	strcpy(r->reason->status, text);
	return 0;
}

static int
take_text(struct reading *r, const json_t *json)
{
	if (!json_is_string(json))
		return err_set(r->err, "text: no text");
	filter_text_clean(r->reason->text, json_string_value(json));
	return 0;
}

static const char *const field_actions[] = {"add", "insert", "change", "delete"};
enum field_action { FIELD_ADD, FIELD_INSERT, FIELD_CHANGE, FIELD_DELETE, FIELD_NONE };

static bool
is_field_member(const char *name)
{
	for (size_t i = 0; i < ARRAY_COUNT(field_actions); i++)
		if (strcmp(name, field_actions[i]) == 0)
			return true;
	return strcmp(name, "value") == 0 || strcmp(name, "index") == 0;
}

/* One of the actions, with the name as its value; nothing unknown beside it. */
static enum field_action
find_action(json_t *field, const char **name_r)
{
	enum field_action found = FIELD_NONE;
	const char *name;
	json_t *value;

	*name_r = NULL;
	json_object_foreach(field, name, value)
	if (!is_field_member(name))
		return FIELD_NONE;
	for (size_t i = 0; i < ARRAY_COUNT(field_actions); i++) {
		value = json_object_get(field, field_actions[i]);
		if (value == NULL)
			continue;
		if (found != FIELD_NONE || !json_is_string(value))
			return FIELD_NONE;
		found = (enum field_action)i;
		*name_r = json_string_value(value);
	}
	return found;
}

static int
take_index(const json_t *json, enum field_action action, size_t *index_r, struct err *err)
{
	json_int_t n = json_integer_value(json);

	*index_r = action == FIELD_INSERT ? 0 : 1;
	if (json == NULL)
		return 0;
	if (action == FIELD_DELETE && json_is_string(json) && strcmp(json_string_value(json), "all") == 0) {
		*index_r = MAIL_EDIT_ALL;
		return 0;
	}
	if (action == FIELD_ADD || !json_is_integer(json) || n < 0 || n > MAIL_HEADER_MAX)
		return err_set(err, "headers: no index of a field");
	*index_r = (size_t)n;
	return 0;
}

static int
take_field(struct reading *r, json_t *field)
{
	const json_t *text = json_object_get(field, "value");
	const char *name, *value = NULL;
	enum field_action action = find_action(field, &name);
	size_t index;

	if (action == FIELD_NONE || (action == FIELD_DELETE) != (text == NULL))
		return err_set(r->err, "headers: an edit has one of add, insert, change with a value, or delete, and "
			"at most an index");
	if (check_name(name, r->err) < 0 ||
		take_index(json_object_get(field, "index"), action, &index, r->err) < 0)
		return -1;
	if (json_is_string(text))
		value = make_value(json_string_value(text), json_string_length(text), strlen(name), r->edits->arena);
	if (text != NULL && value == NULL)
		return err_set(r->err, "headers: the value of %s cannot stand in a header", name);
	if (action == FIELD_ADD)
		mail_edit_add(r->edits, name, value);
	else if (action == FIELD_INSERT)
		mail_edit_insert(r->edits, index, name, value);
	else if (action == FIELD_CHANGE)
		mail_edit_change(r->edits, index, name, value);
	else
		mail_edit_delete(r->edits, index, name);
	return 0;
}

static int
each(struct reading *r, const json_t *list, const char *name, int (*take)(struct reading *r, json_t *json))
{
	size_t count = json_array_size(list);

	if (!json_is_array(list) || count > EDITS_MAX)
		return err_set(r->err, "%s: no list of at most %d", name, EDITS_MAX);
	for (size_t i = 0; i < count; i++)
		if (take(r, json_array_get(list, i)) < 0)
			return -1;
	return 0;
}

static int
take_fields(struct reading *r, const json_t *json)
{
	return each(r, json, "headers", take_field);
}

/* Without brackets. UTF-8 only in a transaction that has it. */
static const char *
take_address(struct reading *r, const json_t *json, unsigned flags)
{
	const char *text = json_string_value(json), *path;
	struct mail_path parsed;

	if (text == NULL || strlen(text) > MAIL_PATH_MAX)
		return NULL;
	path = arena_printf(r->edits->arena, "<%s>", text);
	flags |= r->sender->smtputf8 ? MAIL_PATH_UTF8 : 0;
	if (mail_path_parse(path, strlen(path), flags, &parsed, r->err) != strlen(path) || parsed.mailbox != parsed.begin)
		return NULL;
	return text;
}

static int
take_sender(struct reading *r, const json_t *json)
{
	struct mail_sender sender = *r->sender;

	sender.addr = take_address(r, json, MAIL_PATH_NULL);
	if (sender.addr == NULL)
		return err_set(r->err, "sender: no address");
	mail_edit_sender(r->edits, &sender);
	return 0;
}

static int
add_rcpt(struct reading *r, json_t *json)
{
	const struct mail_rcpt rcpt = {.addr = take_address(r, json, MAIL_PATH_BARE)};

	if (rcpt.addr == NULL)
		return err_set(r->err, "add_recipients: no address");
	mail_edit_add_rcpt(r->edits, &rcpt);
	return 0;
}

static int
remove_rcpt(struct reading *r, json_t *json)
{
	const char *addr = take_address(r, json, MAIL_PATH_BARE);

	if (addr == NULL)
		return err_set(r->err, "remove_recipients: no address");
	mail_edit_remove_rcpt(r->edits, addr);
	return 0;
}

static int
take_added(struct reading *r, const json_t *json)
{
	return each(r, json, "add_recipients", add_rcpt);
}

static int
take_removed(struct reading *r, const json_t *json)
{
	return each(r, json, "remove_recipients", remove_rcpt);
}

static const struct member {
	const char *name;
	int (*take)(struct reading *r, const json_t *json);
} members[] = {
	{"verdict", take_verdict},
	{"code", take_code},
	{"status", take_status},
	{"text", take_text},
	{"headers", take_fields},
	{"sender", take_sender},
	{"add_recipients", take_added},
	{"remove_recipients", take_removed},
};

static int
take_member(struct reading *r, const char *name, const json_t *json)
{
	for (size_t i = 0; i < ARRAY_COUNT(members); i++)
		if (strcmp(members[i].name, name) == 0)
			return members[i].take(r, json);
	return err_set(r->err, "\"%.60s\" is unknown", name);
}

/* By the rules for a line of text. */
static int
check_reason(struct reading *r)
{
	struct reason given = *r->reason;
	char line[sizeof(given)];

	if (given.code == 0 && given.status[0] != '\0')
		return err_set(r->err, "a status without a code");
	if (given.code == 0)
		return 0;
	snprintf(line, sizeof(line), "%d %s %s", given.code, given.status[0] != '\0' ? given.status : "", "x");
	reason_parse(line, strlen(line), r->reason);
	if (r->reason->code != given.code || strcmp(r->reason->status, given.status) != 0 ||
		reason_verdict(r->reason) != r->kind)
		return err_set(r->err, "code %d and status \"%s\" do not fit verdict %s", given.code, given.status,
			verdict_names[r->kind]);
	memcpy(r->reason->text, given.text, sizeof(given.text));
	return 0;
}

static int
take_object(struct reading *r, json_t *object)
{
	const char *name;
	json_t *value;

	if (!json_is_object(object))
		return err_set(r->err, "no object");
	json_object_foreach(object, name, value)
	if (take_member(r, name, value) < 0)
		return -1;
	if (r->kind == VERDICT_COUNT)
		return err_set(r->err, "there is no verdict in it");
	return check_reason(r);
}

int
program_json(const char *text, size_t len, struct mail_edits *edits, const struct mail_sender *sender,
	enum verdict_kind *kind_r, struct reason *reason_r, struct err *err)
{
	struct reading r = {.edits = edits, .sender = sender, .kind = VERDICT_COUNT, .reason = reason_r, .err = err};
	json_error_t where;
	json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
	int rc;

	*reason_r = (struct reason){.code = 0};
	if (json == NULL)
		return err_set(err, "its JSON: line %d, column %d: %s", where.line, where.column, where.text);
	rc = take_object(&r, json);
	json_decref(json);
	*kind_r = r.kind;
	return rc < 0 ? err_prefix(err, "its JSON") : 0;
}
