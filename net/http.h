/*
 * net/http.h - a small HTTP server for questions that are answered at once: GET and HEAD, no bodies.
 *
 * It is for a few clients who ask for health and metrics, and for a loop that must stay free whoever else comes:
 * a request has one deadline from its connection's (or its own) first moment, however slowly it drips; its head
 * is bounded; of too many connections the one that has waited longest goes. evhttp (libevent 2.1) has none of
 * these: its timeout begins anew with each octet, and its connections cannot be counted.
 */
#ifndef NET_HTTP_H
#define NET_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/ip.h"
#include "base/str.h"
#include "net/worker.h"

#define NET_HTTP_HEAD_MAX 8192
#define NET_HTTP_CONNS_MAX 32

struct net_http;

struct net_http_request {
	const struct ip_addr *client;
	const char *path; /* as it came, without a query: visible ASCII that begins with a slash */
};

struct net_http_reply {
	int status;	  /* 200 403 404 503 */
	const char *type; /* Content-Type */
	struct str body;
};

/* Fills the reply, which comes as 200, text/plain and empty. */
typedef void (*net_http_cb)(void *owner, const struct net_http_request *request, struct net_http_reply *reply);

/* Borrows the listening sockets. */
struct net_http *net_http_new(struct net_worker *w, const int *fds, int count, net_http_cb cb, void *owner);
/* Closes all connections, and answers before whoever has asked already. Accepts NULL. */
void net_http_free(struct net_http **http);

/* ---- the parser; pure, for net/http.c and its fuzz target ---- */

struct net_http_head {
	int status; /* 200, or what is wrong with it */
	bool is_head;
	bool is_last; /* the connection ends behind it */
	char path[1024];
};

/* Returns the length of the request at the beginning of data, 0 while it is not complete. A request that is wrong
 * is complete as soon as that is seen, and the last one. */
size_t net_http_parse(const char *data, size_t len, struct net_http_head *head_r);

#endif
