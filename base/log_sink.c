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
#define BEFORE_MS      10000 /* more than a thread needs to write what it has gathered */
#define KEEP_MAX       ((size_t)256 << 10) /* octets waiting for a socket or pipe */

/* Where lines go. */
struct place {
	unsigned id;
	enum log_target target;
	int fd;	    /* -1: the socket's owner went away, connect again */
	char *path; /* of the file or socket */
	int facility;
	uint64_t retry_at_ms;
	bool is_pipe;	 /* or a terminal: somebody has to read */
	bool is_socket;	 /* stderr is one, of a service manager say */
	bool must_ask;	 /* before each write, for it would wait */
	struct str rest; /* what must come before the next line: the end of one that was begun */
};

static struct {
	pthread_mutex_t lock;
	struct place now;
	struct place before; /* for what threads have gathered for it */
	atomic_bool has_before;
	atomic_bool is_inside_line; /* of `now` */
	uint64_t before_until_ms;
	unsigned long lost; /* and not told yet */
	atomic_ulong lost_ever;
} sink = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.now = {.target = LOG_TO_STDERR, .fd = STDERR_FILENO},
};

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
has_begun_line(const struct place *p)
{
	return p->rest.len > 1;
}

/*
 * A new file can be read by its group, whatever our umask is: administrators read logs as group adm. Without waiting,
 * for a FIFO's reader may be away, or not read; to files that means nothing.
 */
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
place_close_fd(struct place *p)
{
	if (p->fd >= 0 && p->fd != STDERR_FILENO)
		close(p->fd);
	p->fd = -1;
	lose(has_begun_line(p));
	str_clear(&p->rest);
}

static void
place_deinit(struct place *p)
{
	place_close_fd(p);
	free(p->path);
	str_deinit(&p->rest);
}

/* What is written to: only a pipe, a terminal and a stream may hold us up. */
static void
place_look(struct place *p)
{
	const bool is_stderr = p->fd == STDERR_FILENO;
	struct stat st;

	p->is_pipe = p->is_socket = p->must_ask = false;
	if ((p->target != LOG_TO_FILE && !is_stderr) || fstat(p->fd, &st) < 0)
		return;
	p->is_pipe = S_ISFIFO(st.st_mode) || (S_ISCHR(st.st_mode) && isatty(p->fd));
	if (is_stderr && !stderr_may_wait) {
		p->is_socket = S_ISSOCK(st.st_mode);
		p->must_ask = p->is_pipe && (fcntl(p->fd, F_GETFL) & O_NONBLOCK) == 0;
	}
}

/* The same file, opened once more, still ends inside a line if it did. */
static void
settle_rest(struct place *p, int fd)
{
	struct stat was, is;

	if (p->fd < 0 || fstat(p->fd, &was) < 0 || fstat(fd, &is) < 0 || was.st_dev != is.st_dev ||
		was.st_ino != is.st_ino) {
		lose(has_begun_line(p));
		str_clear(&p->rest);
	}
}

void
log_sink_unblock_stderr(void)
{
	int fd;

	pthread_mutex_lock(&sink.lock);
	stderr_may_wait = false;
	place_look(&sink.now);
	/* Not by a flag on the one we were given, which others have as well. */
	if (sink.now.must_ask) {
		fd = open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
		if (fd >= 0) {
			dup2(fd, STDERR_FILENO);
			close(fd);
			place_look(&sink.now);
		}
	}
	pthread_mutex_unlock(&sink.lock);
}

void
log_sink_forked(void)
{
	str_clear(&sink.now.rest);
	str_clear(&sink.before.rest);
	sink.is_inside_line = false;
	sink.lost = 0;
}

/* A socket or FIFO that lines go to already: that nobody is there now is no news, and tried again with each line. */
static bool
is_in_use(const struct log_conf *conf, const char *path)
{
	struct place *p = &sink.now;
	bool is_same;

	pthread_mutex_lock(&sink.lock);
	is_same = (conf->target != LOG_TO_FILE || p->is_pipe) && p->target == conf->target && p->path != NULL &&
		  strcmp(p->path, path) == 0;
	if (is_same)
		p->facility = conf->facility;
	pthread_mutex_unlock(&sink.lock);
	return is_same;
}

/* What went to the place of before stays open for a while. */
static void
change_place(const struct place *next)
{
	if (atomic_exchange(&sink.has_before, true))
		place_deinit(&sink.before);
	sink.before = sink.now;
	sink.before_until_ms = clock_ms() + BEFORE_MS;
	sink.now = *next;
	sink.now.id = sink.before.id + 1;
	settle_rest(&sink.before, next->fd);
	sink.now.rest = sink.before.rest;
	sink.before.rest = (struct str)STR_INIT;
	place_look(&sink.now);
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
	is_new = sink.now.target != conf->target;
	pthread_mutex_unlock(&sink.lock);
	if (conf->target == LOG_TO_STDERR && is_new && is_null(STDERR_FILENO))
		return err_set(err, "stderr is /dev/null; a restart can log there");
	return 0;
}

int
log_sink_open(const struct log_conf *conf, unsigned *place_r, struct err *err)
{
	struct place next = {.target = conf->target, .fd = STDERR_FILENO, .facility = conf->facility};
	const char *path = conf->path;

	if (conf->target == LOG_TO_SYSLOG || conf->target == LOG_TO_JOURNAL) {
		if (path == NULL || path[0] != '/')
			path = conf->target == LOG_TO_SYSLOG ? SYSLOG_SOCKET : JOURNAL_SOCKET;
		next.fd = socket_connect(path);
	} else if (conf->target == LOG_TO_FILE) {
		next.fd = file_open(path);
	} else {
		path = NULL;
	}
	if (next.fd < 0 && !is_in_use(conf, path))
		return open_failed(path, err);
	pthread_mutex_lock(&sink.lock);
	if (next.fd >= 0) {
		next.path = path != NULL ? xstrdup(path) : NULL;
		change_place(&next);
	}
	*place_r = sink.now.id;
	pthread_mutex_unlock(&sink.lock);
	return 0;
}

int
log_sink_reopen(struct err *err)
{
	struct place *p = &sink.now;
	int rc = 0, fd;

	pthread_mutex_lock(&sink.lock);
	if (p->target == LOG_TO_FILE) {
		fd = file_open(p->path);
		if (fd < 0) {
			rc = open_failed(p->path, err);
		} else {
			settle_rest(p, fd);
			close(p->fd);
			p->fd = fd;
			place_look(p);
		}
	}
	pthread_mutex_unlock(&sink.lock);
	return rc;
}

void
log_sink_tidy(void)
{
	if (!atomic_load_explicit(&sink.has_before, memory_order_relaxed))
		return;
	pthread_mutex_lock(&sink.lock);
	if (sink.has_before && clock_ms() >= sink.before_until_ms) {
		place_deinit(&sink.before);
		sink.has_before = false;
	}
	pthread_mutex_unlock(&sink.lock);
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
piece_len(const struct place *p, const char *data, size_t len)
{
	const char *end;

	if (!p->is_pipe || len <= PIPE_BUF)
		return len;
	end = memrchr(data, '\n', PIPE_BUF);
	return end != NULL ? (size_t)(end + 1 - data) : PIPE_BUF;
}

static ssize_t
write_some(const struct place *p, const char *data, size_t len)
{
	struct pollfd room = {.fd = p->fd, .events = POLLOUT};

	if (p->is_socket)
		return send(p->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (p->must_ask && poll(&room, 1, 0) != 1) {
		errno = EAGAIN;
		return -1;
	}
	return write(p->fd, data, piece_len(p, data, len));
}

/* Returns how many octets went; if not all, errno says why. */
static size_t
put(const struct place *p, const char *data, size_t len)
{
	size_t done = 0;
	ssize_t n;

	while (done < len) {
		n = write_some(p, data + done, len - done);
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
put_rest(struct place *p)
{
	str_drop(&p->rest, put(p, p->rest.data, p->rest.len));
	if (has_begun_line(p) && errno != EAGAIN) {
		lose(1);
		str_clear(&p->rest);
		str_addc(&p->rest, '\n');
	}
	return p->rest.len == 0;
}

/* So much of the batch was written, and perhaps not all of its line `next`. */
static bool
is_inside(const struct log_batch *b, size_t next, size_t done)
{
	return next < b->count && done > b->lines[next].offset;
}

static void
lose_all(struct log_batch *b)
{
	lose(b->count);
	log_batch_clear(b);
}

static void
lose_too_many(struct log_batch *b)
{
	if (b->text.len > KEEP_MAX)
		lose_all(b);
}

/* A disk that is full takes no more; whoever reads a pipe may read on. */
static void
write_file(struct place *p, struct log_batch *b)
{
	size_t done = put_rest(p) ? put(p, b->text.data, b->text.len) : 0;
	const bool is_later = done < b->text.len && errno == EAGAIN;
	size_t next = b->count - lines_behind(b, done);

	if (is_inside(b, next, done) && is_later) {
		str_addn(&p->rest, b->text.data + done, b->lines[next].offset + b->lines[next].len - done);
		next++;
	} else if (is_inside(b, next, done)) {
		str_addc(&p->rest, '\n');
	}
	if (!is_later)
		lose(b->count - next);
	batch_drop(b, is_later ? next : b->count);
	lose_too_many(b);
}

/* "<22>Mar  5 14:03:07 postern[512]: ", with English months whatever the locale. */
static int
syslog_head(const struct place *p, char *dst, size_t size, enum log_level level, const struct tm *tm)
{
	static const int severities[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

	return snprintf(dst, size,
		"<%d>%.3s %2d %02d:%02d:%02d postern[%d]: ", p->facility | severities[level],
		months + 3 * tm->tm_mon, tm->tm_mday, tm->tm_hour, tm->tm_min, tm->tm_sec,
		(int)getpid());
}

struct group {
	struct mmsghdr msgs[GROUP];
	struct iovec iov[GROUP][3];
	char heads[LOG_LEVEL_DEBUG + 1][64];
};

static void
group_syslog(const struct place *p, struct group *g, const struct log_batch *b, size_t first, size_t count)
{
	static const char dots[] = "...";
	int head_len[LOG_LEVEL_DEBUG + 1];
	time_t now = clock_wall();
	struct tm tm;

	localtime_r(&now, &tm);
	for (size_t i = 0; i <= LOG_LEVEL_DEBUG; i++)
		head_len[i] = syslog_head(p, g->heads[i], sizeof(g->heads[i]), (enum log_level)i, &tm);
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
send_group(const struct place *p, const struct log_batch *b, size_t first)
{
	struct group g;
	size_t count = b->count - first;

	if (count > GROUP)
		count = GROUP;
	memset(g.msgs, 0, count * sizeof(*g.msgs));
	for (size_t i = 0; i < count; i++)
		g.msgs[i].msg_hdr.msg_iov = g.iov[i];
	if (p->target == LOG_TO_SYSLOG)
		group_syslog(p, &g, b, first, count);
	else
		group_journal(&g, b, first, count);
	return sendmmsg(p->fd, g.msgs, (unsigned)count, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* At most once per RETRY_MS, since every line asks while the other side is away. */
static bool
is_connected(struct place *p)
{
	uint64_t now = clock_ms();

	if (p->fd < 0 && now >= p->retry_at_ms) {
		p->fd = socket_connect(p->path);
		if (p->fd < 0)
			p->retry_at_ms = now + RETRY_MS;
	}
	return p->fd >= 0;
}

/* Returns how many lines are dealt with; the others may be taken later. */
static size_t
send_lines(struct place *p, const struct log_batch *b)
{
	bool again = true;
	size_t done = 0;
	int n;

	while (done < b->count && is_connected(p)) {
		n = send_group(p, b, done);
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
		place_close_fd(p);
		if (!again) /* the new socket fails too */
			break;
		again = false;
	}
	return done;
}

static void
write_socket(struct place *p, struct log_batch *b)
{
	batch_drop(b, send_lines(p, b));
	lose_too_many(b);
}

static struct place *
place_of(const struct log_batch *b)
{
	if (b->place == sink.now.id)
		return &sink.now;
	return sink.has_before && b->place == sink.before.id ? &sink.before : NULL;
}

static bool
write_batch(struct log_batch *b)
{
	const unsigned long lost_before = sink.lost;
	struct place *p = place_of(b);

	if (p == NULL)
		lose_all(b);
	else if (p->target == LOG_TO_SYSLOG || p->target == LOG_TO_JOURNAL)
		write_socket(p, b);
	else
		write_file(p, b);
	return p != NULL && sink.lost == lost_before && b->count == 0 && !has_begun_line(p);
}

void
log_sink_write(struct log_batch *b, unsigned long *lost_r)
{
	bool is_through;

	pthread_mutex_lock(&sink.lock);
	is_through = write_batch(b);
	sink.is_inside_line = has_begun_line(&sink.now);
	/* Reported only once lines get through again. */
	if (lost_r != NULL) {
		*lost_r = is_through ? sink.lost : 0;
		sink.lost -= *lost_r;
	}
	pthread_mutex_unlock(&sink.lock);
}

bool
log_sink_end_line(void)
{
	bool is_over;

	if (!atomic_load_explicit(&sink.is_inside_line, memory_order_relaxed))
		return true;
	pthread_mutex_lock(&sink.lock);
	is_over = put_rest(&sink.now);
	sink.is_inside_line = has_begun_line(&sink.now);
	pthread_mutex_unlock(&sink.lock);
	return is_over;
}

void
log_sink_forget(struct log_batch *b)
{
	pthread_mutex_lock(&sink.lock);
	lose_all(b);
	pthread_mutex_unlock(&sink.lock);
}

unsigned long
log_sink_lost(void)
{
	return atomic_load_explicit(&sink.lost_ever, memory_order_relaxed);
}
