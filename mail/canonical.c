/* mail/canonical.c - source routes, quotes and domains of other scripts. */
#include "mail/canonical.h"

#include <idn2.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"

static bool
has_8bit(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] >= 0x80)
			return true;
	return false;
}

static void
put(struct mail_canonical *c, const char *data, size_t len)
{
	if (len > sizeof(c->text) - 1 - c->len)
		len = sizeof(c->text) - 1 - c->len;
	memcpy(c->text + c->len, data, len);
	c->len += len;
	c->text[c->len] = '\0';
}

/* The length of "@one,@[IPv6:::1]:" in front of an address; 0 when there is none. */
static size_t
route_len(const char *text, size_t len)
{
	bool is_literal = false;

	if (len == 0 || text[0] != '@')
		return 0;
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '[' || text[i] == ']')
			is_literal = text[i] == '[';
		else if (text[i] == ':' && !is_literal)
			return i + 1;
	}
	return 0;
}

/* Of the quoted string at the beginning, both quotes included; 0 when it does not end. */
static size_t
quoted_len(const char *text, size_t len)
{
	for (size_t i = 1; i < len; i++) {
		if (text[i] == '"')
			return i + 1;
		if (text[i] == '\\')
			i++;
	}
	return 0;
}

static bool
is_dot_string(const char *text, size_t len)
{
	static const char specials[] = " ()<>[]:;@\\,\"";

	if (len == 0 || text[0] == '.' || text[len - 1] == '.')
		return false;
	for (size_t i = 0; i < len; i++)
		if (strchr(specials, text[i]) != NULL || (text[i] == '.' && text[i + 1] == '.'))
			return false;
	return true;
}

/* What is between the quotes; with quotes, and as few backslashes as can be, where they are needed. */
static void
put_unquoted(struct mail_canonical *c, const char *text, size_t len)
{
	struct mail_canonical plain = {.len = 0}, escaped = {.len = 0};

	for (size_t i = 1; i < len - 1; i++) {
		if (text[i] == '\\')
			i++;
		if (text[i] == '"' || text[i] == '\\')
			put(&escaped, "\\", 1);
		put(&escaped, text + i, 1);
		put(&plain, text + i, 1);
	}
	if (is_dot_string(plain.text, plain.len)) {
		put(c, plain.text, plain.len);
		return;
	}
	put(c, "\"", 1);
	put(c, escaped.text, escaped.len);
	put(c, "\"", 1);
}

/* A dot in front is kept: it is no empty label, but a word for what lies under the domain. */
static void
put_domain(struct mail_canonical *c, const char *text, size_t len)
{
	char domain[MAIL_CANONICAL_MAX], *ascii = NULL;
	size_t dot = len > 0 && text[0] == '.';

	if (!has_8bit(text, len) || len >= sizeof(domain)) {
		put(c, text, len);
		return;
	}
	put(c, text, dot);
	memcpy(domain, text + dot, len - dot);
	domain[len - dot] = '\0';
	if (idn2_to_ascii_8z(domain, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) == IDN2_OK)
		put(c, ascii, strlen(ascii));
	else
		put(c, domain, len - dot);
	idn2_free(ascii);
}

bool
mail_canonical(const char *text, size_t len, bool is_domain, struct mail_canonical *c_r)
{
	size_t route = is_domain ? 0 : route_len(text, len), local;
	const char *at;

	text += route;
	len -= route;
	at = memrchr(text, '@', len);
	if (at == NULL && !is_domain)
		at = text + len;
	local = at != NULL ? (size_t)(at - text) : 0;
	if (route == 0 && (local == 0 || text[0] != '"') && !has_8bit(text + local, len - local))
		return false;
	c_r->len = 0;
	c_r->text[0] = '\0';
	if (local > 0 && text[0] == '"' && quoted_len(text, local) == local)
		put_unquoted(c_r, text, local);
	else
		put(c_r, text, local);
	if (local < len && text[local] == '@')
		put(c_r, text + local++, 1);
	put_domain(c_r, text + local, len - local);
	return true;
}

static bool
has_a_labels(const char *domain, size_t len)
{
	for (size_t i = 0; i + 4 <= len; i++)
		if (strncasecmp(domain + i, "xn--", 4) == 0 && (i == 0 || domain[i - 1] == '.'))
			return true;
	return false;
}

bool
mail_readable(const char *text, size_t len, struct mail_canonical *c_r)
{
	const char *at = memrchr(text, '@', len), *begin = at != NULL ? at + 1 : text;
	size_t domain_len = len - (size_t)(begin - text);
	char domain[MAIL_CANONICAL_MAX], *readable = NULL;
	bool is_one = has_a_labels(begin, domain_len) && domain_len < sizeof(domain);

	if (!is_one)
		return false;
	memcpy(domain, begin, domain_len);
	domain[domain_len] = '\0';
	is_one = idn2_to_unicode_8z8z(domain, &readable, 0) == IDN2_OK;
	if (is_one) {
		c_r->len = 0;
		put(c_r, text, len - domain_len);
		put(c_r, readable, strlen(readable));
	}
	idn2_free(readable);
	return is_one;
}
