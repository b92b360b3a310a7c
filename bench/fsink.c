/*
 * bench/fsink.c - a fast SMTP sink: takes everything and only looks for the end of data.
 *
 * smtp-sink walks content octet by octet and is the limit itself from 1 MiB on.
 *
 * usage: fsink PORT COUNTER
 *
 * COUNTER is a file; its first eight octets are the number of messages taken, in host order.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_MAX  (256 * 1024)
#define TAIL_MAX  4 /* octets of CRLF.CRLF that an earlier read may have brought */
#define LINE_LEN  4096
#define REPLY_LEN 8192

struct client {
	int fd;
	bool in_data;
	size_t len;          /* of line, or of tail while in_data */
	char line[LINE_LEN]; /* the beginning of a command, or the tail of what was read */
};

static char space[TAIL_MAX + READ_MAX];
static char *const input = space + TAIL_MAX; /* the tail is put in front of what is read */
static char replies[REPLY_LEN];
static size_t replies_len;
static volatile uint64_t *taken;

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

static void
say(const char *text)
{
	size_t len = strlen(text);

	if (replies_len + len <= sizeof(replies)) {
		memcpy(replies + replies_len, text, len);
		replies_len += len;
	}
}

/* Looks for the end of data; returns the octets taken from data. */
static size_t
take_data(struct client *c, char *data, size_t len)
{
	char *from = data - c->len;
	size_t span = c->len + len;
	char *end;

	memcpy(from, c->line, c->len);
	end = memmem(from, span, "\r\n.\r\n", 5);
	if (end == NULL) {
		c->len = span < TAIL_MAX ? span : TAIL_MAX;
		memcpy(c->line, from + span - c->len, c->len);
		return len;
	}
	c->in_data = false;
	c->len = 0;
	++*taken;
	say("250 2.0.0 Ok\r\n");
	return (size_t)(end + 5 - data);
}

/* False: the client said QUIT. */
static bool
obey(struct client *c)
{
	if (strncasecmp(c->line, "EHLO", 4) == 0) {
		say("250-fsink\r\n250-PIPELINING\r\n250-SIZE 0\r\n250-8BITMIME\r\n"
		    "250 ENHANCEDSTATUSCODES\r\n");
	} else if (strncasecmp(c->line, "DATA", 4) == 0) {
		say("354 go ahead\r\n");
		c->in_data = true;
		memcpy(c->line, "\r\n", 2); /* a dot may be the first octet */
		c->len = 2;
		return true;
	} else if (strncasecmp(c->line, "QUIT", 4) == 0) {
		say("221 2.0.0 Bye\r\n");
		return false;
	} else {
		say("250 2.0.0 Ok\r\n");
	}
	c->len = 0;
	return true;
}

/* Takes a piece of a command line, obeys it when it is complete. Returns the octets taken, 0 at
 * QUIT. */
static size_t
take_command(struct client *c, const char *data, size_t len)
{
	const char *end = memchr(data, '\n', len);
	size_t n = end != NULL ? (size_t)(end + 1 - data) : len;

	if (c->len + n > sizeof(c->line))
		return 0;
	memcpy(c->line + c->len, data, n);
	c->len += n;
	return end == NULL || obey(c) ? n : 0;
}

/* All that was read; false when the connection is to be closed. */
static bool
feed(struct client *c, char *data, size_t len)
{
	while (len > 0) {
		size_t n = c->in_data ? take_data(c, data, len) : take_command(c, data, len);

		if (n == 0)
			return false;
		data += n;
		len -= n;
	}
	return true;
}

static void
serve(struct client *c)
{
	ssize_t n = read(c->fd, input, READ_MAX);
	bool go_on;

	if (n < 0 && errno == EAGAIN)
		return;
	replies_len = 0;
	go_on = n > 0 && feed(c, input, (size_t)n);
	if (replies_len > 0 && write(c->fd, replies, replies_len) != (ssize_t)replies_len)
		go_on = false;
	if (go_on)
		return;
	close(c->fd);
	free(c);
}

static void
accept_clients(int epoll, int listener)
{
	static const char greeting[] = "220 fsink ESMTP\r\n";
	int fd, one = 1;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct client *c = calloc(1, sizeof(*c));
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};

		if (c == NULL)
			die("calloc");
		c->fd = fd;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (write(fd, greeting, sizeof(greeting) - 1) < 0 ||
			epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
			die("client");
	}
}

static int
listen_at(int port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((in_port_t)port)};
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 4096) < 0)
		die("listen");
	return fd;
}

static void
open_counter(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0 || ftruncate(fd, sizeof(*taken)) < 0)
		die(path);
	taken = mmap(NULL, sizeof(*taken), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (taken == MAP_FAILED)
		die("mmap");
	close(fd);
}

int
main(int argc, char **argv)
{
	struct epoll_event events[256], event = {.events = EPOLLIN};
	struct rlimit limit;
	int listener, epoll;

	if (argc != 3)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	open_counter(argv[2]);
	listener = listen_at(atoi(argv[1]));
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) < 0)
		die("epoll");
	for (;;) {
		int n = epoll_wait(epoll, events, 256, -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == NULL)
				accept_clients(epoll, listener);
			else
				serve(events[i].data.ptr);
		}
	}
}
