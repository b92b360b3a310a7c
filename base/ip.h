/*
 * base/ip.h - addresses, networks, and endpoints as they are written in the configuration.
 *
 * An endpoint is "HOST:PORT", "1.2.3.4:PORT", "[v6]:PORT", "unix:PATH" or "fd:NAME".
 */
#ifndef BASE_IP_H
#define BASE_IP_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/err.h"

enum ip_kind {
	IP_NUMERIC, /* addr is filled */
	IP_NAME,    /* host must be resolved */
	IP_UNIX,    /* path */
	IP_FD,	    /* an inherited descriptor's name */
};

struct ip_endpoint {
	enum ip_kind kind;
	char host[256]; /* name, numeric text (one for each address, however it was written), path or descriptor name */
	uint16_t port;
	struct sockaddr_storage addr; /* IP_NUMERIC and IP_UNIX */
	socklen_t addr_len;
};

/* An IPv4-mapped IPv6 address is the IPv4 address everywhere in Postern. */
struct ip_addr {
	int family; /* AF_INET, AF_INET6, AF_UNIX or 0 */
	union {
		struct in_addr v4;
		struct in6_addr v6;
	} u;
	uint16_t port; /* host order; 0 for AF_UNIX */
};

struct ip_net {
	struct ip_addr addr;
	unsigned bits;
};

int ip_endpoint_parse(const char *text, struct ip_endpoint *ep_r, struct err *err);
/* "127.0.0.1:25", "[::1]:25", "unix:/path". */
void ip_endpoint_text(const struct ip_endpoint *ep, char *dst, size_t size);
/* "0.0.0.0" and "[::]" are all addresses of their family. */
bool ip_endpoint_is_any(const struct ip_endpoint *ep);
/* Can only one of them be listened on? Both must be numeric to tell. */
bool ip_endpoint_clash(const struct ip_endpoint *a, const struct ip_endpoint *b);

void ip_addr_from_sockaddr(const struct sockaddr *sa, struct ip_addr *addr_r);
/* "1.2.3.4" or "::1"; "unix" for AF_UNIX. dst needs INET6_ADDRSTRLEN + 1. */
void ip_addr_text(const struct ip_addr *addr, char *dst, size_t size);
/* With the port: "1.2.3.4:25", "[::1]:25", "unix". dst needs INET6_ADDRSTRLEN + 10. */
void ip_addr_port_text(const struct ip_addr *addr, char *dst, size_t size);

/*
 * "10.0.0.0/8", "::1", "192.0.2.7", or "unix" for all Unix sockets. Host bits beyond the mask are an
 * error.
 */
int ip_net_parse(const char *text, struct ip_net *net_r, struct err *err);
/* As it would be written; a single address has no "/bits". dst needs INET6_ADDRSTRLEN + 5. */
void ip_net_text(const struct ip_net *net, char *dst, size_t size);
bool ip_net_has(const struct ip_net *net, const struct ip_addr *addr);
bool ip_addr_is_loopback(const struct ip_addr *addr); /* also AF_UNIX */

#endif
