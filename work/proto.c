/* work/proto.c - frames and messages: bounded encoders and decoders, no sockets. */
#include "work/proto.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define FRAME_HEAD     4
#define FRAME_REST_MIN 6 /* type, job, count */

const char *const work_frame_names[] = {NULL, "job", "ask", "answer", "edit", "done", NULL};

/* How many words a frame of each type has. */
static const struct {
	size_t min, max;
} frame_words[] = {
	[WORK_JOB] = {0, WORK_WORDS_MAX},
	[WORK_ASK] = {1, WORK_WORDS_MAX},
	[WORK_ANSWER] = {2, 2},
	[WORK_EDIT] = {2, 2},
	[WORK_DONE] = {5, 5},
};

/* Reads on from pos; what is missing makes it bad and gives zeroes, so the end is checked once. */
struct cursor {
	const char *data;
	size_t len, pos;
	bool bad;
};

static const char *
take(struct cursor *c, size_t len)
{
	const char *at = c->data + c->pos;

	if (c->bad || len > c->len - c->pos) {
		c->bad = true;
		return NULL;
	}
	c->pos += len;
	return at;
}

static uint64_t
take_number(struct cursor *c, size_t octets)
{
	const char *at = take(c, octets);
	uint64_t n = 0;

	for (size_t i = 0; at != NULL && i < octets; i++)
		n = n << 8 | (unsigned char)at[i];
	return n;
}

static void
add_number(struct str *out, uint64_t n, size_t octets)
{
	while (octets-- > 0)
		str_addc(out, (char)(n >> (8 * octets)));
}

ssize_t
work_frame_decode(const char *data, size_t len, struct work_frame *frame_r, struct err *err)
{
	struct cursor c = {.data = data, .len = len};
	uint64_t rest;
	unsigned type;

	if (len < FRAME_HEAD)
		return 0;
	rest = take_number(&c, FRAME_HEAD);
	if (rest < FRAME_REST_MIN || rest > WORK_FRAME_MAX - FRAME_HEAD)
		return err_set(err, "frame of %llu octets", (unsigned long long)rest);
	if (len - FRAME_HEAD < rest)
		return 0;
	c.len = FRAME_HEAD + rest;
	type = (unsigned)take_number(&c, 1);
	if (type < WORK_JOB || type > WORK_DONE)
		return err_set(err, "frame of unknown type %u", type);
	frame_r->type = type;
	frame_r->job = (uint32_t)take_number(&c, 4);
	frame_r->count = take_number(&c, 1);
	if (frame_r->count < frame_words[type].min || frame_r->count > frame_words[type].max)
		return err_set(
			err, "%s frame with %zu words", work_frame_names[type], frame_r->count);
	for (size_t i = 0; i < frame_r->count; i++) {
		frame_r->words[i].len = take_number(&c, 4);
		frame_r->words[i].data = take(&c, frame_r->words[i].len);
	}
	if (c.bad || c.pos != c.len)
		return err_set(err, "%s frame whose words do not fill it", work_frame_names[type]);
	return (ssize_t)c.len;
}

int
work_frame_encode(struct str *out, const struct work_frame *frame, struct err *err)
{
	size_t rest = FRAME_REST_MIN;

	assert(frame->type >= WORK_JOB && frame->type <= WORK_DONE);
	if (frame->count < frame_words[frame->type].min ||
		frame->count > frame_words[frame->type].max)
		return err_set(err, "%s frame with %zu words", work_frame_names[frame->type],
			frame->count);
	for (size_t i = 0; i < frame->count; i++) {
		if (frame->words[i].len > WORK_FRAME_MAX)
			return err_set(err, "word of %zu octets", frame->words[i].len);
		rest += 4 + frame->words[i].len;
	}
	if (rest > WORK_FRAME_MAX - FRAME_HEAD)
		return err_set(err, "frame of %zu octets", rest);
	add_number(out, rest, FRAME_HEAD);
	add_number(out, frame->type, 1);
	add_number(out, frame->job, 4);
	add_number(out, frame->count, 1);
	for (size_t i = 0; i < frame->count; i++) {
		add_number(out, frame->words[i].len, 4);
		str_addn(out, frame->words[i].data, frame->words[i].len);
	}
	return 0;
}

void
work_frame_add(struct work_frame *frame, const char *text)
{
	assert(frame->count < WORK_WORDS_MAX);
	frame->words[frame->count].data = text;
	frame->words[frame->count].len = strlen(text);
	frame->count++;
}

bool
work_word_is(const struct work_word *word, const char *text)
{
	return word->len == strlen(text) && memcmp(word->data, text, word->len) == 0;
}

int64_t
work_word_number(const struct work_word *word, int64_t max)
{
	int64_t n = 0;

	if (word->len == 0 || word->len > 18)
		return -1;
	for (size_t i = 0; i < word->len; i++) {
		if (!isdigit((unsigned char)word->data[i]))
			return -1;
		n = n * 10 + (word->data[i] - '0');
	}
	return n <= max ? n : -1;
}

/* The first digit that codes and statuses of this verdict begin with; 0: it has none. */
static char
verdict_class(enum verdict_kind kind)
{
	switch (kind) {
	case VERDICT_REJECT:
		return '5';
	case VERDICT_TEMPFAIL:
	case VERDICT_DISCONNECT:
		return '4';
	default:
		return 0;
	}
}

/* "d.d.d" with up to three digits behind each dot, RFC 3463 2. */
static bool
status_valid(const struct work_word *w, char class)
{
	size_t pos = 1;

	if (w->len > 9 || w->len < 5 || w->data[0] != class)
		return false;
	for (int part = 0; part < 2; part++) {
		size_t begin;

		if (pos == w->len || w->data[pos++] != '.')
			return false;
		begin = pos;
		while (pos < w->len && isdigit((unsigned char)w->data[pos]))
			pos++;
		if (pos == begin || pos - begin > 3)
			return false;
	}
	return pos == w->len;
}

int
work_done_encode(struct str *out, uint32_t job, const struct work_done *done, struct err *err)
{
	struct work_frame frame = {.type = WORK_DONE, .job = job};
	char code[16] = "";

	if (done->code != 0)
		snprintf(code, sizeof(code), "%d", done->code);
	work_frame_add(&frame, done->failed ? "error" : verdict_names[done->kind]);
	work_frame_add(&frame, code);
	work_frame_add(&frame, done->status);
	work_frame_add(&frame, done->text);
	work_frame_add(&frame, done->is_last ? "last" : "");
	return work_frame_encode(out, &frame, err);
}

static int
decode_verdict(const struct work_word *word, struct work_done *done_r)
{
	if (work_word_is(word, "error")) {
		done_r->failed = true;
		return 0;
	}
	for (enum verdict_kind kind = VERDICT_PASS; kind <= VERDICT_DISCONNECT; kind++)
		if (work_word_is(word, verdict_names[kind])) {
			done_r->kind = kind;
			return 0;
		}
	return -1;
}

int
work_done_decode(const struct work_frame *frame, struct work_done *done_r, struct err *err)
{
	const struct work_word *w = frame->words;
	char class;

	assert(frame->type == WORK_DONE && frame->count == frame_words[WORK_DONE].min);
	memset(done_r, 0, sizeof(*done_r));
	if (decode_verdict(&w[0], done_r) < 0)
		return err_set(err, "unknown verdict");
	class = done_r->failed ? 0 : verdict_class(done_r->kind);
	if (w[1].len != 0) {
		int64_t code = w[1].len == 3 ? work_word_number(&w[1], 599) : -1;

		if (code < 0 || class == 0 || w[1].data[0] != class)
			return err_set(err, "code does not fit the verdict");
		done_r->code = (int)code;
	}
	if (w[2].len != 0) {
		if (class == 0 || !status_valid(&w[2], class))
			return err_set(err, "status does not fit the verdict");
		memcpy(done_r->status, w[2].data, w[2].len);
	}
	str_clean(done_r->text, sizeof(done_r->text) - 1, w[3].data, w[3].len, false);
	done_r->is_last = work_word_is(&w[4], "last");
	if (!done_r->is_last && w[4].len != 0)
		return err_set(err, "unknown last word");
	return 0;
}

/* One line's octets with its CRLF, or 0 when it does not end in one or holds what no header may. */
static size_t
header_line(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '\r')
			return i + 1 < len && text[i + 1] == '\n' ? i + 2 : 0;
		if (text[i] == '\n' || text[i] == '\0')
			return 0;
	}
	return 0;
}

static bool
has_field_name(const char *line, size_t len)
{
	size_t i = 0;

	/* RFC 5322 2.2: printable US-ASCII but the colon. */
	while (i < len && line[i] > ' ' && line[i] < 127 && line[i] != ':')
		i++;
	return i > 0 && i < len && line[i] == ':' && line[0] != '.';
}

bool
work_header_valid(const char *text, size_t len)
{
	size_t pos = 0;

	while (pos < len) {
		size_t line = header_line(text + pos, len - pos);
		bool folded = pos > 0 && (text[pos] == ' ' || text[pos] == '\t');

		if (line == 0 || (!folded && !has_field_name(text + pos, line)))
			return false;
		pos += line;
	}
	return len > 0;
}

/* Messages. Texts are sent with their NUL, so what is decoded can be given to exec as it is. */

static void
add_text(struct str *out, const char *text)
{
	size_t size = strlen(text) + 1;

	add_number(out, size, 2);
	str_addn(out, text, size);
}

static const char *
take_text(struct cursor *c)
{
	size_t size = take_number(c, 2);
	const char *text = take(c, size);

	if (text == NULL || size == 0 || memchr(text, '\0', size) != text + size - 1) {
		c->bad = true;
		return NULL;
	}
	return text;
}

/* Counts and sums before anything is written: a text's length must fit its two octets. */
static int
check_texts(const char *const *list, size_t max, size_t *size, struct err *err)
{
	size_t count;

	for (count = 0; list[count] != NULL; count++) {
		if (count == max)
			return err_set(err, "more than %zu arguments or variables", max);
		*size += strlen(list[count]) + 3;
		if (*size > WORK_MESSAGE_MAX)
			return err_set(err, "arguments and environment are too long");
	}
	return 0;
}

static void
add_texts(struct str *out, const char *const *list)
{
	size_t count = 0;

	while (list[count] != NULL)
		count++;
	add_number(out, count, 2);
	for (size_t i = 0; i < count; i++)
		add_text(out, list[i]);
}

static void
take_texts(struct cursor *c, const char **list, size_t max)
{
	size_t count = take_number(c, 2);

	if (count > max) {
		c->bad = true;
		count = 0;
	}
	for (size_t i = 0; i < count; i++)
		list[i] = take_text(c);
	list[count] = NULL;
}

static int
check_spawn(const struct work_spawn *s, struct err *err)
{
	const char *const directory[] = {s->directory, NULL};
	size_t size = 64 + WORK_FDS_MAX;

	if (s->argv[0] == NULL || s->argv[0][0] != '/')
		return err_set(err, "the program is no absolute path");
	if (check_texts(directory, 1, &size, err) < 0 ||
		check_texts(s->argv, WORK_ARGV_MAX, &size, err) < 0 ||
		check_texts(s->env, WORK_ENV_MAX, &size, err) < 0)
		return -1;
	if (s->target_count > WORK_FDS_MAX)
		return err_set(err, "more than %d descriptors", WORK_FDS_MAX);
	for (size_t i = 0; i < s->target_count; i++) {
		if (s->targets[i] < 0 || s->targets[i] > WORK_FD_TARGET_MAX)
			return err_set(err, "descriptor number %d", s->targets[i]);
		for (size_t j = 0; j < i; j++)
			if (s->targets[i] == s->targets[j])
				return err_set(err, "descriptor number %d twice", s->targets[i]);
	}
	return 0;
}

static void
add_spawn(struct str *out, const struct work_spawn *s)
{
	add_number(out, s->profile, 1);
	add_number(out, s->limits.memory, 8);
	add_number(out, s->limits.cpu_seconds, 8);
	add_number(out, s->limits.file_size, 8);
	add_number(out, s->limits.open_files, 8);
	add_number(out, s->limits.processes, 8);
	add_text(out, s->directory);
	add_texts(out, s->argv);
	add_texts(out, s->env);
	add_number(out, s->target_count, 1);
	for (size_t i = 0; i < s->target_count; i++)
		add_number(out, (unsigned)s->targets[i], 1);
}

static void
take_spawn(struct cursor *c, struct work_spawn *s)
{
	s->profile = take_number(c, 1);
	s->limits.memory = take_number(c, 8);
	s->limits.cpu_seconds = take_number(c, 8);
	s->limits.file_size = take_number(c, 8);
	s->limits.open_files = take_number(c, 8);
	s->limits.processes = take_number(c, 8);
	s->directory = take_text(c);
	take_texts(c, s->argv, WORK_ARGV_MAX);
	take_texts(c, s->env, WORK_ENV_MAX);
	s->target_count = take_number(c, 1);
	if (s->target_count > WORK_FDS_MAX) {
		c->bad = true;
		s->target_count = 0;
	}
	for (size_t i = 0; i < s->target_count; i++)
		s->targets[i] = (int)take_number(c, 1);
	if (s->profile > WORK_HELPER)
		c->bad = true;
}

int
work_message_encode(struct str *out, const struct work_message *msg, struct err *err)
{
	assert(msg->type >= WORK_SPAWN && msg->type <= WORK_EXITED && msg->id != 0);
	if (msg->type == WORK_SPAWN && check_spawn(&msg->spawn, err) < 0)
		return -1;
	add_number(out, msg->type, 1);
	add_number(out, msg->id, 4);
	add_number(out, (uint32_t)msg->value, 4);
	if (msg->type == WORK_SPAWN)
		add_spawn(out, &msg->spawn);
	return 0;
}

int
work_message_decode(const char *data, size_t len, struct work_message *msg_r, struct err *err)
{
	struct cursor c = {.data = data, .len = len};

	memset(&msg_r->spawn.limits, 0, sizeof(msg_r->spawn.limits));
	msg_r->type = take_number(&c, 1);
	msg_r->id = (uint32_t)take_number(&c, 4);
	msg_r->value = (int32_t)take_number(&c, 4);
	if (msg_r->type < WORK_SPAWN || msg_r->type > WORK_EXITED || msg_r->id == 0)
		c.bad = true;
	if (!c.bad && msg_r->type == WORK_SPAWN)
		take_spawn(&c, &msg_r->spawn);
	if (c.bad || c.pos != c.len)
		return err_set(err, "malformed message of %zu octets", len);
	return msg_r->type == WORK_SPAWN ? check_spawn(&msg_r->spawn, err) : 0;
}
