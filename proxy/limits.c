/*
 * proxy/limits.c - counts of connections: all, by listener, by listener and client.
 */
#include "proxy/limits.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/xalloc.h"

#define BUCKETS 4096
/* Of max_connections auto. More cannot be served well by one machine, and take gigabytes when all are busy. */
#define AUTO_MIN 10
#define AUTO_MAX 32768
/* Descriptors for what is being turned away, logs, jobs; and those of one worker, with up to 8 spare files. */
#define SPARE_MAX  256
#define PER_WORKER 16

const char *const limits_refusal_names[] = {
	"", "clients", "max_connections", "max_per_client", "early_talker", "mail",
};

struct limits_listener {
	int number; /* no other one has it */
	int count;
	LIST_ENTRY(limits_listener) next;
	char name[];
};

/* IPv6: the /64, since a host has all of it. */
struct client_key {
	int listener;
	int family;
	unsigned char octets[8];
};

struct limits_client {
	struct client_key key;
	int count;
	LIST_ENTRY(limits_client) next;
};

struct limits {
	atomic_int max; /* changed behind the lock, as is the next one */
	atomic_int count;
	atomic_ulong noted[REFUSED_COUNT];
	pthread_mutex_t lock; /* guards all below */
	LIST_HEAD(, limits_listener) listeners;
	uint64_t seed;
	LIST_HEAD(limits_chain, limits_client) clients[BUCKETS];
	bool is_said;		      /* that there is overload */
	unsigned long refused, put_off; /* noted, when it began */
};

/* ---- descriptors ---- */

static long
fixed_descriptors(const struct settings *st)
{
	long n = (long)st->workers * PER_WORKER;

	for (int i = 0; i < st->listener_count; i++)
		n += (long)st->listeners[i].conf.listen.count * (1 + st->workers);
	for (int i = 0; i < st->backend_count; i++)
		if (st->backends[i].kind == BACKEND_SMTP)
			n += st->backends[i].conf.max_connections;
	return n;
}

static long
spare_descriptors(long all)
{
	return all / 8 < SPARE_MAX ? all / 8 : SPARE_MAX;
}

/* One for the connection, and one for the content of those that may have a message under way: 7 of 8. */
int
limits_auto(const struct settings *st, long descriptors)
{
	long rest = descriptors - spare_descriptors(descriptors) - fixed_descriptors(st);
	long max = rest / 15 * 8;

	return max < AUTO_MIN ? AUTO_MIN : max > AUTO_MAX ? AUTO_MAX : (int)max;
}

long
limits_descriptors(const struct settings *st, int connections)
{
	return connections + (connections - connections / 8L) + fixed_descriptors(st);
}

/* The monitor has raised the soft limit as far as it goes. */
static long
descriptors(void)
{
	struct rlimit rl;

	return getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < INT_MAX ? (long)rl.rlim_cur : INT_MAX;
}

int
limits_max(const struct settings *st)
{
	return st->top.max_connections > 0 ? st->top.max_connections : limits_auto(st, descriptors());
}

void
limits_check(const struct settings *st)
{
	int max = limits_max(st);
	long has = descriptors(), needs = limits_descriptors(st, max);

	if (needs > has)
		log_warn(NULL, "limits", "err=%s max_connections=%d needs=%ld has=%ld",
			"fewer descriptors than may be needed: raise the limit of open files, or lower max_connections",
			max, needs, has);
}

/* ---- life ---- */

struct limits *
limits_new(int connections_max)
{
	struct limits *l = xcalloc(1, sizeof(*l));

	atomic_init(&l->max, connections_max);
	LIST_INIT(&l->listeners);
	pthread_mutex_init(&l->lock, NULL);
	if (getrandom(&l->seed, sizeof(l->seed), GRND_NONBLOCK) != (ssize_t)sizeof(l->seed))
		l->seed = clock_us();
	return l;
}

void
limits_free(struct limits **limits)
{
	struct limits *l = *limits;

	if (l == NULL)
		return;
	*limits = NULL;
	for (int i = 0; i < BUCKETS; i++)
		while (!LIST_EMPTY(&l->clients[i])) {
			struct limits_client *c = LIST_FIRST(&l->clients[i]);

			LIST_REMOVE(c, next);
			free(c);
		}
	while (!LIST_EMPTY(&l->listeners)) {
		struct limits_listener *of = LIST_FIRST(&l->listeners);

		LIST_REMOVE(of, next);
		free(of);
	}
	pthread_mutex_destroy(&l->lock);
	free(l);
}

void
limits_set_max(struct limits *l, int connections_max)
{
	pthread_mutex_lock(&l->lock);
	atomic_store(&l->max, connections_max);
	pthread_mutex_unlock(&l->lock);
}

/* Locked. */
static struct limits_listener *
add_listener(struct limits *l, const char *name)
{
	struct limits_listener *of = xcalloc(1, sizeof(*of) + strlen(name) + 1);

	strcpy(of->name, name);
	if (!LIST_EMPTY(&l->listeners))
		of->number = LIST_FIRST(&l->listeners)->number + 1;
	LIST_INSERT_HEAD(&l->listeners, of, next);
	return of;
}

struct limits_listener *
limits_listener(struct limits *l, const char *name)
{
	struct limits_listener *of;

	pthread_mutex_lock(&l->lock);
	LIST_FOREACH(of, &l->listeners, next)
		if (strcmp(of->name, name) == 0)
			break;
	if (of == NULL)
		of = add_listener(l, name);
	pthread_mutex_unlock(&l->lock);
	return of;
}

void
limits_note(struct limits *l, enum limits_refusal why)
{
	atomic_fetch_add_explicit(&l->noted[why], 1, memory_order_relaxed);
}

unsigned long
limits_noted(const struct limits *l, enum limits_refusal why)
{
	return atomic_load_explicit(&l->noted[why], memory_order_relaxed);
}

/* ---- by client ---- */

static bool
is_trusted(const struct listener *listener, const struct ip_addr *client)
{
	const struct config_nets *trusted = &listener->conf.trusted;

	for (size_t i = 0; i < trusted->count; i++)
		if (ip_net_has(&trusted->list[i], client))
			return true;
	return trusted->any;
}

/* Clients of a Unix socket have no address to tell them apart. */
static bool
counts_by_client(const struct listener *listener, const struct ip_addr *client)
{
	return listener->conf.max_per_client > 0 && client->family != AF_UNIX &&
	       !is_trusted(listener, client);
}

static struct client_key
key_of(const struct listener *listener, const struct ip_addr *client)
{
	struct client_key key = { .listener = listener->count->number, .family = client->family };

	if (client->family == AF_INET6)
		memcpy(key.octets, &client->u.v6, 8);
	else
		memcpy(key.octets, &client->u.v4, 4);
	return key;
}

static struct limits_chain *
chain_of(struct limits *l, const struct client_key *key)
{
	const unsigned char *octets = (const unsigned char *)key;
	uint64_t h = l->seed;

	for (size_t i = 0; i < sizeof(*key); i++)
		h = (h ^ octets[i]) * 0x100000001b3ULL;
	h ^= h >> 32;
	return &l->clients[h % BUCKETS];
}

static struct limits_client *
find_client(const struct limits_chain *chain, const struct client_key *key)
{
	struct limits_client *c;

	LIST_FOREACH(c, chain, next)
		if (memcmp(&c->key, key, sizeof(*key)) == 0)
			return c;
	return NULL;
}

/* Locked. NULL: the client has as many as it may. */
static struct limits_client *
client_enter(struct limits *l, const struct listener *listener, const struct ip_addr *addr)
{
	struct client_key key = key_of(listener, addr);
	struct limits_chain *chain = chain_of(l, &key);
	struct limits_client *c = find_client(chain, &key);

	if (c == NULL) {
		c = xcalloc(1, sizeof(*c));
		c->key = key;
		LIST_INSERT_HEAD(chain, c, next);
	}
	if (c->count >= listener->conf.max_per_client)
		return NULL;
	c->count++;
	return c;
}

/* Locked. */
static void
client_leave(struct limits_client *c)
{
	if (c == NULL || --c->count > 0)
		return;
	LIST_REMOVE(c, next);
	free(c);
}

/* ---- overload, said when it begins and when it is over ---- */

bool
limits_is_tight(const struct limits *l)
{
	int max = atomic_load_explicit(&l->max, memory_order_relaxed);

	return atomic_load_explicit(&l->count, memory_order_relaxed) > max - max / 8;
}

int
limits_count(const struct limits *l)
{
	return atomic_load_explicit(&l->count, memory_order_relaxed);
}

/* Locked. */
static void
say_overload(struct limits *l)
{
	if (l->is_said)
		return;
	l->is_said = true;
	l->refused = limits_noted(l, REFUSED_CONNECTIONS);
	l->put_off = limits_noted(l, REFUSED_MAIL);
	log_warn(NULL, "overload", "state=%s connections=%d max_connections=%d", "begins", l->count, l->max);
}

/* Locked. A good deal below where it began, so that a number that swings does not fill the log. */
static void
say_relief(struct limits *l)
{
	if (!l->is_said || l->count > l->max - l->max / 4)
		return;
	l->is_said = false;
	log_warn(NULL, "overload", "state=%s connections=%d refused=%lu put_off=%lu", "over", l->count,
		limits_noted(l, REFUSED_CONNECTIONS) - l->refused, limits_noted(l, REFUSED_MAIL) - l->put_off);
}

/* ---- coming and going ---- */

/* Locked. */
static enum limits_refusal
enter(struct limits *l, const struct listener *listener, const struct ip_addr *addr,
	struct limits_place *place)
{
	int max = listener->conf.max_connections;

	if (l->count >= l->max) {
		say_overload(l);
		return REFUSED_CONNECTIONS;
	}
	if (max > 0 && listener->count->count >= max)
		return REFUSED_CONNECTIONS;
	if (counts_by_client(listener, addr)) {
		place->client = client_enter(l, listener, addr);
		if (place->client == NULL)
			return REFUSED_PER_CLIENT;
	}
	place->listener = listener->count;
	listener->count->count++;
	l->count++;
	if (limits_is_tight(l))
		say_overload(l);
	return REFUSED_NOT;
}

enum limits_refusal
limits_enter(struct limits *l, const struct listener *listener, const struct ip_addr *addr,
	struct limits_place *place_r)
{
	enum limits_refusal why;

	*place_r = (struct limits_place){ 0 };
	pthread_mutex_lock(&l->lock);
	why = enter(l, listener, addr, place_r);
	if (why != REFUSED_NOT)
		limits_note(l, why);
	pthread_mutex_unlock(&l->lock);
	return why;
}

void
limits_leave(struct limits *l, struct limits_place *place)
{
	if (place->listener == NULL)
		return;
	pthread_mutex_lock(&l->lock);
	client_leave(place->client);
	place->listener->count--;
	l->count--;
	say_relief(l);
	pthread_mutex_unlock(&l->lock);
	*place = (struct limits_place){ 0 };
}
