/*
 * filters/spamd.c - asks SpamAssassin's spamd for the score of the message, and marks it or gives a verdict.
 *
 * One connection for each message, as spamd wants it: the request with its length, the message, our half of the
 * connection closed; then the answer, whose length must be as it was announced.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/str.h"
#include "filters/answer.h"
#include "filters/dial.h"
#include "filters/envelope.h"
#include "filters/feed.h"
#include "filters/mark.h"
#include "filters/new_body.h"
#include "filters/spamd_reply.h"
#include "filters/subject.h"
#include "mail/header.h"
#include "net/stream.h"

#define PIECE_MAX   (256 * 1024)
#define SYMBOLS_MAX (64 * 1024)
#define TESTS_MAX   700 /* octets of them in a field */
/* How much a report may add to a message. */
#define GROWTH_MAX (1024 * 1024)
#define USER_MAX   200
/* Of its fields in mode headers. */
#define FIELDS_MAX 1000

extern const struct filter_kind filter_spamd;

enum spamd_mode { MODE_CHECK, MODE_SYMBOLS, MODE_HEADERS, MODE_PROCESS };
static const char *const mode_names[] = {[MODE_CHECK] = "check",
	[MODE_SYMBOLS] = "symbols",
	[MODE_HEADERS] = "headers",
	[MODE_PROCESS] = "process",
	NULL};
static const char *const mode_commands[] = {
	[MODE_CHECK] = "CHECK",
	[MODE_SYMBOLS] = "SYMBOLS",
	[MODE_HEADERS] = "HEADERS",
	[MODE_PROCESS] = "PROCESS",
};

struct spamd_conf {
	struct dial_conf dial;
	int mode;
	const char *user;
	const char *threshold, *verdict_score;
	double threshold_number, verdict_number; /* filled by setup() */
	bool mark;
	const char *subject_tag;
	struct filter_answer answer;
};

static const struct config_option spamd_options[] = {
	DIAL_OPTIONS(struct spamd_conf, dial, "127.0.0.1:783"),
	CONFIG_ENUM("mode", struct spamd_conf, mode, "symbols", mode_names,
		"what is taken from SpamAssassin: check is the score, symbols also the names of the tests, headers the "
		"header fields that it would add (X-Spam-..., and its Subject), and process the message as it would "
		"rewrite it"),
	CONFIG_STRING("user", struct spamd_conf, user, NULL,
		"whose preferences of SpamAssassin hold; %r is the recipient, of a message that has only one; when not "
		"given spamd decides"),
	CONFIG_STRING("threshold", struct spamd_conf, threshold, NULL,
		"the score from which a message counts as spam, such as 5.0; when not given spamd decides"),
	CONFIG_STRING("verdict_score", struct spamd_conf, verdict_score, NULL,
		"the verdict is given only from this score on, and spam below it is delivered with its marks; when not "
		"given it is given for all spam"),
	CONFIG_BOOL("mark", struct spamd_conf, mark, "yes",
		"add X-Spam-Status and X-Spam-Score, and X-Spam-Flag to spam, in modes check and symbols; in the others "
		"SpamAssassin has done so. All X-Spam-... fields that come from outside are removed"),
	CONFIG_STRING("subject_tag", struct spamd_conf, subject_tag, NULL,
		"what is put in front of the subject of spam that is delivered"),
	FILTER_ANSWER_OPTIONS(struct spamd_conf, answer, "pass", "of spam"),
	CONFIG_END};

/* In run->data. */
struct spamd_run {
	struct filter_run *run;
	struct dial *dial;
	const struct ip_endpoint *to;
	struct net_stream *stream;
	int fd; /* the stream's, for our half of its end */
	struct feed feed;
	bool is_half_closed;
	bool has_head;
	struct spamd_reply reply;
	int64_t got; /* octets behind the head */
	struct str text; /* these, but of mode process */
	struct new_body *body; /* of mode process */
};

/* ---- the configuration ---------------------------------------------------------------------- */

static int
check_score(const char *option, const char *text, double *number_r, struct err *err)
{
	if (text != NULL && !spamd_number(text, strlen(text), number_r))
		return err_set(err, "%s \"%s\" is no score (try 5.0)", option, text);
	return 0;
}

static int
check_user(const char *user, struct err *err)
{
	if (user == NULL)
		return 0;
	if (*user == '\0' || strlen(user) > USER_MAX)
		return err_set(err, "user: a name has 1 to %d octets", USER_MAX);
	for (const char *s = user; *s != '\0'; s++)
		if ((unsigned char)*s <= ' ' || *s == 127)
			return err_set(err, "user \"%s\" has a blank or a control character", user);
	return 0;
}

static unsigned
spamd_asks(const void *conf)
{
	const struct spamd_conf *c = conf;
	const unsigned fields = FILTER_MAY(MAIL_EDIT_ADD), subject = FILTER_MAY(MAIL_EDIT_ADD) | FILTER_MAY(MAIL_EDIT_CHANGE);

	if (c->mode == MODE_PROCESS)
		return FILTER_MAY(MAIL_EDIT_MESSAGE);
	if (c->mode == MODE_HEADERS)
		return subject;
	return (c->mark ? fields : 0) | (c->subject_tag != NULL ? subject : 0);
}

static int
check_effects(const struct spamd_conf *c, struct err *err)
{
	if (c->subject_tag != NULL && c->mode == MODE_PROCESS)
		return err_set(err, "subject_tag: in mode process the message is as SpamAssassin makes it (its option "
			"rewrite_header tags the subject)");
	if (c->verdict_score != NULL && filter_answer_passes(&c->answer))
		return err_set(err, "verdict_score has no effect: the verdict is pass (try verdict reject)");
	if (spamd_asks(c) == 0 && filter_answer_passes(&c->answer))
		return err_set(err, "it does nothing: give it mark, subject_tag or another verdict");
	return 0;
}

static int
spamd_setup(void *conf, struct err *err)
{
	struct spamd_conf *c = conf;

	if (dial_setup(&c->dial, err) < 0 || check_user(c->user, err) < 0 ||
		check_score("threshold", c->threshold, &c->threshold_number, err) < 0 ||
		check_score("verdict_score", c->verdict_score, &c->verdict_number, err) < 0 ||
		subject_tag_check(c->subject_tag, err) < 0 || check_effects(c, err) < 0)
		return -1;
	return filter_answer_check(&c->answer, err);
}

static void
spamd_teardown(void *conf)
{
	struct spamd_conf *c = conf;

	dial_teardown(&c->dial);
}

/* SpamAssassin's own are believed as much as ours. */
static void
spamd_marks(const void *conf, struct filter_marks *marks)
{
	const struct spamd_conf *c = conf;

	if (c->mark || c->mode >= MODE_HEADERS)
		filter_mark_declare(marks, "X-Spam-*");
}

/* ---- the end of a run ------------------------------------------------------------------------ */

static void
spamd_cancel(struct filter_run *run)
{
	struct spamd_run *c = run->data;

	dial_cancel(&c->dial);
	net_stream_free(&c->stream);
	feed_deinit(&c->feed);
	new_body_cancel(&c->body);
	str_deinit(&c->text);
}

static void
end(struct spamd_run *c, enum filter_step how)
{
	struct filter_run *run = c->run;

	spamd_cancel(run);
	filter_resume(run, how);
}

static void
fail(struct spamd_run *c, const char *what)
{
	char text[300];

	ip_endpoint_text(c->to, text, sizeof(text));
	end(c, filter_fail(c->run, "%s: %s", text, what));
}

/* ---- what becomes of the message ------------------------------------------------------------- */

static bool
is_spam(const struct spamd_run *c)
{
	const struct spamd_conf *conf = c->run->conf;

	return conf->threshold != NULL ? c->reply.score >= conf->threshold_number : c->reply.is_spam;
}

/* The list in one piece, cut behind a name. Text from outside: the mark cleans it. */
static const char *
tests(const struct spamd_run *c)
{
	const char *text = str_text(&c->text);
	size_t len = strcspn(text, "\r\n");

	if (len == 0)
		return "none";
	if (len > TESTS_MAX)
		for (len = TESTS_MAX; len > 0 && text[len] != ','; len--)
			;
	return arena_strndup(c->run->arena, text, len);
}

static void
add_marks(struct spamd_run *c, bool spam)
{
	const struct spamd_conf *conf = c->run->conf;
	struct filter_run *run = c->run;
	const char *required = conf->threshold != NULL ? conf->threshold : c->reply.threshold_text;
	const char *status = arena_printf(
		run->arena, "%s, score=%s required=%s", spam ? "Yes" : "No", c->reply.score_text, required);

	if (conf->mode == MODE_SYMBOLS)
		status = arena_printf(run->arena, "%s tests=%s", status, tests(c));
	if (spam)
		filter_mark(run, "X-Spam-Flag", "YES");
	filter_mark(run, "X-Spam-Status", status);
	filter_mark(run, "X-Spam-Score", c->reply.score_text);
}

/* Its lines may end in LF alone. */
static void
copy_lines(struct str *dst, const struct str *src)
{
	for (size_t i = 0; i < src->len; i++) {
		if (src->data[i] == '\n' && (i == 0 || src->data[i - 1] != '\r'))
			str_addc(dst, '\r');
		str_addc(dst, src->data[i]);
	}
}

static bool
begins_with(const struct mail_field *field, const char *prefix)
{
	return field->name_len > strlen(prefix) && strncasecmp(field->name, prefix, strlen(prefix)) == 0;
}

/* Then it stays, to the octet: somebody may have signed it. */
static bool
is_subject_of(const struct filter_run *run, const struct mail_field *subject)
{
	struct mail_field field;
	const char *head;
	size_t len, pos = 0;

	if (mail_edits_header(run->arena, run->msg->body, run->seen, &head, &len) < 0)
		return false;
	while (mail_header_next(head, len, &pos, &field))
		if (mail_field_is(&field, "Subject"))
			return field.value_len == subject->value_len &&
			       memcmp(field.value, subject->value, field.value_len) == 0;
	return false;
}

/* Folded as it was, where that can stand in a header. */
static void
take_field(struct filter_run *run, const struct mail_field *field)
{
	const char *name = arena_strndup(run->arena, field->name, field->name_len);
	const char *value = arena_strndup(run->arena, field->value, field->value_len);

	value += strspn(value, " \t");
	if (memchr(field->value, '\0', field->value_len) != NULL || !mail_edit_is_value(value))
		value = mail_field_text(field, field->value_len, run->arena);
	if (mail_field_is(field, "Subject") && is_subject_of(run, field))
		return;
	if (mail_field_is(field, "Subject"))
		mail_edit_change(run->edits, 1, name, value);
	else if (mail_edit_is_name(name))
		mail_edit_add(run->edits, name, value);
}

/* What SpamAssassin has put into the header: its own fields, and the subject, if it was told to. */
static size_t
take_fields(struct filter_run *run, const char *text, size_t len)
{
	struct mail_field field;
	bool has_subject = false;
	size_t pos = 0, count = 0;

	while (count <= FIELDS_MAX && mail_header_next(text, len, &pos, &field)) {
		bool is_subject = mail_field_is(&field, "Subject");

		if (begins_with(&field, "X-Spam-") || (is_subject && !has_subject)) {
			take_field(run, &field);
			count++;
		}
		has_subject |= is_subject;
	}
	return count;
}

static enum filter_step
take_header(struct spamd_run *c)
{
	struct str text = STR_INIT;
	size_t count;

	copy_lines(&text, &c->text);
	count = take_fields(c->run, str_text(&text), text.len);
	str_deinit(&text);
	if (count > FIELDS_MAX)
		return filter_fail(c->run, "its answer has more than %d fields", FIELDS_MAX);
	return FILTER_NEXT;
}

static int
tag_subject(struct filter_run *run, const char *tag)
{
	const char *head;
	size_t len;

	if (mail_edits_header(run->arena, run->msg->body, run->seen, &head, &len) < 0)
		return -1;
	subject_tag_add(run, head, len, tag);
	return 0;
}

/* A tag of ours stands for SpamAssassin's. */
static enum filter_step
edit(struct spamd_run *c, bool spam)
{
	const struct spamd_conf *conf = c->run->conf;
	struct err err;

	if (conf->mode == MODE_PROCESS && new_body_end(&c->body, &err) < 0)
		return filter_fail(c->run, "the message as spamd made it: %s", err.text);
	if (conf->mode == MODE_HEADERS && take_header(c) != FILTER_NEXT)
		return FILTER_ERROR;
	if (conf->mode < MODE_HEADERS && conf->mark)
		add_marks(c, spam);
	if (spam && conf->subject_tag != NULL && tag_subject(c->run, conf->subject_tag) < 0)
		return filter_fail(c->run, "cannot read the header: %s", strerror(errno));
	return FILTER_NEXT;
}

static enum filter_step
judge(struct spamd_run *c)
{
	const struct spamd_conf *conf = c->run->conf;
	struct filter_answer answer = conf->answer;
	bool spam = is_spam(c);
	bool is_answered = spam && (conf->verdict_score == NULL || c->reply.score >= conf->verdict_number);
	enum filter_step how = FILTER_NEXT;

	if (spam)
		log_info(c->run->log, "spam", "filter=%s score=%s", c->run->filter->name, c->reply.score_text);
	if (!is_answered || filter_answer_delivers(&answer))
		how = edit(c, spam);
	if (how != FILTER_NEXT || !is_answered)
		return how;
	if (answer.text == NULL)
		answer.text = "the message looks like spam";
	return filter_answer(c->run, &answer);
}

/* ---- the answer ------------------------------------------------------------------------------ */

static int64_t
length_max(const struct spamd_run *c)
{
	const struct spamd_conf *conf = c->run->conf;

	switch ((enum spamd_mode)conf->mode) {
	case MODE_HEADERS:
		return MAIL_HEADER_MAX;
	case MODE_PROCESS:
		return 2 * mail_view_size(c->run->msg->body, c->run->seen) + GROWTH_MAX;
	default:
		return SYMBOLS_MAX;
	}
}

/* The end of our half counts as an octet that is not confirmed: it may come in behind the answer. */
static bool
has_all(const struct spamd_run *c)
{
	return c->feed.is_over && net_stream_unconfirmed(c->stream) <= (c->is_half_closed ? 1 : 0);
}

/* Without its length the end of a list could not be told from a connection that broke. */
static const char *
wrong_head(const struct spamd_run *c)
{
	const struct spamd_conf *conf = c->run->conf;

	if (!has_all(c))
		return "it answered before it had all of the message";
	if (c->reply.length < 0 && conf->mode != MODE_CHECK)
		return "its answer has no Content-length";
	if (c->reply.length > length_max(c))
		return "its answer is too long";
	return NULL;
}

/* Returns the octets of the head; 0: more are to come; -1: the run has ended. */
static ssize_t
got_head(struct spamd_run *c, const char *data, size_t len)
{
	const struct spamd_conf *conf = c->run->conf;
	const char *wrong;
	struct err err;
	ssize_t n = spamd_reply_parse(data, len, &c->reply, &err);

	if (n == 0)
		return 0;
	wrong = n < 0 ? err.text : wrong_head(c);
	if (wrong != NULL) {
		fail(c, wrong);
		return -1;
	}
	c->has_head = true;
	if (c->reply.length < 0)
		c->reply.length = 0;
	if (conf->mode == MODE_PROCESS)
		c->body = new_body_begin(c->run, NEW_MESSAGE, length_max(c));
	return n;
}

static void
got_rest(struct spamd_run *c, const char *data, size_t len)
{
	if ((int64_t)len > c->reply.length - c->got) {
		fail(c, "it said more than it had announced");
		return;
	}
	c->got += (int64_t)len;
	if (c->body != NULL)
		new_body_write(c->body, data, len);
	else
		str_addn(&c->text, data, len);
	if (c->got == c->reply.length)
		end(c, judge(c));
}

static size_t
got_octets(struct spamd_run *c, const char *data, size_t len)
{
	ssize_t head = 0;

	if (!c->has_head && (head = got_head(c, data, len)) <= 0)
		return head < 0 ? len : 0;
	got_rest(c, data + head, len - (size_t)head);
	return len;
}

/* ---- the question ---------------------------------------------------------------------------- */

/* Once all of it has left the stream: spamd then reads an end. */
static void
half_close(struct spamd_run *c)
{
	if (c->is_half_closed || !c->feed.is_over || net_stream_waiting(c->stream) > 0)
		return;
	c->is_half_closed = true;
	shutdown(c->fd, SHUT_WR);
}

static int
send_message(struct spamd_run *c)
{
	if (!c->feed.is_over && feed_stream(&c->feed, c->stream, PIECE_MAX, NULL) < 0)
		return -1;
	half_close(c);
	return 0;
}

static size_t
on_event(void *owner, enum net_event ev, const char *data, size_t len)
{
	struct spamd_run *c = owner;

	switch (ev) {
	case NET_BYTES:
		return got_octets(c, data, len);
	case NET_DRAINED:
		if (send_message(c) < 0)
			end(c, filter_fail(c->run, "cannot read the message: %s", strerror(errno)));
		break;
	case NET_EOF:
		fail(c, "it closed the connection before its answer was complete");
		break;
	case NET_BROKEN:
		fail(c, net_stream_error(c->stream));
		break;
	default:
		break;
	}
	return 0;
}

/* An address may have octets that cannot stand in a line of the request. */
static bool
is_clean(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < ' ' || *text == 127)
			return false;
	return true;
}

/* NULL: spamd decides. */
static const char *
user_of(const struct filter_run *run)
{
	const struct spamd_conf *conf = run->conf;
	struct mail_envelope envelope;
	const char *addr;

	if (conf->user == NULL || strcmp(conf->user, "%r") != 0)
		return conf->user;
	filter_envelope(run, &envelope);
	if (envelope.rcpt_count != 1)
		return NULL;
	addr = envelope.rcpts[0]->addr;
	return is_clean(addr) ? addr : NULL;
}

static void
send_request(struct spamd_run *c)
{
	const struct spamd_conf *conf = c->run->conf;
	const char *user = user_of(c->run);
	struct str s = STR_INIT;

	str_printf(&s, "%s SPAMC/1.5\r\nContent-length: %" PRId64 "\r\n", mode_commands[conf->mode],
		mail_view_size(c->run->msg->body, c->run->seen));
	if (user != NULL)
		str_printf(&s, "User: %s\r\n", user);
	str_add(&s, "\r\n");
	net_stream_write(c->stream, s.data, s.len);
	str_deinit(&s);
}

static void
got_connection(void *owner, int fd, const struct ip_endpoint *to, const struct err *err)
{
	struct spamd_run *c = owner;

	c->dial = NULL;
	if (fd < 0) {
		end(c, filter_fail(c->run, "%s", err->text));
		return;
	}
	c->to = to;
	c->fd = fd;
	c->stream = net_stream_new(c->run->env->worker, fd, on_event, c);
	send_request(c);
	feed_init(&c->feed, c->run);
	if (send_message(c) < 0)
		end(c, filter_fail(c->run, "cannot read the message: %s", strerror(errno)));
}

static enum filter_step
spamd_message(struct filter_run *run)
{
	const struct spamd_conf *conf = run->conf;
	struct spamd_run *c = run->data;

	c->run = run;
	c->dial = dial_start(run->env->worker, &conf->dial, got_connection, c);
	return FILTER_WAIT;
}

static const struct dial_conf *
spamd_service(const void *conf)
{
	return &((const struct spamd_conf *)conf)->dial;
}

const struct filter_kind filter_spamd = {
	FILTER_SECTION(spamd,
		"asks SpamAssassin's spamd; spam is marked and delivered unless verdict says otherwise. All messages are "
		"sent to it, of whatever size (spamc leaves out those over 512K: only_smaller 512K does the same)",
		spamd_options, struct spamd_conf),
	.section.example = "# Marks spam, and refuses what is beyond doubt. Large messages are seldom spam.\n"
			   "spamd spam {\n"
			   "    socket        127.0.0.1:783\n"
			   "    only_smaller  512K\n"
			   "    subject_tag   \"[spam]\"\n"
			   "    verdict       reject\n"
			   "    verdict_score 15\n"
			   "}",
	.run_size = sizeof(struct spamd_run),
	.may = FILTER_MAY(MAIL_EDIT_ADD) | FILTER_MAY(MAIL_EDIT_CHANGE) | FILTER_MAY(MAIL_EDIT_MESSAGE),
	.asks = spamd_asks,
	.service = spamd_service,
	.setup = spamd_setup,
	.teardown = spamd_teardown,
	.marks = spamd_marks,
	.message = spamd_message,
	.cancel = spamd_cancel,
};
