/* t/fuzz/fuzz_spamd.c - heads of a hostile spamd's answers: what is taken is within its bounds, however it comes in. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "filters/spamd_reply.h"

#define MUST(x) ((x) ? (void)0 : abort())

static void
check_number(const char *text, double number)
{
	double again;

	MUST(strlen(text) > 0 && strlen(text) < 16);
	MUST(spamd_number(text, strlen(text), &again) && again == number && isfinite(number));
}

static void
check(const struct spamd_reply *r, size_t taken, size_t size)
{
	MUST(taken <= size && taken <= SPAMD_HEAD_MAX);
	MUST(r->length >= -1 && r->length < 1000000000000);
	check_number(r->score_text, r->score);
	check_number(r->threshold_text, r->threshold);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* All at once says the same as octet by octet. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct spamd_reply all, part;
	struct err err = {.text = ""};
	ssize_t n = spamd_reply_parse(text, size, &all, &err), m = 0;

	if (n > 0)
		check(&all, (size_t)n, size);
	if (n < 0)
		for (const char *p = err.text; *p != '\0'; p++)
			MUST((unsigned char)*p >= ' ' && (unsigned char)*p < 127);
	if (size > SPAMD_HEAD_MAX)
		return 0;
	for (size_t len = 0; len <= size && m == 0; len++)
		m = spamd_reply_parse(text, len, &part, &err);
	MUST(m == n);
	return 0;
}
