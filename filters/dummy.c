/* filters/dummy.c - objects to nothing, slowly if told, by itself or by a helper. */
#include <inttypes.h>

#include "filters/at.h"

#define WAIT_MAX_MS (24 * 3600 * 1000LL)

extern const struct filter_kind filter_dummy;

struct dummy_conf {
	int64_t wait_ms;
	bool helper;
	bool fail;
	struct filter_at at;
};

struct dummy_run {
	struct net_timer timer;
	struct helper_job *job;
};

static const struct config_option dummy_options[] = {
	CONFIG_DURATION("wait", struct dummy_conf, wait_ms, "0s", 0, WAIT_MAX_MS,
		"how long to wait before passing the message"),
	CONFIG_BOOL("helper", struct dummy_conf, helper, "no",
		"let a helper process do the waiting, instead of a timer"),
	CONFIG_BOOL("fail", struct dummy_conf, fail, "no", "fail after the wait, to see what on_failure does"),
	FILTER_AT_OPTION(struct dummy_conf, at, "mail message"), CONFIG_END};

static int
dummy_setup(void *conf, struct err *err)
{
	return filter_at_read(&((struct dummy_conf *)conf)->at, err);
}

static unsigned
dummy_at(const void *conf)
{
	return ((const struct dummy_conf *)conf)->at.stages;
}

static enum filter_step
verdict(struct filter_run *run)
{
	const struct dummy_conf *conf = run->conf;

	return conf->fail ? filter_fail(run, "told to fail") : FILTER_NEXT;
}

static void
waited(void *arg)
{
	struct filter_run *run = arg;
	struct dummy_run *d = run->data;

	net_timer_deinit(&d->timer);
	filter_resume(run, verdict(run));
}

static void
got_done(void *owner, const struct helper_result *result)
{
	struct filter_run *run = owner;
	struct dummy_run *d = run->data;

	d->job = NULL;
	filter_resume(run, filter_from_helper(run, result));
}

static enum filter_step
ask_helper(struct filter_run *run)
{
	const struct dummy_conf *conf = run->conf;
	struct dummy_run *d = run->data;
	const char *const words[] = {"wait", arena_printf(run->arena, "%" PRId64, conf->wait_ms)};
	/* The chain watches the time: its cancel ends the job. */
	const struct helper_spec spec = {
		.row = run->filter->kind->job,
		.words = words,
		.word_count = ARRAY_COUNT(words),
		.log = run->log,
	};

	if (run->env->helpers == NULL)
		return filter_fail(run, "no helpers");
	d->job = helper_job_start(run->env->helpers, &spec, got_done, run);
	return FILTER_WAIT;
}

static enum filter_step
dummy_say(struct filter_run *run)
{
	const struct dummy_conf *conf = run->conf;
	struct dummy_run *d = run->data;

	if (conf->helper)
		return ask_helper(run);
	if (conf->wait_ms == 0)
		return verdict(run);
	net_timer_init(&d->timer, run->env->worker, waited, run);
	net_timer_set(&d->timer, conf->wait_ms);
	return FILTER_WAIT;
}

static void
dummy_cancel(struct filter_run *run)
{
	struct dummy_run *d = run->data;

	net_timer_deinit(&d->timer);
	helper_job_cancel(&d->job);
}

const struct filter_kind filter_dummy = {
	FILTER_SECTION(dummy, "does nothing, slowly if told; for tests of a set-up", dummy_options,
		struct dummy_conf),
	.section.example = "# What happens when a filter is slow?\n"
			   "dummy slow { wait 5s; timeout 2s; on_failure tempfail }",
	.run_size = sizeof(struct dummy_run),
	.inspects = true,
	.job = "slow",
	.setup = dummy_setup,
	.at = dummy_at,
	.connect = dummy_say,
	.helo = dummy_say,
	.mail = dummy_say,
	.rcpt = dummy_say,
	.message = dummy_say,
	.cancel = dummy_cancel,
};
