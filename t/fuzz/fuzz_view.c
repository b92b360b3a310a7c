/*
 * t/fuzz/fuzz_view.c - what comes in is what goes out: decoder, spool and view, there and back
 * again.
 *
 * The first octets choose splits, memory or file, and how often the rest is repeated; the rest
 * comes in as BDAT would bring it. The wire form must be what slow and simple stuffing gives, and
 * the decoder must make the same content of it again.
 */
#include <stdint.h>
#include <stdlib.h>

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
check_view(const struct mail_body *b, const struct str *plain, uint32_t seed)
{
	struct str got = STR_INIT, wire = STR_INIT, model = STR_INIT;

	CHECK(b->size == (int64_t)plain->len && mail_view_size(b, NULL) == b->size);
	CHECK(content_view(&got, b, NULL, MAIL_VIEW_PLAIN));
	CHECK(got.len == plain->len);
	CHECK(got.len == 0 || memcmp(got.data, plain->data, got.len) == 0);

	CHECK(content_view(&wire, b, NULL, MAIL_VIEW_WIRE));
	content_stuff(&model, plain->data, plain->len);
	CHECK(wire.len == model.len);
	CHECK(wire.len == 0 || memcmp(wire.data, model.data, wire.len) == 0);
	check_back(plain, &wire, seed);
	str_deinit(&got);
	str_deinit(&wire);
	str_deinit(&model);
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
	check_view(&body, &sink.plain, seed);

	spool_writer_deinit(&w);
	CHECK(worker.inline_used == 0);
	mail_body_deinit(&body);
	str_deinit(&sink.plain);
	return 0;
}
