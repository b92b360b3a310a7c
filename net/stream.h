/*
 * net/stream.h - the bytes of one connection, in clear or through TLS.
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
 * TLS: after net_stream_start_tls() nothing is shown or may be written until NET_TLS_UP; from then on all
 * is as before, but for the octets on the wire. A handshake that fails is NET_BROKEN.
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
#include "net/tls.h"
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
	NET_BROKEN,  /* reset, write error, TLS failed; see net_stream_error(); once; writing is over */
	NET_TLS_UP,  /* the handshake is done, see net_stream_tls() */
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

/* Has the socket input, an end or an error that was not shown yet? Costs one system call. What TLS says by
 * itself (tickets) is no input; a record that is here in part is. */
bool net_stream_is_readable(struct net_stream *s);

/* Shows what the socket has at this moment, for an owner who will not see another turn of the loop. Not from inside
 * an event. */
void net_stream_read_now(struct net_stream *s);

/* What a stream leaves when it goes to another worker. */
struct net_parcel {
	int fd;
	struct net_tls_conn *tls;
};
/* Is nothing held and nothing waiting (TLS may still have to answer something)? */
bool net_stream_is_at_rest(const struct net_stream *s);
/* Ends a stream that is at rest (asserted). */
struct net_parcel net_stream_release(struct net_stream **s);
/* The same connection goes on, as net_stream_new(). */
struct net_stream *net_stream_adopt(
	struct net_worker *w, struct net_parcel parcel, net_stream_cb cb, void *owner);

/*
 * Takes a reference of tls, whose conf says which side we are. Inside NET_BYTES the owner must take all that is
 * shown: octets in clear behind it break the stream. name: client side, for SNI and verification; NULL: an
 * address of no name (a Unix socket).
 */
void net_stream_start_tls(struct net_stream *s, struct net_tls *tls, const char *name);
bool net_stream_is_tls(const struct net_stream *s);
/* After NET_TLS_UP. */
void net_stream_tls(const struct net_stream *s, struct net_tls_info *info_r);
/* What the other side may hear of a TLS failure, in the handshake or later ("its certificate has expired"); NULL:
 * it was none. */
const char *net_stream_tls_phrase(const struct net_stream *s);

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
