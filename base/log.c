/*
 * base/log.c - the calls: level, context, and the batch of the thread that speaks.
 */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log_line.h"
#include "base/log_sink.h"

#define BATCH_MAX ((size_t)64 << 10)

/* What every thread needs to know to make a line, without the sink's lock. */
static atomic_int wanted = LOG_LEVEL_INFO;
static atomic_int line_format = LOG_FORMAT_TEXT;
static atomic_bool line_has_time;

static _Thread_local struct {
	char who[16];
	bool unbatched;
	bool known; /* to the key, which writes and frees at the thread's end */
	struct log_batch batch;
} self;

static pthread_key_t end_key;
static pthread_once_t end_once = PTHREAD_ONCE_INIT;

static void
thread_ends(void *unused)
{
	(void)unused;
	log_flush();
	log_batch_deinit(&self.batch);
	self.known = false;
}

static void
make_key(void)
{
	pthread_key_create(&end_key, thread_ends);
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
log_open(const struct log_conf *conf, struct err *err)
{
	log_flush();
	if (log_sink_open(conf, err) < 0)
		return -1;
	atomic_store(&wanted, (int)conf->level);
	atomic_store(&line_format, (int)conf->format);
	atomic_store(&line_has_time, conf->target == LOG_TO_FILE);
	return 0;
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

bool
log_wants(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&wanted, memory_order_relaxed);
}

__attribute__((format(printf, 4, 0))) static void
add_line(enum log_level level, const struct log_ctx *ctx, const char *event, const char *fmt,
	va_list ap)
{
	struct log_batch *b = &self.batch;
	size_t offset = b->text.len;
	struct log_head head = {
		.time_ms = clock_wall_ms(),
		.level = level,
		.who = self.who[0] != '\0' ? self.who : "-",
		.event = event,
	};

	if (ctx != NULL) {
		if (ctx->who != NULL)
			head.who = ctx->who;
		head.session = ctx->session;
		head.txn = ctx->txn;
	}
	make_known();
	log_line_add(&b->text, (enum log_format)atomic_load(&line_format),
		atomic_load(&line_has_time), &head, fmt, ap);
	str_addc(&b->text, '\n');
	log_batch_add_line(b, offset, level);
}

__attribute__((format(printf, 2, 3))) static void
add_own_line(const char *event, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add_line(LOG_LEVEL_WARN, NULL, event, fmt, ap);
	va_end(ap);
}

void
log_flush(void)
{
	unsigned long lost, unused;

	if (self.batch.count == 0)
		return;
	log_sink_write(&self.batch, &lost);
	if (lost != 0) {
		add_own_line("log_lost", "lines=%lu", lost);
		log_sink_write(&self.batch, &unused);
	}
}

__attribute__((format(printf, 4, 0))) static void
say(enum log_level level, const struct log_ctx *ctx, const char *event, const char *fmt, va_list ap)
{
	add_line(level, ctx, event, fmt, ap);
	if (level == LOG_LEVEL_ERROR || self.unbatched || self.batch.text.len > BATCH_MAX)
		log_flush();
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
