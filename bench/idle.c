/*
 * bench/idle.c - holds many sessions open that have said EHLO and nothing more.
 *
 * usage: idle PORT COUNT [tls]
 *
 * Prints "open N" when all have their reply, and lets go of them when its input ends.
 */
#include "bench/smtp.h"

#include <openssl/ssl.h>
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

static const char ehlo[] = "EHLO client.example.com\r\n";

static bool
say_ehlo(int fd)
{
	return smtp_reply(fd) == 220 && smtp_write(fd, ehlo, sizeof(ehlo) - 1) && smtp_reply(fd) == 250;
}

static ssize_t
read_sealed(void *ssl, void *buf, size_t size)
{
	return SSL_read(ssl, buf, (int)size);
}

/* Our end of the session is forgotten afterwards: the socket stays open, and nothing more is said. */
static bool
say_ehlo_sealed(SSL_CTX *ctx, int fd)
{
	SSL *ssl = SSL_new(ctx);
	const bool ok = ssl != NULL && SSL_set_fd(ssl, fd) == 1 && SSL_connect(ssl) == 1 &&
			smtp_reply_from(read_sealed, ssl) == 220 &&
			SSL_write(ssl, ehlo, sizeof(ehlo) - 1) == sizeof(ehlo) - 1 &&
			smtp_reply_from(read_sealed, ssl) == 250;

	SSL_free(ssl);
	return ok;
}

static bool
open_session(SSL_CTX *ctx, int port)
{
	const int fd = smtp_connect(port);

	return fd >= 0 && (ctx != NULL ? say_ehlo_sealed(ctx, fd) : say_ehlo(fd));
}

int
main(int argc, char **argv)
{
	int n = 0;
	char buf[16];
	SSL_CTX *ctx = NULL;

	if (argc != 3 && (argc != 4 || strcmp(argv[3], "tls") != 0))
		return 2;
	if (argc == 4)
		ctx = SSL_CTX_new(TLS_client_method());
	raise_descriptor_limit();
	while (n < atoi(argv[2]) && open_session(ctx, atoi(argv[1])))
		n++;
	printf("open %d\n", n);
	fflush(stdout);
	while (read(STDIN_FILENO, buf, sizeof(buf)) > 0)
		continue;
	return 0;
}
