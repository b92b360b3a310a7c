/*
 * net/stream.h - the bytes of one connection.
 *
 * A stream lives on one worker. Its owner gets events, one at a time, and may free the stream
 * inside an event: the memory goes away after the event returns.
 *
 * Input: each recv lands in the worker's buffer; NET_BYTES shows it, the owner returns how many
 * octets it took. What it left is kept (copied) and shown again in front of the next octets, or at
 * once by net_stream_again(). Reading stops while more than `NET_HELD_MAX` octets are held. So an
 * idle stream owns no buffer, and the end of the peer is noticed also while the owner is busy and
 * takes nothing.
 *
 * Output: written at once with sendmsg; what the socket does not take is kept, and NET_DRAINED
 * comes when all of it has left. When a call left nothing waiting, no NET_DRAINED follows.
 *
 * No event ever comes from inside a function of this file, so write errors are told at the end of
 * the turn; octets that the peer sent before it broke off ("421 ...") are shown before NET_BROKEN.
 * From then on writing does nothing and returns 0.
 */
#ifndef NET_STREAM_H
#define NET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/ip.h"
#include "net/worker.h"

#define NET_HELD_MAX (128 * 1024)
/* Above this much waiting output a writer should stop until NET_DRAINED. */
#define NET_HIGH_MARK (128 * 1024)

struct net_stream;

enum net_event {
	NET_BYTES,   /* data, len; returns the octets taken */
	NET_DRAINED, /* all output has left */
	NET_EOF,     /* the peer sends no more, but may read; once; held octets stay readable */
	NET_TIMEOUT, /* the deadline passed; comes once per net_stream_deadline() */
	NET_BROKEN,  /* reset or write error, see net_stream_error(); once; writing is over */
};
extern const char *const net_event_names[];

/* data is borrowed until the call returns. The return value counts only for NET_BYTES. */
typedef size_t (*net_stream_cb)(void *owner, enum net_event ev, const char *data, size_t len);

/* Takes over fd (connected, non-blocking; TCP_NODELAY is set here). Never fails: trouble arrives as
 * NET_BROKEN. No event comes before the loop's next turn; cb may be NULL until then, for one who calls
 * net_stream_set_owner() at once. */
struct net_stream *net_stream_new(struct net_worker *w, int fd, net_stream_cb cb, void *owner);
/* Closes the connection; waiting output is dropped. Accepts NULL, clears the pointer. */
void net_stream_free(struct net_stream **s);
/* Sends what waits (at most linger_ms), half-closes, then frees itself. The owner hears no more. */
void net_stream_finish(struct net_stream **s, int linger_ms);
/* For net_worker_free(): those that still linger are closed now. */
void net_stream_close_finishing(struct net_worker *w);
void net_stream_set_owner(struct net_stream *s, net_stream_cb cb, void *owner);

/* Copies what the socket does not take at once. Returns octets now waiting. */
size_t net_stream_write(struct net_stream *s, const void *data, size_t len);
size_t net_stream_writev(struct net_stream *s, const struct iovec *iov, int count);
/* Between cork and uncork writes are gathered: one sendmsg, one TLS record. Also put them around
 * header, file ranges and final dot: then these share segments. Nests not. Uncork returns octets
 * waiting; what the writes in between return counts the gathered ones too. */
void net_stream_cork(struct net_stream *s);
size_t net_stream_uncork(struct net_stream *s);
/* Borrows fd and range until NET_DRAINED (or free). In order with what was written before and
 * after. A file that is shorter than the range gives NET_BROKEN. Returns octets waiting. */
size_t net_stream_send_file(struct net_stream *s, int fd, off_t off, size_t len);
size_t net_stream_waiting(const struct net_stream *s);
/* Those, and what the socket took but the other host has not confirmed. Costs one system call. Of two
 * octets, one sent and one received, it tells which was first: what a host sends confirms all that had
 * reached it. */
size_t net_stream_unconfirmed(const struct net_stream *s);

/* Has the socket input, an end or an error that was not shown yet? Costs one system call. */
bool net_stream_is_readable(const struct net_stream *s);
/* Ends the stream and gives its descriptor away; nothing may be held or waiting (asserted). */
int net_stream_release(struct net_stream **s);

/* Octets that were shown and not taken; borrowed until the next event. */
const char *net_stream_held(const struct net_stream *s, size_t *len_r);
/* Shows held octets again soon (from the loop, not from inside this call). */
void net_stream_again(struct net_stream *s);
bool net_stream_got_eof(const struct net_stream *s);

/* From now; replaces the one before; 0 takes it away. */
void net_stream_deadline(struct net_stream *s, int64_t ms);
const struct ip_addr *net_stream_peer(const struct net_stream *s);
const struct ip_addr *net_stream_local(const struct net_stream *s);
/* Words for NET_BROKEN, such as "connection reset by peer". */
const char *net_stream_error(const struct net_stream *s);
struct net_worker *net_stream_worker(const struct net_stream *s);

#endif
