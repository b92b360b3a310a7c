/*
 * filters/new_body.c - content that a filter makes: line ends, spool, and an end that always comes.
 */
#include "filters/new_body.h"

#include <inttypes.h>

#include "smtp/dot.h"
#include "spool/file.h"

/* In the message's arena, which lets go of the content however the message ends. */
struct new_body {
	struct filter_run *run;
	enum new_body_kind kind;
	int64_t max;
	struct smtp_dot dot; /* what comes in is as a chunk of BDAT: any octets */
	struct mail_body body;
	struct spool_writer writer;
	bool is_too_large;
	bool is_gone;
};

/* Also of content that was an edit and is not read any more: then its file can be used again. */
static void
let_go(void *new_body)
{
	struct new_body *b = new_body;

	if (b->is_gone)
		return;
	b->is_gone = true;
	spool_writer_reuse(&b->writer);
	spool_writer_deinit(&b->writer);
	mail_body_deinit(&b->body);
}

static void
keep(void *owner, const char *data, size_t len, bool dot_line)
{
	struct new_body *b = owner;

	b->is_too_large = b->is_too_large || (int64_t)len > b->max - b->body.size;
	if (!b->is_too_large)
		spool_append(&b->writer, data, len, dot_line);
}

struct new_body *
new_body_begin(struct filter_run *run, enum new_body_kind kind, int64_t max)
{
	struct new_body *b = arena_zalloc(run->arena, sizeof(*b));

	b->run = run;
	b->kind = kind;
	b->max = max;
	mail_body_init(&b->body);
	spool_writer_init(&b->writer, run->spool, run->env->spool, &b->body);
	smtp_dot_init(&b->dot, SMTP_DOT_CHUNK, keep, b);
	arena_defer(run->arena, let_go, b);
	return b;
}

static bool
has_8bit(const char *data, size_t len)
{
	unsigned char all = 0;

	for (size_t i = 0; i < len; i++)
		all |= (unsigned char)data[i];
	return all > 127;
}

void
new_body_write(struct new_body *b, const char *data, size_t len)
{
	if (b->is_too_large)
		return;
	b->body.has_8bit = b->body.has_8bit || has_8bit(data, len);
	smtp_dot_feed(&b->dot, data, len);
}

static int
complete(struct new_body *b, struct err *err)
{
	smtp_dot_finish(&b->dot);
	if (b->is_too_large)
		return err_set(err, "the new content is larger than %" PRId64 " octets", b->max);
	if (b->kind == NEW_MESSAGE && b->body.size == 0)
		return err_set(err, "it is empty");
	return spool_finish(&b->writer, err);
}

int
new_body_end(struct new_body **b_p, struct err *err)
{
	struct new_body *b = *b_p;

	if (complete(b, err) < 0) {
		new_body_cancel(b_p);
		return -1;
	}
	*b_p = NULL;
	if (b->kind == NEW_BODY)
		mail_edit_body(b->run->edits, &b->body);
	else
		mail_edit_message(b->run->edits, &b->body);
	return 0;
}

void
new_body_cancel(struct new_body **b)
{
	if (*b != NULL)
		let_go(*b);
	*b = NULL;
}
