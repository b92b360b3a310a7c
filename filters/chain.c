/*
 * filters/chain.c - one loop over steps: runs are started, end now or later, and are folded in the
 * order of the chain.
 *
 * Recipients are settled one by one or many at once; when none is left the chain is over. Only the
 * two outermost entries (chain_start, and a run that has ended later) look whether it is, because
 * the owner may free everything in its callback.
 */
#include "filters/chain.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "filters/filter.h"
#include "filters/mark.h"
#include "filters/plan.h"
#include "filters/run_life.h"
#include "filters/set.h"
#include "filters/trace.h"

struct step {
	struct chain *chain;
	const struct plan_step *plan;
	const struct mail_edits *before; /* the version it begins with */
	struct run *runs;
};

struct chain {
	const struct filter_env *env;
	const struct spool_conf *spool;
	const struct log_ctx *log;
	const struct mail_msg *msg;
	const struct mail_edits *first; /* the version that filters begin with */
	struct arena *arena;
	struct conditions_facts facts;
	uint64_t deadline; /* clock_ms */
	void (*done)(void *owner);
	void *owner;
	bool is_starting;
	struct chain_result same;     /* for all, while results is NULL */
	struct chain_result *results; /* one per recipient */
	size_t unsettled;
	unsigned group_count;
	struct run_list ran;
};

static void
settle(struct chain *chain, const size_t *rcpts, size_t count, const struct mail_verdict *v,
	const struct mail_edits *edits)
{
	for (size_t i = 0; i < count; i++)
		chain->results[rcpts[i]] = (struct chain_result){.verdict = *v, .edits = edits};
	chain->unsettled -= count;
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

static void step_check(struct step *step);
static void chain_check(struct chain *chain);

static void
run_ended(void *owner)
{
	struct step *step = owner;
	struct chain *chain = step->chain;

	step_check(step);
	chain_check(chain);
}

static void
start_run(struct step *step, struct run *run, const struct filter *f)
{
	struct chain *chain = step->chain;

	run_init(run, &(struct run_spec){
		.filter = f,
		.stage = FILTER_MESSAGE,
		.arena = chain->arena,
		.env = chain->env,
		.log = chain->log,
		.spool = chain->spool,
		.msg = chain->msg,
		.rcpts = step->plan->rcpts,
		.rcpt_count = step->plan->rcpt_count,
		.seen = step->before,
		.ended = run_ended,
		.owner = step,
	});
	STAILQ_INSERT_TAIL(&chain->ran, run, next);
	run_start(run, &chain->facts, chain->deadline);
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
		start_run(step, &step->runs[i], plan->filters[i]);
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
		/* Runs beside each other only look, so no version is lost here. */
		after = step->runs[i].after;
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

/* Every recipient is settled. */
static void
finish(struct chain *chain)
{
	const struct run *run;

	group_results(chain);
	STAILQ_FOREACH(run, &chain->ran, next)
	for (size_t i = 0; i < run->pub.rcpt_count; i++)
		if (run_compare(run, chain->results[run->pub.rcpts[i]].verdict.kind))
			break;
}

/* The last thing in any event: the owner may free the arena. */
static void
chain_check(struct chain *chain)
{
	if (chain->unsettled > 0 || chain->is_starting)
		return;
	finish(chain);
	chain->done(chain->owner);
}

/* ---- for the log: filters that the conditions on recipients have left out of all chains ---- */

static bool
is_noted(const struct chain *chain, const struct filter *f)
{
	const struct run *run;

	STAILQ_FOREACH(run, &chain->ran, next)
	if (run->pub.filter == f)
		return true;
	return false;
}

static bool
is_in_any(const struct filter_chain *const *chains, size_t count, const struct filter *f)
{
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; chains[i] != NULL && k < chains[i]->count; k++)
			if (chains[i]->filters[k]->name == f->name) /* or one of its answers */
				return true;
	return false;
}

static void
note_left_out(struct chain *chain, const struct filter_chain *const *chains)
{
	size_t count = chain->msg->rcpt_count;

	for (size_t i = 0; i < count; i++) {
		const struct filter_chain *whole = chains[i] != NULL ? chains[i]->whole : NULL;

		for (size_t k = 0; whole != NULL && k < whole->count; k++) {
			const struct filter *f = whole->filters[k];
			struct run *run;

			if (is_noted(chain, f) || is_in_any(chains, count, f))
				continue;
			run = arena_zalloc(chain->arena, sizeof(*run));
			run->pub.filter = f;
			run->pub.env = chain->env;
			run->pub.log = chain->log;
			run_skip(run);
			STAILQ_INSERT_TAIL(&chain->ran, run, next);
		}
	}
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
	const struct rules_facts facts = {msg->origin->listener, &msg->origin->client, msg->sender, chain->facts.now};
	struct rules_choice *choice = rules_choice_new(rules, &facts, chain->arena);
	const struct filter_chain **chains =
		arena_alloc(chain->arena, msg->rcpt_count * sizeof(const struct filter_chain *));
	struct err err;

	*any_r = false;
	for (size_t i = 0; i < msg->rcpt_count; i++) {
		chains[i] = rules_choose(choice, msg->rcpts[i], &err);
		if (chains[i] == NULL) {
			log_repeat(LOG_LEVEL_WARN, chain->log, NULL, "rule", "rcpt=%s err=%s", msg->rcpts[i]->addr,
				err.text);
			settle(chain, &i, 1, &unknown, chain->first);
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
	step_start(chain, root, chain->first);
	chain->is_starting = false;
	if (chain->unsettled > 0)
		return CHAIN_WAIT;
	finish(chain);
	return CHAIN_DONE;
}

/* Marks of ours that came in are none of ours. */
static bool
remove_marks(struct chain *chain, const struct filter_set *set)
{
	static const struct mail_verdict unreadable = {.kind = VERDICT_TEMPFAIL,
		.code = 451,
		.status = "4.3.0",
		.text = "the message could not be read back, please try again later"};
	const struct mail_msg *msg = chain->msg;

	chain->first = filter_marks_remove(filter_set_marks(set), msg, &msg->edits);
	if (chain->first == NULL) {
		log_repeat(LOG_LEVEL_ERROR, chain->log, NULL, "spool", "err=%s", strerror(errno));
		chain->same.verdict = unreadable;
		chain->group_count = msg->rcpt_count > 0;
		return false;
	}
	chain->same.edits = chain->first;
	return true;
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
	if (!rules_have_filters(rules) && env->trace == NULL) {
		chain->group_count = msg->rcpt_count > 0;
		return CHAIN_DONE;
	}
	chain->env = env;
	chain->spool = filter_set_spool(set);
	chain->log = log;
	chain->arena = msg->arena;
	if (!remove_marks(chain, set))
		return CHAIN_DONE;
	chain->deadline = clock_ms() + (uint64_t)(budget_ms > 0 ? budget_ms : 0);
	chain->done = done;
	chain->owner = owner;
	chain->facts = (struct conditions_facts){.msg = msg, .now = msg->when != 0 ? msg->when : clock_calendar()};
	chain->unsettled = msg->rcpt_count;
	chain->results = arena_zalloc(chain->arena, msg->rcpt_count * sizeof(chain->results[0]));
	chains = choose_chains(chain, rules, &any);
	if (env->trace != NULL)
		env->trace->chosen(env->trace->owner, msg, chains);
	note_left_out(chain, chains);
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
	{
		if (run != STAILQ_FIRST(&chain->ran))
			str_addc(out, ',');
		run_describe(run, out);
	}
}
