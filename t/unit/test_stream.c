/*
 * t/unit/test_stream.c - input kept and shown again, output in order, and every way to end.
 */
#include "t/unit/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/str.h"
#include "base/xalloc.h"
#include "net/stream.h"

#define EVENTS (NET_BROKEN + 1)
#define LOTS   (10 * 1024 * 1024)

/* The owner of a stream: takes what `take` allows, notes what comes. */
struct side {
	struct net_stream *s;
	int fd;   /* the stream's own */
	int peer; /* the other end, non-blocking */
	int count[EVENTS];
	struct str got;   /* taken octets */
	struct str order; /* a letter per event: B D E T X */
	size_t last_len;  /* of the last NET_BYTES */
	size_t take;      /* at most per event */
	bool whole_lines; /* take only up to the last line end */
	int free_at;      /* the event that frees the stream; -1: none */
	int finish_at;
	bool again_inside;  /* ask for more after a partial take */
	const char *answer; /* written to the stream at each NET_BYTES */
};

static size_t
side_bytes(struct side *x, const char *data, size_t len)
{
	size_t taken = len < x->take ? len : x->take;

	x->last_len = len;
	while (x->whole_lines && taken > 0 && data[taken - 1] != '\n')
		taken--;
	str_addn(&x->got, data, taken);
	if (x->again_inside && taken > 0 && taken < len)
		net_stream_again(x->s);
	if (x->answer != NULL)
		net_stream_write(x->s, x->answer, strlen(x->answer));
	return taken;
}

static size_t
side_event(void *owner, enum net_event ev, const char *data, size_t len)
{
	struct side *x = owner;
	size_t taken = 0;

	x->count[ev]++;
	str_addc(&x->order, "BDETX"[ev]);
	if (ev == NET_BYTES)
		taken = side_bytes(x, data, len);
	else
		assert_true(data == NULL && len == 0);
	if (x->free_at == (int)ev)
		net_stream_free(&x->s);
	else if (x->finish_at == (int)ev)
		net_stream_finish(&x->s, 10000);
	return taken;
}

static void
side_init(struct side *x, int fd, int peer)
{
	memset(x, 0, sizeof(*x));
	x->take = SIZE_MAX;
	x->free_at = -1;
	x->finish_at = -1;
	x->fd = fd;
	x->peer = peer;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	fcntl(peer, F_SETFL, O_NONBLOCK);
	x->s = net_stream_new(worker, fd, side_event, x);
}

static void
side_unix(struct side *x)
{
	int fds[2];

	assert_return_code(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	side_init(x, fds[0], fds[1]);
}

static void
side_tcp(struct side *x)
{
	struct ip_endpoint ep;
	const int listening = loopback_listen(1, &ep);
	const int client = loopback_connect(&ep);

	side_init(x, accept(listening, NULL, NULL), client);
	close(listening);
}

static void
side_deinit(struct side *x)
{
	net_stream_free(&x->s);
	if (x->peer >= 0)
		close(x->peer);
	str_deinit(&x->got);
	str_deinit(&x->order);
	loop_turn();
}

static void
say(struct side *x, const char *text)
{
	assert_int_equal(write(x->peer, text, strlen(text)), strlen(text));
}

/* Closing with this on is a reset. */
static void
peer_reset(struct side *x)
{
	const struct linger now = {1, 0};

	setsockopt(x->peer, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(x->peer);
	x->peer = -1;
}

static bool
hear(struct side *x, struct str *into)
{
	char buf[65536];
	const ssize_t n = read(x->peer, buf, sizeof(buf));

	if (n > 0)
		str_addn(into, buf, (size_t)n);
	return n == 0;
}

static char *
pattern(size_t len)
{
	char *p = xmalloc(len);
	unsigned x = 1;

	for (size_t i = 0; i < len; i++) {
		x = x * 1103515245 + 12345;
		p[i] = (char)(x >> 16);
	}
	return p;
}

static int
memory_file(const char *data, size_t len)
{
	const int fd = memfd_create("test", MFD_CLOEXEC);
	size_t done = 0;

	assert_true(fd >= 0);
	while (done < len) {
		const ssize_t n = write(fd, data + done, len - done);

		assert_true(n > 0);
		done += (size_t)n;
	}
	return fd;
}

/* ---- input ---- */

static void
input_split_anywhere_is_shown_whole(void **state)
{
	static const char text[] = "EHLO a.example\r\nMAIL FROM:<a@b>\r\nQUIT\r\n";

	(void)state;
	for (size_t cut = 1; cut < sizeof(text) - 1; cut++) {
		struct side x;

		side_unix(&x);
		x.whole_lines = true;
		assert_int_equal(write(x.peer, text, cut), cut);
		WAIT_FOR(x.count[NET_BYTES] == 1);
		say(&x, text + cut);
		WAIT_FOR(x.count[NET_BYTES] == 2);
		assert_string_equal(str_text(&x.got), text);
		side_deinit(&x);
	}
}

static void
input_an_octet_at_a_time_is_held_until_it_is_taken(void **state)
{
	static const char text[] = "NOOP\r\n";
	struct side x;
	size_t len;

	(void)state;
	side_tcp(&x);
	x.whole_lines = true;
	for (size_t i = 0; text[i] != '\0'; i++) {
		assert_int_equal(write(x.peer, text + i, 1), 1);
		WAIT_FOR(x.count[NET_BYTES] == (int)i + 1);
		assert_int_equal(x.last_len, i + 1);
		net_stream_held(x.s, &len);
		assert_int_equal(len, text[i + 1] != '\0' ? i + 1 : 0);
	}
	assert_string_equal(str_text(&x.got), text);
	side_deinit(&x);
}

static void
what_was_left_is_shown_again_when_asked_and_not_before(void **state)
{
	struct side x;
	size_t len;
	const char *held;

	(void)state;
	side_unix(&x);
	x.take = 2;
	say(&x, "abcde");
	WAIT_FOR(x.count[NET_BYTES] == 1);
	for (int i = 0; i < 5; i++)
		loop_turn();
	assert_int_equal(x.count[NET_BYTES], 1);
	held = net_stream_held(x.s, &len);
	assert_int_equal(len, 3);
	assert_memory_equal(held, "cde", 3);
	net_stream_again(x.s);
	net_stream_again(x.s);
	assert_int_equal(x.count[NET_BYTES], 1); /* from the loop, not from inside */
	loop_turn();
	loop_turn();
	assert_int_equal(x.count[NET_BYTES], 2);
	assert_string_equal(str_text(&x.got), "abcd");
	net_stream_again(x.s);
	loop_turn();
	net_stream_again(x.s); /* nothing is left */
	loop_turn();
	assert_int_equal(x.count[NET_BYTES], 3);
	assert_string_equal(str_text(&x.got), "abcde");
	side_deinit(&x);
}

static void
again_inside_an_event_goes_on_with_what_is_left(void **state)
{
	struct side x;

	(void)state;
	side_unix(&x);
	x.take = 1;
	x.again_inside = true;
	say(&x, "abcdefgh");
	WAIT_FOR(x.count[NET_BYTES] == 8);
	assert_string_equal(str_text(&x.got), "abcdefgh");
	side_deinit(&x);
}

static void
an_owner_that_takes_nothing_stops_the_reading_until_it_does(void **state)
{
	char *data = pattern(LOTS);
	struct side x;
	size_t sent = 0, len;
	ssize_t n;
	int quiet = 0;

	(void)state;
	side_unix(&x);
	x.take = 0;
	while (quiet < 20) {
		n = write(x.peer, data + sent, LOTS - sent);
		quiet = n > 0 ? 0 : quiet + 1;
		sent += n > 0 ? (size_t)n : 0;
		loop_turn();
	}
	net_stream_held(x.s, &len);
	assert_in_range(len, NET_HELD_MAX, NET_HELD_MAX + NET_RECV_SIZE);
	assert_true(sent < LOTS);
	x.take = SIZE_MAX;
	net_stream_again(x.s);
	while (x.got.len < LOTS) {
		n = write(x.peer, data + sent, LOTS - sent);
		sent += n > 0 ? (size_t)n : 0;
		loop_turn();
	}
	assert_memory_equal(x.got.data, data, LOTS);
	free(data);
	side_deinit(&x);
}

static void
the_end_comes_once_and_behind_the_octets(void **state)
{
	struct side x;
	size_t len;

	(void)state;
	side_tcp(&x);
	x.take = 3;
	say(&x, "QUIT\r\n");
	shutdown(x.peer, SHUT_WR);
	WAIT_FOR(x.count[NET_EOF] == 1);
	assert_string_equal(str_text(&x.order), "BE");
	assert_true(net_stream_got_eof(x.s));
	net_stream_held(x.s, &len);
	assert_int_equal(len, 3);
	x.take = SIZE_MAX;
	net_stream_again(x.s);
	loop_turn();
	assert_string_equal(str_text(&x.got), "QUIT\r\n");
	assert_int_equal(net_stream_write(x.s, "221\r\n", 5), 0); /* the peer still reads */
	for (int i = 0; i < 5; i++)
		loop_turn();
	assert_string_equal(str_text(&x.order), "BEB");
	side_deinit(&x);
}

static void
octets_asked_for_again_come_before_the_end(void **state)
{
	struct side x;

	(void)state;
	side_unix(&x);
	x.take = 1;
	x.again_inside = true;
	say(&x, "ab");
	shutdown(x.peer, SHUT_WR);
	WAIT_FOR(x.count[NET_EOF] == 1);
	assert_string_equal(str_text(&x.order), "BBE");
	side_deinit(&x);
}

static void
a_reset_is_told_once_with_words(void **state)
{
	struct side x;

	(void)state;
	side_tcp(&x);
	assert_string_equal(net_stream_error(x.s), "");
	peer_reset(&x);
	WAIT_FOR(x.count[NET_BROKEN] == 1);
	assert_string_equal(net_stream_error(x.s), "connection reset by peer");
	assert_int_equal(net_stream_write(x.s, "x", 1), 0);
	for (int i = 0; i < 5; i++)
		loop_turn();
	assert_string_equal(str_text(&x.order), "X");
	side_deinit(&x);
}

static void
last_words_are_shown_before_a_break_that_a_write_found(void **state)
{
	struct side x;

	(void)state;
	side_tcp(&x);
	loop_turn();
	say(&x, "421 busy\r\n");
	peer_reset(&x);
	while (net_stream_waiting(x.s) == 0 && *net_stream_error(x.s) == '\0')
		net_stream_write(x.s, "MAIL\r\n", 6);
	assert_int_equal(x.order.len, 0); /* nothing from inside the write */
	WAIT_FOR(x.count[NET_BROKEN] == 1);
	assert_string_equal(str_text(&x.got), "421 busy\r\n");
	assert_string_equal(str_text(&x.order), "BX");
	side_deinit(&x);
}

/* ---- output ---- */

/* The kernel would keep a part of a segment for 200 ms. */
static void
assert_not_held_back(const struct side *x)
{
	int corked = -1;
	socklen_t len = sizeof(corked);

	assert_return_code(getsockopt(x->fd, IPPROTO_TCP, TCP_CORK, &corked, &len), 0);
	assert_int_equal(corked, 0);
}

static void
a_lot_of_output_leaves_in_order_and_then_drained_comes(void (*make)(struct side *))
{
	char *data = pattern(LOTS);
	struct str heard = STR_INIT;
	const struct iovec iov[] = {{data + 1000, 500}, {NULL, 0}, {data + 1500, LOTS - 1500}};
	struct side x;

	make(&x);
	assert_int_equal(net_stream_write(x.s, data, 1000), 0);
	assert_true(net_stream_writev(x.s, iov, 3) > NET_HIGH_MARK);
	loop_turn();
	assert_int_equal(x.count[NET_DRAINED], 0);
	while (x.count[NET_DRAINED] == 0) {
		hear(&x, &heard);
		loop_turn();
	}
	assert_int_equal(net_stream_waiting(x.s), 0);
	while (heard.len < LOTS)
		hear(&x, &heard);
	assert_int_equal(heard.len, LOTS);
	assert_memory_equal(heard.data, data, LOTS);
	for (int i = 0; i < 3; i++)
		loop_turn();
	assert_string_equal(str_text(&x.order), "D");
	str_deinit(&heard);
	free(data);
	side_deinit(&x);
}

static void
ten_megabytes_leave_by_tcp(void **state)
{
	(void)state;
	a_lot_of_output_leaves_in_order_and_then_drained_comes(side_tcp);
}

static void
ten_megabytes_leave_by_a_unix_socket(void **state)
{
	(void)state;
	a_lot_of_output_leaves_in_order_and_then_drained_comes(side_unix);
}

static void
many_small_writes_behind_a_full_socket_keep_their_order(void **state)
{
	struct str want = STR_INIT, heard = STR_INIT;
	char *data = pattern(4 * 1024 * 1024);
	struct side x;

	(void)state;
	side_unix(&x);
	net_stream_write(x.s, data, 4 * 1024 * 1024);
	str_addn(&want, data, 4 * 1024 * 1024);
	for (int i = 0; i < 20000; i++) {
		char line[32];
		const int len = snprintf(line, sizeof(line), "line %d\r\n", i);

		if (i % 100 == 0)
			net_stream_cork(x.s);
		net_stream_write(x.s, line, (size_t)len);
		if (i % 100 == 99)
			net_stream_uncork(x.s);
		str_addn(&want, line, (size_t)len);
		if (i % 1000 == 0)
			hear(&x, &heard);
		if (i % 500 == 0)
			loop_turn();
	}
	while (heard.len < want.len) {
		hear(&x, &heard);
		loop_turn();
	}
	assert_int_equal(heard.len, want.len);
	assert_memory_equal(heard.data, want.data, want.len);
	str_deinit(&want);
	str_deinit(&heard);
	free(data);
	side_deinit(&x);
}

static void
corked_writes_leave_together_at_the_uncork(void **state)
{
	struct side sides[NET_GATHERS + 1];
	struct str heard = STR_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(sides); i++) {
		side_tcp(&sides[i]);
		net_stream_cork(sides[i].s);
		net_stream_write(sides[i].s, "250 ", 4);
		net_stream_write(sides[i].s, "ok\r\n", 4);
	}
	/* The last found no buffer, and is gathered by the kernel if at all. */
	for (size_t i = 0; i < NET_GATHERS; i++) {
		assert_false(hear(&sides[i], &heard));
		assert_int_equal(heard.len, 0);
		assert_int_equal(net_stream_waiting(sides[i].s), 8);
	}
	for (size_t i = 0; i < ARRAY_COUNT(sides); i++) {
		struct pollfd pfd = {.fd = sides[i].peer, .events = POLLIN};

		assert_int_equal(net_stream_uncork(sides[i].s), 0);
		assert_int_equal(poll(&pfd, 1, 5000), 1);
		str_clear(&heard);
		hear(&sides[i], &heard);
		assert_string_equal(str_text(&heard), "250 ok\r\n");
	}
	for (size_t i = 0; i < ARRAY_COUNT(sides); i++)
		side_deinit(&sides[i]);
	str_deinit(&heard);
}

static void
a_stream_freed_while_corked_gives_its_buffer_back(void **state)
{
	struct side x;

	(void)state;
	for (int i = 0; i < 3 * NET_GATHERS; i++) {
		side_unix(&x);
		net_stream_cork(x.s);
		net_stream_write(x.s, "x", 1);
		assert_int_equal(net_stream_waiting(x.s), 1);
		side_deinit(&x);
	}
}

static void
what_outgrows_the_cork_leaves_in_order_and_is_not_held_back(void **state)
{
	const size_t total = 3 * NET_GATHER_SIZE + 10;
	char *data = pattern(total);
	struct str heard = STR_INIT;
	struct side x;

	(void)state;
	side_tcp(&x);
	net_stream_cork(x.s);
	net_stream_write(x.s, data, 10);
	net_stream_write(x.s, data + 10, 2 * NET_GATHER_SIZE);
	net_stream_write(x.s, data + 10 + 2 * NET_GATHER_SIZE, NET_GATHER_SIZE);
	net_stream_uncork(x.s);
	while (heard.len < total) {
		hear(&x, &heard);
		loop_turn();
	}
	assert_not_held_back(&x);
	assert_memory_equal(heard.data, data, total);
	str_deinit(&heard);
	free(data);
	side_deinit(&x);
}

static void
a_file_leaves_in_order_with_the_memory_around_it(void **state)
{
	const size_t size = 5 * 1024 * 1024;
	char *data = pattern(size);
	const int fd = memory_file(data, size);
	struct str want = STR_INIT, heard = STR_INIT;

	(void)state;
	str_add(&want, "head");
	str_addn(&want, data + 7, size - 7);
	str_add(&want, "middle");
	str_addn(&want, data, 100);
	str_add(&want, "\r\n.\r\n");
	for (int corked = 0; corked < 2; corked++) {
		struct side x;

		side_tcp(&x);
		str_clear(&heard);
		if (corked)
			net_stream_cork(x.s);
		net_stream_write(x.s, "head", 4);
		assert_true(net_stream_send_file(x.s, fd, 7, size - 7) > 0);
		net_stream_send_file(x.s, fd, 0, 0);
		net_stream_write(x.s, "middle", 6);
		net_stream_send_file(x.s, fd, 0, 100);
		net_stream_write(x.s, "\r\n.\r\n", 5);
		if (corked)
			assert_true(net_stream_uncork(x.s) > 0);
		while (x.count[NET_DRAINED] == 0) {
			hear(&x, &heard);
			loop_turn();
		}
		assert_not_held_back(&x);
		while (heard.len < want.len)
			hear(&x, &heard);
		assert_int_equal(heard.len, want.len);
		assert_memory_equal(heard.data, want.data, want.len);
		side_deinit(&x);
	}
	str_deinit(&want);
	str_deinit(&heard);
	free(data);
	close(fd);
}

static void
a_small_file_leaves_at_once(void **state)
{
	const int fd = memory_file("body", 4);
	struct str heard = STR_INIT;
	struct side x;

	(void)state;
	side_tcp(&x);
	net_stream_cork(x.s);
	net_stream_write(x.s, "head ", 5);
	net_stream_send_file(x.s, fd, 0, 4);
	net_stream_write(x.s, " tail", 5);
	assert_int_equal(net_stream_uncork(x.s), 0);
	assert_not_held_back(&x);
	while (heard.len < 14)
		hear(&x, &heard);
	assert_string_equal(str_text(&heard), "head body tail");
	str_deinit(&heard);
	close(fd);
	side_deinit(&x);
}

static void
a_file_shorter_than_said_breaks_the_stream(void **state)
{
	const int fd = memory_file("short", 5);
	struct side x;

	(void)state;
	side_tcp(&x);
	net_stream_send_file(x.s, fd, 0, 6);
	net_stream_write(x.s, "\r\n.\r\n", 5);
	WAIT_FOR(x.count[NET_BROKEN] == 1);
	assert_non_null(strstr(net_stream_error(x.s), "shorter"));
	assert_int_equal(net_stream_waiting(x.s), 0);
	assert_string_equal(str_text(&x.order), "X");
	close(fd);
	side_deinit(&x);
}

/* ---- deadlines ---- */

static void
a_deadline_comes_once_and_can_be_moved_or_taken_away(void **state)
{
	uint64_t begin;
	struct side x;

	(void)state;
	side_unix(&x);
	begin = clock_ms();
	net_stream_deadline(x.s, 5);
	net_stream_deadline(x.s, 30);
	WAIT_FOR(x.count[NET_TIMEOUT] == 1);
	assert_true(clock_ms() - begin >= 29);
	net_stream_deadline(x.s, 5);
	net_stream_deadline(x.s, 0);
	begin = clock_ms();
	WAIT_FOR(clock_ms() - begin > 20);
	assert_string_equal(str_text(&x.order), "T");
	side_deinit(&x);
}

/* ---- the end ---- */

static void
make_event(struct side *x, enum net_event ev, char *lots)
{
	struct str heard = STR_INIT;

	switch (ev) {
	case NET_BYTES:
		say(x, "hello");
		break;
	case NET_DRAINED:
		net_stream_write(x->s, lots, LOTS);
		break;
	case NET_EOF:
		shutdown(x->peer, SHUT_WR);
		break;
	case NET_TIMEOUT:
		net_stream_deadline(x->s, 1);
		break;
	case NET_BROKEN:
		peer_reset(x);
		break;
	case NET_TLS_UP: /* t/unit/test_tls.c */
		return;
	}
	while (x->count[ev] == 0) {
		if (ev == NET_DRAINED)
			hear(x, &heard);
		loop_turn();
	}
	str_deinit(&heard);
}

static void
a_stream_may_be_freed_or_finished_inside_every_event(void **state)
{
	char *lots = pattern(LOTS);

	(void)state;
	for (int ev = 0; ev < EVENTS; ev++) {
		for (int finish = 0; finish < 2; finish++) {
			struct side x;

			side_tcp(&x);
			*(finish ? &x.finish_at : &x.free_at) = ev;
			make_event(&x, (enum net_event)ev, lots);
			assert_null(x.s);
			if (x.peer >= 0)
				close(x.peer);
			x.peer = -1;
			for (int i = 0; i < 10; i++)
				loop_turn();
			assert_int_equal(x.order.len, 1);
			side_deinit(&x);
		}
	}
	free(lots);
}

static void
held_octets_shown_again_may_free_the_stream(void **state)
{
	struct side x;

	(void)state;
	side_unix(&x);
	x.take = 1;
	say(&x, "abc");
	WAIT_FOR(x.count[NET_BYTES] == 1);
	net_stream_again(x.s);
	x.free_at = NET_BYTES;
	loop_turn();
	loop_turn();
	assert_null(x.s);
	assert_string_equal(str_text(&x.order), "BB");
	side_deinit(&x);
}

static void
free_closes_and_nothing_follows(void **state)
{
	struct str heard = STR_INIT;
	struct side x;

	(void)state;
	side_unix(&x);
	say(&x, "abc");
	net_stream_deadline(x.s, 1);
	net_stream_again(x.s);
	net_stream_free(&x.s);
	assert_null(x.s);
	net_stream_free(&x.s);
	for (int i = 0; i < 10; i++)
		loop_turn();
	assert_int_equal(x.order.len, 0);
	errno = 0;
	assert_true(hear(&x, &heard) || errno == ECONNRESET);
	side_deinit(&x);
}

static void
finish_delivers_the_last_reply_though_input_is_unread(void **state)
{
	char *data = pattern(300000);
	struct str heard = STR_INIT;
	struct side x;
	bool end = false;

	(void)state;
	side_tcp(&x);
	net_stream_cork(x.s);
	net_stream_write(x.s, "554 go away\r\n", 13);
	assert_true(write(x.peer, data, 300000) > 0);
	net_stream_finish(&x.s, 10000);
	assert_null(x.s);
	for (int i = 0; i < 20; i++) {
		(void)!write(x.peer, data, 1000); /* and it talks on */
		loop_turn();
	}
	while (!end)
		end = hear(&x, &heard);
	assert_string_equal(str_text(&heard), "554 go away\r\n");
	assert_int_equal(x.order.len, 0);
	close(x.peer);
	x.peer = -1;
	for (int i = 0; i < 10; i++)
		loop_turn();
	str_deinit(&heard);
	free(data);
	side_deinit(&x);
}

static void
finish_sends_all_that_waits_to_a_peer_that_has_ended(void **state)
{
	char *data = pattern(LOTS);
	struct str heard = STR_INIT;
	struct side x;
	bool end = false;

	(void)state;
	side_tcp(&x);
	shutdown(x.peer, SHUT_WR);
	WAIT_FOR(x.count[NET_EOF] == 1);
	assert_true(net_stream_write(x.s, data, LOTS) > 0);
	net_stream_finish(&x.s, 10000);
	while (!end) {
		end = hear(&x, &heard);
		loop_turn();
	}
	assert_int_equal(heard.len, LOTS);
	assert_memory_equal(heard.data, data, LOTS);
	str_deinit(&heard);
	free(data);
	side_deinit(&x);
}

static void
finish_ends_when_its_patience_does(void **state)
{
	char *data = pattern(LOTS);
	struct side x;
	struct pollfd pfd = {0};

	(void)state;
	side_unix(&x);
	net_stream_write(x.s, data, LOTS);
	net_stream_finish(&x.s, 10);
	pfd.fd = x.peer;
	WAIT_FOR(poll(&pfd, 1, 0) == 1 && (pfd.revents & POLLHUP));
	free(data);
	side_deinit(&x);
}

static void
finish_without_patience_still_writes_what_was_corked(void **state)
{
	struct str heard = STR_INIT;
	struct side x;

	(void)state;
	side_unix(&x);
	net_stream_cork(x.s);
	net_stream_write(x.s, "bye", 3);
	net_stream_finish(&x.s, 0);
	assert_false(hear(&x, &heard));
	assert_true(hear(&x, &heard));
	assert_string_equal(str_text(&heard), "bye");
	str_deinit(&heard);
	side_deinit(&x);
}

/* ---- the rest ---- */

static void
answers_inside_events_go_back_and_forth(void **state)
{
	struct str heard = STR_INIT;
	struct side x;

	(void)state;
	side_tcp(&x);
	x.answer = "250 ok\r\n";
	for (int i = 0; i < 50; i++) {
		say(&x, "NOOP\r\n");
		while (heard.len < 8u * (unsigned)(i + 1)) {
			loop_turn();
			hear(&x, &heard);
		}
	}
	str_deinit(&heard);
	side_deinit(&x);
}

static void
a_stream_knows_both_ends(void **state)
{
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);
	char text[64], want[64];
	struct side x;

	(void)state;
	side_tcp(&x);
	assert_return_code(getsockname(x.peer, (struct sockaddr *)&sin, &len), 0);
	snprintf(want, sizeof(want), "127.0.0.1:%u", ntohs(sin.sin_port));
	ip_addr_port_text(net_stream_peer(x.s), text, sizeof(text));
	assert_string_equal(text, want);
	assert_return_code(getpeername(x.peer, (struct sockaddr *)&sin, &len), 0);
	snprintf(want, sizeof(want), "127.0.0.1:%u", ntohs(sin.sin_port));
	ip_addr_port_text(net_stream_local(x.s), text, sizeof(text));
	assert_string_equal(text, want);
	assert_ptr_equal(net_stream_worker(x.s), worker);
	side_deinit(&x);
	side_unix(&x);
	assert_int_equal(net_stream_peer(x.s)->family, AF_UNIX);
	assert_int_equal(net_stream_local(x.s)->family, AF_UNIX);
	side_deinit(&x);
}

static void
a_new_owner_gets_what_the_old_one_left(void **state)
{
	struct side x, heir = {.take = SIZE_MAX, .free_at = -1, .finish_at = -1};

	(void)state;
	side_unix(&x);
	x.take = 2;
	say(&x, "abcde");
	WAIT_FOR(x.count[NET_BYTES] == 1);
	net_stream_set_owner(x.s, side_event, &heir);
	net_stream_again(x.s);
	WAIT_FOR(heir.count[NET_BYTES] == 1);
	assert_string_equal(str_text(&heir.got), "cde");
	str_deinit(&heir.got);
	str_deinit(&heir.order);
	side_deinit(&x);
}

static void
unseen_input_end_and_reset_make_a_stream_readable(void **state)
{
	struct pollfd pfd = {.events = POLLIN};
	struct side x;

	(void)state;
	side_tcp(&x);
	pfd.fd = x.fd;
	assert_false(net_stream_is_readable(x.s));
	say(&x, "250 early\r\n");
	assert_int_equal(poll(&pfd, 1, 5000), 1);
	assert_true(net_stream_is_readable(x.s));
	WAIT_FOR(x.count[NET_BYTES] == 1);
	assert_false(net_stream_is_readable(x.s));
	shutdown(x.peer, SHUT_WR);
	assert_int_equal(poll(&pfd, 1, 5000), 1);
	assert_true(net_stream_is_readable(x.s));
	WAIT_FOR(x.count[NET_EOF] == 1);
	assert_false(net_stream_is_readable(x.s));
	peer_reset(&x);
	pfd.events = 0;
	assert_int_equal(poll(&pfd, 1, 5000), 1);
	assert_true(net_stream_is_readable(x.s));
	side_deinit(&x);
}

static void
a_released_descriptor_lives_on_in_another_stream(void **state)
{
	struct side x, heir;
	struct net_parcel parcel;

	(void)state;
	side_tcp(&x);
	say(&x, "one");
	WAIT_FOR(x.count[NET_BYTES] == 1);
	net_stream_deadline(x.s, 1);
	say(&x, "two");
	parcel = net_stream_release(&x.s);
	assert_null(x.s);
	assert_int_equal(parcel.fd, x.fd);
	assert_null(parcel.tls);
	side_init(&heir, parcel.fd, x.peer);
	x.peer = -1;
	WAIT_FOR(heir.got.len == 3);
	assert_string_equal(str_text(&heir.got), "two");
	assert_string_equal(str_text(&x.order), "B");
	side_deinit(&x);
	side_deinit(&heir);
}

static void
a_descriptor_that_cannot_be_waited_for_is_told_as_broken(void **state)
{
	struct side x;

	(void)state;
	side_init(&x, memory_file("x", 1), open("/dev/null", O_RDONLY));
	WAIT_FOR(x.count[NET_BROKEN] == 1);
	side_deinit(&x);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, loop_setup, loop_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(input_split_anywhere_is_shown_whole),
		TEST(input_an_octet_at_a_time_is_held_until_it_is_taken),
		TEST(what_was_left_is_shown_again_when_asked_and_not_before),
		TEST(again_inside_an_event_goes_on_with_what_is_left),
		TEST(an_owner_that_takes_nothing_stops_the_reading_until_it_does),
		TEST(the_end_comes_once_and_behind_the_octets),
		TEST(octets_asked_for_again_come_before_the_end),
		TEST(a_reset_is_told_once_with_words),
		TEST(last_words_are_shown_before_a_break_that_a_write_found),
		TEST(ten_megabytes_leave_by_tcp),
		TEST(ten_megabytes_leave_by_a_unix_socket),
		TEST(many_small_writes_behind_a_full_socket_keep_their_order),
		TEST(corked_writes_leave_together_at_the_uncork),
		TEST(a_stream_freed_while_corked_gives_its_buffer_back),
		TEST(what_outgrows_the_cork_leaves_in_order_and_is_not_held_back),
		TEST(a_file_leaves_in_order_with_the_memory_around_it),
		TEST(a_small_file_leaves_at_once),
		TEST(a_file_shorter_than_said_breaks_the_stream),
		TEST(a_deadline_comes_once_and_can_be_moved_or_taken_away),
		TEST(a_stream_may_be_freed_or_finished_inside_every_event),
		TEST(held_octets_shown_again_may_free_the_stream),
		TEST(free_closes_and_nothing_follows),
		TEST(finish_delivers_the_last_reply_though_input_is_unread),
		TEST(finish_sends_all_that_waits_to_a_peer_that_has_ended),
		TEST(finish_ends_when_its_patience_does),
		TEST(finish_without_patience_still_writes_what_was_corked),
		TEST(answers_inside_events_go_back_and_forth),
		TEST(a_stream_knows_both_ends),
		TEST(a_new_owner_gets_what_the_old_one_left),
		TEST(unseen_input_end_and_reset_make_a_stream_readable),
		TEST(a_released_descriptor_lives_on_in_another_stream),
		TEST(a_descriptor_that_cannot_be_waited_for_is_told_as_broken),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
