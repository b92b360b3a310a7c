/* filters/subject.c - a tag in front of the subject. */
#include "filters/subject.h"

#include <string.h>

#include "base/str.h"
#include "mail/encoded.h"
#include "mail/header.h"

#define TAG_MAX 64
/* RFC 5322 2.1.1. */
#define LINE_MAX_LEN 998

int
subject_tag_check(const char *tag, struct err *err)
{
	if (tag == NULL)
		return 0;
	if (*tag == '\0' || *tag == ' ' || !str_is_printable(tag) || strlen(tag) > TAG_MAX)
		return err_set(err, "subject_tag: it must be printable ASCII, 1 to %d octets, and not begin with a blank",
			TAG_MAX);
	return 0;
}

static bool
find_subject(const char *head, size_t len, struct mail_field *field_r)
{
	size_t pos = 0;

	while (mail_header_next(head, len, &pos, field_r))
		if (mail_field_is(field_r, "Subject"))
			return true;
	return false;
}

static char *
raw_value(const struct mail_field *field, struct arena *scratch)
{
	return mail_field_text(field, field->value_len, scratch);
}

/* The value as it stands, folding and all, without the white space in front; or, when that could not stand
 * behind a tag, in one clean line. */
static const char *
old_value(const struct mail_field *field, struct arena *scratch)
{
	const char *text = arena_strndup(scratch, field->value, field->value_len);

	text += strspn(text, " \t\r\n");
	if (memchr(field->value, '\0', field->value_len) == NULL && mail_edit_is_value(text))
		return text;
	return raw_value(field, scratch);
}

static bool
is_tagged(const struct mail_field *field, const char *tag, struct arena *scratch)
{
	const char *raw = raw_value(field, scratch), *decoded;
	size_t len;

	if (strstr(raw, tag) != NULL)
		return true;
	decoded = mail_decode(raw, strlen(raw), scratch, &len);
	return memmem(decoded, len, tag, strlen(tag)) != NULL;
}

static void
tag_field(struct filter_run *run, const struct mail_field *field, const char *tag, struct arena *scratch)
{
	const char *old = old_value(field, scratch);
	size_t first = strlen("Subject: ") + strlen(tag) + 1 + strcspn(old, "\r");

	if (is_tagged(field, tag, scratch))
		return;
	if (*old == '\0')
		mail_edit_change(run->edits, 1, "Subject", tag);
	else
		mail_edit_change(run->edits, 1, "Subject",
			arena_printf(scratch, "%s%s%s", tag, first > LINE_MAX_LEN ? "\r\n " : " ", old));
}

void
subject_tag_add(struct filter_run *run, const char *head, size_t len, const char *tag)
{
	struct mail_field field;
	struct arena *scratch;

	if (!find_subject(head, len, &field)) {
		mail_edit_add(run->edits, "Subject", tag);
		return;
	}
	scratch = arena_new();
	tag_field(run, &field, tag, scratch);
	arena_free(&scratch);
}
