/*
 * mail/body.c - the octets of one message: chunks in memory or a file, and where dot lines begin.
 */
#include "mail/body.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/xalloc.h"

/* With the chunk's head, so that malloc gets round numbers. The first holds an average mail. */
#define CHUNK_MIN  (8 * 1024 - sizeof(struct mail_chunk))
#define CHUNK_MAX  (16 * 1024 - sizeof(struct mail_chunk))
#define DOTS_FIRST 16

void
mail_body_init(struct mail_body *b)
{
	memset(b, 0, sizeof(*b));
	STAILQ_INIT(&b->chunks);
	b->fd = -1;
	b->ends_in_crlf = true;
}

void
mail_body_free_chunks(struct mail_body *b)
{
	struct mail_chunk *chunk, *next;

	STAILQ_FOREACH_SAFE(chunk, &b->chunks, next, next)
	free(chunk);
	STAILQ_INIT(&b->chunks);
	b->filling = NULL;
}

void
mail_body_deinit(struct mail_body *b)
{
	mail_body_free_chunks(b);
	free(b->dots);
	if (b->fd >= 0)
		close(b->fd);
	mail_body_init(b);
}

static struct mail_chunk *
add_chunk(struct mail_body *b)
{
	size_t size = b->filling == NULL ? CHUNK_MIN : CHUNK_MAX;
	struct mail_chunk *chunk = xmalloc(sizeof(*chunk) + size);

	chunk->len = 0;
	chunk->size = size;
	STAILQ_INSERT_TAIL(&b->chunks, chunk, next);
	b->filling = chunk;
	return chunk;
}

void
mail_body_keep(struct mail_body *b, const char *data, size_t len)
{
	while (len > 0) {
		struct mail_chunk *chunk = b->filling;
		size_t part;

		if (chunk == NULL || chunk->len == chunk->size)
			chunk = add_chunk(b);
		part = chunk->size - chunk->len;
		if (part > len)
			part = len;
		memcpy(chunk->data + chunk->len, data, part);
		chunk->len += part;
		data += part;
		len -= part;
	}
}

static void
note_dot(struct mail_body *b)
{
	if (b->dots_unknown)
		return;
	if (b->dot_count == MAIL_BODY_DOTS_MAX) {
		free(b->dots);
		b->dots = NULL;
		b->dot_count = b->dot_size = 0;
		b->dots_unknown = true;
		return;
	}
	if (b->dot_count == b->dot_size) {
		b->dot_size = b->dot_size == 0 ? DOTS_FIRST : 2 * b->dot_size;
		b->dots = xrealloc(b->dots, b->dot_size * sizeof(*b->dots));
	}
	b->dots[b->dot_count++] = b->size;
}

void
mail_body_note(struct mail_body *b, const char *data, size_t len, bool dot_line)
{
	bool cr_before;

	if (len == 0)
		return;
	if (dot_line) {
		assert(data[0] == '.' && b->ends_in_crlf);
		note_dot(b);
	}
	cr_before = len > 1 ? data[len - 2] == '\r' : b->ends_in_cr;
	b->ends_in_crlf = data[len - 1] == '\n' && cr_before;
	b->ends_in_cr = data[len - 1] == '\r';
	b->size += len;
}

static ssize_t
read_chunks(const struct mail_body *b, int64_t off, char *dst, size_t len)
{
	const struct mail_chunk *chunk;
	size_t skip = off, done = 0;

	STAILQ_FOREACH(chunk, &b->chunks, next)
	{
		size_t part;

		if (skip >= chunk->len) {
			skip -= chunk->len;
			continue;
		}
		if (done == len)
			break;
		part = chunk->len - skip;
		if (part > len - done)
			part = len - done;
		memcpy(dst + done, chunk->data + skip, part);
		done += part;
		skip = 0;
	}
	return done;
}

static ssize_t
read_file(int fd, int64_t off, char *dst, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, dst + done, len - done, off + done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		done += n;
	}
	return done;
}

ssize_t
mail_body_read(const struct mail_body *b, int64_t off, void *dst, size_t len)
{
	if (off >= b->size)
		return 0;
	if (len > (uint64_t)(b->size - off))
		len = b->size - off;
	if (b->fd < 0)
		return read_chunks(b, off, dst, len);
	return read_file(b->fd, off, dst, len);
}
