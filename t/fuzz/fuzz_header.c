/*
 * t/fuzz/fuzz_header.c - header blocks, fields and our token in whatever is not one.
 *
 * The first octet chooses how little may be read; the rest is the message.
 */
#include <stdint.h>
#include <stdlib.h>

#include "mail/header.h"
#include "mail/trace.h"
#include "t/unit/content.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x))                                                                          \
			abort();                                                                   \
	} while (0)

static void
check_text(const struct mail_field *field, size_t max, struct arena *arena)
{
	const char *text = mail_field_text(field, max, arena);
	size_t len = strlen(text);

	CHECK(len <= max && len <= field->value_len);
	for (size_t i = 0; i < len; i++)
		CHECK((unsigned char)text[i] >= ' ' && text[i] != 127);
	CHECK(len == 0 || (text[0] != ' ' && text[len - 1] != ' '));
}

/* Fields lie within the block, in order, and never overlap. */
static void
check_fields(const char *text, size_t len, struct arena *arena)
{
	unsigned hops, passes, received = 0;
	struct mail_field field;
	const char *behind = text, *id;
	size_t pos = 0;

	while (mail_header_next(text, len, &pos, &field)) {
		CHECK(field.name >= behind && field.name_len > 0);
		CHECK(field.value > field.name + field.name_len - 1);
		behind = field.value + field.value_len;
		CHECK(pos <= len && behind <= text + pos);
		for (size_t i = 0; i < field.name_len; i++)
			CHECK(field.name[i] > ' ' && field.name[i] != ':');
		check_text(&field, 20, arena);
		check_text(&field, SIZE_MAX, arena);
		received += mail_field_is(&field, "received");
	}
	CHECK(pos == len);
	mail_trace_count(text, len, "0123456789abcdef", &hops, &passes);
	CHECK(hops == received && passes <= hops);
	id = mail_trace_top_id(text, len, arena);
	CHECK(id == NULL || (received > 0 && *id != '\0' && strlen(id) <= 64 && strpbrk(id, " \t\r\n;(<\"") == NULL));
}

static void
check_block(const struct mail_body *b, const char *message, size_t size, size_t max)
{
	struct arena *arena = arena_new();
	const char *text;
	size_t len;

	switch (mail_header_load(b, max, arena, &text, &len)) {
	case MAIL_HEADER_OK:
		CHECK(len <= max && len <= size && memcmp(text, message, len) == 0);
		CHECK(memmem(text, len, "\r\n\r\n", 4) == NULL);
		/* It ends at the empty line, at the message's end, or at text within a long one. */
		CHECK(len == size || memcmp(message + len, "\r\n", size - len < 2 ? 1 : 2) == 0 ||
			size > max);
		check_fields(text, len, arena);
		break;
	case MAIL_HEADER_TOO_LONG:
		CHECK(size > max && len == 0);
		break;
	default:
		abort();
	}
	arena_free(&arena);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct spool_conf conf = {.directory = "/dev/shm"};
	struct spool_worker worker = {0};
	const char *message = (const char *)data + 1;
	struct mail_body memory, file;
	struct spool_writer w;
	struct err err;
	size_t max;

	if (size == 0)
		return 0;
	max = data[0] < 128 ? 1024 * 1024 : data[0] - 128;
	size--;
	mail_body_init(&memory);
	content_add(&memory, NULL, message, size, SIZE_MAX);
	check_block(&memory, message, size, max);
	mail_body_deinit(&memory);

	mail_body_init(&file);
	spool_writer_init(&w, &conf, &worker, &file);
	content_add(&file, &w, message, size, SIZE_MAX);
	CHECK(spool_finish(&w, &err) == 0);
	check_block(&file, message, size, max);
	spool_writer_deinit(&w);
	mail_body_deinit(&file);
	return 0;
}
