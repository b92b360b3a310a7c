/* filters/always.c - a fixed verdict, for blocking rules and for tests of a set-up. */
#include "filters/answer.h"
#include "filters/at.h"

extern const struct filter_kind filter_always;

struct always_conf {
	struct filter_answer answer;
	struct filter_at at;
};

static const struct config_option always_options[] = {
	FILTER_ANSWER_OPTIONS(struct always_conf, answer, "reject", "of every message"),
	FILTER_AT_OPTION(struct always_conf, at, "mail message"), CONFIG_END};

static int
check_stages(const struct always_conf *c, struct err *err)
{
	const unsigned early = 1u << FILTER_CONNECT | 1u << FILTER_HELO;

	if (filter_answer_kind(&c->answer) == VERDICT_DISCARD && (c->at.stages & early) != 0)
		return err_set(err, "at: there is no message to discard at connect and helo (try at mail)");
	return 0;
}

static int
always_setup(void *conf, struct err *err)
{
	struct always_conf *c = conf;

	if (filter_at_read(&c->at, err) < 0 || filter_answer_check(&c->answer, err) < 0)
		return -1;
	return check_stages(c, err);
}

static unsigned
always_at(const void *conf)
{
	return ((const struct always_conf *)conf)->at.stages;
}

static enum filter_step
always_say(struct filter_run *run)
{
	const struct always_conf *c = run->conf;

	return filter_answer(run, &c->answer);
}

const struct filter_kind filter_always = {
	FILTER_SECTION(always, "gives a fixed verdict; for rules that block, and for tests of a set-up",
		always_options, struct always_conf),
	.section.example = "# For a rule that blocks an address.\n"
			   "always closed {\n"
			   "    verdict reject\n"
			   "    status  5.1.6\n"
			   "    text    \"this mailbox is closed, see https://www.example.org/moved\"\n"
			   "}",
	.inspects = true,
	.is_prompt = true,
	.setup = always_setup,
	.at = always_at,
	.connect = always_say,
	.helo = always_say,
	.mail = always_say,
	.rcpt = always_say,
	.message = always_say,
};
