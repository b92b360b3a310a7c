/*
 * proxy/bind.c - binding what is missing, closing what is not wanted any more, and inherited sockets.
 */
#include "proxy/bind.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "net/listener.h"

/* SD_LISTEN_FDS_START */
#define FIRST_FD 3
#define FDS_MAX	 256

/* ---- inherited ones ---- */

/* The next of "a:b:c"; "" when there is none. */
static void
next_name(const char **names, char *name_r, size_t size)
{
	size_t len = *names != NULL ? strcspn(*names, ":") : 0;

	snprintf(name_r, size, "%.*s", (int)len, len > 0 ? *names : "");
	if (*names != NULL)
		*names += len + ((*names)[len] == ':');
}

/* Not for the programs that our helpers run. */
static void
forget_environment(void)
{
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
}

void
inherited_take(struct inherited *in)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS"), *names = getenv("LISTEN_FDNAMES");
	int count = fds != NULL ? atoi(fds) : 0;
	char name[SOCKET_KEY_SIZE - 4], key[SOCKET_KEY_SIZE];

	*in = (struct inherited){ 0 };
	if (pid == NULL || atol(pid) != (long)getpid() || count <= 0 || count > FDS_MAX)
		return;
	in->is_systemd = true;
	for (int i = 0; i < count; i++) {
		next_name(&names, name, sizeof(name));
		fcntl(FIRST_FD + i, F_SETFD, FD_CLOEXEC);
		snprintf(key, sizeof(key), "fd:%s", name);
		sockets_add(&in->named, key, FIRST_FD + i);
	}
	forget_environment();
}

/* "no socket has this name (there are: front, back)" */
static int
fail_name(const struct inherited *in, const struct socket_want *want, struct err *err)
{
	struct str names = STR_INIT;
	int rc;

	for (int i = 0; i < in->named.count; i++)
		str_printf(&names, "%s%s", i > 0 ? ", " : "", in->named.list[i].key + strlen("fd:"));
	if (in->named.count > 0)
		rc = err_set(err, "%s: no socket of this name was handed over (there are: %s)", want->key,
			str_text(&names));
	else
		rc = err_set(err, "%s: no socket was handed over to us (it comes from a systemd .socket unit with "
			"FileDescriptorName=%s, or from whoever started us as a descriptor's number)",
			want->key, want->ep->host);
	str_deinit(&names);
	return rc;
}

/* The number of a descriptor that stands open is a name for it; those of our own are not to be had. */
static int
numbered(const struct inherited *in, const struct ip_endpoint *ep)
{
	char *end;
	long n = strtol(ep->host, &end, 10);

	if (*ep->host == '\0' || *end != '\0' || n < FIRST_FD || n > INT16_MAX)
		return -1;
	for (int i = 0; i < in->named.count; i++)
		if (in->named.list[i].fd == (int)n)
			return (int)n;
	return in->is_systemd ? -1 : (int)n;
}

/* A copy, so that ours may go and the inherited one stay. */
static int
take_over(struct sockets *sockets, const struct socket_want *want, int fd, struct err *err)
{
	int listens = 0, type = 0, copy;
	socklen_t len = sizeof(int);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0 ||
		getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || !listens || type != SOCK_STREAM)
		return err_set(err, "%s is not a listening stream socket (with systemd: ListenStream=, and no Accept=yes)",
			want->key);
	copy = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FD);
	if (copy < 0)
		return err_sys(err, "%s", want->key);
	sockets_add(sockets, want->key, copy);
	return 0;
}

static int
take_inherited(const struct inherited *in, struct sockets *sockets, const struct socket_want *want, struct err *err)
{
	int fd;

	if (sockets_find(&in->named, want->key, 0) < 0) {
		fd = numbered(in, want->ep);
		return fd >= 0 ? take_over(sockets, want, fd, err) : fail_name(in, want, err);
	}
	for (int n = 0; (fd = sockets_find(&in->named, want->key, n)) >= 0; n++)
		if (take_over(sockets, want, fd, err) < 0)
			return -1;
	return 0;
}

/* ---- bound ones ---- */

/* Whose its Unix sockets are. */
static int
find_rights(const struct listener *l, struct net_unix_rights *rights_r, struct err *err)
{
	const struct passwd *pw;
	const struct group *gr;

	*rights_r = (struct net_unix_rights){ l->socket_mode, (uid_t)-1, (gid_t)-1 };
	if (l->conf.socket_owner != NULL) {
		pw = getpwnam(l->conf.socket_owner);
		if (pw == NULL)
			return err_set(err, "socket_owner: there is no user \"%s\"", l->conf.socket_owner);
		rights_r->owner = pw->pw_uid;
	}
	if (l->conf.socket_group != NULL) {
		gr = getgrnam(l->conf.socket_group);
		if (gr == NULL)
			return err_set(err, "socket_group: there is no group \"%s\"", l->conf.socket_group);
		rights_r->group = gr->gr_gid;
	}
	return 0;
}

/* Where a socket listens; false: it has no address of the network. */
static bool
listens_at(int fd, struct ip_endpoint *ep_r)
{
	socklen_t len = sizeof(ep_r->addr);
	struct ip_addr addr;

	*ep_r = (struct ip_endpoint){ .kind = IP_NUMERIC };
	if (getsockname(fd, (struct sockaddr *)&ep_r->addr, &len) < 0)
		return false;
	ip_addr_from_sockaddr((const struct sockaddr *)&ep_r->addr, &addr);
	ep_r->port = addr.port;
	return addr.family == AF_INET || addr.family == AF_INET6;
}

/* Two sockets with one port cannot be had where one is for all addresses, or both are for the same one. */
static int
look_for_ours(const struct sockets *s, const struct ip_endpoint *ep, struct err *err)
{
	struct ip_endpoint wanted = *ep, own;
	char text[SOCKET_KEY_SIZE];
	bool is_mixed;

	if (ep->kind == IP_NAME && net_listen_resolve(ep, &wanted, &is_mixed) != 0)
		return 0; /* net_listen() says it */
	for (int i = 0; i < s->count; i++)
		if (listens_at(s->list[i].fd, &own) && ip_endpoint_clash(&own, &wanted)) {
			ip_endpoint_text(ep, text, sizeof(text));
			return err_set(err, "cannot listen on %s: our own socket on %s is in the way (%s)", text, s->list[i].key,
				ip_endpoint_is_any(&own) != ip_endpoint_is_any(&wanted)
					? "from one address to all, or back, takes another port, or a restart"
					: "it is the same address: name it once, and as it was");
		}
	return 0;
}

struct binding {
	const struct inherited *inherited;
	struct sockets *sockets;
	struct err *err;
};

static int
bind_one(const struct socket_want *want, void *arg)
{
	struct binding *b = arg;
	struct net_unix_rights rights = { 0666, (uid_t)-1, (gid_t)-1 }; /* health: the folder guards it */
	int fd;

	if (sockets_find(b->sockets, want->key, 0) >= 0)
		return 0;
	if (want->listener != NULL && find_rights(want->listener, &rights, b->err) < 0)
		return err_prefix(b->err, "%s", want->owner);
	if (want->ep->kind == IP_FD) {
		if (take_inherited(b->inherited, b->sockets, want, b->err) < 0)
			return err_prefix(b->err, "%s", want->owner);
		return 0;
	}
	fd = look_for_ours(b->sockets, want->ep, b->err) < 0 ? -1 : net_listen(want->ep, &rights, b->err);
	if (fd < 0)
		return err_prefix(b->err, "%s", want->owner);
	sockets_add(b->sockets, want->key, fd);
	return 0;
}

/* Where we may not remove a Unix socket, the next start replaces the stale one. */
static void
close_at(struct sockets *s, int index)
{
	const struct socket_entry *e = &s->list[index];

	if (strncmp(e->key, "unix:", 5) == 0)
		unlink(e->key + 5);
	close(e->fd);
	sockets_remove(s, index);
}

void
bind_close_from(struct sockets *s, int from)
{
	while (s->count > from)
		close_at(s, s->count - 1);
}

int
bind_missing(const struct settings *st, const struct inherited *inherited, struct sockets *sockets, struct err *err)
{
	struct binding b = { inherited, sockets, err };
	int before = sockets->count;

	if (sockets_each_want(st, bind_one, &b) == 0)
		return 0;
	bind_close_from(sockets, before);
	return -1;
}

void
bind_close_unwanted(const struct settings *st, struct sockets *s)
{
	for (int i = s->count - 1; i >= 0; i--)
		if (!sockets_is_wanted(st, s->list[i].key))
			close_at(s, i);
}

void
bind_close_all(struct sockets *s)
{
	bind_close_from(s, 0);
	sockets_deinit(s);
}

/* ---- telling ---- */

struct logging {
	const struct sockets *sockets;
	int from;
};

static void
log_address(const struct socket_want *want, int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct ip_addr addr;
	char text[SOCKET_KEY_SIZE];

	snprintf(text, sizeof(text), "%s", want->key);
	if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0 && ss.ss_family != AF_UNIX) {
		ip_addr_from_sockaddr((struct sockaddr *)&ss, &addr);
		ip_addr_port_text(&addr, text, sizeof(text));
	}
	if (want->listener != NULL)
		log_info(NULL, "listen", "listener=%s address=%s", want->listener->name, text);
	else
		log_info(NULL, "health", "address=%s", text);
}

static int
log_one(const struct socket_want *want, void *arg)
{
	const struct logging *l = arg;

	for (int i = l->from; i < l->sockets->count; i++)
		if (strcmp(l->sockets->list[i].key, want->key) == 0)
			log_address(want, l->sockets->list[i].fd);
	return 0;
}

void
bind_log(const struct settings *st, const struct sockets *sockets, int from)
{
	struct logging l = { sockets, from };

	sockets_each_want(st, log_one, &l);
}
