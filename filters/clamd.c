/*
 * filters/clamd.c - asks clamd about the message: by a descriptor through a Unix socket, else by sending it.
 *
 * Connections are sessions of clamd (IDSESSION), so that one serves many messages; each has one command at a time. What
 * clamd says while it is still being sent to is read at once: it may have refused the rest.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/str.h"
#include "filters/answer.h"
#include "filters/clamd_limits.h"
#include "filters/clamd_reply.h"
#include "filters/dial.h"
#include "filters/feed.h"
#include "filters/fields.h"
#include "filters/idle.h"
#include "filters/mark.h"
#include "filters/message_file.h"
#include "net/reason.h"
#include "net/stream.h"

#define CHUNK_MAX (256 * 1024)

extern const struct filter_kind filter_clamd;

enum clamd_transfer { TRANSFER_AUTO, TRANSFER_FILDES, TRANSFER_INSTREAM };
static const char *const transfer_names[] = {
	[TRANSFER_AUTO] = "auto", [TRANSFER_FILDES] = "fildes", [TRANSFER_INSTREAM] = "instream", NULL};

enum clamd_oversize { OVERSIZE_FAIL, OVERSIZE_REJECT, OVERSIZE_PASS };
static const char *const oversize_names[] = {
	[OVERSIZE_FAIL] = "fail", [OVERSIZE_REJECT] = "reject", [OVERSIZE_PASS] = "pass", NULL};

struct clamd_conf {
	struct dial_conf dial;
	int transfer;
	int max_idle;
	int64_t idle_timeout_ms;
	int oversize;
	const char *mark;
	const char *config_file;
	struct filter_answer answer;
	struct idle_conns *idle; /* made by setup() */
};

static const struct config_option clamd_options[] = {
	DIAL_OPTIONS(struct clamd_conf, dial, "unix:/run/clamav/clamd.ctl"),
	CONFIG_ENUM("transfer", struct clamd_conf, transfer, "auto", transfer_names,
		"how clamd gets the message: fildes gives it an open file through a Unix socket, instream sends the "
		"message, at most clamd's StreamMaxLength of it, and auto is fildes where the socket is one; where a "
		"confinement of clamd forbids it to read files of others (it says so, and the message fails), try "
		"instream"),
	CONFIG_INT("max_idle", struct clamd_conf, max_idle, "8", 0, 1000,
		"so many connections, of all workers, are kept for the next message; with 0 each message has one of its "
		"own"),
	CONFIG_DURATION("idle_timeout", struct clamd_conf, idle_timeout_ms, "20s", 1, 3600 * 1000,
		"how long a connection is kept for the next message; clamd closes it after its own IdleTimeout, 30 "
		"seconds when nothing else is said"),
	CONFIG_ENUM("oversize", struct clamd_conf, oversize, "fail", oversize_names,
		"what becomes of a message that is larger than clamd's StreamMaxLength: with fail on_failure decides, "
		"reject answers 552, and pass lets it through unchecked"),
	CONFIG_STRING("mark", struct clamd_conf, mark, NULL,
		"the name of a header field that tells the result of a delivered message, such as X-Virus-Status: clean, "
		"infected and the name of what was found, or unchecked; those that come from outside are removed; "
		"none when not given"),
	CONFIG_STRING("config_file", struct clamd_conf, config_file, "/etc/clamav/clamd.conf",
		"clamd's own configuration, when it runs on this machine: postern -t compares its limits with ours; none: "
		"it does not"),
	FILTER_ANSWER_OPTIONS(struct clamd_conf, answer, "reject", "of a message in which something was found"),
	CONFIG_END};

/* In run->data. Of dial, file, conn and stream at most one at a time is under way. */
struct clamd_run {
	struct filter_run *run;
	struct dial *dial;
	struct message_file *file;
	struct idle_conn conn; /* fd -1: there is none, or the stream has it */
	struct net_stream *stream;
	bool is_reused; /* it may have died while nobody looked */
	bool is_fildes;
	struct feed feed; /* of INSTREAM; over, too, once a descriptor was given */
};

/* ---- the configuration ---------------------------------------------------------------------- */

static int
check_transfer(const struct clamd_conf *c, struct err *err)
{
	struct ip_endpoint ep;

	for (size_t i = 0; c->transfer == TRANSFER_FILDES && i < c->dial.socket.count; i++)
		if (dial_parse(c->dial.socket.list[i].text, &ep, err) < 0 || ep.kind != IP_UNIX)
			return err_set(err, "transfer fildes needs a Unix socket, which %s is not (try transfer instream)",
				c->dial.socket.list[i].text);
	return 0;
}

static int
clamd_setup(void *conf, struct err *err)
{
	struct clamd_conf *c = conf;

	c->idle = idle_new(c->max_idle, c->idle_timeout_ms);
	if (dial_setup(&c->dial, err) < 0 || check_transfer(c, err) < 0)
		return -1;
	if (c->mark != NULL && filter_field_check("mark", c->mark, err) < 0)
		return -1;
	if (filter_answer_passes(&c->answer) && c->mark == NULL)
		return err_set(err, "it does nothing: give it mark, or another verdict than pass");
	return filter_answer_check(&c->answer, err);
}

static unsigned
clamd_asks(const void *conf)
{
	const struct clamd_conf *c = conf;

	return c->mark != NULL ? FILTER_MAY(MAIL_EDIT_ADD) : 0;
}

static bool
is_on_this_machine(const struct ip_endpoint *ep)
{
	struct ip_addr addr;

	if (ep->kind == IP_NAME)
		return strcmp(ep->host, "localhost") == 0;
	ip_addr_from_sockaddr((const struct sockaddr *)&ep->addr, &addr);
	return ip_addr_is_loopback(&addr);
}

/* Where there is no such file, clamd is configured elsewhere: -t speaks of it only when it was named. */
static void
clamd_check(const void *conf, int64_t size_max, filter_warn_fn warn, void *owner)
{
	const struct clamd_conf *c = conf;
	bool is_here = false, is_stream = false;
	struct clamd_limits limits;
	struct ip_endpoint ep;
	struct err err;

	for (size_t i = 0; i < c->dial.socket.count; i++)
		if (dial_parse(c->dial.socket.list[i].text, &ep, &err) == 0 && is_on_this_machine(&ep)) {
			is_here = true;
			is_stream |= ep.kind != IP_UNIX || c->transfer == TRANSFER_INSTREAM;
		}
	if (!is_here || strcmp(c->config_file, "none") == 0)
		return;
	if (clamd_limits_read(c->config_file, &limits, &err) == 0)
		clamd_limits_compare(&limits, c->config_file, size_max, is_stream, warn, owner);
	else if (errno != ENOENT || strcmp(c->config_file, "/etc/clamav/clamd.conf") != 0)
		warn(owner, "config_file", err.text);
}

static void
clamd_marks(const void *conf, struct filter_marks *marks)
{
	const struct clamd_conf *c = conf;

	if (c->mark != NULL)
		filter_mark_declare(marks, c->mark);
}

static void
clamd_teardown(void *conf)
{
	struct clamd_conf *c = conf;

	idle_free(&c->idle);
	dial_teardown(&c->dial);
}

/* ---- the end of a run ------------------------------------------------------------------------ */

static void
clamd_cancel(struct filter_run *run)
{
	struct clamd_run *c = run->data;

	dial_cancel(&c->dial);
	message_file_cancel(&c->file);
	net_stream_free(&c->stream);
	if (c->conn.fd >= 0)
		close(c->conn.fd);
	c->conn.fd = -1;
	feed_deinit(&c->feed);
}

static void
end(struct clamd_run *c, enum filter_step how)
{
	struct filter_run *run = c->run;

	clamd_cancel(run);
	filter_resume(run, how);
}

/* Of this clamd. */
static enum filter_step
failure(struct clamd_run *c, const char *what)
{
	char text[300];

	ip_endpoint_text(c->conn.to, text, sizeof(text));
	return filter_fail(c->run, "%s: %s", text, what);
}

static enum filter_step
unreadable(struct filter_run *run)
{
	return filter_fail(run, "cannot read the message: %s", strerror(errno));
}

/* Its next message finds the session as it is now. */
static void
keep(struct clamd_run *c)
{
	const struct clamd_conf *conf = c->run->conf;

	if (conf->max_idle == 0 || !net_stream_is_at_rest(c->stream))
		return;
	c->conn.fd = net_stream_release(&c->stream).fd;
	idle_keep(conf->idle, &c->conn);
	c->conn.fd = -1;
}

/* ---- what it said ---------------------------------------------------------------------------- */

static void
mark(struct clamd_run *c, const char *value)
{
	const struct clamd_conf *conf = c->run->conf;

	if (conf->mark != NULL)
		filter_mark(c->run, conf->mark, value);
}

static enum filter_step
infected(struct clamd_run *c, const char *virus)
{
	const struct clamd_conf *conf = c->run->conf;
	struct filter_answer answer = conf->answer;

	log_info(c->run->log, "virus", "filter=%s virus=%s", c->run->filter->name, virus);
	mark(c, arena_printf(c->run->arena, "infected (%s)", virus));
	if (answer.text == NULL)
		answer.text = arena_printf(c->run->arena, "the message contains %s", virus);
	return filter_answer(c->run, &answer);
}

static enum filter_step
too_large(struct clamd_run *c)
{
	const struct clamd_conf *conf = c->run->conf;

	switch ((enum clamd_oversize)conf->oversize) {
	case OVERSIZE_REJECT:
		return filter_reject(c->run, 552, "5.3.4", "the message is too large to be scanned");
	case OVERSIZE_PASS:
		mark(c, "unchecked");
		return FILTER_NEXT;
	case OVERSIZE_FAIL:
		break;
	}
	return failure(c, "the message is larger than its StreamMaxLength (raise that in clamd.conf, or say oversize)");
}

/* Who has read all of it and then answers has confirmed all of it. */
static enum filter_step
clean(struct clamd_run *c)
{
	if (!c->feed.is_over || net_stream_unconfirmed(c->stream) > 0)
		return failure(c, "it called the message clean before it had all of it");
	mark(c, "clean");
	keep(c);
	return FILTER_NEXT;
}

static enum filter_step
judge(struct clamd_run *c, const struct clamd_reply *reply)
{
	switch (reply->said) {
	case CLAMD_CLEAN:
		return clean(c);
	case CLAMD_INFECTED:
		if (c->feed.is_over)
			keep(c);
		return infected(c, reply->text);
	case CLAMD_TOO_LARGE:
		return too_large(c);
	case CLAMD_WRONG:
		break;
	}
	return failure(c, arena_printf(c->run->arena, "it said \"%s\"", reply->text));
}

/* ---- one try --------------------------------------------------------------------------------- */

static void dial(struct clamd_run *c);

/* A kept connection that has died is replaced once. */
static void
lost(struct clamd_run *c, const char *why)
{
	if (!c->is_reused) {
		end(c, failure(c, why));
		return;
	}
	clamd_cancel(c->run);
	dial(c);
}

/* Its session counts commands from 1. */
static unsigned
command_id(const struct clamd_run *c)
{
	const struct clamd_conf *conf = c->run->conf;

	return conf->max_idle > 0 ? c->conn.uses : 0;
}

static size_t
got_reply(struct clamd_run *c, const char *line, size_t line_len, size_t len)
{
	struct clamd_reply reply;

	clamd_reply_parse(line, line_len, command_id(c), c->is_fildes, &reply);
	if (c->is_reused && !reply.is_ours)
		lost(c, reply.text); /* what it says when it closes a session that was silent */
	else if (line_len + 1 < len)
		end(c, failure(c, "it said more than it was asked"));
	else
		end(c, judge(c, &reply));
	return len;
}

static size_t
got_octets(struct clamd_run *c, const char *data, size_t len)
{
	const char *nul = memchr(data, '\0', len);

	if (nul != NULL)
		return got_reply(c, data, (size_t)(nul - data), len);
	if (len <= CLAMD_REPLY_MAX)
		return 0;
	end(c, failure(c, "its answer has no end"));
	return len;
}

/* In front of each chunk its length; the empty one ends the message. */
static void
frame(struct net_stream *s, size_t len)
{
	const uint32_t size = htonl((uint32_t)len);

	net_stream_write(s, &size, sizeof(size));
}

static int
send_chunks(struct clamd_run *c)
{
	return feed_stream(&c->feed, c->stream, CHUNK_MAX, frame);
}

static size_t
on_event(void *owner, enum net_event ev, const char *data, size_t len)
{
	struct clamd_run *c = owner;

	switch (ev) {
	case NET_BYTES:
		return got_octets(c, data, len);
	case NET_DRAINED:
		if (!c->feed.is_over && send_chunks(c) < 0)
			end(c, unreadable(c->run));
		break;
	case NET_EOF:
		lost(c, "it closed the connection before its answer was complete");
		break;
	case NET_BROKEN:
		lost(c, net_stream_error(c->stream));
		break;
	default:
		break;
	}
	return 0;
}

/* All that is said before the message itself; the first in its session begins that. */
static struct str
command(struct clamd_run *c)
{
	const struct clamd_conf *conf = c->run->conf;
	struct str s = STR_INIT;

	if (conf->max_idle > 0 && c->conn.uses == 0)
		str_addn(&s, "zIDSESSION", sizeof("zIDSESSION"));
	c->conn.uses++;
	if (c->is_fildes)
		str_addn(&s, "zFILDES", sizeof("zFILDES"));
	else
		str_addn(&s, "zINSTREAM", sizeof("zINSTREAM"));
	return s;
}

static void
make_stream(struct clamd_run *c)
{
	c->stream = net_stream_new(c->run->env->worker, c->conn.fd, on_event, c);
	c->conn.fd = -1;
}

static int
send_message(struct clamd_run *c)
{
	struct str s = command(c);

	make_stream(c);
	net_stream_write(c->stream, s.data, s.len);
	str_deinit(&s);
	feed_init(&c->feed, c->run);
	return send_chunks(c);
}

/* The command, one octet of no meaning, and with them the descriptor. So little always fits into a socket that waits
 * for a command. */
static int
send_descriptor(struct clamd_run *c, int fd)
{
	struct str s = command(c);
	struct iovec iov;
	union {
		char octets[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.octets, .msg_controllen = sizeof(control.octets)};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	ssize_t n;

	str_addc(&s, 'x');
	iov = (struct iovec){.iov_base = s.data, .iov_len = s.len};
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
	n = sendmsg(c->conn.fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	str_deinit(&s);
	if (n >= 0 && (size_t)n < iov.iov_len)
		errno = EAGAIN;
	return n == (ssize_t)iov.iov_len ? 0 : -1;
}

static void
got_file(void *owner, int fd, const struct err *err)
{
	struct clamd_run *c = owner;
	int rc;

	c->file = NULL;
	if (fd < 0) {
		end(c, filter_fail(c->run, "%s", err->text));
		return;
	}
	rc = send_descriptor(c, fd);
	close(fd);
	if (rc < 0) {
		lost(c, net_reason(errno));
		return;
	}
	c->feed.is_over = true;
	make_stream(c);
}

/* Nothing fails within it but reading, which never waits for others: so a run may begin with it. */
static int
ask(struct clamd_run *c)
{
	const struct clamd_conf *conf = c->run->conf;

	c->is_fildes = conf->transfer != TRANSFER_INSTREAM && c->conn.to->kind == IP_UNIX;
	c->feed.is_over = false;
	if (!c->is_fildes)
		return send_message(c);
	c->file = message_file_open(c->run, got_file, c);
	return 0;
}

static void
got_connection(void *owner, int fd, const struct ip_endpoint *to, const struct err *err)
{
	struct clamd_run *c = owner;

	c->dial = NULL;
	if (fd < 0) {
		end(c, filter_fail(c->run, "%s", err->text));
		return;
	}
	c->conn = (struct idle_conn){.fd = fd, .to = to};
	if (ask(c) < 0)
		end(c, unreadable(c->run));
}

static void
dial(struct clamd_run *c)
{
	const struct clamd_conf *conf = c->run->conf;

	c->is_reused = false;
	c->dial = dial_start(c->run->env->worker, &conf->dial, got_connection, c);
}

static enum filter_step
clamd_message(struct filter_run *run)
{
	const struct clamd_conf *conf = run->conf;
	struct clamd_run *c = run->data;

	c->run = run;
	c->conn.fd = -1;
	c->is_reused = idle_take(conf->idle, &c->conn);
	if (!c->is_reused) {
		dial(c);
	} else if (ask(c) < 0) {
		clamd_cancel(run);
		return unreadable(run);
	}
	return FILTER_WAIT;
}

static const struct dial_conf *
clamd_service(const void *conf)
{
	return &((const struct clamd_conf *)conf)->dial;
}

const struct filter_kind filter_clamd = {
	FILTER_SECTION(clamd,
		"asks the virus scanner clamd; only its exact words for a clean message are taken as such, all else but "
		"a find is a failure",
		clamd_options, struct clamd_conf),
	.section.example = "# Debian's clamav-daemon; mail waits while it does not answer.\n"
			   "clamd virus {\n"
			   "    socket  unix:/run/clamav/clamd.ctl\n"
			   "    verdict reject\n"
			   "    mark    X-Virus-Status\n"
			   "}",
	.run_size = sizeof(struct clamd_run),
	.may = FILTER_MAY(MAIL_EDIT_ADD),
	.asks = clamd_asks,
	.service = clamd_service,
	.check = clamd_check,
	.setup = clamd_setup,
	.marks = clamd_marks,
	.teardown = clamd_teardown,
	.message = clamd_message,
	.cancel = clamd_cancel,
};
