/*
 * bench/smtp.h - what the measuring clients share: a blocking connection that reads replies.
 */
#ifndef BENCH_SMTP_H
#define BENCH_SMTP_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* Seconds, monotonic. */
static inline double
smtp_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Connects to 127.0.0.1 without Nagle, with 30 s of patience for each read; -1 with errno. */
static inline int
smtp_connect(int port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((in_port_t)port)};
	struct timeval patience = {.tv_sec = 30};
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static inline bool
smtp_write(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n <= 0)
			return false;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

/* The code of the last line of a reply, or -1; receive(from) is like read(). Only one reply may be under way. */
static inline int
smtp_reply_from(ssize_t (*receive)(void *from, void *buf, size_t size), void *from)
{
	char buf[8192];
	size_t len = 0;

	while (len < sizeof(buf)) {
		ssize_t n = receive(from, buf + len, sizeof(buf) - len);
		char *line = buf, *end;

		if (n <= 0)
			return -1;
		len += (size_t)n;
		while ((end = memchr(line, '\n', (size_t)(buf + len - line))) != NULL) {
			if (end - line >= 4 && line[3] != '-')
				return atoi(line);
			line = end + 1;
		}
	}
	return -1;
}

static inline ssize_t
smtp_read(void *fd, void *buf, size_t size)
{
	return read(*(int *)fd, buf, size);
}

static inline int
smtp_reply(int fd)
{
	return smtp_reply_from(smtp_read, &fd);
}

/* Sends a line and takes its reply; ends the program when it is not of the class wanted. */
static inline void
smtp_command(int fd, const char *line, int want)
{
	int code = smtp_write(fd, line, strlen(line)) ? smtp_reply(fd) : -1;

	if (code / 100 != want / 100) {
		fprintf(stderr, "after %.*s: %d\n", (int)strcspn(line, "\r\n"), line, code);
		exit(1);
	}
}

#endif
