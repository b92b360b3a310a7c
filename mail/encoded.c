/* mail/encoded.c - =?charset?Q?text?= and =?charset?B?text?= to UTF-8. */
#include "mail/encoded.h"

#include <errno.h>
#include <iconv.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"
#include "base/xalloc.h"

#define CHARSET_MAX 40
/* Conversions that are opened for one text, which can name thousands. */
#define OPEN_MAX 8
/* More than there are names of charsets. */
#define KEPT_MAX 4096
/* Octets that a new word holds: with what is around it, it has 72 of the 75 that RFC 2047 2 allows. */
#define WORD_OCTETS 45

/* Parts of the text, not NUL-terminated. */
struct word {
	const char *charset, *text;
	size_t charset_len, text_len, len;
	bool is_base64;
};

struct decoder {
	struct str out;
	struct str octets; /* of neighbouring words of one charset, not converted yet */
	char charset[CHARSET_MAX + 1];
	int opened;
};

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Is there a whole encoded word at the begin? */
static bool
parse_word(const char *s, size_t len, struct word *w)
{
	const char *end = s + len, *encoding, *stop;

	if (len < 8 || s[0] != '=' || s[1] != '?')
		return false;
	w->charset = s + 2;
	encoding = memchr(w->charset, '?', (size_t)(end - w->charset));
	if (encoding == NULL || end - encoding < 5 || encoding[2] != '?')
		return false;
	w->charset_len = (size_t)(encoding - w->charset);
	w->text = encoding + 3;
	stop = memchr(w->text, '?', (size_t)(end - w->text));
	if (stop == NULL || stop + 1 == end || stop[1] != '=' || strchr("bBqQ", encoding[1]) == NULL)
		return false;
	w->text_len = (size_t)(stop - w->text);
	w->len = (size_t)(stop + 2 - s);
	w->is_base64 = (encoding[1] | 0x20) == 'b';
	for (const char *p = w->charset; p < encoding; p++)
		if (*p <= ' ' || *p >= 127)
			return false;
	return w->charset_len > 0 && *w->charset != '*';
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void
add_quoted(struct str *out, const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		int high = s[i] == '=' && i + 2 < len ? hex_value(s[i + 1]) : -1;
		int low = high >= 0 ? hex_value(s[i + 2]) : -1;

		if (low >= 0) {
			str_addc(out, (char)(high << 4 | low));
			i += 2;
		} else {
			str_addc(out, s[i] == '_' ? ' ' : s[i]);
		}
	}
}

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int
base64_value(char c)
{
	const char *p = c != '\0' ? strchr(digits, c) : NULL;

	return p != NULL ? (int)(p - digits) : -1;
}

/* What is no digit is passed over. */
static void
add_base64(struct str *out, const char *s, size_t len)
{
	unsigned bits = 0, count = 0;

	for (size_t i = 0; i < len; i++) {
		int value = base64_value(s[i]);

		if (value < 0)
			continue;
		bits = (bits << 6 | (unsigned)value) & 0xffffff;
		count += 6;
		if (count >= 8) {
			count -= 8;
			str_addc(out, (char)(bits >> count & 0xff));
		}
	}
}

/* Some conversions keep the last character, for a mark that may follow. */
static void
convert_last(struct str *out, iconv_t how)
{
	char room[256], *dst = room;
	size_t left = sizeof(room);

	iconv(how, NULL, NULL, &dst, &left);
	str_addn(out, room, sizeof(room) - left);
}

static void
convert(struct str *out, iconv_t how, char *src, size_t len)
{
	bool is_cut = false; /* in the middle of a character */

	while (len > 0 && !is_cut) {
		char room[256], *dst = room;
		size_t left = sizeof(room);
		size_t rc = iconv(how, &src, &len, &dst, &left);

		str_addn(out, room, sizeof(room) - left);
		if (rc != (size_t)-1 || errno == E2BIG)
			continue;
		is_cut = errno == EINVAL;
		if (!is_cut) {
			str_addc(out, '?');
			src++;
			len--;
		}
	}
	convert_last(out, how);
	if (is_cut)
		str_addc(out, '?');
}

/*
 * The C library unloads a conversion when nobody has it open, and to load it again costs fifty times as much as to open
 * it, which the headers of one message may ask for tens of thousands of times. So whatever was asked for stays open
 * once, as long as the process lives.
 */
static struct {
	pthread_mutex_t lock;
	struct kept {
		char charset[CHARSET_MAX + 1];
		iconv_t how;
	} *list;
	size_t count;
} kept = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool
is_kept(const char *charset)
{
	for (size_t i = 0; i < kept.count; i++)
		if (strcasecmp(kept.list[i].charset, charset) == 0)
			return true;
	return false;
}

static void
keep_loaded(const char *charset)
{
	struct kept *k;

	pthread_mutex_lock(&kept.lock);
	if (kept.count < KEPT_MAX && !is_kept(charset)) {
		if ((kept.count & (kept.count - 1)) == 0) /* full at each power of 2 */
			kept.list = xrealloc(kept.list, (kept.count * 2 + 1) * sizeof(*kept.list));
		k = &kept.list[kept.count];
		k->how = iconv_open("UTF-8", charset);
		memcpy(k->charset, charset, strlen(charset) + 1);
		kept.count += k->how != (iconv_t)-1;
	}
	pthread_mutex_unlock(&kept.lock);
}

/* An empty name would be the locale's. */
static bool
needs_no_iconv(const char *charset)
{
	return *charset == '\0' || strcasecmp(charset, "utf-8") == 0 || strcasecmp(charset, "us-ascii") == 0;
}

/* Converts what has gathered. */
static void
flush(struct decoder *d)
{
	iconv_t how = (iconv_t)-1;

	if (d->octets.len == 0)
		return;
	if (!needs_no_iconv(d->charset) && d->opened++ < OPEN_MAX)
		how = iconv_open("UTF-8", d->charset);
	if (how == (iconv_t)-1) {
		str_addn(&d->out, d->octets.data, d->octets.len);
	} else {
		keep_loaded(d->charset);
		convert(&d->out, how, d->octets.data, d->octets.len);
		iconv_close(how);
	}
	str_clear(&d->octets);
}

static void
add_word(struct decoder *d, const struct word *w)
{
	char charset[CHARSET_MAX + 1] = "";
	const char *language = memchr(w->charset, '*', w->charset_len); /* RFC 2231 5 */
	size_t len = language != NULL ? (size_t)(language - w->charset) : w->charset_len;

	if (len <= CHARSET_MAX)
		memcpy(charset, w->charset, len);
	if (strpbrk(charset, "/,") != NULL) /* iconv_open() would take more than a name */
		charset[0] = '\0';
	if (strcasecmp(charset, d->charset) != 0)
		flush(d);
	memcpy(d->charset, charset, sizeof(charset));
	(w->is_base64 ? add_base64 : add_quoted)(&d->octets, w->text, w->text_len);
}

char *
mail_decode(const char *text, size_t len, struct arena *arena, size_t *len_r)
{
	struct decoder d = {.out = STR_INIT, .octets = STR_INIT};
	size_t i = 0, blanks;
	struct word w;
	char *result;

	while (i < len) {
		if (parse_word(text + i, len - i, &w)) {
			add_word(&d, &w);
			i += w.len;
			for (blanks = 0; i + blanks < len && is_blank(text[i + blanks]);)
				blanks++;
			if (parse_word(text + i + blanks, len - i - blanks, &w))
				i += blanks; /* between two of them they are no text */
			continue;
		}
		flush(&d);
		str_addc(&d.out, text[i++]);
	}
	flush(&d);
	*len_r = d.out.len;
	result = arena_strndup(arena, str_text(&d.out), d.out.len);
	str_deinit(&d.octets);
	str_deinit(&d.out);
	return result;
}

/* ---- the other way ---- */

static void
put_base64(struct str *out, const char *text, size_t len)
{
	const unsigned char *s = (const unsigned char *)text;

	for (size_t i = 0; i < len; i += 3) {
		unsigned bits = (unsigned)s[i] << 16 | (i + 1 < len ? (unsigned)s[i + 1] << 8 : 0) |
			(i + 2 < len ? s[i + 2] : 0);

		str_addc(out, digits[bits >> 18]);
		str_addc(out, digits[bits >> 12 & 63]);
		str_addc(out, i + 1 < len ? digits[bits >> 6 & 63] : '=');
		str_addc(out, i + 2 < len ? digits[bits & 63] : '=');
	}
}

/* As many whole characters as a word holds. */
static size_t
word_len(const char *text, size_t len)
{
	size_t n = 0, next;

	while (n < len) {
		next = str_utf8_len(text + n, len - n);
		next = next > 0 ? next : 1;
		if (n + next > WORD_OCTETS)
			break;
		n += next;
	}
	return n;
}

char *
mail_encode(const char *text, struct arena *arena)
{
	size_t left = strlen(text), n;
	struct str out = STR_INIT;
	char *result;

	for (; left > 0; text += n, left -= n) {
		n = word_len(text, left);
		str_add(&out, out.len > 0 ? "\r\n =?UTF-8?B?" : "=?UTF-8?B?");
		put_base64(&out, text, n);
		str_add(&out, "?=");
	}
	result = arena_strndup(arena, str_text(&out), out.len);
	str_deinit(&out);
	return result;
}
