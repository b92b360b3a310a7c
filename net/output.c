/*
 * net/output.c - sending memory and file ranges in order, keeping what the socket does not take.
 *
 * Corked output is gathered in a buffer of the worker. When it grows too large for that, or a file
 * range comes, it leaves at once with TCP_CORK on, and uncork takes that off: so segments are
 * filled over the joints, and nothing is held back longer than the cork.
 */
#include "net/output.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/xalloc.h"
#include "net/reason.h"
#include "net/tls_conn.h"

#define IOV_MOST   64            /* per sendmsg */
#define PIECE_SIZE (16 * 1024)   /* of memory that waits, at least */
#define FAIR_SHARE (1024 * 1024) /* per flush: a fast reader must not starve the others */
#define SEALED_RANGE (128 * 1024) /* of a file, before the socket is asked whether it takes more */

#define ANSWERS_MOST (16 * 1024) /* of TLS, that nobody reads */

static const char too_short[] = "the file is shorter than what was to be sent of it";

/* Memory: data[at .. at + len). A file range: fd is not -1, and at is the offset in it. */
struct net_piece {
	TAILQ_ENTRY(net_piece) next;
	int fd;
	off_t at;
	size_t len;
	size_t size; /* of data */
	char data[];
};

static size_t
iov_total(const struct iovec *iov, int count)
{
	size_t total = 0;

	for (int i = 0; i < count; i++)
		total += iov[i].iov_len;
	return total;
}

static void
drop_pieces(struct net_output *o)
{
	struct net_piece *p;

	while ((p = TAILQ_FIRST(&o->pieces)) != NULL) {
		TAILQ_REMOVE(&o->pieces, p, next);
		free(p);
	}
	o->waiting = 0;
}

static void
release_gather(struct net_output *o)
{
	if (o->gather != NULL) {
		o->gather->owner = NULL;
		o->gather->len = 0;
	}
	o->gather = NULL;
}

static void
drop_rest(struct net_output *o)
{
	free(o->rest);
	o->rest = NULL;
	o->rest_at = 0;
	o->rest_len = 0;
}

static void
fail(struct net_output *o, const char *words)
{
	o->error = words;
	release_gather(o);
	drop_pieces(o);
	drop_rest(o);
}

/* Octets sent, 0 when the socket is full, -1 after fail(). */
static ssize_t
sent_or_failed(struct net_output *o, ssize_t n)
{
	if (n >= 0)
		return n;
	if (errno == EAGAIN)
		return 0;
	fail(o, net_reason(errno));
	return -1;
}

static ssize_t
send_clear(struct net_output *o, const struct iovec *iov, int count)
{
	const struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
	ssize_t n;

	do {
		n = sendmsg(o->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	return sent_or_failed(o, n);
}

/* ---- through TLS ---- */

/* False: the socket is full, or it failed. */
static bool
send_rest(struct net_output *o)
{
	struct iovec iov;
	ssize_t n;

	if (o->rest_len == 0)
		return true;
	iov.iov_base = o->rest + o->rest_at;
	iov.iov_len = o->rest_len;
	n = send_clear(o, &iov, 1);
	if (n < 0)
		return false;
	o->rest_at += (size_t)n;
	o->rest_len -= (size_t)n;
	if (o->rest_len > 0)
		return false;
	free(o->rest);
	o->rest = NULL;
	o->rest_at = 0;
	o->answers = 0;
	return true;
}

static void
keep_sealed(struct net_output *o, const char *data, size_t len)
{
	if (len == 0)
		return;
	if (o->rest_at > 0)
		memmove(o->rest, o->rest + o->rest_at, o->rest_len);
	o->rest_at = 0;
	o->rest = xrealloc(o->rest, o->rest_len + len);
	memcpy(o->rest + o->rest_len, data, len);
	o->rest_len += len;
}

void
net_output_push_sealed(struct net_output *o)
{
	struct str *sealed = &o->buffers->sealed;
	const struct iovec iov = {sealed->data, sealed->len};
	ssize_t n = 0;

	if (sealed->len == 0)
		return;
	if (o->error == NULL && o->rest_len == 0)
		n = send_clear(o, &iov, 1);
	if (n >= 0 && o->error == NULL)
		keep_sealed(o, sealed->data + n, sealed->len - (size_t)n);
	str_clear(sealed);
}

void
net_output_push_answers(struct net_output *o)
{
	if (o->rest_len > 0)
		o->answers += o->buffers->sealed.len;
	net_output_push_sealed(o);
	if (o->answers > ANSWERS_MOST && o->error == NULL)
		fail(o, "TLS: answers are asked for and not read");
}

static int
seal(struct net_output *o, const void *data, size_t len)
{
	if (len == 0 || net_tls_seal(o->tls, data, len) == 0)
		return 0;
	str_clear(&o->buffers->sealed);
	fail(o, "TLS: octets could not be sealed");
	return -1;
}

/* Small pieces share records. Everything is taken, unless the socket is full already. */
static ssize_t
send_sealed(struct net_output *o, const struct iovec *iov, int count)
{
	char *record = o->buffers->record;
	size_t filled = 0, taken = 0;

	if (!send_rest(o))
		return o->error != NULL ? -1 : 0;
	for (int i = 0; i < count; i++) {
		const char *data = iov[i].iov_base;
		size_t len = iov[i].iov_len;

		taken += len;
		while (len > 0) {
			size_t n = NET_RECORD_SIZE - filled < len ? NET_RECORD_SIZE - filled : len;

			if (filled == 0 && len >= NET_RECORD_SIZE) {
				n = len - len % NET_RECORD_SIZE;
				if (seal(o, data, n) < 0)
					return -1;
			} else {
				memcpy(record + filled, data, n);
				filled += n;
			}
			data += n;
			len -= n;
			if (filled < NET_RECORD_SIZE)
				continue;
			if (seal(o, record, filled) < 0)
				return -1;
			filled = 0;
		}
	}
	if (seal(o, record, filled) < 0)
		return -1;
	net_output_push_sealed(o);
	return o->error != NULL ? -1 : (ssize_t)taken;
}

static ssize_t
send_range_sealed(struct net_output *o, const struct net_piece *p, size_t max)
{
	size_t want = p->len < max ? p->len : max, done = 0;

	if (!send_rest(o))
		return o->error != NULL ? -1 : 0;
	while (done < want) {
		const size_t size = want - done < NET_RECORD_SIZE ? want - done : NET_RECORD_SIZE;
		const ssize_t n = pread(p->fd, o->buffers->record, size, p->at + (off_t)done);

		if (n <= 0) {
			str_clear(&o->buffers->sealed);
			fail(o, n == 0 ? too_short : net_reason(errno));
			return -1;
		}
		if (seal(o, o->buffers->record, (size_t)n) < 0)
			return -1;
		done += (size_t)n;
	}
	net_output_push_sealed(o);
	return o->error != NULL ? -1 : (ssize_t)done;
}

/* ---- either way ---- */

static ssize_t
send_iov(struct net_output *o, const struct iovec *iov, int count)
{
	return o->tls != NULL ? send_sealed(o, iov, count) : send_clear(o, iov, count);
}

static ssize_t
send_range(struct net_output *o, const struct net_piece *p, size_t max)
{
	off_t at = p->at;
	ssize_t n;

	if (o->tls != NULL)
		return send_range_sealed(o, p, max);
	do {
		n = sendfile(o->fd, p->fd, &at, p->len < max ? p->len : max);
	} while (n < 0 && errno == EINTR);
	if (n == 0) {
		fail(o, too_short);
		return -1;
	}
	return sent_or_failed(o, n);
}

static void
hold_back(struct net_output *o, bool on)
{
	const int value = on;

	if (!o->is_tcp || o->held_back == on)
		return;
	setsockopt(o->fd, IPPROTO_TCP, TCP_CORK, &value, sizeof(value));
	o->held_back = on;
}

static struct net_piece *
piece_add(struct net_output *o, int fd, size_t size)
{
	struct net_piece *p = xmalloc(sizeof(*p) + size);

	p->fd = fd;
	p->at = 0;
	p->len = 0;
	p->size = size;
	TAILQ_INSERT_TAIL(&o->pieces, p, next);
	return p;
}

static struct net_piece *
piece_with_room(struct net_output *o, size_t len)
{
	struct net_piece *p = TAILQ_LAST(&o->pieces, net_piece_list);

	if (p != NULL && p->fd < 0 && p->size - (size_t)p->at - p->len >= len)
		return p;
	return piece_add(o, -1, len > PIECE_SIZE ? len : PIECE_SIZE);
}

/* Copies iov but for its first `skip` octets. */
static void
keep(struct net_output *o, const struct iovec *iov, int count, size_t skip)
{
	const size_t total = iov_total(iov, count) - skip;
	struct net_piece *p;

	if (total == 0)
		return;
	p = piece_with_room(o, total);
	for (int i = 0; i < count; i++) {
		const size_t begin = skip < iov[i].iov_len ? skip : iov[i].iov_len;
		const size_t len = iov[i].iov_len - begin;

		skip -= begin;
		if (len == 0)
			continue;
		memcpy(p->data + p->at + p->len, (const char *)iov[i].iov_base + begin, len);
		p->len += len;
	}
	o->waiting += total;
}

/* A short count means a full socket: asking again for an EAGAIN would be a wasted call. */
static void
send_or_keep(struct net_output *o, const struct iovec *iov, int count)
{
	while (count > 0 && TAILQ_EMPTY(&o->pieces)) {
		const int batch = count < IOV_MOST ? count : IOV_MOST;
		const size_t want = iov_total(iov, batch);
		const ssize_t n = want > 0 ? send_iov(o, iov, batch) : 0;

		if (n < 0)
			return;
		keep(o, iov, batch, (size_t)n);
		iov += batch;
		count -= batch;
	}
	if (count > 0)
		keep(o, iov, count, 0);
}

static struct net_gather *
find_gather(struct net_output *o)
{
	for (size_t i = 0; i < NET_GATHERS; i++) {
		struct net_gather *g = &o->buffers->gathers[i];

		if (g->owner == NULL) {
			g->owner = o;
			return g;
		}
	}
	return NULL;
}

/* False: does not fit, or order forbids it. */
static bool
gather(struct net_output *o, const struct iovec *iov, int count)
{
	if (!TAILQ_EMPTY(&o->pieces))
		return false;
	if (o->gather == NULL)
		o->gather = find_gather(o);
	if (o->gather == NULL || iov_total(iov, count) > NET_GATHER_SIZE - o->gather->len)
		return false;
	for (int i = 0; i < count; i++) {
		if (iov[i].iov_len == 0)
			continue;
		memcpy(o->gather->data + o->gather->len, iov[i].iov_base, iov[i].iov_len);
		o->gather->len += iov[i].iov_len;
	}
	return true;
}

static void
send_gathered(struct net_output *o)
{
	struct iovec iov;

	if (o->gather == NULL)
		return;
	iov.iov_base = o->gather->data;
	iov.iov_len = o->gather->len;
	if (iov.iov_len > 0)
		send_or_keep(o, &iov, 1);
	release_gather(o);
}

void
net_output_writev(struct net_output *o, const struct iovec *iov, int count)
{
	if (o->error != NULL || (o->corked && gather(o, iov, count)))
		return;
	if (o->corked)
		hold_back(o, true);
	send_gathered(o);
	if (o->error == NULL)
		send_or_keep(o, iov, count);
}

void
net_output_send_file(struct net_output *o, int fd, off_t off, size_t len)
{
	struct net_piece *p;
	bool was_empty;

	if (o->error != NULL || len == 0)
		return;
	if (o->corked)
		hold_back(o, true);
	send_gathered(o);
	if (o->error != NULL)
		return;
	was_empty = TAILQ_EMPTY(&o->pieces);
	p = piece_add(o, fd, 0);
	p->at = off;
	p->len = len;
	o->waiting += len;
	if (was_empty)
		net_output_flush(o);
}

void
net_output_cork(struct net_output *o)
{
	o->corked = true;
}

void
net_output_uncork(struct net_output *o)
{
	o->corked = false;
	send_gathered(o);
	if (TAILQ_EMPTY(&o->pieces))
		hold_back(o, false);
}

/* Takes n sent octets off the front. */
static void
consume(struct net_output *o, size_t n)
{
	struct net_piece *p;

	o->waiting -= n;
	while (n > 0) {
		p = TAILQ_FIRST(&o->pieces);
		if (n < p->len) {
			p->at += (off_t)n;
			p->len -= n;
			return;
		}
		n -= p->len;
		TAILQ_REMOVE(&o->pieces, p, next);
		free(p);
	}
}

/* Sends the memory pieces at the front; want_r says how much there was. */
static ssize_t
send_memory(struct net_output *o, size_t *want_r)
{
	struct iovec iov[IOV_MOST];
	struct net_piece *p = TAILQ_FIRST(&o->pieces);
	int count = 0;

	for (; p != NULL && p->fd < 0 && count < IOV_MOST; p = TAILQ_NEXT(p, next)) {
		iov[count].iov_base = p->data + p->at;
		iov[count++].iov_len = p->len;
	}
	*want_r = iov_total(iov, count);
	return send_iov(o, iov, count);
}

void
net_output_flush(struct net_output *o)
{
	size_t budget = FAIR_SHARE;
	struct net_piece *p;

	if (!send_rest(o))
		return;
	while (budget > 0 && (p = TAILQ_FIRST(&o->pieces)) != NULL) {
		size_t most = o->tls != NULL && budget > SEALED_RANGE ? SEALED_RANGE : budget;
		size_t want = p->len < most ? p->len : most;
		ssize_t n;

		if (TAILQ_NEXT(p, next) != NULL)
			hold_back(o, true);
		n = p->fd < 0 ? send_memory(o, &want) : send_range(o, p, want);
		if (n < 0)
			return;
		consume(o, (size_t)n);
		if ((size_t)n < want)
			return;
		budget -= (size_t)n < budget ? (size_t)n : budget;
	}
	if (TAILQ_EMPTY(&o->pieces) && !o->corked)
		hold_back(o, false);
}

bool
net_output_is_empty(const struct net_output *o)
{
	return TAILQ_EMPTY(&o->pieces) && o->rest_len == 0;
}

size_t
net_output_waiting(const struct net_output *o)
{
	return o->waiting + o->rest_len + (o->gather != NULL ? o->gather->len : 0);
}

void
net_output_init(struct net_output *o, struct net_worker *w, int fd, bool is_tcp)
{
	memset(o, 0, sizeof(*o));
	o->buffers = net_worker_buffers(w);
	o->fd = fd;
	o->is_tcp = is_tcp;
	TAILQ_INIT(&o->pieces);
}

void
net_output_deinit(struct net_output *o)
{
	release_gather(o);
	drop_pieces(o);
	drop_rest(o);
}
