/* helper/serve.c - one job after the other: read a frame, do the job, answer. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

#include "helper/helper.h"

/* A helper that has grown beyond this ends itself after its job, KiB. */
#define GROWN_KIB (128 * 1024)

struct helper {
	struct str in; /* not yet decoded */
	size_t used;   /* octets of the frame that was decoded last: it is borrowed from `in` */
	uint32_t job;
	struct str notes; /* about our confinement, to be told with the first job */
};

static int
send_all(const struct str *out, struct err *err)
{
	size_t pos = 0;

	while (pos < out->len) {
		ssize_t n = write(HELPER_FD, out->data + pos, out->len - pos);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, "write");
		pos += (size_t)n;
	}
	return 0;
}

/* 1: a frame, borrowed until the next call; 0: the engine has closed; -1: err. */
static int
next_frame(struct helper *h, struct work_frame *frame, struct err *err)
{
	str_drop(&h->in, h->used);
	h->used = 0;
	for (;;) {
		char data[16 * 1024];
		ssize_t n = work_frame_decode(str_text(&h->in), h->in.len, frame, err);

		if (n != 0) {
			h->used = n > 0 ? (size_t)n : 0;
			return n > 0 ? 1 : -1;
		}
		n = read(HELPER_FD, data, sizeof(data));
		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return err_sys(err, "read");
		if (n > 0)
			str_addn(&h->in, data, (size_t)n);
	}
}

int
helper_ask(struct helper *h, const char *question, const char *text, struct str *answer,
	struct err *err)
{
	struct work_frame frame = {.type = WORK_ASK, .job = h->job};
	struct str out = STR_INIT;
	int rc = -1;

	work_frame_add(&frame, question);
	if (text != NULL)
		work_frame_add(&frame, text);
	if (work_frame_encode(&out, &frame, err) < 0 || send_all(&out, err) < 0)
		goto out;
	if (next_frame(h, &frame, err) <= 0)
		goto out;
	if (frame.type != WORK_ANSWER || frame.job != h->job)
		err_set(err, "%s: a frame that is no answer", question);
	else if (!work_word_is(&frame.words[0], "ok"))
		err_set(err, "%s: the engine does not answer that", question);
	else {
		str_addn(answer, frame.words[1].data, frame.words[1].len);
		rc = 0;
	}
out:
	str_deinit(&out);
	return rc;
}

const struct work_word *
helper_argument(const struct work_frame *job, const char *name)
{
	for (size_t i = 0; i + 1 < job->count; i += 2)
		if (work_word_is(&job->words[i], name))
			return &job->words[i + 1];
	return NULL;
}

static bool
has_grown(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_SELF, &usage) == 0 && usage.ru_maxrss > GROWN_KIB;
}

static int
tell_notes(struct helper *h, struct err *err)
{
	struct str answer = STR_INIT;
	int rc = 0;

	if (h->notes.len > 0)
		rc = helper_ask(h, "log", str_text(&h->notes), &answer, err);
	str_deinit(&h->notes);
	str_deinit(&answer);
	return rc;
}

/* frame's words are copied first: asking reuses the input they point into. */
static int
do_job(struct helper *h, const struct helper_row *row, const struct work_frame *frame,
	struct err *err)
{
	struct work_done done = {.kind = VERDICT_PASS};
	struct work_frame job;
	struct str copy = STR_INIT, out = STR_INIT;
	int rc = -1;

	h->job = frame->job;
	if (work_frame_encode(&copy, frame, err) < 0 ||
		work_frame_decode(copy.data, copy.len, &job, err) <= 0)
		goto out;
	if (tell_notes(h, err) < 0)
		goto out;
	if (row->run(h, &job, &done, err) < 0) {
		done = (struct work_done){.failed = true};
		snprintf(done.text, sizeof(done.text), "%.*s", (int)sizeof(done.text) - 1,
			err->text);
	}
	done.is_last = has_grown();
	if (work_done_encode(&out, h->job, &done, err) < 0 || send_all(&out, err) < 0)
		goto out;
	rc = done.is_last ? 0 : 1;
out:
	str_deinit(&copy);
	str_deinit(&out);
	return rc;
}

/* 1: go on; 0: the end; -1: err. */
static int
serve_one(struct helper *h, const struct helper_row *row, struct err *err)
{
	struct work_frame frame;
	int rc = next_frame(h, &frame, err);

	if (rc <= 0)
		return rc;
	if (frame.type != WORK_JOB)
		return err_set(err, "a frame that is no job");
	return do_job(h, row, &frame, err);
}

int
helper_serve(const struct helper_row *row)
{
	struct helper h = {.used = 0};
	struct err err = {.text = ""};
	int rc = helper_confine(row, &h.notes, &err);

	if (rc == 0)
		while ((rc = serve_one(&h, row, &err)) > 0)
			;
	str_deinit(&h.in);
	str_deinit(&h.notes);
	if (rc == 0)
		return EX_OK;
	fprintf(stderr, "postern-helper %s: %s\n", row->name, err.text);
	return EX_SOFTWARE;
}
