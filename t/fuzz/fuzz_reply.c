/* t/fuzz/fuzz_reply.c - reply lines of a hostile peer: what comes out of them is well formed. */
#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "smtp/reply.h"

#define MUST(x) ((x) ? (void)0 : abort())

static void
check_reply(const struct smtp_reply *r)
{
	MUST(r->code >= 200 && r->code <= 599 && (r->code >= 400 || r->code % 100 < 60));
	MUST(r->status[0] == '\0' || r->status[0] == '0' + r->code / 100);
	MUST(memchr(r->status, '\0', sizeof(r->status)) != NULL);
	MUST(strlen(r->text) <= SMTP_REPLY_TEXT_MAX);
	for (const char *p = r->text; *p != '\0'; p++)
		MUST(((unsigned char)*p >= ' ' || *p == '\n') && *p != 127);
}

/* Each line is short, ends in CRLF, has the same code; feeding them gives the reply again. */
static void
check_written(const struct smtp_reply *r, const struct str *out, bool with_status)
{
	struct smtp_reply_parser p;
	struct smtp_reply again = {0};
	enum smtp_reply_step step = SMTP_REPLY_MORE;
	const char *line = str_text(out), *end;
	bool is_cut = false;

	smtp_reply_parser_init(&p);
	while ((end = strstr(line, "\r\n")) != NULL) {
		MUST(end - line <= 500);
		is_cut |= end - line > 490;
		MUST(step == SMTP_REPLY_MORE);
		step = smtp_reply_feed(&p, line, (size_t)(end - line), &again);
		line = end + 2;
	}
	MUST(*line == '\0' && step == SMTP_REPLY_DONE);
	MUST(again.code == r->code);
	if (with_status && r->code / 100 != 3) {
		MUST(again.status[0] != '\0');
		MUST(r->status[0] == '\0' || strcmp(again.status, r->status) == 0);
		MUST(is_cut || strcmp(again.text, r->text) == 0);
	}
	smtp_reply_parser_deinit(&p);
}

static void
check_id(const struct smtp_reply *r)
{
	char id[20];

	smtp_reply_queue_id(r, id, sizeof(id));
	for (const char *p = id; *p != '\0'; p++)
		MUST(isalnum((unsigned char)*p) || strchr("._-", *p) != NULL);
}

static void
got_reply(const struct smtp_reply *r)
{
	struct str out = STR_INIT;

	check_reply(r);
	check_id(r);
	for (int with_status = 0; with_status < 2; with_status++) {
		smtp_reply_write(r, with_status, &out);
		check_written(r, &out, with_status);
		str_clear(&out);
	}
	smtp_reply_line(r, &out);
	MUST(strchr(out.data, '\n') == NULL && strlen(out.data) == out.len);
	str_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *line = (const char *)data;
	struct smtp_reply_parser p;
	struct smtp_reply r;

	smtp_reply_parser_init(&p);
	while (size > 0) {
		const char *end = memchr(line, '\n', size);
		size_t n = end != NULL ? (size_t)(end - line) : size;

		if (smtp_reply_feed(&p, line, n, &r) == SMTP_REPLY_DONE)
			got_reply(&r);
		n += end != NULL;
		line += n;
		size -= n;
	}
	smtp_reply_parser_deinit(&p);
	return 0;
}
