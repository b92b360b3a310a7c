/*
 * base/log.c - the calls: level, context, and the batch of the thread that speaks.
 */
#include "base/log.h"

#include <assert.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log_line.h"
#include "base/log_repeat.h"
#include "base/log_sink.h"

#define BATCH_MAX ((size_t)64 << 10)

/* For the last words of a thread, or of the process: nobody is held up any more. */
#define LAST_TRIES    50
#define LAST_PAUSE_MS 10

/* What every thread needs to know to make a line, without the sink's lock. The form is one number, so that all of it
 * changes at once: where lines go, and how they look there. */
enum {
	FORM_FORMAT = 3,    /* these bits are the format */
	FORM_HAS_TIME = 4,  /* also in text */
	FORM_IS_SHORT = 8,  /* as syslog takes it */
	FORM_PLACE_BIT = 4, /* from here on: the number of the place */
};
static atomic_int wanted = LOG_LEVEL_INFO;
static atomic_uint line_form = LOG_FORMAT_TEXT;
static atomic_int facility;

static _Thread_local struct {
	char who[16];
	bool unbatched;
	bool known;   /* to the key, which writes and frees at the thread's end */
	bool is_open; /* between log_begin() and log_end() */
	struct log_head head;
	struct log_pairs pairs;
	struct log_batch batch;
} self;

static log_repeat_put put_repeated;
static pthread_key_t end_key;
static pthread_once_t end_once = PTHREAD_ONCE_INIT;

static bool
is_all_written(void)
{
	return self.batch.count == 0 && log_sink_end_line();
}

static void
flush_last(void)
{
	log_flush();
	for (int i = 0; !is_all_written() && i < LAST_TRIES; i++) {
		poll(NULL, 0, LAST_PAUSE_MS);
		log_flush();
	}
}

static void
thread_ends(void *unused)
{
	(void)unused;
	flush_last();
	log_sink_forget(&self.batch);
	log_batch_deinit(&self.batch);
	log_pairs_deinit(&self.pairs);
	self.known = false;
}

/* Whatever the parent could not write yet, it will itself. */
static void
child_begins(void)
{
	log_batch_clear(&self.batch);
	log_sink_forked();
}

static void
process_ends(void)
{
	log_repeat_all(put_repeated);
	flush_last();
}

static void
make_key(void)
{
	atexit(process_ends);
	pthread_key_create(&end_key, thread_ends);
	pthread_atfork(NULL, NULL, child_begins);
}

static void
make_known(void)
{
	if (self.known)
		return;
	pthread_once(&end_once, make_key);
	pthread_setspecific(end_key, &self);
	self.known = true;
}

int
log_check(const struct log_conf *conf, struct err *err)
{
	return log_sink_check(conf, err);
}

void
log_unblock_stderr(void)
{
	log_sink_unblock_stderr();
}

int
log_reopen(struct err *err)
{
	log_flush();
	return log_sink_reopen(err);
}

void
log_thread(const char *who)
{
	snprintf(self.who, sizeof(self.who), "%s", who);
}

void
log_batch(bool on)
{
	self.unbatched = !on;
	if (!on)
		log_flush();
}

unsigned long
log_lost(void)
{
	return log_sink_lost();
}

bool
log_wants(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&wanted, memory_order_relaxed);
}

/* ---- one line ---- */

static void
begin_line(enum log_level level, const struct log_ctx *ctx, const char *event)
{
	assert(!self.is_open);
	make_known();
	self.is_open = true;
	self.head = (struct log_head){
		.form = atomic_load_explicit(&line_form, memory_order_relaxed),
		.level = level,
		.facility = atomic_load_explicit(&facility, memory_order_relaxed),
		.who = self.who[0] != '\0' ? self.who : "-",
		.event = event,
	};
	if (ctx != NULL) {
		if (ctx->who != NULL)
			self.head.who = ctx->who;
		self.head.session = ctx->session;
		self.head.txn = ctx->txn;
	}
	log_pairs_begin(&self.pairs, (int)(self.head.form & FORM_FORMAT));
}

/* A line that was being made while the form changed is told in its own, where it was meant to go, unless it looks the
 * same in the new one. */
static unsigned
form_of(const struct log_head *head, const struct log_pairs *pairs)
{
	unsigned form = atomic_load_explicit(&line_form, memory_order_relaxed);

	return (int)(form & FORM_FORMAT) == pairs->format ? form : head->form;
}

/* All lines of a batch go to one place: what is there for another one leaves, or never will. */
static void
begin_batch(struct log_batch *b, unsigned place)
{
	if (b->count > 0 && b->place != place) {
		log_sink_write(b, NULL);
		log_sink_forget(b);
	}
	b->place = place;
}

static void
put_line(struct log_head *head, struct log_pairs *pairs)
{
	const unsigned form = form_of(head, pairs);
	struct log_batch *b = &self.batch;
	size_t offset;

	begin_batch(b, form >> FORM_PLACE_BIT);
	offset = b->text.len;
	head->time_ms = clock_wall_ms();
	log_line_add(&b->text, head, (form & FORM_HAS_TIME) != 0, pairs,
		(form & FORM_IS_SHORT) != 0 ? SYSLOG_LINE_MAX : 0);
	log_batch_add_line(b, offset, head->level);
}

static void
flush_when_due(enum log_level level)
{
	if (level == LOG_LEVEL_ERROR || self.unbatched || self.batch.text.len > BATCH_MAX)
		log_flush();
}

static void
end_line(void)
{
	self.is_open = false;
	put_line(&self.head, &self.pairs);
}

__attribute__((format(printf, 4, 0))) static void
say(enum log_level level, const struct log_ctx *ctx, const char *event, const char *fmt, va_list ap)
{
	begin_line(level, ctx, event);
	log_pairs_format(&self.pairs, fmt, ap);
	end_line();
	flush_when_due(level);
}

/* ---- lines that stand for many ---- */

/* What log_repeat.c hands back when its time has come. */
static void
put_repeated(struct log_head *head, struct log_pairs *pairs, unsigned long count)
{
	if (count > 0)
		log_pairs_int(pairs, "repeated", (intmax_t)count);
	make_known();
	put_line(head, pairs);
}

static unsigned
make_form(const struct log_conf *conf, unsigned place)
{
	unsigned form = conf->target == LOG_TO_JOURNAL ? LOG_FORMAT_JOURNAL : (unsigned)conf->format;

	if (conf->target == LOG_TO_FILE)
		form |= FORM_HAS_TIME;
	if (conf->target == LOG_TO_SYSLOG)
		form |= FORM_IS_SHORT;
	return form | place << FORM_PLACE_BIT;
}

int
log_open(const struct log_conf *conf, struct err *err)
{
	unsigned place;

	log_repeat_all(put_repeated);
	log_flush();
	if (log_sink_check(conf, err) < 0 || log_sink_open(conf, &place, err) < 0)
		return -1;
	atomic_store(&wanted, (int)conf->level);
	atomic_store(&line_form, make_form(conf, place));
	atomic_store(&facility, conf->facility);
	return 0;
}

void
log_repeat(enum log_level level, const struct log_ctx *ctx, const char *which, const char *event,
	const char *fmt, ...)
{
	va_list ap;

	if (!log_wants(level))
		return;
	begin_line(level, ctx, event);
	va_start(ap, fmt);
	log_pairs_format(&self.pairs, fmt, ap);
	va_end(ap);
	self.is_open = false;
	log_repeat_note(&self.head, which, &self.pairs, put_repeated);
	flush_when_due(level);
}

/* ---- the batch leaves ---- */

static void
say_lost(unsigned long lines)
{
	begin_line(LOG_LEVEL_WARN, NULL, "log_lost");
	log_pairs_int(&self.pairs, "lines", (intmax_t)lines);
	end_line();
}

void
log_flush(void)
{
	unsigned long lost;

	log_sink_tidy();
	log_repeat_due(put_repeated);
	if (is_all_written())
		return;
	log_sink_write(&self.batch, &lost);
	if (lost != 0) {
		say_lost(lost);
		log_sink_write(&self.batch, NULL);
	}
}

/* ---- the calls ---- */

bool
log_begin(enum log_level level, const struct log_ctx *ctx, const char *event)
{
	if (!log_wants(level))
		return false;
	begin_line(level, ctx, event);
	return true;
}

void
log_key(const char *key, const char *value)
{
	if (value != NULL)
		log_key_n(key, value, strlen(value));
}

void
log_key_n(const char *key, const char *value, size_t len)
{
	assert(self.is_open);
	log_pairs_string(&self.pairs, key, strlen(key), value, len);
}

void
log_key_int(const char *key, intmax_t n)
{
	assert(self.is_open);
	if (n != LOG_NONE)
		log_pairs_int(&self.pairs, key, n);
}

static size_t
add_part(char *dst, size_t len, const char *part)
{
	size_t n = part != NULL ? strnlen(part, LOG_VALUE_MAX) : 0;

	if (n > 0)
		memcpy(dst + len, part, n);
	return len + n;
}

void
log_key_join(const char *key, const char *a, const char *b, const char *c)
{
	char value[3 * LOG_VALUE_MAX];
	size_t len;

	if (b == NULL)
		return;
	len = add_part(value, 0, a);
	len = add_part(value, len, b);
	len = add_part(value, len, c);
	log_key_n(key, value, len);
}

void
log_end(void)
{
	assert(self.is_open);
	end_line();
	flush_when_due(self.head.level);
}

#define LOG_CALL(name, level)                                                                      \
	void name(const struct log_ctx *ctx, const char *event, const char *fmt, ...)              \
	{                                                                                          \
		va_list ap;                                                                        \
                                                                                                   \
		if (!log_wants(level))                                                             \
			return;                                                                    \
		va_start(ap, fmt);                                                                 \
		say(level, ctx, event, fmt, ap);                                                   \
		va_end(ap);                                                                        \
	}

LOG_CALL(log_error, LOG_LEVEL_ERROR)
LOG_CALL(log_warn, LOG_LEVEL_WARN)
LOG_CALL(log_info, LOG_LEVEL_INFO)
LOG_CALL(log_debug, LOG_LEVEL_DEBUG)

const char *
log_some(const char *text)
{
	return text != NULL && text[0] != '\0' ? text : NULL;
}
