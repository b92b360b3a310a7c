/*
 * net/stream.c - input, events and life of one connection; what it sends is in net/output.c, TLS in
 * net/tls_conn.c.
 *
 * cb is NULL once the owner hears no more: after free, and while finishing. The struct itself is
 * freed at the end of the turn, so code behind a call of cb only looks at that.
 */
#include "net/stream.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/xalloc.h"
#include "net/output.h"
#include "net/reason.h"
#include "net/tls_conn.h"

#define LAST_READS 16 /* before NET_BROKEN: enough for a last reply, and an end */

struct net_stream {
	struct net_worker *worker;
	net_stream_cb cb;
	void *owner;
	int fd;
	bool reading;
	bool writing;
	bool got_eof;
	bool broken;
	bool finishing;
	bool said_goodbye; /* of TLS */
	bool showing;      /* inside NET_BYTES: what will be left is not known yet */
	bool again;        /* held octets are to be shown */
	bool again_queued; /* show_again() is in the worker's list */
	bool opening;	   /* open_again() is in the worker's list */
	struct net_tls_conn *tls; /* NULL: in clear */
	struct event read_event;
	struct event *write_event; /* made when the socket was full for the first time */
	struct net_output out;
	char *held; /* NULL while nothing is held */
	size_t held_at, held_len, held_size;
	bool in_part;	 /* the begin of a record is here */
	size_t part_unconfirmed; /* what was not confirmed when it came */
	size_t shown_unconfirmed; /* the same, of the record that is being shown */
	struct net_timer deadline;
	const char *error;
	struct ip_addr peer;
	struct ip_addr local; /* family 0: not asked yet */
	LIST_ENTRY(net_stream) next; /* while finishing */
};

const char *const net_event_names[] = {"bytes", "drained", "eof", "timeout", "broken", "tls up", NULL};

static const char clear_behind[] = "octets in clear came before the TLS handshake";

static size_t after_output(struct net_stream *s);
static void use_tls(struct net_stream *s, struct net_tls_conn *tls);
static void broken(struct net_stream *s, const char *words);
static void got_writable(evutil_socket_t fd, short what, void *arg);

/* ---- what was shown and not taken ---- */

static void
hold_add(struct net_stream *s, const char *data, size_t len)
{
	const size_t need = s->held_len + len;

	if (len == 0)
		return;
	if (s->held_at > 0 && s->held_at + need > s->held_size) {
		memmove(s->held, s->held + s->held_at, s->held_len);
		s->held_at = 0;
	}
	if (need > s->held_size) {
		s->held_size = need > 2 * s->held_size ? need : 2 * s->held_size;
		s->held = xrealloc(s->held, s->held_size);
	}
	memcpy(s->held + s->held_at + s->held_len, data, len);
	s->held_len = need;
}

static void
hold_drop(struct net_stream *s, size_t len)
{
	s->held_at += len;
	s->held_len -= len;
	if (s->held_len > 0)
		return;
	free(s->held);
	s->held = NULL;
	s->held_at = 0;
	s->held_size = 0;
}

/* ---- which events we wait for ---- */

static void
start_reading(struct net_stream *s)
{
	if (s->reading || s->got_eof || s->broken)
		return;
	if (event_add(&s->read_event, NULL) < 0)
		broken(s, "the descriptor cannot be waited for");
	else
		s->reading = true;
}

static void
stop_reading(struct net_stream *s)
{
	if (s->reading)
		event_del(&s->read_event);
	s->reading = false;
}

static void
start_writing(struct net_stream *s)
{
	if (s->writing)
		return;
	if (s->write_event == NULL) {
		s->write_event = xcalloc(1, sizeof(*s->write_event));
		event_assign(s->write_event, net_worker_base(s->worker), s->fd,
			EV_WRITE | EV_PERSIST, got_writable, s);
	}
	if (event_add(s->write_event, NULL) < 0)
		broken(s, "the descriptor cannot be waited for");
	else
		s->writing = true;
}

static void
stop_writing(struct net_stream *s)
{
	if (s->writing)
		event_del(s->write_event);
	s->writing = false;
}

/* An owner that takes nothing must not make us hold all that the peer sends. */
static void
regulate(struct net_stream *s)
{
	if (s->held_len > NET_HELD_MAX)
		stop_reading(s);
	else if (s->held_len < NET_HELD_MAX / 2)
		start_reading(s);
}

/* ---- the end of a stream ---- */

static void
stream_destroy(void *arg)
{
	struct net_stream *s = arg;

	net_tls_conn_free(&s->tls);
	free(s->held);
	free(s->write_event);
	free(s);
}

/* All but the descriptor. */
static void
stream_end(struct net_stream *s)
{
	s->cb = NULL;
	if (s->finishing)
		LIST_REMOVE(s, next);
	stop_reading(s);
	stop_writing(s);
	net_output_deinit(&s->out);
	net_timer_deinit(&s->deadline);
	net_later(s->worker, stream_destroy, s);
}

static void
stream_close(struct net_stream *s)
{
	stream_end(s);
	close(s->fd);
}

/* Everything has left. A close with input unread would be a reset, and that would take our last
 * reply from the peer: so we say that it was all, and wait for the peer's end. */
static void
half_close(struct net_stream *s)
{
	if (s->tls != NULL && !s->said_goodbye) {
		s->said_goodbye = true;
		net_tls_close(s->tls);
		net_output_push_sealed(&s->out);
		if (after_output(s) > 0 || s->broken)
			return; /* got_writable() goes on; a broken one is closed already */
	}
	if (s->got_eof || shutdown(s->fd, SHUT_WR) < 0)
		stream_close(s);
}

static void
tell(struct net_stream *s, enum net_event ev)
{
	s->cb(s->owner, ev, NULL, 0);
}

static bool
in_handshake(const struct net_stream *s)
{
	return s->tls != NULL && !net_tls_is_up(s->tls);
}

/* ---- input ---- */

static ssize_t
stream_recv(struct net_stream *s, char *buf, size_t size)
{
	ssize_t n;

	do {
		n = recv(s->fd, buf, size, 0);
	} while (n < 0 && errno == EINTR);
	return n;
}

/* Returns octets taken; whether the owner is still there, cb tells. */
static size_t
show(struct net_stream *s, const char *data, size_t len)
{
	size_t taken;

	s->again = false;
	s->showing = true;
	taken = s->cb(s->owner, NET_BYTES, data, len);
	s->showing = false;
	assert(s->cb == NULL || taken <= len);
	return taken;
}

/* A command in clear behind STARTTLS must never be obeyed (CVE-2011-0411). */
static void
check_clear(struct net_stream *s)
{
	if (in_handshake(s) && s->held_len > 0)
		broken(s, clear_behind);
}

static void
show_held(struct net_stream *s)
{
	const size_t taken = show(s, s->held + s->held_at, s->held_len);

	if (s->cb == NULL)
		return;
	hold_drop(s, taken);
	check_clear(s);
}

static void
take_in(struct net_stream *s, const char *data, size_t len)
{
	size_t taken;

	if (s->held_len > 0) {
		hold_add(s, data, len);
		show_held(s);
	} else {
		taken = show(s, data, len);
		if (s->cb != NULL) {
			hold_add(s, data + taken, len - taken);
			check_clear(s);
		}
	}
	if (s->cb != NULL)
		regulate(s);
}

static void
show_again(void *arg)
{
	struct net_stream *s = arg;

	s->again_queued = false;
	if (s->cb == NULL || !s->again || s->held_len == 0)
		return;
	show_held(s);
	if (s->cb != NULL)
		regulate(s);
}

static void
got_end(struct net_stream *s)
{
	stop_reading(s);
	s->got_eof = true;
	if (s->finishing) {
		if (net_output_is_empty(&s->out))
			stream_close(s);
		return;
	}
	if (in_handshake(s)) {
		broken(s, "the connection was closed in the TLS handshake");
		return;
	}
	if (s->again && s->held_len > 0)
		show_held(s);
	if (s->cb != NULL)
		tell(s, NET_EOF);
}

/* ---- input through TLS ---- */

/* The other side said goodbye, or TLS has failed. */
static void
opened_last(struct net_stream *s)
{
	if (net_tls_got_end(s->tls))
		got_end(s);
	else
		broken(s, net_tls_error(s->tls));
}

/* What a record says was said when its first octet came, though nobody can read it before its last one. */
static void
note_part(struct net_stream *s, bool is_same)
{
	s->in_part = net_tls_in_record(s->tls);
	if (s->in_part && !is_same)
		s->part_unconfirmed = net_stream_unconfirmed(s);
}

/* Shows all that can be opened: one buffer, which takes more than was fed and what TLS has of it already. */
static void
take_opened(struct net_stream *s)
{
	char *buf = net_worker_buffers(s->worker)->opened;
	const bool was_in_part = s->in_part;
	bool opened = false;
	size_t len;
	ssize_t n;

	s->in_part = false;
	do {
		len = 0;
		while (len < NET_OPENED_SIZE &&
			(n = net_tls_open(s->tls, buf + len, NET_OPENED_SIZE - len)) > 0)
			len += (size_t)n;
		net_output_push_answers(&s->out);
		after_output(s);
		s->shown_unconfirmed = was_in_part && !opened ? s->part_unconfirmed : 0;
		opened = opened || len > 0;
		if (len > 0)
			take_in(s, buf, len);
		s->shown_unconfirmed = 0;
		if (s->cb == NULL)
			return;
	} while (len == NET_OPENED_SIZE);
	if (n < 0)
		opened_last(s);
	else
		note_part(s, was_in_part && !opened);
}

static void
take_handshake(struct net_stream *s)
{
	const int rc = net_tls_handshake(s->tls);

	net_output_push_sealed(&s->out);
	after_output(s);
	if (rc < 0)
		broken(s, net_tls_error(s->tls));
	if (rc > 0 && !s->broken)
		tell(s, NET_TLS_UP);
}

static void
take_sealed(struct net_stream *s, const char *data, size_t len)
{
	net_tls_feed(s->tls, data, len);
	if (!net_tls_is_up(s->tls))
		take_handshake(s);
	if (s->cb != NULL && net_tls_is_up(s->tls))
		take_opened(s);
}

/* Octets that net_stream_is_readable() has seen: the socket does not tell of them again. */
static void
open_again(void *arg)
{
	struct net_stream *s = arg;

	s->opening = false;
	if (s->cb != NULL && !s->got_eof)
		take_opened(s);
}

static void
take(struct net_stream *s, const char *data, size_t len)
{
	if (s->tls != NULL)
		take_sealed(s, data, len);
	else
		take_in(s, data, len);
}

static void
got_readable(evutil_socket_t fd, short what, void *arg)
{
	struct net_stream *s = arg;
	char *buf = net_worker_buffers(s->worker)->recv;
	const ssize_t n = stream_recv(s, buf, NET_RECV_SIZE);

	(void)fd;
	(void)what;
	if (n == 0)
		got_end(s);
	else if (n < 0 && errno == ECONNRESET && in_handshake(s))
		broken(s, "the connection was reset in the TLS handshake");
	else if (n < 0 && errno != EAGAIN)
		broken(s, net_reason(errno));
	else if (n > 0 && !s->finishing)
		take(s, buf, (size_t)n);
}

/* ---- trouble ---- */

static bool
has_tls_failed(const struct net_stream *s)
{
	return s->tls != NULL && net_tls_error(s->tls) != NULL;
}

/* What the peer said before it broke off is often the reason why. */
static void
show_last_words(struct net_stream *s)
{
	char *buf = net_worker_buffers(s->worker)->recv;

	if (in_handshake(s))
		return;
	for (int i = 0; i < LAST_READS && !s->got_eof && !has_tls_failed(s) && s->held_len <= NET_HELD_MAX; i++) {
		const ssize_t n = stream_recv(s, buf, NET_RECV_SIZE);

		if (n <= 0)
			return;
		take(s, buf, (size_t)n);
		if (s->cb == NULL)
			return;
	}
}

static void
tell_broken(void *arg)
{
	struct net_stream *s = arg;

	if (s->cb != NULL)
		show_last_words(s);
	if (s->cb != NULL)
		tell(s, NET_BROKEN);
}

/* May be called from inside a call of the owner, so it is told later. */
static void
broken(struct net_stream *s, const char *words)
{
	if (s->broken)
		return;
	s->broken = true;
	s->error = words;
	stop_reading(s);
	stop_writing(s);
	if (s->finishing)
		stream_close(s);
	else
		net_later(s->worker, tell_broken, s);
}

static void
deadline_passed(void *arg)
{
	struct net_stream *s = arg;

	if (s->finishing)
		stream_close(s);
	else
		tell(s, NET_TIMEOUT);
}

/* ---- output ---- */

/* After each call that may have sent. */
static size_t
after_output(struct net_stream *s)
{
	if (s->out.error != NULL)
		broken(s, s->out.error);
	else if (!net_output_is_empty(&s->out))
		start_writing(s);
	return net_output_waiting(&s->out);
}

static void
got_writable(evutil_socket_t fd, short what, void *arg)
{
	struct net_stream *s = arg;

	(void)fd;
	(void)what;
	net_output_flush(&s->out);
	if (s->out.error != NULL) {
		broken(s, s->out.error);
		return;
	}
	if (!net_output_is_empty(&s->out))
		return;
	stop_writing(s);
	if (s->finishing)
		half_close(s);
	else if (!in_handshake(s))
		tell(s, NET_DRAINED);
}

size_t
net_stream_write(struct net_stream *s, const void *data, size_t len)
{
	const struct iovec iov = {(void *)data, len};

	return net_stream_writev(s, &iov, 1);
}

size_t
net_stream_writev(struct net_stream *s, const struct iovec *iov, int count)
{
	if (s->broken)
		return 0;
	net_output_writev(&s->out, iov, count);
	return after_output(s);
}

void
net_stream_cork(struct net_stream *s)
{
	net_output_cork(&s->out);
}

size_t
net_stream_uncork(struct net_stream *s)
{
	net_output_uncork(&s->out);
	return after_output(s);
}

size_t
net_stream_send_file(struct net_stream *s, int fd, off_t off, size_t len)
{
	if (s->broken)
		return 0;
	net_output_send_file(&s->out, fd, off, len);
	return after_output(s);
}

size_t
net_stream_waiting(const struct net_stream *s)
{
	return net_output_waiting(&s->out);
}

size_t
net_stream_unconfirmed(const struct net_stream *s)
{
	size_t total;
	int octets = 0;

	if (ioctl(s->fd, SIOCOUTQ, &octets) < 0)
		octets = 0;
	total = net_stream_waiting(s) + (size_t)octets;
	return total > s->shown_unconfirmed ? total : s->shown_unconfirmed;
}

/* ---- TLS ---- */

static void
use_tls(struct net_stream *s, struct net_tls_conn *tls)
{
	s->tls = tls;
	s->out.tls = tls;
	net_tls_conn_bind(tls, net_worker_buffers(s->worker), s->fd);
}

void
net_stream_start_tls(struct net_stream *s, struct net_tls *tls, const char *name)
{
	char peer[INET6_ADDRSTRLEN + 10], key[400];

	assert(s->tls == NULL);
	if (s->broken)
		return;
	ip_addr_port_text(&s->peer, peer, sizeof(peer));
	snprintf(key, sizeof(key), "%s %s", name != NULL ? name : "", peer);
	net_output_uncork(&s->out);
	if (!net_output_is_empty(&s->out)) {
		broken(s, "the go-ahead for TLS was not read");
		return;
	}
	use_tls(s, net_tls_conn_new(tls, name, net_tls_is_server(tls) ? NULL : key));
	if (!s->showing)
		check_clear(s);
	if (!s->broken && !net_tls_is_server(tls))
		take_handshake(s);
}

bool
net_stream_is_tls(const struct net_stream *s)
{
	return s->tls != NULL && net_tls_is_up(s->tls);
}

void
net_stream_tls(const struct net_stream *s, struct net_tls_info *info_r)
{
	net_tls_describe(s->tls, info_r);
}

const char *
net_stream_tls_phrase(const struct net_stream *s)
{
	if (!s->broken || s->tls == NULL)
		return NULL;
	if (net_tls_phrase(s->tls) != NULL)
		return net_tls_phrase(s->tls);
	return in_handshake(s) ? "it ended the connection in the TLS handshake" : NULL;
}

/* ---- making and leaving ---- */

/* Asked now: a connection that was reset has no peer any more. */
static void
ask_peer(struct net_stream *s)
{
	struct sockaddr_storage sa = {0};
	socklen_t len = sizeof(sa);

	if (getpeername(s->fd, (struct sockaddr *)&sa, &len) == 0)
		ip_addr_from_sockaddr((struct sockaddr *)&sa, &s->peer);
}

static void
set_tcp_options(int fd)
{
	const int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

struct net_stream *
net_stream_new(struct net_worker *w, int fd, net_stream_cb cb, void *owner)
{
	struct net_stream *s = xcalloc(1, sizeof(*s));
	bool is_tcp;

	s->worker = w;
	s->fd = fd;
	s->cb = cb;
	s->owner = owner;
	ask_peer(s);
	is_tcp = s->peer.family == AF_INET || s->peer.family == AF_INET6;
	if (is_tcp)
		set_tcp_options(fd);
	net_output_init(&s->out, w, fd, is_tcp);
	net_timer_init(&s->deadline, w, deadline_passed, s);
	event_assign(&s->read_event, net_worker_base(w), fd, EV_READ | EV_PERSIST, got_readable, s);
	start_reading(s);
	return s;
}

void
net_stream_free(struct net_stream **s_p)
{
	struct net_stream *s = *s_p;

	*s_p = NULL;
	if (s != NULL)
		stream_close(s);
}

void
net_stream_close_finishing(struct net_worker *w)
{
	struct net_stream *s;

	while ((s = LIST_FIRST(net_worker_finishing(w))) != NULL)
		stream_close(s);
}

void
net_stream_finish(struct net_stream **s_p, int linger_ms)
{
	struct net_stream *s = *s_p;

	*s_p = NULL;
	if (s == NULL)
		return;
	net_stream_uncork(s);
	s->cb = NULL;
	s->finishing = true;
	LIST_INSERT_HEAD(net_worker_finishing(s->worker), s, next);
	if (s->broken || linger_ms <= 0) {
		stream_close(s);
		return;
	}
	net_timer_set(&s->deadline, linger_ms);
	start_reading(s);
	if (!s->broken && net_output_is_empty(&s->out))
		half_close(s);
}

bool
net_stream_is_at_rest(const struct net_stream *s)
{
	return s->held_len == 0 && net_output_waiting(&s->out) == 0;
}

struct net_parcel
net_stream_release(struct net_stream **s_p)
{
	struct net_stream *s = *s_p;
	struct net_parcel parcel = {s->fd, s->tls};

	*s_p = NULL;
	assert(net_stream_is_at_rest(s));
	net_output_uncork(&s->out);
	s->tls = NULL;
	stream_end(s);
	return parcel;
}

struct net_stream *
net_stream_adopt(struct net_worker *w, struct net_parcel parcel, net_stream_cb cb, void *owner)
{
	struct net_stream *s = net_stream_new(w, parcel.fd, cb, owner);

	if (parcel.tls != NULL)
		use_tls(s, parcel.tls);
	return s;
}

void
net_stream_set_owner(struct net_stream *s, net_stream_cb cb, void *owner)
{
	assert(cb != NULL);
	s->cb = cb;
	s->owner = owner;
}

bool
net_stream_is_readable(struct net_stream *s)
{
	/* After its end a socket is readable for ever; an error shows without being asked for. */
	struct pollfd pfd = {.fd = s->fd, .events = s->got_eof ? 0 : POLLIN};
	bool is_readable;

	if (s->broken || s->opening)
		return true;
	if (poll(&pfd, 1, 0) == 0)
		return s->tls != NULL && net_tls_in_record(s->tls);
	if (s->tls == NULL || s->got_eof)
		return true;
	is_readable = net_tls_peek(s->tls);
	net_output_push_answers(&s->out);
	after_output(s);
	if (is_readable) {
		s->opening = true;
		net_later(s->worker, open_again, s);
	}
	return is_readable;
}

void
net_stream_read_now(struct net_stream *s)
{
	if (!s->broken && !s->got_eof)
		got_readable(s->fd, EV_READ, s);
}

const char *
net_stream_held(const struct net_stream *s, size_t *len_r)
{
	*len_r = s->held_len;
	return s->held != NULL ? s->held + s->held_at : "";
}

void
net_stream_again(struct net_stream *s)
{
	s->again = true;
	if (s->again_queued)
		return;
	s->again_queued = true;
	net_later(s->worker, show_again, s);
}

bool
net_stream_got_eof(const struct net_stream *s)
{
	return s->got_eof;
}

void
net_stream_deadline(struct net_stream *s, int64_t ms)
{
	if (ms > 0)
		net_timer_set(&s->deadline, ms);
	else
		net_timer_clear(&s->deadline);
}

const struct ip_addr *
net_stream_peer(const struct net_stream *s)
{
	return &s->peer;
}

const struct ip_addr *
net_stream_local(const struct net_stream *s)
{
	struct ip_addr *local = (struct ip_addr *)&s->local;
	struct sockaddr_storage sa = {0};
	socklen_t len = sizeof(sa);

	if (local->family == 0 && getsockname(s->fd, (struct sockaddr *)&sa, &len) == 0)
		ip_addr_from_sockaddr((struct sockaddr *)&sa, local);
	return local;
}

const char *
net_stream_error(const struct net_stream *s)
{
	return s->error != NULL ? s->error : "";
}

struct net_worker *
net_stream_worker(const struct net_stream *s)
{
	return s->worker;
}
