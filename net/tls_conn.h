/*
 * net/tls_conn.h - TLS of one connection: octets in, octets out, no socket. Only for net/stream.c and
 * net/output.c.
 *
 * What was received is handed in by net_tls_feed() and taken out in clear by net_tls_open(). What is to be
 * sent goes in by net_tls_seal(). Each call may leave sealed octets in the worker's buffer
 * (net_buffers.sealed), also those that only receive (tickets, key updates): who calls sends them, and empties
 * the buffer.
 */
#ifndef NET_TLS_CONN_H
#define NET_TLS_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "net/tls.h"
#include "net/worker.h"

struct net_tls_conn;

/* Takes a reference of tls. name: client side, for SNI and verification; NULL: neither. memory_key: client
 * side, under which the session is remembered for resumption. */
struct net_tls_conn *net_tls_conn_new(struct net_tls *tls, const char *name, const char *memory_key);
void net_tls_conn_free(struct net_tls_conn **conn);
/* Of the worker that uses it now, with its socket. */
void net_tls_conn_bind(struct net_tls_conn *conn, struct net_buffers *buffers, int fd);

/* data is borrowed until the next call of net_tls_open() that returns 0 or -1. */
void net_tls_feed(struct net_tls_conn *conn, const char *data, size_t len);
/* Goes on with the handshake: 1 done, 0 needs input, -1 failed. */
int net_tls_handshake(struct net_tls_conn *conn);
bool net_tls_is_up(const struct net_tls_conn *conn);
/* Octets in clear: > 0; 0: needs input; -1: it said goodbye (net_tls_got_end()), or failed. */
ssize_t net_tls_open(struct net_tls_conn *conn, char *buf, size_t size);
bool net_tls_got_end(const struct net_tls_conn *conn);
/* Is a record here in part? What is in it nobody knows yet, but it was said. */
bool net_tls_in_record(const struct net_tls_conn *conn);
/* Has the socket octets in clear for us, the beginning of a record, or an end or error? Reads from it what it
 * needs to know that. When octets are there, net_tls_open() gives them without a feed. */
bool net_tls_peek(struct net_tls_conn *conn);
/* 0, or -1 when it failed. */
int net_tls_seal(struct net_tls_conn *conn, const void *data, size_t len);
/* Our goodbye. */
void net_tls_close(struct net_tls_conn *conn);

/* Why it failed: in full for the log, and what the other side may hear, a static text about it ("its
 * certificate has expired"). */
const char *net_tls_error(const struct net_tls_conn *conn);
const char *net_tls_phrase(const struct net_tls_conn *conn);
void net_tls_describe(const struct net_tls_conn *conn, struct net_tls_info *info_r);

#endif
