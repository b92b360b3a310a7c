/*
 * net/output.h - what leaves by one descriptor, in order: memory and file ranges, in clear or through
 * TLS. Only for net/stream.c, which waits until the socket is writable.
 *
 * Everything is sent at once as far as the socket takes it; `pieces` is the rest. With TLS what was
 * sealed and not taken is `rest`, and nothing more is sealed before that has left. After an error
 * (`error` is set) nothing is kept or sent any more.
 */
#ifndef NET_OUTPUT_H
#define NET_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/list.h"
#include "net/worker.h"

struct net_piece;
struct net_tls_conn;
TAILQ_HEAD(net_piece_list, net_piece);

struct net_output {
	struct net_buffers *buffers;
	struct net_gather *gather; /* while corked; NULL until needed */
	struct net_piece_list pieces;
	size_t waiting; /* octets in pieces */
	struct net_tls_conn *tls; /* NULL: in clear; the stream's */
	char *rest;
	size_t rest_at, rest_len;
	size_t answers; /* of TLS, that came behind a rest */
	const char *error;
	int fd;
	bool is_tcp;
	bool corked;
	bool held_back; /* TCP_CORK is on: a segment may be waiting to be filled */
};

void net_output_init(struct net_output *o, struct net_worker *w, int fd, bool is_tcp);
void net_output_deinit(struct net_output *o);

void net_output_writev(struct net_output *o, const struct iovec *iov, int count);
void net_output_send_file(struct net_output *o, int fd, off_t off, size_t len);
void net_output_cork(struct net_output *o);
void net_output_uncork(struct net_output *o);
/* The socket is writable: sends of what waits, a fair amount at most. */
void net_output_flush(struct net_output *o);
/* What TLS wants to say by itself (handshake, goodbye) is in the worker's `sealed`: sends it. */
void net_output_push_sealed(struct net_output *o);
/* The same for what the other side has asked of TLS (key updates). It fails when the other side asks on and on
 * and reads none of it, which would take memory without end. */
void net_output_push_answers(struct net_output *o);
/* Has everything left that does not have to wait for uncork? */
bool net_output_is_empty(const struct net_output *o);
/* With what is gathered. */
size_t net_output_waiting(const struct net_output *o);

#endif
