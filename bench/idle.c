/*
 * bench/idle.c - holds many sessions open that have said EHLO and nothing more.
 *
 * usage: idle PORT COUNT
 *
 * Prints "open N" when all have their reply, and lets go of them when its input ends.
 */
#include "bench/smtp.h"

#include <sys/resource.h>

static void
raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static bool
open_session(int port)
{
	static const char ehlo[] = "EHLO client.example.com\r\n";
	int fd = smtp_connect(port);

	return fd >= 0 && smtp_reply(fd) == 220 && smtp_write(fd, ehlo, sizeof(ehlo) - 1) &&
	       smtp_reply(fd) == 250;
}

int
main(int argc, char **argv)
{
	int n = 0;
	char buf[16];

	if (argc != 3)
		return 2;
	raise_descriptor_limit();
	while (n < atoi(argv[2]) && open_session(atoi(argv[1])))
		n++;
	printf("open %d\n", n);
	fflush(stdout);
	while (read(STDIN_FILENO, buf, sizeof(buf)) > 0)
		continue;
	return 0;
}
