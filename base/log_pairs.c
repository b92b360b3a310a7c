/*
 * base/log_pairs.c - keys and values written as text, as JSON and as fields of the journal.
 */
#include "base/log_pairs.h"

#include <string.h>

#define SHORT_MIN 8 /* no value is made shorter than this */

static const char dots[] = "...";
#define DOTS_LEN (sizeof(dots) - 1)

/* What stands for itself in either form, quoted or not: the printable characters but " and \. */
static const bool is_plain[256] = {
	['!'] = true, ['#' ... '['] = true, [']' ... '~'] = true,
};

static size_t
plain_len(const char *s, size_t len)
{
	size_t n = 0;

	while (n < len && is_plain[(unsigned char)s[n]])
		n++;
	return n;
}

void
log_number(struct str *out, uintmax_t value, unsigned radix, int width)
{
	char digits[3 * sizeof(value)], *s = digits + sizeof(digits);

	do
		*--s = "0123456789abcdef"[value % radix];
	while ((value /= radix) != 0);
	while (digits + sizeof(digits) - s < width && s > digits)
		*--s = '0';
	str_addn(out, s, (size_t)(digits + sizeof(digits) - s));
}

/* ---- strings ---- */

static size_t
add_json_char(struct str *out, const char *s, size_t len)
{
	size_t n = str_utf8_len(s, len);
	unsigned char c = (unsigned char)*s;

	if (n == 0) {
		str_add(out, "\xef\xbf\xbd"); /* U+FFFD */
		return 1;
	}
	if (c < ' ' || c == 0x7f) {
		str_printf(out, "\\u%04x", c);
		return 1;
	}
	if (c == '"' || c == '\\')
		str_addc(out, '\\');
	str_addn(out, s, n);
	return n;
}

void
log_json_string(struct str *out, const char *s, size_t len)
{
	size_t n;

	str_addc(out, '"');
	for (; len != 0; s += n, len -= n) {
		n = plain_len(s, len);
		if (n != 0)
			str_addn(out, s, n);
		else
			n = add_json_char(out, s, len);
	}
	str_addc(out, '"');
}

/* Bytes that are no UTF-8 and C1 controls are as good as control characters: \xNN. */
static size_t
add_text_char(struct str *out, const char *s, size_t len)
{
	size_t i, valid = str_utf8_len(s, len), n = valid != 0 ? valid : 1;
	bool is_c1 = valid == 2 && (unsigned char)s[0] == 0xc2 && (unsigned char)s[1] < 0xa0;

	if (valid == 0 || is_c1 || (unsigned char)*s < ' ' || *s == 0x7f) {
		for (i = 0; i < n; i++)
			str_printf(out, "\\x%02x", (unsigned char)s[i]);
		return n;
	}
	if (*s == '"' || *s == '\\')
		str_addc(out, '\\');
	str_addn(out, s, n);
	return n;
}

static void
add_text_string(struct str *out, const char *s, size_t len)
{
	size_t n = plain_len(s, len);
	bool quoted;

	if (n == len && len != 0) {
		str_addn(out, s, len);
		return;
	}
	quoted = len == 0 || memchr(s, ' ', len) != NULL || memchr(s, '"', len) != NULL ||
		 memchr(s, '\\', len) != NULL;
	if (quoted)
		str_addc(out, '"');
	for (; len != 0; s += n, len -= n) {
		n = plain_len(s, len);
		if (n != 0)
			str_addn(out, s, n);
		else
			n = add_text_char(out, s, len);
	}
	if (quoted)
		str_addc(out, '"');
}

/* ---- the journal (systemd's "native protocol") ---- */

static void
add_length(struct str *out, uint64_t len)
{
	for (int i = 0; i < 8; i++)
		str_addc(out, (char)(len >> (8 * i) & 0xff));
}

void
log_journal_field(struct str *out, const char *name, const char *value, size_t len)
{
	str_add(out, name);
	if (memchr(value, '\n', len) == NULL) {
		str_addc(out, '=');
	} else {
		str_addc(out, '\n');
		add_length(out, len);
	}
	str_addn(out, value, len);
	str_addc(out, '\n');
}

static void
add_field(struct log_pairs *p, const char *key, size_t key_len, const char *value, size_t len)
{
	char name[64] = "POSTERN_";
	size_t n = strlen(name);

	for (size_t i = 0; i < key_len && n < sizeof(name) - 1; i++)
		name[n++] = (char)(key[i] >= 'a' && key[i] <= 'z' ? key[i] - 'a' + 'A' : key[i]);
	name[n] = '\0';
	log_journal_field(&p->text, name, value, len);
}

/* ---- pairs ---- */

void
log_pairs_begin(struct log_pairs *p, int format)
{
	p->format = format;
	p->count = 0;
	str_clear(&p->text);
	str_clear(&p->message);
}

void
log_pairs_copy(struct log_pairs *dst, const struct log_pairs *src)
{
	log_pairs_begin(dst, src->format);
	str_addn(&dst->text, src->text.data, src->text.len);
	str_addn(&dst->message, src->message.data, src->message.len);
	memcpy(dst->values, src->values, sizeof(dst->values));
	dst->count = src->count;
}

void
log_pairs_deinit(struct log_pairs *p)
{
	str_deinit(&p->text);
	str_deinit(&p->message);
}

static void
add_key(struct log_pairs *p, const char *key, size_t key_len)
{
	const bool is_json = p->format == LOG_FORMAT_JSON;
	struct str *out = p->format == LOG_FORMAT_JOURNAL ? &p->message : &p->text;
	char *dst;

	str_reserve(out, key_len + 4);
	dst = out->data + out->len;
	*dst++ = is_json ? ',' : ' ';
	if (is_json)
		*dst++ = '"';
	memcpy(dst, key, key_len);
	dst += key_len;
	if (is_json)
		*dst++ = '"';
	*dst++ = is_json ? ':' : '=';
	*dst = '\0';
	out->len = (size_t)(dst - out->data);
}

static void
add_string(struct log_pairs *p, const char *key, size_t key_len, const char *s, size_t len)
{
	size_t begin;

	add_key(p, key, key_len);
	begin = p->text.len;
	switch (p->format) {
	case LOG_FORMAT_JSON:
		log_json_string(&p->text, s, len);
		break;
	case LOG_FORMAT_JOURNAL:
		add_text_string(&p->message, s, len);
		add_field(p, key, key_len, s, len);
		return;
	default:
		add_text_string(&p->text, s, len);
	}
	if (p->count < LOG_PAIRS_MAX)
		p->values[p->count++] = (struct log_value){ (unsigned)begin, (unsigned)(p->text.len - begin) };
}

void
log_pairs_string(struct log_pairs *p, const char *key, size_t key_len, const char *s, size_t len)
{
	char cut[LOG_VALUE_MAX];
	size_t n = LOG_VALUE_MAX - DOTS_LEN;

	if (len <= LOG_VALUE_MAX) {
		add_string(p, key, key_len, s, len);
		return;
	}
	while (n > LOG_VALUE_MAX - DOTS_LEN - 3 && ((unsigned char)s[n] & 0xc0) == 0x80)
		n--; /* not in the middle of a character */
	memcpy(cut, s, n);
	memcpy(cut + n, dots, DOTS_LEN);
	add_string(p, key, key_len, cut, n + DOTS_LEN);
}

void
log_pairs_number(struct log_pairs *p, const char *key, size_t key_len, const char *s, size_t len)
{
	add_key(p, key, key_len);
	if (p->format == LOG_FORMAT_JOURNAL) {
		str_addn(&p->message, s, len);
		add_field(p, key, key_len, s, len);
	} else {
		str_addn(&p->text, s, len);
	}
}

void
log_pairs_int(struct log_pairs *p, const char *key, intmax_t n)
{
	char digits[3 * sizeof(n)], *end = digits + sizeof(digits), *s = end;
	uintmax_t left = n < 0 ? 0 - (uintmax_t)n : (uintmax_t)n;

	do
		*--s = (char)('0' + left % 10);
	while ((left /= 10) != 0);
	if (n < 0)
		*--s = '-';
	log_pairs_number(p, key, strlen(key), s, (size_t)(end - s));
}

/* ---- lines that would be too long ---- */

/* What belongs together at s: an escape, a character. */
static size_t
unit_len(const char *s, size_t len)
{
	size_t n = 1;

	if (*s == '\\' && len > 1)
		n = s[1] == 'x' ? 4 : s[1] == 'u' ? 6 : 2;
	else if ((n = str_utf8_len(s, len)) == 0)
		n = 1;
	return n <= len ? n : len;
}

/* The encoded value in at most max octets, still well formed. */
static void
add_shortened(struct str *out, const char *s, size_t len, size_t max)
{
	size_t quote = *s == '"', n = 0, next = quote;

	if (len <= max) {
		str_addn(out, s, len);
		return;
	}
	while (next + DOTS_LEN + quote <= max && next < len - quote) {
		n = next;
		next += unit_len(s + next, len - quote - next);
	}
	str_addn(out, s, n);
	str_addn(out, dots, DOTS_LEN);
	str_addn(out, "\"", quote);
}

static size_t
octets_over(const struct log_pairs *p, size_t longest)
{
	size_t sum = 0;

	for (unsigned i = 0; i < p->count; i++)
		sum += p->values[i].len > longest ? p->values[i].len - longest : 0;
	return sum;
}

void
log_pairs_fit(struct log_pairs *p, size_t max)
{
	size_t longest = max, pos = 0;
	struct str out = STR_INIT;

	if (p->text.len <= max || p->format == LOG_FORMAT_JOURNAL)
		return;
	while (longest > SHORT_MIN && octets_over(p, longest) < p->text.len - max)
		longest--;
	for (unsigned i = 0; i < p->count; i++) {
		struct log_value *v = &p->values[i];

		str_addn(&out, p->text.data + pos, v->begin - pos);
		pos = v->begin + v->len;
		v->begin = (unsigned)out.len;
		add_shortened(&out, p->text.data + pos - v->len, v->len, longest);
		v->len = (unsigned)(out.len - v->begin);
	}
	str_addn(&out, p->text.data + pos, p->text.len - pos);
	str_deinit(&p->text);
	p->text = out;
}
