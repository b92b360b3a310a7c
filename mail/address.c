/* mail/address.c - paths and mailboxes as RFC 5321 4.1.2 writes them. */
#include "mail/address.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"

/* Of a label, in characters. */
#define LABEL_MAX 63

/* What is being read. The functions below take from it and say in err why they cannot. */
struct scan {
	const char *text;
	size_t len, pos;
	bool utf8, has_utf8;
	struct err *err;
};

static bool
is_alnum(char c)
{
	return isascii((unsigned char)c) && isalnum((unsigned char)c);
}

static bool
is_atext(char c)
{
	return is_alnum(c) || (c != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

static bool
is_printable(char c)
{
	return c >= ' ' && c < 127;
}

/* Underscores are no part of a host name, but of real mail. */
static bool
is_label_char(char c)
{
	return is_alnum(c) || c == '-' || c == '_';
}

/* Length of the UTF-8 character at text; 0 when it is none, or one of the controls U+0080 to
 * U+009F. */
static size_t
utf8_len(const char *text, size_t len)
{
	size_t n = str_utf8_len(text, len);

	if (n == 1 || (n == 2 && (unsigned char)text[0] == 0xc2 && (unsigned char)text[1] < 0xa0))
		return 0;
	return n;
}

static bool
at(const struct scan *s, char c)
{
	return s->pos < s->len && s->text[s->pos] == c;
}

/* Takes one character of the class, or one beyond ASCII where those are allowed. */
static bool
take(struct scan *s, bool (*is_fitting)(char))
{
	size_t n = 0;

	if (s->pos == s->len)
		return false;
	if (is_fitting(s->text[s->pos])) {
		n = 1;
	} else if (s->utf8) {
		n = utf8_len(s->text + s->pos, s->len - s->pos);
		s->has_utf8 |= n > 0;
	}
	s->pos += n;
	return n > 0;
}

static int
take_quoted(struct scan *s)
{
	s->pos++;
	while (!at(s, '"')) {
		if (at(s, '\\'))
			s->pos++;
		if (!take(s, is_printable))
			return err_set(s->err, "bad or unfinished quoted local part");
	}
	s->pos++;
	return 0;
}

static int
take_atoms(struct scan *s)
{
	size_t begin;

	for (;;) {
		begin = s->pos;
		while (take(s, is_atext))
			;
		if (s->pos == begin)
			return err_set(s->err, "bad local part");
		if (!at(s, '.'))
			return 0;
		s->pos++;
	}
}

static int
take_local(struct scan *s)
{
	size_t begin = s->pos;

	if ((at(s, '"') ? take_quoted(s) : take_atoms(s)) < 0)
		return -1;
	if (s->pos - begin > MAIL_LOCAL_MAX)
		return err_set(s->err, "local part too long");
	return 0;
}

static int
take_label(struct scan *s)
{
	size_t begin = s->pos, count = 0;

	while (take(s, is_label_char))
		count++;
	if (count == 0 || s->text[begin] == '-' || s->text[s->pos - 1] == '-')
		return err_set(s->err, "bad domain");
	if (count > LABEL_MAX)
		return err_set(s->err, "domain label too long");
	return 0;
}

/* "[192.0.2.1]" or "[IPv6:2001:db8::1]". */
static int
take_literal(struct scan *s)
{
	const char *begin = s->text + s->pos + 1;
	const char *end = memchr(begin, ']', s->len - s->pos - 1);
	char word[64];
	struct in6_addr addr;
	size_t len = end != NULL ? (size_t)(end - begin) : sizeof(word);
	bool is_v6;

	if (len >= sizeof(word) || memchr(begin, '\0', len) != NULL)
		return err_set(s->err, "bad address literal");
	memcpy(word, begin, len);
	word[len] = '\0';
	is_v6 = strncasecmp(word, "IPv6:", 5) == 0;
	if (inet_pton(is_v6 ? AF_INET6 : AF_INET, is_v6 ? word + 5 : word, &addr) != 1)
		return err_set(s->err, "bad address literal");
	s->pos += len + 2;
	return 0;
}

static int
take_domain(struct scan *s)
{
	size_t begin = s->pos;

	if (at(s, '['))
		return take_literal(s);
	for (;;) {
		if (take_label(s) < 0)
			return -1;
		if (!at(s, '.'))
			break;
		s->pos++;
	}
	if (s->pos - begin > MAIL_DOMAIN_MAX)
		return err_set(s->err, "domain too long");
	return 0;
}

/* "@one,@two:", obsolete and kept as it is (RFC 5321 appendix C). */
static int
take_route(struct scan *s)
{
	for (;;) {
		s->pos++;
		if (take_domain(s) < 0)
			return -1;
		if (!at(s, ','))
			break;
		s->pos++;
		if (!at(s, '@'))
			return err_set(s->err, "bad source route");
	}
	if (!at(s, ':'))
		return err_set(s->err, "bad source route");
	s->pos++;
	return 0;
}

/* What stands between the brackets and is not empty. */
static int
take_path(struct scan *s, unsigned flags, struct mail_path *path)
{
	if (at(s, '@') && take_route(s) < 0)
		return -1;
	path->mailbox = s->pos;
	if (take_local(s) < 0)
		return -1;
	path->at = s->pos;
	if (at(s, '@')) {
		s->pos++;
		return take_domain(s);
	}
	if (!(flags & MAIL_PATH_BARE) && at(s, '>'))
		return err_set(s->err, "domain missing");
	return 0;
}

size_t
mail_path_parse(
	const char *text, size_t len, unsigned flags, struct mail_path *path_r, struct err *err)
{
	struct scan s = {.text = text, .len = len, .err = err};

	s.utf8 = (flags & MAIL_PATH_UTF8) != 0;
	if (!at(&s, '<')) {
		err_set(err, "address without angle brackets");
		return 0;
	}
	s.pos++;
	*path_r = (struct mail_path){.begin = s.pos, .mailbox = s.pos, .at = s.pos};
	if (at(&s, '>') && !(flags & MAIL_PATH_NULL)) {
		err_set(err, "empty address");
		return 0;
	}
	if (!at(&s, '>') && take_path(&s, flags, path_r) < 0)
		return 0;
	path_r->end = s.pos;
	path_r->has_utf8 = s.has_utf8;
	if (!at(&s, '>')) {
		err_set(err, "bad or unfinished address");
		return 0;
	}
	s.pos++;
	if (s.pos > MAIL_PATH_MAX) {
		err_set(err, "address too long");
		return 0;
	}
	return s.pos;
}

const char *
mail_address_domain(const char *addr)
{
	const char *at = strrchr(addr, '@');

	return at != NULL ? at + 1 : "";
}

bool
mail_address_same(const char *a, const char *b)
{
	const char *a_at, *b_at;

	if (tolower((unsigned char)*a) != tolower((unsigned char)*b))
		return false; /* of many most end here */
	a_at = strrchr(a, '@');
	b_at = strrchr(b, '@');
	if (a_at == NULL || b_at == NULL)
		return strcmp(a, b) == 0 || (strcasecmp(a, "postmaster") == 0 && strcasecmp(b, "postmaster") == 0);
	return a_at - a == b_at - b && memcmp(a, b, (size_t)(a_at - a)) == 0 && strcasecmp(a_at, b_at) == 0;
}

bool
mail_domain_valid(const char *text)
{
	struct err err;
	struct scan s = {.text = text, .len = strlen(text), .err = &err};

	return take_domain(&s) == 0 && s.pos == s.len;
}

bool
mail_helo_valid(const char *text, size_t len)
{
	bool is_literal = len > 2 && text[0] == '[' && text[len - 1] == ']';

	if (len == 0 || len > MAIL_DOMAIN_MAX)
		return false;
	for (size_t i = is_literal; i < len - is_literal; i++)
		if (!is_label_char(text[i]) && text[i] != '.' && text[i] != ':')
			return false;
	return true;
}
