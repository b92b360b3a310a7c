/*
 * mail/edit.c - list of changes to one message, and the header block that they make.
 */
#include "mail/edit.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/list.h"
#include "base/str.h"
#include "mail/header.h"

#define PREPEND		    MAIL_EDIT_BIT(MAIL_EDIT_PREPEND)
#define ENVELOPE                                                                                   \
	(MAIL_EDIT_BIT(MAIL_EDIT_SENDER) | MAIL_EDIT_BIT(MAIL_EDIT_ADD_RCPT) |                     \
		MAIL_EDIT_BIT(MAIL_EDIT_REMOVE_RCPT))

/* Read and put together once, however many filters look at it. */
struct mail_whole_head {
	const char *text; /* NULL: not yet */
	size_t len, cut;
};

void
mail_edits_init(struct mail_edits *e, struct arena *arena)
{
	*e = (struct mail_edits){
		.arena = arena,
		.whole = arena_zalloc(arena, sizeof(*e->whole)),
	};
	STAILQ_INIT(&e->list);
	STAILQ_INIT(&e->envelope);
}

/* Complete lines, each ending in CRLF, none empty, none that would have to be dot-stuffed. */
static bool
is_header_lines(const char *text)
{
	if (*text == ' ' || *text == '\t')
		return false;
	while (*text != '\0') {
		size_t len = strcspn(text, "\r\n");

		if (len == 0 || *text == '.' || text[len] != '\r' || text[len + 1] != '\n')
			return false;
		text += len + 2;
	}
	return true;
}

bool
mail_edit_is_name(const char *name)
{
	const char *p = name;

	while (*p > ' ' && *p < 127 && *p != ':')
		p++;
	return p > name && *p == '\0';
}

/* A line of nothing but white space would end the header for some who read it. */
bool
mail_edit_is_value(const char *value)
{
	for (bool is_first = true;; is_first = false) {
		size_t len = strcspn(value, "\r\n");

		if (!is_first && ((*value != ' ' && *value != '\t') || strspn(value, " \t") == len))
			return false;
		if (value[len] == '\0')
			return true;
		if (value[len] != '\r' || value[len + 1] != '\n')
			return false;
		value += len + 2;
	}
}

static struct mail_edit *
new_edit(struct mail_edits *e, enum mail_edit_kind kind, const char *text)
{
	struct mail_edit *edit = arena_zalloc(e->arena, sizeof(*edit));

	e->whole->text = NULL;
	edit->kind = kind;
	edit->len = strlen(text);
	edit->text = arena_memdup(e->arena, text, edit->len + 1);
	return edit;
}

void
mail_edit_prepend(struct mail_edits *e, const char *text)
{
	struct mail_edit *edit;

	assert(*text != '\0' && is_header_lines(text));
	edit = new_edit(e, MAIL_EDIT_PREPEND, text);
	/* The list stands in the order of the message: later ones above. */
	STAILQ_INSERT_HEAD(&e->list, edit, next);
}

static void
ask(struct mail_edits *e, enum mail_edit_kind kind, size_t index, const char *name, const char *value)
{
	struct mail_edit *edit;

	assert(mail_edit_is_name(name) && mail_edit_is_value(value));
	edit = new_edit(e, kind, value);
	edit->name = arena_strdup(e->arena, name);
	edit->index = index;
	STAILQ_INSERT_TAIL(&e->list, edit, next);
}

void
mail_edit_add(struct mail_edits *e, const char *name, const char *value)
{
	ask(e, MAIL_EDIT_ADD, 0, name, value);
}

void
mail_edit_insert(struct mail_edits *e, size_t index, const char *name, const char *value)
{
	ask(e, MAIL_EDIT_INSERT, index, name, value);
}

void
mail_edit_change(struct mail_edits *e, size_t index, const char *name, const char *value)
{
	ask(e, MAIL_EDIT_CHANGE, index, name, value);
}

void
mail_edit_delete(struct mail_edits *e, size_t index, const char *name)
{
	ask(e, MAIL_EDIT_DELETE, index, name, "");
}

static void
ask_content(struct mail_edits *e, enum mail_edit_kind kind, const struct mail_body *body)
{
	struct mail_edit *edit = new_edit(e, kind, "");

	edit->body = body;
	STAILQ_INSERT_TAIL(&e->list, edit, next);
}

void
mail_edit_body(struct mail_edits *e, const struct mail_body *body)
{
	ask_content(e, MAIL_EDIT_BODY, body);
}

void
mail_edit_message(struct mail_edits *e, const struct mail_body *body)
{
	ask_content(e, MAIL_EDIT_MESSAGE, body);
}

/* ---- carrying out ------------------------------------------------------------------------- */

/* A field with its folds, or what stands between fields and is none. */
struct piece {
	TAILQ_ENTRY(piece) next;
	const char *text; /* with its line end, if it has one */
	size_t len;
	size_t name_len;	  /* 0: no field */
	size_t value, value_len; /* behind the colon, without the line end */
};
TAILQ_HEAD(piece_list, piece);

/* A header under way, so that a thousand edits cost no thousand copies of it; and of what content it stands for how
 * much. */
struct making {
	struct arena *scratch;
	struct piece_list pieces;
	struct piece *from;  /* the line of an mbox that it came with on top, or NULL */
	struct piece *other; /* the first one else that is no field: fields are added in front of it; NULL: at the end */
	size_t cut;
	const struct mail_body *content;
	bool has_gap;
};

/* ---- into pieces, and back ---- */

static struct piece *
new_piece(struct making *m, const char *text, size_t len)
{
	struct piece *p = arena_zalloc(m->scratch, sizeof(*p));

	p->text = text;
	p->len = len;
	return p;
}

static void
add_other(struct making *m, const char *text, size_t len)
{
	struct piece *p;

	if (len == 0)
		return;
	p = new_piece(m, text, len);
	if (m->other == NULL)
		m->other = p;
	TAILQ_INSERT_TAIL(&m->pieces, p, next);
}

static void
add_field(struct making *m, const struct mail_field *field, size_t len)
{
	struct piece *p = new_piece(m, field->name, len);

	p->name_len = field->name_len;
	p->value = (size_t)(field->value - field->name);
	p->value_len = field->value_len;
	TAILQ_INSERT_TAIL(&m->pieces, p, next);
}

/* With its folds. */
static size_t
from_line_len(const char *text, size_t len)
{
	size_t pos = 0;

	if (len < 5 || memcmp(text, "From ", 5) != 0)
		return 0;
	do {
		const char *end = memmem(text + pos, len - pos, "\r\n", 2);

		pos = end != NULL ? (size_t)(end - text) + 2 : len;
	} while (pos < len && (text[pos] == ' ' || text[pos] == '\t'));
	return pos;
}

/* Up to an empty line, which may stand in it: see put_piece(). */
static size_t
fields_len(const char *text, size_t len)
{
	const char *end = memmem(text, len, "\r\n\r\n", 4);

	if (len >= 2 && memcmp(text, "\r\n", 2) == 0)
		return 0;
	return end != NULL ? (size_t)(end - text) + 2 : len;
}

/* text is borrowed until the header is made. */
static void
split(struct making *m, const char *text, size_t len)
{
	size_t end = fields_len(text, len), pos = from_line_len(text, end), kept = pos;
	struct mail_field field;

	TAILQ_INIT(&m->pieces);
	m->other = m->from = NULL;
	if (pos > 0) {
		m->from = new_piece(m, text, pos);
		TAILQ_INSERT_TAIL(&m->pieces, m->from, next);
	}
	while (mail_header_next(text, end, &pos, &field)) {
		size_t begin = (size_t)(field.name - text);

		add_other(m, text + kept, begin - kept);
		add_field(m, &field, pos - begin);
		kept = pos;
	}
	add_other(m, text + kept, len - kept);
}

static struct mail_field
field_of(const struct piece *p)
{
	return (struct mail_field){
		.name = p->text, .name_len = p->name_len, .value = p->text + p->value, .value_len = p->value_len};
}

static bool
is_named(const struct piece *p, const char *name, size_t name_len)
{
	return p->name_len == name_len && strncasecmp(p->text, name, name_len) == 0;
}

/* ---- edits ---- */

/* In front of which fields are added; NULL: behind all. */
static struct piece *
end_of_fields(const struct making *m)
{
	return m->from != NULL && m->from != TAILQ_FIRST(&m->pieces) ? m->from : m->other;
}

static void
end_line(struct making *m, struct piece *p)
{
	char *text;

	if (p == NULL || p->text[p->len - 1] == '\n')
		return;
	text = arena_alloc(m->scratch, p->len + 2); /* there may be a NUL in it */
	memcpy(text, p->text, p->len);
	memcpy(text + p->len, "\r\n", 2);
	p->text = text;
	p->len += 2;
}

/* A message whose first line begins with a blank has no header: all of it is body, and must not become a fold of what
 * we put there. */
static void
end_header(struct making *m, struct piece *first)
{
	for (struct piece *p = first; p != NULL; p = TAILQ_NEXT(p, next))
		p->name_len = 0;
	m->other = new_piece(m, "\r\n", 2);
	TAILQ_INSERT_BEFORE(first, m->other, next);
}

static void
put_piece(struct making *m, struct piece *before, struct piece *p)
{
	end_line(m, before != NULL ? TAILQ_PREV(before, piece_list, next) : TAILQ_LAST(&m->pieces, piece_list));
	if (before == NULL) {
		TAILQ_INSERT_TAIL(&m->pieces, p, next);
		return;
	}
	TAILQ_INSERT_BEFORE(before, p, next);
	if (before->text[0] == ' ' || before->text[0] == '\t')
		end_header(m, before);
}

static void
write_field(struct making *m, struct piece *p, const char *begin, size_t value, const struct mail_edit *edit,
	const char *end)
{
	p->text = arena_printf(m->scratch, "%.*s%s%s%s", (int)value, begin, edit->len > 0 ? " " : "", edit->text, end);
	p->len = strlen(p->text);
	p->value = value;
	p->value_len = p->len - value - strlen(end);
}

static void
put_field(struct making *m, struct piece *before, const struct mail_edit *edit)
{
	struct piece *p = new_piece(m, NULL, 0);

	p->name_len = strlen(edit->name);
	write_field(m, p, arena_printf(m->scratch, "%s:", edit->name), p->name_len + 1, edit, "\r\n");
	put_piece(m, before, p);
}

/* The index-th field of that name. NULL: there are not so many. */
static struct piece *
find_named(const struct making *m, const struct mail_edit *edit)
{
	size_t left = edit->index > 0 ? edit->index : 1, name_len = strlen(edit->name);
	struct piece *p;

	TAILQ_FOREACH(p, &m->pieces, next)
		if (is_named(p, edit->name, name_len) && --left == 0)
			return p;
	return NULL;
}

static struct piece *
nth_field(const struct making *m, size_t index)
{
	struct piece *p;

	TAILQ_FOREACH(p, &m->pieces, next)
		if (p->name_len > 0 && index-- == 0)
			return p;
	return NULL;
}

static void
do_insert(struct making *m, const struct mail_edit *edit)
{
	struct piece *before = edit->index == 0 ? TAILQ_FIRST(&m->pieces) : nth_field(m, edit->index);

	put_field(m, before != NULL ? before : end_of_fields(m), edit);
}

static void
do_change(struct making *m, const struct mail_edit *edit)
{
	struct piece *p = find_named(m, edit);

	if (p == NULL)
		put_field(m, end_of_fields(m), edit);
	else
		write_field(m, p, p->text, p->value, edit, p->text[p->len - 1] == '\n' ? "\r\n" : "");
}

static void
do_delete(struct making *m, const struct mail_edit *edit)
{
	const size_t name_len = strlen(edit->name);
	struct piece *p, *next;

	if (edit->index != MAIL_EDIT_ALL) {
		p = find_named(m, edit);
		if (p != NULL)
			TAILQ_REMOVE(&m->pieces, p, next);
		return;
	}
	TAILQ_FOREACH_SAFE(p, &m->pieces, next, next)
		if (is_named(p, edit->name, name_len))
			TAILQ_REMOVE(&m->pieces, p, next);
}

static void
carry_out(struct making *m, const struct mail_edit *edit)
{
	switch (edit->kind) {
	case MAIL_EDIT_ADD:
		put_field(m, end_of_fields(m), edit);
		break;
	case MAIL_EDIT_INSERT:
		do_insert(m, edit);
		break;
	case MAIL_EDIT_CHANGE:
		do_change(m, edit);
		break;
	case MAIL_EDIT_DELETE:
		do_delete(m, edit);
		break;
	case MAIL_EDIT_PREPEND:
	case MAIL_EDIT_SENDER:
	case MAIL_EDIT_ADD_RCPT:
	case MAIL_EDIT_REMOVE_RCPT:
	case MAIL_EDIT_BODY:
	case MAIL_EDIT_MESSAGE:
		break;
	}
}

const struct mail_body *
mail_edits_content(const struct mail_body *body, const struct mail_edits *version)
{
	return version != NULL && version->content != NULL ? version->content : body;
}

static int
load_body_head(struct arena *arena, const struct mail_body *body, const char **text_r, size_t *len_r)
{
	switch (mail_header_load(body, MAIL_HEADER_MAX, arena, text_r, len_r)) {
	case MAIL_HEADER_TOO_LONG:
		errno = EMSGSIZE;
		return -1;
	case MAIL_HEADER_READ:
		return -1;
	case MAIL_HEADER_OK:
		break;
	}
	return 0;
}

/* Without the PREPENDs. *cut_r is how much of the content it stands for. */
static int
load_head(struct arena *arena, const struct mail_body *body, const struct mail_edits *version,
	const char **text_r, size_t *len_r, size_t *cut_r)
{
	if (version != NULL && version->head != NULL) {
		*text_r = version->head;
		*len_r = version->head_len;
		*cut_r = version->head_cut;
		return 0;
	}
	if (load_body_head(arena, mail_edits_content(body, version), text_r, len_r) < 0)
		return -1;
	*cut_r = *len_r;
	return 0;
}

/* PREPENDs, if any, and what is below them in one piece. */
static void
join(const struct mail_edits *version, struct mail_whole_head *whole)
{
	const struct mail_edit *edit;
	struct str text = STR_INIT;

	if (STAILQ_EMPTY(&version->list))
		return;
	STAILQ_FOREACH(edit, &version->list, next)
		str_addn(&text, edit->text, edit->len);
	str_addn(&text, whole->text, whole->len);
	whole->text = arena_memdup(version->arena, text.data, text.len);
	whole->len = text.len;
	str_deinit(&text);
}

static int
load_whole(struct arena *arena, const struct mail_body *body, const struct mail_edits *version,
	struct mail_whole_head *whole_r)
{
	if (version != NULL && version->whole->text != NULL) {
		*whole_r = *version->whole;
		return 0;
	}
	if (load_head(version != NULL ? version->arena : arena, body, version, &whole_r->text, &whole_r->len,
		    &whole_r->cut) < 0)
		return -1;
	if (version != NULL) {
		join(version, whole_r);
		*version->whole = *whole_r;
	}
	return 0;
}

int
mail_edits_header(struct arena *arena, const struct mail_body *body, const struct mail_edits *version,
	const char **text_r, size_t *len_r)
{
	struct mail_whole_head whole;

	if (load_whole(arena, body, version, &whole) < 0)
		return -1;
	*text_r = whole.text;
	*len_r = whole.len;
	return 0;
}

/* ---- another body ------------------------------------------------------------------------- */

/* Octets of white space, or that some programs make white space of. */
static size_t
skip_white(const char *text, size_t len)
{
	size_t n = 0;

	while (n < len && (unsigned char)text[n] <= ' ')
		n++;
	return n;
}

/* A program that wrote the header anew has folded it anew, too. */
static bool
is_same_value(const struct mail_field *a, const struct mail_field *b)
{
	size_t i = 0, k = 0;

	for (;; i++, k++) {
		i += skip_white(a->value + i, a->value_len - i);
		k += skip_white(b->value + k, b->value_len - k);
		if (i == a->value_len || k == b->value_len)
			return i == a->value_len && k == b->value_len;
		if (a->value[i] != b->value[k])
			return false;
	}
}

static bool
has_trace(const struct making *m, const struct piece *trace)
{
	const struct mail_field wanted = field_of(trace);
	const struct piece *p;

	TAILQ_FOREACH(p, &m->pieces, next)
	{
		const struct mail_field field = field_of(p);

		if (is_named(p, "Received", strlen("Received")) && is_same_value(&field, &wanted))
			return true;
	}
	return false;
}

/* RFC 5321 4.4: they must stay. Loops are found by them, ours and those of others. */
static void
put_back_trace(struct piece_list *old, struct making *m)
{
	struct piece *below = TAILQ_FIRST(&m->pieces), *p, *next;

	TAILQ_FOREACH_SAFE(p, old, next, next)
	{
		if (!is_named(p, "Received", strlen("Received")) || has_trace(m, p))
			continue;
		TAILQ_REMOVE(old, p, next);
		end_line(m, p);
		put_piece(m, below, p);
		below = TAILQ_NEXT(p, next);
	}
}

/* What is longer than a header may be leaves all as it was. */
static int
do_message(struct making *m, struct arena *arena, const struct mail_edit *edit)
{
	struct making fresh = {.scratch = m->scratch, .content = edit->body, .has_gap = false};
	const char *text;

	if (load_body_head(arena, edit->body, &text, &fresh.cut) < 0)
		return -1;
	split(&fresh, text, fresh.cut);
	put_back_trace(&m->pieces, &fresh);
	TAILQ_INIT(&m->pieces);
	TAILQ_CONCAT(&m->pieces, &fresh.pieces, next);
	m->from = fresh.from;
	m->other = fresh.other;
	m->cut = fresh.cut;
	m->content = fresh.content;
	m->has_gap = fresh.has_gap;
	return 0;
}

/* From a line on that is no field all is body, for whoever delivers it. */
static void
do_body(struct making *m, const struct mail_edit *edit)
{
	struct piece *p = end_of_fields(m), *next;

	for (; p != NULL; p = next) {
		next = TAILQ_NEXT(p, next);
		m->from = p != m->from ? m->from : NULL;
		TAILQ_REMOVE(&m->pieces, p, next);
	}
	m->other = NULL;
	end_line(m, TAILQ_LAST(&m->pieces, piece_list));
	m->cut = 0;
	m->content = edit->body;
	m->has_gap = true;
}

static int
carry_out_all(struct making *m, struct arena *arena, const struct mail_edits *asked)
{
	const struct mail_edit *edit;

	STAILQ_FOREACH(edit, &asked->list, next)
	{
		if (edit->kind == MAIL_EDIT_BODY)
			do_body(m, edit);
		else if (edit->kind != MAIL_EDIT_MESSAGE)
			carry_out(m, edit);
		else if (do_message(m, arena, edit) < 0)
			return -1;
	}
	return 0;
}

static void
keep_head(struct mail_edits *made, const char *text, size_t len, size_t cut)
{
	made->head = text;
	made->head_len = len;
	made->head_cut = cut;
}

static void
keep_pieces(struct mail_edits *made, const struct making *m)
{
	const struct piece *p;
	size_t len = 0;
	char *text;

	TAILQ_FOREACH(p, &m->pieces, next)
	len += p->len;
	text = arena_alloc(made->arena, len + 1);
	keep_head(made, text, len, m->cut);
	TAILQ_FOREACH(p, &m->pieces, next)
	{
		memcpy(text, p->text, p->len);
		text += p->len;
	}
	*text = '\0';
}

/* The header of `before` with what was asked for, but for PREPENDs. */
static int
make_head(struct mail_edits *made, const struct mail_body *body, const struct mail_edits *before,
	const struct mail_edits *asked)
{
	struct making m = {.content = made->content, .has_gap = made->has_gap};
	struct mail_whole_head whole;
	int rc;

	if (load_whole(made->arena, body, before, &whole) < 0)
		return -1;
	m.scratch = arena_new();
	m.cut = whole.cut;
	split(&m, whole.text, whole.len);
	rc = carry_out_all(&m, made->arena, asked);
	keep_pieces(made, &m);
	made->content = m.content;
	made->has_gap = m.has_gap;
	arena_free(&m.scratch);
	return rc;
}

/* ---- versions ----------------------------------------------------------------------------- */

/* Edits are never changed, so only the links are new. */
static void
copy_edits(struct arena *arena, struct mail_edit_list *to, const struct mail_edit_list *from, unsigned kinds)
{
	const struct mail_edit *edit;

	STAILQ_FOREACH(edit, from, next)
	{
		struct mail_edit *copy;

		if ((kinds & MAIL_EDIT_BIT(edit->kind)) == 0)
			continue;
		copy = arena_memdup(arena, edit, sizeof(*edit));
		STAILQ_INSERT_TAIL(to, copy, next);
	}
}

static size_t
count_edits(const struct mail_edit_list *list)
{
	const struct mail_edit *edit;
	size_t count = 0;

	STAILQ_FOREACH(edit, list, next)
		count++;
	return count;
}

static bool
has_only(const struct mail_edits *e, unsigned kinds)
{
	const struct mail_edit *edit;

	STAILQ_FOREACH(edit, &e->list, next)
		if ((kinds & MAIL_EDIT_BIT(edit->kind)) == 0)
			return false;
	return true;
}

/* All of `before` (or NULL) but its header. */
static struct mail_edits *
new_version(struct arena *arena, const struct mail_edits *before)
{
	struct mail_edits *made = arena_alloc(arena, sizeof(*made));

	mail_edits_init(made, arena);
	if (before == NULL)
		return made;
	made->content = before->content;
	made->has_gap = before->has_gap;
	copy_edits(arena, &made->envelope, &before->envelope, ENVELOPE);
	return made;
}

const struct mail_edits *
mail_edits_apply(struct arena *arena, const struct mail_body *body, const struct mail_edits *before,
	const struct mail_edits *asked)
{
	struct mail_edits *made;

	if (STAILQ_EMPTY(&asked->list) && before != NULL)
		return before;
	made = new_version(arena, before);
	copy_edits(arena, &made->list, &asked->list, PREPEND);
	copy_edits(arena, &made->envelope, &asked->list, ENVELOPE);
	if (count_edits(&made->envelope) > MAIL_ENVELOPE_EDITS_MAX) {
		errno = E2BIG;
		return NULL;
	}
	if (!has_only(asked, PREPEND | ENVELOPE))
		return make_head(made, body, before, asked) == 0 ? made : NULL;
	if (before != NULL) {
		copy_edits(arena, &made->list, &before->list, PREPEND);
		made->head = before->head;
		made->head_len = before->head_len;
		made->head_cut = before->head_cut;
	}
	return made;
}

/* All fields that is_unwanted() names go, in one pass. Were there any? */
static bool
delete_fields(struct str *head, bool (*is_unwanted)(const struct mail_field *field, void *arg), void *arg)
{
	struct str out = STR_INIT;
	struct mail_field field;
	size_t kept = 0, end = 0;

	while (mail_header_next(head->data, head->len, &end, &field)) {
		if (!is_unwanted(&field, arg))
			continue;
		str_addn(&out, head->data + kept, (size_t)(field.name - head->data) - kept);
		kept = end;
	}
	str_addn(&out, head->data + kept, head->len - kept);
	str_add(&out, "");
	str_deinit(head);
	*head = out;
	return kept > 0;
}

const struct mail_edits *
mail_edits_without(struct arena *arena, const struct mail_body *body, const struct mail_edits *before,
	bool (*is_unwanted)(const struct mail_field *field, void *arg), void *arg)
{
	struct mail_whole_head whole;
	struct mail_edits *made;
	struct str head = STR_INIT;

	if (load_whole(arena, body, before, &whole) < 0)
		return NULL;
	str_addn(&head, whole.text, whole.len);
	if (!delete_fields(&head, is_unwanted, arg)) {
		str_deinit(&head);
		return before;
	}
	made = new_version(arena, before);
	keep_head(made, arena_memdup(arena, head.data, head.len + 1), head.len, whole.cut);
	str_deinit(&head);
	return made;
}
