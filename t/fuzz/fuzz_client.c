/*
 * t/fuzz/fuzz_client.c - a client session over a socket pair: what back-ends say, in any packets.
 *
 * The first two octets choose how the owner goes on, the size of the content, and where packets end; the
 * rest is what the back-end says, whatever it hears. Watched are the order of what the owner hears, that no
 * final reply is one that began before the end of the content was there, and that nothing is said
 * before its time.
 */
#include <strings.h>

#include "smtp/client.h"
#include "t/fuzz/wire.h"
#include "t/unit/content.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum what { GREETING, IDLE, SENDER, RECIPIENTS, DATA, GO, DOT, RSET };

struct owner {
	struct wire wire;
	struct smtp_client *client;
	struct mail_body body;
	struct str ending; /* the content as it leaves, from DATA to the dot */
	enum what what;	   /* was said, or is awaited */
	unsigned rcpts, heard, accepted;
	unsigned messages;
	bool at_once, resets, refuses, is_rude;
	bool failed;
	const char *said;  /* by the back-end, all that there is */
	size_t lines;	   /* line ends sent so far */
	size_t too_early;  /* octets that were sent before the back-end had the dot */
	size_t parsed, commands;
	bool in_content;
};

/* ---- the owner ---- */

static void
leave(struct owner *o)
{
	if (wire_chance(&o->wire, 2))
		smtp_client_quit(&o->client);
	else
		smtp_client_free(&o->client);
}

/* Nothing more to be said in this transaction. */
static void
give_up(struct owner *o)
{
	if (!o->resets || !smtp_client_may_reset(o->client)) {
		leave(o);
		return;
	}
	o->what = RSET;
	smtp_client_rset(o->client);
}

static void
say_data(struct owner *o)
{
	o->what = DATA;
	smtp_client_data(o->client, &o->body, NULL);
}

static void
begin(struct owner *o)
{
	const struct mail_sender sender = {.addr = "a@example.net", .domain = "example.net", .size = -1};
	const struct mail_rcpt rcpt = {.addr = "b@example.org", .domain = "example.org"};

	o->what = SENDER;
	o->rcpts = 1 + wire_chance(&o->wire, 3);
	o->heard = o->accepted = 0;
	smtp_client_cork(o->client);
	smtp_client_mail(o->client, &sender, 1000);
	for (unsigned i = 0; i < o->rcpts; i++)
		smtp_client_rcpt(o->client, &rcpt);
	if (o->at_once)
		smtp_client_data(o->client, &o->body, NULL);
	smtp_client_uncork(o->client);
}

static void
check_reply(const struct smtp_reply *r)
{
	MUST(r->code >= 200 && r->code <= 599 && (r->code >= 400 || r->code % 100 < 60));
	for (const char *p = r->text; *p != '\0'; p++)
		MUST(((unsigned char)*p >= ' ' || *p == '\n') && *p != 127);
}

static void
on_ready(void *owner)
{
	struct owner *o = owner;

	MUST(o->what == GREETING || o->what == RSET);
	MUST(smtp_client_is_reusable(o->client) || smtp_client_is_odd(o->client) || o->what == RSET);
	o->what = IDLE;
}

static void
on_mail(void *owner, const struct smtp_reply *r)
{
	struct owner *o = owner;

	check_reply(r);
	MUST(o->what == SENDER && o->heard == 0);
	o->what = RECIPIENTS;
	if (r->code / 100 != 2 && !o->at_once)
		give_up(o);
}

static void
on_rcpt(void *owner, size_t index, const struct smtp_reply *r)
{
	struct owner *o = owner;

	check_reply(r);
	if (o->what == RSET)
		return;
	MUST(o->what == RECIPIENTS && index == o->heard && o->heard < o->rcpts);
	o->heard++;
	o->accepted += r->code / 100 == 2;
	if (o->heard < o->rcpts)
		return;
	if (o->at_once)
		o->what = DATA;
	else if (o->accepted > 0)
		say_data(o);
	else
		give_up(o);
}

static void
on_refused(void *owner, const struct smtp_reply *r)
{
	struct owner *o = owner;

	check_reply(r);
	MUST(o->what == DATA && r->code / 100 != 3);
	give_up(o);
}

static bool
on_go(void *owner)
{
	struct owner *o = owner;

	MUST(o->what == DATA && o->heard == o->rcpts);
	o->what = GO;
	if (o->accepted > 0 && (!o->refuses || wire_chance(&o->wire, 4) > 0))
		return true;
	o->failed = true;
	return false;
}

/* Nothing has come behind the 354. */
static bool
has_no_more_than_354(const struct owner *o)
{
	const char *end = o->said + o->wire.sent;
	const char *lf = memrchr(o->said, '\n', o->wire.sent - 1);

	return end[-1] == '\n' && lf != NULL && strncmp(lf + 1, "354", 3) == 0;
}

static bool
on_dot(void *owner)
{
	struct owner *o = owner;

	MUST(o->what == GO && !smtp_client_is_committed(o->client));
	MUST(has_no_more_than_354(o));
	if (o->refuses && wire_chance(&o->wire, 4) == 0) {
		o->failed = true;
		return false;
	}
	o->what = DOT;
	return true;
}

static bool
has_dot(const struct owner *o)
{
	const struct str *got = &o->wire.got, *end = &o->ending;

	return o->what == DOT && got->len >= end->len &&
	       memcmp(got->data + got->len - end->len, end->data, end->len) == 0;
}

/* Lines of the first reply in what was said since the dot was there. */
static size_t
lines_in_time(const struct owner *o)
{
	const char *p = o->said + o->too_early, *end = o->said + o->wire.sent, *lf;
	size_t n = 0;

	while ((lf = memchr(p, '\n', (size_t)(end - p))) != NULL) {
		n++;
		if (lf - p < 4 || p[3] != '-')
			return n;
		p = lf + 1;
	}
	abort();
}

static void
on_final(void *owner, const struct smtp_reply *r)
{
	struct owner *o = owner;
	size_t lines = 1;

	check_reply(r);
	MUST(has_dot(o));
	for (const char *p = r->text; *p != '\0'; p++)
		lines += *p == '\n';
	MUST(lines_in_time(o) == lines);
	o->what = IDLE;
	o->messages++;
	MUST(smtp_client_messages(o->client) == o->messages);
}

static void
on_failed(void *owner, const struct err *err, const struct smtp_reply *reply)
{
	struct owner *o = owner;

	MUST(!o->failed && err->text[0] != '\0');
	if (reply != NULL)
		check_reply(reply);
	o->failed = true;
	if (wire_chance(&o->wire, 2))
		smtp_client_free(&o->client);
}

static const struct smtp_client_ops ops = {
	.ready = on_ready,
	.mail = on_mail,
	.rcpt = on_rcpt,
	.refused = on_refused,
	.go = on_go,
	.dot = on_dot,
	.final = on_final,
	.failed = on_failed,
};

/* ---- what the back-end sees ---- */

/* Commands it has heard; content begins with the Subject. */
static void
count_commands(struct owner *o)
{
	const struct str *got = &o->wire.got;
	const char *lf;

	while (o->parsed < got->len &&
		(lf = memchr(got->data + o->parsed, '\n', got->len - o->parsed)) != NULL) {
		const char *line = got->data + o->parsed;

		MUST(lf > line && lf[-1] == '\r');
		o->parsed = (size_t)(lf - got->data) + 1;
		if (strncmp(line, "Subject:", 8) == 0)
			o->in_content = true;
		else if (o->in_content)
			o->in_content = strncmp(line, ".\r\n", 3) != 0;
		else if (strncmp(line, "QUIT", 4) != 0)
			o->commands++;
	}
}

/* Nothing is said before the reply to what precedes it, but with PIPELINING. */
static void
listen_now(struct owner *o)
{
	wire_read(&o->wire);
	count_commands(o);
	if (o->client == NULL || (smtp_client_caps(o->client)->bits & SMTP_CAP_PIPELINING) == 0)
		MUST(o->client == NULL || o->commands <= o->lines);
	MUST(o->lines > 0 || o->commands == 0);
}

/* ---- the session ---- */

static void
step(struct owner *o)
{
	wire_turn();
	if (o->failed)
		smtp_client_free(&o->client);
	if (o->client != NULL && o->what == IDLE && smtp_client_is_reusable(o->client) &&
		wire_chance(&o->wire, 2))
		begin(o);
}

/* Hears all that comes, however long it is. */
static void
listen_long(struct owner *o)
{
	size_t before;

	do {
		before = o->wire.got.len;
		listen_now(o);
		step(o);
	} while (o->wire.got.len > before);
}

/* Up to the end of the present line or, mostly, reply. A rude one says anything at once. */
static size_t
turn_to_speak(struct owner *o, size_t left)
{
	const char *p = o->said + o->wire.sent, *end = p, *lf;

	if (o->is_rude)
		return left;
	while ((lf = memchr(end, '\n', left - (size_t)(end - p))) != NULL) {
		const bool goes_on = lf - end > 3 && end[3] == '-';

		end = lf + 1;
		if (!goes_on || wire_chance(&o->wire, 2))
			return (size_t)(end - p);
	}
	return left;
}

static void
say(struct owner *o, size_t size)
{
	while (o->wire.sent < size && o->client != NULL) {
		const char *p = o->said + o->wire.sent;
		size_t n = turn_to_speak(o, size - o->wire.sent);

		if (wire_chance(&o->wire, 4) > 0)
			listen_now(o);
		n = wire_send(&o->wire, p, wire_part(&o->wire, n));
		for (size_t i = 0; i < n; i++)
			o->lines += p[i] == '\n';
		if (!has_dot(o))
			o->too_early = o->wire.sent;
		step(o);
		if (wire_chance(&o->wire, 4) == 0)
			listen_long(o);
	}
}

static void
finish(struct owner *o)
{
	listen_long(o);
	shutdown(o->wire.fd, SHUT_WR);
	for (int i = 0; i < 1000 && o->client != NULL; i++) {
		step(o);
		listen_now(o);
	}
	MUST(o->client == NULL);
	wire_close(&o->wire);
}

static void
make_content(struct owner *o, size_t lines)
{
	struct str text = STR_INIT;

	str_add(&text, "Subject: x\r\n\r\n.dot\r\n");
	for (size_t i = 0; i < lines; i++)
		str_add(&text, i % 50 ? "a line of text that takes some room\r\n" : ".\r\n");
	content_init(&o->body, str_text(&text));
	str_add(&o->ending, "DATA\r\n");
	content_stuff(&o->ending, text.data, text.len);
	str_add(&o->ending, ".\r\n");
	str_deinit(&text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct smtp_client_conf conf = {.helo = "proxy.example"};
	static const size_t sizes[] = {0, 10, 100, 1000};
	struct owner o = {.ending = STR_INIT};
	int fd;

	if (size < 3)
		return 0;
	fd = wire_open(&o.wire, data[0] * 2654435761u + data[1], data[0] & 0x04 ? 4096 : 0);
	o.is_rude = data[0] & 0x08;
	o.at_once = data[0] & 0x10;
	o.resets = data[0] & 0x20;
	o.refuses = data[0] & 0x40;
	o.said = (const char *)data + 2;
	make_content(&o, sizes[data[0] % 4]);
	o.client = smtp_client_new(net_stream_new(worker, fd, NULL, NULL), &conf, NULL, &ops, &o);
	say(&o, size - 2);
	finish(&o);
	mail_body_deinit(&o.body);
	str_deinit(&o.ending);
	return 0;
}
