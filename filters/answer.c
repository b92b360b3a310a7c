/* filters/answer.c - a verdict that the administrator wrote, with its reply: checked when read, then given. */
#include "filters/answer.h"

#include <string.h>

#include "base/str.h"

/* In the order of the words. What a verdict says in a reply; class 0: it has none of its own. */
const char *const filter_answer_names[] = {
	"pass", "accept", "reject", "tempfail", "discard", "quarantine", "disconnect", NULL};
static const struct answer {
	enum verdict_kind kind;
	int class;
} answers[] = {
	{VERDICT_PASS, 0},
	{VERDICT_ACCEPT, 0},
	{VERDICT_REJECT, 5},
	{VERDICT_TEMPFAIL, 4},
	{VERDICT_DISCARD, 0},
	{VERDICT_QUARANTINE, 0},
	{VERDICT_DISCONNECT, 4},
};

/* RFC 3463 2: class "." 1*3digit "." 1*3digit */
static bool
is_status(const char *text)
{
	size_t subject, detail;

	if (*text < '2' || *text > '5' || text[1] != '.')
		return false;
	text += 2;
	subject = strspn(text, "0123456789");
	if (subject < 1 || subject > 3 || text[subject] != '.')
		return false;
	text += subject + 1;
	detail = strspn(text, "0123456789");
	return detail >= 1 && detail <= 3 && text[detail] == '\0';
}

static int
check_code(const struct filter_answer *c, const struct answer *a, struct err *err)
{
	bool is_disconnect = a->kind == VERDICT_DISCONNECT;

	if (c->code == 0)
		return 0;
	if (c->code / 100 != a->class)
		return err_set(err, "code %d is no %s (a code for it begins with %d)", c->code,
			filter_answer_names[c->verdict], a->class);
	if (is_disconnect != (c->code == 421))
		return err_set(err, "code %d: 421 means that the connection is closed, %s", c->code,
			is_disconnect ? "and disconnect has no other" : "which is verdict disconnect");
	return 0;
}

static int
check_status(const struct filter_answer *c, const struct answer *a, struct err *err)
{
	if (c->status == NULL)
		return 0;
	if (!is_status(c->status))
		return err_set(err, "status \"%s\" is no enhanced status code (try %d.7.1)", c->status, a->class);
	if (c->status[0] != '0' + a->class)
		return err_set(err, "status %s is no %s (a status for it begins with %d)", c->status,
			filter_answer_names[c->verdict], a->class);
	return 0;
}

int
filter_answer_check_text(const char *option, const char *text, struct err *err)
{
	char clean[FILTER_LINE_MAX + 1];
	size_t count = 0, len;

	for (const char *line = text; line != NULL; line = line[len] != '\0' ? line + len + 1 : NULL) {
		len = strcspn(line, "\n");
		if (++count > FILTER_LINES_MAX)
			return err_set(err, "%s has more than %d lines", option, FILTER_LINES_MAX);
		if (len > FILTER_LINE_MAX)
			return err_set(err, "%s is longer than %d octets", option, FILTER_LINE_MAX);
		str_clean(clean, FILTER_LINE_MAX, line, len, false);
		if (memcmp(clean, line, len) != 0)
			return err_set(err, "%s has characters other than printable ASCII", option);
	}
	return 0;
}

void
filter_text_clean(char dst[FILTER_TEXT_SIZE], const char *text)
{
	size_t count = 0, used = 0, len;

	dst[0] = '\0';
	for (; *text != '\0' && count < FILTER_LINES_MAX; text += len + (text[len] != '\0')) {
		size_t bare;

		len = strcspn(text, "\n");
		bare = len > 0 && text[len - 1] == '\r' ? len - 1 : len;
		if (bare == 0)
			continue;
		if (count++ > 0)
			dst[used++] = '\n';
		used += str_clean(dst + used, FILTER_LINE_MAX, text, bare, false);
	}
}

int
filter_answer_check(const struct filter_answer *c, struct err *err)
{
	const struct answer *a = &answers[c->verdict];

	if (a->kind == VERDICT_QUARANTINE && c->code == 0 && c->status == NULL)
		return filter_answer_check_text("text", c->text, err); /* the reason, for who looks at it later */
	if (a->class == 0 && (c->code != 0 || c->status != NULL || c->text != NULL))
		return err_set(err, "verdict %s has no reply of its own: code, status and text are for reject, "
			"tempfail and disconnect", filter_answer_names[c->verdict]);
	if (check_code(c, a, err) < 0 || check_status(c, a, err) < 0)
		return -1;
	return filter_answer_check_text("text", c->text, err);
}

bool
filter_answer_delivers(const struct filter_answer *c)
{
	return answers[c->verdict].kind == VERDICT_PASS || answers[c->verdict].kind == VERDICT_ACCEPT;
}

bool
filter_answer_passes(const struct filter_answer *c)
{
	return answers[c->verdict].kind == VERDICT_PASS;
}

enum verdict_kind
filter_answer_kind(const struct filter_answer *c)
{
	return answers[c->verdict].kind;
}

enum filter_step
filter_answer(struct filter_run *run, const struct filter_answer *c)
{
	switch (answers[c->verdict].kind) {
	case VERDICT_ACCEPT:
		return filter_accept(run);
	case VERDICT_REJECT:
		return filter_reject(run, c->code, c->status, c->text);
	case VERDICT_TEMPFAIL:
		return filter_tempfail(run, c->code, c->status, c->text);
	case VERDICT_DISCARD:
		return filter_discard(run);
	case VERDICT_QUARANTINE:
		return filter_quarantine(run, c->text);
	case VERDICT_DISCONNECT:
		return filter_disconnect(run, c->status, c->text);
	default:
		return FILTER_NEXT;
	}
}
