/* filters/run.c - what a filter calls to say its verdict. */
#include <stdarg.h>
#include <string.h>

#include "base/str.h"
#include "filters/answer.h"
#include "filters/times.h"
#include "filters/words.h"

const char *const filter_failure_names[] = {
	[FILTER_FAIL_TEMPFAIL] = "tempfail",
	[FILTER_FAIL_REJECT] = "reject",
	[FILTER_FAIL_PASS] = "pass",
	[FILTER_FAIL_DISCONNECT] = "disconnect",
	[FILTER_FAIL_QUARANTINE] = "quarantine",
	NULL,
};

const char *const filter_on_reject_names[] = {
	[FILTER_ON_REJECT_REJECT] = "reject",
	[FILTER_ON_REJECT_DISCARD] = "discard",
	[FILTER_ON_REJECT_QUARANTINE] = "quarantine",
	[FILTER_ON_REJECT_PASS] = "pass",
	NULL,
};

const char *const filter_stage_names[] = {
	[FILTER_CONNECT] = "connect",
	[FILTER_HELO] = "helo",
	[FILTER_MAIL] = "mail",
	[FILTER_RCPT] = "rcpt",
	[FILTER_MESSAGE] = "message",
	NULL,
};

#define WHEN(option, help) CONFIG_WORDS(#option, struct filter_conf, when.option, NULL, help)

const struct config_option filter_options[] = {
	CONFIG_DURATION("timeout", struct filter_conf, timeout_ms, "1m", 1, 3600 * 1000,
		"how long this filter may take for one message, before it counts as failed"),
	CONFIG_ENUM("on_failure", struct filter_conf, on_failure, "tempfail", filter_failure_names,
		"what becomes of the message when this filter fails: tempfail answers 451, reject "
		"554, disconnect 421, quarantine sets the message aside, and pass lets it through unchecked"),
	CONFIG_INT("max_instances", struct filter_conf, max_instances, NULL, 1, 100000,
		"how many messages it may look at at a time, over all workers; the others wait, in the order in which they "
		"came; when not given, there is no limit"),
	CONFIG_DURATION("max_wait", struct filter_conf, max_wait_ms, NULL, 1, 3600 * 1000,
		"how long a message may wait for one of max_instances, before on_failure answers; when not given, as long as "
		"timeout, of which waiting is a part in any case"),
	CONFIG_INT("failures", struct filter_conf, breaker.failures, "10", 0, 100000,
		"after so many failures in a row it is not asked any more, and on_failure answers at once; 0: it is always asked. "
		"No failure is a verdict, whichever, nor what the budget has cut off. Kinds that ask no program and no service "
		"are always asked"),
	CONFIG_DURATION("retry_after", struct filter_conf, breaker.retry_after_ms, "30s", 1, 24 * 3600 * 1000,
		"how long it is not asked after these failures; then it is asked for one message, and as soon as it answers, for "
		"all"),
	CONFIG_ENUM("on_reject", struct filter_conf, on_reject, "reject", filter_on_reject_names,
		"what becomes of a message that it rejects: reject, discard (the client hears that it was taken, and it is "
		"dropped), quarantine, or pass, with the edits that it asked for"),
	CONFIG_LINES("reject_text", struct filter_conf, reject_text, NULL,
		"the text of the reply when it rejects, in place of its own: printable ASCII, a line of at most 400 octets, or up "
		"to 10 of these, each in quotes"),
	CONFIG_LINES("tempfail_text", struct filter_conf, tempfail_text, NULL,
		"the same for when a message is put off, by it or by its on_failure"),
	CONFIG_WORDS("may", struct filter_conf, may, NULL,
		"the edits it may make: header (or of that add_header change_header delete_header), sender, recipients (or "
		"add_recipient remove_recipient), body, message (header and body in one), or none; any other one is refused, "
		"and logged. When not given, all that its kind asks for"),
	CONFIG_BOOL("shadow", struct filter_conf, shadow, "no",
		"look, log and count the verdict, and change nothing: no verdict, no failure and no edit has an effect, though "
		"the message waits for it"),
	WHEN(only_sender, "look only at mail of these envelope senders: " WORDS_ADDRESSES "; <> is the null sender"),
	WHEN(skip_sender, "do not look at mail of these envelope senders"),
	WHEN(only_recipient, "look at mail only for these envelope recipients; a message to others as well comes again for "
			     "them, in a transaction of its own: " WORDS_ADDRESSES),
	WHEN(skip_recipient, "do not look at mail for these envelope recipients"),
	CONFIG_NETS("only_client", struct filter_conf, when.only_client, NULL,
		"look only at mail of clients with these addresses; unix stands for all on Unix sockets"),
	CONFIG_NETS("skip_client", struct filter_conf, when.skip_client, NULL,
		"do not look at mail of clients with these addresses"),
	WHEN(only_helo, "look only at mail of clients that gave such a name in HELO or EHLO: " WORDS_NAMES),
	WHEN(only_subject, "look only at mail with such a Subject, decoded: all of it in quotes, /patterns/, or file:PATH; "
			   "a message without one has an empty one"),
	WHEN(skip_subject, "do not look at mail with such a Subject"),
	WHEN(only_header, "look only at mail with this header field, NAME, and such a value, decoded: NAME and then as "
			  "for only_subject; one such field is enough"),
	CONFIG_SIZE("only_larger", struct filter_conf, when.only_larger, NULL, 1, INT64_C(1) << 50,
		"look only at messages larger than this"),
	CONFIG_SIZE("only_smaller", struct filter_conf, when.only_smaller, NULL, 1, INT64_C(1) << 50,
		"look only at messages smaller than this"),
	WHEN(only_time, "look only at mail that begins at such a time, " TIMES_WORDS),
	WHEN(only_tls, "look only at mail that came with TLS (yes), in clear (no), or with a client certificate of "
		       "which this is the SHA-256"),
	CONFIG_END};

static const char *
clean_copy(struct filter_run *run, const char *text)
{
	char clean[FILTER_TEXT_SIZE];

	if (text == NULL || text[0] == '\0')
		return NULL;
	filter_text_clean(clean, text);
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
filter_disconnect(struct filter_run *run, const char *status, const char *text)
{
	return stop(run, VERDICT_DISCONNECT, 421, status, text);
}

enum filter_step
filter_discard(struct filter_run *run)
{
	return stop(run, VERDICT_DISCARD, 0, NULL, NULL);
}

enum filter_step
filter_quarantine(struct filter_run *run, const char *text)
{
	return stop(run, VERDICT_QUARANTINE, 0, NULL, text);
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
