/* t/fuzz/fuzz_params.c - arguments of MAIL, RCPT and BDAT: what is taken is written anew, and taken
 * again as the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "smtp/params.h"

#define MUST(x) ((x) ? (void)0 : abort())

static void
check_why(const struct smtp_params_error *why, const struct err *err)
{
	MUST(why->code == 501 || why->code == 553 || why->code == 555);
	MUST(why->status != NULL && why->status[0] == '5');
	MUST(err->text[0] != '\0');
}

static void
check_line(const struct str *line)
{
	for (size_t i = 0; i < line->len; i++)
		MUST((unsigned char)line->data[i] >= ' ' && line->data[i] != 127);
}

static void
write_mail(struct str *out, const struct mail_sender *sender, unsigned offered)
{
	struct smtp_caps peer = {.bits = offered};

	smtp_params_write_mail(out, sender, sender->size, &peer);
	check_line(out);
}

static void
check_mail(const char *args, size_t len, unsigned offered, struct arena *arena)
{
	struct mail_sender sender;
	struct smtp_params_error why = {0};
	struct err err = {.text = ""};
	struct str out = STR_INIT, again = STR_INIT;

	if (smtp_params_mail(args, len, offered, arena, &sender, &why, &err) < 0) {
		check_why(&why, &err);
		return;
	}
	MUST(sender.size >= -1);
	MUST(sender.domain >= sender.addr);
	MUST(sender.auth == NULL || strcmp(sender.auth, "<>") == 0);
	write_mail(&out, &sender, offered);
	MUST(smtp_params_mail(out.data + 5, out.len - 5, offered, arena, &sender, &why, &err) == 0);
	write_mail(&again, &sender, offered);
	MUST(strcmp(out.data, again.data) == 0);
	str_deinit(&out);
	str_deinit(&again);
}

static void
write_rcpt(struct str *out, const struct mail_rcpt *rcpt, unsigned offered, bool utf8)
{
	struct smtp_caps peer = {.bits = offered | (utf8 ? SMTP_CAP_SMTPUTF8 : 0)};

	smtp_params_write_rcpt(out, rcpt, &peer);
	check_line(out);
}

static void
check_rcpt(const char *args, size_t len, unsigned offered, bool utf8, struct arena *arena)
{
	struct mail_rcpt rcpt;
	struct smtp_params_error why = {0};
	struct err err = {.text = ""};
	struct str out = STR_INIT, again = STR_INIT;

	if (smtp_params_rcpt(args, len, offered, utf8, arena, &rcpt, &why, &err) < 0) {
		check_why(&why, &err);
		return;
	}
	MUST(rcpt.addr[0] != '\0');
	write_rcpt(&out, &rcpt, offered, utf8);
	MUST(smtp_params_rcpt(out.data + 5, out.len - 5, offered, utf8, arena, &rcpt, &why, &err) ==
		0);
	write_rcpt(&again, &rcpt, offered, utf8);
	MUST(strcmp(out.data, again.data) == 0);
	str_deinit(&out);
	str_deinit(&again);
}

static void
check_bdat(const char *args, size_t len)
{
	int64_t octets = -1;
	bool last;
	struct err err;

	if (smtp_params_bdat(args, len, &octets, &last, &err) == 0)
		MUST(octets >= 0 && octets < 1000000000000000000);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* First two octets: what is offered, and whether the transaction is SMTPUTF8. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct arena *arena;
	const char *args = (const char *)data + 2;
	unsigned offered;

	if (size < 2)
		return 0;
	if (arena == NULL)
		arena = arena_new();
	offered = data[0] | (data[1] & 0xfu) << 8;
	check_mail(args, size - 2, offered, arena);
	check_rcpt(args, size - 2, offered, data[1] & 0x80, arena);
	check_bdat(args, size - 2);
	arena_reset(arena);
	return 0;
}
