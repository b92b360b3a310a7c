/* t/fuzz/fuzz_caps.c - lines of an EHLO reply; what is written from them reads the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "smtp/caps.h"

#define MUST(x) ((x) ? (void)0 : abort())

static void
read_lines(struct smtp_caps *caps, const char *text, size_t len)
{
	while (len > 0) {
		const char *end = memchr(text, '\n', len);
		size_t n = end != NULL ? (size_t)(end - text) : len;

		smtp_caps_add_line(caps, text, n);
		n += end != NULL;
		text += n;
		len -= n;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct smtp_caps caps = {0}, again = {0};
	struct str out = STR_INIT;

	read_lines(&caps, (const char *)data, size);
	MUST(caps.size >= 0 && caps.size < 1000000000000000000);
	MUST(caps.size == 0 || (caps.bits & SMTP_CAP_SIZE));
	smtp_caps_write(&caps, &out);
	read_lines(&again, str_text(&out), out.len);
	MUST(again.bits == caps.bits && again.size == caps.size);
	str_deinit(&out);
	return 0;
}
