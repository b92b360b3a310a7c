/* filters/run_life.c - one run: asked or skipped, awaited, judged, counted. */
#include "filters/run_life.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "filters/breaker.h"
#include "filters/slots.h"
#include "filters/trace.h"

/* What on_failure and the end of the budget answer, to a message and to a command of the envelope. */
#define CHECKED_LATER "could not be checked, please try again later"
#define NOT_CHECKED   "could not be checked"
#define CLOSING	      "could not be checked, closing the connection"

static const struct mail_verdict failure_verdicts[] = {
	[FILTER_FAIL_TEMPFAIL] = {.kind = VERDICT_TEMPFAIL, .code = 451, .status = "4.3.0"},
	[FILTER_FAIL_REJECT] = {.kind = VERDICT_REJECT, .code = 554, .status = "5.3.0"},
	[FILTER_FAIL_PASS] = {.kind = VERDICT_PASS},
	[FILTER_FAIL_DISCONNECT] = {.kind = VERDICT_DISCONNECT, .code = 421, .status = "4.3.0"},
	[FILTER_FAIL_QUARANTINE] = {.kind = VERDICT_QUARANTINE},
};
static const char *const failure_texts[][2] = {
	[FILTER_FAIL_TEMPFAIL] = {CHECKED_LATER, "message " CHECKED_LATER},
	[FILTER_FAIL_REJECT] = {NOT_CHECKED, "message " NOT_CHECKED},
	[FILTER_FAIL_PASS] = {NULL, NULL},
	[FILTER_FAIL_DISCONNECT] = {CLOSING, "message " CLOSING},
	[FILTER_FAIL_QUARANTINE] = {NOT_CHECKED, "message " NOT_CHECKED},
};

/* Where this worker counts; one that nobody reads when nobody asked for counts. */
static struct filter_counts *
counts(const struct run *run)
{
	static _Thread_local struct filter_counts unread;
	const struct filter *f = run->pub.filter;

	return f->counts == NULL ? &unread : &f->counts[net_worker_index(run->pub.env->worker)];
}

static const struct filter_conf *
common(const struct run *run)
{
	return run->pub.filter->common;
}

static const char *
name(const struct run *run)
{
	return run->pub.filter->name;
}

/* ---- what it holds while it runs: a slot, and the breaker's ear ---- */

/* A kind that asks nobody has nothing that comes back by itself. */
static struct breaker *
its_breaker(const struct run *run)
{
	return run->pub.filter->kind->is_prompt || common(run)->breaker.failures == 0 ? NULL : run->pub.filter->breaker;
}

static void
tell_breaker(struct run *run, enum breaker_end how)
{
	const struct breaker_conf *conf = &common(run)->breaker;

	switch (breaker_ended(its_breaker(run), conf, how, run->is_probe, clock_ms())) {
	case BREAKER_SAME:
		break;
	case BREAKER_OPENED:
		log_warn(run->pub.log, "breaker", "filter=%s state=%s failures=%d retry_ms=%" PRId64 " err=%s", name(run),
			"open", conf->failures, conf->retry_after_ms, run->pub.err.text);
		break;
	case BREAKER_CLOSED:
		log_info(run->pub.log, "breaker", "filter=%s state=%s", name(run), "closed");
		break;
	}
}

static void
let_go(struct run *run, enum breaker_end how)
{
	if (run->is_asked && its_breaker(run) != NULL)
		tell_breaker(run, how);
	run->is_asked = false;
	if (run->has_slot)
		slots_give(run->pub.filter->slots);
	run->has_slot = false;
	slots_cancel(&run->wait);
}

static void
note_begun(struct run *run)
{
	if (!run->has_begun)
		count_add(&counts(run)->begun, 1);
	run->has_begun = true;
}

/* ---- its end ---- */

/* The administrator's words in place of the filter's. */
static void
put_text(const struct run *run, struct mail_verdict *v)
{
	const char *text = v->kind == VERDICT_REJECT ? common(run)->reject_text :
			   v->kind == VERDICT_TEMPFAIL ? common(run)->tempfail_text :
							 NULL;

	if (text != NULL)
		v->text = text;
}

/* It is recorded what it would have been, and nothing else. */
static void
end_shadow(struct run *run)
{
	const struct mail_verdict *v = &run->verdict;

	count_add(&counts(run)->shadows[run->found], 1);
	run->after = run->pub.seen;
	if (v->kind != VERDICT_PASS)
		log_info(run->pub.log, "shadow", "filter=%s verdict=%s text=%s ms=%" PRIu64, name(run), verdict_names[v->kind],
			log_some(v->text), run->ms);
	run->verdict = verdict_pass;
}

static void
tell(const struct run *run)
{
	const struct filter_trace *trace = run->pub.env->trace;

	if (trace != NULL)
		trace->ran(trace->owner, run);
}

static void
run_end(struct run *run, const struct mail_verdict *v)
{
	run->verdict = *v;
	put_text(run, &run->verdict);
	if (v->kind != VERDICT_PASS)
		run->verdict.filter = name(run);
	run->found = v->kind;
	run->state = RUN_ENDED;
	run->ms = clock_ms() - run->began;
	note_begun(run);
	count_time(&counts(run)->duration, run->ms);
	net_timer_deinit(&run->timer);
	log_debug(run->pub.log, "filter", "filter=%s verdict=%s ms=%" PRIu64, name(run), verdict_names[v->kind], run->ms);
	if (run->is_shadow)
		end_shadow(run);
	else
		count_add(&counts(run)->verdicts[v->kind], 1);
	tell(run);
	let_go(run, !run->failed ? BREAKER_WELL : run->is_fault ? BREAKER_BADLY : BREAKER_UNKNOWN);
}

static void
run_fail_as(struct run *run, enum filter_failure how)
{
	struct mail_verdict v = failure_verdicts[how];

	v.text = failure_texts[how][run->pub.stage == FILTER_MESSAGE];
	log_repeat(LOG_LEVEL_WARN, run->pub.log, name(run), "filter", "filter=%s err=%s on_failure=%s", name(run),
		run->pub.err.text, filter_failure_names[how]);
	run->failed = true;
	run->after = run->pub.seen;
	count_add(&counts(run)->failures, 1);
	run_end(run, &v);
}

/* For a reason of ours: it says nothing about what the filter asks. */
static void
run_failed(struct run *run)
{
	run_fail_as(run, (enum filter_failure)common(run)->on_failure);
}

static void
run_failed_itself(struct run *run)
{
	run->is_fault = true;
	run_failed(run);
}

/* Whatever on_failure says: a message that was not looked at to the end is not passed. */
static void
run_over_budget(struct run *run)
{
	err_set(&run->pub.err, "the time for the whole %s is used up",
		run->pub.stage == FILTER_MESSAGE ? "message" : "command");
	run_fail_as(run, FILTER_FAIL_TEMPFAIL);
}

/* Drops what it may not ask for; in the gate there is nothing to edit yet. */
static void
check_edits(struct run *run)
{
	unsigned may = run->pub.stage == FILTER_MESSAGE ? run->pub.filter->may : 0;
	struct mail_edit *edit, *next;

	STAILQ_FOREACH_SAFE(edit, &run->pub.edits->list, next, next)
	{
		if ((may & FILTER_MAY(edit->kind)) != 0)
			continue;
		STAILQ_REMOVE(&run->pub.edits->list, edit, mail_edit, next);
		log_repeat(LOG_LEVEL_WARN, run->pub.log, name(run), "filter", "filter=%s edit=%s err=%s", name(run),
			filter_may_word(edit->kind), "asks for an edit it may not make; refused");
	}
}

/* Its edits on top of the version that it saw. */
static int
apply_edits(struct run *run)
{
	check_edits(run);
	if (run->pub.stage != FILTER_MESSAGE)
		return 0;
	run->after = mail_edits_apply(run->pub.arena, run->pub.msg->body, run->pub.seen, run->pub.edits);
	if (run->after != NULL)
		return 0;
	if (errno == E2BIG)
		return err_set(&run->pub.err, "more than %d changes of the envelope", MAIL_ENVELOPE_EDITS_MAX);
	return err_set(&run->pub.err, "cannot edit the header: %s", strerror(errno));
}

/* What on_reject makes of a reject; the filter's text stays as the reason of a quarantine. */
static void
map_reject(struct run *run)
{
	static const enum verdict_kind kinds[] = {
		[FILTER_ON_REJECT_REJECT] = VERDICT_REJECT,
		[FILTER_ON_REJECT_DISCARD] = VERDICT_DISCARD,
		[FILTER_ON_REJECT_QUARANTINE] = VERDICT_QUARANTINE,
		[FILTER_ON_REJECT_PASS] = VERDICT_PASS,
	};
	struct mail_verdict *v = &run->pub.verdict;

	if (v->kind != VERDICT_REJECT || common(run)->on_reject == FILTER_ON_REJECT_REJECT)
		return;
	run->is_rejection = true;
	*v = (struct mail_verdict){.kind = kinds[common(run)->on_reject],
		.text = common(run)->on_reject == FILTER_ON_REJECT_QUARANTINE ? v->text : NULL};
}

/* NULL, or why this verdict is none that can be acted upon. */
static const char *
wrong_verdict(const struct run *run)
{
	switch (run->pub.verdict.kind) {
	case VERDICT_PASS:
		return run->is_rejection ? NULL : "stopped without a verdict";
	case VERDICT_DISCARD:
		return run->pub.stage < FILTER_MAIL ? "asks for a discard, and there is no message yet" : NULL;
	default:
		return NULL;
	}
}

static void
run_answered(struct run *run, enum filter_step how)
{
	const char *wrong;

	assert(how != FILTER_WAIT);
	if (how == FILTER_NEXT)
		run->pub.verdict = verdict_pass;
	else if (how == FILTER_STOP)
		map_reject(run);
	wrong = how == FILTER_STOP ? wrong_verdict(run) : NULL;
	if (wrong != NULL) {
		err_set(&run->pub.err, "%s", wrong);
		how = FILTER_ERROR;
	}
	if (how == FILTER_ERROR) {
		if (run->pub.err.text[0] == '\0')
			err_set(&run->pub.err, "failed without saying why");
		run_failed_itself(run);
	} else if (apply_edits(run) < 0) {
		run_failed(run);
	} else {
		run_end(run, &run->pub.verdict);
	}
}

/* It waits, and is not waited for any more. */
static void
run_stop(struct run *run)
{
	run->state = RUN_CANCELLED;
	run->ms = clock_ms() - run->began;
	net_timer_deinit(&run->timer);
	if (run->pub.filter->kind->cancel != NULL)
		run->pub.filter->kind->cancel(&run->pub);
}

struct slots *
filter_keep_slot(struct filter_run *pub)
{
	struct run *run = (struct run *)pub; /* its first member */
	bool had_slot = run->has_slot;

	run->has_slot = false;
	return had_slot ? run->pub.filter->slots : NULL;
}

static void
run_leave_queue(struct run *run)
{
	run->state = RUN_CANCELLED;
	run->ms = clock_ms() - run->began;
	net_timer_deinit(&run->timer);
	slots_cancel(&run->wait);
}

void
run_cancel(struct run *run)
{
	if (run->state != RUN_WAITING && run->state != RUN_QUEUED)
		return;
	note_begun(run);
	count_add(&counts(run)->cancelled, 1);
	if (run->state == RUN_WAITING)
		run_stop(run);
	else
		run_leave_queue(run);
	tell(run);
	let_go(run, BREAKER_UNKNOWN);
}

static void
run_got_no_slot(struct run *run)
{
	count_add(&counts(run)->wait_timeouts, 1);
	err_set(&run->pub.err, "none of its %d instances was free within %" PRIu64 " ms",
		slots_max(run->pub.filter->slots), clock_ms() - run->began);
	run_failed(run);
}

static void
run_got_no_answer(struct run *run)
{
	count_add(&counts(run)->timeouts, 1);
	err_set(&run->pub.err, "no answer within %" PRId64 " ms", common(run)->timeout_ms);
	run_failed_itself(run);
}

static void
run_too_late(void *arg)
{
	struct run *run = arg;
	bool was_queued = run->state == RUN_QUEUED;

	if (was_queued)
		run_leave_queue(run);
	else
		run_stop(run);
	if (run->is_budget)
		run_over_budget(run);
	else if (was_queued)
		run_got_no_slot(run);
	else
		run_got_no_answer(run);
	run->ended(run->owner);
}

void
filter_resume(struct filter_run *pub, enum filter_step how)
{
	struct run *run = (struct run *)pub; /* its first member */

	assert(run->state == RUN_WAITING);
	run_answered(run, how);
	run->ended(run->owner);
}

static enum filter_step (*stage_function(const struct filter_kind *kind, enum filter_stage stage))(struct filter_run *)
{
	switch (stage) {
	case FILTER_CONNECT:
		return kind->connect;
	case FILTER_HELO:
		return kind->helo;
	case FILTER_MAIL:
		return kind->mail;
	case FILTER_RCPT:
		return kind->rcpt;
	case FILTER_MESSAGE:
		break;
	}
	return kind->message;
}

bool
run_has_stage(const struct filter *f, enum filter_stage stage)
{
	if (f->kind->at != NULL && (f->kind->at(f->conf) & (1u << stage)) == 0)
		return false;
	return stage_function(f->kind, stage) != NULL;
}

void
run_init(struct run *run, const struct run_spec *spec)
{
	struct mail_edits *edits = arena_alloc(spec->arena, sizeof(*edits));

	mail_edits_init(edits, spec->arena);
	*run = (struct run){.ended = spec->ended, .owner = spec->owner, .after = spec->seen, .verdict = verdict_pass,
		.is_shadow = spec->filter->common->shadow};
	run->pub = (struct filter_run){
		.filter = spec->filter,
		.stage = spec->stage,
		.spool = spec->spool,
		.conf = spec->filter->conf,
		.data = arena_zalloc(spec->arena, spec->filter->kind->run_size),
		.arena = spec->arena,
		.msg = spec->msg,
		.rcpt = spec->rcpt,
		.rcpts = spec->rcpts,
		.rcpt_count = spec->rcpt_count,
		.seen = spec->seen,
		.env = spec->env,
		.log = spec->log,
		.edits = edits,
		.verdict = verdict_pass,
	};
	net_timer_init(&run->timer, spec->env->worker, run_too_late, run);
}

void
run_skip(struct run *run)
{
	count_add(&counts(run)->skipped, 1);
	run->is_skipped = true;
	run->state = RUN_ENDED;
	log_debug(run->pub.log, "filter", "filter=%s verdict=%s", run->pub.filter->name, "skipped");
	tell(run);
}

/* What is left for it of `share`, and of the budget. */
static int64_t
time_left(struct run *run, int64_t share, uint64_t now)
{
	int64_t rest = (int64_t)(run->deadline - now);

	share -= (int64_t)(now - run->began);
	run->is_budget = rest < share;
	return run->is_budget ? rest : share;
}

static void
run_is_stopped(struct run *run)
{
	count_add(&counts(run)->stopped, 1);
	err_set(&run->pub.err, "failed %d times in a row, and is not asked for now", common(run)->breaker.failures);
	run_failed(run);
}

/* Whether there was time left is known by now; it has a slot, if it needs one. */
static void
run_ask(struct run *run, int64_t left)
{
	struct breaker *b = its_breaker(run);
	enum breaker_answer answer = b != NULL ? breaker_ask(b, clock_ms()) : BREAKER_GO;
	enum filter_step how;

	if (answer == BREAKER_STOP) {
		run_is_stopped(run);
		return;
	}
	note_begun(run);
	run->is_probe = answer == BREAKER_PROBE;
	run->is_asked = true;
	run->state = RUN_STARTING;
	how = stage_function(run->pub.filter->kind, run->pub.stage)(&run->pub);
	if (how != FILTER_WAIT) {
		run_answered(run, how);
		return;
	}
	run->state = RUN_WAITING;
	net_timer_set(&run->timer, left);
}

static void
got_slot(void *owner)
{
	struct run *run = owner;
	int64_t left = time_left(run, common(run)->timeout_ms, clock_ms());

	run->wait = NULL;
	run->has_slot = true;
	net_timer_clear(&run->timer);
	if (left > 0)
		run_ask(run, left);
	else if (run->is_budget)
		run_over_budget(run);
	else
		run_got_no_slot(run);
	if (run->state == RUN_ENDED)
		run->ended(run->owner);
}

static void
run_queue(struct run *run)
{
	int64_t share = common(run)->timeout_ms;

	if (common(run)->max_wait_ms > 0 && common(run)->max_wait_ms < share)
		share = common(run)->max_wait_ms;
	run->state = RUN_QUEUED;
	net_timer_set(&run->timer, time_left(run, share, run->began));
}

static void
run_take_slot(struct run *run, int64_t left)
{
	struct slots *slots = run->pub.filter->slots;
	enum slot_answer answer = SLOT_FREE;

	if (slots != NULL)
		answer = slots_take(slots, run->pub.env->worker, got_slot, run, &run->wait);
	if (answer == SLOT_WAIT) {
		run_queue(run);
		return;
	}
	run->has_slot = answer == SLOT_TAKEN;
	run_ask(run, left);
}

/* Who would be stopped when his turn comes does not queue for it. */
static void
run_begin(struct run *run)
{
	struct breaker *b = its_breaker(run);
	int64_t left = time_left(run, common(run)->timeout_ms, run->began);

	if (left <= 0)
		run_over_budget(run);
	else if (b != NULL && breaker_stops(b, run->began))
		run_is_stopped(run);
	else
		run_take_slot(run, left);
}

/* In a chain they were asked when it was chosen. */
static enum match_result
ask_recipient(struct run *run)
{
	const struct filter *f = run->pub.filter;

	if (run->pub.stage == FILTER_RCPT)
		return conditions_hold_for(f->conditions, run->pub.rcpt->addr, &run->pub.err);
	if (f->unknown == NULL)
		return MATCH_YES;
	err_set_temp(&run->pub.err, "%s", f->unknown);
	return MATCH_ERROR;
}

/* One that does not hold settles it, also where another one is not known. */
static enum match_result
ask_conditions(struct run *run, struct conditions_facts *facts)
{
	enum match_result of_rcpt = ask_recipient(run), others;

	if (of_rcpt == MATCH_NO)
		return MATCH_NO;
	others = conditions_hold(run->pub.filter->conditions, facts, run->pub.seen, &run->pub.err);
	return others == MATCH_YES ? of_rcpt : others;
}

/* Only if its conditions hold. Not to know that is a fault. */
bool
run_start(struct run *run, struct conditions_facts *facts, uint64_t deadline)
{
	run->began = clock_ms();
	run->deadline = deadline;
	if (!run_has_stage(run->pub.filter, run->pub.stage)) {
		run_skip(run);
		return true;
	}
	switch (ask_conditions(run, facts)) {
	case MATCH_NO:
		run_skip(run);
		break;
	case MATCH_YES:
		run_begin(run);
		break;
	case MATCH_ERROR:
		run_failed(run);
		break;
	}
	return run->state == RUN_ENDED;
}

static bool
is_delivery(enum verdict_kind kind)
{
	return kind == VERDICT_PASS || kind == VERDICT_ACCEPT;
}

bool
run_compare(const struct run *run, enum verdict_kind outcome)
{
	if (!run->is_shadow || run->is_skipped || run->failed || run->state != RUN_ENDED)
		return false;
	if (run->found == outcome || (is_delivery(run->found) && is_delivery(outcome)))
		return false;
	count_add(&counts(run)->disagreements, 1);
	return true;
}

void
run_word(const struct run *run, struct str *out)
{
	const char *how = run->is_shadow ? "shadow-" : run->is_rejection ? "reject-" : "";

	if (run->is_skipped)
		str_add(out, "skipped");
	else if (run->state == RUN_ENDED)
		str_printf(out, "%s%s", how, verdict_names[run->found]);
	else
		str_add(out, "cancelled");
}

void
run_describe(const struct run *run, struct str *out)
{
	str_printf(out, "%s:", name(run));
	run_word(run, out);
	if (!run->is_skipped)
		str_printf(out, "/%" PRIu64 "ms", run->ms);
}
