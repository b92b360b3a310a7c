/* smtp/dot.c - DATA content from the wire: end of data, dots, line ends; and BDAT chunks. */
#include "smtp/dot.h"

#include <assert.h>
#include <string.h>

enum dot_state {
	IN_LINE,
	AT_BEGIN,     /* behind a CRLF of DATA: a dot is stuffing, or the end */
	AT_PLAIN,     /* line begin where a dot is content: bare LF, chunk */
	AFTER_DOT,    /* a leading dot was taken out */
	AFTER_DOT_CR, /* and a CR came: a LF is the end */
	AFTER_CR,     /* a CR whose meaning depends on the next octet */
};

/* Input is judged block by block, so that one odd octet does not slow down a whole input. One more
 * than a multiple of STRIDE, because pairs of neighbours are compared. */
enum { STRIDE = 128, BLOCK = 64 * STRIDE + 1 };

/* The run that is growing: [from, here) of the input. A run never spans two inputs. */
struct feed {
	struct smtp_dot *d;
	const char *from;
	bool dot_line;
};

static int
line_begin(const struct smtp_dot *d)
{
	return d->mode == SMTP_DOT_DATA ? AT_BEGIN : AT_PLAIN;
}

void
smtp_dot_init(struct smtp_dot *d, enum smtp_dot_mode mode, smtp_dot_cb run, void *owner)
{
	*d = (struct smtp_dot){.mode = mode, .run = run, .owner = owner};
	d->state = line_begin(d);
}

static void
emit(struct smtp_dot *d, const char *text, size_t len)
{
	d->run(d->owner, text, len, false);
}

/* Passes on what has grown up to here; the next run begins at next. */
static void
flush(struct feed *f, const char *here, const char *next)
{
	if (here > f->from)
		f->d->run(f->d->owner, f->from, (size_t)(here - f->from), f->dot_line);
	f->from = next;
	f->dot_line = false;
}

/*
 * The octet behind a CR has come. A CR of this input lies in the growing run, or (behind a dot)
 * just before it is let in; a CR of an earlier input was held back and is not there.
 */
static void
behind_cr(struct feed *f, const char *p)
{
	struct smtp_dot *d = f->d;

	if (*p == '\n' && d->state == AFTER_DOT_CR) {
		d->done = true;
		f->from = p + 1;
		return;
	}
	if (*p == '\n') {
		if (p == f->from)
			emit(d, "\r", 1);
		d->state = line_begin(d);
		return;
	}
	flush(f, p > f->from ? p - 1 : p, p);
	emit(d, " ", 1);
	d->bare_cr++;
	d->state = IN_LINE;
}

static void
bare_lf(struct feed *f, const char *p)
{
	flush(f, p, p + 1);
	emit(f->d, "\r\n", 2);
	f->d->bare_lf++;
	f->d->state = AT_PLAIN;
}

/* A dot at the begin of a line. */
static void
first_dot(struct feed *f, const char *p)
{
	struct smtp_dot *d = f->d;

	if (d->state == AT_BEGIN) {
		flush(f, p, p + 1);
		d->state = AFTER_DOT;
		return;
	}
	flush(f, p, p);
	f->dot_line = true;
	d->state = IN_LINE;
}

/* One octet, in any state: the whole truth. The others only go faster over what is ordinary. */
static void
step(struct feed *f, const char *p)
{
	struct smtp_dot *d = f->d;

	if (d->state == AFTER_CR || d->state == AFTER_DOT_CR) {
		behind_cr(f, p);
		if (*p == '\n')
			return;
	}
	if (*p == '\r') {
		d->state = d->state == AFTER_DOT ? AFTER_DOT_CR : AFTER_CR;
	} else if (*p == '\n') {
		bare_lf(f, p);
	} else if (*p == '.' && d->state != IN_LINE) {
		first_dot(f, p);
	} else {
		d->state = IN_LINE;
	}
}

/* What a block holds that cannot be skipped at once. */
enum {
	ODD_PAIR = 1, /* a CR without LF behind it, or anything else with a LF behind it */
	DOT_LINE = 2, /* a dot behind a LF */
};

/* Of STRIDE octets, each with its neighbour. Without an exit, and with a fixed count, it becomes a few vector
 * instructions. */
static unsigned
judge_stride(const char *p)
{
	unsigned char odd = 0, dot = 0;

	for (size_t i = 0; i < STRIDE; i++) {
		odd |= (unsigned char)((p[i] == '\r') ^ (p[i + 1] == '\n'));
		dot |= (unsigned char)((p[i] == '\n') & (p[i + 1] == '.'));
	}
	return (odd != 0 ? ODD_PAIR : 0) | (dot != 0 ? DOT_LINE : 0);
}

/* What lies across the edges is not judged. */
static unsigned
judge(const char *p, size_t len)
{
	unsigned what = 0;

	for (; len > STRIDE && !(what & ODD_PAIR); p += STRIDE, len -= STRIDE)
		what |= judge_stride(p);
	for (; len > 1; p++, len--) {
		if ((p[0] == '\r') != (p[1] == '\n'))
			what |= ODD_PAIR;
		if (p[0] == '\n' && p[1] == '.')
			what |= DOT_LINE;
	}
	return what;
}

/*
 * Goes over lines of a block that has only pairs, beginning inside a line at an octet that is
 * neither CR nor LF. Stops at a dot that begins a line (if there may be one), at a CR that ends the
 * block, or at the block's end.
 */
static const char *
skip_lines(struct smtp_dot *d, const char *p, const char *end, bool has_dots)
{
	const char *lf = has_dots ? p : NULL;

	while (lf != NULL && (lf = memchr(lf, '\n', (size_t)(end - lf))) != NULL)
		if (++lf < end && *lf == '.') {
			d->state = line_begin(d);
			return lf;
		}
	if (end[-1] == '\r')
		end--;
	d->state = end[-1] == '\n' ? line_begin(d) : IN_LINE;
	return end;
}

static const char *
feed_block(struct feed *f, const char *p, const char *end)
{
	struct smtp_dot *d = f->d;
	unsigned what = judge(p, (size_t)(end - p));

	while (p < end && !d->done) {
		if (!(what & ODD_PAIR) && d->state == IN_LINE && *p != '\r' && *p != '\n')
			p = skip_lines(d, p, end, what & DOT_LINE);
		else
			step(f, p++);
	}
	return p;
}

size_t
smtp_dot_feed(struct smtp_dot *d, const char *data, size_t len)
{
	struct feed f = {.d = d, .from = data};
	const char *p = data, *end = data + len;
	bool is_held;

	if (len == 0)
		return 0;
	while (p < end && !d->done)
		p = feed_block(&f, p, (size_t)(end - p) > BLOCK ? p + BLOCK : end);
	is_held = (d->state == AFTER_CR || d->state == AFTER_DOT_CR) && !d->done;
	flush(&f, is_held && p > f.from ? p - 1 : p, p);
	return (size_t)(p - data);
}

void
smtp_dot_finish(struct smtp_dot *d)
{
	assert(d->mode == SMTP_DOT_CHUNK);
	if (d->state != AFTER_CR)
		return;
	emit(d, " ", 1);
	d->bare_cr++;
	d->state = IN_LINE;
}
