/* filters/clamd_reply.c - "1: stream: OK", "fd[10]: Eicar-Signature FOUND", and everything else. */
#include "filters/clamd_reply.h"

#include <stdio.h>
#include <string.h>

#include "base/str.h"

#define DIGITS_MAX 10 /* of a descriptor */

struct rest {
	const char *text;
	size_t len;
};

static bool
skip(struct rest *r, const char *prefix)
{
	size_t len = strlen(prefix);

	if (r->len < len || memcmp(r->text, prefix, len) != 0)
		return false;
	r->text += len;
	r->len -= len;
	return true;
}

static bool
skip_id(struct rest *r, unsigned id)
{
	char prefix[16];

	if (id == 0)
		return true;
	snprintf(prefix, sizeof(prefix), "%u: ", id);
	return skip(r, prefix);
}

/* The number is that of a descriptor in clamd. */
static bool
skip_descriptor(struct rest *r)
{
	size_t digits = 0;

	if (!skip(r, "fd["))
		return false;
	while (digits < r->len && r->text[digits] >= '0' && r->text[digits] <= '9')
		digits++;
	r->text += digits;
	r->len -= digits;
	return digits > 0 && digits <= DIGITS_MAX && skip(r, "]: ");
}

static bool
is_text(const struct rest *r, const char *text)
{
	return r->len == strlen(text) && memcmp(r->text, text, r->len) == 0;
}

static bool
ends_with(const struct rest *r, const char *end)
{
	size_t len = strlen(end);

	return r->len > len && memcmp(r->text + r->len - len, end, len) == 0;
}

static void
say(struct clamd_reply *reply, enum clamd_said said, const char *text, size_t len)
{
	reply->said = said;
	str_clean(reply->text, CLAMD_TEXT_MAX, text, len, false);
}

void
clamd_reply_parse(const char *line, size_t len, unsigned id, bool is_fildes, struct clamd_reply *reply_r)
{
	static const char found[] = " FOUND";
	struct rest r = {line, len};

	reply_r->is_ours = skip_id(&r, id);
	if (reply_r->is_ours && is_text(&r, "INSTREAM size limit exceeded. ERROR"))
		say(reply_r, CLAMD_TOO_LARGE, r.text, r.len);
	else if (!reply_r->is_ours || !(is_fildes ? skip_descriptor(&r) : skip(&r, "stream: ")))
		say(reply_r, CLAMD_WRONG, line, len);
	else if (is_text(&r, "OK"))
		say(reply_r, CLAMD_CLEAN, "", 0);
	else if (ends_with(&r, found))
		say(reply_r, CLAMD_INFECTED, r.text, r.len - strlen(found));
	else
		say(reply_r, CLAMD_WRONG, line, len);
}
