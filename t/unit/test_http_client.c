/* t/unit/test_http_client.c - answers that are taken and answers that are not, at any split; one exchange. */
#include "t/unit/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/list.h"
#include "base/str.h"
#include "net/http_client.h"

/* ---- the parser ----------------------------------------------------------------------------- */

/* The content, or what is wrong. */
static const struct {
	const char *answer, *want;
	bool is_wrong;
} answers[] = {
	{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "200 hello", false},
	{"HTTP/1.0 200\r\nContent-length:5\r\n\r\nhello", "200 hello", false},
	{"HTTP/1.1 500 \r\nA: b\r\nCONTENT-LENGTH:\t5 \r\n\r\nhello", "500 hello", false},
	{"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404 ", false},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\n\r\n", "200 hello", false},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0005 \r\nhello\r\n000\r\nX: y\r\n\r\n", "200 hello", false},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n", "200 0123456789", false},
	/* heads that are none */
	{"220 mx ESMTP\r\n", "its answer is no HTTP", true},
	{"HTTP/2 200 OK\r\n\r\n", "its answer is no HTTP", true},
	{"HTTP/1.1  200 OK\r\n\r\n", "its answer is no HTTP", true},
	{"HTTP/1.1 20 OK\r\n\r\n", "its answer is no HTTP", true},
	{"HTTP/1.1 2x0 OK\r\n\r\n", "its answer has no status", true},
	{"HTTP/1.1 099 OK\r\n\r\n", "its answer has no status", true},
	{"HTTP/1.1 600 OK\r\n\r\n", "its answer has no status", true},
	{"HTTP/1.1 200OK\r\n\r\n", "its answer is no HTTP", true},
	{"\r\nHTTP/1.1 200 OK\r\n\r\n", "its answer is no HTTP", true},
	{"HTTP/1.1 200 OK\n", "its answer has a line in its head that does not end in CR LF", true},
	{"HTTP/1.1 200 OK\r\nA: b\n\r\n", "its answer has a line in its head that does not end in CR LF", true},
	{"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", "its answer has a line in its head that does not end in CR LF", true},
	{"HTTP/1.1 200 OK\r\nA\r\n\r\n", "its answer has a line in its head that is no field", true},
	{"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "its answer has a line in its head that is no field", true},
	{"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "its answer has a line in its head that is no field", true},
	{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", "its answer has a wrong Content-Length", true},
	{"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", "its answer has a wrong Content-Length", true},
	{"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "its answer has a wrong Content-Length", true},
	{"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", "its answer has a wrong Content-Length", true},
	{"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", "its answer has a wrong Content-Length", true},
	{"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "its answer has a wrong Content-Length", true},
	{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "its answer has a Content-Length and is chunked", true},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "its answer has a Transfer-Encoding that is not asked for", true},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
		"its answer has a Transfer-Encoding that is not asked for", true},
	/* chunks that are none */
#define CHUNKS "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	{CHUNKS "5\nhello\r\n0\r\n\r\n", "its answer has a wrong chunk", true},
	{CHUNKS "\r\nhello\r\n0\r\n\r\n", "its answer has a wrong chunk", true},
	{CHUNKS "0x5\r\nhello\r\n0\r\n\r\n", "its answer has a wrong chunk", true},
	{CHUNKS "-5\r\nhello\r\n0\r\n\r\n", "its answer has a wrong chunk", true},
	{CHUNKS "fffffffffffff\r\n", "its answer has a wrong chunk", true},
	{CHUNKS "5\r\nhello!\r\n0\r\n\r\n", "its answer has a wrong chunk", true},
	{CHUNKS "3\r\nhello\r\n0\r\n\r\n", "its answer has a wrong chunk", true},
};

struct whole {
	struct net_http_answer head;
	struct net_http_decoder decoder;
	bool has_head, is_wrong;
	struct str content;
	struct err err;
};

/* As the client does with what the stream shows: what is not taken is shown again. Returns the octets taken. */
static size_t
show(struct whole *w, const char *data, size_t len)
{
	size_t taken = 0, content_len = 0;
	const char *content;
	ssize_t n = 1;

	while (n > 0 && !(w->has_head && w->decoder.is_done)) {
		if (w->has_head) {
			n = net_http_decode(&w->decoder, data + taken, len - taken, &content, &content_len, &w->err);
			if (n > 0)
				str_addn(&w->content, content, content_len);
		} else if ((n = net_http_answer_parse(data + taken, len - taken, &w->head, &w->err)) > 0) {
			net_http_decoder_init(&w->decoder, &w->head);
			w->has_head = true;
		}
		taken += n > 0 ? (size_t)n : 0;
	}
	w->is_wrong = n < 0;
	return taken;
}

static void
check_answer(size_t i, size_t split)
{
	struct whole w = {.content = STR_INIT};
	const char *text = answers[i].answer;
	size_t len = strlen(text), taken = show(&w, text, split);
	struct str got = STR_INIT;

	if (!w.is_wrong)
		taken += show(&w, text + taken, len - taken);
	if (w.is_wrong)
		str_printf(&got, "%s", w.err.text);
	else
		str_printf(&got, "%d %s", w.head.status, str_text(&w.content));
	if (w.is_wrong != answers[i].is_wrong || strcmp(got.data, answers[i].want) != 0)
		fail_msg("\"%s\" split at %zu: %s", text, split, got.data);
	if (!w.is_wrong)
		assert_true(w.decoder.is_done && taken == len);
	str_deinit(&got);
	str_deinit(&w.content);
}

static void
an_answer_is_the_same_at_any_split(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(answers); i++)
		for (size_t split = 0; split <= strlen(answers[i].answer); split++)
			check_answer(i, split);
}

static void
a_head_is_bounded(void **state)
{
	struct net_http_answer a;
	struct str text = STR_INIT;
	struct err err;

	(void)state;
	str_add(&text, "HTTP/1.1 200 OK\r\nA: ");
	while (text.len < NET_HTTP_ANSWER_HEAD_MAX - 1)
		str_addc(&text, 'x');
	assert_int_equal(net_http_answer_parse(text.data, text.len, &a, &err), 0);
	str_addc(&text, 'x');
	assert_int_equal(net_http_answer_parse(text.data, text.len, &a, &err), -1);
	assert_string_equal(err.text, "its answer has a head of more than 16384 octets");
	str_deinit(&text);
}

static void
fields_are_found_by_name_and_counted(void **state)
{
	static const char text[] = "HTTP/1.1 200 OK\r\nMessage-Offset: 12\r\nmessage-offset: 13\r\nContent-Length: 0\r\n\r\n";
	struct net_http_answer a;
	struct err err;
	const char *value;
	size_t len;

	(void)state;
	assert_int_equal(net_http_answer_parse(text, strlen(text), &a, &err), strlen(text));
	assert_int_equal(net_http_answer_field(&a, "Message-Offset", &value, &len), 2);
	assert_int_equal(net_http_number(value, len), 12);
	assert_int_equal(net_http_answer_field(&a, "Message", &value, &len), 0);
	assert_int_equal(net_http_number("", 0), -1);
	assert_int_equal(net_http_number("12 ", 3), -1);
	assert_int_equal(net_http_number("1234567890123456", 16), -1);
}

static void
what_stands_in_a_request_is_one_line_each(void **state)
{
	struct str out = STR_INIT;

	(void)state;
	net_http_request_begin(&out, "POST", "/x", "a\r\nb");
	net_http_request_field(&out, "A", "x\r\n\r\ny\x7f\xc3\xbc");
	net_http_request_end(&out, INT64_C(5000000000));
	assert_string_equal(out.data,
		"POST /x HTTP/1.1\r\nHost: a  b\r\nConnection: close\r\nA: x    y \xc3\xbc\r\nContent-Length: 5000000000\r\n\r\n");
	str_deinit(&out);
}

/* ---- one exchange --------------------------------------------------------------------------- */

#define FILE_SIZE (3 * 1024 * 1024)

static struct owner {
	struct net_http_call *call;
	int fd, peer;
	const struct net_http_piece *pieces;
	size_t count, given;
	int status;
	struct str content;
	bool is_done, has_failed, refuse_head, refuse_body;
	struct err err;
} o;

static int
more(void *owner, struct net_http_piece *piece_r, struct err *err)
{
	(void)owner;
	if (o.given == o.count)
		return 0;
	*piece_r = o.pieces[o.given++];
	return piece_r->len > 0 ? 1 : err_set(err, "no such piece");
}

static int
head(void *owner, const struct net_http_answer *a, struct err *err)
{
	(void)owner;
	o.status = a->status;
	return o.refuse_head ? err_set(err, "not wanted") : 0;
}

static int
body(void *owner, const char *data, size_t len, struct err *err)
{
	(void)owner;
	str_addn(&o.content, data, len);
	return o.refuse_body ? err_set(err, "enough") : 0;
}

static void
done(void *owner, const struct err *err)
{
	(void)owner;
	assert_false(o.is_done);
	o.is_done = true;
	o.call = NULL;
	o.has_failed = err != NULL;
	if (err != NULL)
		o.err = *err;
}

static const struct net_http_ops ops = {.more = more, .head = head, .body = body, .done = done};

static void
start(const struct net_http_piece *pieces, size_t count)
{
	struct str request = STR_INIT;
	int fds[2];

	memset(&o, 0, sizeof(o));
	assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_return_code(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	assert_return_code(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
	o.fd = fds[0];
	o.peer = fds[1];
	o.pieces = pieces;
	o.count = count;
	str_add(&request, "POST / HTTP/1.1\r\n\r\n");
	o.call = net_http_call_start(worker, o.fd, &request, &ops, NULL);
	assert_false(o.is_done);
	str_deinit(&request);
}

static void
stop(void)
{
	net_http_call_cancel(&o.call);
	loop_turn();
	if (o.peer >= 0)
		close(o.peer);
	str_deinit(&o.content);
}

static void
say_early(const char *text)
{
	assert_int_equal(write(o.peer, text, strlen(text)), strlen(text));
}

/* As a peer does that has read what there is of the request. */
static void
say(const char *text)
{
	char room[65536];

	while (read(o.peer, room, sizeof(room)) > 0)
		;
	say_early(text);
}

/* Reads until so many octets are here. */
static void
hear(struct str *got, size_t len)
{
	char room[65536];

	while (got->len < len) {
		ssize_t n = read(o.peer, room, sizeof(room));

		if (n > 0)
			str_addn(got, room, (size_t)n);
		else
			assert_true(n < 0 && errno == EAGAIN);
		loop_turn();
	}
}

static void
a_body_of_memory_and_file_arrives_in_order(void **state)
{
	struct str got = STR_INIT, want = STR_INIT;
	struct net_http_piece pieces[3] = {{.data = "begin", .fd = -1, .len = 5}, {.off = 7, .len = FILE_SIZE - 7},
		{.data = "end", .fd = -1, .len = 3}};
	char *file = malloc(FILE_SIZE);
	int fd = memfd_create("t", MFD_CLOEXEC);

	(void)state;
	for (size_t i = 0; i < FILE_SIZE; i++)
		file[i] = (char)(i * 31 >> 8);
	assert_int_equal(write(fd, file, FILE_SIZE), FILE_SIZE);
	pieces[1].fd = fd;
	str_add(&want, "POST / HTTP/1.1\r\n\r\nbegin");
	str_addn(&want, file + 7, FILE_SIZE - 7);
	str_add(&want, "end");
	start(pieces, 3);
	hear(&got, want.len);
	assert_int_equal(got.len, want.len);
	assert_memory_equal(got.data, want.data, want.len);
	say("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel");
	WAIT_FOR(o.content.len == 3);
	assert_false(o.is_done);
	say("lo and more");
	WAIT_FOR(o.is_done);
	assert_false(o.has_failed);
	assert_string_equal(o.content.data, "hello");
	stop();
	close(fd);
	free(file);
	str_deinit(&got);
	str_deinit(&want);
}

static void
an_answer_before_the_request_has_left_is_none(void **state)
{
	static char large[8 * 1024 * 1024];
	const struct net_http_piece piece = {.data = large, .fd = -1, .len = sizeof(large)};

	(void)state;
	start(&piece, 1);
	loop_turn();
	say_early("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
	WAIT_FOR(o.is_done);
	assert_true(o.has_failed);
	assert_string_equal(o.err.text, "it answered 200 OK before it had the whole request");
	assert_int_equal(o.content.len, 0);
	stop();
	start(&piece, 1);
	loop_turn();
	say_early("HTTP/1.1 413 Too Large\r\n\r\n");
	WAIT_FOR(o.is_done);
	assert_string_equal(o.err.text, "it answered 413 Too Large before it had the whole request");
	stop();
	/* Nor when all of it has left, and waits to be read. */
	start(&(struct net_http_piece){.data = "small", .fd = -1, .len = 5}, 1);
	loop_turn();
	loop_turn();
	say_early("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
	WAIT_FOR(o.is_done);
	assert_true(o.has_failed);
	assert_string_equal(o.err.text, "it answered 200 OK before it had the whole request");
	stop();
}

/* What the peer says before it closes, and what the owner hears. */
static void
an_answer_that_was_cut_off_is_a_failure(void **state)
{
	static const struct {
		const char *said, *want;
	} cases[] = {
		{"", "it closed the connection without an answer"},
		{"HTTP/1.1 200 OK\r\nContent-Le", "it closed the connection without an answer"},
		{"HTTP/1.1 100 Continue\r\n\r\n", "it closed the connection without an answer"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "it closed the connection within its answer"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", "it closed the connection within its answer"},
		{CHUNKS "5\r\nhello\r\n", "it closed the connection within its answer"},
		{CHUNKS "5\r\nhello\r\n0\r\n", "it closed the connection within its answer"},
		{"HTTP/1.1 200 OK\r\n\r\n{}", "its answer has no length, so nobody would know that it was cut off"},
		{"HTTP/1.1 101 Switching\r\n\r\n", "its answer is none to what was asked"},
		{"garbage\r\n", "its answer is no HTTP"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct str got = STR_INIT;

		start(NULL, 0);
		hear(&got, strlen("POST / HTTP/1.1\r\n\r\n"));
		str_deinit(&got);
		say(cases[i].said);
		close(o.peer);
		o.peer = -1;
		WAIT_FOR(o.is_done);
		assert_true(o.has_failed);
		assert_string_equal(o.err.text, cases[i].want);
		stop();
	}
}

static void
endless_heads_end(void **state)
{
	(void)state;
	start(NULL, 0);
	loop_turn();
	for (int i = 0; i < 1000 && !o.is_done; i++) {
		say("HTTP/1.1 102 Processing\r\n\r\n");
		loop_turn();
	}
	assert_true(o.is_done && o.has_failed);
	stop();
}

static void
the_owner_can_refuse_and_cancel(void **state)
{
	(void)state;
	start(NULL, 0);
	o.refuse_head = true;
	say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
	WAIT_FOR(o.is_done);
	assert_string_equal(o.err.text, "not wanted");
	assert_int_equal(o.content.len, 0);
	stop();

	start(NULL, 0);
	o.refuse_body = true;
	say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
	WAIT_FOR(o.is_done);
	assert_string_equal(o.err.text, "enough");
	stop();

	start(NULL, 0);
	net_http_call_cancel(&o.call); /* in the turn in which it began */
	loop_turn();
	assert_false(o.is_done);
	stop();

	start(NULL, 0);
	loop_turn();
	say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
	net_http_call_cancel(&o.call);
	loop_turn();
	loop_turn();
	assert_false(o.is_done);
	stop();
}

static void
a_body_that_cannot_be_read_is_a_failure(void **state)
{
	const struct net_http_piece piece = {.data = "", .fd = -1, .len = 0};

	(void)state;
	start(&piece, 1);
	WAIT_FOR(o.is_done);
	assert_string_equal(o.err.text, "no such piece");
	stop();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_answer_is_the_same_at_any_split),
		cmocka_unit_test(a_head_is_bounded),
		cmocka_unit_test(fields_are_found_by_name_and_counted),
		cmocka_unit_test(what_stands_in_a_request_is_one_line_each),
		cmocka_unit_test(a_body_of_memory_and_file_arrives_in_order),
		cmocka_unit_test(an_answer_before_the_request_has_left_is_none),
		cmocka_unit_test(an_answer_that_was_cut_off_is_a_failure),
		cmocka_unit_test(endless_heads_end),
		cmocka_unit_test(the_owner_can_refuse_and_cancel),
		cmocka_unit_test(a_body_that_cannot_be_read_is_a_failure),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, loop_setup, loop_teardown);
}
