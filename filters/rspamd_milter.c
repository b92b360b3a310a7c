/*
 * filters/rspamd_milter.c - the block "milter" of an answer: fields to remove and to add, another envelope.
 *
 * What rspamd names is what it saw: indices are of the message as it was sent, our own Received line among its
 * fields. A shape that nobody knows makes the answer wrong, and so does an address that is none; a field that cannot
 * stand in a header is left out.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "filters/envelope.h"
#include "filters/rspamd.h"
#include "mail/address.h"
#include "mail/encoded.h"
#include "mail/header.h"

#define NAME_MAX_LEN 100
#define VALUE_MAX    (32 * 1024)
/* RFC 5322 2.1.1. */
#define LINE_MAX_LEN 998

/* ---- fields --------------------------------------------------------------------------------- */

bool
rspamd_may_edit(struct rspamd_reply *r)
{
	if (r->edit_count++ < RSPAMD_EDITS_MAX)
		return true;
	rspamd_wrong(r, "its answer asks for more than %d edits", RSPAMD_EDITS_MAX);
	return false;
}

size_t
rspamd_count_fields(const struct rspamd_reply *r, const char *name)
{
	struct mail_field field;
	size_t pos = 0, count = 0;

	while (mail_header_next(r->head, r->head_len, &pos, &field))
		count += mail_field_is(&field, name);
	return count;
}

static bool
is_line_end(char c)
{
	return c == '\r' || c == '\n';
}

/* Is there text behind these blanks, before the next line end? Else they are no fold. */
static bool
is_fold(const char *text)
{
	size_t blanks = strspn(text, " \t");

	return blanks > 0 && text[blanks] != '\0' && !is_line_end(text[blanks]);
}

/* With line ends as they must be: those in front of a blank fold, whatever they were; others are blanks. */
static void
unify(struct str *out, const char *text)
{
	while (*text != '\0') {
		if (is_line_end(*text)) {
			text += text[0] == '\r' && text[1] == '\n' ? 2 : 1;
			str_add(out, out->len > 0 && is_fold(text) ? "\r\n" : " ");
			continue;
		}
		str_addc(out, (unsigned char)*text < ' ' && *text != '\t' ? ' ' : *text == 0x7f ? '?' : *text);
		text++;
	}
}

static bool
has_8bit(const char *text)
{
	while (*text != '\0' && !(*text & 0x80))
		text++;
	return *text != '\0';
}

/* Octets above 127 are for those who said SMTPUTF8 (RFC 6532); to all others they go as encoded words. */
static const char *
field_value(const struct rspamd_reply *r, const char *text)
{
	struct arena *arena = r->run->arena;
	struct str out = STR_INIT;
	const char *value;

	unify(&out, text);
	if (has_8bit(str_text(&out)) && !r->run->msg->sender->smtputf8) {
		struct str line = STR_INIT;

		for (const char *c = out.data; *c != '\0'; c++)
			if (!is_line_end(*c))
				str_addc(&line, *c);
		value = mail_encode(str_text(&line), arena);
		str_deinit(&line);
	} else {
		value = arena_strndup(arena, str_text(&out), out.len);
	}
	str_deinit(&out);
	return value + strspn(value, " \t");
}

static bool
has_long_line(const char *name, const char *value)
{
	size_t len = strlen(name) + 2;

	for (;;) {
		size_t line = strcspn(value, "\r");

		if (len + line > LINE_MAX_LEN)
			return true;
		if (value[line] == '\0')
			return false;
		value += line + 2;
		len = 0;
	}
}

/* Loops are found by them, and nobody else may write or remove one. */
static bool
is_trace(const char *name)
{
	return str_caseeq(name, "Received");
}

static bool
is_name(const char *name)
{
	return mail_edit_is_name(name) && strlen(name) <= NAME_MAX_LEN && !is_trace(name);
}

/* What was wrong is not written into the log: the answer may hold what the sender wrote. */
static int
leave_out(const struct rspamd_reply *r, const char *what)
{
	const struct filter_run *run = r->run;

	log_repeat(LOG_LEVEL_WARN, run->log, run->filter->name, "filter", "filter=%s err=%s", run->filter->name, what);
	return 0;
}

/* The value as it will stand. NULL: it cannot, and the log has been told. */
static const char *
check_field(const struct rspamd_reply *r, const char *name, const char *value)
{
	const char *fault = NULL;

	if (!is_name(name))
		fault = "asks for a field whose name cannot stand in a header; left out";
	else if (strlen(value) > VALUE_MAX)
		fault = "asks for a field that is too long; left out";
	if (fault == NULL) {
		value = field_value(r, value);
		if (has_long_line(name, value) || !mail_edit_is_value(value))
			fault = "asks for a field with a line that is too long; left out";
	}
	if (fault != NULL)
		leave_out(r, fault);
	return fault == NULL ? value : NULL;
}

int
rspamd_add_field(struct rspamd_reply *r, int64_t index, const char *name, const char *value)
{
	if (!rspamd_may_edit(r))
		return -1;
	value = check_field(r, name, value);
	if (value != NULL && index < 0)
		mail_edit_add(r->run->edits, name, value);
	else if (value != NULL)
		mail_edit_insert(r->run->edits, (size_t)index, name, value);
	return 0;
}

int
rspamd_change_field(struct rspamd_reply *r, const char *name, const char *value)
{
	if (!rspamd_may_edit(r))
		return -1;
	value = check_field(r, name, value);
	if (value != NULL)
		mail_edit_change(r->run->edits, 1, name, value);
	return 0;
}

int
rspamd_remove_all(struct rspamd_reply *r, const char *name)
{
	if (!is_name(name) || rspamd_count_fields(r, name) == 0)
		return 0;
	if (!rspamd_may_edit(r))
		return -1;
	mail_edit_delete(r->run->edits, MAIL_EDIT_ALL, name);
	return 0;
}

/* ---- remove_headers ------------------------------------------------------------------------- */

static int
compare_down(const void *a, const void *b)
{
	size_t x = *(const size_t *)a, y = *(const size_t *)b;

	return x < y ? 1 : x > y ? -1 : 0;
}

/* n-th from 1; from the end when negative. False: there is none. */
static bool
resolve_index(json_int_t n, size_t count, size_t *index_r)
{
	if (n > 0 && n <= (json_int_t)count)
		*index_r = (size_t)n;
	else if (n < 0 && n >= -(json_int_t)count)
		*index_r = count - (size_t)-n + 1;
	else
		return false;
	return true;
}

/* The last first, so that an index still means the field that rspamd saw. */
static int
remove_listed(struct rspamd_reply *r, const char *name, json_t *list)
{
	size_t total = rspamd_count_fields(r, name), count = 0;
	size_t *indices = arena_alloc(r->run->arena, (json_array_size(list) + 1) * sizeof(*indices));
	size_t i;
	json_t *n;

	json_array_foreach(list, i, n) {
		if (!json_is_integer(n))
			return rspamd_wrong(r, "its answer has remove_headers that are no numbers");
		if (json_integer_value(n) == 0)
			return rspamd_remove_all(r, name);
		count += resolve_index(json_integer_value(n), total, &indices[count]);
	}
	qsort(indices, count, sizeof(*indices), compare_down);
	for (i = 0; i < count; i++) {
		if (i > 0 && indices[i] == indices[i - 1])
			continue;
		if (!rspamd_may_edit(r))
			return -1;
		mail_edit_delete(r->run->edits, indices[i], name);
	}
	return 0;
}

static int
remove_named(struct rspamd_reply *r, const char *name, json_t *which)
{
	json_t *list;
	int rc;

	if (!rspamd_may_edit(r)) /* to look for it costs as much */
		return -1;
	if (!is_name(name))
		return leave_out(r, "asks for the removal of a field that cannot be removed; left out");
	if (json_is_array(which))
		return remove_listed(r, name, which);
	list = json_array();
	json_array_append(list, which);
	rc = remove_listed(r, name, list);
	json_decref(list);
	return rc;
}

static int
do_remove_headers(struct rspamd_reply *r, json_t *from)
{
	const char *name;
	json_t *which;

	if (!json_is_object(from))
		return rspamd_wrong(r, "its answer has remove_headers that are no object");
	json_object_foreach(from, name, which)
		if (remove_named(r, name, which) < 0)
			return -1;
	return 0;
}

/* ---- add_headers ---------------------------------------------------------------------------- */

/* Numbers are what people write in Lua. NULL: it is no text. */
static const char *
value_text(const struct rspamd_reply *r, json_t *value)
{
	if (json_is_string(value))
		return json_string_value(value);
	if (json_is_integer(value))
		return arena_printf(r->run->arena, "%lld", (long long)json_integer_value(value));
	return json_is_real(value) ? arena_printf(r->run->arena, "%.2f", json_real_value(value)) : NULL;
}

/* A negative order counts from the end: -1 is behind all. */
static int64_t
resolve_order(struct rspamd_reply *r, json_int_t order)
{
	struct mail_field field;
	size_t pos = 0;

	if (order >= 0)
		return order;
	while (!r->has_field_count && mail_header_next(r->head, r->head_len, &pos, &field))
		r->field_count++;
	r->has_field_count = true;
	return order + 1 + r->field_count > 0 ? order + 1 + r->field_count : 0;
}

static int
add_one(struct rspamd_reply *r, const char *name, json_t *how)
{
	json_t *order = json_object_get(how, "order");
	const char *value = value_text(r, json_is_object(how) ? json_object_get(how, "value") : how);

	if (order == NULL)
		order = json_object_get(how, "index");
	if (value == NULL || (order != NULL && !json_is_integer(order)))
		return rspamd_wrong(r, "its answer has add_headers of a kind that nobody knows");
	return rspamd_add_field(r, order != NULL ? resolve_order(r, json_integer_value(order)) : -1, name, value);
}

static int
do_add_headers(struct rspamd_reply *r, json_t *from)
{
	const char *name;
	json_t *how, *one;
	size_t i;

	if (!json_is_object(from))
		return rspamd_wrong(r, "its answer has add_headers that are no object");
	json_object_foreach(from, name, how) {
		if (!json_is_array(how) && add_one(r, name, how) < 0)
			return -1;
		json_array_foreach(how, i, one)
			if (add_one(r, name, one) < 0)
				return -1;
	}
	return 0;
}

/* ---- the envelope --------------------------------------------------------------------------- */

/* With brackets or without. */
static int
parse_address(struct rspamd_reply *r, json_t *value, unsigned flags, const char **addr_r, const char **domain_r)
{
	const char *text = json_string_value(value);
	struct arena *arena = r->run->arena;
	struct mail_path path;
	struct err err;
	char *addr;

	if (text == NULL)
		return rspamd_wrong(r, "its answer has an address that is no text");
	if (*text != '<')
		text = arena_printf(arena, "<%s>", text);
	if (r->run->msg->sender->smtputf8)
		flags |= MAIL_PATH_UTF8;
	if (mail_path_parse(text, strlen(text), flags, &path, &err) != strlen(text))
		return rspamd_wrong(r, "its answer has an address that is none");
	addr = arena_strndup(arena, text + path.mailbox, path.end - path.mailbox);
	*addr_r = addr;
	*domain_r = path.at < path.end ? addr + (path.at - path.mailbox) + 1 : addr + strlen(addr);
	return 0;
}

static int
do_change_from(struct rspamd_reply *r, json_t *to)
{
	struct mail_envelope envelope;
	struct mail_sender sender;

	filter_envelope(r->run, &envelope);
	sender = *envelope.sender;
	if (parse_address(r, to, MAIL_PATH_NULL, &sender.addr, &sender.domain) < 0 || !rspamd_may_edit(r))
		return -1;
	mail_edit_sender(r->run->edits, &sender);
	return 0;
}

static int
add_rcpt(struct rspamd_reply *r, json_t *who)
{
	struct mail_rcpt rcpt = { .addr = NULL };

	if (parse_address(r, who, MAIL_PATH_BARE, &rcpt.addr, &rcpt.domain) < 0 || !rspamd_may_edit(r))
		return -1;
	mail_edit_add_rcpt(r->run->edits, &rcpt);
	return 0;
}

static int
del_rcpt(struct rspamd_reply *r, json_t *who)
{
	const char *addr, *domain;

	if (parse_address(r, who, MAIL_PATH_BARE, &addr, &domain) < 0 || !rspamd_may_edit(r))
		return -1;
	mail_edit_remove_rcpt(r->run->edits, addr);
	return 0;
}

static int
each(struct rspamd_reply *r, json_t *list, int (*fn)(struct rspamd_reply *, json_t *))
{
	json_t *one;
	size_t i;

	if (!json_is_array(list))
		return fn(r, list);
	json_array_foreach(list, i, one)
		if (fn(r, one) < 0)
			return -1;
	return 0;
}

static int
do_add_rcpt(struct rspamd_reply *r, json_t *list)
{
	return each(r, list, add_rcpt);
}

static int
do_del_rcpt(struct rspamd_reply *r, json_t *list)
{
	return each(r, list, del_rcpt);
}

/* ---- what it says about the action ---------------------------------------------------------- */

static int
do_reject(struct rspamd_reply *r, json_t *how)
{
	const char *word = json_string_value(how);

	if (word == NULL)
		return rspamd_wrong(r, "its answer has a reject that is no word");
	r->on_reject = word;
	return 0;
}

static int
do_spam_header(struct rspamd_reply *r, json_t *what)
{
	if (!json_is_string(what) && !json_is_object(what))
		return rspamd_wrong(r, "its answer has a spam_header that is no text");
	r->spam_header = what;
	return 0;
}

static int
do_no_action(struct rspamd_reply *r, json_t *is)
{
	if (!json_is_boolean(is))
		return rspamd_wrong(r, "its answer has a no_action that is neither true nor false");
	r->no_action = json_is_true(is);
	return 0;
}

/* In the order in which rspamd's own proxy does them. */
int
rspamd_milter(struct rspamd_reply *r, json_t *block)
{
	static const struct {
		const char *name;
		int (*run)(struct rspamd_reply *r, json_t *value);
	} parts[] = {
		{ "remove_headers", do_remove_headers },
		{ "add_headers", do_add_headers },
		{ "change_from", do_change_from },
		{ "add_rcpt", do_add_rcpt },
		{ "del_rcpt", do_del_rcpt },
		{ "reject", do_reject },
		{ "spam_header", do_spam_header },
		{ "no_action", do_no_action },
	};

	if (!json_is_object(block))
		return rspamd_wrong(r, "its answer has a milter block that is no object");
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		json_t *value = json_object_get(block, parts[i].name);

		if (value != NULL && !json_is_null(value) && parts[i].run(r, value) < 0)
			return -1;
	}
	return 0;
}
