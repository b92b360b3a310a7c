/*
 * t/fuzz/fuzz_zone.c - files of time zones: what is taken can be asked about any moment.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/zone.h"

#define MUST(x) ((x) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const time_t some[] = {INT64_MIN, -1, 0, 1764547200, 1774746000, 3500000000, INT64_C(1) << 40, INT64_MAX};
	struct arena *arena = arena_new();
	const struct zone *zone;
	struct err err = {.text = ""};

	zone = zone_parse(data, size, arena, &err);
	MUST(zone != NULL || err.text[0] != '\0');
	for (size_t i = 0; zone != NULL && i < sizeof(some) / sizeof(some[0]); i++)
		MUST(abs(zone_offset(zone, some[i])) < 26 * 3600);
	arena_free(&arena);
	return 0;
}
