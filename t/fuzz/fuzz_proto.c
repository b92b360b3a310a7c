/*
 * t/fuzz/fuzz_proto.c - what helpers and the spawner send. First octet: which decoder.
 *
 * What is accepted has one encoding: encoding it again gives the same octets.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/arena.h"
#include "mail/edit.h"
#include "work/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
try_done(const struct work_frame *frame)
{
	struct work_done done, again;
	struct work_frame frame2;
	struct str out = STR_INIT;
	struct err err;

	if (work_done_decode(frame, &done, &err) == 0) {
		assert(strpbrk(done.text, "\r\n") == NULL);
		assert(done.code == 0 || (done.code >= 400 && done.code < 600));
		assert(work_done_encode(&out, frame->job, &done, &err) == 0);
		assert(work_frame_decode(out.data, out.len, &frame2, &err) == (ssize_t)out.len);
		assert(work_done_decode(&frame2, &again, &err) == 0);
		assert(memcmp(&done, &again, sizeof(done)) == 0);
	}
	str_deinit(&out);
}

/* mail_edit_prepend() asserts what we promise. */
static void
try_edit(const struct work_frame *frame)
{
	const struct work_word *w = &frame->words[1];
	struct arena *arena = arena_new();
	struct mail_edits edits;

	mail_edits_init(&edits, arena);
	if (work_header_valid(w->data, w->len))
		mail_edit_prepend(&edits, arena_strndup(arena, w->data, w->len));
	arena_free(&arena);
}

static void
try_frames(const char *data, size_t len)
{
	struct work_frame frame;
	struct err err;
	ssize_t n;

	while ((n = work_frame_decode(data, len, &frame, &err)) > 0) {
		struct str out = STR_INIT;

		assert((size_t)n <= len && n <= WORK_FRAME_MAX && frame.count <= WORK_WORDS_MAX);
		assert(work_frame_encode(&out, &frame, &err) == 0);
		assert(out.len == (size_t)n && memcmp(out.data, data, out.len) == 0);
		str_deinit(&out);
		if (frame.type == WORK_DONE)
			try_done(&frame);
		if (frame.type == WORK_EDIT)
			try_edit(&frame);
		data += n;
		len -= (size_t)n;
	}
}

static void
try_message(const char *data, size_t len)
{
	static struct work_message msg;
	struct str out = STR_INIT;
	struct err err;

	if (len <= WORK_MESSAGE_MAX && work_message_decode(data, len, &msg, &err) == 0) {
		assert(work_message_encode(&out, &msg, &err) == 0);
		assert(out.len == len && memcmp(out.data, data, len) == 0);
	}
	str_deinit(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (data[0] % 2 == 0)
		try_frames((const char *)data + 1, size - 1);
	else
		try_message((const char *)data + 1, size - 1);
	return 0;
}
