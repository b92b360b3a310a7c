/*
 * bench/lat.c - latency of one session that sends one message after the other.
 *
 * usage: lat PORT COUNT SIZE reuse|connect
 *
 * reuse takes the time from MAIL to the reply to the final dot, connect from connect() to it. Stops
 * after 6 seconds. Prints microseconds: n=... p50=... p99=... max=...
 */
#include "bench/smtp.h"

#define SECONDS_MAX 6.0

static char *
make_message(size_t size, size_t *len_r)
{
	static const char head[] =
		"From: <a@example.com>\r\nTo: <b@example.com>\r\nSubject: t\r\n\r\n";
	static const char line[] = "0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRST\r\n";
	char *msg = malloc(size + sizeof(head) + sizeof(line) + 3);
	size_t len = sizeof(head) - 1;

	if (msg == NULL)
		exit(1);
	memcpy(msg, head, len);
	while (len < size) {
		memcpy(msg + len, line, sizeof(line) - 1);
		len += sizeof(line) - 1;
	}
	memcpy(msg + len, ".\r\n", 3);
	*len_r = len + 3;
	return msg;
}

static int
greet(int port)
{
	int fd = smtp_connect(port);

	if (fd < 0 || smtp_reply(fd) != 220) {
		fprintf(stderr, "no greeting at port %d\n", port);
		exit(1);
	}
	smtp_command(fd, "EHLO client.example.com\r\n", 250);
	return fd;
}

static void
send_message(int fd, const char *msg, size_t len)
{
	int code;

	smtp_command(fd, "MAIL FROM:<a@example.com>\r\n", 250);
	smtp_command(fd, "RCPT TO:<b@example.com>\r\n", 250);
	smtp_command(fd, "DATA\r\n", 354);
	code = smtp_write(fd, msg, len) ? smtp_reply(fd) : -1;
	if (code != 250) {
		fprintf(stderr, "after the final dot: %d\n", code);
		exit(1);
	}
}

static void
hang_up(int fd)
{
	smtp_command(fd, "QUIT\r\n", 221);
	close(fd);
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

int
main(int argc, char **argv)
{
	int port, count, warm, n = 0, fd = -1;
	size_t len;
	bool reuse;
	char *msg;
	double *took, end;

	if (argc != 5 || (count = atoi(argv[2])) < 1)
		return 2;
	port = atoi(argv[1]);
	msg = make_message((size_t)atol(argv[3]), &len);
	reuse = strcmp(argv[4], "reuse") == 0;
	took = calloc((size_t)count, sizeof(*took));
	if (took == NULL)
		return 1;
	warm = count / 20 + 3;
	if (reuse)
		fd = greet(port);
	end = smtp_now() + SECONDS_MAX;
	for (int i = -warm; i < count && (n == 0 || smtp_now() < end); i++) {
		double start = smtp_now();

		if (!reuse)
			fd = greet(port);
		send_message(fd, msg, len);
		if (i >= 0)
			took[n++] = smtp_now() - start;
		if (!reuse)
			hang_up(fd);
	}
	if (reuse)
		hang_up(fd);
	qsort(took, (size_t)n, sizeof(*took), compare);
	printf("n=%d p50=%.0f p99=%.0f max=%.0f\n", n, took[n / 2] * 1e6, took[n * 99 / 100] * 1e6,
		took[n - 1] * 1e6);
	return 0;
}
