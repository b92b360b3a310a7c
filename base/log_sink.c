/*
 * base/log_sink.c - batches of lines into stderr, a file, or the sockets of syslog and the journal.
 *
 * The journal is spoken to by its "native protocol", which is one datagram of fields for each entry:
 * too little to need libsystemd for.
 */
#include "base/log_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/xalloc.h"

#define SYSLOG_SOCKET  "/dev/log"
#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define GROUP	       64 /* datagrams per system call */
#define RETRY_MS       1000
#define KEEP_MAX       ((size_t)256 << 10) /* octets waiting for a socket */

static struct {
	pthread_mutex_t lock;
	enum log_target target;
	int fd;     /* -1: the socket's owner went away, connect again */
	char *path; /* of the file or socket */
	int facility;
	uint64_t retry_at_ms;
	bool is_torn; /* the file ends inside a line: its disk was full */
	unsigned long lost; /* and not told yet */
	atomic_ulong lost_ever;
} sink = {.lock = PTHREAD_MUTEX_INITIALIZER, .target = LOG_TO_STDERR, .fd = STDERR_FILENO};

void
log_batch_add_line(struct log_batch *b, size_t offset, enum log_level level)
{
	if (b->count == b->size) {
		b->size = b->size != 0 ? b->size * 2 : 16;
		b->lines = xrealloc(b->lines, b->size * sizeof(*b->lines));
	}
	b->lines[b->count++] = (struct log_line){offset, b->text.len - offset, level};
}

void
log_batch_clear(struct log_batch *b)
{
	str_clear(&b->text);
	b->count = 0;
}

void
log_batch_deinit(struct log_batch *b)
{
	str_deinit(&b->text);
	free(b->lines);
	*b = (struct log_batch){.text = STR_INIT};
}

/* Forgets the first lines, which are dealt with. */
static void
batch_drop(struct log_batch *b, size_t lines)
{
	size_t i, octets;

	if (lines >= b->count) {
		log_batch_clear(b);
		return;
	}
	octets = b->lines[lines].offset;
	b->count -= lines;
	memmove(b->lines, b->lines + lines, b->count * sizeof(*b->lines));
	for (i = 0; i < b->count; i++)
		b->lines[i].offset -= octets;
	str_drop(&b->text, octets);
}

static int
socket_connect(const char *path)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd;

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0) {
		int saved = errno;

		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

/* A new file can be read by its group, whatever our umask is: administrators read logs as group adm. */
static int
file_open(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY);

	if (fd >= 0 || errno != ENOENT)
		return fd;
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
	if (fd >= 0 && fchmod(fd, 0640) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static void
sink_close(void)
{
	if (sink.fd >= 0 && sink.fd != STDERR_FILENO)
		close(sink.fd);
	sink.fd = -1;
	sink.is_torn = false;
}

/* A socket that lines go to already: that nobody listens there now is no news, and tried again with each line. */
static bool
is_in_use(const struct log_conf *conf, const char *path)
{
	bool is_same;

	pthread_mutex_lock(&sink.lock);
	is_same = conf->target != LOG_TO_FILE && sink.target == conf->target && sink.path != NULL &&
		  strcmp(sink.path, path) == 0;
	if (is_same)
		sink.facility = conf->facility;
	pthread_mutex_unlock(&sink.lock);
	return is_same;
}

int
log_sink_open(const struct log_conf *conf, struct err *err)
{
	const char *path = conf->path;
	int fd = STDERR_FILENO;

	if (conf->target == LOG_TO_SYSLOG || conf->target == LOG_TO_JOURNAL) {
		if (path == NULL || path[0] != '/')
			path = conf->target == LOG_TO_SYSLOG ? SYSLOG_SOCKET : JOURNAL_SOCKET;
		fd = socket_connect(path);
	} else if (conf->target == LOG_TO_FILE) {
		fd = file_open(path);
	} else {
		path = NULL;
	}
	if (fd < 0 && is_in_use(conf, path))
		return 0;
	if (fd < 0)
		return err_sys(err, "log %s", path);
	pthread_mutex_lock(&sink.lock);
	sink_close();
	free(sink.path);
	sink.path = path != NULL ? xstrdup(path) : NULL;
	sink.target = conf->target;
	sink.facility = conf->facility;
	sink.fd = fd;
	pthread_mutex_unlock(&sink.lock);
	return 0;
}

int
log_sink_reopen(struct err *err)
{
	int rc = 0, fd;

	pthread_mutex_lock(&sink.lock);
	if (sink.target == LOG_TO_FILE) {
		fd = file_open(sink.path);
		if (fd < 0) {
			rc = err_sys(err, "log %s", sink.path);
		} else {
			sink_close();
			sink.fd = fd;
		}
	}
	pthread_mutex_unlock(&sink.lock);
	return rc;
}

static void
lose(size_t lines)
{
	sink.lost += lines;
	atomic_fetch_add_explicit(&sink.lost_ever, lines, memory_order_relaxed);
}

/* Lines of which not all octets were written. */
static size_t
lines_behind(const struct log_batch *b, size_t written)
{
	size_t lost = 0;

	while (lost < b->count &&
		b->lines[b->count - lost - 1].offset + b->lines[b->count - lost - 1].len > written)
		lost++;
	return lost;
}

/* Returns how many octets went; the others cannot be written now. */
static size_t
put(const char *data, size_t len)
{
	size_t done = 0;
	ssize_t n;

	while (done < len) {
		n = write(sink.fd, data + done, len - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

/* The line that was cut off has been counted as lost; the next one begins at the begin of a line. */
static bool
end_torn_line(void)
{
	if (sink.is_torn && put("\n", 1) == 1)
		sink.is_torn = false;
	return !sink.is_torn;
}

static void
write_file(struct log_batch *b)
{
	size_t done = end_torn_line() ? put(b->text.data, b->text.len) : 0;

	if (done > 0)
		sink.is_torn = b->text.data[done - 1] != '\n';
	lose(lines_behind(b, done));
	log_batch_clear(b);
}

/* "<22>Mar  5 14:03:07 postern[512]: ", with English months whatever the locale. */
static int
syslog_head(char *dst, size_t size, enum log_level level, const struct tm *tm)
{
	static const int severities[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

	return snprintf(dst, size,
		"<%d>%.3s %2d %02d:%02d:%02d postern[%d]: ", sink.facility | severities[level],
		months + 3 * tm->tm_mon, tm->tm_mday, tm->tm_hour, tm->tm_min, tm->tm_sec,
		(int)getpid());
}

struct group {
	struct mmsghdr msgs[GROUP];
	struct iovec iov[GROUP][3];
	char heads[LOG_LEVEL_DEBUG + 1][64];
};

static void
group_syslog(struct group *g, const struct log_batch *b, size_t first, size_t count)
{
	static const char dots[] = "...";
	int head_len[LOG_LEVEL_DEBUG + 1];
	time_t now = clock_wall();
	struct tm tm;

	localtime_r(&now, &tm);
	for (size_t i = 0; i <= LOG_LEVEL_DEBUG; i++)
		head_len[i] = syslog_head(g->heads[i], sizeof(g->heads[i]), (enum log_level)i, &tm);
	for (size_t i = 0; i < count; i++) {
		const struct log_line *line = &b->lines[first + i];
		size_t len = line->len - 1;
		bool cut = len > SYSLOG_LINE_MAX;

		if (cut) /* not even its keys alone are short enough */
			len = SYSLOG_LINE_MAX - (sizeof(dots) - 1);
		g->iov[i][0] = (struct iovec){g->heads[line->level], (size_t)head_len[line->level]};
		g->iov[i][1] = (struct iovec){b->text.data + line->offset, len};
		g->iov[i][2] = (struct iovec){(char *)dots, sizeof(dots) - 1};
		g->msgs[i].msg_hdr.msg_iovlen = cut ? 3 : 2;
	}
}

/* The line is the datagram already. */
static void
group_journal(struct group *g, const struct log_batch *b, size_t first, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct log_line *line = &b->lines[first + i];

		g->iov[i][0] = (struct iovec){b->text.data + line->offset, line->len};
		g->msgs[i].msg_hdr.msg_iovlen = 1;
	}
}

/* Sends up to GROUP lines. Returns how many went, or -1 with errno. */
static int
send_group(const struct log_batch *b, size_t first)
{
	struct group g;
	size_t count = b->count - first;

	if (count > GROUP)
		count = GROUP;
	memset(g.msgs, 0, count * sizeof(*g.msgs));
	for (size_t i = 0; i < count; i++)
		g.msgs[i].msg_hdr.msg_iov = g.iov[i];
	if (sink.target == LOG_TO_SYSLOG)
		group_syslog(&g, b, first, count);
	else
		group_journal(&g, b, first, count);
	return sendmmsg(sink.fd, g.msgs, (unsigned)count, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* At most once per RETRY_MS, since every line asks while the other side is away. */
static bool
is_connected(void)
{
	uint64_t now = clock_ms();

	if (sink.fd < 0 && now >= sink.retry_at_ms) {
		sink.fd = socket_connect(sink.path);
		if (sink.fd < 0)
			sink.retry_at_ms = now + RETRY_MS;
	}
	return sink.fd >= 0;
}

/* Returns how many lines are dealt with; the others may be taken later. */
static size_t
send_lines(const struct log_batch *b)
{
	bool again = true;
	size_t done = 0;
	int n;

	while (done < b->count && is_connected()) {
		n = send_group(b, done);
		if (n > 0) {
			done += (size_t)n;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno == EAGAIN || errno == ENOBUFS)
			break;
		if (errno == EMSGSIZE) { /* it never will be taken, and must not hold up the others */
			lose(1);
			done++;
			continue;
		}
		sink_close();
		if (!again) /* the new socket fails too */
			break;
		again = false;
	}
	return done;
}

static void
write_socket(struct log_batch *b)
{
	batch_drop(b, send_lines(b));
	if (b->text.len > KEEP_MAX) {
		lose(b->count);
		log_batch_clear(b);
	}
}

void
log_sink_write(struct log_batch *b, unsigned long *lost_r)
{
	unsigned long lost_before;

	pthread_mutex_lock(&sink.lock);
	lost_before = sink.lost;
	if (sink.target == LOG_TO_SYSLOG || sink.target == LOG_TO_JOURNAL)
		write_socket(b);
	else
		write_file(b);
	/* Reported only once lines get through again. */
	*lost_r = 0;
	if (sink.lost == lost_before && b->count == 0) {
		*lost_r = sink.lost;
		sink.lost = 0;
	}
	pthread_mutex_unlock(&sink.lock);
}

unsigned long
log_sink_lost(void)
{
	return atomic_load_explicit(&sink.lost_ever, memory_order_relaxed);
}
