/*
 * t/fuzz/fuzz_rspamd.c - any text as rspamd's answer: a verdict or a failure, and edits that can be carried out.
 *
 * The message has one header line that no filter may touch; it must still be there, and the body's begin must be
 * where it was, whatever the answer asks for.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "filters/rspamd.h"
#include "mail/header.h"
#include "t/unit/content.h"

#define MUST(x) ((x) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char text[] = "Received: ours\r\nSubject: =?utf-8?q?a?=\r\nX-A: 1\r\nX-Spam: Yes\r\nX-A: 2\r\n\r\nbody\r\n";

static bool
has_received(const char *head, size_t len)
{
	struct mail_field field;
	size_t pos = 0;

	while (mail_header_next(head, len, &pos, &field))
		if (mail_field_is(&field, "Received") && field.value_len == 5)
			return true;
	return false;
}

/* All that stands in it are fields: nothing an answer says begins a body. */
static void
check_head(const char *head, size_t len)
{
	MUST(has_received(head, len) && mail_header_end(head, len) == len);
	MUST(memmem(head, len, "\r\n\r\n", 4) == NULL);
	for (size_t i = 0; i < len; i++)
		MUST(head[i] != '\n' || (i > 0 && head[i - 1] == '\r'));
}

static void
check_edits(const struct filter_run *run)
{
	const struct mail_edits *version = mail_edits_apply(run->arena, run->msg->body, NULL, run->edits);
	const char *head;
	size_t len;

	MUST(version != NULL);
	MUST(mail_edits_header(run->arena, run->msg->body, version, &head, &len) == 0);
	check_head(head, len);
}

static void
check_verdict(const struct filter_run *run, enum filter_step how)
{
	switch (how) {
	case FILTER_ERROR:
		MUST(run->err.text[0] != '\0');
		break;
	case FILTER_STOP:
		MUST(run->verdict.kind != VERDICT_PASS && run->verdict.kind != VERDICT_ACCEPT);
		break;
	default:
		MUST(how == FILTER_NEXT);
		check_edits(run);
		break;
	}
}

/* The first octet chooses what actions are taken for, and SMTPUTF8. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct log_conf quiet = { .target = LOG_TO_FILE, .path = "/dev/null", .level = LOG_LEVEL_INFO };
	static bool is_quiet;
	struct rspamd_conf conf = { .spam_header = "X-Spam", .spam_value = "Yes" };
	struct mail_sender sender = { .addr = "a@b", .domain = "b" };
	const struct filter filter = { .name = "f" };
	const struct log_ctx log = { .who = "w0" };
	struct arena *arena;
	struct mail_edits edits;
	struct mail_body body;
	struct err err;

	if (!is_quiet)
		is_quiet = log_open(&quiet, &err) == 0;
	if (size < 1)
		return 0;
	for (int i = 0; i < RSPAMD_ACTION_COUNT; i++)
		conf.deeds[i] = (i + data[0]) % (RSPAMD_DO_QUARANTINE + 1);
	sender.smtputf8 = data[0] & 0x40;
	conf.report = data[0] & 0x80;
	arena = arena_new();
	content_init(&body, text);
	mail_edits_init(&edits, arena);
	{
		const struct mail_msg msg = { .sender = &sender, .body = &body, .arena = arena };
		struct filter_run run = { .filter = &filter, .conf = &conf, .arena = arena, .msg = &msg, .edits = &edits, .log = &log };

		check_verdict(&run, rspamd_answer(&run, (const char *)data + 1, size - 1));
	}
	mail_body_deinit(&body);
	arena_free(&arena);
	return 0;
}
