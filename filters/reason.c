/* filters/reason.c - the line that a program printed for the client. */
#include "filters/reason.h"

#include <string.h>

#include "base/str.h"
#include "smtp/reply.h"

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void
trim(const char **line, size_t *len)
{
	while (*len > 0 && is_blank((*line)[*len - 1]))
		(*len)--;
	while (*len > 0 && is_blank(**line)) {
		(*line)++;
		(*len)--;
	}
}

/* Code and status go by the rules of replies from the network; a line that is none of them is all text. */
void
reason_parse(const char *line, size_t len, struct reason *r)
{
	struct smtp_reply_parser parser;
	struct smtp_reply reply;
	char clean[REASON_MAX + 1];

	*r = (struct reason){.code = 0};
	trim(&line, &len);
	len = str_clean(clean, REASON_MAX, line, len, false);
	if (len > 3 && clean[3] == '-')
		clean[3] = ' ';
	smtp_reply_parser_init(&parser);
	if (smtp_reply_feed(&parser, clean, len, &reply) == SMTP_REPLY_DONE && reply.code / 100 != 3) {
		r->code = reply.code;
		memcpy(r->status, reply.status, sizeof(r->status));
		str_clean(r->text, REASON_MAX, reply.text, strlen(reply.text), false);
	} else {
		str_clean(r->text, REASON_MAX, line, len, false);
	}
	smtp_reply_parser_deinit(&parser);
}

static bool
find_marked(const char *output, size_t len, struct reason *r)
{
	const char *begin = memmem(output, len, "<<", 2), *end;

	if (begin == NULL)
		return false;
	begin += 2;
	end = memmem(begin, (size_t)(output + len - begin), ">>", 2);
	if (end == NULL || end == begin)
		return false;
	reason_parse(begin, (size_t)(end - begin), r);
	return true;
}

bool
reason_first(const char *output, size_t len, struct reason *r)
{
	const char *end;

	if (find_marked(output, len, r))
		return true;
	trim(&output, &len);
	if (len == 0)
		return false;
	end = memchr(output, '\n', len);
	reason_parse(output, end != NULL ? (size_t)(end - output) : len, r);
	return true;
}

bool
reason_last(const char *output, size_t len, struct reason *r)
{
	return find_marked(output, len, r) || reason_last_line(output, len, r);
}

bool
reason_last_line(const char *output, size_t len, struct reason *r)
{
	const char *begin;

	trim(&output, &len);
	if (len == 0)
		return false;
	begin = memrchr(output, '\n', len);
	begin = begin != NULL ? begin + 1 : output;
	reason_parse(begin, (size_t)(output + len - begin), r);
	return true;
}

enum verdict_kind
reason_verdict(const struct reason *r)
{
	switch (r->code / 100) {
	case 2:
		return VERDICT_PASS;
	case 4:
		return r->code == 421 ? VERDICT_DISCONNECT : VERDICT_TEMPFAIL;
	case 5:
		return VERDICT_REJECT;
	default:
		return VERDICT_COUNT;
	}
}

enum filter_step
reason_answer(struct filter_run *run, enum verdict_kind kind, const struct reason *r)
{
	bool fits = reason_verdict(r) == kind;
	int code = fits ? r->code : 0;
	const char *status = fits && r->status[0] != '\0' ? r->status : NULL;

	switch (kind) {
	case VERDICT_ACCEPT:
		return filter_accept(run);
	case VERDICT_REJECT:
		return filter_reject(run, code, status, r->text);
	case VERDICT_TEMPFAIL:
		return filter_tempfail(run, code, status, r->text);
	case VERDICT_DISCARD:
		return filter_discard(run);
	case VERDICT_QUARANTINE:
		return filter_quarantine(run, r->text);
	case VERDICT_DISCONNECT:
		return filter_disconnect(run, status, r->text);
	case VERDICT_PASS:
		break;
	}
	return FILTER_NEXT;
}
