/*
 * t/unit/test_tls.c - streams that speak TLS to each other, over a wire that the test may cut anywhere.
 */
#include "t/unit/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/list.h"
#include "base/str.h"
#include "base/xalloc.h"
#include "net/stream.h"

#define EVENTS (NET_TLS_UP + 1)
#define LOTS   (4 * 1024 * 1024)
#define FLOOD  (4 * NET_RECV_SIZE)
#define DAY    (24L * 3600)

/* One end: a stream and what its owner saw. */
struct end {
	struct net_stream *s;
	int fd;
	int count[EVENTS];
	struct str got;
	struct str order; /* a letter per event: B D E T X U */
	size_t take;	  /* at most per event */
	bool start_at_bytes;
	struct net_tls *tls; /* for start_at_bytes; borrowed */
	size_t unconfirmed; /* when octets were shown last */
};

/* Both ends. Through a wire, wire[] are the descriptors between them: the client's side and the server's. */
static struct end server, client;
static int wire[2] = {-1, -1};

static char folder[] = "/tmp/test_tls-XXXXXX";
static char ca_file[64], good_file[64], old_file[64], self_file[64], other_file[64], other_ca_file[64];
static unsigned char good_pin[NET_TLS_PIN_SIZE];

/* ---- certificates ---- */

struct signer {
	EVP_PKEY *key;
	X509 *cert;
};

static void
add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;

	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(ext);
	X509_add_ext(cert, ext, -1);
	X509_EXTENSION_free(ext);
}

/* names: of subjectAltName; NULL makes an authority. by: NULL signs itself. */
static struct signer
make_cert(const char *file, const char *names, const struct signer *by, long to)
{
	static long serial;
	struct signer it = {EVP_EC_gen("P-256"), X509_new()};
	X509_NAME *subject = X509_get_subject_name(it.cert);
	FILE *out = fopen(file, "w");

	assert_non_null(out);
	X509_set_version(it.cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(it.cert), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(it.cert), -30 * DAY);
	X509_gmtime_adj(X509_getm_notAfter(it.cert), to);
	X509_set_pubkey(it.cert, it.key);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)file, -1, -1, 0);
	X509_set_issuer_name(it.cert, by != NULL ? X509_get_subject_name(by->cert) : subject);
	add_extension(it.cert, it.cert, NID_basic_constraints, names == NULL ? "critical,CA:TRUE" : "CA:FALSE");
	if (names != NULL)
		add_extension(it.cert, it.cert, NID_subject_alt_name, names);
	assert_true(X509_sign(it.cert, by != NULL ? by->key : it.key, EVP_sha256()) > 0);
	PEM_write_X509(out, it.cert);
	PEM_write_PrivateKey(out, it.key, NULL, NULL, 0, NULL, NULL);
	assert_int_equal(fclose(out), 0);
	return it;
}

static void
signer_free(struct signer *it)
{
	EVP_PKEY_free(it->key);
	X509_free(it->cert);
}

static void
take_pin(const X509 *cert)
{
	unsigned char *der = NULL;
	const int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);

	assert_int_equal(EVP_Digest(der, (size_t)len, good_pin, NULL, EVP_sha256(), NULL), 1);
	OPENSSL_free(der);
}

static int
make_files(void **state)
{
	static const char names[] = "DNS:mail.example,IP:127.0.0.1";
	struct signer ca, other_ca, it;

	(void)state;
	if (mkdtemp(folder) == NULL)
		return -1;
	snprintf(ca_file, sizeof(ca_file), "%s/ca", folder);
	snprintf(other_ca_file, sizeof(other_ca_file), "%s/other-ca", folder);
	snprintf(good_file, sizeof(good_file), "%s/good", folder);
	snprintf(old_file, sizeof(old_file), "%s/old", folder);
	snprintf(self_file, sizeof(self_file), "%s/self", folder);
	snprintf(other_file, sizeof(other_file), "%s/other", folder);
	ca = make_cert(ca_file, NULL, NULL, DAY);
	other_ca = make_cert(other_ca_file, NULL, NULL, DAY);
	it = make_cert(good_file, names, &ca, DAY);
	take_pin(it.cert);
	signer_free(&it);
	it = make_cert(old_file, names, &ca, -DAY);
	signer_free(&it);
	it = make_cert(self_file, names, NULL, DAY);
	signer_free(&it);
	it = make_cert(other_file, "DNS:other.example", &ca, DAY);
	signer_free(&it);
	signer_free(&ca);
	signer_free(&other_ca);
	return 0;
}

static int
remove_files(void **state)
{
	const char *const files[] = {ca_file, good_file, old_file, self_file, other_file, other_ca_file};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(files); i++)
		unlink(files[i]);
	return rmdir(folder);
}

/* ---- contexts ---- */

/* Contexts borrow their configuration; each test has these two. */
static struct net_tls_conf server_conf, client_conf;
static struct net_tls *server_tls, *client_tls;

static void
make_contexts(void)
{
	struct err err = {0};

	server_tls = net_tls_new(&server_conf, &err);
	if (server_tls == NULL)
		fail_msg("%s", err.text);
	client_tls = net_tls_new(&client_conf, &err);
	if (client_tls == NULL)
		fail_msg("%s", err.text);
}

/* ---- ends ---- */

static size_t
end_event(void *owner, enum net_event ev, const char *data, size_t len)
{
	struct end *e = owner;
	size_t taken = 0;

	e->count[ev]++;
	str_addc(&e->order, "BDETXU"[ev]);
	if (ev != NET_BYTES)
		return 0;
	taken = len < e->take ? len : e->take;
	e->unconfirmed = net_stream_unconfirmed(e->s);
	str_addn(&e->got, data, taken);
	if (e->start_at_bytes) {
		e->start_at_bytes = false;
		net_stream_start_tls(e->s, e->tls, NULL);
	}
	return taken;
}

static void
end_init(struct end *e, int fd)
{
	memset(e, 0, sizeof(*e));
	e->take = SIZE_MAX;
	e->fd = fd;
	e->s = net_stream_new(worker, fd, end_event, e);
}

static void
end_deinit(struct end *e)
{
	net_stream_free(&e->s);
	str_deinit(&e->got);
	str_deinit(&e->order);
}

static void
socket_pair(int fds[2])
{
	assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
}

/* Two streams, in clear still. */
static void
connect_ends(void)
{
	int fds[2];

	socket_pair(fds);
	end_init(&client, fds[0]);
	end_init(&server, fds[1]);
}

/* The same with the test in between. */
static void
connect_by_wire(void)
{
	int fds[2];

	socket_pair(fds);
	end_init(&client, fds[0]);
	wire[0] = fds[1];
	socket_pair(fds);
	end_init(&server, fds[1]);
	wire[1] = fds[0];
}

/* Carries what there is from one side of the wire to the other, in pieces of this size with a turn of the loop
 * behind each. Returns how much. */
static size_t
carry_one_way(int from, int to, size_t size)
{
	static char buf[256 * 1024];
	const ssize_t n = read(from, buf, sizeof(buf));

	for (ssize_t at = 0; at < n;) {
		const size_t len = (size_t)(n - at) < size ? (size_t)(n - at) : size;
		const ssize_t sent = write(to, buf + at, len);

		if (sent < 0)
			assert_int_equal(errno, EAGAIN);
		else
			at += sent;
		loop_turn();
	}
	return n > 0 ? (size_t)n : 0;
}

static size_t
carry(size_t size)
{
	const size_t up = carry_one_way(wire[0], wire[1], size);

	loop_turn();
	return up + carry_one_way(wire[1], wire[0], size);
}

static void
start_tls(const char *name)
{
	net_stream_start_tls(server.s, server_tls, NULL);
	net_stream_start_tls(client.s, client_tls, name);
}

static bool
is_decided(const struct end *e)
{
	return e->count[NET_TLS_UP] > 0 || e->count[NET_BROKEN] > 0;
}

static void
shake_hands(const char *name)
{
	start_tls(name);
	WAIT_FOR(is_decided(&client) && is_decided(&server));
}

static void
ends_up(void)
{
	make_contexts();
	connect_ends();
	shake_hands("mail.example");
	assert_int_equal(client.count[NET_TLS_UP], 1);
	assert_int_equal(server.count[NET_TLS_UP], 1);
}

static void
turn(int times)
{
	while (times-- > 0)
		loop_turn();
}

static int
setup(void **state)
{
	if (loop_setup(state) < 0)
		return -1;
	server_conf = (struct net_tls_conf){
		.is_server = true, .certs = {{good_file, NULL}}, .cert_count = 1, .min_version = NET_TLS_1_2};
	client_conf = (struct net_tls_conf){.min_version = NET_TLS_1_2, .ca = ca_file, .verify = true};
	return 0;
}

static void
teardown_ends(void)
{
	end_deinit(&server);
	end_deinit(&client);
	for (int i = 0; i < 2; i++) {
		if (wire[i] >= 0)
			close(wire[i]);
		wire[i] = -1;
	}
	turn(2);
	net_tls_unref(&server_tls);
	net_tls_unref(&client_tls);
}

static int
teardown(void **state)
{
	teardown_ends();
	return loop_teardown(state);
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

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	return fd;
}

static void
assert_got(const struct end *e, const char *data, size_t len)
{
	assert_int_equal(e->got.len, len);
	assert_memory_equal(e->got.data, data, len);
}

/* ---- the handshake, and octets ---- */

static void
both_ends_come_up_and_know_each_other(void **state)
{
	struct net_tls_info info;

	(void)state;
	ends_up();
	net_stream_tls(server.s, &info);
	assert_string_equal(info.version, "TLSv1.3");
	assert_string_equal(info.name, "mail.example");
	assert_string_equal(info.fingerprint, "");
	assert_false(info.verified);
	assert_false(info.resumed);
	net_stream_tls(client.s, &info);
	assert_int_equal(strlen(info.fingerprint), 64);
	assert_true(info.verified);
	assert_true(net_stream_is_tls(server.s) && net_stream_is_tls(client.s));
	assert_string_equal(str_text(&server.order), "U");
	assert_string_equal(str_text(&client.order), "U");
}

/* The dot is for who looks the name up; no certificate has it, nor has SNI (RFC 6066 3). */
static void
a_dot_behind_the_name_is_not_a_part_of_it(void **state)
{
	struct net_tls_info info;

	(void)state;
	make_contexts();
	connect_ends();
	shake_hands("mail.example.");
	assert_string_equal(net_stream_error(client.s), "");
	net_stream_tls(client.s, &info);
	assert_true(info.verified);
	WAIT_FOR(server.count[NET_TLS_UP] == 1);
	net_stream_tls(server.s, &info);
	assert_string_equal(info.name, "mail.example");
}

static void
octets_go_both_ways(void **state)
{
	(void)state;
	ends_up();
	net_stream_write(client.s, "EHLO a\r\n", 8);
	net_stream_write(server.s, "250 b\r\n", 7);
	WAIT_FOR(server.got.len == 8 && client.got.len == 7);
	assert_got(&server, "EHLO a\r\n", 8);
	assert_got(&client, "250 b\r\n", 7);
	for (int i = 0; i < 100; i++) {
		net_stream_write(i % 2 ? client.s : server.s, "x", 1);
		loop_turn();
	}
	WAIT_FOR(server.got.len == 58 && client.got.len == 57);
}

static void
the_wire_may_cut_records_anywhere(void **state)
{
	static const size_t sizes[] = {1, 2, 3, 4, 5, 6, 7, 11, 100, 1000, 16383, 16384, 16385, 65536};
	const size_t len = 40000;
	char *data = pattern(len);

	(void)state;
	make_contexts();
	for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
		const size_t some = sizes[i] < 11 ? 2000 : len;

		connect_by_wire();
		start_tls("mail.example");
		while (!is_decided(&client) || !is_decided(&server))
			carry(sizes[i]);
		assert_int_equal(server.count[NET_TLS_UP], 1);
		assert_int_equal(client.count[NET_TLS_UP], 1);
		net_stream_write(client.s, data, some);
		net_stream_write(server.s, data, some);
		while (server.got.len < some || client.got.len < some) {
			carry(sizes[i]);
			loop_turn();
		}
		assert_got(&server, data, some);
		assert_got(&client, data, some);
		assert_int_equal(server.count[NET_BROKEN] + client.count[NET_BROKEN], 0);
		end_deinit(&server);
		end_deinit(&client);
		close(wire[0]);
		close(wire[1]);
		wire[0] = wire[1] = -1;
		turn(2);
	}
	free(data);
}

static void
starttls_after_words_in_clear(void **state)
{
	(void)state;
	make_contexts();
	connect_ends();
	server.start_at_bytes = true;
	server.tls = server_tls;
	net_stream_write(client.s, "STARTTLS\r\n", 10);
	WAIT_FOR(server.count[NET_BYTES] == 1);
	assert_false(net_stream_is_tls(server.s));
	net_stream_start_tls(client.s, client_tls, "mail.example");
	WAIT_FOR(is_decided(&client) && is_decided(&server));
	assert_string_equal(str_text(&server.order), "BU");
	net_stream_write(client.s, "more", 4);
	WAIT_FOR(server.got.len == 14);
	assert_got(&server, "STARTTLS\r\nmore", 14);
}

static void
what_the_owner_leaves_is_held_and_shown_again(void **state)
{
	size_t len;
	const char *held;

	(void)state;
	ends_up();
	server.take = 2;
	net_stream_write(client.s, "abcde", 5);
	WAIT_FOR(server.count[NET_BYTES] == 1);
	held = net_stream_held(server.s, &len);
	assert_int_equal(len, 3);
	assert_memory_equal(held, "cde", 3);
	turn(3);
	assert_int_equal(server.count[NET_BYTES], 1);
	net_stream_again(server.s);
	WAIT_FOR(server.count[NET_BYTES] == 2);
	server.take = SIZE_MAX;
	net_stream_write(client.s, "fg", 2);
	WAIT_FOR(server.got.len == 7);
	assert_got(&server, "abcdefg", 7);
}

static void
an_owner_that_takes_nothing_stops_the_reading(void **state)
{
	char *data = pattern(LOTS);
	size_t len;

	(void)state;
	ends_up();
	server.take = 0;
	net_stream_write(client.s, data, LOTS);
	turn(100);
	net_stream_held(server.s, &len);
	assert_in_range(len, NET_HELD_MAX, NET_HELD_MAX + 2 * NET_RECV_SIZE);
	assert_true(net_stream_waiting(client.s) > 0);
	server.take = SIZE_MAX;
	net_stream_again(server.s);
	WAIT_FOR(server.got.len == LOTS);
	assert_got(&server, data, LOTS);
	free(data);
}

/* ---- output ---- */

static void
a_lot_leaves_in_order_and_then_drained_comes(void **state)
{
	char *data = pattern(LOTS);
	const struct iovec iov[] = {{data + 1000, 500}, {NULL, 0}, {data + 1500, LOTS - 2000}};

	(void)state;
	ends_up();
	assert_int_equal(net_stream_write(client.s, data, 1000), 0);
	assert_true(net_stream_writev(client.s, iov, 3) > NET_HIGH_MARK);
	net_stream_write(client.s, data + LOTS - 500, 500); /* behind what waits */
	WAIT_FOR(server.got.len == LOTS);
	assert_got(&server, data, LOTS);
	WAIT_FOR(client.count[NET_DRAINED] == 1);
	assert_int_equal(net_stream_waiting(client.s), 0);
	turn(3);
	assert_string_equal(str_text(&client.order), "UD");
	free(data);
}

static void
a_lot_goes_both_ways_at_once(void **state)
{
	char *data = pattern(LOTS);

	(void)state;
	ends_up();
	net_stream_write(client.s, data, LOTS);
	net_stream_write(server.s, data, LOTS);
	WAIT_FOR(server.got.len == LOTS && client.got.len == LOTS);
	assert_got(&server, data, LOTS);
	assert_got(&client, data, LOTS);
	free(data);
}

static void
a_file_leaves_in_order_with_the_memory_around_it(void **state)
{
	static const size_t sizes[] = {1, 5, 16383, 16384, 16385, 100000, LOTS - 7};
	char *data = pattern(LOTS);
	const int fd = memory_file(data, LOTS);
	struct str want = STR_INIT;

	(void)state;
	ends_up();
	for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
		for (int corked = 0; corked < 2; corked++) {
			str_clear(&want);
			str_clear(&server.got);
			str_add(&want, "head");
			str_addn(&want, data + 7, sizes[i]);
			str_add(&want, "\r\n.\r\n");
			if (corked)
				net_stream_cork(client.s);
			net_stream_write(client.s, "head", 4);
			net_stream_send_file(client.s, fd, 7, sizes[i]);
			net_stream_write(client.s, "\r\n.\r\n", 5);
			if (corked)
				net_stream_uncork(client.s);
			WAIT_FOR(server.got.len == want.len);
			assert_got(&server, want.data, want.len);
			WAIT_FOR(net_stream_waiting(client.s) == 0);
		}
	}
	str_deinit(&want);
	free(data);
	close(fd);
}

static void
a_file_shorter_than_said_breaks_the_stream(void **state)
{
	const int fd = memory_file("short", 5);

	(void)state;
	ends_up();
	net_stream_send_file(client.s, fd, 0, 6);
	WAIT_FOR(client.count[NET_BROKEN] == 1);
	assert_non_null(strstr(net_stream_error(client.s), "shorter"));
	assert_null(net_stream_tls_phrase(client.s));
	assert_int_equal(net_stream_write(client.s, "x", 1), 0);
	turn(5);
	assert_int_equal(server.got.len, 0);
	close(fd);
}

/* How many records have come at this side of the wire. */
static int
count_records(int fd)
{
	unsigned char buf[65536];
	const ssize_t n = read(fd, buf, sizeof(buf));
	int records = 0;

	for (ssize_t at = 0; at + 5 <= n; at += 5 + (buf[at + 3] << 8 | buf[at + 4]))
		records++;
	return records;
}

static void
wire_up(void)
{
	make_contexts();
	connect_by_wire();
	start_tls("mail.example");
	while (!is_decided(&client) || !is_decided(&server))
		carry(SIZE_MAX);
	while (carry(SIZE_MAX) > 0)
		;
}

static void
corked_writes_share_a_record(void **state)
{
	(void)state;
	wire_up();
	net_stream_write(client.s, "a", 1);
	net_stream_write(client.s, "b", 1);
	assert_int_equal(count_records(wire[0]), 2);
	net_stream_cork(client.s);
	net_stream_write(client.s, "MAIL\r\n", 6);
	net_stream_write(client.s, "RCPT\r\n", 6);
	net_stream_write(client.s, "DATA\r\n", 6);
	assert_int_equal(count_records(wire[0]), 0);
	assert_int_equal(net_stream_uncork(client.s), 0);
	assert_int_equal(count_records(wire[0]), 1);
}

/* ---- is it readable? ---- */

static void
wait_readable(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	assert_int_equal(poll(&pfd, 1, 5000), 1);
}

/* Nobody knows what is in it: it may be a reply that was said too early. */
static void
a_record_that_is_here_in_part_is_readable(void **state)
{
	char buf[1000];
	ssize_t n;

	(void)state;
	wire_up();
	net_stream_write(client.s, "early", 5);
	n = read(wire[0], buf, sizeof(buf));
	assert_int_equal(write(wire[1], buf, 3), 3);
	wait_readable(server.fd);
	assert_true(net_stream_is_readable(server.s));
	turn(2);
	assert_true(net_stream_is_readable(server.s));
	assert_int_equal(write(wire[1], buf + 3, (size_t)n - 3), n - 3);
	WAIT_FOR(server.count[NET_BYTES] == 1);
	assert_got(&server, "early", 5);
	assert_false(net_stream_is_readable(server.s));
}

/* For who asks whether a reply came after what it answers: its first octet counts, not its last. */
static void
a_record_is_as_old_as_its_first_octet(void **state)
{
	char buf[1000];
	ssize_t n;

	(void)state;
	wire_up();
	net_stream_write(server.s, "dot", 3);
	net_stream_write(client.s, "250", 3);
	n = read(wire[0], buf, sizeof(buf));
	assert_int_equal(write(wire[1], buf, 3), 3);
	turn(3);
	carry_one_way(wire[1], wire[0], SIZE_MAX);
	assert_int_equal(net_stream_unconfirmed(server.s), 0);
	assert_int_equal(write(wire[1], buf + 3, (size_t)n - 3), n - 3);
	WAIT_FOR(server.count[NET_BYTES] == 1);
	assert_true(server.unconfirmed > 0);
	net_stream_write(client.s, "250", 3);
	carry_one_way(wire[0], wire[1], SIZE_MAX);
	WAIT_FOR(server.count[NET_BYTES] == 2);
	assert_int_equal(server.unconfirmed, 0);
}

static void
a_ticket_alone_makes_nothing_readable(void **state)
{
	char buf[8192];
	ssize_t n;

	(void)state;
	make_contexts();
	connect_by_wire();
	start_tls("mail.example");
	while (client.count[NET_TLS_UP] == 0)
		carry(SIZE_MAX);
	/* The client has said all; what now comes to it is the server's ticket. */
	carry_one_way(wire[0], wire[1], SIZE_MAX);
	while ((n = read(wire[1], buf, sizeof(buf))) <= 0)
		loop_turn();
	assert_int_equal(client.count[NET_TLS_UP], 1);
	assert_false(net_stream_is_readable(client.s));
	assert_int_equal(write(wire[0], buf, (size_t)n), n);
	wait_readable(client.fd);
	assert_false(net_stream_is_readable(client.s));
	turn(3);
	assert_string_equal(str_text(&client.order), "U");
}

static void
octets_make_it_readable_and_are_shown_later(void **state)
{
	(void)state;
	ends_up();
	turn(3);
	net_stream_write(server.s, "421 bye\r\n", 9);
	wait_readable(client.fd);
	assert_true(net_stream_is_readable(client.s));
	assert_true(net_stream_is_readable(client.s));
	assert_int_equal(client.count[NET_BYTES], 0);
	WAIT_FOR(client.got.len == 9);
	assert_got(&client, "421 bye\r\n", 9);
	assert_false(net_stream_is_readable(client.s));
}

static void
octets_behind_those_seen_by_asking_keep_their_order(void **state)
{
	char *data = pattern(100000);

	(void)state;
	ends_up();
	turn(3);
	net_stream_write(server.s, data, 20000);
	wait_readable(client.fd);
	assert_true(net_stream_is_readable(client.s));
	net_stream_write(server.s, data + 20000, 80000);
	WAIT_FOR(client.got.len == 100000);
	assert_got(&client, data, 100000);
	free(data);
}

static void
a_goodbye_and_an_end_make_it_readable(void **state)
{
	(void)state;
	ends_up();
	turn(3);
	net_stream_finish(&server.s, 10000);
	wait_readable(client.fd);
	assert_true(net_stream_is_readable(client.s));
	WAIT_FOR(client.count[NET_EOF] == 1);
	turn(3);
	assert_string_equal(str_text(&client.order), "UE");
	assert_true(net_stream_got_eof(client.s));
}

static void
an_end_without_goodbye_is_an_end_also_when_asked(void **state)
{
	(void)state;
	ends_up();
	turn(3);
	net_stream_free(&server.s);
	wait_readable(client.fd);
	assert_true(net_stream_is_readable(client.s));
	WAIT_FOR(client.count[NET_EOF] + client.count[NET_BROKEN] > 0);
	turn(3);
	assert_string_equal(str_text(&client.order), "UE");
}

/* ---- the end ---- */

static void
a_goodbye_is_an_end_though_the_connection_stays(void **state)
{
	(void)state;
	wire_up();
	net_stream_write(client.s, "QUIT\r\n", 6);
	net_stream_finish(&client.s, 10000);
	while (server.count[NET_EOF] == 0)
		carry(7);
	assert_got(&server, "QUIT\r\n", 6);
	assert_string_equal(str_text(&server.order), "UBE");
	/* We may still answer. */
	assert_int_equal(net_stream_write(server.s, "221 bye\r\n", 9), 0);
	assert_true(carry(SIZE_MAX) > 0);
	turn(3);
	assert_string_equal(str_text(&server.order), "UBE");
}

static void
a_cut_connection_is_an_end_behind_the_octets(void **state)
{
	(void)state;
	ends_up();
	turn(3); /* with the ticket unread it would be a reset */
	net_stream_write(client.s, "half a comm", 11);
	net_stream_free(&client.s);
	WAIT_FOR(server.count[NET_EOF] == 1);
	assert_string_equal(str_text(&server.order), "UBE");
	assert_got(&server, "half a comm", 11);
}

static void
what_follows_a_goodbye_is_not_read(void **state)
{
	char goodbye[1000];
	ssize_t n;

	(void)state;
	wire_up();
	net_stream_finish(&client.s, 10000);
	loop_turn();
	n = read(wire[0], goodbye, sizeof(goodbye) - 6);
	assert_true(n > 0);
	memcpy(goodbye + n, "NOOP\r\n", 6);
	assert_int_equal(write(wire[1], goodbye, (size_t)n + 6), n + 6);
	WAIT_FOR(server.count[NET_EOF] == 1);
	assert_int_equal(write(wire[1], "NOOP\r\n", 6), 6);
	turn(5);
	assert_string_equal(str_text(&server.order), "UE");
}

static void
a_changed_octet_breaks_the_stream_and_is_not_shown(void **state)
{
	char buf[1000];
	ssize_t n;

	(void)state;
	wire_up();
	net_stream_write(client.s, "good", 4);
	net_stream_write(client.s, "evil", 4);
	n = read(wire[0], buf, sizeof(buf));
	buf[n - 1] ^= 1;
	assert_int_equal(write(wire[1], buf, (size_t)n), n);
	WAIT_FOR(server.count[NET_BROKEN] == 1);
	assert_got(&server, "good", 4);
	assert_string_equal(str_text(&server.order), "UBX");
	assert_non_null(strstr(net_stream_error(server.s), "TLS: "));
	assert_string_equal(net_stream_tls_phrase(server.s), "a TLS protocol error");
	turn(3);
	assert_int_equal(server.count[NET_BROKEN], 1);
}

/* In the socket, behind a record with a changed octet, there is more than a stream reads at a time. */
static void
assert_flood_is_left(struct end *from, struct end *to, bool is_asked)
{
	static const int size = 8 * FLOOD;
	char *octets = pattern(FLOOD);
	ssize_t n;

	wire_up();
	if (setsockopt(wire[to == &server], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0) {
		free(octets);
		skip(); /* not root */
	}
	net_stream_write(from->s, "evil", 4);
	n = read(wire[from == &server], octets, FLOOD);
	assert_true(n > 0);
	octets[n - 1] ^= 1;
	assert_int_equal(write(wire[to == &server], octets, FLOOD), FLOOD);
	if (is_asked)
		assert_true(net_stream_is_readable(to->s));
	WAIT_FOR(to->count[NET_BROKEN] == 1);
	assert_string_equal(str_text(&to->order), "UX");
	assert_string_equal(net_stream_tls_phrase(to->s), "a TLS protocol error");
	teardown_ends();
	free(octets);
}

static void
a_flood_behind_a_changed_octet_is_left_where_it_is(void **state)
{
	(void)state;
	for (int is_asked = 0; is_asked < 2; is_asked++) {
		assert_flood_is_left(&client, &server, is_asked);
		assert_flood_is_left(&server, &client, is_asked);
	}
}

static void
finish_sends_all_that_waits_and_a_goodbye(void **state)
{
	char *data = pattern(LOTS);

	(void)state;
	ends_up();
	net_stream_write(client.s, data, LOTS);
	net_stream_finish(&client.s, 10000);
	WAIT_FOR(server.count[NET_EOF] == 1);
	assert_got(&server, data, LOTS);
	assert_int_equal(server.count[NET_BROKEN], 0);
	free(data);
}

static void
a_stream_goes_over_to_another_owner_with_its_tls(void **state)
{
	struct net_parcel parcel;

	(void)state;
	ends_up();
	net_stream_write(client.s, "one", 3);
	WAIT_FOR(server.got.len == 3);
	parcel = net_stream_release(&server.s);
	assert_null(server.s);
	assert_non_null(parcel.tls);
	net_stream_write(client.s, "two", 3);
	turn(3);
	server.s = net_stream_adopt(worker, parcel, end_event, &server);
	assert_true(net_stream_is_tls(server.s));
	WAIT_FOR(server.got.len == 6);
	assert_got(&server, "onetwo", 6);
	net_stream_write(server.s, "three", 5);
	WAIT_FOR(client.got.len == 5);
	assert_got(&client, "three", 5);
	assert_int_equal(server.count[NET_TLS_UP], 1);
}

/* Key updates ask for answers that nobody reads. */
static void
a_peer_that_asks_tls_for_answers_and_reads_none_is_cut(void **state)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(ctx);
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	char buf[65536];
	int fds[2], n;

	(void)state;
	make_contexts();
	socket_pair(fds);
	end_init(&server, fds[1]);
	wire[0] = fds[0];
	net_stream_start_tls(server.s, server_tls, NULL);
	SSL_set_bio(ssl, in, out);
	SSL_set_connect_state(ssl);
	while (SSL_do_handshake(ssl) != 1 || server.count[NET_TLS_UP] == 0) {
		while ((n = BIO_read(out, buf, sizeof(buf))) > 0)
			assert_int_equal(write(fds[0], buf, (size_t)n), n);
		loop_turn();
		while ((n = (int)read(fds[0], buf, sizeof(buf))) > 0)
			BIO_write(in, buf, n);
	}
	for (int i = 0; i < 100000 && server.count[NET_BROKEN] == 0; i++) {
		assert_int_equal(SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED), 1);
		SSL_do_handshake(ssl);
		n = BIO_read(out, buf, sizeof(buf));
		if (n > 0)
			(void)!write(fds[0], buf, (size_t)n);
		loop_turn();
	}
	assert_int_equal(server.count[NET_BROKEN], 1);
	assert_string_equal(net_stream_error(server.s), "TLS: answers are asked for and not read");
	SSL_free(ssl);
	SSL_CTX_free(ctx);
}

/* ---- resumption ---- */

static void
a_second_session_is_resumed_under_the_same_name_only(void **state)
{
	static const struct {
		const char *name;
		bool resumed;
	} cases[] = {{"mail.example", false}, {"mail.example", true}, {"127.0.0.1", false}, {"mail.example", true}};
	struct net_tls_info info;

	(void)state;
	make_contexts();
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		connect_ends();
		shake_hands(cases[i].name);
		net_stream_write(server.s, "x", 1);
		WAIT_FOR(client.got.len == 1); /* the ticket came before it */
		net_stream_tls(client.s, &info);
		assert_int_equal(info.resumed, cases[i].resumed);
		assert_true(info.verified);
		net_stream_tls(server.s, &info);
		assert_int_equal(info.resumed, cases[i].resumed);
		end_deinit(&server);
		end_deinit(&client);
		turn(2);
	}
}

/* ---- failures ---- */

static const struct failure {
	const char *name; /* of the case */
	const char *certificate, *ca, *asked;
	int server_min;
	const char *client_phrase, *server_phrase; /* NULL: of no interest */
	const char *client_certificate;
	int ask;
} failures[] = {
	{"another name", other_file, ca_file, "mail.example", NET_TLS_1_2, "its certificate is for another name",
		"it refused our certificate, or ours is missing", NULL, 0},
	{"another address", other_file, ca_file, "127.0.0.1", NET_TLS_1_2, "its certificate is for another name", NULL,
		NULL, 0},
	{"signed by itself", self_file, ca_file, "mail.example", NET_TLS_1_2,
		"its certificate is not signed by an authority that is trusted here",
		"it refused our certificate, or ours is missing", NULL, 0},
	{"another authority", good_file, other_ca_file, "mail.example", NET_TLS_1_2,
		"its certificate is not signed by an authority that is trusted here",
		"it refused our certificate, or ours is missing", NULL, 0},
	{"expired", old_file, ca_file, "mail.example", NET_TLS_1_2, "its certificate has expired",
		"it refused our certificate, or ours is missing", NULL, 0},
	{"no certificate of the client", good_file, ca_file, "mail.example", NET_TLS_1_2, NULL,
		"it gave no certificate", NULL, NET_TLS_ASK_REQUIRE},
	{"an expired one of the client", good_file, ca_file, "mail.example", NET_TLS_1_2, NULL,
		"its certificate has expired", old_file, NET_TLS_ASK_REQUIRE},
	{"one that signed itself", good_file, ca_file, "mail.example", NET_TLS_1_2, NULL,
		"its certificate is not signed by an authority that is trusted here", self_file, NET_TLS_ASK_REQUIRE},
};

static void
a_handshake_that_fails_is_told_in_words(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(failures); i++) {
		const struct failure *f = &failures[i];

		print_message("# %s\n", f->name);
		server_conf.certs[0].certificate = f->certificate;
		server_conf.ask = f->ask;
		server_conf.ca = f->ask != NET_TLS_ASK_NOT ? ca_file : NULL;
		client_conf.ca = f->ca;
		client_conf.certs[0].certificate = f->client_certificate;
		client_conf.cert_count = f->client_certificate != NULL ? 1 : 0;
		make_contexts();
		connect_ends();
		shake_hands(f->asked);
		WAIT_FOR(server.count[NET_BROKEN] == 1);
		if (f->client_phrase != NULL) {
			assert_int_equal(client.count[NET_BROKEN], 1);
			assert_string_equal(net_stream_tls_phrase(client.s), f->client_phrase);
			assert_string_equal(str_text(&client.order), "X");
		}
		if (f->server_phrase != NULL)
			assert_string_equal(net_stream_tls_phrase(server.s), f->server_phrase);
		assert_int_equal(strncmp(net_stream_error(server.s), "TLS: ", 5), 0);
		assert_int_equal(server.count[NET_TLS_UP], 0);
		end_deinit(&server);
		end_deinit(&client);
		turn(2);
		net_tls_unref(&server_tls);
		net_tls_unref(&client_tls);
	}
}

/* As the client, with octets of our own: what the server says of it. */
static void
assert_server_says(const char *octets, const char *phrase)
{
	int fds[2];

	socket_pair(fds);
	end_init(&server, fds[1]);
	net_stream_start_tls(server.s, server_tls, NULL);
	assert_int_equal(write(fds[0], octets, strlen(octets)), strlen(octets));
	WAIT_FOR(server.count[NET_BROKEN] == 1);
	assert_string_equal(net_stream_tls_phrase(server.s), phrase);
	assert_string_equal(str_text(&server.order), "X");
	end_deinit(&server);
	close(fds[0]);
	turn(2);
}

static void
who_does_not_speak_tls_is_told_so(void **state)
{
	(void)state;
	make_contexts();
	assert_server_says("EHLO client.example\r\n", "it does not speak TLS");
	assert_server_says("GET / HTTP/1.0\r\n\r\n", "it does not speak TLS");
	assert_server_says("CONNECT mail.example:25 HTTP/1.0\r\n\r\n", "it does not speak TLS");
	connect_ends();
	net_stream_start_tls(client.s, client_tls, "mail.example");
	net_stream_write(server.s, "220 mail.example ESMTP\r\n", 24);
	WAIT_FOR(client.count[NET_BROKEN] == 1);
	assert_string_equal(net_stream_tls_phrase(client.s), "it does not speak TLS");
}

static void
no_version_in_common_is_told_so(void **state)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl;
	int fds[2];

	(void)state;
	server_conf.min_version = NET_TLS_1_3;
	make_contexts();
	SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	ssl = SSL_new(ctx);
	socket_pair(fds);
	end_init(&server, fds[1]);
	net_stream_start_tls(server.s, server_tls, NULL);
	SSL_set_fd(ssl, fds[0]);
	while (SSL_connect(ssl) < 0 && server.count[NET_BROKEN] == 0)
		loop_turn();
	assert_string_equal(net_stream_tls_phrase(server.s), "no TLS version in common");
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	close(fds[0]);
}

static void
an_end_in_the_handshake_is_a_failure(void **state)
{
	(void)state;
	make_contexts();
	connect_ends();
	net_stream_start_tls(server.s, server_tls, NULL);
	net_stream_free(&client.s);
	WAIT_FOR(server.count[NET_BROKEN] == 1);
	assert_string_equal(net_stream_error(server.s), "the connection was closed in the TLS handshake");
	assert_non_null(net_stream_tls_phrase(server.s));
	assert_string_equal(str_text(&server.order), "X");
}

static void
octets_in_clear_before_the_handshake_break_the_stream(void **state)
{
	(void)state;
	make_contexts();
	/* Left by the owner that starts TLS. */
	connect_ends();
	server.start_at_bytes = true;
	server.tls = server_tls;
	server.take = 10;
	net_stream_write(client.s, "STARTTLS\r\nMAIL\r\n", 16);
	WAIT_FOR(server.count[NET_BROKEN] == 1);
	assert_non_null(strstr(net_stream_error(server.s), "in clear"));
	assert_string_equal(str_text(&server.order), "BX");
	end_deinit(&server);
	end_deinit(&client);
	turn(2);
	/* Held from before. */
	connect_ends();
	server.take = 0;
	net_stream_write(client.s, "RSET\r\n", 6);
	WAIT_FOR(server.count[NET_BYTES] == 1);
	net_stream_start_tls(server.s, server_tls, NULL);
	WAIT_FOR(server.count[NET_BROKEN] == 1);
	assert_non_null(strstr(net_stream_error(server.s), "in clear"));
	assert_int_equal(server.got.len, 0);
}

/* ---- pins ---- */

static void
a_pin_decides_instead_of_chain_and_name(void **state)
{
	unsigned char wrong[NET_TLS_PIN_SIZE] = {0};
	struct net_tls_info info;

	(void)state;
	client_conf.ca = NULL;
	client_conf.verify = false;
	client_conf.pins = &good_pin;
	client_conf.pin_count = 1;
	make_contexts();
	connect_ends();
	shake_hands("whoever.example");
	assert_int_equal(client.count[NET_TLS_UP], 1);
	net_stream_tls(client.s, &info);
	assert_true(info.verified);
	end_deinit(&server);
	end_deinit(&client);
	turn(2);
	client_conf.pins = &wrong;
	connect_ends();
	start_tls("mail.example");
	WAIT_FOR(client.count[NET_BROKEN] == 1);
	assert_string_equal(net_stream_tls_phrase(client.s), "its key is not one of those that are pinned");
	assert_string_equal(str_text(&client.order), "X");
}

#define HEX16 "000102030405060708090a0b0c0d0e0f"
#define COLON "00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f"
#define B64   "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

static void
pins_are_written_in_either_way(void **state)
{
	static const struct {
		const char *text;
		bool good;
	} cases[] = {
		{HEX16 "101112131415161718191a1b1c1d1e1f", true},
		{HEX16 "101112131415161718191A1B1C1D1E1F", true},
		{COLON ":10:11:12:13:14:15:16:17:18:19:1a:1b:1c:1d:1e:1f", true},
		{"sha256//" B64, true},
		{B64, true},
		{"", false},
		{"sha256//", false},
		{HEX16, false},
		{HEX16 "101112131415161718191a1b1c1d1e1", false},
		{HEX16 "101112131415161718191a1b1c1d1e1f0", false},
		{HEX16 "101112131415161718191a1b1c1d1e1f:", false},
		{":" HEX16 "101112131415161718191a1b1c1d1e1f", false},
		{HEX16 "101112131415161718191a1b1c1d1e1g", false},
		{COLON "::10:11:12:13:14:15:16:17:18:19:1a:1b:1c:1d:1e:1f", false},
		{"sha256//AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", false},
		{"sha256//AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==", false},
		{"sha256//AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdH-8=", false},
		{"sha256//AAECAwQFBgcICQoLDA0=DxAREhMUFRYXGBkaGxwdHh8=", false},
		{"sha256// AECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", false},
		{"sha1//" B64, false},
	};
	unsigned char pin[NET_TLS_PIN_SIZE];
	struct err err;

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		print_message("# %s\n", cases[i].text);
		assert_int_equal(net_tls_pin_parse(cases[i].text, pin, &err), cases[i].good ? 0 : -1);
		for (unsigned char n = 0; cases[i].good && n < NET_TLS_PIN_SIZE; n++)
			assert_int_equal(pin[n], n);
		if (!cases[i].good)
			assert_non_null(strstr(err.text, "is not the SHA-256 of a public key"));
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(both_ends_come_up_and_know_each_other),
		TEST(a_dot_behind_the_name_is_not_a_part_of_it),
		TEST(octets_go_both_ways),
		TEST(the_wire_may_cut_records_anywhere),
		TEST(starttls_after_words_in_clear),
		TEST(what_the_owner_leaves_is_held_and_shown_again),
		TEST(an_owner_that_takes_nothing_stops_the_reading),
		TEST(a_lot_leaves_in_order_and_then_drained_comes),
		TEST(a_lot_goes_both_ways_at_once),
		TEST(a_file_leaves_in_order_with_the_memory_around_it),
		TEST(a_file_shorter_than_said_breaks_the_stream),
		TEST(corked_writes_share_a_record),
		TEST(a_ticket_alone_makes_nothing_readable),
		TEST(a_record_that_is_here_in_part_is_readable),
		TEST(a_record_is_as_old_as_its_first_octet),
		TEST(octets_make_it_readable_and_are_shown_later),
		TEST(octets_behind_those_seen_by_asking_keep_their_order),
		TEST(a_goodbye_and_an_end_make_it_readable),
		TEST(an_end_without_goodbye_is_an_end_also_when_asked),
		TEST(a_goodbye_is_an_end_though_the_connection_stays),
		TEST(a_cut_connection_is_an_end_behind_the_octets),
		TEST(what_follows_a_goodbye_is_not_read),
		TEST(a_changed_octet_breaks_the_stream_and_is_not_shown),
		TEST(a_flood_behind_a_changed_octet_is_left_where_it_is),
		TEST(finish_sends_all_that_waits_and_a_goodbye),
		TEST(a_stream_goes_over_to_another_owner_with_its_tls),
		TEST(a_peer_that_asks_tls_for_answers_and_reads_none_is_cut),
		TEST(a_second_session_is_resumed_under_the_same_name_only),
		TEST(a_handshake_that_fails_is_told_in_words),
		TEST(who_does_not_speak_tls_is_told_so),
		TEST(no_version_in_common_is_told_so),
		TEST(an_end_in_the_handshake_is_a_failure),
		TEST(octets_in_clear_before_the_handshake_break_the_stream),
		TEST(a_pin_decides_instead_of_chain_and_name),
		TEST(pins_are_written_in_either_way),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make_files, remove_files);
}
