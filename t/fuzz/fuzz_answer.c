/*
 * t/fuzz/fuzz_answer.c - what programs write for us. First octet: JSON, header lines, or a reason.
 *
 * Names, values and addresses that are accepted must be such, for mail/edit.h asserts it; a reason is one clean line.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/str.h"
#include "filters/program_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_reason(const struct reason *r)
{
	assert(strlen(r->text) <= REASON_MAX && strpbrk(r->text, "\r\n\t") == NULL);
	assert(r->code == 0 || (r->code >= 200 && r->code <= 599));
	assert(r->status[0] == '\0' || r->status[0] == '0' + r->code / 100);
}

static void
check_edits(const struct mail_edits *edits)
{
	const struct mail_edit *edit;

	STAILQ_FOREACH(edit, &edits->list, next)
	{
		if (edit->name != NULL)
			assert(mail_edit_is_name(edit->name) && !str_caseeq(edit->name, "Received"));
		if (edit->kind == MAIL_EDIT_ADD)
			assert(mail_edit_is_value(edit->text));
	}
}

static void
try_json(const char *data, size_t len, struct mail_edits *edits)
{
	const struct mail_sender sender = {.addr = "a@b.example", .domain = "b.example", .size = -1};
	enum verdict_kind kind;
	struct reason reason;
	struct err err;

	if (program_json(data, len, edits, &sender, &kind, &reason, &err) < 0)
		return;
	assert(kind < VERDICT_COUNT);
	check_reason(&reason);
	assert(reason.code == 0 || reason_verdict(&reason) == kind);
}

static void
try_reason(const char *data, size_t len)
{
	struct reason r;

	if (reason_first(data, len, &r))
		check_reason(&r);
	if (reason_last(data, len, &r))
		check_reason(&r);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data + 1;
	struct arena *arena;
	struct mail_edits edits;
	struct err err;

	if (size == 0)
		return 0;
	arena = arena_new();
	mail_edits_init(&edits, arena);
	if (data[0] == 'j')
		try_json(text, size - 1, &edits);
	else if (data[0] == 'h')
		program_header(text, size - 1, &edits, &err);
	else
		try_reason(text, size - 1);
	check_edits(&edits);
	arena_free(&arena);
	return 0;
}
