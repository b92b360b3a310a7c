/* net/http.c - requests, replies and connections of the small HTTP server (RFC 9110, RFC 9112). */
#include "net/http.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/xalloc.h"
#include "net/http_line.h"
#include "net/listener.h"
#include "net/stream.h"

/* For a whole request, and for its reply to be taken. */
#define REQUEST_MS 10000
/* For the next request. Prometheus asks every 15 to 60 seconds. */
#define IDLE_MS	  65000
#define LINGER_MS 1000

struct http_conn {
	struct net_http *http;
	struct net_stream *stream;
	bool is_asking; /* a request has begun; its deadline does not move */
	TAILQ_ENTRY(http_conn) next;
};
TAILQ_HEAD(http_conns, http_conn);

struct net_http {
	struct net_worker *worker;
	struct net_listener **listeners;
	int listener_count;
	net_http_cb cb;
	void *owner;
	struct http_conns conns; /* the one that has waited longest is the first */
	int conn_count;
	bool is_ending; /* no reply is followed by another */
};

/* ---- the parser ---- */

static int
parse_target(const char *target, size_t len, struct net_http_head *head)
{
	size_t path_len = 0;

	if (len == 0 || target[0] != '/')
		return 400;
	for (size_t i = 0; i < len; i++)
		if (!http_is_visible(target[i]))
			return 400;
	while (path_len < len && target[path_len] != '?' && target[path_len] != '#')
		path_len++;
	if (path_len >= sizeof(head->path))
		return 414;
	memcpy(head->path, target, path_len);
	head->path[path_len] = '\0';
	return 200;
}

static int
parse_request_line(const char *line, size_t len, struct net_http_head *head)
{
	const char *method, *target, *version;
	size_t method_len = http_cut(&line, &len, ' ', &method);
	size_t target_len = http_cut(&line, &len, ' ', &target);
	size_t version_len = http_cut(&line, &len, ' ', &version);
	int status;

	if (len > 0 || !http_is_token(method, method_len) || version_len != 8 || memcmp(version, "HTTP/", 5) != 0)
		return 400;
	if (memcmp(version, "HTTP/1.1", 8) != 0 && memcmp(version, "HTTP/1.0", 8) != 0)
		return 505;
	head->is_last = version[7] == '0';
	status = parse_target(target, target_len, head);
	if (status != 200)
		return status;
	head->is_head = method_len == 4 && memcmp(method, "HEAD", 4) == 0;
	return head->is_head || (method_len == 3 && memcmp(method, "GET", 3) == 0) ? 200 : 405;
}

static int
parse_connection(const char *value, size_t len, struct net_http_head *head)
{
	const char *word;

	while (len > 0) {
		size_t n = http_cut(&value, &len, ',', &word);

		http_trim(&word, &n);
		if (http_is_word(word, n, "close"))
			head->is_last = true;
	}
	return 200;
}

/* A request with a body is not taken: where it ends needs never be known. */
static int
parse_field(const char *line, size_t len, struct net_http_head *head, bool *has_host)
{
	struct http_field f;

	if (!http_field_parse(line, len, &f))
		return 400;
	if (http_is_word(f.name, f.name_len, "Transfer-Encoding"))
		return 501;
	if (http_is_word(f.name, f.name_len, "Content-Length"))
		return f.value_len == 1 && *f.value == '0' ? 200 : 413;
	if (http_is_word(f.name, f.name_len, "Connection"))
		return parse_connection(f.value, f.value_len, head);
	if (http_is_word(f.name, f.name_len, "Host")) {
		if (*has_host)
			return 400;
		*has_host = true;
	}
	return 200;
}

static size_t
wrong(struct net_http_head *head, int status, size_t len)
{
	head->status = status;
	head->is_last = true;
	return len;
}

size_t
net_http_parse(const char *data, size_t len, struct net_http_head *head)
{
	bool has_host = false, is_begun = false;
	const char *line;
	size_t line_len, pos = 0;
	int rc;

	*head = (struct net_http_head){ .status = 200 };
	while ((rc = http_next_line(data, len, &pos, &line, &line_len)) > 0) {
		int status = 200;

		if (pos > NET_HTTP_HEAD_MAX)
			break;
		if (is_begun && line_len == 0) {
			bool is_old = head->is_last && !has_host;

			return has_host || is_old ? pos : wrong(head, 400, pos);
		}
		if (is_begun)
			status = parse_field(line, line_len, head, &has_host);
		else if (line_len > 0) /* RFC 9112 2.2: empty lines in front are overlooked */
			status = parse_request_line(line, line_len, head);
		if (status != 200)
			return wrong(head, status, len);
		is_begun = is_begun || line_len > 0;
	}
	if (rc < 0)
		return wrong(head, 400, len);
	return len >= NET_HTTP_HEAD_MAX ? wrong(head, 431, len) : 0;
}

/* ---- replies ---- */

static const char *
reason(int status)
{
	static const struct {
		int status;
		const char *text;
	} reasons[] = {
		{ 200, "OK" },
		{ 400, "Bad Request" },
		{ 403, "Forbidden" },
		{ 404, "Not Found" },
		{ 405, "Method Not Allowed" },
		{ 413, "Content Too Large" },
		{ 414, "URI Too Long" },
		{ 431, "Request Header Fields Too Large" },
		{ 501, "Not Implemented" },
		{ 503, "Service Unavailable" },
		{ 505, "HTTP Version Not Supported" },
	};

	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].status == status)
			return reasons[i].text;
	return "Error";
}

static void
write_reply(struct http_conn *c, const struct net_http_head *head, const struct net_http_reply *reply)
{
	struct str out = STR_INIT;
	char date[64];
	time_t now = clock_wall();
	struct tm tm;

	strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
	str_printf(&out, "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n", reply->status,
		reason(reply->status), date, reply->type, reply->body.len);
	str_printf(&out, "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n%s%s\r\n",
		reply->status == 405 ? "Allow: GET, HEAD\r\n" : "", head->is_last ? "Connection: close\r\n" : "");
	if (!head->is_head)
		str_addn(&out, str_text(&reply->body), reply->body.len);
	net_stream_write(c->stream, str_text(&out), out.len);
	str_deinit(&out);
}

static void
answer(struct http_conn *c, const struct net_http_head *head)
{
	struct net_http *http = c->http;
	struct net_http_reply reply = { .status = head->status, .type = "text/plain; charset=utf-8" };
	const struct net_http_request request = { .client = net_stream_peer(c->stream), .path = head->path };

	if (head->status == 200)
		http->cb(http->owner, &request, &reply);
	else
		str_printf(&reply.body, "%d %s\n", head->status, reason(head->status));
	write_reply(c, head, &reply);
	str_deinit(&reply.body);
}

/* ---- connections ---- */

static void
conn_forget(struct http_conn *c)
{
	TAILQ_REMOVE(&c->http->conns, c, next);
	c->http->conn_count--;
	net_later(c->http->worker, free, c);
}

static void
conn_close(struct http_conn *c)
{
	net_stream_free(&c->stream);
	conn_forget(c);
}

static void
conn_finish(struct http_conn *c)
{
	net_stream_finish(&c->stream, LINGER_MS);
	conn_forget(c);
}

/* It has been served, and goes to the end of the line. */
static void
conn_served(struct http_conn *c)
{
	TAILQ_REMOVE(&c->http->conns, c, next);
	TAILQ_INSERT_TAIL(&c->http->conns, c, next);
	net_stream_deadline(c->stream, net_stream_waiting(c->stream) > 0 ? REQUEST_MS : IDLE_MS);
}

/* One after the other, and the next one when the reply to the last one has left. Returns the octets taken. */
static size_t
got_bytes(struct http_conn *c, const char *data, size_t len)
{
	struct net_http_head head;
	size_t taken = 0, n;

	while (net_stream_waiting(c->stream) == 0 && (n = net_http_parse(data + taken, len - taken, &head)) > 0) {
		taken += n;
		head.is_last = head.is_last || c->http->is_ending;
		answer(c, &head);
		if (head.is_last) {
			conn_finish(c);
			return len;
		}
		conn_served(c);
	}
	if (taken < len && net_stream_waiting(c->stream) == 0 && (taken > 0 || !c->is_asking))
		net_stream_deadline(c->stream, REQUEST_MS);
	c->is_asking = taken < len;
	if (net_stream_got_eof(c->stream) && net_stream_waiting(c->stream) == 0)
		conn_finish(c); /* what is left is no request */
	return taken;
}

static void
drained(struct http_conn *c)
{
	size_t held;

	net_stream_held(c->stream, &held);
	if (net_stream_got_eof(c->stream) && held == 0) {
		conn_finish(c);
		return;
	}
	conn_served(c);
	net_stream_again(c->stream);
}

static size_t
on_stream(void *owner, enum net_event ev, const char *data, size_t len)
{
	struct http_conn *c = owner;

	switch (ev) {
	case NET_BYTES:
		return got_bytes(c, data, len);
	case NET_DRAINED:
		drained(c);
		break;
	case NET_EOF:
		if (net_stream_waiting(c->stream) == 0)
			conn_finish(c);
		break;
	case NET_TIMEOUT:
	case NET_BROKEN:
	case NET_TLS_UP:
		conn_close(c);
		break;
	}
	return 0;
}

static void
accepted(void *owner, struct net_worker *w, int fd)
{
	struct net_http *http = owner;
	struct http_conn *c = xcalloc(1, sizeof(*c));

	if (http->conn_count == NET_HTTP_CONNS_MAX)
		conn_close(TAILQ_FIRST(&http->conns));
	c->http = http;
	c->stream = net_stream_new(w, fd, on_stream, c);
	net_stream_deadline(c->stream, REQUEST_MS);
	TAILQ_INSERT_TAIL(&http->conns, c, next);
	http->conn_count++;
}

struct net_http *
net_http_new(struct net_worker *w, const int *fds, int count, net_http_cb cb, void *owner)
{
	struct net_http *http = xcalloc(1, sizeof(*http));

	http->worker = w;
	http->cb = cb;
	http->owner = owner;
	TAILQ_INIT(&http->conns);
	http->listeners = xcalloc((size_t)count + 1, sizeof(*http->listeners));
	while (http->listener_count < count) {
		http->listeners[http->listener_count] = net_listener_new(w, fds[http->listener_count], accepted, http);
		http->listener_count++;
	}
	return http;
}

/* What waits to leave does, for a moment. */
static void
end_conns(struct net_http *http)
{
	struct http_conn *c, *next;

	http->is_ending = true;
	TAILQ_FOREACH_SAFE(c, &http->conns, next, next)
		net_stream_read_now(c->stream);
	while (!TAILQ_EMPTY(&http->conns))
		conn_finish(TAILQ_FIRST(&http->conns));
}

void
net_http_free(struct net_http **http_p)
{
	struct net_http *http = *http_p;

	*http_p = NULL;
	if (http == NULL)
		return;
	for (int i = 0; i < http->listener_count; i++)
		net_listener_free(&http->listeners[i]);
	end_conns(http);
	free(http->listeners);
	free(http);
}
