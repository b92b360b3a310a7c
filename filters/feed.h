/*
 * filters/feed.h - the message of a run into a stream, as fast as the service takes it. A file is sent from where it lies.
 */
#ifndef FILTERS_FEED_H
#define FILTERS_FEED_H

#include "filters/filter.h"
#include "mail/view.h"
#include "net/stream.h"

/* Lives in run->data; zeroed is as after feed_deinit(). */
struct feed {
	bool is_open;
	bool is_over; /* all of it was given to the stream */
	struct mail_view view;
	struct mail_piece piece; /* what is left of it */
};

/* The message as the run sees it. */
void feed_init(struct feed *f, const struct filter_run *run);
/* Also in the middle, and more than once. */
void feed_deinit(struct feed *f);

/* Comes in front of each piece of at most `most` octets, and with 0 behind the last one. NULL: nothing does. */
typedef void (*feed_frame_fn)(struct net_stream *s, size_t len);

/* Call it once, and at each NET_DRAINED until is_over. 0; -1: the message cannot be read (errno). */
int feed_stream(struct feed *f, struct net_stream *s, size_t most, feed_frame_fn frame);

#endif
