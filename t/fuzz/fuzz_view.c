/*
 * t/fuzz/fuzz_view.c - what comes in is what goes out: decoder, spool and view, there and back
 * again.
 *
 * The first octets choose splits, memory or file, and how often the rest is repeated; the rest
 * comes in as BDAT would bring it. The wire form must be what slow and simple stuffing gives, and
 * the decoder must make the same content of it again. Edits of the header change what they name and
 * no other octet. Last, a filter puts the same octets in the place of the body, or of the message.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "filters/new_body.h"
#include "mail/header.h"
#include "smtp/dot.h"
#include "t/unit/content.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x))                                                                          \
			abort();                                                                   \
	} while (0)

/* Where decoded runs go: a plain copy always, a spool writer at first. */
struct sink {
	struct str plain;
	struct spool_writer *w;
};

static void
got_run(void *owner, const char *data, size_t len, bool dot_line)
{
	struct sink *sink = owner;

	str_addn(&sink->plain, data, len);
	if (sink->w != NULL)
		spool_append(sink->w, data, len, dot_line);
}

/* Feeds in parts of pseudo-random size. Returns what was taken. */
static size_t
feed(struct smtp_dot *d, const char *data, size_t len, uint32_t seed)
{
	size_t taken = 0;

	while (taken < len && !d->done) {
		size_t part;

		seed = seed * 1664525 + 1013904223;
		part = 1 + (seed >> 16) % (seed & 0x1000 ? 7 : 70000);
		if (part > len - taken)
			part = len - taken;
		taken += smtp_dot_feed(d, data + taken, part);
	}
	return taken;
}

/* The wire form, a dot and a command behind it, through the decoder of DATA. */
static void
check_back(const struct str *plain, const struct str *wire, uint32_t seed)
{
	struct sink sink = {.plain = STR_INIT};
	struct str input = STR_INIT;
	struct smtp_dot d;

	str_addn(&input, wire->data, wire->len);
	str_add(&input, ".\r\nQUIT\r\n");
	smtp_dot_init(&d, SMTP_DOT_DATA, got_run, &sink);
	CHECK(feed(&d, input.data, input.len, seed) == wire->len + 3);
	CHECK(d.done && d.bare_lf == 0 && d.bare_cr == 0);
	CHECK(sink.plain.len >= plain->len && sink.plain.len <= plain->len + 2);
	CHECK(plain->len == 0 || memcmp(sink.plain.data, plain->data, plain->len) == 0);
	if (sink.plain.len > plain->len)
		CHECK(strcmp(sink.plain.data + plain->len, "\r\n") == 0);
	str_deinit(&sink.plain);
	str_deinit(&input);
}

static void
check_view(const struct mail_body *b, const struct mail_edits *version, const struct str *plain, uint32_t seed)
{
	struct str got = STR_INIT, wire = STR_INIT, model = STR_INIT;

	CHECK(mail_view_size(b, version) == (int64_t)plain->len);
	CHECK(content_view(&got, b, version, MAIL_VIEW_PLAIN));
	CHECK(got.len == plain->len);
	CHECK(got.len == 0 || memcmp(got.data, plain->data, got.len) == 0);

	CHECK(content_view(&wire, b, version, MAIL_VIEW_WIRE));
	content_stuff(&model, plain->data, plain->len);
	CHECK(wire.len == model.len);
	CHECK(wire.len == 0 || memcmp(wire.data, model.data, wire.len) == 0);
	check_back(plain, &wire, seed);
	str_deinit(&got);
	str_deinit(&wire);
	str_deinit(&model);
}

/* Is `after` what `before` is, with text in place of some octets (cut: of any number, else of none)? */
static bool
is_replaced(const struct str *before, const struct str *after, const char *text, bool cut)
{
	size_t len = strlen(text), same = 0;

	while (same < before->len && same < after->len && before->data[same] == after->data[same])
		same++;
	for (size_t at = same + 1; at-- > 0;) {
		size_t rest = after->len - at - len;

		if (at + len > after->len || memcmp(after->data + at, text, len) != 0)
			continue;
		if (cut ? at + rest > before->len : at + rest != before->len)
			continue;
		if (rest == 0 || memcmp(after->data + at + len, before->data + before->len - rest, rest) == 0)
			return true;
	}
	return false;
}

/* A field put in, perhaps behind a last line without an end, and perhaps with an empty line behind it, so that a first
 * line that begins with a blank is no fold of it. */
static bool
is_added(const struct str *before, const struct str *after, const char *name)
{
	struct str line = STR_INIT;
	bool ok;

	str_printf(&line, "\r\n%s: zz\r\n\tzz\r\n", name);
	ok = is_replaced(before, after, line.data + 2, false) || is_replaced(before, after, line.data, false);
	str_add(&line, "\r\n");
	ok = ok || is_replaced(before, after, line.data + 2, false) || is_replaced(before, after, line.data, false);
	str_deinit(&line);
	return ok;
}

static void
check_edit(const struct str *before, const struct str *after, unsigned kind, const char *name)
{
	if (kind == MAIL_EDIT_DELETE)
		CHECK(is_replaced(before, after, "", true));
	else if (kind == MAIL_EDIT_CHANGE)
		CHECK(is_replaced(before, after, " zz\r\n\tzz", true) || is_added(before, after, name));
	else
		CHECK(is_added(before, after, name));
}

/* Some edits, one on top of the other. */
static void
check_edits(const struct mail_body *b, const struct str *plain, uint32_t seed)
{
	static const char *const names[] = {"a", "Subject", "Received", ".x", "Zz"};
	static const char value[] = "zz\r\n\tzz";
	struct arena *arena = arena_new();
	const struct mail_edits *version = NULL;
	struct str before = STR_INIT;

	str_addn(&before, plain->data, plain->len);
	for (int i = 0; i < 4; i++) {
		unsigned kind = MAIL_EDIT_ADD + (seed >> 8) % 4;
		const char *name = names[(seed >> 12) % ARRAY_COUNT(names)];
		size_t index = (seed >> 20) % 4;
		struct str after = STR_INIT;
		struct mail_edits asked;

		mail_edits_init(&asked, arena);
		if (kind == MAIL_EDIT_ADD)
			mail_edit_add(&asked, name, value);
		else if (kind == MAIL_EDIT_INSERT)
			mail_edit_insert(&asked, index, name, value);
		else if (kind == MAIL_EDIT_CHANGE)
			mail_edit_change(&asked, index, name, value);
		else
			mail_edit_delete(&asked, index, name);
		version = mail_edits_apply(arena, b, version, &asked);
		if (version == NULL) {
			CHECK(errno == EMSGSIZE && b->size > MAIL_HEADER_MAX);
			break;
		}
		str_add(&after, "");
		CHECK(content_view(&after, b, version, MAIL_VIEW_PLAIN));
		check_edit(&before, &after, kind, name);
		check_view(b, version, &after, seed);
		str_deinit(&before);
		before = after;
		seed = seed * 1664525 + 1013904223;
	}
	str_deinit(&before);
	arena_free(&arena);
}

/* What filters/new_body.h promises, slowly. */
static void
normalize(struct str *out, const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i] == '\n')
			str_add(out, "\r\n");
		else if (data[i] != '\r')
			str_addc(out, data[i]);
		else if (i + 1 == len || data[i + 1] != '\n')
			str_addc(out, ' ');
	}
	str_add(out, "");
}

static bool
is_at_end(const struct str *text, const struct str *end)
{
	return text->len >= end->len && (end->len == 0 || memcmp(text->data + text->len - end->len, end->data, end->len) == 0);
}

/* In front of the new body stands what was a header, complete, and an empty line. */
static void
check_body(const struct str *before, const struct str *after, const struct str *fresh)
{
	size_t head;

	CHECK(is_at_end(after, fresh));
	head = after->len - fresh->len;
	CHECK(head >= 2 && memcmp(after->data + head - 2, "\r\n", 2) == 0);
	head -= 2;
	CHECK(head == 0 || (head >= 2 && memcmp(after->data + head - 2, "\r\n", 2) == 0));
	if (head > before->len)
		head -= 2; /* the line was cut off */
	CHECK(head <= before->len && (head == 0 || memcmp(before->data, after->data, head) == 0));
	CHECK(mail_header_end(after->data, head) == head);
}

/* In front of a new message stand Received lines, if anything. */
static void
check_message(const struct str *after, const struct str *fresh)
{
	struct mail_field field;
	size_t head, pos = 0;

	CHECK(is_at_end(after, fresh));
	head = after->len - fresh->len;
	if (head >= 2 && (fresh->data[0] == ' ' || fresh->data[0] == '\t')) {
		head -= 2; /* an empty line, so that it is no fold of them */
		CHECK(memcmp(after->data + head, "\r\n", 2) == 0);
	}
	while (pos < head) {
		size_t begin = pos;

		CHECK(mail_header_next(after->data, head, &pos, &field) && mail_field_is(&field, "Received"));
		CHECK(field.name == after->data + begin);
	}
}

static void
check_new(const struct mail_body *b, const struct str *plain, const struct spool_conf *conf, struct spool_worker *worker,
	const char *data, size_t size, uint32_t seed)
{
	struct arena *arena = arena_new();
	struct filter_env env = {.spool = worker};
	struct mail_edits asked;
	struct filter_run run = {.arena = arena, .env = &env, .spool = conf, .edits = &asked};
	enum new_body_kind kind = seed & 0x80 ? NEW_BODY : NEW_MESSAGE;
	struct new_body *made = new_body_begin(&run, kind, INT64_MAX);
	struct str fresh = STR_INIT, after = STR_INIT;
	const struct mail_edits *version;
	struct err err;

	mail_edits_init(&asked, arena);
	for (size_t part = 1 + (seed >> 16) % 9, at = 0; at < size; at += part)
		new_body_write(made, data + at, size - at < part ? size - at : part);
	if (kind == NEW_MESSAGE && size == 0) {
		CHECK(new_body_end(&made, &err) < 0);
		arena_free(&arena);
		return;
	}
	CHECK(new_body_end(&made, &err) == 0);
	normalize(&fresh, data, size);
	version = mail_edits_apply(arena, b, NULL, &asked);
	CHECK(version != NULL || (errno == EMSGSIZE && b->size > MAIL_HEADER_MAX));
	if (version != NULL) {
		str_add(&after, "");
		CHECK(content_view(&after, b, version, MAIL_VIEW_PLAIN));
		if (kind == NEW_BODY)
			check_body(plain, &after, &fresh);
		else
			check_message(&after, &fresh);
		check_view(b, version, &after, seed);
	}
	str_deinit(&fresh);
	str_deinit(&after);
	arena_free(&arena);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int64_t limits[] = {0, 100, 65536, 16 << 20};
	struct spool_conf conf = {.directory = "/dev/shm", .inline_total = 32 << 20};
	struct spool_worker worker = {0};
	struct sink sink = {.plain = STR_INIT};
	struct spool_writer w;
	struct mail_body body;
	struct smtp_dot d;
	struct err err;
	uint32_t seed;
	unsigned times;

	if (size < 2)
		return 0;
	seed = data[0] * 2654435761u + data[1];
	conf.inline_max = limits[data[0] % 4];
	times = data[1] < 240 ? 1 : 1 + 30000 / size;

	mail_body_init(&body);
	spool_writer_init(&w, &conf, &worker, &body);
	sink.w = &w;
	smtp_dot_init(&d, SMTP_DOT_CHUNK, got_run, &sink);
	for (unsigned i = 0; i < times; i++)
		feed(&d, (const char *)data + 2, size - 2, seed + i);
	smtp_dot_finish(&d);
	CHECK(spool_finish(&w, &err) == 0);
	CHECK((body.fd >= 0) == (body.size > conf.inline_max));
	CHECK(body.size == (int64_t)sink.plain.len);
	check_view(&body, NULL, &sink.plain, seed);
	check_edits(&body, &sink.plain, seed);
	check_new(&body, &sink.plain, &conf, &worker, (const char *)data + 2 + (size - 2) / 3, (size - 2) - (size - 2) / 3, seed);

	spool_writer_deinit(&w);
	CHECK(count_get(&worker.inline_used) == 0);
	mail_body_deinit(&body);
	spool_spares_close(&worker.spares);
	str_deinit(&sink.plain);
	return 0;
}
