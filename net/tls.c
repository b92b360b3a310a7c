/*
 * net/tls.c - making a context: certificates, trust, versions, and who gets which certificate.
 */
#include "net/tls.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/xalloc.h"
#include "net/tls_private.h"

const char *const net_tls_version_words[] = { "1.0", "1.1", "1.2", "1.3", NULL };
static const int versions[] = { TLS1_VERSION, TLS1_1_VERSION, TLS1_2_VERSION, TLS1_3_VERSION };

/* ---- sessions to resume ---- */

struct tls_memory {
	SSL_SESSION *session;
	char key[];
};

SSL_SESSION *
tls_memory_get(struct net_tls *tls, const char *key)
{
	struct tls_memory *m;
	SSL_SESSION *session = NULL;

	pthread_mutex_lock(&tls->lock);
	m = hash_get(tls->sessions, key, strlen(key));
	if (m != NULL && m->session != NULL && SSL_SESSION_up_ref(m->session) == 1)
		session = m->session;
	pthread_mutex_unlock(&tls->lock);
	return session;
}

void
tls_memory_put(struct net_tls *tls, const char *key, SSL_SESSION *session)
{
	const size_t len = strlen(key);
	struct tls_memory *m;

	pthread_mutex_lock(&tls->lock);
	m = hash_get(tls->sessions, key, len);
	if (m == NULL) {
		m = xcalloc(1, sizeof(*m) + len + 1);
		memcpy(m->key, key, len);
		hash_put(tls->sessions, m->key, len, m);
	}
	SSL_SESSION_free(m->session);
	m->session = session;
	pthread_mutex_unlock(&tls->lock);
}

static void
memory_free(void *arg)
{
	struct tls_memory *m = arg;

	SSL_SESSION_free(m->session);
	free(m);
}

/* ---- files ---- */

static int
fail(struct err *err, const char *what, const char *path)
{
	char words[256];

	if (access(path, R_OK) < 0)
		return err_sys(err, "%s %s", what, path);
	return err_set(err, "%s %s: %s", what, path, tls_reason(words, sizeof(words)));
}

/* There is nobody to ask for it, and OpenSSL would ask a terminal. */
static int
no_passphrase(char *buf, int size, int for_writing, void *arg)
{
	bool *asked = arg;

	(void)buf;
	(void)size;
	(void)for_writing;
	*asked = true;
	return -1;
}

static int
load_cert(SSL_CTX *ctx, const struct net_tls_cert *cert, struct err *err)
{
	const char *key = cert->key != NULL ? cert->key : cert->certificate;
	bool asked = false;

	SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
	SSL_CTX_set_default_passwd_cb_userdata(ctx, &asked);
	if (SSL_CTX_use_certificate_chain_file(ctx, cert->certificate) != 1)
		return fail(err, "certificate", cert->certificate);
	if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1)
		return asked ? err_set(err, "key %s: it is encrypted; it must be there without a passphrase", key)
			     : fail(err, "key", key);
	SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
	return 0;
}

static int
load_trust(SSL_CTX *ctx, const struct net_tls_conf *conf, struct err *err)
{
	STACK_OF(X509_NAME) *names;

	if (conf->ca == NULL) {
		SSL_CTX_set_default_verify_paths(ctx);
		return 0;
	}
	if (SSL_CTX_load_verify_locations(ctx, conf->ca, NULL) != 1)
		return fail(err, "file of authorities", conf->ca);
	if (!conf->is_server)
		return 0;
	/* What we tell clients, so that they choose the right certificate. */
	names = SSL_load_client_CA_file(conf->ca);
	if (names == NULL)
		return fail(err, "file of authorities", conf->ca);
	SSL_CTX_set_client_CA_list(ctx, names);
	return 0;
}

/* ---- a server ---- */

/* Whatever certificate a client shows, good or bad, it may go on; whether it was good is told later. */
static int
accept_any(int good, X509_STORE_CTX *store)
{
	(void)good;
	(void)store;
	return 1;
}

static bool
has_name(SSL_CTX *ctx, const char *name)
{
	return X509_check_host(SSL_CTX_get0_certificate(ctx), name, 0, 0, NULL) == 1;
}

/* A name that none of ours has is no error: mail clients ask for all sorts (RFC 6066 3 allows it). */
static int
choose_cert(SSL *ssl, int *alert, void *arg)
{
	const struct net_tls *tls = arg;
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

	(void)alert;
	for (size_t i = 0; name != NULL && i < tls->ctx_count; i++) {
		if (!has_name(tls->ctx[i], name))
			continue;
		if (i > 0)
			SSL_set_SSL_CTX(ssl, tls->ctx[i]);
		return SSL_TLSEXT_ERR_OK;
	}
	return SSL_TLSEXT_ERR_NOACK;
}

static void
set_server(SSL_CTX *ctx, struct net_tls *tls)
{
	static const unsigned char id[] = "postern";
	const int mode = tls->conf->ask == NET_TLS_ASK_NOT ? SSL_VERIFY_NONE
			 : tls->conf->ask == NET_TLS_ASK ? SSL_VERIFY_PEER
							 : SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;

	SSL_CTX_set_verify(ctx, mode, tls->conf->ask == NET_TLS_ASK ? accept_any : NULL);
	SSL_CTX_set_session_id_context(ctx, id, sizeof(id) - 1);
	/* Tickets alone resume: they need no memory, and hold over all workers. */
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(ctx, 1);
	SSL_CTX_set_dh_auto(ctx, 1);
	SSL_CTX_set_tlsext_servername_callback(ctx, choose_cert);
	SSL_CTX_set_tlsext_servername_arg(ctx, tls);
}

/* ---- a client ---- */

static void
set_client(SSL_CTX *ctx)
{
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, tls_remember_session);
}

/* ---- both ---- */

/* Old versions are also too weak for the system's usual level; who asks for one means it. */
static int
set_versions(SSL_CTX *ctx, const struct net_tls_conf *conf, struct err *err)
{
	if (SSL_CTX_set_min_proto_version(ctx, versions[conf->min_version]) != 1)
		return err_set(err, "TLS %s is not possible with this OpenSSL", net_tls_version_words[conf->min_version]);
	if (conf->min_version < NET_TLS_1_2 && SSL_CTX_set_cipher_list(ctx, "DEFAULT:@SECLEVEL=0") != 1)
		return err_set(err, "TLS %s is not possible with this OpenSSL", net_tls_version_words[conf->min_version]);
	return 0;
}

static int
add_ctx(struct net_tls *tls, const struct net_tls_cert *cert, struct err *err)
{
	const struct net_tls_conf *conf = tls->conf;
	SSL_CTX *ctx = SSL_CTX_new(conf->is_server ? TLS_server_method() : TLS_client_method());

	if (ctx == NULL)
		return err_set(err, "OpenSSL cannot make a context");
	tls->ctx[tls->ctx_count++] = ctx;
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
				      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_options(ctx, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	if (set_versions(ctx, conf, err) < 0 || (cert != NULL && load_cert(ctx, cert, err) < 0))
		return -1;
	if (conf->is_server)
		set_server(ctx, tls);
	else
		set_client(ctx);
	if (conf->is_server ? conf->ask != NET_TLS_ASK_NOT : conf->verify)
		return load_trust(ctx, conf, err);
	return 0;
}

struct net_tls *
net_tls_new(const struct net_tls_conf *conf, struct err *err)
{
	struct net_tls *tls = xcalloc(1, sizeof(*tls));
	int rc = 0;

	assert(!conf->is_server || conf->cert_count > 0);
	atomic_init(&tls->refs, 1);
	tls->conf = conf;
	pthread_mutex_init(&tls->lock, NULL);
	tls->sessions = hash_new();
	ERR_clear_error();
	if (conf->cert_count == 0)
		rc = add_ctx(tls, NULL, err);
	for (size_t i = 0; rc == 0 && i < conf->cert_count; i++)
		rc = add_ctx(tls, &conf->certs[i], err);
	ERR_clear_error();
	if (rc < 0)
		net_tls_unref(&tls);
	return tls;
}

bool
net_tls_is_server(const struct net_tls *tls)
{
	return tls->conf->is_server;
}

struct net_tls *
net_tls_ref(struct net_tls *tls)
{
	atomic_fetch_add(&tls->refs, 1);
	return tls;
}

void
net_tls_unref(struct net_tls **tls_p)
{
	struct net_tls *tls = *tls_p;

	*tls_p = NULL;
	if (tls == NULL || atomic_fetch_sub(&tls->refs, 1) > 1)
		return;
	for (size_t i = 0; i < tls->ctx_count; i++)
		SSL_CTX_free(tls->ctx[i]);
	hash_each(tls->sessions, memory_free);
	hash_free(&tls->sessions);
	pthread_mutex_destroy(&tls->lock);
	free(tls);
}

/* ---- pins ---- */

static int
hex_value(char c)
{
	if (!isxdigit((unsigned char)c))
		return -1;
	return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

/* Colons between the octets may stand or not. */
static bool
parse_hex(const char *text, unsigned char pin[NET_TLS_PIN_SIZE])
{
	for (size_t i = 0; i < NET_TLS_PIN_SIZE; i++) {
		if (i > 0 && *text == ':')
			text++;
		if (hex_value(text[0]) < 0 || hex_value(text[1]) < 0)
			return false;
		pin[i] = (unsigned char)(hex_value(text[0]) << 4 | hex_value(text[1]));
		text += 2;
	}
	return *text == '\0';
}

/* 32 octets are 44 characters, the last of them a '='. */
static bool
parse_base64(const char *text, unsigned char pin[NET_TLS_PIN_SIZE])
{
	unsigned char octets[NET_TLS_PIN_SIZE + 1];

	if (strlen(text) != 44 || strcspn(text, "=") != 43 ||
		EVP_DecodeBlock(octets, (const unsigned char *)text, 44) != NET_TLS_PIN_SIZE + 1)
		return false;
	memcpy(pin, octets, NET_TLS_PIN_SIZE);
	return true;
}

int
net_tls_pin_parse(const char *text, unsigned char pin_r[NET_TLS_PIN_SIZE], struct err *err)
{
	if (strncmp(text, "sha256//", 8) == 0 ? parse_base64(text + 8, pin_r)
					      : parse_base64(text, pin_r) || parse_hex(text, pin_r))
		return 0;
	return err_set(err, "\"%s\" is not the SHA-256 of a public key (64 hexadecimal digits, or sha256// and 44 "
		"characters of base64)", text);
}
