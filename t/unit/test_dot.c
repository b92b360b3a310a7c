/* t/unit/test_dot.c - the end of data, dots and line ends, at every split. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "smtp/dot.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* What came out. marks has a '1' for each octet of text that began a run as a dot line. */
struct sink {
	struct str text, marks;
	unsigned runs;
};

static void
got_run(void *owner, const char *data, size_t len, bool dot_line)
{
	struct sink *sink = owner;

	assert_true(len > 0);
	assert_true(!dot_line || data[0] == '.');
	sink->runs++;
	for (size_t i = 0; i < len; i++)
		str_addc(&sink->marks, dot_line && i == 0 ? '1' : '0');
	str_addn(&sink->text, data, len);
}

static void
sink_deinit(struct sink *sink)
{
	str_deinit(&sink->text);
	str_deinit(&sink->marks);
}

/* No bare CR or LF comes out, and each dot that begins a line is marked, and nothing else. */
static void
check_plain(const struct sink *sink)
{
	const char *t = str_text(&sink->text);

	for (size_t i = 0; i < sink->text.len; i++) {
		bool is_begin = i == 0 || t[i - 1] == '\n';

		if (t[i] == '\r')
			assert_int_equal(t[i + 1], '\n');
		if (t[i] == '\n')
			assert_true(i > 0 && t[i - 1] == '\r');
		assert_int_equal(sink->marks.data[i], is_begin && t[i] == '.' ? '1' : '0');
	}
}

/* Feeds in pieces of at most step octets, the first one of at most first. */
static size_t
feed(struct smtp_dot *d, const char *data, size_t len, size_t first, size_t step)
{
	size_t pos = 0, piece = first;

	while (pos < len && !d->done) {
		size_t n = piece < len - pos ? piece : len - pos;
		size_t used = smtp_dot_feed(d, data + pos, n);

		assert_true(used == n || d->done);
		pos += used;
		piece = step;
	}
	return pos;
}

struct dot_case {
	const char *what, *in, *want;
	const char *rest; /* NULL: the end is not found */
	unsigned lf, cr;
};

static const struct dot_case data_cases[] = {
	{"ordinary", "a\r\nbc\r\n.\r\nQUIT\r\n", "a\r\nbc\r\n", "QUIT\r\n", 0, 0},
	{"empty message", ".\r\nX", "", "X", 0, 0},
	{"empty line", "\r\n.\r\n", "\r\n", "", 0, 0},
	{"no end", "a\r\n", "a\r\n", NULL, 0, 0},
	{"stuffed dot", "..\r\n..a\r\n.b\r\n.\r\n", ".\r\n.a\r\nb\r\n", "", 0, 0},
	{"three dots", "a\r\n...\r\n.\r\n", "a\r\n..\r\n", "", 0, 0},
	{"dot within a line", "a.\r\n.\r\n", "a.\r\n", "", 0, 0},
	{"only the first end counts", "a\r\n.\r\n.\r\n", "a\r\n", ".\r\n", 0, 0},
	{"LF . LF is no end", "a\n.\nb", "a\r\n.\r\nb", NULL, 2, 0},
	{"LF . CRLF is no end", "a\n.\r\nb", "a\r\n.\r\nb", NULL, 1, 0},
	{"CRLF . LF is no end", "a\r\n.\nb", "a\r\n\r\nb", NULL, 1, 0},
	{"CRLF . LF . CRLF is no end", "a\r\n.\n.\r\nb", "a\r\n\r\n.\r\nb", NULL, 1, 0},
	{"CR . CR is no end", "a\r.\rb", "a . b", NULL, 0, 2},
	{"CR . CRLF is no end", "a\r.\r\nb", "a .\r\nb", NULL, 0, 1},
	{"CRLF . CR is no end", "a\r\n.\rb", "a\r\n b", NULL, 0, 1},
	{"CRLF . CR CR LF is no end", "a\r\n.\r\r\nb", "a\r\n \r\nb", NULL, 0, 1},
	{"LF at the start and a dot", "\n.\r\nb", "\r\n.\r\nb", NULL, 1, 0},
	{"first line . LF", ".\n.\r\nb", "\r\n.\r\nb", NULL, 1, 0},
	{"CR CRLF . CRLF ends", "\r\r\n.\r\nX", " \r\n", "X", 0, 1},
	{"CR CR LF", "a\r\r\n.\r\n", "a \r\n", "", 0, 1},
	{"LF CR LF", "a\n\r\n.\r\n", "a\r\n\r\n", "", 1, 0},
	{"CRLF LF . CRLF is no end", "a\r\n\n.\r\nb", "a\r\n\r\n.\r\nb", NULL, 1, 0},
	{"dot line behind a bare LF keeps both dots", "a\n..\r\n", "a\r\n..\r\n", NULL, 1, 0},
	{"8-bit octets", "\xff\x80\xc3\r\n.\r\n", "\xff\x80\xc3\r\n", "", 0, 0},
};

static const struct dot_case chunk_cases[] = {
	{"dots are content", "..\r\n.\r\n..a", "..\r\n.\r\n..a", NULL, 0, 0},
	{"bare LF", "a\nb\n.\n", "a\r\nb\r\n.\r\n", NULL, 3, 0},
	{"bare CR", "a\rb\r\r\n", "a b \r\n", NULL, 0, 2},
	{"CR at the very end", "ab\r", "ab ", NULL, 0, 1},
	{"CR alone", "\r", " ", NULL, 0, 1},
	{"nothing", "", "", NULL, 0, 0},
};

static void
check_split(const struct dot_case *c, enum smtp_dot_mode mode, size_t first, size_t step)
{
	struct sink sink = {0};
	struct smtp_dot d;
	size_t len = strlen(c->in), used;

	smtp_dot_init(&d, mode, got_run, &sink);
	used = feed(&d, c->in, len, first, step);
	if (mode == SMTP_DOT_CHUNK)
		smtp_dot_finish(&d);
	if (strcmp(str_text(&sink.text), c->want) != 0)
		print_error("%s, split at %zu\n", c->what, first);
	assert_string_equal(str_text(&sink.text), c->want);
	assert_int_equal(d.done, c->rest != NULL);
	assert_string_equal(c->in + used, c->rest != NULL ? c->rest : "");
	assert_int_equal(d.bare_lf, c->lf);
	assert_int_equal(d.bare_cr, c->cr);
	check_plain(&sink);
	sink_deinit(&sink);
}

static void
check_cases(const struct dot_case *cases, size_t count, enum smtp_dot_mode mode)
{
	for (size_t i = 0; i < count; i++) {
		size_t len = strlen(cases[i].in);

		for (size_t first = 1; first <= len + 1; first++)
			check_split(&cases[i], mode, first, len + 1);
		check_split(&cases[i], mode, 1, 1);
	}
}

static void
only_crlf_dot_crlf_ends_data(void **state)
{
	(void)state;
	check_cases(data_cases, COUNT(data_cases), SMTP_DOT_DATA);
}

static void
a_chunk_has_neither_end_nor_stuffing(void **state)
{
	(void)state;
	check_cases(chunk_cases, COUNT(chunk_cases), SMTP_DOT_CHUNK);
}

static void
nul_passes_unchanged(void **state)
{
	struct sink sink = {0};
	struct smtp_dot d;

	(void)state;
	smtp_dot_init(&d, SMTP_DOT_DATA, got_run, &sink);
	assert_int_equal(smtp_dot_feed(&d, "a\0b\r\n.\r\n", 8), 8);
	assert_true(d.done);
	assert_int_equal(sink.text.len, 5);
	assert_memory_equal(sink.text.data, "a\0b\r\n", 5);
	sink_deinit(&sink);
}

static void
nothing_is_taken_behind_the_end(void **state)
{
	struct sink sink = {0};
	struct smtp_dot d;

	(void)state;
	smtp_dot_init(&d, SMTP_DOT_DATA, got_run, &sink);
	assert_int_equal(smtp_dot_feed(&d, ".\r\nab", 5), 3);
	assert_int_equal(smtp_dot_feed(&d, "ab", 2), 0);
	assert_int_equal(sink.runs, 0);
	sink_deinit(&sink);
}

/* Lines of 76 octets; every nth begins with a dot that is stuffed. 0: none does. */
static char *
ordinary_mail(size_t len, size_t nth)
{
	char *mail = malloc(len);

	assert_non_null(mail);
	for (size_t i = 0; i < len; i++) {
		size_t line = i / 78, column = i % 78;
		bool has_dot = nth != 0 && line % nth == nth - 1 && column < 2;

		mail[i] = column == 76 ? '\r' : column == 77 ? '\n' : has_dot ? '.' : 'x';
	}
	return mail;
}

static void
an_ordinary_input_is_one_run(void **state)
{
	static const size_t lengths[] = {64 * 1024, 64 * 1024 - 7, 8193, 8192, 129, 128, 127, 5};
	char *mail = ordinary_mail(64 * 1024, 0);

	(void)state;
	for (size_t i = 0; i < COUNT(lengths); i++) {
		struct sink sink = {0};
		struct smtp_dot d;

		smtp_dot_init(&d, SMTP_DOT_DATA, got_run, &sink);
		assert_int_equal(smtp_dot_feed(&d, mail, lengths[i]), lengths[i]);
		assert_int_equal(sink.runs, 1);
		sink_deinit(&sink);
	}
	free(mail);
}

static void
a_run_is_split_only_at_dot_lines(void **state)
{
	size_t len = 78 * 800;
	char *mail = ordinary_mail(len, 80);
	struct sink sink = {0};
	struct smtp_dot d;

	(void)state;
	smtp_dot_init(&d, SMTP_DOT_DATA, got_run, &sink);
	assert_int_equal(smtp_dot_feed(&d, mail, len), len);
	assert_int_equal(sink.runs, 11);
	assert_int_equal(sink.text.len, len - 10);
	check_plain(&sink);
	sink_deinit(&sink);
	free(mail);
}

/* Text that is mostly ordinary, with odd line ends and dots in some blocks. */
static void
fill_mixed(char *text, size_t len, unsigned seed)
{
	static const char *const words[] = {
		"\r\n",
		"\r\n.",
		"\n",
		"\r",
		".",
		"\r\n..",
		"\r\r\n",
		"\n.",
		".\r",
	};
	size_t i = 0;

	memset(text, 'x', len);
	while (i + 4 < len) {
		unsigned n = (unsigned)(seed = seed * 1103515245u + 12345u) >> 16;
		const char *word = words[n % (i / 3000 % 2 ? COUNT(words) : 2)];

		memcpy(text + i, word, strlen(word));
		i += strlen(word) + n / 16 % 90;
	}
}

static void
the_split_never_changes_the_content(void **state)
{
	static char text[30000];
	static const size_t steps[] = {1, 2, 3, 64, 127, 129, 8192, 8193, 8194};

	(void)state;
	for (unsigned seed = 1; seed < 40; seed++) {
		struct sink whole = {0};
		struct smtp_dot d;
		enum smtp_dot_mode mode = seed % 2 ? SMTP_DOT_DATA : SMTP_DOT_CHUNK;
		size_t used, len = sizeof(text) - seed;

		fill_mixed(text, len, seed);
		smtp_dot_init(&d, mode, got_run, &whole);
		used = feed(&d, text, len, len, len);
		check_plain(&whole);
		for (size_t i = 0; i < COUNT(steps); i++) {
			struct sink parts = {0};
			struct smtp_dot e;

			smtp_dot_init(&e, mode, got_run, &parts);
			assert_int_equal(feed(&e, text, len, steps[i], steps[i]), used);
			assert_int_equal(parts.text.len, whole.text.len);
			assert_memory_equal(parts.text.data, whole.text.data, whole.text.len);
			assert_memory_equal(parts.marks.data, whole.marks.data, whole.marks.len);
			assert_int_equal(e.bare_cr, d.bare_cr);
			assert_int_equal(e.bare_lf, d.bare_lf);
			assert_int_equal(e.done, d.done);
			sink_deinit(&parts);
		}
		sink_deinit(&whole);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_crlf_dot_crlf_ends_data),
		cmocka_unit_test(a_chunk_has_neither_end_nor_stuffing),
		cmocka_unit_test(nul_passes_unchanged),
		cmocka_unit_test(nothing_is_taken_behind_the_end),
		cmocka_unit_test(an_ordinary_input_is_one_run),
		cmocka_unit_test(a_run_is_split_only_at_dot_lines),
		cmocka_unit_test(the_split_never_changes_the_content),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
