/*
 * proxy/check_ports.c - could the listeners be opened? Each address is bound, without listening, and let go.
 */
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <netdb.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/listener.h"
#include "net/reason.h"
#include "proxy/check_private.h"
#include "proxy/sockets.h"

static void
check_taken(const struct check *c, const struct ip_endpoint *ep, const struct config_place *place)
{
	char text[300], name[64], who[100] = "";
	pid_t pid = check_holder(ep, name, sizeof(name));

	if (check_is_ours(c->settings, pid))
		return;
	ip_endpoint_text(ep, text, sizeof(text));
	if (pid > 0)
		snprintf(who, sizeof(who), ", by %s (process %d)", name, (int)pid);
	check_warn(c, place, "listen: %s is in use already%s (ss -ltnp and ss -lxp tell more)", text, who);
}

static void
check_bound(const struct check *c, const struct ip_endpoint *ep, int errnum, const struct config_place *place)
{
	char text[300];

	ip_endpoint_text(ep, text, sizeof(text));
	if (errnum == EADDRINUSE)
		check_taken(c, ep, place);
	else if (errnum == EADDRNOTAVAIL)
		check_error(c, place, "listen: %s: this machine has no such address (ip address shows those it has)", text);
	else if (errnum == EACCES)
		check_warn(c, place, "listen: %s: ports below 1024 need root or CAP_NET_BIND_SERVICE (try another port, or start as "
			"root)", text);
	else
		check_error(c, place, "listen: %s: %s", text, net_reason(errnum));
}

/* As net_listen() would; what only binds is in nobody's way. */
static void
check_bind(const struct check *c, const struct ip_endpoint *ep, const struct config_place *place)
{
	const struct sockaddr *sa = (const struct sockaddr *)&ep->addr;
	const int on = 1;
	int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0) {
		check_bound(c, ep, errno, place);
		return;
	}
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (sa->sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, sa, ep->addr_len) < 0)
		check_bound(c, ep, errno, place);
	close(fd);
}

struct named {
	const struct check *c;
	const struct socket_want *want;
	const struct ip_endpoint *first;
	const struct config_place *place;
};

/* What the text alone does not show: a name for an address that is listened on, too. */
static int
check_clash(const struct socket_want *other, void *arg)
{
	const struct named *n = arg;
	char name[300], text[300];

	if (!ip_endpoint_clash(n->first, other->ep))
		return 0;
	ip_endpoint_text(n->want->ep, name, sizeof(name));
	ip_endpoint_text(other->ep, text, sizeof(text));
	check_error(n->c, n->place, "listen: %s and %s of %s cannot both be: it is the same address, or one is for all",
		name, text, other->owner);
	return -1;
}

/* A front that is told the name may try the other family, and finds nobody. */
static void
check_mixed(const struct check *c, const struct ip_endpoint *first, const struct config_place *place)
{
	char text[INET6_ADDRSTRLEN + 10];
	struct ip_addr addr;

	ip_addr_from_sockaddr((const struct sockaddr *)&first->addr, &addr);
	ip_addr_port_text(&addr, text, sizeof(text));
	check_warn(c, place, "listen: %s has addresses of IPv4 and of IPv6, and only %s is listened on (try the addresses themselves, "
		"one or both)", first->host, text);
}

static void
check_name(const struct check *c, const struct socket_want *want, const struct config_place *place)
{
	struct ip_endpoint first;
	struct named named = { c, want, &first, place };
	bool is_mixed;
	int rc = net_listen_resolve(want->ep, &first, &is_mixed);

	if (rc != 0) {
		check_error(c, place, "listen: the name %s has no address: %s", want->ep->host, gai_strerror(rc));
		return;
	}
	if (is_mixed)
		check_mixed(c, &first, place);
	if (sockets_each_want(c->settings, check_clash, &named) == 0)
		check_bind(c, &first, place);
}

/* Refused: what a process that died has left; the start replaces it. */
static bool
answers(const struct ip_endpoint *ep)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	bool is_there = fd >= 0 && (connect(fd, (const struct sockaddr *)&ep->addr, ep->addr_len) == 0 || errno == EAGAIN);

	if (fd >= 0)
		close(fd);
	return is_there;
}

/* Does a postern that runs with this configuration have it already? Then what only root could do is done. */
static bool
is_open(const struct check *c, const struct ip_endpoint *ep)
{
	char name[64];

	return ep->kind == IP_UNIX && answers(ep) && check_is_ours(c->settings, check_holder(ep, name, sizeof(name)));
}

static void
check_unix(const struct check *c, const struct ip_endpoint *ep, const struct config_place *place)
{
	char folder[PATH_MAX];
	struct stat st;

	if (is_open(c, ep))
		return;
	check_parent(ep->host, folder, sizeof(folder));
	if (!check_folder(c, place, "listen", folder, true))
		return;
	if (lstat(ep->host, &st) < 0)
		return;
	if (!S_ISSOCK(st.st_mode))
		check_error(c, place, "listen: %s is there and is not a socket (remove it, or choose another path)", ep->host);
	else if (answers(ep))
		check_taken(c, ep, place);
}

/* All of a listener's that are files. */
static bool
are_open(const struct check *c, const struct config_endpoints *listen)
{
	for (size_t i = 0; i < listen->count; i++)
		if (listen->list[i].kind == IP_UNIX && !is_open(c, &listen->list[i]))
			return false;
	return true;
}

static void
check_rights(const struct check *c, const struct listener *l)
{
	const char *owner = l->conf.socket_owner, *group = l->conf.socket_group;

	check_begin(c, &l->block->place, "socket_owner and socket_group");
	if (owner != NULL && getpwnam(owner) == NULL)
		check_error(c, check_place(c, l->block, "socket_owner"),
			"socket_owner: there is no user \"%s\" (getent passwd shows those there are)", owner);
	else if (owner != NULL && !c->was_root && getpwnam(owner)->pw_uid != geteuid() && !are_open(c, &l->conf.listen))
		check_error(c, check_place(c, l->block, "socket_owner"),
			"socket_owner: only root can give a socket to %s", owner);
	if (group != NULL && getgrnam(group) == NULL)
		check_error(c, check_place(c, l->block, "socket_group"),
			"socket_group: there is no group \"%s\" (getent group shows those there are)", group);
}

/* What is inherited is there, or the start says so: a shell cannot see it. */
static int
check_want(const struct socket_want *want, void *arg)
{
	const struct check *c = arg;
	const struct config_endpoints *listen =
		want->listener != NULL ? &want->listener->conf.listen : &c->settings->health.listen;
	const struct config_place *place = &listen->places[want->index];

	check_begin(c, place, want->ep->host);
	if (want->ep->kind == IP_NUMERIC)
		check_bind(c, want->ep, place);
	else if (want->ep->kind == IP_NAME)
		check_name(c, want, place);
	else if (want->ep->kind == IP_UNIX)
		check_unix(c, want->ep, place);
	return 0;
}

void
check_ports(struct check *c)
{
	for (int i = 0; i < c->settings->listener_count; i++)
		check_rights(c, &c->settings->listeners[i]);
	sockets_each_want(c->settings, check_want, c);
}
