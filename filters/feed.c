/* filters/feed.c - pieces of a view, as long as the socket takes them. */
#include "filters/feed.h"

void
feed_init(struct feed *f, const struct filter_run *run)
{
	feed_deinit(f);
	mail_view_init(&f->view, run->msg->body, run->seen, MAIL_VIEW_PLAIN);
	f->is_open = true;
	f->is_over = false;
	f->piece.len = 0;
}

void
feed_deinit(struct feed *f)
{
	if (f->is_open)
		mail_view_deinit(&f->view);
	f->is_open = false;
}

static void
send_piece(struct feed *f, struct net_stream *s, size_t len)
{
	struct mail_piece *p = &f->piece;

	if (p->data != NULL) {
		net_stream_write(s, p->data, len);
		p->data += len;
	} else {
		net_stream_send_file(s, p->fd, p->off, len);
		p->off += (off_t)len;
	}
	p->len -= len;
}

static int
send_next(struct feed *f, struct net_stream *s, size_t most, feed_frame_fn frame)
{
	int rc = f->piece.len > 0 ? 1 : mail_view_next(&f->view, &f->piece);
	size_t len;

	if (rc < 0)
		return -1;
	f->is_over = rc == 0;
	len = f->is_over ? 0 : f->piece.len < most ? f->piece.len : most;
	if (frame != NULL)
		frame(s, len);
	if (!f->is_over)
		send_piece(f, s, len);
	return 0;
}

/* What a socket takes at once gives no NET_DRAINED: so the loop goes on until something waits. */
int
feed_stream(struct feed *f, struct net_stream *s, size_t most, feed_frame_fn frame)
{
	size_t waiting;
	int rc;

	do {
		net_stream_cork(s);
		rc = send_next(f, s, most, frame);
		waiting = net_stream_uncork(s);
	} while (rc == 0 && !f->is_over && waiting < NET_HIGH_MARK);
	return rc;
}
