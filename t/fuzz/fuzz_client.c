/*
 * t/fuzz/fuzz_client.c - a client session over a socket pair: what back-ends say, in any packets.
 *
 * The first two octets choose how the owner goes on, the size of the content and whether it goes by BDAT,
 * and where packets end; the rest is what the back-end says, whatever it hears. Watched are the order of
 * what the owner hears, that no final reply (nor that to a chunk) is one that began before the end of
 * the content was there, and that nothing is said before its time.
 */
#include <strings.h>
#include <sys/mman.h>

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
	struct str chunk, chunks; /* by BDAT: the one that is not the last, or empty; all of it */
	enum what what;	   /* was said, or is awaited */
	unsigned rcpts, heard, accepted;
	unsigned messages;
	bool at_once, resets, refuses, is_rude;
	bool chunking; /* as configured */
	bool by_bdat, follows; /* DATA leaves with the envelope */
	bool failed;
	const char *said;  /* by the back-end, all that there is */
	size_t lines;	   /* line ends sent so far */
	size_t too_early;  /* octets that were sent before the back-end had the dot */
	size_t chunk_early; /* the same of the chunk */
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
	/* What is said behind an envelope that is not answered yet is DATA. */
	o->follows = o->at_once;
	o->by_bdat = !o->follows && o->chunking && (smtp_client_caps(o->client)->bits & SMTP_CAP_CHUNKING) != 0;
	o->rcpts = 1 + wire_chance(&o->wire, 3);
	o->heard = o->accepted = 0;
	smtp_client_cork(o->client);
	smtp_client_mail(o->client, &sender, 1000);
	for (unsigned i = 0; i < o->rcpts; i++)
		smtp_client_rcpt(o->client, &rcpt);
	if (o->follows)
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
	if (r->code / 100 != 2 && !o->follows)
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
	if (o->follows)
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

	MUST(o->what == DATA && o->heard == o->rcpts && !o->by_bdat);
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
has_got(const struct owner *o, const struct str *end)
{
	const struct str *got = &o->wire.got;

	return got->len >= end->len && memcmp(got->data + got->len - end->len, end->data, end->len) == 0;
}

static bool
has_chunk(const struct owner *o)
{
	return o->what == DATA && o->by_bdat && o->chunk.len > 0 && has_got(o, &o->chunk);
}

/* The end of the first reply in what was said since, NULL: it is not whole. */
static const char *
reply_end(const struct owner *o, size_t since)
{
	const char *p = o->said + since, *end = o->said + o->wire.sent, *lf;

	while ((lf = memchr(p, '\n', (size_t)(end - p))) != NULL) {
		if (lf - p < 4 || p[3] != '-')
			return lf + 1;
		p = lf + 1;
	}
	return NULL;
}

/* By BDAT: all recipients were answered; the chunk was taken when it was there, and that was the last word. */
static bool
has_no_more_than_250(const struct owner *o)
{
	const char *reply = o->said + o->chunk_early, *end = o->said + o->wire.sent;

	if (o->heard != o->rcpts || end[-1] != '\n')
		return false;
	return o->chunk.len == 0 || (has_chunk(o) && *reply == '2' && reply_end(o, o->chunk_early) == end);
}

static bool
on_dot(void *owner)
{
	struct owner *o = owner;

	MUST(o->what == (o->by_bdat ? DATA : GO) && !smtp_client_is_committed(o->client));
	MUST(o->by_bdat ? has_no_more_than_250(o) : has_no_more_than_354(o));
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
	return o->what == DOT && has_got(o, o->by_bdat ? &o->chunks : &o->ending);
}

/* Lines of the first reply in what was said since the dot was there. */
static size_t
lines_in_time(const struct owner *o)
{
	const char *end = reply_end(o, o->too_early);
	size_t n = 0;

	MUST(end != NULL);
	for (const char *p = o->said + o->too_early; p < end; p++)
		n += *p == '\n';
	return n;
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
	MUST(!smtp_client_is_committed(o->client));
	if (o->by_bdat && r->code / 100 != 2)
		give_up(o);
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

/* Behind a chunk's line come its octets; it leaves when all that was said before is answered. */
static void
got_chunk(struct owner *o, const char *line)
{
	o->parsed += strtoul(line + 5, NULL, 10);
	o->commands++;
	MUST(o->commands <= o->lines);
}

/* Commands it has heard; content by DATA begins with the Subject. */
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
		if (!o->in_content && strncmp(line, "BDAT ", 5) == 0)
			got_chunk(o, line);
		else if (strncmp(line, "Subject:", 8) == 0)
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
		if (!has_chunk(o))
			o->chunk_early = o->wire.sent;
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
move_to_file(struct mail_body *b, const struct str *text)
{
	b->fd = memfd_create("content", MFD_CLOEXEC);
	MUST(b->fd >= 0 && write(b->fd, text->data, text->len) == (ssize_t)text->len);
	mail_body_free_chunks(b);
}

/* From memory it leaves by one BDAT, from a file by two. */
static void
make_chunks(struct owner *o, const struct str *text, bool in_file)
{
	str_printf(&o->chunks, "BDAT %zu%s\r\n", text->len, in_file ? "" : " LAST");
	str_addn(&o->chunks, text->data, text->len);
	if (!in_file)
		return;
	str_addn(&o->chunk, o->chunks.data, o->chunks.len);
	str_add(&o->chunks, "BDAT 0 LAST\r\n");
	move_to_file(&o->body, text);
}

static void
make_content(struct owner *o, size_t lines, bool in_file)
{
	struct str text = STR_INIT;

	str_add(&text, "Subject: x\r\n\r\n.dot\r\n");
	for (size_t i = 0; i < lines; i++)
		str_add(&text, i % 50 ? "a line of text that takes some room\r\n" : ".\r\n");
	content_init(&o->body, str_text(&text));
	str_add(&o->ending, "DATA\r\n");
	content_stuff(&o->ending, text.data, text.len);
	str_add(&o->ending, ".\r\n");
	make_chunks(o, &text, in_file);
	str_deinit(&text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct smtp_client_conf conf = {.helo = "proxy.example"};
	static const size_t sizes[] = {0, 10, 100, 1000};
	struct owner o = {.ending = STR_INIT, .chunk = STR_INIT, .chunks = STR_INIT};
	int fd;

	if (size < 3)
		return 0;
	fd = wire_open(&o.wire, data[0] * 2654435761u + data[1], data[0] & 0x04 ? 4096 : 0);
	o.is_rude = data[0] & 0x08;
	o.at_once = data[0] & 0x10;
	o.resets = data[0] & 0x20;
	o.refuses = data[0] & 0x40;
	conf.chunking = o.chunking = data[0] & 0x80;
	o.said = (const char *)data + 2;
	make_content(&o, sizes[data[0] % 4], data[1] & 0x80);
	o.client = smtp_client_new(net_stream_new(worker, fd, NULL, NULL), &conf, NULL, false, NULL, &ops, &o);
	say(&o, size - 2);
	finish(&o);
	mail_body_deinit(&o.body);
	str_deinit(&o.ending);
	str_deinit(&o.chunk);
	str_deinit(&o.chunks);
	return 0;
}
