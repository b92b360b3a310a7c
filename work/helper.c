/*
 * work/helper.c - helpers, their jobs, and who does which.
 *
 * Per row a list of helpers and a queue of jobs. A helper is idle, has a job, or is ending: its
 * process is dead or its end of the socket closed, and the other of the two is awaited so that the
 * log can say why.
 */
#include "work/helper.h"

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/xalloc.h"
#include "net/stream.h"
#include "work/proto.h"

#define LOG_TEXT_MAX 400

struct row {
	struct helper_pool *pool;
	const char *name;
	LIST_HEAD(, helper) helpers;
	unsigned helper_count;
	TAILQ_HEAD(, helper_job) waiting;
	int64_t pause_ms; /* 0 while all is well */
	struct net_timer pause;
	LIST_ENTRY(row) next;
};

struct helper_pool {
	struct net_worker *worker;
	struct program_client *programs;
	char *path;
	uint32_t last_job;
	LIST_HEAD(, row) rows;
};

struct helper {
	struct row *row;
	struct program *program;   /* NULL once its end is known */
	struct net_stream *stream; /* NULL once it was closed */
	struct program_end end;
	pid_t pid; /* once its end is known */
	struct helper_job *job;
	unsigned jobs_done;
	LIST_ENTRY(helper) next;
};

struct helper_job {
	struct row *row;
	struct helper *helper; /* NULL while it waits */
	uint32_t number;
	struct str frame;
	struct err refused; /* why it was never queued */
	bool is_queued;
	unsigned asks, edit_count;
	struct mail_edits *edits;
	const struct log_ctx *log;
	struct net_timer timer;
	helper_done_cb cb;
	void *owner;
	TAILQ_ENTRY(helper_job) next;
};

static void row_serve(struct row *row);

/* Ends the process if it still lives; nothing more is heard of it. */
static void
helper_free(struct helper *h)
{
	net_stream_free(&h->stream);
	program_cancel(&h->program);
	LIST_REMOVE(h, next);
	h->row->helper_count--;
	if (h->job != NULL)
		h->job->helper = NULL;
	free(h);
}

static void
job_free(struct helper_job *job)
{
	if (job->is_queued)
		TAILQ_REMOVE(&job->row->waiting, job, next);
	if (job->helper != NULL)
		job->helper->job = NULL;
	net_timer_deinit(&job->timer);
	str_deinit(&job->frame);
	free(job);
}

/* The last that is done in any event: the callback may start and cancel jobs. */
static void
job_end(struct helper_job *job, const struct helper_result *result)
{
	helper_done_cb cb = job->cb;
	void *owner = job->owner;

	job_free(job);
	cb(owner, result);
}

static void
job_fail(struct helper_job *job, const char *text)
{
	struct helper_result result = {.failed = true, .verdict = verdict_pass};

	err_set_temp(&result.err, "helper %s: %s", job->row->name, text);
	job_end(job, &result);
}

/* Helpers of this row have trouble: the next one is started a little later. */
static void
row_pause(struct row *row)
{
	row->pause_ms = row->pause_ms == 0 ? HELPER_PAUSE_MIN_MS : 2 * row->pause_ms;
	if (row->pause_ms > HELPER_PAUSE_MAX_MS)
		row->pause_ms = HELPER_PAUSE_MAX_MS;
	net_timer_set(&row->pause, row->pause_ms);
}

static int
helper_pid(const struct helper *h)
{
	return (int)(h->program != NULL ? program_pid(h->program) : h->pid);
}

/* The helper is at fault: it goes, and so does its job. */
static void
helper_fault(struct helper *h, const char *text)
{
	struct helper_job *job = h->job;
	struct row *row = h->row;

	log_repeat(LOG_LEVEL_WARN, job != NULL ? job->log : NULL, row->name, "helper", "row=%s pid=%d err=%s", row->name,
		helper_pid(h), text);
	row_pause(row);
	helper_free(h);
	row_serve(row);
	if (job != NULL)
		job_fail(job, text);
}

static void
helper_ended(struct helper *h)
{
	char text[600];
	char how[560];

	program_end_text(&h->end, how, sizeof(how));
	snprintf(text, sizeof(text), "ended, %s", how);
	helper_fault(h, text);
}

static void
got_program_end(void *owner, const struct program_end *end)
{
	struct helper *h = owner;

	h->pid = program_pid(h->program);
	h->program = NULL;
	h->end = *end;
	/* Else its last words are still on their way. */
	if (h->stream == NULL)
		helper_ended(h);
}

static void
got_eof(struct helper *h)
{
	net_stream_free(&h->stream);
	if (h->program == NULL)
		helper_ended(h);
	else
		program_stop(h->program);
}

/* Questions a helper may ask. Each appends its answer. */
static void
answer_clock(struct helper *h, const struct work_frame *ask, struct str *answer)
{
	(void)h;
	(void)ask;
	str_printf(answer, "%" PRIu64, clock_ms());
}

static void
answer_log(struct helper *h, const struct work_frame *ask, struct str *answer)
{
	char text[LOG_TEXT_MAX + 1] = "";

	(void)answer;
	if (ask->count > 1)
		str_clean(text, LOG_TEXT_MAX, ask->words[1].data, ask->words[1].len, false);
	log_repeat(LOG_LEVEL_WARN, h->job->log, h->row->name, "helper_says", "row=%s text=%s", h->row->name, text);
}

static const struct {
	const char *name;
	void (*answer)(struct helper *h, const struct work_frame *ask, struct str *answer);
} questions[] = {
	{"clock", answer_clock}, /* monotonic, in milliseconds */
	{"log", answer_log},
};

static void
send_frame(struct helper *h, const struct work_frame *frame)
{
	struct str out = STR_INIT;
	struct err err;

	/* Ours are short. */
	if (work_frame_encode(&out, frame, &err) < 0)
		abort();
	net_stream_write(h->stream, out.data, out.len);
	str_deinit(&out);
}

/* Each handler returns NULL, or what the helper did wrong. */
static const char *
got_ask(struct helper *h, const struct work_frame *ask)
{
	struct work_frame frame = {.type = WORK_ANSWER, .job = h->job->number};
	struct str answer = STR_INIT;
	const char *status = "error";

	if (++h->job->asks > HELPER_ASKS_MAX)
		return "asks too much";
	for (size_t i = 0; i < ARRAY_COUNT(questions); i++)
		if (work_word_is(&ask->words[0], questions[i].name)) {
			questions[i].answer(h, ask, &answer);
			status = "ok";
			break;
		}
	work_frame_add(&frame, status);
	work_frame_add(&frame, str_text(&answer));
	send_frame(h, &frame);
	str_deinit(&answer);
	return net_stream_waiting(h->stream) > NET_HIGH_MARK ? "does not read its answers" : NULL;
}

static const char *
got_edit(struct helper *h, const struct work_frame *frame)
{
	struct helper_job *job = h->job;
	const struct work_word *text = &frame->words[1];

	if (job->edits == NULL || ++job->edit_count > HELPER_EDITS_MAX)
		return "asks for an edit it may not make";
	if (!work_word_is(&frame->words[0], "prepend") || !work_header_valid(text->data, text->len))
		return "asks for an edit that is none";
	mail_edit_prepend(job->edits, arena_strndup(job->edits->arena, text->data, text->len));
	return NULL;
}

static void
end_with(struct helper_job *job, const struct work_done *done)
{
	struct helper_result result = {.failed = done->failed, .verdict = verdict_pass};

	if (done->failed) {
		job_fail(job, done->text);
		return;
	}
	result.verdict.kind = done->kind;
	result.verdict.code = done->code;
	result.verdict.status = done->status[0] != '\0' ? done->status : NULL;
	result.verdict.text = done->text[0] != '\0' ? done->text : NULL;
	job_end(job, &result);
}

static void
got_done(struct helper *h, const struct work_frame *frame)
{
	struct helper_job *job = h->job;
	struct row *row = h->row;
	struct work_done done;
	struct err err;

	if (work_done_decode(frame, &done, &err) < 0) {
		helper_fault(h, err.text);
		return;
	}
	h->job = NULL;
	job->helper = NULL;
	row->pause_ms = 0;
	net_timer_clear(&row->pause);
	if (++h->jobs_done >= HELPER_JOBS_MAX || done.is_last)
		helper_free(h);
	row_serve(row);
	end_with(job, &done);
}

/*
 * Returns the octets taken. After DONE, or a fault, the helper may be gone; so DONE has to be the
 * last thing in the input.
 */
static size_t
got_bytes(struct helper *h, const char *data, size_t len)
{
	size_t pos = 0;

	while (pos < len) {
		struct work_frame frame;
		const char *wrong = NULL;
		struct err err;
		ssize_t n = work_frame_decode(data + pos, len - pos, &frame, &err);

		if (n == 0)
			break;
		pos += n > 0 ? (size_t)n : 0;
		if (n < 0)
			wrong = err.text;
		else if (h->job == NULL || frame.job != h->job->number)
			wrong = "speaks unasked";
		else if (frame.type == WORK_ASK)
			wrong = got_ask(h, &frame);
		else if (frame.type == WORK_EDIT)
			wrong = got_edit(h, &frame);
		else if (frame.type != WORK_DONE || pos != len)
			wrong = "speaks out of turn";
		else {
			got_done(h, &frame);
			return len;
		}
		if (wrong != NULL) {
			helper_fault(h, wrong);
			return len;
		}
	}
	return pos;
}

static size_t
got_stream_event(void *owner, enum net_event ev, const char *data, size_t len)
{
	struct helper *h = owner;

	switch (ev) {
	case NET_BYTES:
		return got_bytes(h, data, len);
	case NET_EOF:
	case NET_BROKEN:
		got_eof(h);
		break;
	default:
		break;
	}
	return 0;
}

static struct helper *
helper_start(struct row *row)
{
	struct helper_pool *pool = row->pool;
	const char *const argv[] = {pool->path, row->name, NULL};
	const int target = 3;
	struct program_spec spec = {
		.profile = WORK_HELPER, .argv = argv, .targets = &target, .fd_count = 1};
	struct helper *h;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return NULL;
	/* Our end only: the helper blocks. */
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	h = xcalloc(1, sizeof(*h));
	h->row = row;
	h->stream = net_stream_new(pool->worker, fds[0], got_stream_event, h);
	spec.fds = &fds[1];
	h->program = program_start(pool->programs, pool->worker, &spec, got_program_end, h);
	LIST_INSERT_HEAD(&row->helpers, h, next);
	row->helper_count++;
	return h;
}

static struct helper *
idle_helper(const struct row *row)
{
	struct helper *h;

	LIST_FOREACH(h, &row->helpers, next)
	if (h->job == NULL && h->stream != NULL && h->program != NULL)
		return h;
	return NULL;
}

static bool
is_pausing(const struct row *row)
{
	return row->pause.due != 0;
}

static void
give_job(struct helper *h, struct helper_job *job)
{
	TAILQ_REMOVE(&job->row->waiting, job, next);
	job->is_queued = false;
	job->helper = h;
	h->job = job;
	net_stream_write(h->stream, job->frame.data, job->frame.len);
}

/* Gives waiting jobs to idle helpers, and starts helpers while that is allowed. */
static void
row_serve(struct row *row)
{
	while (!TAILQ_EMPTY(&row->waiting)) {
		struct helper *h = idle_helper(row);

		if (h == NULL && !is_pausing(row) && row->helper_count < HELPER_PROCESSES_MAX) {
			h = helper_start(row);
			if (h == NULL) {
				log_repeat(LOG_LEVEL_WARN, NULL, row->name, "helper", "row=%s err=%s", row->name,
					"no descriptors for a socket pair");
				row_pause(row);
			}
		}
		if (h == NULL)
			return;
		give_job(h, TAILQ_FIRST(&row->waiting));
	}
}

static void
pause_is_over(void *arg)
{
	row_serve(arg);
}

static struct row *
find_row(struct helper_pool *pool, const char *name)
{
	struct row *row;

	LIST_FOREACH(row, &pool->rows, next)
	if (strcmp(row->name, name) == 0)
		return row;
	row = xcalloc(1, sizeof(*row));
	row->pool = pool;
	row->name = name;
	LIST_INIT(&row->helpers);
	TAILQ_INIT(&row->waiting);
	net_timer_init(&row->pause, pool->worker, pause_is_over, row);
	LIST_INSERT_HEAD(&pool->rows, row, next);
	return row;
}

struct helper_pool *
helper_pool_new(struct net_worker *w, struct program_client *programs, const char *helper_path)
{
	struct helper_pool *pool = xcalloc(1, sizeof(*pool));

	pool->worker = w;
	pool->programs = programs;
	pool->path = xstrdup(helper_path);
	LIST_INIT(&pool->rows);
	return pool;
}

static void
row_free(struct row *row)
{
	struct helper *h, *next;

	assert(TAILQ_EMPTY(&row->waiting));
	LIST_FOREACH_SAFE(h, &row->helpers, next, next)
	{
		assert(h->job == NULL);
		helper_free(h);
	}
	net_timer_deinit(&row->pause);
	LIST_REMOVE(row, next);
	free(row);
}

void
helper_pool_free(struct helper_pool **pool_p)
{
	struct helper_pool *pool = *pool_p;
	struct row *row, *next;

	*pool_p = NULL;
	if (pool == NULL)
		return;
	LIST_FOREACH_SAFE(row, &pool->rows, next, next)
	row_free(row);
	free(pool->path);
	free(pool);
}

/* Too late, or refused at the start. */
static void
job_timer(void *arg)
{
	struct helper_job *job = arg;
	struct helper *h = job->helper;
	struct row *row = job->row;
	char text[sizeof(job->refused.text)];

	snprintf(text, sizeof(text), "%s", job->refused.text);
	if (h != NULL) {
		log_repeat(LOG_LEVEL_WARN, job->log, row->name, "helper", "row=%s pid=%d err=%s", row->name, helper_pid(h), text);
		helper_free(h);
		row_serve(row);
	}
	job_fail(job, text);
}

static int
encode_job(struct helper_job *job, const struct helper_spec *spec, struct err *err)
{
	struct work_frame frame = {.type = WORK_JOB, .job = job->number};

	if (spec->word_count > WORK_WORDS_MAX)
		return err_set(err, "a job of %zu words", spec->word_count);
	for (size_t i = 0; i < spec->word_count; i++)
		work_frame_add(&frame, spec->words[i]);
	return work_frame_encode(&job->frame, &frame, err);
}

struct helper_job *
helper_job_start(
	struct helper_pool *pool, const struct helper_spec *spec, helper_done_cb cb, void *owner)
{
	struct helper_job *job = xcalloc(1, sizeof(*job));

	job->row = find_row(pool, spec->row);
	job->number = ++pool->last_job;
	job->edits = spec->edits;
	job->log = spec->log;
	job->cb = cb;
	job->owner = owner;
	net_timer_init(&job->timer, pool->worker, job_timer, job);
	if (encode_job(job, spec, &job->refused) < 0) {
		net_timer_set(&job->timer, 0);
		return job;
	}
	err_set_temp(&job->refused, "no answer within %" PRId64 " ms", spec->timeout_ms);
	if (spec->timeout_ms > 0)
		net_timer_set(&job->timer, spec->timeout_ms);
	TAILQ_INSERT_TAIL(&job->row->waiting, job, next);
	job->is_queued = true;
	row_serve(job->row);
	return job;
}

void
helper_job_cancel(struct helper_job **job_p)
{
	struct helper_job *job = *job_p;
	struct row *row;

	*job_p = NULL;
	if (job == NULL)
		return;
	row = job->row;
	if (job->helper != NULL)
		helper_free(job->helper);
	job_free(job);
	row_serve(row);
}
