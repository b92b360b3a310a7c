/*
 * proxy/sockets.c - the list of listening sockets, and the addresses that a configuration asks for.
 */
#include "proxy/sockets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/xalloc.h"

void
sockets_add(struct sockets *s, const char *key, int fd)
{
	s->list = xrealloc(s->list, (size_t)(s->count + 1) * sizeof(*s->list));
	snprintf(s->list[s->count].key, sizeof(s->list[0].key), "%s", key);
	s->list[s->count++].fd = fd;
}

int
sockets_find(const struct sockets *s, const char *key, int n)
{
	for (int i = 0; i < s->count; i++)
		if (strcmp(s->list[i].key, key) == 0 && n-- == 0)
			return s->list[i].fd;
	return -1;
}

void
sockets_remove(struct sockets *s, int index)
{
	s->count--;
	memmove(&s->list[index], &s->list[index + 1], (size_t)(s->count - index) * sizeof(*s->list));
}

void
sockets_deinit(struct sockets *s)
{
	free(s->list);
	*s = (struct sockets){ 0 };
}

void
sockets_close(struct sockets *s)
{
	for (int i = 0; i < s->count; i++)
		close(s->list[i].fd);
	sockets_deinit(s);
}

/* ---- what a configuration asks for ---- */

/* A port that the kernel chooses is another one for each who asks. */
static void
make_key(struct socket_want *want)
{
	char text[SOCKET_KEY_SIZE / 2];

	ip_endpoint_text(want->ep, text, sizeof(text));
	if ((want->ep->kind == IP_NUMERIC || want->ep->kind == IP_NAME) && want->ep->port == 0)
		snprintf(want->key, sizeof(want->key), "%s/%.80s/%zu", text, want->owner, want->index);
	else
		snprintf(want->key, sizeof(want->key), "%s", text);
}

static int
each_of(const struct config_endpoints *eps, const char *owner, const struct listener *l, socket_want_fn fn,
	void *arg)
{
	for (size_t i = 0; i < eps->count; i++) {
		struct socket_want want = { .owner = owner, .listener = l, .index = i, .ep = &eps->list[i] };

		make_key(&want);
		if (fn(&want, arg) < 0)
			return -1;
	}
	return 0;
}

int
sockets_each_want(const struct settings *st, socket_want_fn fn, void *arg)
{
	char owner[300];

	for (int i = 0; i < st->listener_count; i++) {
		const struct listener *l = &st->listeners[i];

		snprintf(owner, sizeof(owner), "listener %s", l->name);
		if (each_of(&l->conf.listen, owner, l, fn, arg) < 0)
			return -1;
	}
	return each_of(&st->health.listen, "health", NULL, fn, arg);
}

static int
is_other(const struct socket_want *want, void *key)
{
	return strcmp(want->key, key) == 0 ? -1 : 0;
}

bool
sockets_is_wanted(const struct settings *st, const char *key)
{
	char copy[SOCKET_KEY_SIZE];

	snprintf(copy, sizeof(copy), "%s", key);
	return sockets_each_want(st, is_other, copy) < 0;
}
