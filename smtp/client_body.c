/*
 * smtp/client_body.c - content to the back-end, and the point of no return.
 *
 * By DATA that is the write with the final dot. By BDAT (RFC 3030), content that one write takes is one
 * chunk, the last, and that write is it. More content is a chunk of its own; when the peer has taken it,
 * the `BDAT 0 LAST` behind it is the point of no return.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "smtp/client_private.h"

/* Pieces of memory that leave in one writev. */
#define IOV_MAX_COUNT 64

/* "BDAT ", 19 digits, " LAST", CRLF, NUL. */
#define BDAT_SIZE 40

static const char final_dot[] = ".\r\n";

void
cli_body_end(struct smtp_client *c)
{
	if (c->has_view)
		mail_view_deinit(&c->view);
	c->has_view = false;
	c->sending = false;
}

/* The owner wants no more of it: closing the connection is the only way that leaves nothing behind. */
static void
abandon(struct smtp_client *c)
{
	c->dead = true;
	cli_body_end(c);
	net_stream_free(&c->stream);
}

static void
start(struct smtp_client *c, enum mail_view_form form)
{
	mail_view_init(&c->view, c->body, c->edits, form);
	c->has_view = true;
	c->sending = true;
	cli_body_more(c);
}

void
cli_body_start(struct smtp_client *c)
{
	if (c->ops->go(c->owner))
		start(c, MAIL_VIEW_WIRE);
	else if (!c->freed)
		abandon(c);
}

/* What was said before the content had left is no answer to it, and nothing else can be after it. */
static bool
has_spoken(const struct smtp_client *c)
{
	return c->unread > 0 || c->in_reply;
}

static void
fail_early(struct smtp_client *c)
{
	struct err err;

	err_set_temp(&err, "the back-end answered before the end of data");
	cli_body_end(c);
	cli_fail(c, &err, NULL);
}

/*
 * A reply or an end that is here before the dot has left cannot be the answer to the message, so the
 * dot must not leave (CORRECTNESS: acceptance).
 */
static bool
may_commit(struct smtp_client *c)
{
	if (has_spoken(c) || net_stream_is_readable(c->stream)) {
		fail_early(c);
		return false;
	}
	if (c->ops->dot(c->owner))
		return true;
	if (!c->freed)
		abandon(c);
	return false;
}

/* The point of no return. */
static void
commit(struct smtp_client *c, const struct iovec *iov, int count)
{
	if (!may_commit(c))
		return;
	cli_body_end(c);
	c->committed = true;
	cli_expect(c, CLI_FINAL);
	net_stream_writev(c->stream, iov, count);
}

/* The last pieces of a chunk. Its reply is awaited once they have left. */
static void
finish_chunk(struct smtp_client *c, const struct iovec *iov, int count)
{
	if (net_stream_writev(c->stream, iov, count) > 0) {
		c->stuck = net_stream_unconfirmed(c->stream);
		return; /* NET_DRAINED goes on, and finds no more pieces */
	}
	if (has_spoken(c)) {
		fail_early(c);
		return;
	}
	assert(c->chunk_left == 0);
	cli_body_end(c);
	cli_expect(c, CLI_CHUNK);
}

static void
finish(struct smtp_client *c, struct iovec *iov, int count)
{
	if (c->view.form == MAIL_VIEW_PLAIN) {
		finish_chunk(c, iov, count);
		return;
	}
	iov[count++] = (struct iovec){ (void *)final_dot, sizeof(final_dot) - 1 };
	commit(c, iov, count);
}

/* What is more than the chunk would be obeyed as commands, so it does not even leave. */
static void
count_piece(struct smtp_client *c, const struct mail_piece *piece)
{
	if (c->view.form != MAIL_VIEW_PLAIN)
		return;
	c->chunk_left -= (int64_t)piece->len;
	assert(c->chunk_left >= 0);
}

void
cli_body_more(struct smtp_client *c)
{
	struct iovec iov[IOV_MAX_COUNT + 1];
	struct mail_piece piece;
	struct err err;
	/* A body with very many dot lines, in memory or in a file, is read through the view's scratch memory,
	 * which the next call overwrites; all other memory lives as long as the body. */
	bool is_scratch = c->view.body->dots_unknown && c->view.form == MAIL_VIEW_WIRE;
	int count = 0, rc;
	size_t waiting = 0, gathered = 0;

	cli_set_deadline(c);
	while ((rc = mail_view_next(&c->view, &piece)) > 0) {
		count_piece(c, &piece);
		if (piece.data != NULL) {
			iov[count++] = (struct iovec){ (void *)piece.data, piece.len };
			gathered += piece.len;
			if (!is_scratch && count < IOV_MAX_COUNT && gathered < NET_HIGH_MARK)
				continue;
		}
		if (count > 0)
			waiting = net_stream_writev(c->stream, iov, count);
		count = 0;
		gathered = 0;
		if (piece.data == NULL)
			waiting = net_stream_send_file(c->stream, piece.fd, piece.off, piece.len);
		if (waiting > 0) {
			c->stuck = net_stream_unconfirmed(c->stream);
			return; /* NET_DRAINED goes on */
		}
	}
	if (rc < 0) {
		err_set_temp(&err, "cannot read the spooled message: %s", strerror(errno));
		cli_body_end(c);
		cli_fail(c, &err, NULL);
		return;
	}
	finish(c, iov, count);
}

/* ---- BDAT ---- */

/* Gathers all of the content when one write takes it; -1: it is more, or in a file. Plain memory lives as long
 * as the body. */
static int
gather(const struct smtp_client *c, int64_t size, struct iovec *iov)
{
	struct mail_piece piece;
	struct mail_view view;
	int64_t left = size;
	int count = 0;

	if (mail_edits_content(c->body, c->edits)->fd >= 0 || size > NET_HIGH_MARK)
		return -1;
	mail_view_init(&view, c->body, c->edits, MAIL_VIEW_PLAIN);
	while (count < IOV_MAX_COUNT && mail_view_next(&view, &piece) > 0 && piece.data != NULL) {
		iov[count++] = (struct iovec){ (void *)piece.data, piece.len };
		left -= (int64_t)piece.len;
	}
	mail_view_deinit(&view);
	return left == 0 ? count : -1;
}

void
cli_chunk_start(struct smtp_client *c)
{
	const int64_t size = mail_view_size(c->body, c->edits);
	struct iovec iov[IOV_MAX_COUNT + 1];
	char line[BDAT_SIZE];
	int count = gather(c, size, iov + 1);
	int len = snprintf(line, sizeof(line), "BDAT %" PRId64 "%s\r\n", size, count >= 0 ? " LAST" : "");

	iov[0] = (struct iovec){ line, (size_t)len };
	if (count >= 0) {
		commit(c, iov, count + 1);
		return;
	}
	c->chunk_left = size;
	net_stream_writev(c->stream, iov, 1);
	start(c, MAIL_VIEW_PLAIN);
}

void
cli_chunk_last(struct smtp_client *c)
{
	static const char line[] = "BDAT 0 LAST\r\n";
	const struct iovec iov = { (void *)line, sizeof(line) - 1 };

	commit(c, &iov, 1);
}
