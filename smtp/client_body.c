/*
 * smtp/client_body.c - content to the back-end, and the point of no return.
 */
#include <errno.h>
#include <string.h>

#include "smtp/client_private.h"

/* Pieces of memory that leave in one writev. */
#define IOV_MAX_COUNT 64

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

void
cli_body_start(struct smtp_client *c)
{
	if (!c->ops->go(c->owner)) {
		if (!c->freed)
			abandon(c);
		return;
	}
	mail_view_init(&c->view, c->body, c->edits, MAIL_VIEW_WIRE);
	c->has_view = true;
	c->sending = true;
	cli_body_more(c);
}

/*
 * A reply or an end that is here before the dot has left cannot be the answer to the message, so the
 * dot must not leave (CORRECTNESS: acceptance).
 */
static bool
may_commit(struct smtp_client *c)
{
	struct err err;

	if (c->unread > 0 || c->in_reply || net_stream_is_readable(c->stream)) {
		err_set_temp(&err, "the back-end answered before the end of data");
		cli_body_end(c);
		cli_fail(c, &err, NULL);
		return false;
	}
	if (c->ops->dot(c->owner))
		return true;
	if (!c->freed)
		abandon(c);
	return false;
}

static void
finish(struct smtp_client *c, struct iovec *iov, int count)
{
	if (!may_commit(c))
		return;
	iov[count++] = (struct iovec){ (void *)final_dot, sizeof(final_dot) - 1 };
	cli_body_end(c);
	c->committed = true;
	cli_expect(c, CLI_FINAL);
	net_stream_writev(c->stream, iov, count);
}

void
cli_body_more(struct smtp_client *c)
{
	struct iovec iov[IOV_MAX_COUNT + 1];
	struct mail_piece piece;
	struct err err;
	/* A body with very many dot lines, in memory or in a file, is read through the view's scratch memory,
	 * which the next call overwrites; all other memory lives as long as the body. */
	bool is_scratch = c->body->dots_unknown;
	int count = 0, rc;
	size_t waiting = 0, gathered = 0;

	net_stream_deadline(c->stream, c->conf->data_timeout);
	while ((rc = mail_view_next(&c->view, &piece)) > 0) {
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
