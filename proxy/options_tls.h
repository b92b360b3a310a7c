/*
 * proxy/options_tls.h - what the configuration says of TLS, for proxy/options.c.
 */
#ifndef PROXY_OPTIONS_TLS_H
#define PROXY_OPTIONS_TLS_H

#include "proxy/options.h"

extern const struct config_section listener_tls_section;
extern const char *const backend_tls_words[];

/* Fill conf and make the (still empty) context; add their errors. */
void tls_resolve_listener(struct settings *st, struct listener *l);
void tls_resolve_backend(struct settings *st, struct backend *b);

#endif
