/*
 * proxy/check_services.c - do the services that filters ask take connections? All addresses are tried at the same
 * time, with the eyes of the user, and nothing is said there.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/xalloc.h"
#include "filters/dial.h"
#include "filters/filter.h"
#include "net/connect.h"
#include "net/threads.h"
#include "net/worker.h"
#include "proxy/check_private.h"

#define LOOKUPS 4 /* at a time */

struct services;

struct service {
	struct services *all;
	const struct config_block *block; /* of the filter */
	const struct config_place *place;
	struct ip_endpoint endpoint;
};

struct services {
	const struct check *check;
	struct net_worker *worker;
	struct service *list;
	size_t count, size, open;
};

/* What the system says is true, and seldom what one wants to know. */
static void
complain(const struct service *s, const char *text)
{
	const struct check *c = s->all->check;
	const char *kind = s->block->section->name;

	if (strstr(text, "ermission denied") != NULL)
		check_warn(c, s->place, "socket: %s, for %s (put it into the group that may, or try another mode of the socket)",
			text, c->whose);
	else
		check_warn(c, s->place, "socket: %s (is %s started?)", text, kind);
}

static void
on_connected(void *owner, int fd, const struct err *err)
{
	struct service *s = owner;

	if (fd < 0)
		complain(s, err->text);
	else
		close(fd);
	if (--s->all->open == 0)
		net_worker_stop(s->all->worker);
}

/* What cannot be parsed is an error of the configuration, and there is no look then. */
static void
add_service(struct services *all, const struct config_block *block, const struct config_word *word)
{
	struct service *s;
	struct err err;

	if (all->count == all->size) {
		all->size = all->size * 2 + 8;
		all->list = xrealloc(all->list, all->size * sizeof(*all->list));
	}
	s = &all->list[all->count];
	*s = (struct service){ .all = all, .block = block };
	s->place = config_is_set(block, "socket") ? &word->place : &block->place;
	if (dial_parse(word->text, &s->endpoint, &err) == 0)
		all->count++;
}

static void
collect(struct services *all)
{
	const struct config_block *block;

	TAILQ_FOREACH(block, all->check->settings->config->top->blocks, next) {
		const struct filter_kind *kind = block->section->owner;
		const struct dial_conf *dial = kind != NULL && kind->service != NULL ? kind->service(block->data[1]) : NULL;

		for (size_t i = 0; dial != NULL && i < dial->socket.count; i++)
			add_service(all, block, &dial->socket.list[i]);
	}
}

/* The child ends right after it: nothing is taken down. */
void
check_services(struct check *c)
{
	const struct log_conf quiet = { .target = LOG_TO_STDERR, .level = LOG_LEVEL_ERROR };
	struct services all = { .check = c };
	struct err err;

	collect(&all);
	if (all.count == 0)
		return;
	check_begin(c, all.list[0].place, "the services of filters");
	all.worker = net_worker_new(0, &err);
	if (log_open(&quiet, &err) < 0 || all.worker == NULL || net_threads_start(LOOKUPS, &err) < 0) {
		check_warn(c, all.list[0].place, "socket: the services of filters could not be tried: %s", err.text);
		return;
	}
	all.open = all.count;
	for (size_t i = 0; i < all.count; i++)
		net_connect_start(all.worker, &all.list[i].endpoint, NULL, CHECK_ANSWER_MS, on_connected, &all.list[i]);
	net_worker_run(all.worker);
}
