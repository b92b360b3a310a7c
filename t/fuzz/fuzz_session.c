/*
 * t/fuzz/fuzz_session.c - a whole server session over a socket pair: what clients say, in any packets.
 *
 * The first two octets choose limits, how the owner answers, and where packets end; the rest is what
 * the client says. Watched are the order of what the owner hears, the form and the number of the
 * replies, and what is kept in memory.
 */
#include <strings.h>

#include "smtp/server.h"
#include "t/fuzz/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Room for what was read at once behind what is held (net/stream.h). */
#define HELD_BOUND    (NET_HELD_MAX + NET_RECV_SIZE)
#define WAITING_BOUND (NET_HIGH_MARK + NET_RECV_SIZE)

enum what { NOTHING, SENDER, RECIPIENTS, CONTENT, COMPLETE };

struct owner {
	struct wire wire;
	struct smtp_server_conf conf;
	struct smtp_server *srv;
	struct arena *arena;
	struct smtp_cmd *waiting; /* to be answered later */
	enum what what;	      /* of the transaction was heard */
	enum what next;	      /* when the waiting command is answered with yes */
	int yes;	      /* its code */
	bool is_slow, is_lazy, is_polite, refuses;
	bool gone;
	char last;     /* octet of the content */
	int64_t size;  /* of the content */
	size_t ends;   /* messages */
	size_t lines;  /* line ends that the client has sent */
	size_t replies, parsed;
};

/* ---- the owner ---- */

static void
ended(struct owner *o)
{
	if (o->what == NOTHING && o->arena == NULL)
		return;
	o->what = NOTHING;
	arena_free(&o->arena);
}

static enum smtp_step
give(struct owner *o, struct smtp_cmd *cmd)
{
	static const char odd[] = "one\r\n250 two\n\ttab \x01\xff\n";
	struct smtp_reply reply = {.code = 250, .status = "2.1.0", .text = odd};

	if (!o->refuses || wire_chance(&o->wire, 8) > 0) {
		o->what = o->next;
		reply.code = o->yes;
		return wire_chance(&o->wire, 2) ? smtp_cmd_reply(cmd, o->yes, NULL, "%s", "fine")
						: smtp_cmd_reply_with(cmd, &reply);
	}
	reply.code = wire_chance(&o->wire, 2) ? 451 : 550;
	reply.status[0] = '\0';
	return wire_chance(&o->wire, 16) ? smtp_cmd_reply_with(cmd, &reply)
					 : smtp_cmd_reply_close(cmd, &reply);
}

static enum smtp_step
answer(struct owner *o, struct smtp_cmd *cmd, enum what next)
{
	MUST(!o->gone && o->waiting == NULL);
	o->next = next;
	o->yes = 250;
	if (!o->is_slow || wire_chance(&o->wire, 2))
		return give(o, cmd);
	o->waiting = cmd;
	return SMTP_WAIT;
}

static enum smtp_step
on_connect(void *owner, struct smtp_cmd *cmd)
{
	struct owner *o = owner;

	MUST(!o->gone && o->waiting == NULL && o->what == NOTHING);
	o->next = NOTHING;
	o->yes = 220;
	if (!o->is_slow)
		return give(o, cmd);
	o->waiting = cmd;
	return SMTP_WAIT;
}

static void
on_caps(void *owner, struct smtp_caps *caps_r)
{
	struct owner *o = owner;

	caps_r->bits = SMTP_CAP_PIPELINING | SMTP_CAP_CHUNKING | SMTP_CAP_STATUSCODES |
		       SMTP_CAP_8BITMIME | SMTP_CAP_SIZE | SMTP_CAP_DSN;
	caps_r->size = o->conf.max_message;
}

static enum smtp_step
on_helo(void *owner, struct smtp_cmd *cmd, const char *name, bool esmtp)
{
	struct owner *o = owner;

	/* Also between two chunks of BDAT: if it is refused they go on. */
	(void)esmtp;
	MUST(*name != '\0' && o->what != COMPLETE);
	return answer(o, cmd, o->what);
}

/* What was open is over. */
static void
on_greeted(void *owner, const char *name, bool esmtp)
{
	struct owner *o = owner;

	(void)esmtp;
	MUST(*name != '\0' && !o->gone && o->arena == NULL && o->what == NOTHING);
}

static struct arena *
on_arena(void *owner)
{
	struct owner *o = owner;

	MUST(!o->gone && o->arena == NULL && o->what == NOTHING);
	o->arena = arena_new();
	return o->arena;
}

static void
check_address(const char *addr)
{
	for (; *addr != '\0'; addr++)
		MUST((unsigned char)*addr >= ' ' && *addr != 127);
}

static enum smtp_step
on_mail(void *owner, struct smtp_cmd *cmd, const struct mail_sender *sender)
{
	struct owner *o = owner;

	MUST(o->arena != NULL && o->what == NOTHING);
	check_address(sender->addr);
	return answer(o, cmd, SENDER);
}

static enum smtp_step
on_rcpt(void *owner, struct smtp_cmd *cmd, const struct mail_rcpt *rcpt)
{
	struct owner *o = owner;

	MUST(o->what == SENDER || o->what == RECIPIENTS);
	check_address(rcpt->addr);
	return answer(o, cmd, RECIPIENTS);
}

static bool
on_begin(void *owner, struct smtp_reply *refusal)
{
	struct owner *o = owner;

	MUST(!o->gone && o->waiting == NULL && o->what == RECIPIENTS);
	if (o->refuses && wire_chance(&o->wire, 4) == 0) {
		*refusal = (struct smtp_reply){.code = 452, .status = "4.3.1", .text = "no room"};
		return false;
	}
	o->what = CONTENT;
	o->last = '\n';
	o->size = 0;
	return true;
}

/* Only CRLF; a dot line is one that begins with a dot, and is not within a run. */
static void
on_content(void *owner, const char *data, size_t len, bool dot_line)
{
	struct owner *o = owner;

	MUST(!o->gone && o->waiting == NULL && o->what == CONTENT && len > 0);
	for (size_t i = 0; i < len; i++) {
		const bool begins = o->last == '\n';

		MUST((data[i] == '\n') == (o->last == '\r'));
		if (data[i] == '.')
			MUST((i == 0 && dot_line) == begins);
		o->last = data[i];
	}
	o->size += (int64_t)len;
	MUST(o->conf.max_message == 0 || o->size <= o->conf.max_message);
}

static enum smtp_step
on_end(void *owner, struct smtp_cmd *cmd, const struct smtp_dot *how)
{
	struct owner *o = owner;

	(void)how;
	MUST(o->what == CONTENT && o->last != '\r');
	o->what = COMPLETE;
	o->ends++;
	return answer(o, cmd, COMPLETE);
}

static void
on_reset(void *owner, const struct smtp_reply *why)
{
	struct owner *o = owner;

	MUST(why == NULL || why->code >= 400);
	MUST(!o->gone && o->waiting == NULL && o->arena != NULL);
	ended(o);
}

static void
on_gone(void *owner, enum smtp_gone why)
{
	struct owner *o = owner;

	(void)why;
	MUST(!o->gone);
	o->gone = true;
	o->waiting = NULL;
	ended(o);
	smtp_server_free(&o->srv);
}

static const struct smtp_server_ops ops = {
	.connect = on_connect,
	.caps = on_caps,
	.helo = on_helo,
	.greeted = on_greeted,
	.arena = on_arena,
	.mail = on_mail,
	.rcpt = on_rcpt,
	.begin = on_begin,
	.content = on_content,
	.end = on_end,
	.reset = on_reset,
	.gone = on_gone,
};

/* ---- what the client sees ---- */

static bool
is_text(const char *line, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (((unsigned char)line[i] < ' ' && line[i] != '\t') || line[i] == 127)
			return false;
	return true;
}

/* Whole replies since the last look: each line in order, one code, CRLF. */
static void
check_replies(struct owner *o)
{
	const struct str *got = &o->wire.got;
	const char *code = NULL, *line, *end;
	size_t at = o->parsed;

	while (at < got->len && (end = memmem(got->data + at, got->len - at, "\r\n", 2)) != NULL) {
		line = got->data + at;
		at = (size_t)(end - got->data) + 2;
		MUST(end - line >= 4 && end - line <= 510 && is_text(line, (size_t)(end - line)));
		MUST(line[0] >= '2' && line[0] <= '5' && line[1] >= '0' && line[1] <= '5');
		MUST(line[2] >= '0' && line[2] <= '9' && (line[3] == ' ' || line[3] == '-'));
		MUST(code == NULL || memcmp(code, line, 3) == 0);
		code = line;
		if (line[3] == '-')
			continue;
		code = NULL;
		o->replies++;
		o->parsed = at;
	}
	MUST(memchr(str_text(got) + o->parsed, '\0', got->len - o->parsed) == NULL);
}

/* A greeting, one for each line (or over-long part of one), and a goodbye. */
static void
check_count(const struct owner *o)
{
	MUST(o->replies <= 2 + o->lines + o->wire.sent / 2048);
}

static void
look(struct owner *o)
{
	size_t held = 0;

	if (o->srv != NULL) {
		net_stream_held(smtp_server_stream(o->srv), &held);
		MUST(held <= HELD_BOUND);
		MUST(net_stream_waiting(smtp_server_stream(o->srv)) <= WAITING_BOUND);
	}
	if (o->is_lazy && wire_chance(&o->wire, 16) > 0)
		return;
	if (o->wire.fd >= 0)
		wire_read(&o->wire);
	check_replies(o);
	check_count(o);
}

/* ---- the session ---- */

static void
answer_now(struct owner *o)
{
	struct smtp_cmd *cmd = o->waiting;

	if (cmd == NULL)
		return;
	o->waiting = NULL;
	give(o, cmd);
}

static void
step(struct owner *o)
{
	wire_turn();
	if (wire_chance(&o->wire, 3) == 0)
		answer_now(o);
	if (o->is_slow && o->srv != NULL && wire_chance(&o->wire, 2000) == 0)
		smtp_server_drain(o->srv);
	look(o);
}

/* A polite one ends each packet with its line, and waits. */
static size_t
turn_to_speak(struct owner *o, const char *data, size_t len)
{
	const char *lf = memchr(data, '\n', len);

	if (!o->is_polite)
		return len;
	answer_now(o);
	return lf != NULL ? (size_t)(lf - data) + 1 : len;
}

static void
say(struct owner *o, const char *data, size_t len)
{
	const size_t end = o->wire.sent + len;

	while (o->wire.sent < end && !o->gone) {
		const size_t part = wire_part(&o->wire, turn_to_speak(o, data, len));
		const size_t n = wire_send(&o->wire, data, part);

		for (size_t i = 0; i < n; i++)
			o->lines += data[i] == '\n';
		data += n;
		len -= n;
		if (n == 0) { /* it hears no more before we listen */
			answer_now(o);
			wire_read(&o->wire);
		}
		step(o);
	}
}

/* After what the client has said: it waits, half-closes, breaks off, or we end the session. */
static void
finish(struct owner *o)
{
	const unsigned how = wire_chance(&o->wire, 4);

	o->is_lazy = false;
	for (int i = 0; how == 0 && i < 50 && !o->gone; i++)
		step(o);
	look(o);
	if (how <= 1)
		shutdown(o->wire.fd, SHUT_WR);
	else if (how == 2)
		smtp_server_free(&o->srv);
	else
		wire_hang_up(&o->wire);
	for (size_t i = 0; i < 1000 + o->lines && o->srv != NULL; i++) {
		answer_now(o);
		step(o);
	}
	MUST(o->srv == NULL);
	wire_close(&o->wire);
}

/* How many messages it can have been at most: one for each end of data, one for each LAST. */
static size_t
count_ends(const char *data, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i + 3 <= len; i++)
		n += memcmp(data + i, ".\r\n", 3) == 0 && (i == 0 || data[i - 1] == '\n');
	for (size_t i = 0; i + 4 <= len; i++)
		n += strncasecmp(data + i, "LAST", 4) == 0;
	return n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int64_t sizes[] = {0, 100, 5000, 1 << 20};
	const char *text = (const char *)data + 2;
	struct owner o = {.is_slow = false};
	unsigned times;
	int fd;

	if (size < 3)
		return 0;
	size -= 2;
	fd = wire_open(&o.wire, data[0] * 2654435761u + data[1], data[0] & 0x40 ? 4096 : 0);
	o.is_slow = data[0] & 0x10;
	o.refuses = data[0] & 0x20;
	o.is_lazy = data[0] & 0x40;
	o.conf = (struct smtp_server_conf){
		.hostname = "proxy.example",
		.greeting = "ESMTP",
		.max_message = sizes[data[0] % 4],
		.max_recipients = data[0] & 4 ? 2 : 100,
		.max_errors = data[0] & 8 ? 3 : 1000,
		.bare_newline = data[0] & 0x80 ? SMTP_BARE_REJECT : SMTP_BARE_NORMALIZE,
		.soft_bounce = data[1] & 1,
	};
	o.is_polite = data[1] < 160;
	times = data[1] < 240 ? 1 : 1 + 400000 / size;
	o.srv = smtp_server_new(net_stream_new(worker, fd, NULL, NULL), &o.conf, &ops, &o, NULL, NULL);
	for (unsigned i = 0; i < times; i++)
		say(&o, text, size);
	/* Another may end where the text meets itself. */
	MUST(o.ends <= times * count_ends(text, size) + times - 1);
	finish(&o);
	ended(&o);
	return 0;
}
