/*
 * t/fuzz/wire.h - for fuzz targets: a worker on this thread, and the other end of one connection.
 *
 * All chance comes from a seed, so that an input always does the same.
 */
#ifndef T_FUZZ_WIRE_H
#define T_FUZZ_WIRE_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "net/stream.h"
#include "net/worker.h"

#define MUST(x) ((x) ? (void)0 : abort())

struct wire {
	int fd;
	uint32_t seed;
	size_t sent;
	struct str got; /* all that the other side has said */
};

static struct net_worker *worker;

/* Less than n. */
static inline unsigned
wire_chance(struct wire *w, unsigned n)
{
	w->seed = w->seed * 1103515245u + 12345u;
	return (w->seed >> 16) % n;
}

static inline void
wire_worker(void)
{
	const struct log_conf quiet = {
		.target = LOG_TO_FILE, .path = "/dev/null", .level = LOG_LEVEL_ERROR};
	struct err err;

	if (worker != NULL)
		return;
	MUST(log_open(&quiet, &err) == 0);
	worker = net_worker_new(0, &err);
	MUST(worker != NULL);
}

static inline void
wire_turn(void)
{
	net_worker_stop(worker);
	net_worker_run(worker);
}

/* Returns the descriptor for the stream; with little room when buffer is not 0. */
static inline int
wire_open(struct wire *w, uint32_t seed, int buffer)
{
	int pair[2];

	wire_worker();
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
	if (buffer != 0)
		MUST(setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer)) == 0);
	*w = (struct wire){.fd = pair[0], .seed = seed, .got = STR_INIT};
	return pair[1];
}

/* Takes what has come. False at the end of the connection. */
static inline bool
wire_read(struct wire *w)
{
	char buf[65536];
	ssize_t n;

	while ((n = read(w->fd, buf, sizeof(buf))) > 0)
		str_addn(&w->got, buf, (size_t)n);
	return n < 0 && errno == EAGAIN;
}

/* Returns how much the other side's buffer took. */
static inline size_t
wire_send(struct wire *w, const char *data, size_t len)
{
	const ssize_t n = send(w->fd, data, len, MSG_NOSIGNAL);

	if (n <= 0)
		return 0;
	w->sent += (size_t)n;
	return (size_t)n;
}

/* How much to send at a time: often one octet, often all. */
static inline size_t
wire_part(struct wire *w, size_t left)
{
	const unsigned kind = wire_chance(w, 4);
	const size_t part = kind == 0 ? 1 : kind == 1 ? 1 + wire_chance(w, 20) : 1 + wire_chance(w, 30000);

	return part < left ? part : left;
}

static inline void
wire_hang_up(struct wire *w)
{
	close(w->fd);
	w->fd = -1;
}

/* Nothing may be left of the connection. */
static inline void
wire_close(struct wire *w)
{
	if (w->fd >= 0)
		wire_hang_up(w);
	for (int i = 0; i < 4; i++)
		wire_turn();
	MUST(LIST_EMPTY(net_worker_finishing(worker)));
	str_deinit(&w->got);
}

#endif
