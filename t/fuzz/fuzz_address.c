/* t/fuzz/fuzz_address.c - paths: what is taken is within bounds, harmless, and taken again alone.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mail/address.h"
#include "mail/canonical.h"

#define MUST(x) ((x) ? (void)0 : abort())

static void
check_octets(const char *text, size_t len, bool utf8)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		MUST(c >= ' ' && c != 127);
		MUST(c < 128 || utf8);
	}
}

/* Outside quotes a path holds no space, bracket or quote, so that nothing behind it can be meant.
 */
static void
check_quoting(const char *text, const struct mail_path *p)
{
	bool is_quoted = false;

	for (size_t i = p->begin; i < p->end; i++) {
		if (is_quoted && text[i] == '\\')
			i++;
		else if (text[i] == '"')
			is_quoted = !is_quoted;
		else
			MUST(is_quoted || strchr(" <>()\\,;", text[i]) == NULL ||
				(text[i] == ',' && i < p->mailbox));
	}
	MUST(!is_quoted);
}

static void
check_path(const char *text, size_t used, unsigned flags, const struct mail_path *p)
{
	struct mail_path again;
	struct err err;

	MUST(used <= MAIL_PATH_MAX && text[0] == '<' && text[used - 1] == '>');
	MUST(p->begin == 1 && p->end == used - 1);
	MUST(p->begin <= p->mailbox && p->mailbox <= p->at && p->at <= p->end);
	MUST(p->begin < p->end || (flags & MAIL_PATH_NULL));
	MUST(p->at == p->end ? p->begin == p->end || (flags & MAIL_PATH_BARE) : text[p->at] == '@');
	MUST(p->at - p->mailbox <= MAIL_LOCAL_MAX);
	MUST(p->at == p->end || p->end - p->at - 1 <= MAIL_DOMAIN_MAX);
	MUST(p->at == p->end || p->end - p->at > 1);
	check_octets(text, used, p->has_utf8);
	MUST(!p->has_utf8 || (flags & MAIL_PATH_UTF8));
	check_quoting(text, p);
	MUST(mail_path_parse(text, used, flags, &again, &err) == used);
	MUST(again.at == p->at && again.mailbox == p->mailbox);
	MUST(mail_path_parse(text, used - 1, flags, &again, &err) == 0);
}

/* The canonical form of any address is its own, and the readable one has bounds. */
static void
check_canonical(const char *text, size_t len)
{
	struct mail_canonical once, twice, readable;
	bool is_new = mail_canonical(text, len, false, &once);

	if (is_new) {
		MUST(once.len < sizeof(once.text) && once.len == strlen(once.text));
		MUST(!mail_canonical(once.text, once.len, false, &twice) ||
			(twice.len == once.len && memcmp(twice.text, once.text, once.len) == 0));
		text = once.text;
		len = once.len;
	}
	if (mail_readable(text, len, &readable))
		MUST(readable.len < sizeof(readable.text) && readable.len == strlen(readable.text));
}

static void
check_helo(const char *text, size_t len)
{
	if (!mail_helo_valid(text, len))
		return;
	MUST(len > 0 && len <= MAIL_DOMAIN_MAX);
	for (size_t i = 0; i < len; i++)
		MUST(text[i] > ' ' && text[i] < 127 && strchr("()<>\\\",;", text[i]) == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* First octet: the flags. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mail_path p;
	struct err err = {.text = ""};
	const char *text = (const char *)data + 1;
	size_t used;

	if (size < 1)
		return 0;
	used = mail_path_parse(text, size - 1, data[0], &p, &err);
	if (used > 0) {
		check_path(text, used, data[0], &p);
		check_canonical(text + p.begin, p.end - p.begin);
	} else {
		MUST(err.text[0] != '\0');
	}
	check_helo(text, size - 1);
	return 0;
}
