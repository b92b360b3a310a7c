/* t/fuzz/fuzz_access.c - access(5) text: what is taken is an answer that can be given, and pairs are found again.
 */
#define filter_access filter_access_here /* the library has one, too */
#include "filters/access.c"

#include <stdlib.h>

#define MUST(x) ((x) ? (void)0 : abort())

static const struct config_section top = {.name = "", .help = "test", .arity = CONFIG_ONE};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *line = (const char *)data, *stop = line + size, *end;
	struct access_conf own = {.pairs = hash_new(), .values = hash_new()};
	struct reading r = {.own = &own, .place = {.file = "access", .line = 1, .column = 1}};
	const struct filter_answer *a;
	struct err err;

	if (memchr(data, '\0', size) != NULL)
		goto out; /* config_source_check() */
	config_load_text("t.conf", "", 0, &top, &r.conf);
	for (; line < stop; line = end + 1) {
		end = memchr(line, '\n', (size_t)(stop - line));
		if (end == NULL)
			end = stop;
		read_line(&r, line, (size_t)(end - line));
	}
	a = find(&own, "joe@example.net", "ann@example.org");
	if (a != NULL)
		MUST(filter_answer_check(a, &err) == 0 && !filter_answer_passes(a));
	config_unref(&r.conf);
out:
	hash_free(&own.pairs);
	hash_free(&own.values);
	return 0;
}
