/* filters/dial.c - the addresses of a service, and one connection to the first that answers. */
#include "filters/dial.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/xalloc.h"

/* How long an address that failed stands behind the others. */
#define BAD_MS 10000

const char *const dial_balance_names[] = {[DIAL_ORDER] = "order", [DIAL_ROUND_ROBIN] = "round-robin", NULL};

struct dial_place {
	struct ip_endpoint endpoint;
	_Atomic uint64_t bad_until; /* clock_ms */
};

struct dial_places {
	atomic_uint turn;
	size_t count;
	struct dial_place list[];
};

struct dial {
	struct net_worker *worker;
	const struct dial_conf *conf;
	dial_cb cb;
	void *owner;
	struct net_connect *connect;
	size_t tried;
	size_t order[]; /* indices of places */
};

/* inet:PORT@HOST is HOST:PORT; an IPv6 address gets its brackets. rest: behind inet: or inet6:. */
static int
from_milter(const char *text, const char *rest, char *dst, size_t size, struct err *err)
{
	const char *at = strchr(rest, '@');
	bool is_v6;

	if (at == NULL || at[1] == '\0')
		return err_set(err, "\"%s\" is not an address (try inet:PORT@HOST, or HOST:PORT)", text);
	is_v6 = strchr(at, ':') != NULL && at[1] != '[';
	snprintf(dst, size, "%s%s%s:%.*s", is_v6 ? "[" : "", at + 1, is_v6 ? "]" : "", (int)(at - rest), rest);
	return 0;
}

/* Behind "inet:" or "inet6:"; NULL: it is not written as for milters. */
static const char *
milter_rest(const char *text)
{
	if (strncmp(text, "inet:", 5) == 0)
		return text + 5;
	return strncmp(text, "inet6:", 6) == 0 ? text + 6 : NULL;
}

int
dial_parse(const char *text, struct ip_endpoint *ep_r, struct err *err)
{
	const char *rest = milter_rest(text);
	char plain[300];

	if (rest != NULL && from_milter(text, rest, plain, sizeof(plain), err) < 0)
		return -1;
	if (rest != NULL)
		text = plain;
	if (ip_endpoint_parse(text, ep_r, err) < 0)
		return -1;
	if (ep_r->kind == IP_FD)
		return err_set(err, "\"%s\" is a socket to listen on, not one to connect to (try unix:/path or HOST:PORT)",
			text);
	if (ep_r->kind != IP_UNIX && ep_r->port == 0)
		return err_set(err, "\"%s\" has port 0, where nothing can listen", text);
	return 0;
}

int
dial_setup(struct dial_conf *conf, struct err *err)
{
	struct dial_places *places;

	if (conf->socket.count == 0)
		return err_set(err, "it needs a socket: where the service listens (unix:/path or HOST:PORT)");
	places = xcalloc(1, sizeof(*places) + conf->socket.count * sizeof(places->list[0]));
	conf->places = places;
	for (; places->count < conf->socket.count; places->count++)
		if (dial_parse(conf->socket.list[places->count].text, &places->list[places->count].endpoint, err) < 0)
			return err_prefix(err, "socket");
	return 0;
}

void
dial_teardown(struct dial_conf *conf)
{
	free(conf->places);
	conf->places = NULL;
}

static bool
is_bad(const struct dial_place *place)
{
	return atomic_load_explicit(&place->bad_until, memory_order_relaxed) > clock_ms();
}

/* From the one whose turn it is, those that failed lately behind the others. */
static void
set_order(struct dial *d)
{
	struct dial_places *places = d->conf->places;
	size_t first = 0, n = 0, bad = places->count;

	if (d->conf->balance == DIAL_ROUND_ROBIN)
		first = atomic_fetch_add_explicit(&places->turn, 1, memory_order_relaxed) % places->count;
	for (size_t i = 0; i < places->count; i++)
		if (!is_bad(&places->list[(first + i) % places->count]))
			d->order[n++] = (first + i) % places->count;
		else
			d->order[--bad] = (first + i) % places->count;
}

static void try_next(struct dial *d);

static void
got_connection(void *owner, int fd, const struct err *err)
{
	struct dial *d = owner;
	struct dial_place *place = &d->conf->places->list[d->order[d->tried]];
	const dial_cb cb = d->cb;

	d->connect = NULL;
	atomic_store_explicit(&place->bad_until, fd < 0 ? clock_ms() + BAD_MS : 0, memory_order_relaxed);
	if (fd < 0 && ++d->tried < d->conf->places->count) {
		try_next(d);
		return;
	}
	owner = d->owner;
	free(d);
	cb(owner, fd, &place->endpoint, err);
}

static void
try_next(struct dial *d)
{
	const struct ip_endpoint *ep = &d->conf->places->list[d->order[d->tried]].endpoint;

	d->connect = net_connect_start(d->worker, ep, NULL, d->conf->connect_timeout_ms, got_connection, d);
}

struct dial *
dial_start(struct net_worker *w, const struct dial_conf *conf, dial_cb cb, void *owner)
{
	struct dial *d = xcalloc(1, sizeof(*d) + conf->places->count * sizeof(d->order[0]));

	d->worker = w;
	d->conf = conf;
	d->cb = cb;
	d->owner = owner;
	set_order(d);
	try_next(d);
	return d;
}

void
dial_cancel(struct dial **d_p)
{
	struct dial *d = *d_p;

	*d_p = NULL;
	if (d == NULL)
		return;
	net_connect_cancel(&d->connect);
	free(d);
}
