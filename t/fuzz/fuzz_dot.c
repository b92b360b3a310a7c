/* t/fuzz/fuzz_dot.c - fast path, octet by octet and random splits against a naive model. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "smtp/dot.h"

#define MUST(x) ((x) ? (void)0 : abort())

struct result {
	struct str text, marks;
	uint64_t bare_lf, bare_cr;
	size_t used;
	bool done;
};

static void
got_run(void *owner, const char *data, size_t len, bool dot_line)
{
	struct result *r = owner;

	MUST(len > 0);
	for (size_t i = 0; i < len; i++)
		str_addc(&r->marks, dot_line && i == 0 ? '1' : '0');
	str_addn(&r->text, data, len);
}

/* seed 0: all at once; 1: one octet at a time; else pieces of random length. */
static void
run(struct result *r, enum smtp_dot_mode mode, const char *data, size_t len, unsigned seed)
{
	struct smtp_dot d;

	smtp_dot_init(&d, mode, got_run, r);
	while (r->used < len && !d.done) {
		size_t n = len - r->used, used;
		char *piece;

		seed = seed > 1 ? seed * 1103515245u + 12345u : seed;
		if (seed == 1)
			n = 1;
		else if (seed > 1 && (seed >> 16) % 512 < n)
			n = (seed >> 16) % 512;
		piece = malloc(n + 1); /* so that reading across its edges is seen */
		memcpy(piece, data + r->used, n);
		piece = realloc(piece, n != 0 ? n : 1);
		used = smtp_dot_feed(&d, piece, n);
		free(piece);
		MUST(used == n || d.done);
		r->used += used;
	}
	if (mode == SMTP_DOT_CHUNK)
		smtp_dot_finish(&d);
	r->bare_lf = d.bare_lf;
	r->bare_cr = d.bare_cr;
	r->done = d.done;
}

/* The same by looking ahead in the whole text instead of by states. */
static void
model(struct result *r, enum smtp_dot_mode mode, const char *s, size_t len)
{
	bool data = mode == SMTP_DOT_DATA, behind_crlf = true;
	size_t i = 0;

	while (i < len) {
		if (data && behind_crlf && len - i >= 3 && memcmp(s + i, ".\r\n", 3) == 0) {
			r->done = true;
			r->used = i + 3;
			return;
		}
		if (data && behind_crlf && s[i] == '.') {
			behind_crlf = false;
			i++;
			continue;
		}
		behind_crlf = false;
		if (s[i] == '\r' && i + 1 == len && data)
			break;
		if (s[i] == '\n' || (s[i] == '\r' && i + 1 < len && s[i + 1] == '\n')) {
			behind_crlf = s[i] == '\r';
			r->bare_lf += s[i] == '\n';
			i += behind_crlf ? 2 : 1;
			str_add(&r->text, "\r\n");
			continue;
		}
		r->bare_cr += s[i] == '\r';
		str_addc(&r->text, s[i] == '\r' ? ' ' : s[i]);
		i++;
	}
	r->used = len;
}

static void
compare(const struct result *a, const struct result *b)
{
	MUST(a->text.len == b->text.len);
	MUST(memcmp(str_text(&a->text), str_text(&b->text), a->text.len) == 0);
	MUST(a->bare_lf == b->bare_lf && a->bare_cr == b->bare_cr);
	MUST(a->used == b->used && a->done == b->done);
}

static void
check_plain(const struct result *r)
{
	const char *t = str_text(&r->text);

	for (size_t i = 0; i < r->text.len; i++) {
		bool is_begin = i == 0 || t[i - 1] == '\n';

		MUST(t[i] != '\r' || t[i + 1] == '\n');
		MUST(t[i] != '\n' || (i > 0 && t[i - 1] == '\r'));
		MUST(r->marks.data[i] == (is_begin && t[i] == '.' ? '1' : '0'));
	}
}

static void
result_deinit(struct result *r)
{
	str_deinit(&r->text);
	str_deinit(&r->marks);
}

/* What came out, stuffed anew by its marks, must come out of DATA again, and nothing odd with it.
 */
static void
check_round_trip(const struct result *r)
{
	struct result again = {0};
	struct str wire = STR_INIT;
	size_t len = r->text.len;
	bool is_open = len > 0 && r->text.data[len - 1] != '\n';

	for (size_t i = 0; i < len; i++) {
		if (r->marks.data[i] == '1')
			str_addc(&wire, '.');
		str_addc(&wire, r->text.data[i]);
	}
	str_add(&wire, is_open ? "\r\n.\r\n" : ".\r\n");
	run(&again, SMTP_DOT_DATA, wire.data, wire.len, 0);
	MUST(again.done && again.used == wire.len);
	MUST(again.bare_lf == 0 && again.bare_cr == 0);
	MUST(again.text.len == len + (is_open ? 2 : 0));
	MUST(memcmp(str_text(&again.text), str_text(&r->text), len) == 0);
	str_deinit(&wire);
	result_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* First octet: mode and how often the content is repeated (blocks are large); second: the splits.
 */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum smtp_dot_mode mode;
	struct str text = STR_INIT;
	struct result want = {0};
	unsigned seeds[3] = {0, 1, 2};

	if (size < 2)
		return 0;
	mode = data[0] & 1 ? SMTP_DOT_CHUNK : SMTP_DOT_DATA;
	seeds[2] += data[1];
	for (int i = 0; i <= data[0] >> 3 && text.len < 20000; i++)
		str_addn(&text, data + 2, size - 2);
	model(&want, mode, str_text(&text), text.len);
	for (int i = 0; i < 3; i++) {
		struct result got = {0};

		run(&got, mode, str_text(&text), text.len, seeds[i]);
		compare(&got, &want);
		check_plain(&got);
		if (i == 0)
			check_round_trip(&got);
		result_deinit(&got);
	}
	result_deinit(&want);
	str_deinit(&text);
	return 0;
}
