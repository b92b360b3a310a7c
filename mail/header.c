/*
 * mail/header.c - the header block of a message as a list of fields with positions.
 */
#include "mail/header.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define FIRST_READ (8 * 1024)
/* RFC 5322 2.1.1. A cut line that is longer than this and has no colon is not a field. */
#define LINE_MAX_LEN 998

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Length of the line at pos without its CRLF; *next_r is behind it (len at the last line without
 * one). */
static size_t
line_at(const char *text, size_t len, size_t pos, size_t *next_r)
{
	const char *end = memmem(text + pos, len - pos, "\r\n", 2);

	*next_r = end != NULL ? (size_t)(end - text) + 2 : len;
	return (end != NULL ? (size_t)(end - text) : len) - pos;
}

/* Splits "Name: value"; the white space before the colon is old style (RFC 5322 4.5). */
static bool
parse_field(const char *line, size_t len, struct mail_field *field_r)
{
	size_t name = 0, colon;

	while (name < len && line[name] > ' ' && line[name] < 127 && line[name] != ':')
		name++;
	colon = name;
	while (colon < len && is_blank(line[colon]))
		colon++;
	if (name == 0 || colon == len || line[colon] != ':')
		return false;
	field_r->name = line;
	field_r->name_len = name;
	field_r->value = line + colon + 1;
	field_r->value_len = len - colon - 1;
	return true;
}

/* Finds the empty line. Returns the octets before it, or -1 when it is not in the text. */
static ssize_t
find_empty_line(const char *text, size_t len)
{
	const char *end;

	if (len >= 2 && memcmp(text, "\r\n", 2) == 0)
		return 0;
	end = memmem(text, len, "\r\n\r\n", 4);
	return end != NULL ? end - text + 2 : -1;
}

/* Finds the first line that cannot stand in a header, a "From " line at the top excepted. Or -1. What the last
 * line is, is not known when text may be cut in it. */
static ssize_t
find_text_line(const char *text, size_t len, bool may_be_cut)
{
	struct mail_field field;
	size_t pos = 0, next;

	if (len >= 5 && memcmp(text, "From ", 5) == 0)
		line_at(text, len, 0, &pos);
	for (; pos < len; pos = next) {
		size_t line_len = line_at(text, len, pos, &next);
		bool is_cut = may_be_cut && pos + line_len == next;
		bool is_fold = pos > 0 && is_blank(text[pos]);

		if (is_cut && line_len <= LINE_MAX_LEN)
			break;
		if (!is_fold && !parse_field(text + pos, line_len, &field))
			return pos;
	}
	return -1;
}

/* One look at the first `have` octets. Returns false when more of the message has to be read. */
static bool
find_end(const struct mail_body *b, size_t max, const char *text, size_t have, size_t *len_r,
	enum mail_header_load *load_r)
{
	ssize_t end = find_empty_line(text, have);

	if (end < 0 && have == (uint64_t)b->size && have <= max)
		end = have;
	if (end < 0 && have < (uint64_t)b->size && have < max + 2)
		return false;
	if (end < 0 || (size_t)end > max)
		end = find_text_line(text, have < max ? have : max, true);
	*load_r = end < 0 ? MAIL_HEADER_TOO_LONG : MAIL_HEADER_OK;
	*len_r = end < 0 ? 0 : end;
	return true;
}

enum mail_header_load
mail_header_load(const struct mail_body *b, size_t max, struct arena *arena, const char **text_r,
	size_t *len_r)
{
	const struct mail_chunk *first = STAILQ_FIRST(&b->chunks);
	/* The empty line behind max octets has to be seen too. */
	size_t most = (uint64_t)b->size < max + 2 ? (size_t)b->size : max + 2;
	enum mail_header_load load = MAIL_HEADER_OK;
	size_t want = FIRST_READ;

	*text_r = "";
	*len_r = 0;
	if (b->size == 0)
		return MAIL_HEADER_OK;
	if (b->fd < 0 && first != NULL) {
		*text_r = first->data;
		if (find_end(b, max, first->data, first->len < most ? first->len : most, len_r,
			    &load))
			return load;
	}
	for (;; want *= 2) {
		char *text;
		ssize_t have;

		if (want > most)
			want = most;
		text = arena_alloc(arena, want);
		have = mail_body_read(b, 0, text, want);
		if (have >= 0 && (size_t)have < want) {
			errno = EIO; /* the file is shorter than it was */
			have = -1;
		}
		if (have < 0)
			return MAIL_HEADER_READ;
		*text_r = text;
		if (find_end(b, max, text, have, len_r, &load))
			return load;
	}
}

bool
mail_header_next(const char *text, size_t len, size_t *pos, struct mail_field *field_r)
{
	while (*pos < len) {
		size_t begin = *pos, line_len = line_at(text, len, begin, pos);

		if (!parse_field(text + begin, line_len, field_r))
			continue;
		while (*pos < len && is_blank(text[*pos])) {
			size_t fold = *pos;

			line_len = line_at(text, len, fold, pos);
			field_r->value_len = text + fold + line_len - field_r->value;
		}
		return true;
	}
	return false;
}

size_t
mail_header_end(const char *text, size_t len)
{
	ssize_t end = find_text_line(text, len, false);

	return end < 0 ? len : (size_t)end;
}

bool
mail_field_is(const struct mail_field *field, const char *name)
{
	return strlen(name) == field->name_len &&
	       strncasecmp(field->name, name, field->name_len) == 0;
}

/* Takes back the octets of an UTF-8 character that the cut at len parted. */
static size_t
cut_utf8(const char *text, size_t len)
{
	size_t cut = len;

	while (cut > 0 && len - cut < 3 && ((unsigned char)text[cut] & 0xc0) == 0x80)
		cut--;
	return ((unsigned char)text[cut] & 0xc0) == 0xc0 ? cut : len;
}

char *
mail_field_text(const struct mail_field *field, size_t max, struct arena *arena)
{
	const char *src = field->value;
	size_t left = field->value_len, len = 0;
	char *text = arena_alloc(arena, (left < max ? left : max) + 1);

	while (left > 0) {
		unsigned char c = *src;

		if (left > 1 && c == '\r' && src[1] == '\n') {
			src += 2;
			left -= 2;
			continue;
		}
		if (c < ' ' || c == 127)
			c = ' ';
		if (len == max) {
			text[len] = c; /* the octet behind the cut tells if it parts a character */
			len = cut_utf8(text, len);
			break;
		}
		if (len > 0 || c != ' ')
			text[len++] = c;
		src++;
		left--;
	}
	while (len > 0 && text[len - 1] == ' ')
		len--;
	text[len] = '\0';
	return text;
}
