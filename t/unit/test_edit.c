/*
 * t/unit/test_edit.c - edits of headers of every kind, compared octet for octet.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <time.h>
#include <errno.h>
#include <unistd.h>

#include "t/unit/content.h"

#define EDIT_MAX 6

struct wish {
	enum mail_edit_kind kind;
	size_t index;
	const char *name, *value;
};

#define PREPEND(text) {MAIL_EDIT_PREPEND, 0, NULL, text}
#define ADD(name, value) {MAIL_EDIT_ADD, 0, name, value}
#define INSERT(at, name, value) {MAIL_EDIT_INSERT, at, name, value}
#define CHANGE(at, name, value) {MAIL_EDIT_CHANGE, at, name, value}
#define DELETE(at, name) {MAIL_EDIT_DELETE, at, name, NULL}
#define BODY(text) {MAIL_EDIT_BODY, 0, NULL, text}
#define MESSAGE(text) {MAIL_EDIT_MESSAGE, 0, NULL, text}

static const struct row {
	const char *what, *message;
	struct wish wishes[EDIT_MAX];
	const char *want;
} rows[] = {
	/* where additions go */
	{"add goes to the end of the header", "A: 1\r\nB: 2\r\n\r\nbody\r\n", {ADD("C", "3")},
		"A: 1\r\nB: 2\r\nC: 3\r\n\r\nbody\r\n"},
	{"additions keep their order", "A: 1\r\n\r\n", {ADD("C", "3"), ADD("B", "2")},
		"A: 1\r\nC: 3\r\nB: 2\r\n\r\n"},
	{"add of a name that is there makes a second one", "A: 1\r\n\r\nx", {ADD("A", "2")},
		"A: 1\r\nA: 2\r\n\r\nx"},
	{"add behind a folded last field", "A: 1\r\n\t2\r\n 3\r\n\r\nx", {ADD("B", "b")},
		"A: 1\r\n\t2\r\n 3\r\nB: b\r\n\r\nx"},
	{"a value is folded where it was told", "A: 1\r\n\r\n", {ADD("B", "2\r\n\t3\r\n 4")},
		"A: 1\r\nB: 2\r\n\t3\r\n 4\r\n\r\n"},
	{"an empty value has no blank", "A: 1\r\n\r\n", {ADD("B", "")}, "A: 1\r\nB:\r\n\r\n"},
	{"add to an empty header", "\r\nbody\r\n", {ADD("A", "1")}, "A: 1\r\n\r\nbody\r\n"},
	{"add to nothing", "", {ADD("A", "1")}, "A: 1\r\n"},
	{"add without a body", "A: 1\r\n", {ADD("B", "2")}, "A: 1\r\nB: 2\r\n"},
	{"add behind a last line without an end", "A: 1", {ADD("B", "2"), ADD("C", "3")},
		"A: 1\r\nB: 2\r\nC: 3\r\n"},
	{"add above text without a header", "hello\r\nworld\r\n", {ADD("A", "1")},
		"A: 1\r\nhello\r\nworld\r\n"},
	{"add above a line that is no field", "A: 1\r\n\tfold\r\nno field\r\nB: 2\r\n\r\nx",
		{ADD("C", "3")}, "A: 1\r\n\tfold\r\nC: 3\r\nno field\r\nB: 2\r\n\r\nx"},
	{"add above a last line that is no field", "A: 1\r\nno field", {ADD("C", "3")},
		"A: 1\r\nC: 3\r\nno field"},
	{"add below a From line of an mbox", "From a@b Mon\r\nA: 1\r\n\r\nx", {ADD("B", "2")},
		"From a@b Mon\r\nA: 1\r\nB: 2\r\n\r\nx"},
	{"8-bit octets of others stay, and a name with one is no field", "A: \xe4\xff\r\nB\xe4: 2\r\n\r\n\xe4", {ADD("C", "\xc3\xa4")},
		"A: \xe4\xff\r\nC: \xc3\xa4\r\nB\xe4: 2\r\n\r\n\xe4"},
	{"bare line ends are part of a line", "A: 1\n2\r3\r\n\r\nx\ny\r", {ADD("B", "2")},
		"A: 1\n2\r3\r\nB: 2\r\n\r\nx\ny\r"},

	/* insert */
	{"insert at 0 is above all", "A: 1\r\nB: 2\r\n\r\nx", {INSERT(0, "C", "3")},
		"C: 3\r\nA: 1\r\nB: 2\r\n\r\nx"},
	{"insert at 1 is below the first field", "A: 1\r\n fold\r\nB: 2\r\n\r\nx", {INSERT(1, "C", "3")},
		"A: 1\r\n fold\r\nC: 3\r\nB: 2\r\n\r\nx"},
	{"insert at the number of fields is at the end", "A: 1\r\nB: 2\r\n\r\nx", {INSERT(2, "C", "3")},
		"A: 1\r\nB: 2\r\nC: 3\r\n\r\nx"},
	{"insert far behind is at the end", "A: 1\r\n\r\nx", {INSERT(SIZE_MAX, "C", "3")},
		"A: 1\r\nC: 3\r\n\r\nx"},
	{"insert counts what was inserted", "A: 1\r\nB: 2\r\n\r\n",
		{INSERT(1, "C", "3"), INSERT(2, "D", "4")}, "A: 1\r\nC: 3\r\nD: 4\r\nB: 2\r\n\r\n"},
	{"insert does not count lines that are no fields", "A: 1\r\nrubbish\r\nB: 2\r\n\r\n",
		{INSERT(1, "C", "3")}, "A: 1\r\nrubbish\r\nC: 3\r\nB: 2\r\n\r\n"},
	{"insert into nothing", "", {INSERT(0, "A", "1")}, "A: 1\r\n"},

	/* change */
	{"change keeps the name's spelling and place", "A: 1\r\nsUBJECT: x\r\nB: 2\r\n\r\ny",
		{CHANGE(1, "Subject", "z")}, "A: 1\r\nsUBJECT: z\r\nB: 2\r\n\r\ny"},
	{"change replaces all lines of a folded value", "A: 1\r\n 2\r\n\t3\r\nB: 2\r\n\r\n",
		{CHANGE(1, "a", "9\r\n 8")}, "A: 9\r\n 8\r\nB: 2\r\n\r\n"},
	{"change keeps white space before the colon", "A \t:1\r\n\r\n", {CHANGE(1, "A", "2")},
		"A \t: 2\r\n\r\n"},
	{"change of the second of a name", "A: 1\r\nB: 2\r\na: 3\r\nA: 4\r\n\r\n",
		{CHANGE(2, "A", "x")}, "A: 1\r\nB: 2\r\na: x\r\nA: 4\r\n\r\n"},
	{"change of index 0 is the first", "A: 1\r\nA: 2\r\n\r\n", {CHANGE(0, "A", "x")},
		"A: x\r\nA: 2\r\n\r\n"},
	{"change past the last adds", "A: 1\r\n\r\n", {CHANGE(2, "a", "x")}, "A: 1\r\na: x\r\n\r\n"},
	{"change far past the last adds", "A: 1\r\n\r\n", {CHANGE(99, "A", "x")}, "A: 1\r\nA: x\r\n\r\n"},
	{"change of what was added", "A: 1\r\n\r\n", {ADD("B", "2"), CHANGE(1, "b", "3")},
		"A: 1\r\nB: 3\r\n\r\n"},
	{"change of an empty value", "A:\r\nB: 2\r\n\r\n", {CHANGE(1, "A", "x")}, "A: x\r\nB: 2\r\n\r\n"},
	{"change to an empty value", "A: 1\r\nB: 2\r\n\r\n", {CHANGE(1, "A", "")}, "A:\r\nB: 2\r\n\r\n"},
	{"change of a last line without an end", "B: 2\r\nA: 1", {CHANGE(1, "A", "x")}, "B: 2\r\nA: x"},
	{"a name is no part of another", "Subject-Old: 1\r\nSub: 2\r\n\r\n", {CHANGE(1, "Subject", "x")},
		"Subject-Old: 1\r\nSub: 2\r\nSubject: x\r\n\r\n"},
	{"what stands in the body is no field", "A: 1\r\n\r\nB: 2\r\n", {CHANGE(1, "B", "x")},
		"A: 1\r\nB: x\r\n\r\nB: 2\r\n"},

	/* delete */
	{"delete takes all lines of a field", "A: 1\r\nB: 2\r\n 3\r\n\t4\r\nC: 5\r\n\r\nx", {DELETE(1, "b")},
		"A: 1\r\nC: 5\r\n\r\nx"},
	{"delete of the second of a name", "A: 1\r\nA: 2\r\nA: 3\r\n\r\n", {DELETE(2, "A")},
		"A: 1\r\nA: 3\r\n\r\n"},
	{"what was deleted counts no more", "A: 1\r\nA: 2\r\nA: 3\r\n\r\n", {DELETE(1, "A"), DELETE(2, "A")},
		"A: 2\r\n\r\n"},
	{"delete past the last does nothing", "A: 1\r\n\r\n.x", {DELETE(2, "A"), DELETE(1, "B")},
		"A: 1\r\n\r\n.x"},
	{"delete of all of a name", "A: 1\r\na: 2\r\n\t3\r\nB: 4\r\nno field\r\nA:\r\n\r\nA: x", {DELETE(MAIL_EDIT_ALL, "A")},
		"B: 4\r\nno field\r\n\r\nA: x"},
	{"delete of all of a name, the last line cut off", "A: 1\r\nB: 2\r\nA: 3", {DELETE(MAIL_EDIT_ALL, "a"), ADD("A", "4")},
		"B: 2\r\nA: 4\r\n"},
	{"delete of all of a name that is not there", "A: 1\r\n\r\n", {DELETE(MAIL_EDIT_ALL, "B")}, "A: 1\r\n\r\n"},
	{"delete of all in an empty header", "\r\nx", {DELETE(MAIL_EDIT_ALL, "B")}, "\r\nx"},
	{"delete of the only field", "A: 1\r\n\r\nx", {DELETE(1, "A")}, "\r\nx"},
	{"delete of all there is", "A: 1\r\n", {DELETE(1, "A")}, ""},
	{"delete of a last line without an end", "A: 1\r\nB: 2", {DELETE(1, "B")}, "A: 1\r\n"},
	{"and an addition in its place", "A: 1\r\nB: 2", {DELETE(1, "B"), ADD("C", "3")},
		"A: 1\r\nC: 3\r\n"},

	/* dots */
	{"header lines that begin with a dot", ".: 0\r\n.A: 1\r\n\tx\r\n.B: 2\r\n\r\n.body\r\n..\r\n",
		{DELETE(1, ".a"), ADD(".C", ".")}, ".: 0\r\n.B: 2\r\n.C: .\r\n\r\n.body\r\n..\r\n"},
	{"a dot that begins the body behind an edited header", "A: 1\r\n\r\n.\r\n", {CHANGE(1, "A", "2")},
		"A: 2\r\n\r\n.\r\n"},

	/* in front */
	{"prepended lines are above all others and do not count", "A: 1\r\n\r\n",
		{PREPEND("P: 1\r\n"), INSERT(0, "I", "2"), PREPEND("A: 3\r\n"), CHANGE(1, "A", "x")},
		"A: 3\r\nP: 1\r\nI: 2\r\nA: x\r\n\r\n"},

	/* another body */
	{"a new body stands behind the header's empty line", "A: 1\r\n b\r\n\r\nold\r\n", {BODY("new\r\n")},
		"A: 1\r\n b\r\n\r\nnew\r\n"},
	{"a new body without an end of its last line", "A: 1\r\n\r\nold\r\n", {BODY("new")}, "A: 1\r\n\r\nnew"},
	{"a new body that is empty", "A: 1\r\n\r\nold\r\n", {BODY("")}, "A: 1\r\n\r\n"},
	{"a new body that looks like a header", "A: 1\r\n\r\nold", {BODY("B: 2\r\n\r\n"), CHANGE(1, "B", "x")},
		"A: 1\r\nB: x\r\n\r\nB: 2\r\n\r\n"},
	{"a new body that begins with an empty line", "A: 1\r\n\r\nold", {BODY("\r\nnew")}, "A: 1\r\n\r\n\r\nnew"},
	{"a new body that begins with a dot", "A: 1\r\n\r\n.old", {BODY(".\r\n..new\r\n.")},
		"A: 1\r\n\r\n.\r\n..new\r\n."},
	{"a body for a message that had none", "A: 1\r\n", {BODY("new\r\n")}, "A: 1\r\n\r\nnew\r\n"},
	{"a body behind a last line without an end", "A: 1\r\nB: 2", {BODY("new\r\n")}, "A: 1\r\nB: 2\r\n\r\nnew\r\n"},
	{"a body for an empty message", "", {BODY("new\r\n")}, "\r\nnew\r\n"},
	{"a body for an empty header", "\r\nold", {BODY("new\r\n")}, "\r\nnew\r\n"},
	{"a new body takes away what stands behind a line that is no field", "A: 1\r\n\tf\r\nno field\r\nB: 2\r\n\r\nold",
		{BODY("new")}, "A: 1\r\n\tf\r\n\r\nnew"},
	{"a new body takes the place of text without a header", "hello\r\nworld\r\n", {BODY("new")}, "\r\nnew"},
	{"a header is edited behind and in front of a new body", "A: 1\r\nB: 2\r\n\r\nold",
		{CHANGE(1, "A", "x"), BODY("new"), DELETE(1, "B"), ADD("C", "3")}, "A: x\r\nC: 3\r\n\r\nnew"},
	{"all fields of a message with a new body go", "A: 1\r\n\r\nold", {BODY("new"), DELETE(1, "A")}, "\r\nnew"},
	{"the last new body counts", "A: 1\r\n\r\nold", {BODY("first"), ADD("B", "2"), BODY("second")},
		"A: 1\r\nB: 2\r\n\r\nsecond"},
	{"lines in front of a new body", "A: 1\r\n\r\nold", {PREPEND("P: 1\r\n"), BODY("new")}, "P: 1\r\nA: 1\r\n\r\nnew"},

	/* another message */
	{"a new message has a header of its own", "A: 1\r\n\r\nold", {MESSAGE("B: 2\r\n\r\nnew\r\n")}, "B: 2\r\n\r\nnew\r\n"},
	{"a new message without a header", "A: 1\r\n\r\nold", {MESSAGE("hello")}, "hello"},
	{"a new message that is empty", "A: 1\r\n\r\nold", {MESSAGE("")}, ""},
	{"a new message of dots", "A: 1\r\n\r\nold", {MESSAGE(".\r\n.\r\n")}, ".\r\n.\r\n"},
	{"what was edited before a new message is gone", "A: 1\r\n\r\nold", {ADD("C", "3"), BODY("first"), MESSAGE("B: 2\r\n\r\nnew")},
		"B: 2\r\n\r\nnew"},
	{"a new message is edited", "A: 1\r\n\r\nold", {MESSAGE("B: 2\r\nC: 3\r\n\r\nnew"), CHANGE(1, "B", "x"), DELETE(1, "C")},
		"B: x\r\n\r\nnew"},
	{"a new body for a new message", "A: 1\r\n\r\nold", {MESSAGE("B: 2\r\n\r\nnew"), BODY("newer")}, "B: 2\r\n\r\nnewer"},
	{"a new message behind a new message", "A: 1\r\n\r\nold", {MESSAGE("B: 2\r\n\r\nnew"), MESSAGE("C: 3\r\n\r\nnewer")},
		"C: 3\r\n\r\nnewer"},
	{"Received lines that a new message lacks are put back on top, in their order",
		"Received: a\r\n\tb; c\r\nX: 1\r\nreceived: d\r\nReceived: e\r\n\r\nold",
		{MESSAGE("B: 2\r\nReceived: e\r\n\r\nnew")},
		"Received: a\r\n\tb; c\r\nreceived: d\r\nB: 2\r\nReceived: e\r\n\r\nnew"},
	{"Received lines that a new message has folded anew are there", "Received: from a\r\n\tby b; c\r\n\r\nold",
		{MESSAGE("RECEIVED:from  a by b;\r\n c\r\nB: 2\r\n\r\nnew")}, "RECEIVED:from  a by b;\r\n c\r\nB: 2\r\n\r\nnew"},
	{"a Received line with more in it is another one", "Received: a\r\n\r\nold", {MESSAGE("Received: ab\r\n\r\nnew")},
		"Received: a\r\nReceived: ab\r\n\r\nnew"},
	{"a Received line in the body of a new message does not count", "Received: a\r\n\r\nold", {MESSAGE("B: 2\r\n\r\nReceived: a\r\n")},
		"Received: a\r\nB: 2\r\n\r\nReceived: a\r\n"},
	{"a Received line that was cut off is put back whole", "Received: a", {MESSAGE("B: 2\r\n\r\nnew")},
		"Received: a\r\nB: 2\r\n\r\nnew"},
	{"Received lines that a filter has taken away do not come back", "Received: a\r\nReceived: b\r\n\r\nold",
		{DELETE(1, "Received"), MESSAGE("B: 2\r\n\r\nnew")}, "Received: b\r\nB: 2\r\n\r\nnew"},
};

static void
fill(struct mail_body *b, const struct str *text, bool file)
{
	static const struct spool_conf in_file = {.directory = P_tmpdir, .inline_max = 0};
	struct spool_worker worker = {0};
	struct spool_writer w;
	struct err err;

	mail_body_init(b);
	spool_writer_init(&w, &in_file, &worker, b);
	content_add(b, file ? &w : NULL, text->data, text->len, SIZE_MAX);
	assert_int_equal(spool_finish(&w, &err), 0);
	spool_writer_deinit(&w);
}

static void
free_content(void *body)
{
	mail_body_deinit(body);
}

/* In memory or in a file, as it comes. */
static const struct mail_body *
new_content(struct arena *arena, const char *text)
{
	struct mail_body *b = arena_alloc(arena, sizeof(*b));
	struct str copy = STR_INIT;

	str_add(&copy, text);
	fill(b, &copy, strlen(text) % 2);
	str_deinit(&copy);
	arena_defer(arena, free_content, b);
	return b;
}

static void
ask_for(struct mail_edits *e, const struct wish *w)
{
	switch (w->kind) {
	case MAIL_EDIT_BODY:
		mail_edit_body(e, new_content(e->arena, w->value));
		break;
	case MAIL_EDIT_MESSAGE:
		mail_edit_message(e, new_content(e->arena, w->value));
		break;
	case MAIL_EDIT_PREPEND:
		if (w->value != NULL)
			mail_edit_prepend(e, w->value);
		break;
	case MAIL_EDIT_ADD:
		mail_edit_add(e, w->name, w->value);
		break;
	case MAIL_EDIT_INSERT:
		mail_edit_insert(e, w->index, w->name, w->value);
		break;
	case MAIL_EDIT_CHANGE:
		mail_edit_change(e, w->index, w->name, w->value);
		break;
	case MAIL_EDIT_DELETE:
		mail_edit_delete(e, w->index, w->name);
		break;
	default:
		fail_msg("no header edit");
	}
}

static void
compare(const char *what, const struct mail_body *b, const struct mail_edits *version, const struct str *want)
{
	struct str got = STR_INIT, wire = STR_INIT, want_wire = STR_INIT;

	assert_true(content_view(&got, b, version, MAIL_VIEW_PLAIN));
	if (got.len != want->len || (got.len > 0 && memcmp(got.data, want->data, got.len) != 0))
		fail_msg("%s:\n%s", what, str_text(&got));
	assert_int_equal(mail_view_size(b, version), want->len);
	content_stuff(&want_wire, want->data, want->len);
	assert_true(content_view(&wire, b, version, MAIL_VIEW_WIRE));
	if (wire.len != want_wire.len || (wire.len > 0 && memcmp(wire.data, want_wire.data, wire.len) != 0))
		fail_msg("%s, on the wire:\n%s", what, str_text(&wire));
	str_deinit(&got);
	str_deinit(&wire);
	str_deinit(&want_wire);
}

/* At once, or each edit by a filter of its own. */
static void
check_row(const struct row *row, bool file, bool dots, bool one_by_one)
{
	struct arena *arena = arena_new();
	struct str text = STR_INIT, want = STR_INIT;
	const struct mail_edits *version = NULL;
	struct mail_edits asked;
	struct mail_body b;

	str_add(&text, row->message);
	str_add(&want, row->want);
	for (size_t i = 0; dots && i < MAIL_BODY_DOTS_MAX + 1; i++) {
		str_add(&text, "\r\n.");
		str_add(&want, "\r\n.");
	}
	fill(&b, &text, file);
	mail_edits_init(&asked, arena);
	for (size_t i = 0; i < EDIT_MAX; i++) {
		ask_for(&asked, &row->wishes[i]);
		if (!one_by_one && i + 1 < EDIT_MAX)
			continue;
		version = mail_edits_apply(arena, &b, version, &asked);
		assert_non_null(version);
		mail_edits_init(&asked, arena);
	}
	compare(row->what, &b, version, &want);
	mail_body_deinit(&b);
	str_deinit(&text);
	str_deinit(&want);
	arena_free(&arena);
}

static bool
has_prepends(const struct row *row)
{
	return row->wishes[0].kind == MAIL_EDIT_PREPEND;
}

static bool
has_content(const struct row *row)
{
	for (size_t i = 0; i < EDIT_MAX; i++)
		if (row->wishes[i].kind >= MAIL_EDIT_BODY)
			return true;
	return false;
}

static void
each_row_comes_out_octet_for_octet(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
		for (int how = 0; how < 4; how++)
			/* What a filter prepends does count for the next one. */
			if (how < 2 || !has_prepends(&rows[i]))
				check_row(&rows[i], how & 1, false, how & 2);
}

static void
also_when_there_are_more_dot_lines_than_are_noted(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		/* With an empty line, so that more behind it is body. */
		if (strstr(rows[i].message, "\r\n\r\n") == NULL || has_content(&rows[i]))
			continue;
		check_row(&rows[i], false, true, false);
		check_row(&rows[i], true, true, false);
	}
}

static void
a_later_filter_sees_what_an_earlier_one_did(void **state)
{
	struct arena *arena = arena_new();
	const struct mail_edits *first, *second, *same;
	struct str text = STR_INIT, want = STR_INIT;
	struct mail_edits ours, asked, more;
	struct mail_body b;
	const char *head, *again;
	size_t len;

	(void)state;
	str_add(&text, "Subject: x\r\n\r\ny");
	fill(&b, &text, false);
	mail_edits_init(&ours, arena);
	mail_edit_prepend(&ours, "Received: us\r\n");
	mail_edits_init(&asked, arena);
	mail_edit_change(&asked, 1, "subject", "z");
	mail_edit_insert(&asked, 1, "I", "1");
	first = mail_edits_apply(arena, &b, &ours, &asked);
	mail_edits_init(&more, arena);
	mail_edit_change(&more, 1, "i", "2");
	mail_edit_delete(&more, 1, "received");
	mail_edit_prepend(&more, "P: 3\r\n");
	second = mail_edits_apply(arena, &b, first, &more);
	assert_int_equal(mail_edits_header(arena, &b, second, &head, &len), 0);
	assert_int_equal(len, strlen("P: 3\r\nI: 2\r\nSubject: z\r\n"));
	assert_memory_equal(head, "P: 3\r\nI: 2\r\nSubject: z\r\n", len);
	assert_int_equal(mail_edits_header(arena, &b, second, &again, &len), 0);
	assert_ptr_equal(again, head); /* made once, however many look */
	str_add(&want, "P: 3\r\nI: 2\r\nSubject: z\r\n\r\ny");
	compare("second", &b, second, &want);
	str_clear(&want);
	str_add(&want, "Received: us\r\nI: 1\r\nSubject: z\r\n\r\ny");
	compare("the first is as it was", &b, first, &want);
	mail_edits_init(&more, arena);
	same = mail_edits_apply(arena, &b, second, &more);
	assert_ptr_equal(same, second);
	mail_body_deinit(&b);
	str_deinit(&text);
	str_deinit(&want);
	arena_free(&arena);
}

/* The new one is in a file, and has more dot lines than are noted. */
static void
a_replaced_body_is_as_any_other(void **state)
{
	struct arena *arena = arena_new();
	struct str text = STR_INIT, fresh = STR_INIT, want = STR_INIT;
	const struct mail_edits *first, *second;
	struct mail_body b, replacement;
	struct mail_edits asked, more;

	(void)state;
	str_add(&text, "A: 1\r\n\r\nold");
	for (size_t i = 0; i < MAIL_BODY_DOTS_MAX + 1; i++)
		str_add(&fresh, ".\r\n");
	fill(&b, &text, false);
	fill(&replacement, &fresh, true);
	mail_edits_init(&asked, arena);
	mail_edit_body(&asked, &replacement);
	first = mail_edits_apply(arena, &b, NULL, &asked);
	mail_edits_init(&more, arena);
	mail_edit_add(&more, "B", "2");
	second = mail_edits_apply(arena, &b, first, &more);
	assert_ptr_equal(mail_edits_content(&b, second), &replacement);
	assert_ptr_equal(mail_edits_content(&b, NULL), &b);
	str_add(&want, "A: 1\r\nB: 2\r\n\r\n");
	str_addn(&want, fresh.data, fresh.len);
	compare("second", &b, second, &want);
	str_clear(&want);
	str_add(&want, "A: 1\r\n\r\n");
	str_addn(&want, fresh.data, fresh.len);
	compare("the first is as it was", &b, first, &want);
	compare("the message is as it came", &b, NULL, &text);
	mail_body_deinit(&b);
	mail_body_deinit(&replacement);
	str_deinit(&text);
	str_deinit(&fresh);
	str_deinit(&want);
	arena_free(&arena);
}

static void
a_new_message_whose_header_has_no_end_is_an_error(void **state)
{
	struct arena *arena = arena_new();
	struct str text = STR_INIT, fresh = STR_INIT;
	struct mail_body b, replacement;
	struct mail_edits asked;

	(void)state;
	str_add(&text, "A: 1\r\n\r\nold");
	while (fresh.len <= MAIL_HEADER_MAX)
		str_add(&fresh, "B: 2\r\n");
	fill(&b, &text, false);
	fill(&replacement, &fresh, true);
	mail_edits_init(&asked, arena);
	mail_edit_message(&asked, &replacement);
	assert_null(mail_edits_apply(arena, &b, NULL, &asked));
	assert_int_equal(errno, EMSGSIZE);
	mail_body_deinit(&b);
	mail_body_deinit(&replacement);
	str_deinit(&text);
	str_deinit(&fresh);
	arena_free(&arena);
}

/* ---- envelopes ---- */

static const struct envelope_row {
	const char *what, *rcpts;
	const char *changes; /* "+addr", "-addr", "<addr" a sender */
	const char *want;    /* sender:own|added */
	bool is_changed;
} envelopes[] = {
	{"no change", "a@x b@x", "", "s@x:a@x b@x|", false},
	{"one is added", "a@x", "+b@x", "s@x:a@x|b@x", true},
	{"one that is there already is not added", "a@x b@x", "+b@X", "s@x:a@x b@x|", false},
	{"local parts compare octet for octet", "a@x", "+A@x", "s@x:a@x|A@x", true},
	{"one is added once", "a@x", "+b@x +b@X", "s@x:a@x|b@x", true},
	{"one is removed", "a@x b@x c@x", "-B@x -b@X", "s@x:a@x c@x|", true},
	{"one that is not there is not removed", "a@x", "-b@x", "s@x:a@x|", false},
	{"one that was given twice is removed twice", "a@x b@x a@x", "-a@x", "s@x:b@x|", true},
	{"one that was added is removed", "a@x", "+b@x +c@x -b@x", "s@x:a@x|c@x", true},
	{"one is redirected to two", "a@x b@x", "-a@x +c@x +d@x", "s@x:b@x|c@x d@x", true},
	{"one that was removed comes back as an added one", "a@x b@x", "-a@x +a@x", "s@x:b@x|a@x", true},
	{"the last one is removed", "a@x", "-a@x", "s@x:|", true},
	{"the last sender counts", "a@x", "<t@x <u@x", "u@x:a@x|", true},
	{"the null sender", "a@x", "<", ":a@x|", true},
	{"a postmaster without a domain is one in any spelling", "Postmaster", "+postmaster -POSTMASTER", "s@x:|", true},
	{"an at sign in quotes is no domain's", "\"a@X\"@x", "+\"a@x\"@x", "s@x:\"a@X\"@x|\"a@x\"@x", true},
};

static void
ask_for_change(struct mail_edits *e, const char *word)
{
	const struct mail_sender sender = {.addr = word + 1, .domain = "", .size = 5, .smtputf8 = true};
	const struct mail_rcpt rcpt = {.addr = word + 1, .domain = ""};

	if (*word == '+')
		mail_edit_add_rcpt(e, &rcpt);
	else if (*word == '-')
		mail_edit_remove_rcpt(e, word + 1);
	else
		mail_edit_sender(e, &sender);
}

static void
show_envelope(struct str *out, const struct mail_envelope *envelope)
{
	str_printf(out, "%s:", envelope->sender->addr);
	for (size_t i = 0; i < envelope->rcpt_count; i++) {
		const char *before = i == envelope->own_count ? "|" : i > 0 ? " " : "";

		str_printf(out, "%s%s", before, envelope->rcpts[i]->addr);
	}
	if (envelope->own_count == envelope->rcpt_count)
		str_add(out, "|");
}

/* By one filter, or each change by one of its own. */
static void
check_envelope(const struct envelope_row *row, bool one_by_one)
{
	const struct mail_sender sender = {.addr = "s@x", .domain = "x", .size = 7, .envid = "E"};
	struct arena *arena = arena_new();
	struct mail_rcpt rcpts[4];
	const struct mail_rcpt *list[4];
	const struct mail_edits *version = NULL;
	struct mail_edits asked;
	struct mail_envelope envelope;
	struct str got = STR_INIT;
	struct mail_body b;
	size_t count = 0;
	char *word, *rest;

	content_init(&b, "A: 1\r\n\r\n");
	rest = arena_strdup(arena, row->rcpts);
	while ((word = strsep(&rest, " ")) != NULL) {
		rcpts[count] = (struct mail_rcpt){.addr = word, .domain = ""};
		list[count] = &rcpts[count];
		count++;
	}
	mail_edits_init(&asked, arena);
	rest = arena_strdup(arena, row->changes);
	while ((word = strsep(&rest, " ")) != NULL) {
		if (*word != '\0')
			ask_for_change(&asked, word);
		if (!one_by_one && rest != NULL)
			continue;
		version = mail_edits_apply(arena, &b, version, &asked);
		mail_edits_init(&asked, arena);
	}
	mail_edits_envelope(arena, version, &sender, list, count, &envelope);
	show_envelope(&got, &envelope);
	if (strcmp(str_text(&got), row->want) != 0 || envelope.is_changed != row->is_changed)
		fail_msg("%s: %s", row->what, str_text(&got));
	/* These tell of the message. */
	assert_int_equal(envelope.sender->size, 7);
	assert_false(envelope.sender->smtputf8);
	compare(row->what, &b, version, &(struct str){.data = (char[]){"A: 1\r\n\r\n"}, .len = 8});
	str_deinit(&got);
	mail_body_deinit(&b);
	arena_free(&arena);
}

static void
each_change_of_the_envelope_has_its_effect(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(envelopes); i++) {
		check_envelope(&envelopes[i], false);
		check_envelope(&envelopes[i], true);
	}
}

static void
an_envelope_is_changed_only_so_often(void **state)
{
	struct arena *arena = arena_new();
	const struct mail_edits *version;
	struct mail_edits asked, more;
	struct mail_body b;

	(void)state;
	content_init(&b, "A: 1\r\n\r\n");
	mail_edits_init(&asked, arena);
	for (int i = 0; i < MAIL_ENVELOPE_EDITS_MAX; i++)
		ask_for_change(&asked, arena_printf(arena, "+r%d@x", i));
	version = mail_edits_apply(arena, &b, NULL, &asked);
	assert_non_null(version);
	mail_edits_init(&more, arena);
	ask_for_change(&more, "-r1@x");
	assert_null(mail_edits_apply(arena, &b, version, &more));
	assert_int_equal(errno, E2BIG);
	mail_body_deinit(&b);
	arena_free(&arena);
}

/* What is in a file stays there: one piece of header, one range of the file. */
static void
the_body_of_a_large_message_is_not_copied(void **state)
{
	static const char head[] = "Subject: x\r\n";
	const int64_t size = 50 << 20;
	struct arena *arena = arena_new();
	const struct mail_edits *version;
	struct mail_edits asked;
	struct mail_piece piece;
	struct mail_body b;
	struct mail_view v;
	struct str text = STR_INIT;
	FILE *file = tmpfile();

	(void)state;
	str_printf(&text, "%s\r\n", head);
	assert_int_equal(ftruncate(fileno(file), size), 0);
	assert_int_equal(pwrite(fileno(file), text.data, text.len, 0), text.len);
	mail_body_init(&b);
	b.fd = fileno(file);
	b.size = size;
	b.ends_in_crlf = true;
	mail_edits_init(&asked, arena);
	mail_edit_change(&asked, 1, "Subject", "[spam] x");
	version = mail_edits_apply(arena, &b, NULL, &asked);
	assert_non_null(version);
	mail_view_init(&v, &b, version, MAIL_VIEW_WIRE);
	assert_int_equal(mail_view_next(&v, &piece), 1);
	assert_memory_equal(piece.data, "Subject: [spam] x\r\n", piece.len);
	assert_int_equal(mail_view_next(&v, &piece), 1);
	assert_null(piece.data);
	assert_int_equal(piece.fd, b.fd);
	assert_int_equal(piece.off, strlen(head));
	assert_int_equal(piece.len, size - (int64_t)strlen(head));
	assert_int_equal(mail_view_next(&v, &piece), 0);
	mail_view_deinit(&v);
	b.fd = -1;
	fclose(file);
	str_deinit(&text);
	arena_free(&arena);
}

static void
an_over_long_header_is_edited_and_an_endless_one_is_an_error(void **state)
{
	static const struct wish wish = CHANGE(1, "Last", "2");
	struct arena *arena = arena_new();
	struct mail_edits asked;
	struct mail_body b;

	(void)state;
	for (int endless = 0; endless < 2; endless++) {
		struct str text = STR_INIT, want = STR_INIT;
		const struct mail_edits *version;

		for (size_t i = 0; text.len < (endless ? MAIL_HEADER_MAX : MAIL_HEADER_MAX / 2); i++)
			str_printf(&text, "Long-%zu: %0*d\r\n", i, 5000, 7);
		str_addn(&want, text.data, text.len);
		str_add(&text, "Last: 1\r\n\r\nx");
		str_add(&want, "Last: 2\r\n\r\nx");
		fill(&b, &text, true);
		mail_edits_init(&asked, arena);
		ask_for(&asked, &wish);
		version = mail_edits_apply(arena, &b, NULL, &asked);
		if (!endless) {
			assert_non_null(version);
			compare("over-long", &b, version, &want);
		} else {
			assert_null(version);
			assert_int_equal(errno, EMSGSIZE);
		}
		mail_body_deinit(&b);
		str_deinit(&text);
		str_deinit(&want);
	}
	arena_free(&arena);
}

static void
a_file_that_became_shorter_is_an_error(void **state)
{
	static const struct wish wish = ADD("A", "1");
	struct arena *arena = arena_new();
	struct str text = STR_INIT;
	struct mail_edits asked;
	struct mail_body b;

	(void)state;
	str_add(&text, "B: 2\r\n\r\nx");
	fill(&b, &text, true);
	assert_int_equal(ftruncate(b.fd, 0), 0);
	mail_edits_init(&asked, arena);
	ask_for(&asked, &wish);
	assert_null(mail_edits_apply(arena, &b, NULL, &asked));
	assert_int_equal(errno, EIO);
	mail_body_deinit(&b);
	str_deinit(&text);
	arena_free(&arena);
}

static void
names_and_values_are_told_from_others(void **state)
{
	static const char *const names[] = {"A", "X-Spam_1", "!", "~", "."};
	static const char *const no_names[] = {"", "A:", "A B", "A\t", " A", "\xc3\xa4", "A\r\nB", "A\x7f"};
	static const char *const values[] = {"", " ", "a", ":", "\xe4\x01\t", "a\r\n b", "a\r\n\tb\r\n c d"};
	static const char *const no_values[] = {"\r\n", "a\r\nb", "a\nb", "a\rb", "a\r\n", "a\r\n \r\n b",
		"a\r\n ", "a\r\n b\r\n", "a\r\n b\n"};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(names); i++)
		assert_true(mail_edit_is_name(names[i]));
	for (size_t i = 0; i < ARRAY_COUNT(no_names); i++)
		assert_false(mail_edit_is_name(no_names[i]));
	for (size_t i = 0; i < ARRAY_COUNT(values); i++)
		assert_true(mail_edit_is_value(values[i]));
	for (size_t i = 0; i < ARRAY_COUNT(no_values); i++)
		assert_false(mail_edit_is_value(no_values[i]));
}

static void
a_nul_in_a_line_without_an_end_stays(void **state)
{
	static const char content[] = "A: 1\0002", want[] = "A: 1\0002\r\nX: 1\r\n";
	struct arena *arena = arena_new();
	const struct mail_edits *version;
	struct mail_edits asked;
	struct mail_body body;
	const char *text;
	size_t len;

	(void)state;
	mail_body_init(&body);
	content_add(&body, NULL, content, sizeof(content) - 1, SIZE_MAX);
	mail_edits_init(&asked, arena);
	mail_edit_add(&asked, "X", "1");
	version = mail_edits_apply(arena, &body, NULL, &asked);
	assert_non_null(version);
	assert_int_equal(mail_edits_header(arena, &body, version, &text, &len), 0);
	assert_int_equal(len, sizeof(want) - 1);
	assert_memory_equal(text, want, len);
	mail_body_deinit(&body);
	arena_free(&arena);
}

/* Processor time for so many edits of what is in body. */
static clock_t
time_of_edits(const struct mail_body *body, size_t count)
{
	struct arena *arena = arena_new();
	struct mail_edits asked;
	clock_t begun, took;

	mail_edits_init(&asked, arena);
	for (size_t i = 0; i < count; i++) {
		mail_edit_add(&asked, "X", "1");
		mail_edit_insert(&asked, 0, "Y", "2");
		mail_edit_change(&asked, 1, "Y", "3");
	}
	begun = clock();
	assert_non_null(mail_edits_apply(arena, body, NULL, &asked));
	took = clock() - begun;
	arena_free(&arena);
	return took;
}

/* Whoever sends mail chooses the header: an edit must not cost as much as a copy of it. */
static void
many_edits_of_a_large_header_cost_little_more_than_one(void **state)
{
	struct str content = STR_INIT;
	struct mail_body body;
	clock_t one, many;

	(void)state;
	while (content.len < MAIL_HEADER_MAX - 100)
		str_add(&content, "A:\r\n");
	str_add(&content, "\r\nbody\r\n");
	content_init(&body, content.data);
	one = time_of_edits(&body, 1);
	many = time_of_edits(&body, 500);
	if (many > 30 * one)
		fail_msg("%ld us, and %ld us for one", (long)many, (long)one);
	str_deinit(&content);
	mail_body_deinit(&body);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_row_comes_out_octet_for_octet),
		cmocka_unit_test(also_when_there_are_more_dot_lines_than_are_noted),
		cmocka_unit_test(a_later_filter_sees_what_an_earlier_one_did),
		cmocka_unit_test(a_replaced_body_is_as_any_other),
		cmocka_unit_test(a_new_message_whose_header_has_no_end_is_an_error),
		cmocka_unit_test(each_change_of_the_envelope_has_its_effect),
		cmocka_unit_test(an_envelope_is_changed_only_so_often),
		cmocka_unit_test(the_body_of_a_large_message_is_not_copied),
		cmocka_unit_test(an_over_long_header_is_edited_and_an_endless_one_is_an_error),
		cmocka_unit_test(a_file_that_became_shorter_is_an_error),
		cmocka_unit_test(names_and_values_are_told_from_others),
		cmocka_unit_test(a_nul_in_a_line_without_an_end_stays),
		cmocka_unit_test(many_edits_of_a_large_header_cost_little_more_than_one),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
