/*
 * net/tls_facts.h - what a certificate in a file says of itself: for `postern -t`.
 */
#ifndef NET_TLS_FACTS_H
#define NET_TLS_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

struct net_tls_facts {
	int days_left;	   /* negative: it has expired; rounded down */
	bool is_valid_yet; /* else it begins later */
	char until[11];	   /* "2026-11-24" */
	char names[300];   /* "a.example, b.example", as many as fit; the common name where there are none */
};

/* Of the first certificate in a PEM file. -1: it cannot be read; net_tls_new() says why. */
int net_tls_facts(const char *file, struct net_tls_facts *facts_r);
/* Is it for this host name? */
bool net_tls_file_has_name(const char *file, const char *name);

#endif
