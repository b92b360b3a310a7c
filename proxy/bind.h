/*
 * proxy/bind.h - from the addresses of a configuration to listening sockets: bound, or taken over from whoever
 * started us. The monitor's.
 */
#ifndef PROXY_BIND_H
#define PROXY_BIND_H

#include "proxy/sockets.h"

/* Sockets that were inherited, by name; their number is a name, too. They are kept open, for a reload may name
 * them again. */
struct inherited {
	struct sockets named;
	bool is_systemd; /* by LISTEN_FDS (sd_listen_fds(3)) */
};

/* At the beginning, before any other descriptor is opened: what LISTEN_FDS and LISTEN_FDNAMES say. */
void inherited_take(struct inherited *inherited_r);

/*
 * Adds what the configuration names and the list does not have yet. On error the list is as before. Root, and
 * else only CAP_NET_BIND_SERVICE, can bind low ports.
 */
int bind_missing(const struct settings *settings, const struct inherited *inherited, struct sockets *sockets,
	struct err *err);
/* Closes those that the configuration does not name, and removes their Unix sockets. */
void bind_close_unwanted(const struct settings *settings, struct sockets *sockets);
/* The same for those from this index on. */
void bind_close_from(struct sockets *sockets, int from);
/* The same for all, at the end. */
void bind_close_all(struct sockets *sockets);
/* One line for each socket from this index on: where it really is, since the port may have been 0. */
void bind_log(const struct settings *settings, const struct sockets *sockets, int from);

#endif
