/* net/http_client.c - requests, answers and the connection between them. */
#include "net/http_client.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "base/xalloc.h"
#include "net/http_line.h"
#include "net/stream.h"

/* Pieces of memory that leave in one writev. */
#define IOV_MAX_COUNT 64
/* "ffffff;name=value" */
#define CHUNK_LINE_MAX 256
#define REASON_MAX     200

/* ---- the request's head ---- */

static void
add_value(struct str *out, const char *value)
{
	for (; *value != '\0'; value++)
		str_addc(out, (unsigned char)*value < ' ' || *value == 0x7f ? ' ' : *value);
	str_add(out, "\r\n");
}

void
net_http_request_begin(struct str *out, const char *method, const char *path, const char *host)
{
	assert(http_is_token(method, strlen(method)) && *path == '/');
	for (const char *c = path; *c != '\0'; c++)
		assert(http_is_visible(*c));
	str_printf(out, "%s %s HTTP/1.1\r\n", method, path);
	net_http_request_field(out, "Host", host);
	net_http_request_field(out, "Connection", "close");
}

void
net_http_request_field(struct str *out, const char *name, const char *value)
{
	assert(http_is_token(name, strlen(name)));
	str_printf(out, "%s: ", name);
	add_value(out, value);
}

void
net_http_request_end(struct str *out, int64_t length)
{
	str_printf(out, "Content-Length: %" PRId64 "\r\n\r\n", length);
}

/* ---- the head of an answer ---- */

int64_t
net_http_number(const char *text, size_t len)
{
	int64_t n = 0;

	if (len == 0 || len > 15)
		return -1;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -1;
		n = n * 10 + (text[i] - '0');
	}
	return n;
}

/* RFC 9112 4: the reason may be empty, and some leave out its blank as well. */
static int
parse_status_line(const char *line, size_t len, struct net_http_answer *a, struct err *err)
{
	if (len < 12 || memcmp(line, "HTTP/1.", 7) != 0 || (line[7] != '0' && line[7] != '1') || line[8] != ' ' ||
		(len > 12 && line[12] != ' '))
		return err_set_temp(err, "its answer is no HTTP");
	a->status = (int)net_http_number(line + 9, 3);
	if (a->status < 100 || a->status > 599)
		return err_set_temp(err, "its answer has no status");
	a->reason = line + (len > 12 ? 13 : 12);
	a->reason_len = len > 12 ? len - 13 : 0;
	return 0;
}

static int
parse_field(const char *line, size_t len, struct net_http_answer *a, struct err *err)
{
	struct http_field f;

	if (!http_field_parse(line, len, &f))
		return err_set_temp(err, "its answer has a line in its head that is no field");
	if (http_is_word(f.name, f.name_len, "Content-Length")) {
		if (a->length >= 0 || (a->length = net_http_number(f.value, f.value_len)) < 0)
			return err_set_temp(err, "its answer has a wrong Content-Length");
	} else if (http_is_word(f.name, f.name_len, "Transfer-Encoding")) {
		if (a->is_chunked || !http_is_word(f.value, f.value_len, "chunked"))
			return err_set_temp(err, "its answer has a Transfer-Encoding that is not asked for");
		a->is_chunked = true;
	}
	return 0;
}

/* RFC 9112 6.3: two lengths are how answers are smuggled. */
static ssize_t
finish_head(const char *data, size_t len, struct net_http_answer *a, struct err *err)
{
	if (a->is_chunked && a->length >= 0)
		return err_set_temp(err, "its answer has a Content-Length and is chunked");
	a->head = data;
	a->head_len = len;
	return (ssize_t)len;
}

ssize_t
net_http_answer_parse(const char *data, size_t len, struct net_http_answer *a, struct err *err)
{
	const char *line;
	size_t line_len, pos = 0;
	int rc;

	*a = (struct net_http_answer){ .length = -1 };
	while ((rc = http_next_line(data, len, &pos, &line, &line_len)) > 0 && pos <= NET_HTTP_ANSWER_HEAD_MAX) {
		if (a->status == 0)
			rc = parse_status_line(line, line_len, a, err);
		else if (line_len > 0)
			rc = parse_field(line, line_len, a, err);
		else
			return finish_head(data, pos, a, err);
		if (rc < 0)
			return -1;
	}
	if (rc < 0)
		return err_set_temp(err, "its answer has a line in its head that does not end in CR LF");
	if (len >= NET_HTTP_ANSWER_HEAD_MAX)
		return err_set_temp(err, "its answer has a head of more than %d octets", NET_HTTP_ANSWER_HEAD_MAX);
	return 0;
}

int
net_http_answer_field(const struct net_http_answer *a, const char *name, const char **value_r, size_t *len_r)
{
	const char *line;
	size_t len, pos = 0;
	struct http_field f;
	int count = 0;

	while (http_next_line(a->head, a->head_len, &pos, &line, &len) > 0) {
		if (!http_field_parse(line, len, &f) || !http_is_word(f.name, f.name_len, name))
			continue;
		if (count++ > 0)
			continue;
		*value_r = f.value;
		*len_r = f.value_len;
	}
	return count;
}

/* ---- the body of an answer ---- */

enum { DECODE_LENGTH, DECODE_SIZE, DECODE_CHUNK, DECODE_CHUNK_END, DECODE_TRAILER };

void
net_http_decoder_init(struct net_http_decoder *d, const struct net_http_answer *a)
{
	*d = (struct net_http_decoder){ .state = a->is_chunked ? DECODE_SIZE : DECODE_LENGTH };
	assert(a->is_chunked || a->length >= 0);
	if (a->is_chunked)
		return;
	d->left = a->length;
	d->is_done = d->left == 0;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* RFC 9112 7.1: extensions behind the size are ignored. */
static int
got_size(struct net_http_decoder *d, const char *line, size_t len)
{
	const char *digits;
	size_t count = http_cut(&line, &len, ';', &digits);

	http_trim(&digits, &count);
	if (count == 0 || count > 12)
		return -1;
	d->left = 0;
	for (size_t i = 0; i < count; i++) {
		int digit = hex_digit(digits[i]);

		if (digit < 0)
			return -1;
		d->left = d->left * 16 + digit;
	}
	d->state = d->left > 0 ? DECODE_CHUNK : DECODE_TRAILER;
	return 0;
}

static int
got_chunk_line(struct net_http_decoder *d, const char *line, size_t len)
{
	switch (d->state) {
	case DECODE_SIZE:
		return got_size(d, line, len);
	case DECODE_CHUNK_END:
		d->state = DECODE_SIZE;
		return len == 0 ? 0 : -1;
	default:
		d->is_done = len == 0;
		d->trailer_len += len + 2;
		return d->trailer_len <= NET_HTTP_ANSWER_HEAD_MAX ? 0 : -1;
	}
}

static ssize_t
decode_line(struct net_http_decoder *d, const char *data, size_t len, struct err *err)
{
	size_t max = d->state == DECODE_TRAILER ? NET_HTTP_ANSWER_HEAD_MAX : CHUNK_LINE_MAX;
	const char *line;
	size_t line_len, pos = 0;
	int rc = http_next_line(data, len < max ? len : max, &pos, &line, &line_len);

	if (rc == 0 && len < max)
		return 0;
	if (rc <= 0 || got_chunk_line(d, line, line_len) < 0)
		return err_set_temp(err, "its answer has a wrong chunk");
	return (ssize_t)pos;
}

ssize_t
net_http_decode(struct net_http_decoder *d, const char *data, size_t len, const char **content_r,
	size_t *content_len_r, struct err *err)
{
	*content_r = data;
	*content_len_r = 0;
	if (d->is_done || len == 0)
		return 0;
	if (d->state != DECODE_LENGTH && d->state != DECODE_CHUNK)
		return decode_line(d, data, len, err);
	if ((int64_t)len > d->left)
		len = (size_t)d->left;
	d->left -= (int64_t)len;
	if (d->left == 0 && d->state == DECODE_CHUNK)
		d->state = DECODE_CHUNK_END;
	else if (d->left == 0)
		d->is_done = true;
	*content_len_r = len;
	return (ssize_t)len;
}

/* ---- one exchange ---- */

struct net_http_call {
	struct net_worker *worker;
	struct net_stream *stream;
	const struct net_http_ops *ops;
	void *owner;
	bool has_all;  /* the owner has no more pieces */
	bool has_head; /* of the final answer */
	size_t head_len; /* of all heads so far */
	struct net_http_decoder decoder;
};

static void
call_close(struct net_http_call *c)
{
	net_stream_free(&c->stream);
	net_later(c->worker, free, c);
}

static void
call_end(struct net_http_call *c, const struct err *err)
{
	const struct net_http_ops *ops = c->ops;
	void *owner = c->owner;

	call_close(c);
	ops->done(owner, err);
}

static void
call_failed(struct net_http_call *c, const char *words)
{
	struct err err;

	err_set_temp(&err, "%s", words);
	call_end(c, &err);
}

/* Pieces until the socket takes no more; then NET_DRAINED goes on. -1: they cannot be read. */
static int
send_more(struct net_http_call *c, struct err *err)
{
	struct iovec iov[IOV_MAX_COUNT];
	struct net_http_piece piece;
	size_t waiting = 0, gathered = 0;
	int count = 0, rc;

	while ((rc = c->ops->more(c->owner, &piece, err)) > 0) {
		if (piece.data != NULL) {
			iov[count++] = (struct iovec){ (void *)piece.data, piece.len };
			gathered += piece.len;
			if (count < IOV_MAX_COUNT && gathered < NET_HIGH_MARK)
				continue;
		}
		if (count > 0)
			waiting = net_stream_writev(c->stream, iov, count);
		count = 0;
		gathered = 0;
		if (piece.data == NULL)
			waiting = net_stream_send_file(c->stream, piece.fd, piece.off, piece.len);
		if (waiting > 0)
			return 0;
	}
	if (rc == 0 && count > 0)
		net_stream_writev(c->stream, iov, count);
	c->has_all = rc == 0;
	return rc;
}

static void
send_or_fail(struct net_http_call *c)
{
	struct err err;

	if (!c->has_all && send_more(c, &err) < 0)
		call_end(c, &err);
}

/* An answer to what it has not read is none, but what it says may be of use ("413 Content Too Large"). Who has read all
 * of it and then answers has confirmed all of it. */
static int
check_early(const struct net_http_call *c, const struct net_http_answer *a, struct err *err)
{
	char reason[REASON_MAX + 1];

	if (c->has_all && net_stream_unconfirmed(c->stream) == 0)
		return 0;
	str_clean(reason, REASON_MAX, a->reason, a->reason_len, false);
	return err_set_temp(err, "it answered %d%s%s before it had the whole request", a->status,
		*reason != '\0' ? " " : "", reason);
}

/* RFC 9110 6.4.1. */
static int
begin_body(struct net_http_call *c, struct net_http_answer *a, struct err *err)
{
	if (a->status == 204 || a->status == 304) {
		a->is_chunked = false;
		a->length = 0;
	}
	if (!a->is_chunked && a->length < 0)
		return err_set_temp(err, "its answer has no length, so nobody would know that it was cut off");
	net_http_decoder_init(&c->decoder, a);
	return c->ops->head(c->owner, a, err);
}

/* Returns the octets taken, or -1. */
static ssize_t
take_head(struct net_http_call *c, const char *data, size_t len, struct err *err)
{
	struct net_http_answer a;
	ssize_t n = net_http_answer_parse(data, len, &a, err);

	if (n <= 0)
		return n;
	c->head_len += (size_t)n;
	if (c->head_len > NET_HTTP_ANSWER_HEAD_MAX || a.status == 101)
		return err_set_temp(err, "its answer is none to what was asked");
	if (a.status < 200)
		return n;
	if (check_early(c, &a, err) < 0 || begin_body(c, &a, err) < 0)
		return -1;
	c->has_head = true;
	return n;
}

static ssize_t
take_body(struct net_http_call *c, const char *data, size_t len, struct err *err)
{
	const char *content;
	size_t content_len;
	ssize_t n = net_http_decode(&c->decoder, data, len, &content, &content_len, err);

	if (n > 0 && content_len > 0 && c->ops->body(c->owner, content, content_len, err) < 0)
		return -1;
	return n;
}

static bool
is_done(const struct net_http_call *c)
{
	return c->has_head && c->decoder.is_done;
}

static size_t
got_bytes(struct net_http_call *c, const char *data, size_t len)
{
	size_t taken = 0;
	ssize_t n = 1;
	struct err err;

	/* The last octets may have left just now, and NET_DRAINED comes behind this event. */
	if (!c->has_all && net_stream_waiting(c->stream) == 0 && send_more(c, &err) < 0)
		n = -1;
	while (n > 0 && taken < len && !is_done(c)) {
		n = (c->has_head ? take_body : take_head)(c, data + taken, len - taken, &err);
		taken += n > 0 ? (size_t)n : 0;
	}
	if (n < 0)
		call_end(c, &err);
	else if (is_done(c))
		call_end(c, NULL);
	return taken;
}

static size_t
on_stream(void *owner, enum net_event ev, const char *data, size_t len)
{
	struct net_http_call *c = owner;

	switch (ev) {
	case NET_BYTES:
		return got_bytes(c, data, len);
	case NET_DRAINED:
		send_or_fail(c);
		break;
	case NET_EOF:
		call_failed(c, c->has_head ? "it closed the connection within its answer"
					   : "it closed the connection without an answer");
		break;
	case NET_BROKEN:
		call_failed(c, net_stream_error(c->stream));
		break;
	case NET_TIMEOUT:
	case NET_TLS_UP:
		break;
	}
	return 0;
}

/* What fails at once is told later. */
static void
begin(void *arg)
{
	struct net_http_call *c = arg;

	if (c->stream != NULL && net_stream_waiting(c->stream) == 0)
		send_or_fail(c);
}

struct net_http_call *
net_http_call_start(
	struct net_worker *w, int fd, const struct str *head, const struct net_http_ops *ops, void *owner)
{
	struct net_http_call *c = xcalloc(1, sizeof(*c));

	c->worker = w;
	c->ops = ops;
	c->owner = owner;
	c->stream = net_stream_new(w, fd, on_stream, c);
	net_stream_write(c->stream, head->data, head->len);
	net_later(w, begin, c);
	return c;
}

void
net_http_call_cancel(struct net_http_call **call)
{
	struct net_http_call *c = *call;

	*call = NULL;
	if (c != NULL)
		call_close(c);
}
