/*
 * net/tls_private.h - what the files of TLS share.
 */
#ifndef NET_TLS_PRIVATE_H
#define NET_TLS_PRIVATE_H

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/hash.h"
#include "net/tls.h"

struct net_tls {
	atomic_int refs;
	const struct net_tls_conf *conf;
	SSL_CTX *ctx[NET_TLS_CERTS_MAX]; /* one per certificate; a client has one in any case */
	size_t ctx_count;
	/* Client: sessions to resume, by memory_key. */
	pthread_mutex_t lock;
	struct hash *sessions; /* of struct tls_memory */
};

/* The session that a server gave us last. */
SSL_SESSION *tls_memory_get(struct net_tls *tls, const char *key); /* a reference, or NULL */
void tls_memory_put(struct net_tls *tls, const char *key, SSL_SESSION *session); /* takes the reference */

/* A server gave us a session: the callback of a client's context. */
int tls_remember_session(SSL *ssl, SSL_SESSION *session);

/* Words for the oldest error of this thread's queue, or "unknown error"; empties the queue. */
const char *tls_reason(char *dst, size_t size);
/* What the other side may hear of a failed handshake. verify: SSL_get_verify_result(). */
const char *tls_phrase(unsigned long error, long verify);

#endif
