/*
 * t/fuzz/fuzz_http.c - HTTP requests: whatever the split of the packets, the same request or none.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/http.h"

#define MUST(x) ((x) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was taken ends in an empty line, and its path is fit for a comparison and for a reply. */
static void
check_good(const char *text, size_t len, const struct net_http_head *head)
{
	MUST(len >= 4 && memcmp(text + len - 4, "\r\n\r\n", 4) == 0);
	MUST(head->path[0] == '/' && memchr(head->path, '\0', sizeof(head->path)) != NULL);
	for (const char *c = head->path; *c != '\0'; c++)
		MUST(*c > ' ' && *c < 0x7f && *c != '?');
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct net_http_head whole, part;
	size_t len, n;

	if (size > 2 * NET_HTTP_HEAD_MAX)
		return 0;
	len = net_http_parse((const char *)data, size, &whole);
	MUST(len <= size);
	MUST(len > 0 || size < NET_HTTP_HEAD_MAX);
	if (len > 0 && whole.status == 200)
		check_good((const char *)data, len, &whole);
	MUST(whole.status == 200 || whole.is_last);
	for (size_t k = 0; k < size; k += 1 + size / 64) {
		char *copy = malloc(k + 1); /* its end is where a sanitizer sees a look too far */

		MUST(copy != NULL);
		memcpy(copy, data, k);
		n = net_http_parse(copy, k, &part);
		free(copy);
		if (n == 0)
			continue;
		MUST(len > 0 && (part.status == 200) == (whole.status == 200));
		if (part.status == 200)
			MUST(n == len && strcmp(part.path, whole.path) == 0 && part.is_head == whole.is_head &&
			     part.is_last == whole.is_last);
	}
	return 0;
}
