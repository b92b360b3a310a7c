/*
 * proxy/check_hosts.c - do the back-ends answer? Each host is connected to and greeted as a delivery would, TLS
 * included, all at the same time; no password is said. And none of them may be a listener of ours from which mail
 * comes back here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/xalloc.h"
#include "net/connect.h"
#include "net/resolve.h"
#include "net/threads.h"
#include "net/worker.h"
#include "proxy/check_private.h"
#include "smtp/auth.h"
#include "smtp/client.h"

#define LOOKUPS 8 /* at a time */

struct hosts;

struct host {
	struct hosts *all;
	const struct backend *backend;
	size_t index; /* in its back-end */
	struct smtp_client_conf conf;
	struct net_name *name;
	struct net_name_wait *looking;
	struct net_connect *connecting;
	struct smtp_client *client;
	const struct listener *ours; /* it leads to this one */
	const char *step; /* what is waited for; NULL: done */
};

struct hosts {
	const struct check *check;
	struct net_worker *worker;
	struct net_timer timer;
	struct host *list;
	size_t count, open;
};

static const struct ip_endpoint *
endpoint(const struct host *h)
{
	return &h->backend->conf.hosts.list[h->index];
}

static const struct config_place *
place(const struct host *h)
{
	return &h->backend->conf.hosts.places[h->index];
}

static void
done(struct host *h)
{
	h->step = NULL;
	if (--h->all->open == 0)
		net_worker_stop(h->all->worker);
}

/* ---- our own listeners ---- */

/* Only an address of this machine can be bound. */
static bool
is_local(const struct sockaddr *sa, socklen_t len)
{
	struct sockaddr_storage any;
	int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool is = false;

	memcpy(&any, sa, len);
	if (sa->sa_family == AF_INET)
		((struct sockaddr_in *)&any)->sin_port = 0;
	else
		((struct sockaddr_in6 *)&any)->sin6_port = 0;
	if (fd >= 0) {
		is = bind(fd, (const struct sockaddr *)&any, len) == 0;
		close(fd);
	}
	return is;
}

static bool
is_listened_at(const struct ip_endpoint *listen, const struct sockaddr *sa, socklen_t len, uint16_t port)
{
	const struct sockaddr *theirs = (const struct sockaddr *)&listen->addr;
	struct ip_addr addr, listened;

	if (listen->port != port || port == 0 || sa->sa_family == AF_UNIX)
		return false;
	ip_addr_from_sockaddr(sa, &addr);
	if (listen->kind == IP_NAME)
		return strcasecmp(listen->host, "localhost") == 0 && ip_addr_is_loopback(&addr);
	if (listen->kind != IP_NUMERIC || theirs->sa_family != sa->sa_family)
		return false;
	ip_addr_from_sockaddr(theirs, &listened);
	return ip_endpoint_is_any(listen) ? is_local(sa, len)
				   : listened.family == addr.family && memcmp(&listened.u, &addr.u,
					     addr.family == AF_INET ? sizeof(addr.u.v4) : sizeof(addr.u.v6)) == 0;
}

static const struct listener *
listener_at(const struct settings *st, const struct sockaddr *sa, socklen_t len, uint16_t port)
{
	for (int i = 0; i < st->listener_count; i++)
		for (size_t k = 0; k < st->listeners[i].conf.listen.count; k++)
			if (is_listened_at(&st->listeners[i].conf.listen.list[k], sa, len, port))
				return &st->listeners[i];
	return NULL;
}

static const struct listener *
listener_of_socket(const struct settings *st, const char *path)
{
	for (int i = 0; i < st->listener_count; i++)
		for (size_t k = 0; k < st->listeners[i].conf.listen.count; k++) {
			const struct ip_endpoint *ep = &st->listeners[i].conf.listen.list[k];

			if (ep->kind == IP_UNIX && strcmp(ep->host, path) == 0)
				return &st->listeners[i];
		}
	return NULL;
}

/* Does mail for this back-end come to it again? seen: back-ends that were passed. */
static bool
comes_back(const struct hosts *all, const struct backend *at, const struct backend *home, bool *seen)
{
	if (at == home)
		return true;
	if (at == NULL || seen[at->index])
		return false;
	seen[at->index] = true;
	for (size_t i = 0; i < all->count; i++)
		if (all->list[i].backend == at && all->list[i].ours != NULL &&
			comes_back(all, all->list[i].ours->backend, home, seen))
			return true;
	return false;
}

static void
check_loops(const struct hosts *all)
{
	char text[300];

	for (size_t i = 0; i < all->count; i++) {
		const struct host *h = &all->list[i];
		bool *seen = xcalloc((size_t)all->check->settings->backend_count + 1, sizeof(*seen));

		if (h->ours != NULL && comes_back(all, h->ours->backend, h->backend, seen)) {
			ip_endpoint_text(endpoint(h), text, sizeof(text));
			check_error(all->check, place(h), "hosts: %s is our own listener %s, from which mail comes back to back-end "
				"%s: a loop (name the next server)", text, h->ours->name, h->backend->name);
		}
		free(seen);
	}
}

/* ---- what it offers ---- */

/* The default says nothing about the back-end; who writes a number means it. */
static void
check_size(const struct host *h, const struct smtp_caps *caps)
{
	const struct settings *st = h->all->check->settings;

	for (int i = 0; i < st->listener_count; i++) {
		const struct listener *l = &st->listeners[i];
		int64_t ours = l->conf.smtp.max_message;

		if (l->backend == h->backend && config_is_set(l->block, "max_message") && caps->size > 0 &&
			(ours == 0 || ours > caps->size))
			check_warn(h->all->check, config_place_of(l->block, "max_message"),
				"max_message: back-end %s takes no more than %lld octets", h->backend->name,
				(long long)caps->size);
	}
}

static void
check_auth(const struct host *h, const struct smtp_caps *caps)
{
	char text[300];

	if (h->backend->conf.client.auth_user == NULL || (caps->auth & (SMTP_AUTH_PLAIN | SMTP_AUTH_LOGIN)))
		return;
	ip_endpoint_text(endpoint(h), text, sizeof(text));
	check_warn(h->all->check, config_place_of(h->backend->block, "auth_user"),
		"auth_user: %s offers neither AUTH PLAIN nor AUTH LOGIN%s", text,
		h->backend->tls == NULL ? " in clear (try tls required)" : "");
}

static void
on_ready(void *owner)
{
	struct host *h = owner;

	check_size(h, smtp_client_caps(h->client));
	check_auth(h, smtp_client_caps(h->client));
	smtp_client_quit(&h->client);
	done(h);
}

static void
on_failed(void *owner, const struct err *err, const struct smtp_reply *reply)
{
	struct host *h = owner;
	char text[300];

	(void)reply;
	ip_endpoint_text(endpoint(h), text, sizeof(text));
	check_warn(h->all->check, place(h), "hosts: %s: %s%s", text, err->text,
		strstr(err->text, "greeting in time") != NULL ? " (some hold it back on purpose, for longer than is waited here)"
							      : "");
	smtp_client_free(&h->client);
	done(h);
}

static const struct smtp_client_ops ops = { .ready = on_ready, .failed = on_failed };

/* ---- getting there ---- */

static void
on_connected(void *owner, int fd, const struct err *err)
{
	struct host *h = owner;
	const struct ip_endpoint *ep = endpoint(h);

	h->connecting = NULL;
	if (fd < 0) {
		check_warn(h->all->check, place(h), "hosts: %s%s", err->text,
			strstr(err->text, "refused") != NULL ? " (is it started?)" : "");
		done(h);
		return;
	}
	h->step = "it takes the connection and does not answer";
	h->client = smtp_client_new(net_stream_new(h->all->worker, fd, NULL, NULL), &h->conf,
		ep->kind == IP_UNIX ? NULL : ep->host, false, NULL, &ops, h);
}

static void
go_on(struct host *h)
{
	if (h->ours != NULL) {
		done(h);
		return;
	}
	h->step = "no connection";
	h->connecting = net_connect_start(
		h->all->worker, endpoint(h), h->name, CHECK_ANSWER_MS, on_connected, h);
}

static void
on_found(void *owner, struct net_addrs *addrs, const char *why)
{
	struct host *h = owner;

	h->looking = NULL;
	if (addrs == NULL) {
		check_warn(h->all->check, place(h), "hosts: the name %s has no address: %s", endpoint(h)->host, why);
		done(h);
		return;
	}
	for (size_t i = 0; i < addrs->count && h->ours == NULL; i++)
		h->ours = listener_at(h->all->check->settings, (const struct sockaddr *)&addrs->list[i].sa,
			addrs->list[i].len, endpoint(h)->port);
	free(addrs);
	go_on(h);
}

/* Without a context of TLS that works, which is told elsewhere, there is nothing to try. */
static bool
is_possible(const struct check *c, const struct backend *b)
{
	struct err err;

	check_begin(c, &b->block->place, "the files of TLS");
	return b->tls == NULL || net_tls_live_load(b->tls, &err) >= 0;
}

static void
start(struct host *h)
{
	const struct settings *st = h->all->check->settings;
	const struct ip_endpoint *ep = endpoint(h);

	h->conf = h->backend->conf.client;
	h->conf.greeting_timeout = h->conf.command_timeout = CHECK_ANSWER_MS;
	h->conf.auth_user = NULL; /* a wrong password may lock the account */
	h->step = "its name is still being looked up";
	if (ep->kind == IP_NAME) {
		h->name = net_name_new(ep->host, ep->port, 60 * 1000);
		struct net_addrs *addrs = net_name_get(h->name, h->all->worker, on_found, h, &h->looking);

		if (addrs != NULL)
			on_found(h, addrs, NULL);
		return;
	}
	h->ours = ep->kind == IP_UNIX ? listener_of_socket(st, ep->host)
				      : listener_at(st, (const struct sockaddr *)&ep->addr, ep->addr_len, ep->port);
	go_on(h);
}

/* ---- all of them ---- */

static void
time_is_over(void *arg)
{
	struct hosts *all = arg;
	char text[300];

	for (size_t i = 0; i < all->count; i++) {
		const struct host *h = &all->list[i];

		if (h->step == NULL)
			continue;
		ip_endpoint_text(endpoint(h), text, sizeof(text));
		check_warn(all->check, place(h), "hosts: %s: after %d seconds %s", text, CHECK_ANSWER_MS / 1000, h->step);
	}
	net_worker_stop(all->worker);
}

static void
add_hosts(struct hosts *all, const struct backend *b)
{
	for (size_t i = 0; i < b->conf.hosts.count; i++)
		all->list[all->count++] = (struct host){ .all = all, .backend = b, .index = i };
}

static void
collect(struct hosts *all)
{
	const struct settings *st = all->check->settings;
	size_t n = 0;

	for (int i = 0; i < st->backend_count; i++)
		n += st->backends[i].conf.hosts.count;
	all->list = xcalloc(n + 1, sizeof(*all->list));
	for (int i = 0; i < st->backend_count; i++)
		if (st->backends[i].kind == BACKEND_SMTP && is_possible(all->check, &st->backends[i]))
			add_hosts(all, &st->backends[i]);
	all->open = all->count;
}

/* The child ends right after it: nothing is taken down. */
void
check_hosts(struct check *c)
{
	const struct log_conf quiet = { .target = LOG_TO_STDERR, .level = LOG_LEVEL_ERROR };
	struct hosts *all = xcalloc(1, sizeof(*all));
	struct err err;

	all->check = c;
	collect(all);
	if (all->count == 0)
		return;
	check_begin(c, place(&all->list[0]), "the back-ends");
	all->worker = net_worker_new(0, &err);
	if (log_open(&quiet, &err) < 0 || all->worker == NULL || net_threads_start(LOOKUPS, &err) < 0) {
		check_warn(c, place(&all->list[0]), "hosts: the back-ends could not be asked: %s", err.text);
		return;
	}
	net_timer_init(&all->timer, all->worker, time_is_over, all);
	net_timer_set(&all->timer, CHECK_ANSWER_MS + 100);
	for (size_t i = 0; i < all->count; i++)
		start(&all->list[i]);
	if (all->open > 0)
		net_worker_run(all->worker);
	check_loops(all);
}
