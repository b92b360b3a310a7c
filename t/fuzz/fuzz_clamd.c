/* t/fuzz/fuzz_clamd.c - replies of a hostile clamd: clean is one exact form, and all text is fit for a log. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "filters/clamd_reply.h"

#define MUST(x) ((x) ? (void)0 : abort())

static void
check(const struct clamd_reply *r)
{
	MUST(strlen(r->text) <= CLAMD_TEXT_MAX);
	for (const char *p = r->text; *p != '\0'; p++)
		MUST((unsigned char)*p >= ' ' && (unsigned char)*p < 127);
}

/* Written the slow and simple way; the number of a descriptor is whatever stands there. */
static void
check_clean(const char *line, size_t len, unsigned id, bool is_fildes)
{
	char text[64], want[64], number[64] = "";

	MUST(len < sizeof(text));
	memcpy(text, line, len);
	text[len] = '\0';
	MUST(strlen(text) == len);
	if (is_fildes && strchr(text, '[') != NULL)
		snprintf(number, sizeof(number), "%.*s", (int)strspn(strchr(text, '[') + 1, "0123456789"),
			strchr(text, '[') + 1);
	if (id != 0)
		snprintf(want, sizeof(want), is_fildes ? "%u: fd[%s]: OK" : "%u: stream: OK%s", id, number);
	else
		snprintf(want, sizeof(want), is_fildes ? "fd[%s]: OK" : "stream: OK%s", number);
	MUST(strcmp(text, want) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first octet chooses: a session or none, FILDES or INSTREAM. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct clamd_reply r;
	unsigned id;
	bool is_fildes;

	if (size == 0 || size > CLAMD_REPLY_MAX)
		return 0;
	id = data[0] & 7;
	is_fildes = (data[0] & 8) != 0;
	clamd_reply_parse((const char *)data + 1, size - 1, id, is_fildes, &r);
	check(&r);
	if (r.said == CLAMD_CLEAN && size < 60)
		check_clean((const char *)data + 1, size - 1, id, is_fildes);
	return 0;
}
