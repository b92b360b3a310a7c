/*
 * base/ip.c - reading and writing addresses, networks and endpoints.
 */
#include "base/ip.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netdb.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PORT_MAX 65535

static int
parse_number(const char *text, unsigned max, unsigned *value_r)
{
	unsigned value = 0;

	if (*text == '\0')
		return -1;
	for (; *text != '\0'; text++) {
		if (!isdigit((unsigned char)*text))
			return -1;
		value = value * 10 + (unsigned)(*text - '0');
		if (value > max)
			return -1;
	}
	*value_r = value;
	return 0;
}

static void
endpoint_set_v4(struct ip_endpoint *ep, struct in_addr addr)
{
	struct sockaddr_in *sin = (struct sockaddr_in *)&ep->addr;

	sin->sin_family = AF_INET;
	sin->sin_port = htons(ep->port);
	sin->sin_addr = addr;
	ep->addr_len = sizeof(*sin);
	ep->kind = IP_NUMERIC;
}

static void
endpoint_set_v6(struct ip_endpoint *ep, const struct in6_addr *addr)
{
	struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)&ep->addr;

	sin6->sin6_family = AF_INET6;
	sin6->sin6_port = htons(ep->port);
	sin6->sin6_addr = *addr;
	ep->addr_len = sizeof(*sin6);
	ep->kind = IP_NUMERIC;
	inet_ntop(AF_INET6, addr, ep->host, sizeof(ep->host));
}

static bool
is_v6(const char *text)
{
	struct in6_addr v6;

	return inet_pton(AF_INET6, text, &v6) == 1;
}

/* A name has a letter somewhere; "1.2.3" and "300.1.1.1" are mistyped addresses. */
static bool
is_host_name(const char *host)
{
	bool has_letter = false;
	const char *s;

	if (*host == '\0' || *host == '.' || *host == '-' || strstr(host, "..") != NULL)
		return false;
	for (s = host; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;

		if (isalpha(c) && c < 0x80)
			has_letter = true;
		else if (!isdigit(c) && strchr("-._", c) == NULL)
			return false;
	}
	return has_letter;
}

/* An address as other programs write it: with a protocol in front, in needless brackets, or a bare path. What it
 * would be here; false: there is nothing to guess. */
static bool
guess_endpoint(const char *text, char *dst, size_t size)
{
	static const char *const prefixes[] = {"smtp:", "esmtp:", "tcp:", "tcp4:", "tcp6:", "inet:", "inet6:"};
	const char *rest = text, *at = strchr(text, '@');
	size_t len;

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]) && rest == text; i++)
		if (strncmp(text, prefixes[i], strlen(prefixes[i])) == 0 && strpbrk(text + strlen(prefixes[i]), ":@") != NULL)
			rest = text + strlen(prefixes[i]);
	rest += strspn(rest, rest != text ? "/" : "");
	len = strcspn(rest, "]");
	if (rest != text && at != NULL && at[1] == '\0')
		return false;
	if (*text == '/')
		snprintf(dst, size, "unix:%s", text);
	else if (at != NULL && rest != text) /* inet:PORT@HOST, as milters have it */
		snprintf(dst, size, "%s:%.*s", at + 1, (int)(at - rest), rest);
	else if (*rest == '[' && rest[len] != '\0' && memchr(rest, ':', len) == NULL)
		snprintf(dst, size, "%.*s%s%s", (int)len - 1, rest + 1, rest + len + 1, rest[len + 1] != '\0' ? "" : ":25");
	else if (rest != text)
		snprintf(dst, size, "%s", rest);
	else
		return false;
	return true;
}

static int
not_an_address(const char *text, struct err *err)
{
	unsigned port;
	char guess[300];

	if (guess_endpoint(text, guess, sizeof(guess)))
		return err_set(err, "\"%s\" is not an address (try %s)", text, guess);
	if (parse_number(text, PORT_MAX, &port) < 0)
		port = 10025;
	return err_set(err, "\"%s\" is not an address (try 127.0.0.1:%u, [::1]:%u or unix:/path)",
		text, port, port);
}

static int
parse_unix(const char *path, struct ip_endpoint *ep, struct err *err)
{
	struct sockaddr_un *sun = (struct sockaddr_un *)&ep->addr;
	size_t len = strlen(path);

	if (path[0] != '/')
		return err_set(err, "\"unix:%s\" is not an absolute path (try unix:/path)", path);
	if (len >= sizeof(sun->sun_path))
		return err_set(err, "\"unix:%s\" is too long (at most %zu octets of path)", path,
			sizeof(sun->sun_path) - 1);
	sun->sun_family = AF_UNIX;
	memcpy(sun->sun_path, path, len + 1);
	memcpy(ep->host, path, len + 1);
	ep->addr_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
	ep->kind = IP_UNIX;
	return 0;
}

static int
parse_fd(const char *name, struct ip_endpoint *ep, struct err *err)
{
	size_t len = strlen(name);

	if (len == 0 || len >= sizeof(ep->host))
		return err_set(err, "\"fd:%s\" is not a descriptor's name (try fd:front)", name);
	memcpy(ep->host, name, len + 1);
	ep->kind = IP_FD;
	return 0;
}

/* Parts "HOST:PORT" and "[v6]:PORT"; host_r has the size of ep->host. */
static int
split(const char *text, char *host_r, const char **port_r, bool *bracketed_r)
{
	const char *end, *host = text;

	*bracketed_r = text[0] == '[';
	if (*bracketed_r) {
		host = text + 1;
		end = strchr(host, ']');
		if (end == NULL || end[1] != ':')
			return -1;
		*port_r = end + 2;
	} else {
		end = strrchr(text, ':');
		if (end == NULL)
			return -1;
		*port_r = end + 1;
	}
	if ((size_t)(end - host) >= sizeof(((struct ip_endpoint *)NULL)->host))
		return -1;
	memcpy(host_r, host, (size_t)(end - host));
	host_r[end - host] = '\0';
	return 0;
}

/* Names of ports differ from machine to machine: the number is asked for. */
static int
not_a_port(const char *text, const char *port, struct err *err)
{
	const struct servent *service = getservbyname(port, "tcp");
	char guess[300];

	if (guess_endpoint(text, guess, sizeof(guess)))
		return err_set(err, "\"%s\" is not an address (try %s)", text, guess);
	if (*port == '\0')
		return err_set(err, "\"%s\" has no port (try %s25)", text, text);
	if (service != NULL)
		return err_set(err, "\"%s\": port \"%s\" is not a number from 0 to %d (try %d)", text, port, PORT_MAX,
			ntohs((uint16_t)service->s_port));
	return err_set(err, "\"%s\": port \"%s\" is not a number from 0 to %d", text, port, PORT_MAX);
}

/* What looks like an address but is not yet an endpoint gets a hint of its own. */
static int
parse_without_port(const char *text, struct err *err)
{
	struct in_addr v4;
	size_t len = strlen(text);

	if (is_v6(text))
		return err_set(err, "\"%s\" has no port (try [%s]:25)", text, text);
	if (*text == '[' && text[len - 1] == ']' && strchr(text, ':') != NULL)
		return err_set(err, "\"%s\" has no port (try %s:25)", text, text);
	if (inet_pton(AF_INET, text, &v4) == 1 || is_host_name(text))
		return err_set(err, "\"%s\" has no port (try %s:25)", text, text);
	return not_an_address(text, err);
}

int
ip_endpoint_parse(const char *text, struct ip_endpoint *ep_r, struct err *err)
{
	struct in_addr v4;
	struct in6_addr v6;
	const char *port_text;
	unsigned port;
	bool bracketed;

	memset(ep_r, 0, sizeof(*ep_r));
	if (strncmp(text, "unix:", 5) == 0)
		return parse_unix(text + 5, ep_r, err);
	if (strncmp(text, "fd:", 3) == 0)
		return parse_fd(text + 3, ep_r, err);
	if (split(text, ep_r->host, &port_text, &bracketed) < 0 ||
		(is_v6(text) && !is_v6(ep_r->host)))
		return parse_without_port(text, err);
	if (strcmp(ep_r->host, "*") == 0)
		return err_set(err, "\"%s\" is not an address (try 0.0.0.0:%s or [::]:%s)", text,
			port_text, port_text);
	if (parse_number(port_text, PORT_MAX, &port) < 0)
		return not_a_port(text, port_text, err);
	ep_r->port = (uint16_t)port;
	if (bracketed) {
		if (inet_pton(AF_INET6, ep_r->host, &v6) != 1)
			return not_an_address(text, err);
		endpoint_set_v6(ep_r, &v6);
	} else if (inet_pton(AF_INET, ep_r->host, &v4) == 1) {
		endpoint_set_v4(ep_r, v4);
	} else if (is_v6(ep_r->host)) {
		return err_set(err, "\"%s\": an IPv6 address stands in brackets (try [%s]:%u)",
			text, ep_r->host, port);
	} else if (is_host_name(ep_r->host)) {
		ep_r->kind = IP_NAME;
	} else {
		return not_an_address(text, err);
	}
	return 0;
}

void
ip_endpoint_text(const struct ip_endpoint *ep, char *dst, size_t size)
{
	switch (ep->kind) {
	case IP_UNIX:
		snprintf(dst, size, "unix:%s", ep->host);
		break;
	case IP_FD:
		snprintf(dst, size, "fd:%s", ep->host);
		break;
	case IP_NAME:
	case IP_NUMERIC:
		snprintf(dst, size, strchr(ep->host, ':') != NULL ? "[%s]:%u" : "%s:%u", ep->host,
			ep->port);
		break;
	}
}

bool
ip_endpoint_is_any(const struct ip_endpoint *ep)
{
	const struct sockaddr_in *sin = (const struct sockaddr_in *)&ep->addr;
	const struct sockaddr_in6 *sin6 = (const struct sockaddr_in6 *)&ep->addr;

	if (ep->kind != IP_NUMERIC)
		return false;
	return ep->addr.ss_family == AF_INET ? sin->sin_addr.s_addr == INADDR_ANY : IN6_IS_ADDR_UNSPECIFIED(&sin6->sin6_addr);
}

bool
ip_endpoint_clash(const struct ip_endpoint *a, const struct ip_endpoint *b)
{
	struct ip_addr x, y;

	if (a->kind != IP_NUMERIC || b->kind != IP_NUMERIC || a->port != b->port || a->port == 0 ||
		a->addr.ss_family != b->addr.ss_family)
		return false;
	ip_addr_from_sockaddr((const struct sockaddr *)&a->addr, &x);
	ip_addr_from_sockaddr((const struct sockaddr *)&b->addr, &y);
	return ip_endpoint_is_any(a) || ip_endpoint_is_any(b) || memcmp(&x.u, &y.u, sizeof(x.u)) == 0;
}

static void
addr_set_v6(struct ip_addr *addr, const struct in6_addr *v6)
{
	if (IN6_IS_ADDR_V4MAPPED(v6)) {
		addr->family = AF_INET;
		memcpy(&addr->u.v4, v6->s6_addr + 12, sizeof(addr->u.v4));
		return;
	}
	addr->family = AF_INET6;
	addr->u.v6 = *v6;
}

void
ip_addr_from_sockaddr(const struct sockaddr *sa, struct ip_addr *addr_r)
{
	const struct sockaddr_in *sin = (const struct sockaddr_in *)sa;
	const struct sockaddr_in6 *sin6 = (const struct sockaddr_in6 *)sa;

	memset(addr_r, 0, sizeof(*addr_r));
	switch (sa->sa_family) {
	case AF_INET:
		addr_r->family = AF_INET;
		addr_r->u.v4 = sin->sin_addr;
		addr_r->port = ntohs(sin->sin_port);
		break;
	case AF_INET6:
		addr_set_v6(addr_r, &sin6->sin6_addr);
		addr_r->port = ntohs(sin6->sin6_port);
		break;
	case AF_UNIX:
		addr_r->family = AF_UNIX;
		break;
	default:
		break;
	}
}

void
ip_addr_text(const struct ip_addr *addr, char *dst, size_t size)
{
	if (addr->family == AF_INET || addr->family == AF_INET6) {
		if (inet_ntop(addr->family, &addr->u, dst, (socklen_t)size) == NULL && size != 0)
			dst[0] = '\0';
		return;
	}
	snprintf(dst, size, "%s", addr->family == AF_UNIX ? "unix" : "unknown");
}

void
ip_addr_port_text(const struct ip_addr *addr, char *dst, size_t size)
{
	char host[INET6_ADDRSTRLEN + 1];

	ip_addr_text(addr, host, sizeof(host));
	if (addr->family == AF_INET)
		snprintf(dst, size, "%s:%u", host, addr->port);
	else if (addr->family == AF_INET6)
		snprintf(dst, size, "[%s]:%u", host, addr->port);
	else
		snprintf(dst, size, "%s", host);
}

static unsigned
addr_bits(const struct ip_addr *addr)
{
	switch (addr->family) {
	case AF_INET:
		return 32;
	case AF_INET6:
		return 128;
	default:
		return 0;
	}
}

static void
addr_mask(struct ip_addr *addr, unsigned bits)
{
	unsigned char *octets = (unsigned char *)&addr->u;
	unsigned i, count = addr_bits(addr) / 8;

	for (i = bits / 8; i < count; i++)
		octets[i] &= i == bits / 8 ? (unsigned char)(0xff00 >> bits % 8) : 0;
}

/* Reads address and bits; a network of mapped addresses is the IPv4 network. */
static int
net_read(const char *host, const char *bits_text, struct ip_net *net)
{
	struct in6_addr v6;
	unsigned bits, width;
	bool mapped;

	memset(net, 0, sizeof(*net));
	if (inet_pton(AF_INET, host, &net->addr.u.v4) == 1) {
		net->addr.family = AF_INET;
		width = 32;
		mapped = false;
	} else if (inet_pton(AF_INET6, host, &v6) == 1) {
		width = 128;
		mapped = IN6_IS_ADDR_V4MAPPED(&v6);
		addr_set_v6(&net->addr, &v6);
	} else {
		return -1;
	}
	bits = width;
	if (bits_text != NULL && parse_number(bits_text, width, &bits) < 0)
		return -1;
	if (mapped && bits < 96)
		return -1;
	net->bits = mapped ? bits - 96 : bits;
	return 0;
}

/* "10.0.0.0/255.0.0.0", "10.1.", "all": what they are here. */
static bool
guess_net(const char *text, char *dst, size_t size)
{
	static const char *const all[] = {"all", "ALL", "everybody", "everyone", "*"};
	const char *slash = strchr(text, '/');
	size_t len = strlen(text), parts = 0;
	struct in_addr v4;
	uint32_t mask;

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (strcmp(text, all[i]) == 0) {
			snprintf(dst, size, "any");
			return true;
		}
	if (slash != NULL && inet_pton(AF_INET, slash + 1, &v4) == 1) {
		mask = ntohl(v4.s_addr);
		snprintf(dst, size, "%.*s/%d", (int)(slash - text), text, __builtin_popcount(mask));
		return (~mask & (~mask + 1)) == 0;
	}
	for (const char *s = text; *s != '\0'; s++)
		parts += *s == '.';
	if (len == 0 || text[len - 1] != '.' || parts > 3 || strspn(text, "0123456789.") != len)
		return false;
	snprintf(dst, size, "%s%s/%zu", text, parts == 3 ? "0" : parts == 2 ? "0.0" : "0.0.0", parts * 8);
	return true;
}

int
ip_net_parse(const char *text, struct ip_net *net_r, struct err *err)
{
	char host[INET6_ADDRSTRLEN + 1], good[INET6_ADDRSTRLEN + 5], guess[300];
	const char *slash = strchr(text, '/');
	size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
	struct ip_net masked;

	if (strcmp(text, "unix") == 0) {
		memset(net_r, 0, sizeof(*net_r));
		net_r->addr.family = AF_UNIX;
		return 0;
	}
	snprintf(host, sizeof(host), "%.*s", (int)(len < sizeof(host) ? len : sizeof(host) - 1),
		text);
	if (len >= sizeof(host) || net_read(host, slash != NULL ? slash + 1 : NULL, net_r) < 0)
		return err_set(err, "\"%s\" is not a network (try %s)", text,
			guess_net(text, guess, sizeof(guess)) ? guess : "127.0.0.0/8, ::1 or 192.0.2.7");
	masked = *net_r;
	addr_mask(&masked.addr, masked.bits);
	if (memcmp(&masked.addr.u, &net_r->addr.u, addr_bits(&masked.addr) / 8) != 0) {
		ip_net_text(&masked, good, sizeof(good));
		return err_set(err, "\"%s\" has host bits beyond the mask (try %s)", text, good);
	}
	return 0;
}

void
ip_net_text(const struct ip_net *net, char *dst, size_t size)
{
	char host[INET6_ADDRSTRLEN + 1];

	ip_addr_text(&net->addr, host, sizeof(host));
	if (net->bits == addr_bits(&net->addr))
		snprintf(dst, size, "%s", host);
	else
		snprintf(dst, size, "%s/%u", host, net->bits);
}

bool
ip_net_has(const struct ip_net *net, const struct ip_addr *addr)
{
	struct ip_addr masked = *addr;

	if (net->addr.family != addr->family || addr->family == 0)
		return false;
	addr_mask(&masked, net->bits);
	return memcmp(&masked.u, &net->addr.u, addr_bits(addr) / 8) == 0;
}

bool
ip_addr_is_loopback(const struct ip_addr *addr)
{
	switch (addr->family) {
	case AF_INET:
		return ntohl(addr->u.v4.s_addr) >> 24 == 127;
	case AF_INET6:
		return IN6_IS_ADDR_LOOPBACK(&addr->u.v6);
	default:
		return addr->family == AF_UNIX;
	}
}
