/* filters/gate.c - stage by stage, filter by filter, until one of them says no. */
#include "filters/gate.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/xalloc.h"
#include "filters/run_life.h"

/* What is known of the client, for as long as the session or its name lasts. */
struct scope {
	bool is_settled; /* asked, and not again */
	bool is_accepted;
	char *filter, *why; /* who wants its messages quarantined, or NULL */
};

/* A question under way; in its arena. */
struct asking {
	struct gate *gate;
	struct gate_question q;
	struct mail_edits no_edits;
	uint64_t deadline;
	enum filter_stage stage; /* may be an earlier one that is not settled */
	size_t next;		 /* filter to be asked */
	bool is_open;		 /* of connect or helo: it had a fault, so it is not settled */
	struct scope name;	 /* helo: counts when the name is taken */
	struct run *run;	 /* the last one; waits, or is over */
	struct run_list ran;
	struct mail_verdict verdict; /* quarantine, from the first that said it */
};

struct gate {
	struct scope connect, helo;
	struct asking *asking;
};

/* For the summary line. */
struct gate_told {
	const struct filter *filter;
	enum filter_stage stage;
	const char *word;
	unsigned count;
	uint64_t ms;
	struct gate_told *next;
};

struct gate *
gate_new(void)
{
	return xcalloc(1, sizeof(struct gate));
}

static void
scope_clear(struct scope *s)
{
	free(s->filter);
	free(s->why);
	*s = (struct scope){.is_settled = false};
}

void
gate_free(struct gate **gate)
{
	struct gate *g = *gate;

	*gate = NULL;
	if (g == NULL)
		return;
	gate_cancel(g);
	scope_clear(&g->connect);
	scope_clear(&g->helo);
	free(g);
}

/* ---- for the log ---- */

static bool
is_alike(const struct gate_told *t, const struct run *run, const char *word)
{
	return t->filter == run->pub.filter && t->stage == run->pub.stage && strcmp(t->word, word) == 0;
}

static struct gate_told *
told_new(struct asking *a, const struct run *run, const char *word)
{
	struct gate_told *t = arena_zalloc(a->q.arena, sizeof(*t));
	struct gate_txn *txn = a->q.txn;

	t->filter = run->pub.filter;
	t->stage = run->pub.stage;
	t->word = arena_strdup(a->q.arena, word);
	if (txn->last != NULL)
		txn->last->next = t;
	else
		txn->told = t;
	txn->last = t;
	return t;
}

static void
tell(struct asking *a, const struct run *run)
{
	struct str word = STR_INIT;
	struct gate_told *t;

	if (a->q.txn == NULL)
		return;
	run_word(run, &word);
	for (t = a->q.txn->told; t != NULL; t = t->next)
		if (is_alike(t, run, str_text(&word)))
			break;
	if (t == NULL)
		t = told_new(a, run, str_text(&word));
	t->count++;
	t->ms += run->ms;
	str_deinit(&word);
}

void
gate_describe(const struct gate_txn *txn, struct str *out)
{
	for (const struct gate_told *t = txn->told; t != NULL; t = t->next) {
		str_printf(out, "%s%s@%s:%s", t == txn->told ? "" : ",", t->filter->name, filter_stage_names[t->stage],
			t->word);
		if (t->count > 1)
			str_printf(out, "*%u", t->count);
		if (strcmp(t->word, "skipped") != 0)
			str_printf(out, "/%" PRIu64 "ms", t->ms);
	}
}

/* ---- scopes ---- */

static struct scope *
scope_of(struct asking *a)
{
	switch (a->stage) {
	case FILTER_CONNECT:
		return &a->gate->connect;
	case FILTER_HELO:
		return a->q.stage == FILTER_HELO ? &a->name : &a->gate->helo;
	default:
		return NULL;
	}
}

static bool
is_over(const struct asking *a)
{
	const struct gate *g = a->gate;

	switch (a->stage) {
	case FILTER_CONNECT:
		return g->connect.is_settled;
	case FILTER_HELO:
		return g->connect.is_accepted || (a->q.stage != FILTER_HELO && g->helo.is_settled);
	default:
		return g->connect.is_accepted || g->helo.is_accepted || a->q.txn->is_accepted;
	}
}

static void
settle(struct asking *a)
{
	struct scope *s = scope_of(a);

	if (s != NULL)
		s->is_settled = s->is_settled || !a->is_open;
}

static void
accept_all(struct asking *a)
{
	struct scope *s = scope_of(a);

	if (s != NULL)
		s->is_accepted = true;
	else if (a->stage == FILTER_MAIL)
		a->q.txn->is_accepted = true;
}

/* Of a fault it is the matter of this message alone. */
static void
set_aside(struct asking *a, const struct mail_verdict *v)
{
	struct scope *s = scope_of(a);

	if (s != NULL && !a->is_open) {
		s->filter = xstrdup(v->filter);
		s->why = v->text != NULL ? xstrdup(v->text) : NULL;
	} else if (a->verdict.kind == VERDICT_PASS) {
		a->verdict = *v;
	}
}

/* ---- one run ---- */

/* The stage is over; true: the whole question, with this verdict. */
static bool
run_decides(struct asking *a, const struct mail_verdict *v)
{
	switch (v->kind) {
	case VERDICT_ACCEPT:
		accept_all(a);
		return false;
	case VERDICT_QUARANTINE:
		set_aside(a, v);
		return false;
	case VERDICT_PASS:
		return false;
	case VERDICT_REJECT:
	case VERDICT_TEMPFAIL:
	case VERDICT_DISCARD:
	case VERDICT_DISCONNECT:
		break;
	}
	a->verdict = *v;
	return true;
}

static bool
stage_end(struct asking *a)
{
	settle(a);
	a->next = 0;
	a->is_open = false;
	return a->stage++ == a->q.stage;
}

/* Returns true when the question is answered. */
static bool
run_over(struct asking *a, const struct run *run)
{
	const struct mail_verdict *v = &run->verdict;

	tell(a, run);
	if (v->kind == VERDICT_PASS)
		return false;
	a->is_open = run->failed;
	/* Nobody is sent away at connect or helo because something of ours does not work. */
	if (run->failed && a->q.stage < FILTER_MAIL)
		return stage_end(a);
	return run_decides(a, v) || stage_end(a);
}

/* ---- the question ---- */

static void run_ended(void *owner);

/* The next filter that has something to say at this stage, knowing what it has to know. */
static const struct filter *
next_filter(struct asking *a)
{
	const struct filter_chain *c = a->q.filters;
	const char *option;

	while (!is_over(a) && a->next < c->count) {
		const struct filter *f = c->filters[a->next++];

		if (run_has_stage(f, a->stage) && conditions_stage(f->conditions, &option) <= (int)a->stage)
			return f;
	}
	return NULL;
}

/* Returns false when it waits. */
static bool
run_one(struct asking *a, const struct filter *f)
{
	struct conditions_facts facts = {.msg = a->q.msg, .now = a->q.msg->when != 0 ? a->q.msg->when : clock_calendar()};
	struct run *run = arena_alloc(a->q.arena, sizeof(*run));

	run_init(run, &(struct run_spec){
		.filter = f,
		.stage = a->stage,
		.arena = a->q.arena,
		.env = a->q.env,
		.log = a->q.log,
		.spool = a->q.spool,
		.msg = a->q.msg,
		.rcpt = a->stage == FILTER_RCPT ? a->q.rcpt : NULL,
		.seen = &a->no_edits,
		.ended = run_ended,
		.owner = a,
	});
	STAILQ_INSERT_TAIL(&a->ran, run, next);
	a->run = run;
	return run_start(run, &facts, a->deadline);
}

/* Returns true when the question is answered, false when it waits. */
static bool
go_on(struct asking *a)
{
	const struct filter *f;
	bool is_answered = false;

	while (!is_answered) {
		f = next_filter(a);
		if (f == NULL)
			is_answered = stage_end(a);
		else if (run_one(a, f))
			is_answered = run_over(a, a->run);
		else
			return false;
	}
	return true;
}

static bool
passes(const struct mail_verdict *v)
{
	return v->kind == VERDICT_PASS || v->kind == VERDICT_QUARANTINE;
}

/* What connect and helo have said about messages holds for each. */
static void
remember(struct asking *a)
{
	const struct scope *of[] = {&a->gate->connect, &a->gate->helo};

	for (size_t i = 0; i < ARRAY_COUNT(of) && a->verdict.kind == VERDICT_PASS; i++)
		if (of[i]->filter != NULL)
			a->verdict = (struct mail_verdict){
				.kind = VERDICT_QUARANTINE,
				.filter = arena_strdup(a->q.arena, of[i]->filter),
				.text = of[i]->why != NULL ? arena_strdup(a->q.arena, of[i]->why) : NULL,
			};
}

static void
answer(struct asking *a)
{
	struct gate *g = a->gate;
	const struct run *run;

	g->asking = NULL;
	STAILQ_FOREACH(run, &a->ran, next)
	run_compare(run, a->verdict.kind);
	if (a->q.stage == FILTER_MAIL)
		remember(a);
	if (a->q.stage != FILTER_HELO)
		return;
	if (!passes(&a->verdict)) {
		scope_clear(&a->name);
		return;
	}
	scope_clear(&g->helo);
	g->helo = a->name;
}

static void
run_ended(void *owner)
{
	struct asking *a = owner;

	if (!run_over(a, a->run) && !go_on(a))
		return;
	answer(a);
	a->q.answered(a->q.owner, &a->verdict);
}

static enum filter_stage
first_stage(const struct gate_question *q)
{
	return q->stage == FILTER_MAIL ? FILTER_CONNECT : q->stage;
}

bool
gate_ask(struct gate *gate, const struct gate_question *question, struct mail_verdict *verdict_r)
{
	struct asking *a = arena_zalloc(question->arena, sizeof(*a));

	assert(gate->asking == NULL && question->stage != FILTER_MESSAGE);
	gate->asking = a;
	a->gate = gate;
	a->q = *question;
	a->stage = first_stage(question);
	a->deadline = clock_ms() + (uint64_t)question->budget_ms;
	a->verdict = verdict_pass;
	STAILQ_INIT(&a->ran);
	mail_edits_init(&a->no_edits, question->arena);
	if (!go_on(a))
		return false;
	answer(a);
	*verdict_r = a->verdict;
	return true;
}

void
gate_cancel(struct gate *gate)
{
	struct asking *a = gate != NULL ? gate->asking : NULL;

	if (a == NULL)
		return;
	gate->asking = NULL;
	run_cancel(a->run);
	tell(a, a->run);
	scope_clear(&a->name);
}

/* ---- the configuration ---- */

/* The last stage of the gate at which it speaks, or -1. */
static int
last_stage(const struct filter *f)
{
	for (int stage = FILTER_RCPT; stage >= FILTER_CONNECT; stage--)
		if (run_has_stage(f, (enum filter_stage)stage))
			return stage;
	return -1;
}

const char *
gate_objection(const struct filter *f, struct arena *arena)
{
	const char *option, *kind = f->kind->section.name;
	int known = conditions_stage(f->conditions, &option), last = last_stage(f);

	if (last < 0)
		return arena_printf(arena, "%s %s is asked about whole messages only, so it belongs in a chain", kind, f->name);
	if (known == FILTER_MESSAGE)
		return arena_printf(arena, "%s %s has %s, which is not known before the message is here: it can stand in a chain, not in a gate",
			kind, f->name, option);
	if (known > last)
		return arena_printf(arena, "%s %s is asked at %s, and %s is not known before %s, so it would never be at work",
			kind, f->name, filter_stage_names[last], option, filter_stage_names[known]);
	return NULL;
}
