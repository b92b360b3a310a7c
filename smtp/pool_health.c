/*
 * smtp/pool_health.c - which hosts are up and what they offer, learnt from use and from probes.
 *
 * One worker, the watcher, has a timer for each host. One that is down is probed after a second, then with
 * doubling pauses up to probe_interval. One that is up is probed when no EHLO was heard from it for
 * probe_interval, so that what we offer to the front stays true.
 *
 * A probe is not counted in max_connections: it must not take the place of a mail, nor wait for one. There is
 * at most one for each host, and none while other connections to that host are being made, for they tell
 * as much. A host that is up is not probed while all connections are in use: it may have the same limit.
 *
 * One that greets and then leaves a mail without a reply is down, and doubted: what a probe hears does not prove that it
 * is well. The probe lets the next mail try it, and the first one that passes puts it up.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "smtp/pool_private.h"

#define FIRST_PAUSE_MS 1000

/* "PIPELINING,SIZE 10240000,8BITMIME": what we make use of. */
static void
describe_caps(const struct smtp_caps *theirs, struct str *out)
{
	struct smtp_caps caps = *theirs;

	caps.bits &= SMTP_CAP_PIPELINING | SMTP_CAP_SIZE | SMTP_CAP_STATUSCODES | SMTP_CAP_8BITMIME |
		     SMTP_CAP_DSN | SMTP_CAP_SMTPUTF8 | SMTP_CAP_CHUNKING;
	smtp_caps_write(&caps, out);
	for (size_t i = 0; i < out->len; i++)
		if (out->data[i] == '\n')
			out->data[i] = ',';
}

static void
log_up(const struct pool_host *ph, const struct smtp_caps *caps)
{
	struct str offers = STR_INIT;

	describe_caps(caps, &offers);
	log_info(NULL, "backend", "backend=%s state=up host=%s offers=%s", ph->dest->conf->name, ph->text,
		log_some(str_text(&offers)));
	str_deinit(&offers);
}

/* Once, when it goes down. */
static void
log_down(const struct pool_host *ph, bool was_down, const struct err *err)
{
	const char *backend = ph->dest->conf->name;

	if (was_down)
		log_debug(NULL, "backend", "backend=%s state=down host=%s err=%s", backend, ph->text, err->text);
	else
		log_warn(NULL, "backend", "backend=%s state=down host=%s err=%s", backend, ph->text, err->text);
}

/* ---- states; with the lock held ---- */

static void
all_known(void *arg)
{
	struct smtp_dest *dest = arg;

	dest->on_known(dest->owner);
}

/* To others. */
static void
show_state(struct smtp_dest *dest, int host, enum smtp_host_state state)
{
	atomic_store_explicit(&dest->hosts[host].state, (int)state, memory_order_relaxed);
}

/* Returns the state before. */
static enum smtp_host_state
set_state(struct smtp_dest *dest, int host, enum smtp_host_state state)
{
	enum smtp_host_state before = dest->states[host].state;

	dest->states[host].state = state;
	dest->states[host].may_try = false;
	show_state(dest, host, state);
	if (before == SMTP_HOST_UNKNOWN && --dest->unknown == 0 && dest->watcher != NULL)
		net_post(dest->watcher, all_known, dest);
	return before;
}

/* Returns whether it is news. */
static bool
learn_caps(struct smtp_dest *dest, int host, const struct smtp_caps *caps)
{
	struct smtp_host *h = &dest->states[host];
	bool is_news = !h->is_known || h->caps.bits != caps->bits || h->caps.size != caps->size;
	struct smtp_caps all;

	h->is_known = true;
	h->caps = *caps;
	all = smtp_hosts_caps(dest->states, dest->conf->host_count);
	__atomic_store_n(&dest->caps, all.bits, __ATOMIC_RELAXED);
	__atomic_store_n(&dest->caps_size, all.size, __ATOMIC_RELAXED);
	return is_news;
}

/* A doubted host greets. Who looks from outside sees it up: were it not, no front might give us the mail that has to
 * try it. */
static void
let_try(struct smtp_dest *dest, int host)
{
	dest->states[host].may_try = true;
	show_state(dest, host, SMTP_HOST_UP);
}

/* ---- what connections tell ---- */

static void went_down(void *arg);

static void
is_over(struct pool_conn *pc)
{
	pc->is_new = false;
	pc->dest->hosts[pc->host].making--;
}

void
pool_host_heard(struct pool_conn *pc)
{
	struct smtp_dest *dest = pc->dest;
	struct pool_host *ph = &dest->hosts[pc->host];
	const struct smtp_caps *caps = smtp_client_caps(pc->client);
	bool is_news;

	pthread_mutex_lock(&dest->lock);
	is_over(pc);
	ph->heard_ms = clock_ms();
	is_news = learn_caps(dest, pc->host, caps);
	if (!ph->is_doubted)
		is_news = set_state(dest, pc->host, SMTP_HOST_UP) != SMTP_HOST_UP || is_news;
	else if (pc->is_refresh)
		let_try(dest, pc->host);
	is_news = is_news && !ph->is_doubted;
	pthread_mutex_unlock(&dest->lock);
	if (is_news)
		log_up(ph, caps);
}

void
pool_host_failed(struct pool_conn *pc, const struct err *err)
{
	struct smtp_dest *dest = pc->dest;
	struct pool_host *ph = &dest->hosts[pc->host];
	bool was_down = true, counts;

	pthread_mutex_lock(&dest->lock);
	is_over(pc);
	/* What it said since then counts more. */
	counts = ph->heard_ms < pc->begun_ms || ph->heard_ms == 0;
	if (counts)
		was_down = set_state(dest, pc->host, SMTP_HOST_DOWN) == SMTP_HOST_DOWN;
	pthread_mutex_unlock(&dest->lock);
	log_down(ph, was_down, err);
	if (!was_down && dest->watcher != NULL)
		net_post(dest->watcher, went_down, ph);
}

void
pool_host_passed(struct pool_conn *pc)
{
	struct smtp_dest *dest = pc->dest;
	struct pool_host *ph = &dest->hosts[pc->host];
	bool was_doubted;

	__atomic_store_n(&ph->passed_ms, net_worker_now(pc->worker), __ATOMIC_RELAXED);
	if (!__atomic_load_n(&ph->is_doubted, __ATOMIC_RELAXED))
		return;
	pthread_mutex_lock(&dest->lock);
	was_doubted = ph->is_doubted;
	__atomic_store_n(&ph->is_doubted, false, __ATOMIC_RELAXED);
	set_state(dest, pc->host, SMTP_HOST_UP);
	pthread_mutex_unlock(&dest->lock);
	if (was_doubted)
		log_up(ph, smtp_client_caps(pc->client));
}

/* Other mail that has passed meanwhile says that it is this one's matter. */
void
pool_host_hung(struct pool_conn *pc, uint64_t since_ms, bool in_haste, const struct err *err)
{
	struct smtp_dest *dest = pc->dest;
	struct pool_host *ph = &dest->hosts[pc->host];
	bool was_down;

	if (dest->conf->host_count == 1 || __atomic_load_n(&ph->passed_ms, __ATOMIC_RELAXED) > since_ms)
		return;
	if (in_haste && net_worker_now(pc->worker) - since_ms < POOL_PATIENCE_MS)
		return;
	pthread_mutex_lock(&dest->lock);
	__atomic_store_n(&ph->is_doubted, true, __ATOMIC_RELAXED);
	was_down = set_state(dest, pc->host, SMTP_HOST_DOWN) == SMTP_HOST_DOWN;
	pthread_mutex_unlock(&dest->lock);
	log_down(ph, was_down, err);
	if (!was_down && dest->watcher != NULL)
		net_post(dest->watcher, went_down, ph);
}

/* ---- probes, on the watcher's thread ---- */

/* A tenth more or less, so that many who watch one host do not come all at once. */
static int64_t
about(int64_t ms)
{
	return ms - ms / 10 + random() % (ms / 5 + 1);
}

static void
went_down(void *arg)
{
	struct pool_host *ph = arg;
	int64_t most = ph->dest->conf->probe_interval;

	if (ph->dest->is_unwatched)
		return;
	ph->pause = most < FIRST_PAUSE_MS ? most : FIRST_PAUSE_MS;
	net_timer_set(&ph->timer, about(ph->pause));
}

/* Until it is time to look at this host again. */
static int64_t
next_pause(struct pool_host *ph, bool is_down, uint64_t heard_ms)
{
	int64_t most = ph->dest->conf->probe_interval, age = (int64_t)(clock_ms() - heard_ms);

	if (is_down) {
		ph->pause = ph->pause * 2 < most ? ph->pause * 2 : most;
		return about(ph->pause);
	}
	return about(age < most ? most - age + 1 : most);
}

static void
look(void *arg)
{
	struct pool_host *ph = arg;
	struct smtp_dest *dest = ph->dest;
	int64_t interval = dest->conf->probe_interval;
	bool is_down, is_due, is_refresh, closing;
	uint64_t heard_ms;

	pthread_mutex_lock(&dest->lock);
	closing = dest->closing;
	heard_ms = ph->heard_ms;
	is_down = dest->states[ph->index].state == SMTP_HOST_DOWN;
	is_due = is_down || (clock_ms() - heard_ms >= (uint64_t)interval && dest->used < dest->conf->max_connections);
	is_due = is_due && ph->making == 0;
	is_refresh = !is_down || ph->is_doubted;
	pthread_mutex_unlock(&dest->lock);
	if (closing)
		return;
	if (is_due)
		pool_probe(dest, ph->index, is_refresh);
	net_timer_set(&ph->timer, next_pause(ph, is_down, heard_ms));
}

void
smtp_dest_watch(struct smtp_dest *dest, struct net_worker *w, smtp_dest_known_cb cb, void *owner)
{
	dest->on_known = cb;
	dest->owner = owner;
	dest->watcher = w;
	for (int i = 0; i < dest->conf->host_count; i++) {
		struct pool_host *ph = &dest->hosts[i];

		net_timer_init(&ph->timer, w, look, ph);
		net_timer_set(&ph->timer, about(dest->conf->probe_interval));
		pool_probe(dest, i, false);
	}
}

void
smtp_dest_unwatch(struct smtp_dest *dest)
{
	if (dest->watcher == NULL || dest->is_unwatched)
		return;
	dest->is_unwatched = true;
	for (int i = 0; i < dest->conf->host_count; i++)
		net_timer_deinit(&dest->hosts[i].timer);
}
