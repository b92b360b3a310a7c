/* smtp/reply.c - replies, both ways. */
#include "smtp/reply.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* RFC 5321 4.5.3.1.5: 512 octets with CRLF. */
#define WRITE_LINE_MAX 500

/* ---- reading ---- */

void
smtp_reply_parser_init(struct smtp_reply_parser *p)
{
	*p = (struct smtp_reply_parser){.text = STR_INIT};
}

void
smtp_reply_parser_deinit(struct smtp_reply_parser *p)
{
	str_deinit(&p->text);
}

/* The code, 0 if the line begins with none. The grammar of RFC 5321 4.2 has no second digit over 5; real
 * hosts refuse with 571 all the same, and its first digit tells what is meant. */
static int
parse_code(const char *line, size_t len)
{
	if (len < 3 || line[0] < '2' || line[0] > '5' || !isdigit((unsigned char)line[1]) ||
		!isdigit((unsigned char)line[2]))
		return 0;
	if (line[1] > '5' && line[0] < '4')
		return 0;
	if (len > 3 && line[3] != '-' && line[3] != ' ')
		return 0;
	return (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
}

/* One to three digits at text. */
static size_t
number_len(const char *text, size_t len)
{
	size_t n = 0;

	while (n < len && n < 3 && isdigit((unsigned char)text[n]))
		n++;
	return n;
}

/* Length of the enhanced code at text that fits the code's class (RFC 3463 2), 0 if there is none.
 */
static size_t
status_len(const char *text, size_t len, int code)
{
	size_t pos = 1, n;

	if (code / 100 == 3 || len < 5 || text[0] != '0' + code / 100)
		return 0;
	for (int part = 0; part < 2; part++) {
		if (pos == len || text[pos] != '.')
			return 0;
		n = number_len(text + pos + 1, len - pos - 1);
		if (n == 0)
			return 0;
		pos += 1 + n;
	}
	return pos == len || text[pos] == ' ' ? pos : 0;
}

/* Some servers give the enhanced code on every line, some on one: it is taken off each. */
static void
add_text(struct smtp_reply_parser *p, const char *text, size_t len)
{
	char clean[SMTP_REPLY_LINE_MAX + 1];
	size_t n = status_len(text, len, p->code);

	if (n > 0 && p->status[0] == '\0')
		snprintf(p->status, sizeof(p->status), "%.*s", (int)n, text);
	if (n > 0 && n < len)
		n++;
	n = str_clean(clean, sizeof(clean) - 1, text + n, len - n, true);
	if (p->lines > 0)
		str_addc(&p->text, '\n');
	str_addn(&p->text, clean, n);
}

static bool
is_in_bounds(const struct smtp_reply_parser *p, size_t len)
{
	return len <= SMTP_REPLY_LINE_MAX && p->lines < SMTP_REPLY_LINES_MAX &&
	       p->text.len + len <= SMTP_REPLY_TEXT_MAX;
}

static bool
has_line_end_or_nul(const char *line, size_t len)
{
	return memchr(line, '\r', len) != NULL || memchr(line, '\n', len) != NULL ||
	       memchr(line, '\0', len) != NULL;
}

enum smtp_reply_step
smtp_reply_feed(
	struct smtp_reply_parser *p, const char *line, size_t len, struct smtp_reply *reply_r)
{
	int code = parse_code(line, len);
	size_t text = len > 3 ? 4 : 3;

	if (p->lines == 0) {
		p->code = code;
		p->status[0] = '\0';
		str_clear(&p->text);
	}
	if (code == 0 || code != p->code || !is_in_bounds(p, len) ||
		has_line_end_or_nul(line, len)) {
		p->lines = 0;
		return SMTP_REPLY_BAD;
	}
	add_text(p, line + text, len - text);
	p->lines++;
	if (len > 3 && line[3] == '-')
		return SMTP_REPLY_MORE;
	p->lines = 0;
	*reply_r = (struct smtp_reply){.code = code, .text = str_text(&p->text)};
	memcpy(reply_r->status, p->status, sizeof(reply_r->status));
	return SMTP_REPLY_DONE;
}

struct smtp_reply *
smtp_reply_dup(struct arena *arena, const struct smtp_reply *r)
{
	struct smtp_reply *copy = arena_memdup(arena, r, sizeof(*r));

	copy->text = arena_strdup(arena, r->text);
	return copy;
}

bool
smtp_reply_soften(const struct smtp_reply *r, struct smtp_reply *soft_r)
{
	if (r->code / 100 != 5)
		return false;
	*soft_r = *r;
	soft_r->code = r->code >= 550 && r->code <= 554 ? r->code - 100 : 450;
	if (soft_r->status[0] == '5')
		soft_r->status[0] = '4';
	return true;
}

/* ---- writing ---- */

/* A code that is none never leaves: the peer could take it for anything. */
static int
safe_code(const struct smtp_reply *r)
{
	return r->code >= 200 && r->code < 600 ? r->code : 451;
}

/* Fills in x.0.0 where the reply has no enhanced code, or one of another class than its code. */
static const char *
fitting_status(const struct smtp_reply *r, char dst[12])
{
	int code = safe_code(r);
	size_t len = strnlen(r->status, sizeof(r->status) - 1);

	if (code / 100 == 3)
		return "";
	if (len > 0 && status_len(r->status, len, code) == len)
		return r->status;
	snprintf(dst, 12, "%d.0.0", code / 100);
	return dst;
}

static void
write_line(struct str *out, int code, char sep, const char *status, const char *text, size_t len)
{
	char line[WRITE_LINE_MAX + 1];
	int head = snprintf(line, sizeof(line), "%d%c%s%s", code, sep, status,
		status[0] != '\0' && len > 0 ? " " : "");
	size_t n = (size_t)head;

	n += str_clean(line + n, WRITE_LINE_MAX - n, text, len, true);
	str_addn(out, line, n);
	str_add(out, "\r\n");
}

void
smtp_reply_write(const struct smtp_reply *r, bool with_status, struct str *out)
{
	char buf[12];
	const char *status = with_status ? fitting_status(r, buf) : "";
	const char *line = r->text, *end;

	while ((end = strchr(line, '\n')) != NULL) {
		write_line(out, safe_code(r), '-', status, line, (size_t)(end - line));
		line = end + 1;
	}
	write_line(out, safe_code(r), ' ', status, line, strlen(line));
}

void
smtp_reply_line(const struct smtp_reply *r, struct str *out)
{
	size_t len = strlen(r->text), begin;

	str_printf(out, "%d", r->code);
	if (r->status[0] != '\0')
		str_printf(out, " %s", r->status);
	if (len == 0)
		return;
	str_addc(out, ' ');
	str_reserve(out, len + 1);
	begin = out->len;
	out->len += str_clean(out->data + begin, len, r->text, len, true);
}

/* ---- queue ids ---- */

static bool
is_id_char(char c)
{
	return isascii((unsigned char)c) &&
	       (isalnum((unsigned char)c) || c == '.' || c == '_' || c == '-');
}

static size_t
id_len(const char *text)
{
	size_t n = 0;

	while (is_id_char(text[n]))
		n++;
	return n;
}

/* The id in the words of Postfix ("queued as ID"), Exim ("OK id=ID") or sendmail, who says it
 * first. */
static const char *
find_id(const char *text)
{
	const char *id;

	if ((id = strcasestr(text, "queued as ")) != NULL)
		return id + strlen("queued as ");
	if ((id = strcasestr(text, "OK id=")) != NULL)
		return id + strlen("OK id=");
	if (strncasecmp(text + id_len(text), " Message accepted", strlen(" Message accepted")) == 0)
		return text;
	return "";
}

void
smtp_reply_queue_id(const struct smtp_reply *r, char *dst, size_t size)
{
	const char *id = find_id(r->text);

	snprintf(dst, size, "%.*s", (int)id_len(id), id);
}
