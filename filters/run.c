/* filters/run.c - what a filter calls to say its verdict. */
#include <stdarg.h>
#include <string.h>

#include "base/str.h"
#include "filters/filter.h"

#define TEXT_MAX 400

const char *const filter_failure_names[] = {
	[FILTER_FAIL_TEMPFAIL] = "tempfail",
	[FILTER_FAIL_REJECT] = "reject",
	[FILTER_FAIL_PASS] = "pass",
	[FILTER_FAIL_DISCONNECT] = "disconnect",
	NULL,
};

const struct config_option filter_options[] = {
	CONFIG_DURATION("timeout", struct filter_conf, timeout_ms, "1m", 1, 3600 * 1000,
		"how long this filter may take for one message, before it counts as failed"),
	CONFIG_ENUM("on_failure", struct filter_conf, on_failure, "tempfail", filter_failure_names,
		"what becomes of the message when this filter fails: tempfail answers 451, reject "
		"554, disconnect 421, and pass lets it through unchecked"),
	CONFIG_END};

static const char *
clean_copy(struct filter_run *run, const char *text)
{
	char clean[TEXT_MAX + 1];

	if (text == NULL || text[0] == '\0')
		return NULL;
	str_clean(clean, TEXT_MAX, text, strlen(text), false);
	return arena_strdup(run->arena, clean);
}

static enum filter_step
stop(struct filter_run *run, enum verdict_kind kind, int code, const char *status, const char *text)
{
	run->verdict = (struct mail_verdict){
		.kind = kind,
		.code = code,
		.status = clean_copy(run, status),
		.text = clean_copy(run, text),
		.filter = run->filter->name,
	};
	return FILTER_STOP;
}

enum filter_step
filter_reject(struct filter_run *run, int code, const char *status, const char *text)
{
	return stop(run, VERDICT_REJECT, code, status, text);
}

enum filter_step
filter_tempfail(struct filter_run *run, int code, const char *status, const char *text)
{
	return stop(run, VERDICT_TEMPFAIL, code, status, text);
}

enum filter_step
filter_discard(struct filter_run *run)
{
	return stop(run, VERDICT_DISCARD, 0, NULL, NULL);
}

enum filter_step
filter_accept(struct filter_run *run)
{
	return stop(run, VERDICT_ACCEPT, 0, NULL, NULL);
}

enum filter_step
filter_fail(struct filter_run *run, const char *fmt, ...)
{
	va_list ap;
	struct str text = STR_INIT;

	va_start(ap, fmt);
	str_vprintf(&text, fmt, ap);
	va_end(ap);
	err_set(&run->err, "%s", str_text(&text));
	str_deinit(&text);
	return FILTER_ERROR;
}

enum filter_step
filter_from_helper(struct filter_run *run, const struct helper_result *result)
{
	const struct mail_verdict *v = &result->verdict;

	if (result->failed)
		return filter_fail(run, "%s", result->err.text);
	if (v->kind == VERDICT_PASS)
		return FILTER_NEXT;
	return stop(run, v->kind, v->code, v->status, v->text);
}
