/*
 * t/unit/test_chain.c - verdicts, edits, waiting, deadlines, on_failure and cancel, with filters
 * that do what the test tells them.
 *
 * `fake` may edit, `peek` inspects. A result is written as verdict, "/" and who said it, and one
 * "+" per edit with its filter's name, the topmost first.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "filters/filter.h"
#include "filters/registry.h"
#include "filters/rules.h"
#include "filters/set.h"
#include "filters/slots.h"

#define PENDING_MAX 8

/* Runs that wait for the test, and what happened to all. */
static struct {
	struct filter_run *pending[PENDING_MAX];
	size_t pending_count;
	struct str calls;    /* "a:0,1 " per call, with its recipients */
	struct str cancels;  /* "a " per cancel */
	unsigned seen_edits; /* of the last call */
} trace;

struct fake_conf {
	int does;
	bool edits, removes;
};

enum fake_does {
	DO_NEXT,
	DO_REJECT,
	DO_TEMPFAIL,
	DO_DISCARD,
	DO_ACCEPT,
	DO_QUARANTINE,
	DO_ERROR,
	DO_STOP,
	DO_WAIT
};
static const char *const fake_words[] = {"next", "reject", "tempfail", "discard", "accept",
	"quarantine", "error", "stop", "wait", NULL};

static const struct config_option fake_options[] = {
	CONFIG_ENUM("does", struct fake_conf, does, "next", fake_words, "what it does"),
	CONFIG_BOOL("edits", struct fake_conf, edits, "no", "whether it prepends a header"),
	CONFIG_BOOL("removes", struct fake_conf, removes, "no", "whether it deletes one"),
	CONFIG_END};

static void
note_call(const struct filter_run *run)
{
	const struct mail_edit *edit;

	str_printf(&trace.calls, "%s:", run->filter->name);
	for (size_t i = 0; i < run->rcpt_count; i++)
		str_printf(&trace.calls, "%s%zu", i > 0 ? "," : "", run->rcpts[i]);
	str_addc(&trace.calls, ' ');
	trace.seen_edits = 0;
	STAILQ_FOREACH(edit, &run->seen->list, next)
	trace.seen_edits++;
}

static enum filter_step
fake_message(struct filter_run *run)
{
	const struct fake_conf *conf = run->conf;

	note_call(run);
	if (conf->removes)
		mail_edit_delete(run->edits, 1, "Y");
	if (conf->edits)
		mail_edit_prepend(
			run->edits, arena_printf(run->arena, "X: %s\r\n", run->filter->name));
	switch (conf->does) {
	case DO_REJECT:
		return filter_reject(run, 554, "5.6.1", "bad\r\nnews");
	case DO_TEMPFAIL:
		return filter_tempfail(run, 0, NULL, NULL);
	case DO_DISCARD:
		return filter_discard(run);
	case DO_ACCEPT:
		return filter_accept(run);
	case DO_QUARANTINE:
		run->verdict.kind = VERDICT_QUARANTINE;
		return FILTER_STOP;
	case DO_ERROR:
		return filter_fail(run, "told to fail");
	case DO_STOP:
		return FILTER_STOP;
	case DO_WAIT:
		trace.pending[trace.pending_count++] = run;
		return FILTER_WAIT;
	default:
		return FILTER_NEXT;
	}
}

static struct filter_run *
take_pending(const char *name)
{
	for (size_t i = 0; i < trace.pending_count; i++) {
		struct filter_run *run = trace.pending[i];

		if (strcmp(run->filter->name, name) != 0)
			continue;
		trace.pending[i] = trace.pending[--trace.pending_count];
		return run;
	}
	fail_msg("%s does not wait", name);
	return NULL;
}

static void
fake_cancel(struct filter_run *run)
{
	str_printf(&trace.cancels, "%s ", run->filter->name);
	take_pending(run->filter->name);
}

extern const struct filter_kind filter_fake, filter_peek, filter_dummy;

const struct filter_kind filter_fake = {
	FILTER_SECTION(fake, "edits", fake_options, struct fake_conf),
	.may = FILTER_MAY(MAIL_EDIT_PREPEND) | FILTER_MAY(MAIL_EDIT_DELETE),
	.message = fake_message,
	.cancel = fake_cancel,
};
const struct filter_kind filter_peek = {
	FILTER_SECTION(peek, "inspects", fake_options, struct fake_conf),
	.inspects = true,
	.message = fake_message,
	.cancel = fake_cancel,
};

struct top_conf {
	struct config_words default_chain;
};
static const struct config_option top_options[] = {
	CONFIG_WORDS(
		"default_chain", struct top_conf, default_chain, NULL, "the chain without a rule"),
	CONFIG_END};
static const struct config_section *const sections[] = {
	&rule_section, &filter_fake.section, &filter_peek.section, &filter_dummy.section, NULL};
static const struct config_section top = {
	.name = "",
	.help = "test",
	.arity = CONFIG_ONE,
	.groups = {{top_options, sizeof(struct top_conf)}},
	.sections = sections,
};

#define RCPTS 4
static const struct mail_rcpt rcpts[RCPTS] = {
	{.addr = "r0@zero.example"},
	{.addr = "r1@one.example"},
	{.addr = "r2@two.example"},
	{.addr = "r3@three.example"},
};

struct fixture {
	struct net_worker *worker;
	struct filter_env env;
	struct log_ctx log;
	struct config *conf;
	struct filter_set *set;
	struct filter_registry *registry;
	struct filter_counts counts; /* of all filters together */
	struct mail_origin origin;
	struct mail_sender sender;
	const struct mail_rcpt *list[RCPTS];
	struct mail_body body;
	struct mail_msg msg;
	struct chain *chain;
	int done;
	struct str text;
};

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err err;

	memset(&trace, 0, sizeof(trace));
	f->worker = net_worker_new(0, &err);
	f->registry = filter_registry_new();
	f->env.worker = f->worker;
	f->log.who = "w0";
	f->origin.listener = "in";
	f->sender.addr = "s@a.example";
	for (size_t i = 0; i < RCPTS; i++)
		f->list[i] = &rcpts[i];
	f->msg.origin = &f->origin;
	f->msg.sender = &f->sender;
	f->msg.rcpts = f->list;
	mail_body_init(&f->body);
	f->msg.body = &f->body;
	f->msg.arena = arena_new();
	*state = f;
	return 0;
}

static void
unload(struct fixture *f)
{
	filter_set_free(&f->set);
	if (f->conf != NULL)
		config_unref(&f->conf);
	arena_free(&f->msg.arena);
	str_deinit(&trace.calls);
	str_deinit(&trace.cancels);
	trace.pending_count = 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	chain_cancel(&f->chain);
	net_worker_free(&f->worker);
	unload(f);
	filter_registry_free(&f->registry);
	str_deinit(&f->text);
	free(f);
	return 0;
}

static void
got_done(void *owner)
{
	struct fixture *f = owner;

	f->done++;
	net_worker_stop(f->worker);
}

static struct filter_counts *
its_counts(void *owner, const char *name)
{
	struct fixture *f = owner;

	(void)name;
	return &f->counts;
}

static enum chain_step
begin_within(struct fixture *f, const char *text, size_t rcpt_count, int64_t budget_ms)
{
	const struct top_conf *tc;

	config_load_text("t.conf", text, strlen(text), &top, &f->conf);
	tc = f->conf->top->data[0];
	f->set = filter_set_new(f->conf, &tc->default_chain, NULL);
	if (f->conf->error_count != 0)
		fail_msg("%s", TAILQ_FIRST(&f->conf->problems)->text);
	filter_set_attach(f->set, f->registry);
	filter_set_count(f->set, its_counts, f);
	mail_edits_init(&f->msg.edits, f->msg.arena);
	f->msg.rcpt_count = rcpt_count;
	return chain_start(f->set, &f->env, &f->log, &f->msg, budget_ms, got_done, f, &f->chain);
}

static enum chain_step
begin(struct fixture *f, const char *text, size_t rcpt_count)
{
	return begin_within(f, text, rcpt_count, 60000);
}

static const char *
results(struct fixture *f)
{
	str_clear(&f->text);
	str_add(&f->text, "");
	for (size_t i = 0; i < f->msg.rcpt_count; i++) {
		const struct chain_result *r = chain_result(f->chain, i);
		const struct mail_edit *edit;

		str_printf(&f->text, "%s%s", i > 0 ? " " : "", verdict_names[r->verdict.kind]);
		if (r->verdict.filter != NULL)
			str_printf(&f->text, "/%s", r->verdict.filter);
		STAILQ_FOREACH(edit, &r->edits->list, next)
		str_printf(&f->text, "+%c", edit->text[3]);
	}
	return str_text(&f->text);
}

/* Without its milliseconds. */
static const char *
description(struct fixture *f)
{
	struct str text = STR_INIT;
	const char *p;

	chain_describe(f->chain, &text);
	str_clear(&f->text);
	str_add(&f->text, "");
	for (p = str_text(&text); *p != '\0'; p++) {
		if (*p == '/')
			p += strcspn(p, ",");
		if (*p == '\0')
			break;
		str_addc(&f->text, *p);
	}
	str_deinit(&text);
	return str_text(&f->text);
}

static void
resume(const char *name, enum filter_step how)
{
	filter_resume(take_pending(name), how);
}

static void
filters_that_answer_at_once_are_folded_in_the_order_of_the_chain(void **state)
{
	static const struct {
		const char *conf;
		size_t rcpts;
		const char *calls, *results, *description;
		unsigned groups;
	} cases[] = {
		{"", 2, "", "pass pass", "", 1},
		{"fake a { }", 2, "", "pass pass", "", 1},
		{"fake a { }\nrule { recipient @other.example; chain a }", 2, "", "pass pass", "",
			1},
		{"fake a { }\ndefault_chain a", 2, "a:0,1 ", "pass pass", "a:pass", 1},
		{"fake a { does reject }\nfake b { }\ndefault_chain a b", 1, "a:0 ", "reject/a",
			"a:reject", 1},
		{"fake a { does tempfail }\nfake b { }\ndefault_chain b a", 1, "b:0 a:0 ",
			"tempfail/a", "b:pass,a:tempfail", 1},
		{"fake a { does discard }\nfake b { }\ndefault_chain a b", 1, "a:0 ", "discard/a",
			"a:discard", 1},
		{"fake a { does accept }\nfake b { does reject }\ndefault_chain a b", 1, "a:0 ",
			"accept/a", "a:accept", 1},
		{"peek a { does accept }\npeek b { does reject }\ndefault_chain a b", 1, "a:0 ",
			"accept/a", "a:accept", 1},
		{"peek a { }\npeek b { does reject }\npeek c { does tempfail }\ndefault_chain a b "
		 "c",
			1, "a:0 b:0 ", "reject/b", "a:pass,b:reject", 1},
		/* edits: the later above the earlier, and with the one who accepts */
		{"fake a { edits yes }\nfake b { edits yes }\ndefault_chain a b", 1, "a:0 b:0 ",
			"pass+b+a", "a:pass,b:pass", 1},
		{"fake a { edits yes }\nfake b { edits yes; does accept }\nfake c { edits yes }\n"
		 "default_chain a b c",
			1, "a:0 b:0 ", "accept/b+b+a", "a:pass,b:accept", 1},
		{"peek a { edits yes }\ndefault_chain a", 1, "a:0 ", "pass", "a:pass", 1},
		/* a fault's edits do not count */
		{"fake a { edits yes; does error; on_failure pass }\nfake b { edits yes }\n"
		 "default_chain a b",
			1, "a:0 b:0 ", "pass+b", "a:pass,b:pass", 1},
		{"fake a { does error }\nfake b { }\ndefault_chain a b", 1, "a:0 ", "tempfail/a",
			"a:tempfail", 1},
		{"fake a { does error; on_failure reject }\ndefault_chain a", 1, "a:0 ", "reject/a",
			"a:reject", 1},
		{"fake a { does error; on_failure disconnect }\ndefault_chain a", 1, "a:0 ",
			"disconnect/a", "a:disconnect", 1},
		{"fake a { does stop }\ndefault_chain a", 1, "a:0 ", "tempfail/a", "a:tempfail", 1},
		{"fake a { does quarantine }\ndefault_chain a", 1, "a:0 ", "quarantine/a",
			"a:quarantine", 1},
		/* recipients part, and what they have in common runs once */
		{"fake a { edits yes }\nfake b { does reject }\nfake c { }\n"
		 "rule { recipient @one.example; chain a b }\ndefault_chain a c",
			3, "a:0,1,2 c:0,2 b:1 ", "pass+a reject/b+a pass+a",
			"a:pass,c:pass,b:reject", 2},
		{"fake a { }\nfake b { edits yes }\n"
		 "rule { recipient @one.example; chain a b }\n"
		 "rule { recipient @two.example; chain none }\ndefault_chain a",
			3, "a:0,1 b:1 ", "pass pass+b pass", "a:pass,b:pass", 2},
		{"fake a { does reject }\n"
		 "rule { recipient @one.example; chain none }\ndefault_chain a",
			4, "a:0,2,3 ", "reject/a pass reject/a reject/a", "a:reject", 2},
		{"fake a { does accept }\nrule { recipient @one.example; chain none }\n"
		 "default_chain a",
			2, "a:0 ", "accept/a pass", "a:accept", 1},
		{"fake a { does reject }\nfake b { does reject }\n"
		 "rule { recipient @one.example; chain b }\ndefault_chain a",
			2, "a:0 b:1 ", "reject/a reject/b", "a:reject,b:reject", 2},
		{"dummy a { }\ndefault_chain a", 1, "", "pass", "a:pass", 1},
	};

	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct fixture *f = *state;

		f->msg.arena = f->msg.arena != NULL ? f->msg.arena : arena_new();
		assert_int_equal(begin(f, cases[i].conf, cases[i].rcpts), CHAIN_DONE);
		if (strcmp(results(f), cases[i].results) != 0)
			fail_msg("case %zu: %s", i, results(f));
		assert_string_equal(str_text(&trace.calls), cases[i].calls);
		assert_string_equal(description(f), cases[i].description);
		assert_int_equal(chain_group_count(f->chain), cases[i].groups);
		assert_int_equal(f->done, 0);
		chain_cancel(&f->chain);
		unload(f);
	}
}

static void
a_verdict_carries_the_filters_words_cleaned(void **state)
{
	struct fixture *f = *state;
	const struct mail_verdict *v;

	begin(f, "fake a { does reject }\ndefault_chain a", 1);
	v = &chain_result(f->chain, 0)->verdict;
	assert_int_equal(v->code, 554);
	assert_string_equal(v->status, "5.6.1");
	assert_string_equal(v->text, "bad\nnews"); /* two lines of a reply, by LF alone */
	assert_string_equal(v->filter, "a");
}

static void
a_filter_sees_the_edits_of_those_before_it(void **state)
{
	struct fixture *f = *state;

	begin(f, "fake a { edits yes }\nfake b { edits yes }\nfake c { }\ndefault_chain a b c", 1);
	assert_int_equal(trace.seen_edits, 2);
}

static void
a_chain_waits_until_its_filter_resumes(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(
		begin(f, "fake a { does wait }\nfake b { }\ndefault_chain a b", 2), CHAIN_WAIT);
	assert_string_equal(str_text(&trace.calls), "a:0,1 ");
	resume("a", FILTER_NEXT);
	assert_int_equal(f->done, 1);
	assert_string_equal(str_text(&trace.calls), "a:0,1 b:0,1 ");
	assert_string_equal(results(f), "pass pass");
	assert_string_equal(str_text(&trace.cancels), "");
}

static void
inspectors_wait_together_and_count_in_the_order_of_the_chain(void **state)
{
	static const char conf[] = "peek a { does wait }\npeek b { does wait }\n"
				   "default_chain a b";
	struct fixture *f = *state;
	struct filter_run *b;

	assert_int_equal(begin(f, conf, 1), CHAIN_WAIT);
	assert_int_equal(trace.pending_count, 2);
	b = take_pending("b");
	filter_resume(b, filter_reject(b, 0, NULL, NULL));
	assert_int_equal(f->done, 0);
	resume("a", FILTER_NEXT);
	assert_int_equal(f->done, 1);
	assert_string_equal(results(f), "reject/b");
}

static void
a_decision_of_the_first_ends_those_behind_it(void **state)
{
	static const char conf[] = "peek a { does wait }\npeek b { does wait }\n"
				   "peek c { does wait }\ndefault_chain a b c";
	struct fixture *f = *state;
	struct filter_run *a;

	assert_int_equal(begin(f, conf, 1), CHAIN_WAIT);
	resume("b", FILTER_NEXT);
	a = take_pending("a");
	filter_resume(a, filter_accept(a));
	assert_int_equal(f->done, 1);
	assert_string_equal(str_text(&trace.cancels), "c ");
	assert_string_equal(results(f), "accept/a");
	assert_string_equal(description(f), "a:accept,b:pass,c:cancelled");
}

static void
branches_wait_side_by_side(void **state)
{
	static const char conf[] =
		"fake a { does wait }\nfake b { does wait }\nfake c { does wait }\n"
		"rule { recipient @one.example; chain b c }\ndefault_chain a";
	struct fixture *f = *state;

	assert_int_equal(begin(f, conf, 2), CHAIN_WAIT);
	assert_int_equal(trace.pending_count, 2);
	resume("b", FILTER_NEXT);
	resume("a", FILTER_ERROR);
	assert_int_equal(f->done, 0);
	resume("c", FILTER_NEXT);
	assert_int_equal(f->done, 1);
	assert_string_equal(results(f), "tempfail/a pass");
	assert_int_equal(chain_group_count(f->chain), 2);
}

static void
a_filter_that_is_too_late_is_cancelled_and_on_failure_holds(void **state)
{
	static const struct {
		const char *conf, *results;
	} cases[] = {
		{"fake a { does wait; timeout 20ms }\nfake b { }\ndefault_chain a b", "tempfail/a"},
		{"fake a { does wait; timeout 20ms; on_failure reject }\ndefault_chain a",
			"reject/a"},
		{"fake a { does wait; timeout 20ms; edits yes; on_failure pass }\n"
		 "fake b { edits yes }\ndefault_chain a b",
			"pass+b"},
	};

	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct fixture *f = *state;

		f->msg.arena = f->msg.arena != NULL ? f->msg.arena : arena_new();
		f->done = 0;
		assert_int_equal(begin(f, cases[i].conf, 1), CHAIN_WAIT);
		net_worker_run(f->worker);
		assert_int_equal(f->done, 1);
		assert_string_equal(results(f), cases[i].results);
		assert_string_equal(str_text(&trace.cancels), "a ");
		chain_cancel(&f->chain);
		unload(f);
	}
}

static void
at_the_end_of_the_budget_it_is_tempfail_whatever_on_failure_says(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(
		begin_within(f,
			"fake a { does wait; on_failure pass }\nfake b { }\ndefault_chain a b", 1,
			20),
		CHAIN_WAIT);
	net_worker_run(f->worker);
	assert_string_equal(results(f), "tempfail/a");
	assert_string_equal(str_text(&trace.cancels), "a ");
	assert_string_equal(str_text(&trace.calls), "a:0 ");
}

static void
without_any_budget_no_filter_is_asked(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(
		begin_within(f, "fake a { on_failure pass }\ndefault_chain a", 1, 0), CHAIN_DONE);
	assert_string_equal(results(f), "tempfail/a");
	assert_string_equal(str_text(&trace.calls), "");
}

static void
what_a_pass_on_failure_leaves_of_the_budget_bounds_the_next(void **state)
{
	static const char conf[] = "fake a { does wait; timeout 30ms; on_failure pass }\n"
				   "fake b { does wait; on_failure pass }\ndefault_chain a b";
	struct fixture *f = *state;
	uint64_t began = clock_ms();

	assert_int_equal(begin_within(f, conf, 1, 80), CHAIN_WAIT);
	net_worker_run(f->worker);
	assert_string_equal(results(f), "tempfail/b");
	assert_true(clock_ms() - began >= 75);
}

static void
cancel_stops_all_that_waits_and_nothing_is_heard(void **state)
{
	static const char conf[] =
		"peek a { does wait; timeout 10ms }\npeek b { does wait; timeout 10ms }\n"
		"fake c { }\ndefault_chain a b c\ndummy d { wait 20ms }";
	struct fixture *f = *state;
	struct net_timer timer;

	assert_int_equal(begin(f, conf, 1), CHAIN_WAIT);
	chain_cancel(&f->chain);
	assert_null(f->chain);
	assert_string_equal(str_text(&trace.cancels), "a b ");
	/* Until after their deadlines would have come. */
	net_timer_init(&timer, f->worker, (void (*)(void *))net_worker_stop, f->worker);
	net_timer_set(&timer, 30);
	net_worker_run(f->worker);
	net_timer_deinit(&timer);
	assert_int_equal(f->done, 0);
	assert_string_equal(str_text(&trace.calls), "a:0 b:0 ");
	chain_cancel(&f->chain);
}

static void
a_second_resume_is_an_assertion(void **state)
{
	struct fixture *f = *state;
	struct filter_run *a;
	int status;
	pid_t pid;

	begin(f, "fake a { does wait }\nfake b { does wait }\ndefault_chain a b", 1);
	a = take_pending("a");
	filter_resume(a, FILTER_NEXT);
	pid = fork();
	if (pid == 0) {
		signal(SIGABRT, SIG_DFL);
		if (freopen("/dev/null", "w", stderr) != NULL)
			filter_resume(a, FILTER_NEXT);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	resume("b", FILTER_NEXT);
}

static void
the_dummy_waits_by_a_timer(void **state)
{
	struct fixture *f = *state;
	uint64_t began = clock_ms();

	assert_int_equal(begin(f, "dummy a { wait 50ms }\ndefault_chain a", 1), CHAIN_WAIT);
	net_worker_run(f->worker);
	assert_string_equal(results(f), "pass");
	assert_true(clock_ms() - began >= 45);
}

static void
a_dummy_that_is_too_slow_fails(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(
		begin(f, "dummy a { wait 1m; timeout 20ms }\ndefault_chain a", 1), CHAIN_WAIT);
	net_worker_run(f->worker);
	assert_string_equal(results(f), "tempfail/a");
}

static void
a_dummy_without_helpers_fails(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(begin(f, "dummy a { helper yes }\ndefault_chain a", 1), CHAIN_DONE);
	assert_string_equal(results(f), "tempfail/a");
}

/* With a spawner that cannot start anything: the fault of a helper is a fault of the filter. */
static void
a_helper_that_cannot_be_started_is_a_failure_of_the_filter(void **state)
{
	struct fixture *f = *state;
	struct program_client *client;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	client = program_client_new(f->worker, fds[0], NULL, NULL);
	f->env.helpers = helper_pool_new(f->worker, client, "/nowhere/postern-helper");
	close(fds[1]);
	assert_int_equal(begin(f, "dummy a { helper yes }\ndefault_chain a", 1), CHAIN_WAIT);
	net_worker_run(f->worker);
	assert_string_equal(results(f), "tempfail/a");
	helper_pool_free(&f->env.helpers);
	program_client_free(&client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static void
a_filter_whose_conditions_do_not_hold_is_skipped(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(begin(f,
				 "fake a { does reject; only_sender @b.example }\n"
				 "fake b { edits yes; only_sender @a.example }\n"
				 "peek c { does wait; skip_sender s@a.example }\n"
				 "peek d { only_header X /^b$/ }\n"
				 "fake e { edits yes; skip_sender /^s@/ }\n"
				 "default_chain a b c d e\n",
				 2),
		CHAIN_DONE);
	assert_string_equal(results(f), "pass+b pass+b");
	assert_string_equal(str_text(&trace.calls), "b:0,1 d:0,1 ");
	assert_string_equal(description(f), "a:skipped,b:pass,c:skipped,d:pass,e:skipped");
	assert_int_equal(chain_group_count(f->chain), 1);
}

static void
a_filter_speaks_only_for_the_recipients_of_its_conditions(void **state)
{
	struct fixture *f = *state;

	begin(f,
		"peek a { skip_recipient @two.example }\n"
		"fake b { does reject; only_recipient @one.example @two.example }\n"
		"peek c { }\n"
		"peek d { only_recipient nobody@zero.example }\n"
		"default_chain a b c d\n",
		4);
	assert_string_equal(results(f), "pass reject/b reject/b pass");
	assert_string_equal(str_text(&trace.calls), "a:0,1,3 c:0,3 b:1 b:2 ");
	assert_string_equal(description(f), "d:skipped,a:pass,c:pass,b:reject,b:reject");
}

static void
all_recipients_may_be_without_a_filter(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(
		begin(f, "fake a { does reject; only_recipient x@x.example }\ndefault_chain a\n", 3), CHAIN_DONE);
	assert_string_equal(results(f), "pass pass pass");
	assert_string_equal(description(f), "a:skipped");
	assert_int_equal(chain_group_count(f->chain), 1);
}

static void
a_condition_that_cannot_be_evaluated_is_a_failure(void **state)
{
	struct fixture *f = *state;

	f->sender.addr = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab";
	begin(f, "fake a { on_failure reject; skip_sender /(a+)+$/ }\ndefault_chain a\n", 1);
	assert_string_equal(results(f), "reject/a");
	assert_string_equal(str_text(&trace.calls), "");
}

static void
a_recipient_that_a_condition_cannot_be_asked_about_has_the_failure_for_itself(void **state)
{
	static const struct mail_rcpt slow = {.addr = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"};
	struct fixture *f = *state;

	f->list[1] = &slow;
	begin(f, "fake a { on_failure reject; only_recipient /(a+)+$/ /^r/ }\ndefault_chain a\n", 2);
	assert_string_equal(results(f), "pass reject/a");
	assert_string_equal(str_text(&trace.calls), "a:0 ");
	assert_string_equal(description(f), "a:pass,a:reject");
}

/* ---- slots ---- */

/* As a filter "a" of another message would. */
static struct slots *
slots_of_a(struct fixture *f)
{
	return filter_registry_find(f->registry, "a")->slots;
}

static void
hold_slots(struct fixture *f, int count)
{
	struct slot_wait *wait;

	slots_set_max(slots_of_a(f), count);
	for (int i = 0; i < count; i++)
		assert_int_equal(slots_take(slots_of_a(f), f->worker, NULL, NULL, &wait), SLOT_TAKEN);
}

static void
assert_all_free(struct fixture *f, int count)
{
	hold_slots(f, count);
	for (int i = 0; i < count; i++)
		slots_give(slots_of_a(f));
}

static void
a_run_waits_for_its_slot_and_gives_it_back(void **state)
{
	struct fixture *f = *state;

	hold_slots(f, 2);
	assert_int_equal(begin(f, "fake a { max_instances 2 }\nfake b { }\ndefault_chain a b", 1), CHAIN_WAIT);
	assert_string_equal(str_text(&trace.calls), "");
	assert_int_equal(slots_waiting(slots_of_a(f)), 1);
	slots_give(slots_of_a(f));
	assert_string_equal(str_text(&trace.calls), ""); /* it hears from the loop */
	net_worker_run(f->worker);
	assert_string_equal(results(f), "pass");
	assert_string_equal(str_text(&trace.calls), "a:0 b:0 ");
	slots_give(slots_of_a(f));
	assert_all_free(f, 2);
}

static void
a_run_that_waits_too_long_is_a_failure(void **state)
{
	static const struct {
		const char *conf, *results;
		int64_t budget;
	} cases[] = {
		{"fake a { max_instances 1; max_wait 20ms }\ndefault_chain a", "tempfail/a", 60000},
		{"fake a { max_instances 1; max_wait 20ms; on_failure reject }\ndefault_chain a", "reject/a", 60000},
		{"fake a { max_instances 1; max_wait 20ms; on_failure quarantine }\ndefault_chain a", "quarantine/a", 60000},
		{"fake a { max_instances 1; max_wait 20ms; on_failure pass }\nfake b { edits yes }\ndefault_chain a b", "pass+b",
			60000},
		/* a part of the filter's time, and of the budget */
		{"fake a { max_instances 1; timeout 20ms; on_failure reject }\ndefault_chain a", "reject/a", 60000},
		{"fake a { max_instances 1; timeout 20ms; max_wait 1m; on_failure reject }\ndefault_chain a", "reject/a", 60000},
		{"fake a { max_instances 1; on_failure pass }\ndefault_chain a", "tempfail/a", 20},
	};

	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct fixture *f = *state;

		f->msg.arena = f->msg.arena != NULL ? f->msg.arena : arena_new();
		f->done = 0;
		hold_slots(f, 1);
		assert_int_equal(begin_within(f, cases[i].conf, 1, cases[i].budget), CHAIN_WAIT);
		net_worker_run(f->worker);
		assert_int_equal(f->done, 1);
		if (strcmp(results(f), cases[i].results) != 0)
			fail_msg("case %zu: %s", i, results(f));
		assert_null(strstr(str_text(&trace.calls), "a:"));
		assert_int_equal(slots_waiting(slots_of_a(f)), 0);
		slots_give(slots_of_a(f));
		assert_all_free(f, 1);
		chain_cancel(&f->chain);
		unload(f);
	}
}

static void
what_it_has_waited_is_a_part_of_its_timeout(void **state)
{
	struct fixture *f = *state;
	struct net_timer timer;
	uint64_t began = clock_ms();

	hold_slots(f, 1);
	begin(f, "fake a { does wait; max_instances 1; timeout 600ms }\ndefault_chain a", 1);
	net_timer_init(&timer, f->worker, (void (*)(void *))slots_give, slots_of_a(f));
	net_timer_set(&timer, 300);
	net_worker_run(f->worker);
	net_timer_deinit(&timer);
	assert_string_equal(results(f), "tempfail/a");
	assert_string_equal(str_text(&trace.cancels), "a ");
	assert_in_range(clock_ms() - began, 595, 880);
	assert_all_free(f, 1);
}

static void
who_is_cancelled_leaves_the_queue_or_gives_its_slot_back(void **state)
{
	static const char conf[] = "fake a { does wait; max_instances 1 }\ndefault_chain a";

	for (int when = 0; when < 3; when++) {
		struct fixture *f = *state;

		f->msg.arena = f->msg.arena != NULL ? f->msg.arena : arena_new();
		hold_slots(f, 1);
		assert_int_equal(begin(f, conf, 1), CHAIN_WAIT);
		if (when > 0)
			slots_give(slots_of_a(f)); /* on its way */
		if (when > 1) {
			net_worker_stop(f->worker);
			net_worker_run(f->worker); /* arrived */
			assert_int_equal(trace.pending_count, 1);
		}
		chain_cancel(&f->chain);
		arena_free(&f->msg.arena); /* what is still on its way must not touch it */
		net_worker_stop(f->worker);
		net_worker_run(f->worker);
		assert_int_equal(trace.pending_count, 0);
		if (when == 0)
			slots_give(slots_of_a(f));
		assert_all_free(f, 1);
		unload(f);
	}
}

/* ---- the breaker ---- */

/* One more message through the same breaker. */
static const char *
once_more(struct fixture *f, const char *conf)
{
	chain_cancel(&f->chain);
	unload(f);
	f->msg.arena = arena_new();
	f->done = 0;
	if (begin(f, conf, 1) == CHAIN_WAIT)
		return "waits";
	return results(f);
}

static void
after_failures_in_a_row_it_is_not_asked_until_a_probe_succeeds(void **state)
{
	static const char bad[] = "fake a { does error; failures 2; retry_after 500ms; on_failure quarantine }\ndefault_chain a";
	static const char good[] = "fake a { does reject; failures 2; retry_after 500ms; on_failure quarantine }\ndefault_chain a";
	static const char slow[] = "fake a { does wait; failures 2; retry_after 500ms; on_failure quarantine }\ndefault_chain a";
	struct fixture *f = *state;

	assert_string_equal(once_more(f, bad), "quarantine/a");
	/* a refusal is no failure */
	assert_string_equal(once_more(f, good), "reject/a");
	assert_string_equal(once_more(f, bad), "quarantine/a");
	assert_string_equal(once_more(f, bad), "quarantine/a");
	/* open: on_failure answers at once, and what its options say of it outlives the configuration */
	assert_string_equal(once_more(f, good), "quarantine/a");
	assert_string_equal(str_text(&trace.calls), "");
	assert_int_equal(count_get(&f->counts.stopped), 1);
	usleep(501000);
	/* a probe that is cancelled leaves the next one to try */
	assert_string_equal(once_more(f, slow), "waits");
	assert_string_equal(once_more(f, slow), "waits");
	chain_cancel(&f->chain);
	assert_string_equal(once_more(f, bad), "quarantine/a");
	assert_string_equal(str_text(&trace.calls), "a:0 ");
	assert_string_equal(once_more(f, good), "quarantine/a");
	usleep(501000);
	assert_string_equal(once_more(f, good), "reject/a");
	assert_string_equal(once_more(f, good), "reject/a");
	assert_int_equal(count_get(&f->counts.stopped), 2);
}

static void
what_is_no_fault_of_the_filter_does_not_open_its_breaker(void **state)
{
	static const char budget[] = "fake a { does wait; failures 1 }\ndefault_chain a";
	static const char slots[] = "fake a { max_instances 1; max_wait 10ms; failures 1 }\ndefault_chain a";
	static const char condition[] = "fake a { failures 1; skip_sender /(a+)+$/ }\ndefault_chain a";
	static const char good[] = "fake a { failures 1 }\ndefault_chain a";
	struct fixture *f = *state;

	assert_int_equal(begin_within(f, budget, 1, 10), CHAIN_WAIT);
	net_worker_run(f->worker);
	assert_string_equal(results(f), "tempfail/a");
	assert_string_equal(once_more(f, good), "pass");
	hold_slots(f, 1);
	assert_string_equal(once_more(f, slots), "waits");
	net_worker_run(f->worker);
	assert_string_equal(results(f), "tempfail/a");
	assert_string_equal(once_more(f, good), "pass");
	f->sender.addr = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab";
	assert_string_equal(once_more(f, condition), "tempfail/a");
	assert_string_equal(once_more(f, good), "pass");
	slots_set_max(slots_of_a(f), 1);
	slots_give(slots_of_a(f));
}

static void
a_timeout_opens_it_and_failures_0_closes_it(void **state)
{
	static const char conf[] = "fake a { does wait; max_instances 1; timeout 20ms; failures 1; retry_after 1m }\n"
				   "default_chain a";
	struct fixture *f = *state;

	assert_string_equal(once_more(f, conf), "waits");
	net_worker_run(f->worker);
	assert_string_equal(results(f), "tempfail/a");
	assert_string_equal(once_more(f, conf), "tempfail/a");
	assert_string_equal(str_text(&trace.calls), "");
	/* 0: from now on it is asked, whatever was */
	assert_string_equal(once_more(f, "fake a { failures 0 }\ndefault_chain a"), "pass");
	assert_string_equal(once_more(f, "fake a { failures 1 }\ndefault_chain a"), "pass");
}

/* ---- what is made of a verdict ---- */

static void
options_say_what_becomes_of_a_verdict(void **state)
{
	static const struct {
		const char *conf, *results, *description;
		const char *text; /* NULL: any */
	} cases[] = {
		{"fake a { does reject; on_reject discard }\ndefault_chain a", "discard/a", "a:reject-discard", NULL},
		{"fake a { does reject; on_reject quarantine }\nfake b { }\ndefault_chain a b", "quarantine/a",
			"a:reject-quarantine", "bad\nnews"},
		{"fake a { does reject; on_reject pass; edits yes }\nfake b { edits yes }\ndefault_chain a b", "pass+b+a",
			"a:reject-pass,b:pass", NULL},
		{"fake a { does reject; on_reject reject }\ndefault_chain a", "reject/a", "a:reject", "bad\nnews"},
		{"fake a { does tempfail; on_reject pass }\ndefault_chain a", "tempfail/a", "a:tempfail", NULL},
		/* what on_failure says is no reject of the filter's */
		{"fake a { does error; on_failure reject; on_reject pass }\ndefault_chain a", "reject/a", "a:reject",
			"message could not be checked"},
		{"fake a { does reject; reject_text \"go away\" }\ndefault_chain a", "reject/a", "a:reject", "go away"},
		{"fake a { does reject; tempfail_text \"come back\" }\ndefault_chain a", "reject/a", "a:reject", "bad\nnews"},
		{"fake a { does error; reject_text no; tempfail_text \"come back\" }\ndefault_chain a", "tempfail/a",
			"a:tempfail", "come back"},
		{"fake a { does error; on_failure reject; reject_text no }\ndefault_chain a", "reject/a", "a:reject", "no"},
		/* edits */
		{"fake a { edits yes; removes yes; may none }\ndefault_chain a", "pass", "a:pass", NULL},
		{"fake a { edits yes; may header }\ndefault_chain a", "pass+a", "a:pass", NULL},
		{"fake a { edits yes; may add_header }\ndefault_chain a", "pass+a", "a:pass", NULL},
		{"fake a { edits yes; may delete_header }\ndefault_chain a", "pass", "a:pass", NULL},
		{"fake a { edits yes; does reject; on_reject pass; may none }\ndefault_chain a", "pass", "a:reject-pass", NULL},
		/* a shadow changes nothing, and runs beside those that only look */
		{"fake a { does reject; shadow yes; edits yes }\nfake b { edits yes }\ndefault_chain a b", "pass+b",
			"a:shadow-reject,b:pass", NULL},
		{"fake a { does accept; shadow yes }\nfake b { does reject }\ndefault_chain a b", "reject/b",
			"a:shadow-accept,b:reject", NULL},
		{"fake a { does error; shadow yes; on_failure reject }\nfake b { }\ndefault_chain a b", "pass",
			"a:shadow-reject,b:pass", NULL},
		{"fake a { does reject; on_reject discard; shadow yes }\ndefault_chain a", "pass", "a:shadow-discard", NULL},
		{"fake a { edits yes }\nfake b { edits yes; shadow yes }\nfake c { edits yes }\ndefault_chain a b c", "pass+c+a",
			"a:pass,b:shadow-pass,c:pass", NULL},
	};

	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct fixture *f = *state;
		const char *text;

		f->msg.arena = f->msg.arena != NULL ? f->msg.arena : arena_new();
		assert_int_equal(begin(f, cases[i].conf, 1), CHAIN_DONE);
		if (strcmp(results(f), cases[i].results) != 0)
			fail_msg("case %zu: %s", i, results(f));
		assert_string_equal(description(f), cases[i].description);
		text = chain_result(f->chain, 0)->verdict.text;
		if (cases[i].text != NULL)
			assert_string_equal(text, cases[i].text);
		chain_cancel(&f->chain);
		unload(f);
	}
}

static void
a_shadow_is_counted_apart_and_when_it_was_of_another_opinion(void **state)
{
	static const struct {
		const char *conf;
		unsigned passes, rejects, disagreements, failures;
	} cases[] = {
		{"fake a { shadow yes }\ndefault_chain a", 1, 0, 0, 0},
		{"fake a { does accept; shadow yes }\ndefault_chain a", 0, 0, 0, 0},
		{"fake a { does reject; shadow yes }\ndefault_chain a", 0, 1, 1, 0},
		{"fake a { does reject; shadow yes }\nfake b { does reject }\ndefault_chain a b", 0, 1, 0, 0},
		{"fake a { shadow yes }\nfake b { does reject }\ndefault_chain a b", 1, 0, 1, 0},
		{"fake a { does error; shadow yes; on_failure reject }\ndefault_chain a", 0, 1, 0, 1},
	};

	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct fixture *f = *state;

		f->msg.arena = f->msg.arena != NULL ? f->msg.arena : arena_new();
		memset(&f->counts, 0, sizeof(f->counts));
		assert_int_equal(begin(f, cases[i].conf, 2), CHAIN_DONE);
		if (count_get(&f->counts.shadows[VERDICT_PASS]) != cases[i].passes ||
			count_get(&f->counts.shadows[VERDICT_REJECT]) != cases[i].rejects ||
			count_get(&f->counts.disagreements) != cases[i].disagreements ||
			count_get(&f->counts.failures) != cases[i].failures)
			fail_msg("case %zu", i);
		assert_int_equal(count_get(&f->counts.verdicts[VERDICT_PASS]), 0);
		chain_cancel(&f->chain);
		unload(f);
	}
}

static void
who_would_be_stopped_does_not_queue_for_it(void **state)
{
	static const char conf[] = "fake a { does error; max_instances 1; failures 1; retry_after 1m }\ndefault_chain a";
	struct fixture *f = *state;

	assert_string_equal(once_more(f, conf), "tempfail/a");
	hold_slots(f, 1);
	assert_string_equal(once_more(f, conf), "tempfail/a");
	assert_int_equal(count_get(&f->counts.stopped), 1);
	slots_give(slots_of_a(f));
}

static void
a_shadow_runs_beside_those_that_only_look(void **state)
{
	struct fixture *f = *state;
	struct filter_run *b;

	begin(f, "peek a { does wait }\nfake b { does wait; shadow yes; edits yes }\npeek c { does wait }\nfake d { }\n"
		 "default_chain a b c d", 1);
	assert_string_equal(str_text(&trace.calls), "a:0 b:0 c:0 ");
	b = take_pending("b");
	filter_resume(b, filter_accept(b));
	resume("a", FILTER_NEXT);
	resume("c", FILTER_NEXT);
	assert_string_equal(results(f), "pass");
	assert_string_equal(str_text(&trace.calls), "a:0 b:0 c:0 d:0 ");
	assert_int_equal(trace.seen_edits, 0);
}

static void
nothing_waits_for_a_slot_of_a_filter_without_a_limit(void **state)
{
	struct fixture *f = *state;

	hold_slots(f, 1);
	begin(f, "fake a { }\ndefault_chain a", 1); /* a reload took the limit away */
	assert_string_equal(results(f), "pass");
	slots_give(slots_of_a(f));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(filters_that_answer_at_once_are_folded_in_the_order_of_the_chain),
		TEST(a_verdict_carries_the_filters_words_cleaned),
		TEST(a_filter_sees_the_edits_of_those_before_it),
		TEST(a_chain_waits_until_its_filter_resumes),
		TEST(inspectors_wait_together_and_count_in_the_order_of_the_chain),
		TEST(a_decision_of_the_first_ends_those_behind_it),
		TEST(branches_wait_side_by_side),
		TEST(a_filter_that_is_too_late_is_cancelled_and_on_failure_holds),
		TEST(at_the_end_of_the_budget_it_is_tempfail_whatever_on_failure_says),
		TEST(without_any_budget_no_filter_is_asked),
		TEST(what_a_pass_on_failure_leaves_of_the_budget_bounds_the_next),
		TEST(cancel_stops_all_that_waits_and_nothing_is_heard),
		TEST(a_second_resume_is_an_assertion),
		TEST(the_dummy_waits_by_a_timer),
		TEST(a_dummy_that_is_too_slow_fails),
		TEST(a_dummy_without_helpers_fails),
		TEST(a_helper_that_cannot_be_started_is_a_failure_of_the_filter),
		TEST(a_filter_whose_conditions_do_not_hold_is_skipped),
		TEST(a_filter_speaks_only_for_the_recipients_of_its_conditions),
		TEST(all_recipients_may_be_without_a_filter),
		TEST(a_condition_that_cannot_be_evaluated_is_a_failure),
		TEST(a_recipient_that_a_condition_cannot_be_asked_about_has_the_failure_for_itself),
		TEST(a_run_waits_for_its_slot_and_gives_it_back),
		TEST(a_run_that_waits_too_long_is_a_failure),
		TEST(what_it_has_waited_is_a_part_of_its_timeout),
		TEST(who_is_cancelled_leaves_the_queue_or_gives_its_slot_back),
		TEST(nothing_waits_for_a_slot_of_a_filter_without_a_limit),
		TEST(after_failures_in_a_row_it_is_not_asked_until_a_probe_succeeds),
		TEST(what_is_no_fault_of_the_filter_does_not_open_its_breaker),
		TEST(a_timeout_opens_it_and_failures_0_closes_it),
		TEST(who_would_be_stopped_does_not_queue_for_it),
		TEST(a_shadow_runs_beside_those_that_only_look),
		TEST(options_say_what_becomes_of_a_verdict),
		TEST(a_shadow_is_counted_apart_and_when_it_was_of_another_opinion),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
