/* smtp/caps.c - EHLO words, ours and theirs. */
#include "smtp/caps.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "smtp/auth.h"

/* In the order in which they are offered. */
static const struct {
	const char *word;
	unsigned cap;
	const char *args; /* what is offered behind the word, or NULL */
} words[] = {
	{"PIPELINING", SMTP_CAP_PIPELINING, NULL},
	{"SIZE", SMTP_CAP_SIZE, NULL},
	{"STARTTLS", SMTP_CAP_STARTTLS, NULL},
	{"AUTH", SMTP_CAP_AUTH, "PLAIN LOGIN"},
	{"ENHANCEDSTATUSCODES", SMTP_CAP_STATUSCODES, NULL},
	{"8BITMIME", SMTP_CAP_8BITMIME, NULL},
	{"DSN", SMTP_CAP_DSN, NULL},
	{"SMTPUTF8", SMTP_CAP_SMTPUTF8, NULL},
	{"CHUNKING", SMTP_CAP_CHUNKING, NULL},
	{"BINARYMIME", SMTP_CAP_BINARYMIME, NULL},
	{"XCLIENT", SMTP_CAP_XCLIENT, "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"},
	{"XFORWARD", SMTP_CAP_XFORWARD, "NAME ADDR PORT PROTO HELO IDENT SOURCE"},
};

#define COUNT(a)   (sizeof(a) / sizeof((a)[0]))
#define DIGITS_MAX 18
#define AUTH_LEN   5 /* "AUTH " or "AUTH=" */

static bool
is_clean(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 127)
			return false;
	return true;
}

static size_t
word_len(const char *text, size_t len)
{
	const char *end = memchr(text, ' ', len);

	return end != NULL ? (size_t)(end - text) : len;
}

/* 0 when there is no number, or one that cannot be right. */
static int64_t
size_value(const char *text, size_t len)
{
	size_t digits = word_len(text, len);
	int64_t n = 0;

	if (digits > DIGITS_MAX)
		return 0;
	for (size_t i = 0; i < digits; i++) {
		if (!isdigit((unsigned char)text[i]))
			return 0;
		n = n * 10 + (text[i] - '0');
	}
	return n;
}

static unsigned
find_cap(const char *text, size_t len)
{
	/* "AUTH=LOGIN": what some servers say for the sake of clients older than RFC 2554. */
	if (len > 5 && strncasecmp(text, "AUTH=", 5) == 0)
		return SMTP_CAP_AUTH;
	for (size_t i = 0; i < COUNT(words); i++)
		if (strlen(words[i].word) == len && strncasecmp(text, words[i].word, len) == 0)
			return words[i].cap;
	return 0;
}

void
smtp_caps_add_line(struct smtp_caps *caps, const char *text, size_t len)
{
	size_t n = word_len(text, len);
	unsigned cap;

	if (!is_clean(text, len))
		return;
	cap = find_cap(text, n);
	caps->bits |= cap;
	if (cap == SMTP_CAP_AUTH && len > AUTH_LEN)
		caps->auth |= smtp_auth_mechs(text + AUTH_LEN, len - AUTH_LEN);
	if (cap != SMTP_CAP_SIZE)
		return;
	while (n < len && text[n] == ' ')
		n++;
	caps->size = size_value(text + n, len - n);
}

void
smtp_caps_write(const struct smtp_caps *caps, struct str *out)
{
	const char *sep = "";

	for (size_t i = 0; i < COUNT(words); i++) {
		if (!(caps->bits & words[i].cap))
			continue;
		str_printf(out, "%s%s", sep, words[i].word);
		if (words[i].args != NULL)
			str_printf(out, " %s", words[i].args);
		if (words[i].cap == SMTP_CAP_SIZE && caps->size > 0)
			str_printf(out, " %" PRId64, caps->size);
		sep = "\n";
	}
}
