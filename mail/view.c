/*
 * mail/view.c - the message as it now is: body and edits as an iterator of pieces.
 */
#include "mail/view.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/xalloc.h"

enum view_step {
	VIEW_EDITS,    /* header lines put in front */
	VIEW_HEAD,     /* the header that was edited, instead of the content's first octets */
	VIEW_GAP,      /* the empty line in front of a body that a filter has made */
	VIEW_BODY,     /* the content */
	VIEW_LINE_END, /* wire form: complete the last line */
	VIEW_END,
};

enum view_line {
	LINE_BEGIN, /* a dot here is doubled */
	LINE_IN,
	LINE_CR, /* behind a CR */
};

/* Stuffing is done within one buffer: input is read to its end, output grows from its start. At
 * worst every third octet is a dot to be doubled (".\r\n"). */
#define SCRATCH_READ (48 * 1024)
#define SCRATCH_SIZE (SCRATCH_READ + SCRATCH_READ / 3 + 1)

void
mail_view_init(struct mail_view *v, const struct mail_body *body, const struct mail_edits *edits,
	enum mail_view_form form)
{
	memset(v, 0, sizeof(*v));
	body = mail_edits_content(body, edits);
	v->body = body;
	v->edits = edits;
	v->form = form;
	v->edit = edits != NULL ? STAILQ_FIRST(&edits->list) : NULL;
	v->chunk = STAILQ_FIRST(&body->chunks);
	v->off = edits != NULL ? (int64_t)edits->head_cut : 0;
	while (v->dot < body->dot_count && body->dots[v->dot] < v->off)
		v->dot++;
	v->step = VIEW_EDITS;
	v->line = LINE_BEGIN;
}

void
mail_view_deinit(struct mail_view *v)
{
	free(v->scratch);
	v->scratch = NULL;
	v->step = VIEW_END;
}

static int
give_memory(struct mail_piece *piece_r, const char *data, size_t len)
{
	*piece_r = (struct mail_piece){.data = data, .fd = -1, .len = len};
	return 1;
}

/* Header text up to the next dot at the begin of a line, which the wire form doubles. */
static int
give_text(struct mail_view *v, struct mail_piece *piece_r)
{
	const char *text = v->text, *dot;
	size_t len = v->text_left;

	if (v->form == MAIL_VIEW_WIRE && !v->is_dot_given && *text == '.') {
		v->is_dot_given = true;
		return give_memory(piece_r, ".", 1);
	}
	v->is_dot_given = false;
	dot = v->form == MAIL_VIEW_WIRE ? memmem(text, len, "\r\n.", 3) : NULL;
	if (dot != NULL)
		len = (size_t)(dot - text) + 2;
	v->text += len;
	v->text_left -= len;
	return give_memory(piece_r, text, len);
}

/* Content up to end, or up to the end of its chunk. */
static int
give_body(struct mail_view *v, int64_t end, struct mail_piece *piece_r)
{
	const struct mail_body *body = v->body;
	size_t len = end - v->off, skip;

	if (body->fd >= 0) {
		*piece_r = (struct mail_piece){.fd = body->fd, .off = v->off, .len = len};
		v->off = end;
		return 1;
	}
	while (v->chunk_off + (int64_t)v->chunk->len <= v->off) {
		v->chunk_off += v->chunk->len;
		v->chunk = STAILQ_NEXT(v->chunk, next);
	}
	skip = v->off - v->chunk_off;
	if (len > v->chunk->len - skip)
		len = v->chunk->len - skip;
	v->off += len;
	return give_memory(piece_r, v->chunk->data + skip, len);
}

static int
next_noted(struct mail_view *v, struct mail_piece *piece_r)
{
	const struct mail_body *body = v->body;

	if (v->dot < body->dot_count && body->dots[v->dot] == v->off) {
		v->dot++;
		return give_memory(piece_r, ".", 1);
	}
	return give_body(v, v->dot < body->dot_count ? body->dots[v->dot] : body->size, piece_r);
}

/* Doubles dots from src to dst, which may overlap as SCRATCH_SIZE explains. */
static size_t
stuff(char *dst, const char *src, size_t len, int *line)
{
	char *out = dst;

	for (size_t i = 0; i < len; i++) {
		char c = src[i];

		if (c == '.' && *line == LINE_BEGIN)
			*out++ = '.';
		*out++ = c;
		if (c == '\r')
			*line = LINE_CR;
		else if (c == '\n' && *line == LINE_CR)
			*line = LINE_BEGIN;
		else
			*line = LINE_IN;
	}
	return out - dst;
}

static int
next_stuffed(struct mail_view *v, struct mail_piece *piece_r)
{
	char *input;
	ssize_t n;

	if (v->scratch == NULL)
		v->scratch = xmalloc(SCRATCH_SIZE);
	input = v->scratch + SCRATCH_SIZE - SCRATCH_READ;
	n = mail_body_read(v->body, v->off, input, SCRATCH_READ);
	if (n == 0)
		errno = EIO; /* the file is shorter than it was */
	if (n <= 0)
		return -1;
	v->off += n;
	return give_memory(piece_r, v->scratch, stuff(v->scratch, input, n, &v->line));
}

static int
next_body(struct mail_view *v, struct mail_piece *piece_r)
{
	if (v->form == MAIL_VIEW_PLAIN)
		return give_body(v, v->body->size, piece_r);
	if (v->body->dots_unknown)
		return next_stuffed(v, piece_r);
	return next_noted(v, piece_r);
}

static bool
ends_in_crlf(const struct mail_view *v)
{
	const struct mail_edits *e = v->edits;

	if (e == NULL || e->head == NULL || (int64_t)e->head_cut < v->body->size)
		return v->body->ends_in_crlf;
	if (e->has_gap)
		return true;
	return e->head_len == 0 ||
	       (e->head_len >= 2 && memcmp(e->head + e->head_len - 2, "\r\n", 2) == 0);
}

int
mail_view_next(struct mail_view *v, struct mail_piece *piece_r)
{
	const struct mail_edit *edit = v->edit;

	if (v->step == VIEW_EDITS) {
		if (edit != NULL) {
			assert(edit->kind == MAIL_EDIT_PREPEND); /* of a version */
			v->edit = STAILQ_NEXT(edit, next);
			return give_memory(piece_r, edit->text, edit->len);
		}
		if (v->edits != NULL) {
			v->text = v->edits->head;
			v->text_left = v->edits->head_len;
		}
		v->step = VIEW_HEAD;
	}
	if (v->step == VIEW_HEAD) {
		if (v->text_left > 0)
			return give_text(v, piece_r);
		v->step = VIEW_GAP;
	}
	if (v->step == VIEW_GAP) {
		v->step = VIEW_BODY;
		if (v->edits != NULL && v->edits->has_gap)
			return give_memory(piece_r, "\r\n", 2);
	}
	if (v->step == VIEW_BODY) {
		if (v->off < v->body->size)
			return next_body(v, piece_r);
		v->step = VIEW_LINE_END;
	}
	if (v->step == VIEW_LINE_END) {
		v->step = VIEW_END;
		if (v->form == MAIL_VIEW_WIRE && !ends_in_crlf(v))
			return give_memory(piece_r, "\r\n", 2);
	}
	return 0;
}

int64_t
mail_view_size(const struct mail_body *body, const struct mail_edits *edits)
{
	int64_t size = mail_edits_content(body, edits)->size;
	const struct mail_edit *edit;

	if (edits == NULL)
		return size;
	if (edits->has_gap)
		size += 2;
	STAILQ_FOREACH(edit, &edits->list, next)
		size += (int64_t)edit->len;
	return size + (int64_t)edits->head_len - (int64_t)edits->head_cut;
}

static int
write_range(int fd, const struct mail_body *body, off_t off, size_t len, char *buffer)
{
	while (len > 0) {
		ssize_t n =
			mail_body_read(body, off, buffer, len < SCRATCH_READ ? len : SCRATCH_READ);

		if (n == 0)
			errno = EIO;
		if (n <= 0 || fd_write_all(fd, buffer, n) < 0)
			return -1;
		off += n;
		len -= n;
	}
	return 0;
}

int
mail_view_write(const struct mail_body *body, const struct mail_edits *edits, int fd)
{
	struct mail_piece piece;
	struct mail_view v;
	char *buffer;
	int rc;

	mail_view_init(&v, body, edits, MAIL_VIEW_PLAIN);
	buffer = v.body->fd >= 0 ? xmalloc(SCRATCH_READ) : NULL;
	while ((rc = mail_view_next(&v, &piece)) > 0) {
		if (piece.data != NULL)
			rc = fd_write_all(fd, piece.data, piece.len);
		else
			rc = write_range(fd, v.body, piece.off, piece.len, buffer);
		if (rc < 0)
			break;
	}
	mail_view_deinit(&v);
	free(buffer);
	return rc;
}
