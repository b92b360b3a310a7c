/*
 * t/fuzz/fuzz_encoded.c - encoded words, whole and not; the text never grows beyond reason.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mail/encoded.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_new();
	const char *text = (const char *)data;
	char *decoded;
	size_t len;

	decoded = mail_decode(text, size, arena, &len);
	if (decoded[len] != '\0' || len > 4 * size)
		abort();
	/* Without an encoded word nothing changes. */
	if (memmem(text, size, "=?", 2) == NULL && (len != size || memcmp(decoded, text, size) != 0))
		abort();
	arena_free(&arena);
	return 0;
}
