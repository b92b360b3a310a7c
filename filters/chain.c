/*
 * filters/chain.c - one loop over steps: runs are started, end now or later, and are folded in the
 * order of the chain.
 *
 * Recipients are settled one by one or many at once; when none is left the chain is over. Only the
 * three outermost entries (chain_start, filter_resume, a run's timer) look whether it is, because
 * the owner may free everything in its callback.
 */
#include "filters/chain.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "filters/filter.h"
#include "filters/plan.h"
#include "filters/set.h"

enum run_state {
	RUN_NEW,       /* not begun */
	RUN_STARTING,  /* inside message() */
	RUN_WAITING,   /* filter_resume() will come, or the timer */
	RUN_ENDED,     /* verdict holds */
	RUN_CANCELLED, /* nobody wants its verdict any more */
};

struct run {
	struct filter_run pub;
	struct step *step;
	enum run_state state;
	bool failed;    /* verdict is on_failure's; its edits do not count */
	bool is_budget; /* the timer is the budget's end, not the filter's timeout */
	struct net_timer timer;
	struct mail_verdict verdict;
	uint64_t began, ms;
	STAILQ_ENTRY(run) next;
};

struct step {
	struct chain *chain;
	const struct plan_step *plan;
	const struct mail_edits *before; /* the version it begins with */
	struct run *runs;
};

struct chain {
	const struct filter_env *env;
	const struct log_ctx *log;
	const struct mail_msg *msg;
	struct arena *arena;
	uint64_t deadline; /* clock_ms */
	void (*done)(void *owner);
	void *owner;
	bool is_starting;
	struct chain_result same;     /* for all, while results is NULL */
	struct chain_result *results; /* one per recipient */
	size_t unsettled;
	unsigned group_count;
	STAILQ_HEAD(, run) ran;
};

static const struct mail_verdict failure_verdicts[] = {
	[FILTER_FAIL_TEMPFAIL] = {.kind = VERDICT_TEMPFAIL,
		.code = 451,
		.status = "4.3.0",
		.text = "message could not be checked, please try again later"},
	[FILTER_FAIL_REJECT] = {.kind = VERDICT_REJECT,
		.code = 554,
		.status = "5.3.0",
		.text = "message could not be checked"},
	[FILTER_FAIL_PASS] = {.kind = VERDICT_PASS},
	[FILTER_FAIL_DISCONNECT] = {.kind = VERDICT_DISCONNECT,
		.code = 421,
		.status = "4.3.0",
		.text = "message could not be checked, closing the connection"},
};

static void
run_end(struct run *run, const struct mail_verdict *v)
{
	run->verdict = *v;
	if (v->kind != VERDICT_PASS)
		run->verdict.filter = run->pub.filter->name;
	run->state = RUN_ENDED;
	run->ms = clock_ms() - run->began;
	net_timer_deinit(&run->timer);
	log_debug(run->pub.log, "filter", "filter=%s verdict=%s ms=%" PRIu64, run->pub.filter->name,
		verdict_names[v->kind], run->ms);
}

static void
run_fail_as(struct run *run, enum filter_failure how)
{
	log_warn(run->pub.log, "filter", "filter=%s err=%s on_failure=%s", run->pub.filter->name,
		run->pub.err.text, filter_failure_names[how]);
	run->failed = true;
	run_end(run, &failure_verdicts[how]);
}

static void
run_failed(struct run *run)
{
	run_fail_as(run, (enum filter_failure)run->pub.filter->common->on_failure);
}

/* Whatever on_failure says: a message that was not looked at to the end is not passed. */
static void
run_over_budget(struct run *run)
{
	err_set(&run->pub.err, "the time for the whole message is used up");
	run_fail_as(run, FILTER_FAIL_TEMPFAIL);
}

/* Drops what the kind has not said that it may ask for. */
static void
check_edits(struct run *run)
{
	const struct filter_kind *kind = run->pub.filter->kind;
	unsigned may = kind->inspects ? 0 : kind->may;
	struct mail_edit *edit, *next;

	STAILQ_FOREACH_SAFE(edit, &run->pub.edits->list, next, next)
	{
		if ((may & FILTER_MAY(edit->kind)) != 0)
			continue;
		STAILQ_REMOVE(&run->pub.edits->list, edit, mail_edit, next);
		log_warn(run->pub.log, "filter", "filter=%s err=%s", run->pub.filter->name,
			"asks for an edit it may not make; refused");
	}
}

/* NULL, or why this verdict is none that a chain can act on. */
static const char *
wrong_verdict(enum verdict_kind kind)
{
	switch (kind) {
	case VERDICT_PASS:
		return "stopped the chain without a verdict";
	case VERDICT_QUARANTINE:
		return "asks for a quarantine, and there is none";
	default:
		return NULL;
	}
}

static void
run_answered(struct run *run, enum filter_step how)
{
	const char *wrong = how == FILTER_STOP ? wrong_verdict(run->pub.verdict.kind) : NULL;

	assert(how != FILTER_WAIT);
	if (wrong != NULL) {
		err_set(&run->pub.err, "%s", wrong);
		how = FILTER_ERROR;
	}
	if (how == FILTER_ERROR) {
		if (run->pub.err.text[0] == '\0')
			err_set(&run->pub.err, "failed without saying why");
		run_failed(run);
		return;
	}
	check_edits(run);
	run_end(run, how == FILTER_NEXT ? &verdict_pass : &run->pub.verdict);
}

static void
run_cancel(struct run *run)
{
	if (run->state != RUN_WAITING)
		return;
	run->state = RUN_CANCELLED;
	run->ms = clock_ms() - run->began;
	net_timer_deinit(&run->timer);
	if (run->pub.filter->kind->cancel != NULL)
		run->pub.filter->kind->cancel(&run->pub);
}

static void chain_check(struct chain *chain);
static void step_check(struct step *step);

static void
run_too_late(void *arg)
{
	struct run *run = arg;
	struct step *step = run->step;
	struct chain *chain = step->chain;

	run_cancel(run);
	if (run->is_budget) {
		run_over_budget(run);
	} else {
		err_set(&run->pub.err, "no answer within %" PRId64 " ms",
			run->pub.filter->common->timeout_ms);
		run_failed(run);
	}
	step_check(step);
	chain_check(chain);
}

void
filter_resume(struct filter_run *pub, enum filter_step how)
{
	struct run *run = (struct run *)pub; /* its first member */
	struct step *step = run->step;
	struct chain *chain = step->chain;

	assert(run->state == RUN_WAITING);
	run_answered(run, how);
	step_check(step);
	chain_check(chain);
}

static void
run_init(struct run *run, struct step *step, const struct filter *f)
{
	struct chain *chain = step->chain;
	struct mail_edits *edits = arena_alloc(chain->arena, sizeof(*edits));

	mail_edits_init(edits, chain->arena);
	run->step = step;
	run->pub = (struct filter_run){
		.filter = f,
		.conf = f->conf,
		.data = arena_zalloc(chain->arena, f->kind->run_size),
		.arena = chain->arena,
		.msg = chain->msg,
		.rcpts = step->plan->rcpts,
		.rcpt_count = step->plan->rcpt_count,
		.seen = step->before,
		.env = chain->env,
		.log = chain->log,
		.edits = edits,
		.verdict = verdict_pass,
	};
	net_timer_init(&run->timer, chain->env->worker, run_too_late, run);
}

static void
run_start(struct run *run)
{
	struct chain *chain = run->step->chain;
	int64_t timeout = run->pub.filter->common->timeout_ms;
	enum filter_step how;
	int64_t rest;

	STAILQ_INSERT_TAIL(&chain->ran, run, next);
	run->began = clock_ms();
	rest = (int64_t)(chain->deadline - run->began);
	if (rest <= 0) {
		run_over_budget(run);
		return;
	}
	run->state = RUN_STARTING;
	how = run->pub.filter->kind->message(&run->pub);
	if (how != FILTER_WAIT) {
		run_answered(run, how);
		return;
	}
	run->state = RUN_WAITING;
	run->is_budget = rest < timeout;
	net_timer_set(&run->timer, run->is_budget ? rest : timeout);
}

static void
settle(struct chain *chain, const size_t *rcpts, size_t count, const struct mail_verdict *v,
	const struct mail_edits *edits)
{
	for (size_t i = 0; i < count; i++)
		chain->results[rcpts[i]] = (struct chain_result){.verdict = *v, .edits = edits};
	chain->unsettled -= count;
}

/* The version with more on top of it. Edits are never changed, so only the links are new. */
static const struct mail_edits *
join_edits(struct arena *arena, const struct mail_edits *before, const struct mail_edits *more)
{
	const struct mail_edits *parts[] = {more, before};
	struct mail_edits *both;
	const struct mail_edit *edit;

	if (STAILQ_EMPTY(&more->list))
		return before;
	both = arena_alloc(arena, sizeof(*both));
	mail_edits_init(both, arena);
	for (size_t i = 0; i < ARRAY_COUNT(parts); i++)
		STAILQ_FOREACH(edit, &parts[i]->list, next)
		{
			struct mail_edit *copy = arena_memdup(arena, edit, sizeof(*edit));

			STAILQ_INSERT_TAIL(&both->list, copy, next);
		}
	return both;
}

/*
 * How many of its runs, in the order of the chain, decide the step: up to and with the first that
 * does not pass, else all. 0 with runs left: not decided yet.
 */
static bool
step_decided(const struct step *step, size_t *count_r)
{
	for (size_t i = 0; i < step->plan->filter_count; i++) {
		if (step->runs[i].state != RUN_ENDED)
			return false;
		*count_r = i + 1;
		if (step->runs[i].verdict.kind != VERDICT_PASS)
			return true;
	}
	return true;
}

static void
step_start(struct chain *chain, const struct plan_step *plan, const struct mail_edits *before)
{
	struct step *step = arena_zalloc(chain->arena, sizeof(*step));
	size_t decided;

	step->chain = chain;
	step->plan = plan;
	step->before = before;
	step->runs = arena_zalloc(chain->arena, plan->filter_count * sizeof(step->runs[0]));
	for (size_t i = 0; i < plan->filter_count; i++) {
		run_init(&step->runs[i], step, plan->filters[i]);
		run_start(&step->runs[i]);
		if (step_decided(step, &decided))
			break;
	}
	step_check(step);
}

/* Folds the verdicts, once there are enough, and goes on. */
static void
step_check(struct step *step)
{
	struct chain *chain = step->chain;
	const struct plan_step *plan = step->plan;
	const struct mail_verdict *v = &verdict_pass;
	const struct mail_edits *after = step->before;
	size_t count = 0;

	if (!step_decided(step, &count))
		return;
	for (size_t i = 0; i < count; i++) {
		v = &step->runs[i].verdict;
		if (!step->runs[i].failed)
			after = join_edits(chain->arena, after, step->runs[i].pub.edits);
	}
	for (size_t i = count; i < plan->filter_count; i++)
		run_cancel(&step->runs[i]);
	if (v->kind != VERDICT_PASS) {
		settle(chain, plan->rcpts, plan->rcpt_count, v, after);
		return;
	}
	settle(chain, plan->last, plan->last_count, &verdict_pass, after);
	for (size_t i = 0; i < plan->child_count; i++)
		step_start(chain, plan->children[i], after);
}

static bool
same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool
is_delivery(const struct mail_verdict *v)
{
	return v->kind == VERDICT_PASS || v->kind == VERDICT_ACCEPT;
}

static bool
same_result(const struct chain_result *a, const struct chain_result *b)
{
	const struct mail_verdict *v = &a->verdict, *u = &b->verdict;

	if (a->edits != b->edits)
		return false;
	if (is_delivery(v) || is_delivery(u))
		return is_delivery(v) && is_delivery(u);
	return v->kind == u->kind && v->code == u->code && same_text(v->status, u->status) &&
	       same_text(v->text, u->text) && same_text(v->filter, u->filter);
}

/* Numbers the groups in the order of their first recipients. */
static void
group_results(struct chain *chain)
{
	size_t count = chain->msg->rcpt_count;
	const struct chain_result **firsts =
		arena_alloc(chain->arena, count * sizeof(const struct chain_result *));

	for (size_t i = 0; i < count; i++) {
		struct chain_result *r = &chain->results[i];

		while (r->group < chain->group_count && !same_result(r, firsts[r->group]))
			r->group++;
		if (r->group == chain->group_count)
			firsts[chain->group_count++] = r;
	}
}

/* The last thing in any event: the owner may free the arena. */
static void
chain_check(struct chain *chain)
{
	if (chain->unsettled > 0 || chain->is_starting)
		return;
	group_results(chain);
	chain->done(chain->owner);
}

/* One per recipient; NULL where a rule could not be asked to the end: then that recipient is
 * settled. */
static const struct filter_chain **
choose_chains(struct chain *chain, const struct rules *rules, bool *any_r)
{
	static const struct mail_verdict unknown = {.kind = VERDICT_TEMPFAIL,
		.code = 451,
		.status = "4.3.0",
		.text = "the rule for this recipient could not be found, please try again later"};
	const struct mail_msg *msg = chain->msg;
	struct rules_choice *choice =
		rules_choice_new(rules, msg->origin->listener, msg->sender, chain->arena);
	const struct filter_chain **chains =
		arena_alloc(chain->arena, msg->rcpt_count * sizeof(const struct filter_chain *));
	struct err err;

	*any_r = false;
	for (size_t i = 0; i < msg->rcpt_count; i++) {
		chains[i] = rules_choose(choice, msg->rcpts[i], &err);
		if (chains[i] == NULL) {
			log_warn(chain->log, "rule", "rcpt=%s err=%s", msg->rcpts[i]->addr,
				err.text);
			settle(chain, &i, 1, &unknown, &msg->edits);
		}
		*any_r = *any_r || chains[i] == NULL || chains[i]->count > 0;
	}
	return chains;
}

static enum chain_step
start_plan(struct chain *chain, const struct filter_chain **chains)
{
	const struct plan_step *root = plan_new(chain->arena, chains, chain->msg->rcpt_count);

	chain->is_starting = true;
	step_start(chain, root, &chain->msg->edits);
	chain->is_starting = false;
	if (chain->unsettled > 0)
		return CHAIN_WAIT;
	group_results(chain);
	return CHAIN_DONE;
}

enum chain_step
chain_start(const struct filter_set *set, const struct filter_env *env, const struct log_ctx *log,
	const struct mail_msg *msg, int64_t budget_ms, void (*done)(void *owner), void *owner,
	struct chain **chain_r)
{
	struct chain *chain = arena_zalloc(msg->arena, sizeof(*chain));
	const struct rules *rules = filter_set_rules(set);
	const struct filter_chain **chains;
	bool any;

	*chain_r = chain;
	chain->msg = msg;
	chain->same = (struct chain_result){.verdict = verdict_pass, .edits = &msg->edits};
	STAILQ_INIT(&chain->ran);
	if (!rules_have_filters(rules)) {
		chain->group_count = msg->rcpt_count > 0;
		return CHAIN_DONE;
	}
	chain->env = env;
	chain->log = log;
	chain->arena = msg->arena;
	chain->deadline = clock_ms() + (uint64_t)(budget_ms > 0 ? budget_ms : 0);
	chain->done = done;
	chain->owner = owner;
	chain->unsettled = msg->rcpt_count;
	chain->results = arena_zalloc(chain->arena, msg->rcpt_count * sizeof(chain->results[0]));
	chains = choose_chains(chain, rules, &any);
	if (any)
		return start_plan(chain, chains);
	chain->results = NULL;
	chain->group_count = msg->rcpt_count > 0;
	return CHAIN_DONE;
}

void
chain_cancel(struct chain **chain_p)
{
	struct chain *chain = *chain_p;
	struct run *run;

	*chain_p = NULL;
	if (chain == NULL)
		return;
	STAILQ_FOREACH(run, &chain->ran, next)
	run_cancel(run);
}

const struct chain_result *
chain_result(const struct chain *chain, size_t rcpt)
{
	assert(rcpt < chain->msg->rcpt_count);
	return chain->results != NULL ? &chain->results[rcpt] : &chain->same;
}

unsigned
chain_group_count(const struct chain *chain)
{
	return chain->group_count;
}

void
chain_describe(const struct chain *chain, struct str *out)
{
	const struct run *run;

	STAILQ_FOREACH(run, &chain->ran, next)
	str_printf(out, "%s%s:%s/%" PRIu64 "ms", run == STAILQ_FIRST(&chain->ran) ? "" : ",",
		run->pub.filter->name,
		run->state == RUN_ENDED ? verdict_names[run->verdict.kind] : "cancelled", run->ms);
}
