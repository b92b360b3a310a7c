/*
 * proxy/sockets.h - listening sockets by what the configuration calls them: the monitor binds and keeps them,
 * engines are given them, and a reload changes only those whose name is new or gone.
 */
#ifndef PROXY_SOCKETS_H
#define PROXY_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "proxy/options.h"

#define SOCKET_KEY_SIZE 400

struct socket_entry {
	char key[SOCKET_KEY_SIZE];
	int fd;
};

/* Sockets that were inherited under one name have one key. */
struct sockets {
	struct socket_entry *list;
	int count;
};

/* Takes over fd. */
void sockets_add(struct sockets *sockets, const char *key, int fd);
/* The n-th of this key, from 0; -1: there are no more. */
int sockets_find(const struct sockets *sockets, const char *key, int n);
/* Out of the list; fds are not closed. */
void sockets_remove(struct sockets *sockets, int index);
/* Closes all, and forgets them. */
void sockets_close(struct sockets *sockets);
/* The list alone is gone; nothing is closed. */
void sockets_deinit(struct sockets *sockets);

/* One address that is listened on. */
struct socket_want {
	const char *owner; /* "listener front" */
	const struct listener *listener; /* NULL: the health port */
	size_t index; /* among the owner's addresses */
	const struct ip_endpoint *ep;
	char key[SOCKET_KEY_SIZE]; /* the address; for port 0 also whose it is */
};

/* Calls fn for each address of the configuration, in its order; stops and returns -1 when fn does. */
typedef int (*socket_want_fn)(const struct socket_want *want, void *arg);
int sockets_each_want(const struct settings *settings, socket_want_fn fn, void *arg);
/* Does the configuration name it? */
bool sockets_is_wanted(const struct settings *settings, const char *key);

#endif
