/*
 * t/unit/loop.h - a worker on the test's own thread, turned until something is true.
 */
#ifndef T_UNIT_LOOP_H
#define T_UNIT_LOOP_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/ip.h"
#include "net/worker.h"

static struct net_worker *worker;

static inline int
loop_setup(void **state)
{
	struct err err;

	(void)state;
	alarm(60); /* a test that waits in vain must not hang the run */
	worker = net_worker_new(0, &err);
	return worker != NULL ? 0 : -1;
}

static inline int
loop_teardown(void **state)
{
	(void)state;
	net_worker_free(&worker);
	return 0;
}

static inline void
loop_turn(void)
{
	net_worker_stop(worker);
	net_worker_run(worker);
}

#define WAIT_FOR(what)                                                                             \
	do {                                                                                       \
		loop_turn();                                                                       \
	} while (!(what))

/* A blocking listening socket on a free port of 127.0.0.1. */
static inline int
loopback_listen(int backlog, struct ip_endpoint *ep_r)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sin);
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char text[64];
	struct err err;

	assert_return_code(bind(fd, (struct sockaddr *)&sin, len), 0);
	assert_return_code(listen(fd, backlog), 0);
	assert_return_code(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	snprintf(text, sizeof(text), "127.0.0.1:%u", ntohs(sin.sin_port));
	assert_int_equal(ip_endpoint_parse(text, ep_r, &err), 0);
	return fd;
}

/* A blocking client socket. */
static inline int
loopback_connect(const struct ip_endpoint *ep)
{
	const int fd = socket(ep->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_return_code(connect(fd, (const struct sockaddr *)&ep->addr, ep->addr_len), 0);
	return fd;
}

#endif
