/*
 * base/log_sink.c - batches of lines into stderr, a file, or the sockets of syslog and the journal.
 *
 * The journal is spoken to by its "native protocol", which is one datagram of fields for each entry:
 * too little to need libsystemd for.
 */
#include "base/log_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
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
#define KEEP_MAX       ((size_t)256 << 10) /* octets waiting for a socket or pipe */

static struct {
	pthread_mutex_t lock;
	enum log_target target;
	int fd;     /* -1: the socket's owner went away, connect again */
	char *path; /* of the file or socket */
	int facility;
	uint64_t retry_at_ms;
	bool is_pipe;	 /* or a terminal: somebody has to read */
	bool is_socket;	 /* stderr is one, of a service manager say */
	bool must_ask;	 /* before each write, for it would wait */
	struct str rest; /* what must come before the next line: the end of one that was begun */
	unsigned long lost; /* and not told yet */
	atomic_ulong lost_ever;
} sink = {.lock = PTHREAD_MUTEX_INITIALIZER, .target = LOG_TO_STDERR, .fd = STDERR_FILENO};

static bool stderr_may_wait = true;

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

static void
lose(size_t lines)
{
	sink.lost += lines;
	atomic_fetch_add_explicit(&sink.lost_ever, lines, memory_order_relaxed);
}

static bool
has_begun_line(void)
{
	return sink.rest.len > 1;
}

/* A new file can be read by its group, whatever our umask is: administrators read logs as group adm. A FIFO is
 * neither waited for now, until it has a reader, nor while that does not read; to files this means nothing. */
static int
file_open(const char *path)
{
	const int flags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	int fd = open(path, flags);

	if (fd >= 0 || errno != ENOENT)
		return fd;
	fd = open(path, flags | O_CREAT, 0640);
	if (fd >= 0 && fchmod(fd, 0640) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static int
open_failed(const char *path, struct err *err)
{
	int saved = errno;
	struct stat st;

	if (saved == ENXIO && stat(path, &st) == 0 && S_ISFIFO(st.st_mode))
		return err_set_temp(err, "log %s: nobody reads this FIFO", path);
	errno = saved;
	return err_sys(err, "log %s", path);
}

static void
sink_close(void)
{
	if (sink.fd >= 0 && sink.fd != STDERR_FILENO)
		close(sink.fd);
	sink.fd = -1;
	lose(has_begun_line());
	str_clear(&sink.rest);
}

/* What is written to: only a pipe, a terminal and a stream may hold us up. */
static void
sink_look(void)
{
	const bool is_stderr = sink.fd == STDERR_FILENO;
	struct stat st;

	sink.is_pipe = sink.is_socket = sink.must_ask = false;
	if ((sink.target != LOG_TO_FILE && !is_stderr) || fstat(sink.fd, &st) < 0)
		return;
	sink.is_pipe = S_ISFIFO(st.st_mode) || (S_ISCHR(st.st_mode) && isatty(sink.fd));
	if (is_stderr && !stderr_may_wait) {
		sink.is_socket = S_ISSOCK(st.st_mode);
		sink.must_ask = sink.is_pipe && (fcntl(sink.fd, F_GETFL) & O_NONBLOCK) == 0;
	}
}

static void
sink_use(int fd)
{
	sink_close();
	sink.fd = fd;
	sink_look();
}

void
log_sink_unblock_stderr(void)
{
	int fd;

	pthread_mutex_lock(&sink.lock);
	stderr_may_wait = false;
	sink_look();
	/* Not by a flag on the one we were given, which others have as well. */
	if (sink.must_ask) {
		fd = open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
		if (fd >= 0) {
			dup2(fd, STDERR_FILENO);
			close(fd);
			sink_look();
		}
	}
	pthread_mutex_unlock(&sink.lock);
}

void
log_sink_forked(void)
{
	str_clear(&sink.rest);
	sink.lost = 0;
}

/* A socket or FIFO that lines go to already: that nobody is there now is no news, and tried again with each line. */
static bool
is_in_use(const struct log_conf *conf, const char *path)
{
	bool is_same;

	pthread_mutex_lock(&sink.lock);
	is_same = (conf->target != LOG_TO_FILE || sink.is_pipe) && sink.target == conf->target && sink.path != NULL &&
		  strcmp(sink.path, path) == 0;
	if (is_same)
		sink.facility = conf->facility;
	pthread_mutex_unlock(&sink.lock);
	return is_same;
}

static bool
is_null(int fd)
{
	struct stat st, null;

	return fstat(fd, &st) == 0 && stat("/dev/null", &null) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == null.st_rdev;
}

/* Whose stderr was /dev/null from the beginning wants it so. */
int
log_sink_check(const struct log_conf *conf, struct err *err)
{
	bool is_new;

	pthread_mutex_lock(&sink.lock);
	is_new = sink.target != conf->target;
	pthread_mutex_unlock(&sink.lock);
	if (conf->target == LOG_TO_STDERR && is_new && is_null(STDERR_FILENO))
		return err_set(err, "stderr is /dev/null; a restart can log there");
	return 0;
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
		return open_failed(path, err);
	pthread_mutex_lock(&sink.lock);
	free(sink.path);
	sink.path = path != NULL ? xstrdup(path) : NULL;
	sink.target = conf->target;
	sink.facility = conf->facility;
	sink_use(fd);
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
		if (fd < 0)
			rc = open_failed(sink.path, err);
		else
			sink_use(fd);
	}
	pthread_mutex_unlock(&sink.lock);
	return rc;
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

/* What a pipe takes in one piece, so that lines of other processes do not get into ours. */
static size_t
piece_len(const char *data, size_t len)
{
	const char *end;

	if (!sink.is_pipe || len <= PIPE_BUF)
		return len;
	end = memrchr(data, '\n', PIPE_BUF);
	return end != NULL ? (size_t)(end + 1 - data) : PIPE_BUF;
}

static ssize_t
write_some(const char *data, size_t len)
{
	struct pollfd room = {.fd = sink.fd, .events = POLLOUT};

	if (sink.is_socket)
		return send(sink.fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sink.must_ask && poll(&room, 1, 0) != 1) {
		errno = EAGAIN;
		return -1;
	}
	return write(sink.fd, data, piece_len(data, len));
}

/* Returns how many octets went; if not all, errno says why. */
static size_t
put(const char *data, size_t len)
{
	size_t done = 0;
	ssize_t n;

	while (done < len) {
		n = write_some(data + done, len - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

/* What cannot be completed at least ends, so that the next line begins where a line begins. */
static bool
put_rest(void)
{
	str_drop(&sink.rest, put(sink.rest.data, sink.rest.len));
	if (has_begun_line() && errno != EAGAIN) {
		lose(1);
		str_clear(&sink.rest);
		str_addc(&sink.rest, '\n');
	}
	return sink.rest.len == 0;
}

/* So much of the batch was written, and perhaps not all of its line `next`. */
static bool
is_inside(const struct log_batch *b, size_t next, size_t done)
{
	return next < b->count && done > b->lines[next].offset;
}

static void
lose_too_many(struct log_batch *b)
{
	if (b->text.len <= KEEP_MAX)
		return;
	lose(b->count);
	log_batch_clear(b);
}

/* A disk that is full takes no more; whoever reads a pipe may read on. */
static void
write_file(struct log_batch *b)
{
	size_t done = put_rest() ? put(b->text.data, b->text.len) : 0;
	const bool is_later = done < b->text.len && errno == EAGAIN;
	size_t next = b->count - lines_behind(b, done);

	if (is_inside(b, next, done) && is_later) {
		str_addn(&sink.rest, b->text.data + done, b->lines[next].offset + b->lines[next].len - done);
		next++;
	} else if (is_inside(b, next, done)) {
		str_addc(&sink.rest, '\n');
	}
	if (!is_later)
		lose(b->count - next);
	batch_drop(b, is_later ? next : b->count);
	lose_too_many(b);
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
	lose_too_many(b);
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
	if (sink.lost == lost_before && b->count == 0 && !has_begun_line()) {
		*lost_r = sink.lost;
		sink.lost = 0;
	}
	pthread_mutex_unlock(&sink.lock);
}

void
log_sink_forget(struct log_batch *b)
{
	pthread_mutex_lock(&sink.lock);
	lose(b->count);
	pthread_mutex_unlock(&sink.lock);
	log_batch_clear(b);
}

unsigned long
log_sink_lost(void)
{
	return atomic_load_explicit(&sink.lost_ever, memory_order_relaxed);
}
