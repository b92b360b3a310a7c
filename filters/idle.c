/* filters/idle.c - a stack of connections behind a lock, the oldest at its bottom. */
#include "filters/idle.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/xalloc.h"

struct idle_entry {
	struct idle_conn conn;
	uint64_t since; /* clock_ms */
};

struct idle_conns {
	pthread_mutex_t lock; /* guards all below */
	int64_t timeout_ms;
	int max, count;
	struct idle_entry list[];
};

struct idle_conns *
idle_new(int max, int64_t timeout_ms)
{
	struct idle_conns *idle = xcalloc(1, sizeof(*idle) + (size_t)max * sizeof(idle->list[0]));

	pthread_mutex_init(&idle->lock, NULL);
	idle->timeout_ms = timeout_ms;
	idle->max = max;
	return idle;
}

/* Closes those at the bottom. */
static void
drop(struct idle_conns *idle, int count)
{
	for (int i = 0; i < count; i++)
		close(idle->list[i].conn.fd);
	idle->count -= count;
	memmove(idle->list, idle->list + count, (size_t)idle->count * sizeof(idle->list[0]));
}

static void
drop_old(struct idle_conns *idle)
{
	const uint64_t now = clock_ms();
	int count = 0;

	while (count < idle->count && idle->list[count].since + (uint64_t)idle->timeout_ms <= now)
		count++;
	drop(idle, count);
}

void
idle_free(struct idle_conns **idle_p)
{
	struct idle_conns *idle = *idle_p;

	*idle_p = NULL;
	if (idle == NULL)
		return;
	drop(idle, idle->count);
	pthread_mutex_destroy(&idle->lock);
	free(idle);
}

/* Neither an end, nor an error, nor octets that nobody asked for. */
static bool
is_alive(int fd)
{
	char c;

	return recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

bool
idle_take(struct idle_conns *idle, struct idle_conn *conn_r)
{
	bool has_one = false;

	pthread_mutex_lock(&idle->lock);
	drop_old(idle);
	while (!has_one && idle->count > 0) {
		*conn_r = idle->list[--idle->count].conn;
		has_one = is_alive(conn_r->fd);
		if (!has_one)
			close(conn_r->fd);
	}
	pthread_mutex_unlock(&idle->lock);
	return has_one;
}

void
idle_keep(struct idle_conns *idle, const struct idle_conn *conn)
{
	pthread_mutex_lock(&idle->lock);
	drop_old(idle);
	if (idle->count == idle->max && idle->max > 0)
		drop(idle, 1);
	if (idle->max > 0)
		idle->list[idle->count++] = (struct idle_entry){*conn, clock_ms()};
	else
		close(conn->fd);
	pthread_mutex_unlock(&idle->lock);
}
