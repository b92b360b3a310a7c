/*
 * t/unit/test_edit_model.c - every edit, and every two of them, on messages of every kind, against a model that does the
 * same slowly and simply: a list of lines.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <strings.h>

#include "t/unit/content.h"

#define ITEMS_MAX 64

/* ---- messages and edits ------------------------------------------------------------------- */

static const char *const messages[] = {
	"",
	"\r\n",
	"\r\nA: in the body\r\n",
	"body without a header\r\nA: 1\r\n",
	"A: 1\r\n",
	"A: 1",
	"A: 1\r\n\r\n",
	"A: 1\r\n\r\nA: in the body\r\n.\r\n",
	"A: 1\r\nB: 2\r\na: 3\r\nC: 4\r\n\r\nx",
	"a:1\r\nA : 2\r\nA\t:3\r\n\r\n",
	"A: 1\r\n 2\r\n\t3\r\nB: 4\r\n  5\r\nA: 6\r\n 7\r\n\r\nx\r\n",
	"A:\r\nB: \r\nA:\r\n \r\nC:\r\n\r\n",
	"A: \xe4\xf6\xfc\r\n \xff\r\nB\xe4: 2\r\n\xc3\xa4: 3\r\n\r\n\xe4",
	"A: 1\nB: 2\nA: 3\r\nA: 4\r5\r\nB: 6\r\n\r\nx\ny",
	"A: 1\r\nno field\r\nB: 2\r\nA: 3\r\n\r\nx",
	"A: 1\r\n: no name\r\nB: 2\r\n\r\nx",
	"A: 1\r\nA b: blank\r\n\tfold of it\r\nB: 2\r\nA: 3\r\n\r\n",
	"From x Mon\r\nA: 1\r\nB: 2\r\n\r\nx",
	" folded at once\r\nA: 1\r\n\r\nx",
	".A: 1\r\n..\r\nA: 2\r\n.: 3\r\n\r\n.x\r\n",
	"A: 1\r\nB: 2\r\n 3",
	"A: 1\r\nB: 2\r\nbut cut",
	"Received: a\r\n\tb\r\nA: 1\r\nReceived: c\r\n\r\nx",
};

static const struct wish {
	enum mail_edit_kind kind;
	size_t index;
	const char *name, *value;
} wishes[] = {
	{MAIL_EDIT_ADD, 0, "A", "new"},
	{MAIL_EDIT_ADD, 0, "New", "1\r\n\t2"},
	{MAIL_EDIT_ADD, 0, "Empty", ""},
	{MAIL_EDIT_INSERT, 0, "A", "new"},
	{MAIL_EDIT_INSERT, 1, "A", "new"},
	{MAIL_EDIT_INSERT, 2, "New", ""},
	{MAIL_EDIT_INSERT, 9, "New", "9"},
	{MAIL_EDIT_CHANGE, 0, "A", "new"},
	{MAIL_EDIT_CHANGE, 1, "b", "1\r\n 2"},
	{MAIL_EDIT_CHANGE, 2, "A", ""},
	{MAIL_EDIT_CHANGE, 3, "A", "third"},
	{MAIL_EDIT_CHANGE, 1, "New", "x"},
	{MAIL_EDIT_DELETE, 0, "A", NULL},
	{MAIL_EDIT_DELETE, 1, "B", NULL},
	{MAIL_EDIT_DELETE, 2, "a", NULL},
	{MAIL_EDIT_DELETE, MAIL_EDIT_ALL, "A", NULL},
	{MAIL_EDIT_DELETE, MAIL_EDIT_ALL, "Received", NULL},
	{MAIL_EDIT_PREPEND, 0, NULL, "Above: 1\r\n\t2\r\n"},
	{MAIL_EDIT_BODY, 0, NULL, ".new\r\nbody"},
	{MAIL_EDIT_BODY, 0, NULL, ""},
	{MAIL_EDIT_MESSAGE, 0, NULL, "B: of the new\r\nA: x\r\n\r\n.new"},
	{MAIL_EDIT_MESSAGE, 0, NULL, "Received: c\r\nno header\r\n"},
	{MAIL_EDIT_MESSAGE, 0, NULL, " no header\r\nA: x\r\n\r\n"},
};

/* ---- the model: a field with its folds, or a line that is none, is an item ----------------- */

struct item {
	char *text; /* with its line end, if it has one */
	size_t name_len; /* 0: no field */
};

struct model {
	struct item items[ITEMS_MAX];
	size_t count;
	char *rest; /* from the empty line on */
};

static size_t
field_name(const char *line)
{
	size_t len = strcspn(line, ": \t\r\n"), colon;

	for (size_t i = 0; i < len; i++)
		if (line[i] <= ' ' || line[i] > 126)
			return 0;
	colon = len + strspn(line + len, " \t");
	return line[colon] == ':' ? len : 0;
}

static size_t
line_len(const char *text)
{
	const char *end = strstr(text, "\r\n");

	return end != NULL ? (size_t)(end - text) + 2 : strlen(text);
}

static char *
joined(const char *a, size_t a_len, const char *b)
{
	char *text = malloc(a_len + strlen(b) + 1);

	memcpy(text, a, a_len);
	strcpy(text + a_len, b);
	return text;
}

static void
parse(struct model *m, const char *text)
{
	m->count = 0;
	while (*text != '\0' && strncmp(text, "\r\n", 2) != 0) {
		size_t len = line_len(text);
		struct item *last = m->count > 0 ? &m->items[m->count - 1] : NULL;

		if ((*text == ' ' || *text == '\t') && last != NULL && last->name_len > 0) {
			char *line = strndup(text, len), *whole = joined(last->text, strlen(last->text), line);

			free(line);
			free(last->text);
			last->text = whole;
		} else {
			m->items[m->count++] = (struct item){strndup(text, len), field_name(text)};
		}
		text += len;
	}
	m->rest = strdup(text);
}

static void
print(struct model *m, struct str *out)
{
	for (size_t i = 0; i < m->count; i++) {
		str_add(out, m->items[i].text);
		free(m->items[i].text);
	}
	str_add(out, m->rest);
	free(m->rest);
}

/* Where a field is added: in front of the first line that is none; that of an mbox, and its folds, excepted. */
static size_t
end_of_fields(const struct model *m)
{
	size_t i = m->count > 0 && strncmp(m->items[0].text, "From ", 5) == 0;

	while (i < m->count && (m->items[i].name_len > 0 ||
				       (i > 0 && (m->items[i].text[0] == ' ' || m->items[i].text[0] == '\t'))))
		i++;
	return i;
}

/* What we put there has no folds: a blank at the begin means that there is no header, and all is body. */
static void
no_fold(struct model *m, size_t at)
{
	if (at >= m->count || (m->items[at].text[0] != ' ' && m->items[at].text[0] != '\t'))
		return;
	memmove(&m->items[at + 1], &m->items[at], (m->count++ - at) * sizeof(m->items[0]));
	m->items[at] = (struct item){strdup("\r\n"), 0};
}

static void
put(struct model *m, size_t at, const struct wish *w)
{
	char text[100];

	if (at > 0) {
		char *before = m->items[at - 1].text;
		size_t len = strlen(before);

		if (before[len - 1] != '\n') {
			m->items[at - 1].text = joined(before, len, "\r\n");
			free(before);
		}
	}
	snprintf(text, sizeof(text), "%s:%s%s\r\n", w->name, *w->value != '\0' ? " " : "", w->value);
	memmove(&m->items[at + 1], &m->items[at], (m->count++ - at) * sizeof(m->items[0]));
	m->items[at] = (struct item){strdup(text), strlen(w->name)};
	no_fold(m, at + 1);
}

static void
take(struct model *m, size_t at)
{
	free(m->items[at].text);
	memmove(&m->items[at], &m->items[at + 1], (--m->count - at) * sizeof(m->items[0]));
}

static bool
is_named(const struct item *item, const char *name)
{
	return item->name_len == strlen(name) && strncasecmp(item->text, name, item->name_len) == 0;
}

static size_t
find(const struct model *m, const struct wish *w)
{
	size_t left = w->index > 0 ? w->index : 1, i = 0;

	while (i < m->count && (!is_named(&m->items[i], w->name) || --left > 0))
		i++;
	return i;
}

static void
model_insert(struct model *m, const struct wish *w)
{
	size_t at = 0, fields = 0;

	for (; w->index > 0 && at < m->count; at++)
		if (m->items[at].name_len > 0 && fields++ == w->index)
			break;
	put(m, w->index > 0 && at == m->count ? end_of_fields(m) : at, w);
}

static void
model_change(struct model *m, const struct wish *w)
{
	size_t at = find(m, w), colon;
	struct str text = STR_INIT;
	struct item *item = &m->items[at];

	if (at == m->count) {
		put(m, end_of_fields(m), w);
		return;
	}
	colon = strcspn(item->text, ":") + 1;
	str_addn(&text, item->text, colon);
	str_printf(&text, "%s%s%s", *w->value != '\0' ? " " : "", w->value,
		item->text[strlen(item->text) - 1] == '\n' ? "\r\n" : "");
	free(item->text);
	item->text = strdup(str_text(&text));
	str_deinit(&text);
}

static void
model_body(struct model *m, const struct wish *w)
{
	size_t end = end_of_fields(m);

	while (m->count > end)
		take(m, m->count - 1);
	if (end > 0 && m->items[end - 1].text[strlen(m->items[end - 1].text) - 1] != '\n') {
		char *cut = m->items[end - 1].text;

		m->items[end - 1].text = joined(cut, strlen(cut), "\r\n");
		free(cut);
	}
	free(m->rest);
	m->rest = joined("\r\n", 2, w->value);
}

static bool
has_item(const struct model *m, const char *text)
{
	for (size_t i = 0; i < m->count; i++)
		if (strcmp(m->items[i].text, text) == 0)
			return true;
	return false;
}

static void
model_message(struct model *m, const struct wish *w)
{
	struct model fresh;
	size_t at = 0;

	parse(&fresh, w->value);
	for (size_t i = 0; i < m->count; i++) {
		if (!is_named(&m->items[i], "Received") || has_item(&fresh, m->items[i].text))
			continue;
		memmove(&fresh.items[at + 1], &fresh.items[at], (fresh.count++ - at) * sizeof(fresh.items[0]));
		fresh.items[at++] = (struct item){strdup(m->items[i].text), strlen("Received")};
	}
	if (at > 0)
		no_fold(&fresh, at);
	while (m->count > 0)
		take(m, 0);
	free(m->rest);
	*m = fresh;
}

static void
model_edit(struct str *text, const struct wish *w)
{
	struct model m;
	size_t at;

	if (w->kind == MAIL_EDIT_PREPEND) {
		struct str all = STR_INIT;

		str_printf(&all, "%s%s", w->value, str_text(text));
		str_deinit(text);
		*text = all;
		return;
	}
	parse(&m, str_text(text));
	str_clear(text);
	if (w->kind == MAIL_EDIT_ADD)
		put(&m, end_of_fields(&m), w);
	else if (w->kind == MAIL_EDIT_INSERT)
		model_insert(&m, w);
	else if (w->kind == MAIL_EDIT_CHANGE)
		model_change(&m, w);
	else if (w->kind == MAIL_EDIT_BODY)
		model_body(&m, w);
	else if (w->kind == MAIL_EDIT_MESSAGE)
		model_message(&m, w);
	else if (w->index == MAIL_EDIT_ALL)
		for (size_t i = m.count; i-- > 0;) {
			if (is_named(&m.items[i], w->name))
				take(&m, i);
		}
	else if ((at = find(&m, w)) < m.count)
		take(&m, at);
	print(&m, text);
}

/* ---- the real thing ----------------------------------------------------------------------- */

static void
drop_body(void *body)
{
	mail_body_deinit(body);
}

static const struct mail_body *
body_of(struct arena *arena, const char *text)
{
	struct mail_body *b = arena_alloc(arena, sizeof(*b));

	content_init(b, text);
	arena_defer(arena, drop_body, b);
	return b;
}

static void
ask_for(struct mail_edits *e, const struct wish *w)
{
	if (w->kind == MAIL_EDIT_ADD)
		mail_edit_add(e, w->name, w->value);
	else if (w->kind == MAIL_EDIT_INSERT)
		mail_edit_insert(e, w->index, w->name, w->value);
	else if (w->kind == MAIL_EDIT_CHANGE)
		mail_edit_change(e, w->index, w->name, w->value);
	else if (w->kind == MAIL_EDIT_DELETE)
		mail_edit_delete(e, w->index, w->name);
	else if (w->kind == MAIL_EDIT_PREPEND)
		mail_edit_prepend(e, w->value);
	else if (w->kind == MAIL_EDIT_BODY)
		mail_edit_body(e, body_of(e->arena, w->value));
	else
		mail_edit_message(e, body_of(e->arena, w->value));
}

/* Both in one filter, or in two. */
static const struct mail_edits *
edited(struct arena *arena, const struct mail_body *body, const struct wish *one, const struct wish *two, bool apart)
{
	const struct mail_edits *version;
	struct mail_edits asked;

	mail_edits_init(&asked, arena);
	ask_for(&asked, one);
	if (apart) {
		version = mail_edits_apply(arena, body, NULL, &asked);
		mail_edits_init(&asked, arena);
		ask_for(&asked, two);
		return mail_edits_apply(arena, body, version, &asked);
	}
	ask_for(&asked, two);
	return mail_edits_apply(arena, body, NULL, &asked);
}

static void
check(size_t message, size_t one, size_t two, bool apart)
{
	struct arena *arena = arena_new();
	const struct mail_body *body = body_of(arena, messages[message]);
	const struct mail_edits *version = edited(arena, body, &wishes[one], &wishes[two], apart);
	struct str want = STR_INIT, got = STR_INIT, wire = STR_INIT, want_wire = STR_INIT;

	str_add(&want, messages[message]);
	model_edit(&want, &wishes[one]);
	model_edit(&want, &wishes[two]);
	assert_non_null(version);
	assert_true(content_view(&got, body, version, MAIL_VIEW_PLAIN));
	if (got.len != want.len || memcmp(str_text(&got), str_text(&want), got.len) != 0)
		fail_msg("message %zu, edits %zu and %zu%s: got\n%s\nwant\n%s", message, one, two, apart ? " apart" : "",
			str_text(&got), str_text(&want));
	assert_int_equal(mail_view_size(body, version), want.len);
	content_stuff(&want_wire, want.data, want.len);
	assert_true(content_view(&wire, body, version, MAIL_VIEW_WIRE));
	assert_int_equal(wire.len, want_wire.len);
	assert_memory_equal(str_text(&wire), str_text(&want_wire), wire.len);
	str_deinit(&got);
	str_deinit(&want);
	str_deinit(&wire);
	str_deinit(&want_wire);
	arena_free(&arena);
}

/* In one filter, PREPENDs come last, however early they were asked for. */
static bool
is_same_at_once(size_t one)
{
	return wishes[one].kind != MAIL_EDIT_PREPEND;
}

static void
all_edits_of_all_messages_are_those_of_the_model(void **state)
{
	(void)state;
	for (size_t m = 0; m < ARRAY_COUNT(messages); m++)
		for (size_t i = 0; i < ARRAY_COUNT(wishes); i++)
			for (size_t k = 0; k < ARRAY_COUNT(wishes); k++) {
				check(m, i, k, true);
				if (is_same_at_once(i))
					check(m, i, k, false);
			}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_edits_of_all_messages_are_those_of_the_model),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
