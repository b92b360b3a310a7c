/*
 * base/log_line.c - the head of a line, in each form, and the pairs behind it.
 */
#include "base/log_line.h"

#include <string.h>
#include <syslog.h>
#include <time.h>

const char *const log_level_names[] = {"error", "warn", "info", "debug", NULL};

static void
add_time(struct str *out, int64_t ms)
{
	static _Thread_local time_t last = -1;
	static _Thread_local char date[32], zone[8];
	time_t now = (time_t)(ms / 1000);
	struct tm tm;

	if (now != last) {
		localtime_r(&now, &tm);
		strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S.", &tm);
		strftime(zone, sizeof(zone), "%z", &tm); /* +0200 */
		memmove(zone + 4, zone + 3, 3);
		zone[3] = ':';
		last = now;
	}
	str_add(out, date);
	log_number(out, (uintmax_t)(ms % 1000), 10, 3);
	str_add(out, zone);
}

static void
add_head_text(struct str *out, bool with_time, const struct log_head *head)
{
	if (with_time) {
		add_time(out, head->time_ms);
		str_addc(out, ' ');
	}
	str_add(out, log_level_names[head->level]);
	str_addc(out, ' ');
	str_add(out, head->who);
	if (head->session != 0) {
		str_add(out, " s=");
		log_number(out, head->session, 16, 6);
	}
	if (head->txn != 0) {
		str_add(out, " t=");
		log_number(out, head->txn, 10, 0);
	}
	str_addc(out, ' ');
	str_add(out, head->event);
}

static void
add_head_json(struct str *out, const struct log_head *head)
{
	str_add(out, "{\"time\":\"");
	add_time(out, head->time_ms);
	str_add(out, "\",\"level\":\"");
	str_add(out, log_level_names[head->level]);
	str_add(out, "\",\"who\":");
	log_json_string(out, head->who, strlen(head->who));
	if (head->session != 0) {
		str_add(out, ",\"session\":\"");
		log_number(out, head->session, 16, 6);
		str_addc(out, '"');
	}
	if (head->txn != 0) {
		str_add(out, ",\"txn\":");
		log_number(out, head->txn, 10, 0);
	}
	str_add(out, ",\"event\":");
	log_json_string(out, head->event, strlen(head->event));
}

static void
add_text_field(struct str *out, const char *name, const char *value)
{
	log_journal_field(out, name, value, strlen(value));
}

static void
add_number_field(struct str *out, const char *name, uintmax_t value, unsigned radix, int width)
{
	str_add(out, name);
	str_addc(out, '=');
	log_number(out, value, radix, width);
	str_addc(out, '\n');
}

static void
add_head_fields(struct str *out, const struct log_head *head)
{
	static const int priorities[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};

	str_add(out, "SYSLOG_IDENTIFIER=postern\n");
	add_number_field(out, "PRIORITY", (uintmax_t)priorities[head->level], 10, 0);
	add_number_field(out, "SYSLOG_FACILITY", (uintmax_t)LOG_FAC(head->facility), 10, 0);
	add_text_field(out, "POSTERN_LEVEL", log_level_names[head->level]);
	add_text_field(out, "POSTERN_WHO", head->who);
	if (head->session != 0)
		add_number_field(out, "POSTERN_SESSION", head->session, 16, 6);
	if (head->txn != 0)
		add_number_field(out, "POSTERN_TXN", head->txn, 10, 0);
	add_text_field(out, "POSTERN_EVENT", head->event);
}

static void
add_journal(struct str *out, const struct log_head *head, const struct log_pairs *pairs)
{
	add_head_fields(out, head);
	str_addn(out, pairs->text.data, pairs->text.len);
	str_add(out, "MESSAGE="); /* one line: the text form has no line ends */
	add_head_text(out, false, head);
	str_addn(out, pairs->message.data, pairs->message.len);
	str_addc(out, '\n');
}

void
log_line_add(struct str *out, const struct log_head *head, bool with_time, struct log_pairs *pairs, size_t max)
{
	const bool is_json = pairs->format == LOG_FORMAT_JSON;
	const size_t begin = out->len;

	if (pairs->format == LOG_FORMAT_JOURNAL) {
		add_journal(out, head, pairs);
		return;
	}
	if (is_json)
		add_head_json(out, head);
	else
		add_head_text(out, with_time, head);
	if (max > out->len - begin + is_json)
		log_pairs_fit(pairs, max - (out->len - begin) - is_json);
	str_addn(out, pairs->text.data, pairs->text.len);
	if (is_json)
		str_addc(out, '}');
	str_addc(out, '\n');
}
