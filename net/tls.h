/*
 * net/tls.h - TLS contexts: our certificates, whom we trust, and the files they come from.
 *
 * A context is immutable and counted; any thread may use it. It stays with the connections that were
 * made with it, also when its files have changed meanwhile: struct net_tls_live reads them again and
 * gives new connections the new one. OpenSSL 3, see SSL_CTX_new(3).
 */
#ifndef NET_TLS_H
#define NET_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct net_tls;
struct net_tls_live;

/* What a server asks of its clients. */
enum net_tls_ask {
	NET_TLS_ASK_NOT,
	NET_TLS_ASK,	     /* for a certificate; any will do, and none */
	NET_TLS_ASK_REQUIRE, /* one that client_ca has signed, or the handshake fails */
};

/* Oldest version that is spoken, in the order of net_tls_version_words. */
enum net_tls_version { NET_TLS_1_0, NET_TLS_1_1, NET_TLS_1_2, NET_TLS_1_3 };
extern const char *const net_tls_version_words[]; /* "1.0" "1.1" "1.2" "1.3" NULL */

#define NET_TLS_CERTS_MAX 32
#define NET_TLS_PIN_SIZE  32 /* SHA-256 */

/* A certificate with its chain, as PEM, and its key. */
struct net_tls_cert {
	const char *certificate;
	const char *key; /* NULL: in the same file */
};

/* Borrowed strings; they live as long as what is made of them. */
struct net_tls_conf {
	bool is_server;
	/* Server: the first is the default, the others serve clients that ask for a name in them (SNI). Client:
	 * at most one, shown to servers that ask. */
	struct net_tls_cert certs[NET_TLS_CERTS_MAX];
	size_t cert_count;
	int min_version; /* enum net_tls_version */
	/* Server. */
	int ask; /* enum net_tls_ask */
	const char *ca; /* file of authorities; of clients or servers. NULL: the system's */
	/* Client. */
	bool verify; /* chain and name must be right, unless pins decide */
	/* SHA-256 of the server's public key (SubjectPublicKeyInfo); one must match. With pins, chain and name
	 * are looked at only if ca is given, too. */
	unsigned char (*pins)[NET_TLS_PIN_SIZE];
	size_t pin_count;
};

/* Reads the files now; may block. Errors name the file and what is wrong with it. */
struct net_tls *net_tls_new(const struct net_tls_conf *conf, struct err *err);
bool net_tls_is_server(const struct net_tls *tls);
struct net_tls *net_tls_ref(struct net_tls *tls);
void net_tls_unref(struct net_tls **tls);

/*
 * The context of a configuration, and the state of its files. conf is borrowed and must outlive it. Nothing is
 * read before the first net_tls_live_load().
 */
struct net_tls_live *net_tls_live_new(const struct net_tls_conf *conf);
void net_tls_live_free(struct net_tls_live **live);
/*
 * Reads the files if they are not those that were read last (or after 12 hours, for new ticket keys). May
 * block: at start, or on a job thread, one at a time. Returns 1 when there is a new context, 0 when nothing has
 * changed; -1 with err once for each state of the files that is of no use: the old context stays.
 */
int net_tls_live_load(struct net_tls_live *live, struct err *err);
/* A reference to the present context, NULL before the first load. Any thread. */
struct net_tls *net_tls_live_get(struct net_tls_live *live);

/* "sha256//BASE64=" (as curl and HPKP write it), or 64 hexadecimal digits with or without colons. */
int net_tls_pin_parse(const char *text, unsigned char pin_r[NET_TLS_PIN_SIZE], struct err *err);

/* What became of a handshake. */
struct net_tls_info {
	const char *version; /* "TLSv1.3" */
	const char *cipher;  /* "TLS_AES_256_GCM_SHA384" */
	bool resumed;
	bool verified;	      /* the peer's certificate was checked and is good */
	char fingerprint[65]; /* SHA-256 of the peer's certificate in hexadecimal; "" when it gave none */
	char name[256];	      /* server side: the name the client asked for, "" */
};

#endif
