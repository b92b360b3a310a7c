/*
 * helper/slow.c - the deliberately slow job of the dummy filter: asks the engine for the time,
 * sleeps, asks again, and passes. So all frames are in use, and a cancel finds something to cancel.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "helper/helper.h"

#define WAIT_MAX_MS (24 * 3600 * 1000LL)
#define STEP_MS     20

int helper_slow(
	struct helper *h, const struct work_frame *job, struct work_done *done, struct err *err);

static int
ask_clock(struct helper *h, int64_t *ms_r, struct err *err)
{
	struct str answer = STR_INIT;
	struct work_word word;
	int rc = helper_ask(h, "clock", NULL, &answer, err);

	word = (struct work_word){str_text(&answer), answer.len};
	if (rc == 0 && (*ms_r = work_word_number(&word, INT64_MAX)) < 0)
		rc = err_set(err, "clock: the answer is no number");
	str_deinit(&answer);
	return rc;
}

static void
sleep_ms(int64_t ms)
{
	while (ms > 0) {
		int64_t step = ms < STEP_MS ? ms : STEP_MS;
		const struct timespec ts = {.tv_nsec = step * 1000000};

		nanosleep(&ts, NULL);
		ms -= step;
	}
}

int
helper_slow(struct helper *h, const struct work_frame *job, struct work_done *done, struct err *err)
{
	const struct work_word *wait = helper_argument(job, "wait");
	int64_t ms = wait != NULL ? work_word_number(wait, WAIT_MAX_MS) : 0;
	int64_t before, after;

	if (ms < 0)
		return err_set(err, "wait: not a number of milliseconds");
	if (ask_clock(h, &before, err) < 0)
		return -1;
	sleep_ms(ms);
	if (ask_clock(h, &after, err) < 0)
		return -1;
	snprintf(done->text, sizeof(done->text), "waited %" PRId64 " ms", after - before);
	return 0;
}
