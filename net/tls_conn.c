/*
 * net/tls_conn.c - TLS of one connection, between octets that were received and octets to be sent.
 *
 * OpenSSL reads from what was fed (a whole receive buffer, so that a large message needs no system call per
 * record), and writes behind what the worker's buffer holds already (so that several records leave in one).
 */
#include "net/tls_conn.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/str.h"
#include "base/xalloc.h"
#include "net/tls_private.h"

struct net_tls_conn {
	struct net_tls *tls;
	SSL *ssl;
	struct net_buffers *buffers;
	int fd;
	const char *in; /* fed, not read yet */
	size_t in_len;
	bool from_socket; /* where nothing is fed, it is asked */
	bool is_up;
	bool got_end;
	const char *phrase;
	char *error;
	char *memory_key;
};

/* ---- the BIO ---- */

static int
bio_read(BIO *bio, char *buf, int size)
{
	struct net_tls_conn *c = BIO_get_data(bio);
	size_t n = c->in_len < (size_t)size ? c->in_len : (size_t)size;
	ssize_t got;

	BIO_clear_retry_flags(bio);
	if (n > 0) {
		memcpy(buf, c->in, n);
		c->in += n;
		c->in_len -= n;
		return (int)n;
	}
	if (c->from_socket) {
		got = recv(c->fd, buf, (size_t)size, MSG_DONTWAIT);
		if (got >= 0 || errno != EAGAIN)
			return (int)got;
	}
	BIO_set_retry_read(bio);
	return -1;
}

static int
bio_write(BIO *bio, const char *data, int len)
{
	struct net_tls_conn *c = BIO_get_data(bio);

	str_addn(&c->buffers->sealed, data, (size_t)len);
	return len;
}

static long
bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	(void)bio;
	(void)num;
	(void)ptr;
	return cmd == BIO_CTRL_FLUSH;
}

static BIO_METHOD *method;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int conn_index; /* of an SSL's conn */

int
tls_remember_session(SSL *ssl, SSL_SESSION *session)
{
	struct net_tls_conn *c = SSL_get_ex_data(ssl, conn_index);

	if (c->memory_key == NULL)
		return 0;
	tls_memory_put(c->tls, c->memory_key, session);
	return 1;
}

static void
prepare(void)
{
	method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "postern");
	BIO_meth_set_read(method, bio_read);
	BIO_meth_set_write(method, bio_write);
	BIO_meth_set_ctrl(method, bio_ctrl);
	conn_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

/* ---- life ---- */

static bool
is_address(const char *name)
{
	struct in6_addr addr;

	return inet_pton(AF_INET, name, &addr) == 1 || inet_pton(AF_INET6, name, &addr) == 1;
}

/* The name that verifies, and that the server may choose its certificate by. */
static void
set_name(struct net_tls_conn *c, const char *name)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(c->ssl);
	int rc = 1;

	if (!is_address(name))
		SSL_set_tlsext_host_name(c->ssl, name);
	if (c->tls->conf->verify)
		rc = is_address(name) ? X509_VERIFY_PARAM_set1_ip_asc(param, name) : SSL_set1_host(c->ssl, name);
	if (rc != 1)
		abort(); /* no memory */
}

/* Without the dot that tells a resolver to add nothing: certificates and SNI (RFC 6066 3) have none. */
static char *
without_dot(const char *name)
{
	const size_t len = strlen(name);

	return xstrndup(name, len > 1 && name[len - 1] == '.' ? len - 1 : len);
}

static void
set_client(struct net_tls_conn *c, const char *name)
{
	SSL_SESSION *session = c->memory_key != NULL ? tls_memory_get(c->tls, c->memory_key) : NULL;
	char *bare = name != NULL ? without_dot(name) : NULL;

	SSL_set_connect_state(c->ssl);
	if (c->tls->conf->verify) {
		/* An empty name would mean that any will do. */
		assert(name != NULL && *name != '\0');
		SSL_set_verify(c->ssl, SSL_VERIFY_PEER, NULL);
		SSL_set_hostflags(c->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	}
	if (bare != NULL)
		set_name(c, bare);
	free(bare);
	if (session != NULL) {
		SSL_set_session(c->ssl, session);
		SSL_SESSION_free(session);
	}
}

struct net_tls_conn *
net_tls_conn_new(struct net_tls *tls, const char *name, const char *memory_key)
{
	struct net_tls_conn *c = xcalloc(1, sizeof(*c));
	BIO *bio;

	pthread_once(&once, prepare);
	c->tls = net_tls_ref(tls);
	c->fd = -1;
	c->ssl = SSL_new(tls->ctx[0]);
	bio = BIO_new(method);
	if (c->ssl == NULL || bio == NULL)
		abort(); /* no memory: as xmalloc() */
	BIO_set_data(bio, c);
	BIO_set_init(bio, 1);
	SSL_set_bio(c->ssl, bio, bio);
	SSL_set_ex_data(c->ssl, conn_index, c);
	if (memory_key != NULL)
		c->memory_key = xstrdup(memory_key);
	if (tls->conf->is_server)
		SSL_set_accept_state(c->ssl);
	else
		set_client(c, name);
	return c;
}

void
net_tls_conn_free(struct net_tls_conn **c_p)
{
	struct net_tls_conn *c = *c_p;

	*c_p = NULL;
	if (c == NULL)
		return;
	/* Without a goodbye OpenSSL would take the session for a bad one, never to be resumed. */
	if (c->error == NULL)
		SSL_set_shutdown(c->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(c->ssl);
	net_tls_unref(&c->tls);
	free(c->error);
	free(c->memory_key);
	free(c);
}

void
net_tls_conn_bind(struct net_tls_conn *c, struct net_buffers *buffers, int fd)
{
	c->buffers = buffers;
	c->fd = fd;
}

/* ---- failures ---- */

static int
failed_with(struct net_tls_conn *c, const char *phrase, const char *detail)
{
	if (c->error != NULL)
		return -1;
	c->phrase = phrase;
	c->error = detail != NULL ? xasprintf("TLS: %s (%s)", phrase, detail) : xasprintf("TLS: %s", phrase);
	return -1;
}

static int
failed(struct net_tls_conn *c)
{
	const long verify = SSL_get_verify_result(c->ssl);
	const unsigned long error = ERR_peek_error();
	char words[256];

	/* An asking server has gone past errors of verification that now are not the reason. */
	const char *phrase = tls_phrase(error, ERR_GET_REASON(error) == SSL_R_CERTIFICATE_VERIFY_FAILED ? verify : X509_V_OK);

	tls_reason(words, sizeof(words));
	if (ERR_GET_REASON(error) == SSL_R_CERTIFICATE_VERIFY_FAILED)
		return failed_with(c, phrase, X509_verify_cert_error_string(verify));
	return failed_with(c, phrase, words);
}

/* After a call of OpenSSL that returned rc <= 0: 0 needs input, -1 over. */
static int
not_done(struct net_tls_conn *c, int rc)
{
	switch (SSL_get_error(c->ssl, rc)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return 0;
	case SSL_ERROR_ZERO_RETURN:
		c->got_end = true;
		return c->is_up ? -1 : failed_with(c, "it ended the connection in the TLS handshake", NULL);
	case SSL_ERROR_SYSCALL:
		return failed_with(c, "it broke the connection", NULL);
	default:
		return failed(c);
	}
}

/* ---- the handshake ---- */

static bool
is_pinned(const struct net_tls_conn *c)
{
	const struct net_tls_conf *conf = c->tls->conf;
	unsigned char sum[EVP_MAX_MD_SIZE], *der = NULL;
	unsigned int sum_len = 0;
	const X509 *cert = SSL_get0_peer_certificate(c->ssl);
	const int len = cert != NULL ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der) : -1;
	bool found = false;

	if (len <= 0 || EVP_Digest(der, (size_t)len, sum, &sum_len, EVP_sha256(), NULL) != 1)
		sum_len = 0;
	OPENSSL_free(der);
	for (size_t i = 0; i < conf->pin_count && sum_len == NET_TLS_PIN_SIZE; i++)
		found = found || memcmp(conf->pins[i], sum, NET_TLS_PIN_SIZE) == 0;
	return found;
}

int
net_tls_handshake(struct net_tls_conn *c)
{
	int rc;

	ERR_clear_error();
	rc = SSL_do_handshake(c->ssl);
	if (rc != 1)
		return not_done(c, rc);
	if (c->tls->conf->pin_count > 0 && !is_pinned(c))
		return failed_with(c, "its key is not one of those that are pinned", NULL);
	c->is_up = true;
	return 1;
}

bool
net_tls_is_up(const struct net_tls_conn *c)
{
	return c->is_up;
}

/* ---- octets ---- */

void
net_tls_feed(struct net_tls_conn *c, const char *data, size_t len)
{
	assert(c->in_len == 0);
	c->in = data;
	c->in_len = len;
}

ssize_t
net_tls_open(struct net_tls_conn *c, char *buf, size_t size)
{
	size_t n = 0;
	int rc = -1;

	if (c->error == NULL) {
		ERR_clear_error();
		if (SSL_read_ex(c->ssl, buf, size, &n) == 1)
			return (ssize_t)n;
		rc = not_done(c, 0);
	}
	if (rc < 0)
		c->in_len = 0;
	return rc;
}

bool
net_tls_got_end(const struct net_tls_conn *c)
{
	return c->got_end && c->error == NULL;
}

bool
net_tls_in_record(const struct net_tls_conn *c)
{
	return SSL_has_pending(c->ssl) == 1 || strcmp(SSL_rstate_string(c->ssl), "RH") != 0;
}

bool
net_tls_peek(struct net_tls_conn *c)
{
	char octet;
	int rc;

	assert(c->in_len == 0);
	ERR_clear_error();
	c->from_socket = true;
	rc = SSL_peek(c->ssl, &octet, 1);
	c->from_socket = false;
	return rc == 1 || not_done(c, rc) < 0 || net_tls_in_record(c);
}

int
net_tls_seal(struct net_tls_conn *c, const void *data, size_t len)
{
	size_t done = 0, n = 0;

	ERR_clear_error();
	while (done < len) {
		if (SSL_write_ex(c->ssl, (const char *)data + done, len - done, &n) != 1) {
			not_done(c, -1);
			return failed_with(c, "octets could not be sealed", NULL);
		}
		done += n;
	}
	return 0;
}

void
net_tls_close(struct net_tls_conn *c)
{
	ERR_clear_error();
	if (c->is_up && c->error == NULL)
		SSL_shutdown(c->ssl);
	ERR_clear_error();
}

/* ---- what is to be said of it ---- */

const char *
net_tls_error(const struct net_tls_conn *c)
{
	return c->error;
}

const char *
net_tls_phrase(const struct net_tls_conn *c)
{
	return c->phrase;
}

static void
fingerprint(const X509 *cert, char dst[65])
{
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned int len = 0;

	if (X509_digest(cert, EVP_sha256(), sum, &len) != 1)
		return;
	for (unsigned int i = 0; i < len; i++)
		snprintf(dst + 2 * i, 3, "%02x", sum[i]);
}

void
net_tls_describe(const struct net_tls_conn *c, struct net_tls_info *info_r)
{
	const X509 *cert = SSL_get0_peer_certificate(c->ssl);
	const char *name = SSL_get_servername(c->ssl, TLSEXT_NAMETYPE_host_name);
	const bool checked = SSL_get_verify_mode(c->ssl) != SSL_VERIFY_NONE;

	*info_r = (struct net_tls_info){
		.version = SSL_get_version(c->ssl),
		.cipher = SSL_get_cipher_name(c->ssl),
		.resumed = SSL_session_reused(c->ssl) == 1,
		.verified = cert != NULL && (c->tls->conf->pin_count > 0 ||
			(checked && SSL_get_verify_result(c->ssl) == X509_V_OK)),
	};
	if (cert != NULL)
		fingerprint(cert, info_r->fingerprint);
	if (c->tls->conf->is_server && name != NULL)
		str_clean(info_r->name, sizeof(info_r->name) - 1, name, strlen(name), true);
}
