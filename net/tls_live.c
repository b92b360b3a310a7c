/*
 * net/tls_live.c - a context that follows its files.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/xalloc.h"
#include "net/tls.h"

/* A new context has new ticket keys, so that an old one opens no more than half a day of sessions. */
#define KEYS_MS (12 * 3600 * 1000ULL)
/* certificates, keys, authorities */
#define FILES_MAX (2 * NET_TLS_CERTS_MAX + 1)

struct stamp {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec changed;
};

struct net_tls_live {
	const struct net_tls_conf *conf;
	pthread_mutex_t lock; /* guards tls */
	struct net_tls *tls;
	struct stamp stamps[FILES_MAX]; /* as they were at the last load, good or bad; the loader's alone */
	uint64_t loaded_ms;	       /* 0: never */
};

static void
stamp_one(struct stamp *s, const char *path)
{
	struct stat st;

	memset(s, 0, sizeof(*s));
	if (path == NULL || stat(path, &st) < 0)
		return;
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	s->size = st.st_size;
	s->changed = st.st_ctim;
}

static void
stamp_all(const struct net_tls_conf *conf, struct stamp stamps[FILES_MAX])
{
	size_t n = 0;

	memset(stamps, 0, FILES_MAX * sizeof(*stamps));
	for (size_t i = 0; i < conf->cert_count; i++) {
		stamp_one(&stamps[n++], conf->certs[i].certificate);
		stamp_one(&stamps[n++], conf->certs[i].key);
	}
	stamp_one(&stamps[n], conf->ca);
}

struct net_tls_live *
net_tls_live_new(const struct net_tls_conf *conf)
{
	struct net_tls_live *live = xcalloc(1, sizeof(*live));

	live->conf = conf;
	pthread_mutex_init(&live->lock, NULL);
	return live;
}

void
net_tls_live_free(struct net_tls_live **live_p)
{
	struct net_tls_live *live = *live_p;

	*live_p = NULL;
	if (live == NULL)
		return;
	net_tls_unref(&live->tls);
	pthread_mutex_destroy(&live->lock);
	free(live);
}

static void
swap(struct net_tls_live *live, struct net_tls *tls)
{
	struct net_tls *old;

	pthread_mutex_lock(&live->lock);
	old = live->tls;
	live->tls = tls;
	pthread_mutex_unlock(&live->lock);
	net_tls_unref(&old);
}

/* The stamps are taken first: what changes while it is read is read again. */
int
net_tls_live_load(struct net_tls_live *live, struct err *err)
{
	struct stamp stamps[FILES_MAX];
	const uint64_t now = clock_ms();
	struct net_tls *tls;

	stamp_all(live->conf, stamps);
	if (live->loaded_ms != 0 && now - live->loaded_ms < KEYS_MS &&
		memcmp(stamps, live->stamps, sizeof(stamps)) == 0)
		return 0;
	memcpy(live->stamps, stamps, sizeof(stamps));
	live->loaded_ms = now;
	tls = net_tls_new(live->conf, err);
	if (tls == NULL)
		return -1;
	swap(live, tls);
	return 1;
}

struct net_tls *
net_tls_live_get(struct net_tls_live *live)
{
	struct net_tls *tls;

	pthread_mutex_lock(&live->lock);
	tls = live->tls != NULL ? net_tls_ref(live->tls) : NULL;
	pthread_mutex_unlock(&live->lock);
	return tls;
}
