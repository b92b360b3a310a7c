/*
 * t/fuzz/fuzz_http_client.c - answers of HTTP: the same whole and in two parts, and never more than came.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "net/http_client.h"

#define MUST(x) ((x) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct whole {
	struct net_http_answer head;
	struct net_http_decoder decoder;
	bool has_head, is_wrong;
	struct str content;
};

/* Takes what it can. The copy's end is where a sanitizer sees a look too far. */
static size_t
show(struct whole *w, const char *data, size_t len)
{
	char *copy = malloc(len + 1);
	size_t taken = 0, content_len;
	const char *content;
	struct err err;
	ssize_t n = 1;

	MUST(copy != NULL);
	memcpy(copy, data, len);
	while (n > 0 && !(w->has_head && w->decoder.is_done)) {
		if (w->has_head) {
			n = net_http_decode(&w->decoder, copy + taken, len - taken, &content, &content_len, &err);
			MUST(n <= 0 || content_len <= (size_t)n);
			if (n > 0)
				str_addn(&w->content, content, content_len);
		} else if ((n = net_http_answer_parse(copy + taken, len - taken, &w->head, &err)) > 0) {
			MUST(w->head.status >= 100 && w->head.status <= 599);
			MUST(memcmp(w->head.head + w->head.head_len - 4, "\r\n\r\n", 4) == 0);
			if (!w->head.is_chunked && w->head.length < 0)
				w->head.length = 0;
			net_http_decoder_init(&w->decoder, &w->head);
			w->has_head = true;
		}
		MUST(n <= (ssize_t)(len - taken));
		taken += n > 0 ? (size_t)n : 0;
	}
	w->is_wrong = n < 0;
	free(copy);
	return taken;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct whole whole = { .content = STR_INIT };

	if (size > 2 * NET_HTTP_ANSWER_HEAD_MAX)
		return 0;
	show(&whole, text, size);
	for (size_t k = 0; k < size; k += 1 + size / 32) {
		struct whole parts = { .content = STR_INIT };
		size_t taken = show(&parts, text, k);

		if (!parts.is_wrong)
			show(&parts, text + taken, size - taken);
		MUST(parts.is_wrong == whole.is_wrong);
		MUST(whole.is_wrong || (parts.decoder.is_done == whole.decoder.is_done && parts.content.len == whole.content.len));
		MUST(memcmp(str_text(&parts.content), str_text(&whole.content),
			     parts.content.len < whole.content.len ? parts.content.len : whole.content.len) == 0);
		str_deinit(&parts.content);
	}
	str_deinit(&whole.content);
	return 0;
}
