/*
 * mail/view.c - the message as it now is: body and edits as an iterator of pieces.
 */
#include "mail/view.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/xalloc.h"

enum view_step {
	VIEW_EDITS,    /* header lines put in front */
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
	v->body = body;
	v->edits = edits;
	v->form = form;
	v->edit = edits != NULL ? STAILQ_FIRST(&edits->list) : NULL;
	v->chunk = STAILQ_FIRST(&body->chunks);
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

int
mail_view_next(struct mail_view *v, struct mail_piece *piece_r)
{
	const struct mail_edit *edit = v->edit;

	if (v->step == VIEW_EDITS) {
		if (edit != NULL) {
			v->edit = STAILQ_NEXT(edit, next);
			return give_memory(piece_r, edit->text, edit->len);
		}
		v->step = VIEW_BODY;
	}
	if (v->step == VIEW_BODY) {
		if (v->off < v->body->size)
			return next_body(v, piece_r);
		v->step = VIEW_LINE_END;
	}
	if (v->step == VIEW_LINE_END) {
		v->step = VIEW_END;
		if (v->form == MAIL_VIEW_WIRE && !v->body->ends_in_crlf)
			return give_memory(piece_r, "\r\n", 2);
	}
	return 0;
}

int64_t
mail_view_size(const struct mail_body *body, const struct mail_edits *edits)
{
	int64_t size = body->size;
	const struct mail_edit *edit;

	if (edits != NULL)
		STAILQ_FOREACH(edit, &edits->list, next)
	size += edit->len;
	return size;
}

static int
write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		data += n;
		len -= n;
	}
	return 0;
}

static int
write_range(int fd, const struct mail_body *body, off_t off, size_t len, char *buffer)
{
	while (len > 0) {
		ssize_t n =
			mail_body_read(body, off, buffer, len < SCRATCH_READ ? len : SCRATCH_READ);

		if (n == 0)
			errno = EIO;
		if (n <= 0 || write_all(fd, buffer, n) < 0)
			return -1;
		off += n;
		len -= n;
	}
	return 0;
}

int
mail_view_write(const struct mail_body *body, const struct mail_edits *edits, int fd)
{
	char *buffer = body->fd >= 0 ? xmalloc(SCRATCH_READ) : NULL;
	struct mail_piece piece;
	struct mail_view v;
	int rc;

	mail_view_init(&v, body, edits, MAIL_VIEW_PLAIN);
	while ((rc = mail_view_next(&v, &piece)) > 0) {
		if (piece.data != NULL)
			rc = write_all(fd, piece.data, piece.len);
		else
			rc = write_range(fd, body, piece.off, piece.len, buffer);
		if (rc < 0)
			break;
	}
	mail_view_deinit(&v);
	free(buffer);
	return rc;
}
