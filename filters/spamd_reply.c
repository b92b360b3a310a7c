/* filters/spamd_reply.c - "SPAMD/1.1 0 EX_OK", "Spam: True ; 7.3 / 5.0", and what cannot be one. */
#include "filters/spamd_reply.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"

#define NUMBER_MAX  15	 /* octets of one */
#define LENGTH_DIGITS 12

struct line {
	const char *text;
	size_t len;
};

static int
wrong(struct err *err, const char *what, const struct line *line)
{
	char clean[200 + 1];

	str_clean(clean, 200, line->text, line->len, false);
	return err_set(err, "%s \"%s\"", what, clean);
}

static size_t
digits(const char *text, size_t len)
{
	size_t n = 0;

	while (n < len && isdigit((unsigned char)text[n]))
		n++;
	return n;
}

/* -?D+[.D+], so that no locale, exponent or infinity has a say. */
bool
spamd_number(const char *text, size_t len, double *number_r)
{
	char copy[NUMBER_MAX + 1];
	size_t sign = len > 0 && text[0] == '-', whole, at;

	if (len > NUMBER_MAX)
		return false;
	whole = digits(text + sign, len - sign);
	at = sign + whole;
	if (whole == 0)
		return false;
	if (at < len && text[at] == '.') {
		size_t rest = digits(text + at + 1, len - at - 1);

		if (rest == 0)
			return false;
		at += 1 + rest;
	}
	if (at != len)
		return false;
	memcpy(copy, text, len);
	copy[len] = '\0';
	*number_r = strtod(copy, NULL);
	return true;
}

/* The next line without its end. False: it has none yet. */
static bool
next_line(const char *data, size_t len, size_t *pos, struct line *line_r)
{
	const char *begin = data + *pos, *end = memchr(begin, '\n', len - *pos);

	if (end == NULL)
		return false;
	*pos = (size_t)(end - data) + 1;
	line_r->text = begin;
	line_r->len = (size_t)(end - begin);
	if (line_r->len > 0 && begin[line_r->len - 1] == '\r')
		line_r->len--;
	return true;
}

static bool
skip(struct line *l, const char *prefix)
{
	size_t len = strlen(prefix);

	if (l->len < len || strncasecmp(l->text, prefix, len) != 0)
		return false;
	l->text += len;
	l->len -= len;
	return true;
}

static void
skip_blanks(struct line *l)
{
	while (l->len > 0 && (*l->text == ' ' || *l->text == '\t')) {
		l->text++;
		l->len--;
	}
}

static size_t
skip_digits(struct line *l)
{
	size_t n = digits(l->text, l->len);

	l->text += n;
	l->len -= n;
	return n;
}

/* SPAMD/1.1 0 EX_OK: the code is one of sysexits.h. */
static int
parse_first(const struct line *line, struct err *err)
{
	struct line l = *line;
	bool is_ok;

	if (!skip(&l, "SPAMD/") || skip_digits(&l) == 0 || !skip(&l, ".") || skip_digits(&l) == 0 || !skip(&l, " "))
		return wrong(err, "it is no spamd: it said", line);
	is_ok = l.len > 1 && l.text[0] == '0' && l.text[1] == ' ';
	return is_ok ? 0 : wrong(err, "it said", line);
}

/* Up to a blank or the end. */
static bool
take_number(struct line *l, char *text, double *number_r)
{
	size_t len = 0;

	skip_blanks(l);
	while (len < l->len && l->text[len] != ' ' && l->text[len] != '\t')
		len++;
	if (!spamd_number(l->text, len, number_r))
		return false;
	memcpy(text, l->text, len);
	text[len] = '\0';
	l->text += len;
	l->len -= len;
	skip_blanks(l);
	return true;
}

/* True ; 7.3 / 5.0 */
static bool
parse_spam(struct line l, struct spamd_reply *r)
{
	skip_blanks(&l);
	r->is_spam = skip(&l, "True");
	if (!r->is_spam && !skip(&l, "False"))
		return false;
	skip_blanks(&l);
	return skip(&l, ";") && take_number(&l, r->score_text, &r->score) && skip(&l, "/") &&
	       take_number(&l, r->threshold_text, &r->threshold) && l.len == 0;
}

static bool
parse_length(struct line l, struct spamd_reply *r)
{
	size_t count;

	skip_blanks(&l);
	count = digits(l.text, l.len);
	if (count == 0 || count > LENGTH_DIGITS)
		return false;
	r->length = 0;
	for (size_t i = 0; i < count; i++)
		r->length = r->length * 10 + (l.text[i] - '0');
	l.text += count;
	l.len -= count;
	skip_blanks(&l);
	return l.len == 0;
}

/* One that is said twice could mean either. */
static int
parse_field(const struct line *line, struct spamd_reply *r, bool *has_score, struct err *err)
{
	struct line l = *line;

	if (skip(&l, "Spam:")) {
		if (*has_score || !parse_spam(l, r))
			return wrong(err, "it said", line);
		*has_score = true;
	} else if (skip(&l, "Content-length:")) {
		if (r->length >= 0 || !parse_length(l, r))
			return wrong(err, "it said", line);
	} else if (memchr(l.text, ':', l.len) == NULL) {
		return wrong(err, "it said", line);
	}
	return 0;
}

ssize_t
spamd_reply_parse(const char *data, size_t len, struct spamd_reply *reply_r, struct err *err)
{
	bool has_score = false;
	struct line line;
	size_t pos = 0;

	*reply_r = (struct spamd_reply){.length = -1};
	if (!next_line(data, len, &pos, &line))
		return len > SPAMD_HEAD_MAX ? err_set(err, "its answer has no end") : 0;
	if (parse_first(&line, err) < 0)
		return -1;
	while (next_line(data, len, &pos, &line)) {
		if (pos > SPAMD_HEAD_MAX)
			break;
		if (line.len == 0 && !has_score)
			return err_set(err, "it gave no score");
		if (line.len == 0)
			return (ssize_t)pos;
		if (parse_field(&line, reply_r, &has_score, err) < 0)
			return -1;
	}
	return len > SPAMD_HEAD_MAX ? err_set(err, "its answer has no end") : 0;
}
