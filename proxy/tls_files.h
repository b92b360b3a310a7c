/*
 * proxy/tls_files.h - certificates and keys of all listeners and back-ends: read at start, and again when their
 * files change.
 */
#ifndef PROXY_TLS_FILES_H
#define PROXY_TLS_FILES_H

#include "proxy/engine.h"

struct tls_files;

/* The first read; with -1 at the first that is of no use. Also for postern -t. */
int tls_files_load(const struct settings *settings, struct err *err);

/* Looks at those of the newest snapshot every few seconds, on a job thread; the admin thread keeps the time. */
struct tls_files *tls_files_watch(struct engine *e);
/* Before net_threads_stop(). */
void tls_files_free(struct tls_files **files);

#endif
