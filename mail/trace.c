/*
 * mail/trace.c - our Received line, and the loop guard that reads it.
 */
#include "mail/trace.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/str.h"

#define MAIL_ID_MAX 64

void
mail_trace_token(char token_r[MAIL_TOKEN_SIZE], const char *hostname, const char *spool,
	const char *listener)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	struct str key = STR_INIT;

	/* With their NULs, so that no two sets of names give one key. */
	str_addn(&key, hostname, strlen(hostname) + 1);
	str_addn(&key, spool, strlen(spool) + 1);
	str_addn(&key, listener, strlen(listener) + 1);
	/* Without a token there is no loop guard: SHA-256 is in every provider, FIPS included. */
	if (EVP_Digest(key.data, key.len, digest, NULL, EVP_sha256(), NULL) != 1)
		abort();
	str_deinit(&key);
	for (int i = 0; i < (MAIL_TOKEN_SIZE - 1) / 2; i++)
		snprintf(token_r + 2 * i, 3, "%02x", digest[i]);
}

/* Names by hand: strftime() would follow the locale. */
void
mail_trace_date(char *dst, size_t size)
{
	static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char *const months[] = {
		"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	time_t now = clock_wall();
	struct tm tm;
	long zone;

	localtime_r(&now, &tm);
	zone = labs(tm.tm_gmtoff) / 60;
	snprintf(dst, size, "%s, %02d %s %d %02d:%02d:%02d %c%02ld%02ld", days[tm.tm_wday],
		tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec,
		tm.tm_gmtoff < 0 ? '-' : '+', zone / 60, zone % 60);
}

static const char *
client_comment(const struct mail_origin *origin, struct arena *arena)
{
	switch (origin->client.family) {
	case AF_INET:
		return arena_printf(arena, "([%s])", origin->client_text);
	case AF_INET6:
		return arena_printf(arena, "([IPv6:%s])", origin->client_text);
	default:
		return "(local)";
	}
}

static const char *
tls_comment(const struct mail_origin *origin, struct arena *arena)
{
	if (origin->tls_version == NULL)
		return "";
	return arena_printf(arena, "\r\n\t(using %s with cipher %s)", origin->tls_version, origin->tls_cipher);
}

const char *
mail_trace_received(
	const struct mail_msg *msg, const char *hostname, const char *id, const char *token)
{
	const struct mail_origin *origin = msg->origin;
	const char *helo = *origin->helo != '\0' ? origin->helo : "unknown";
	const char *rcpt = "", *protocol = origin->protocol;
	char date[40];

	mail_trace_date(date, sizeof(date));
	if (msg->rcpt_count == 1)
		rcpt = arena_printf(msg->arena, "\r\n\tfor <%s>", msg->rcpts[0]->addr);
	/* RFC 6531 4.3: UTF8SMTP, where ESMTP would stand. */
	if (msg->sender->smtputf8)
		protocol = arena_printf(msg->arena, "UTF8%s", protocol + (*protocol == 'E'));
	return arena_printf(msg->arena,
		"Received: from %s %s%s\r\n\tby %s (Postern) with %s id %s.%s%s;%s%s\r\n", helo,
		client_comment(origin, msg->arena), tls_comment(origin, msg->arena), hostname, protocol, id, token,
		rcpt,
		msg->rcpt_count == 1 ? " " : "\r\n\t", date);
}

/* Behind the text that opens with text[0] = '(' (these nest), '"' or '<' (with quoted strings
 * inside). */
static size_t
skip_group(const char *text, size_t len)
{
	char open = text[0], close = open == '(' ? ')' : open == '<' ? '>' : '"';
	unsigned depth = 1;
	size_t pos = 1;

	while (pos < len && depth > 0) {
		char c = text[pos];

		if (c == '\\')
			pos++;
		else if (c == close)
			depth--;
		else if (c == '(' && open == '(')
			depth++;
		else if (c == '"' && open == '<')
			pos += skip_group(text + pos, len - pos) - 1;
		pos++;
	}
	return pos < len ? pos : len;
}

/* A word runs up to white space or something that opens or closes a clause. */
static size_t
word_len(const char *text, size_t len)
{
	size_t n = 0;

	while (n < len && text[n] != '\0' && strchr(" \t\r\n(\"<;", text[n]) == NULL)
		n++;
	return n;
}

/* RFC 5321 4.4: each of these has one value behind it, and comments anywhere. */
static bool
opens_clause(const char *word, size_t len)
{
	static const char *const names[] = {"from", "by", "via", "with", "id", "for"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i]) == len && strncasecmp(word, names[i], len) == 0)
			return true;
	return false;
}

/*
 * The value of the next id clause at or behind *pos, or NULL. Only clauses count: comments, addresses,
 * a client's name and the date say what others want us to read.
 */
static const char *
next_id(const char *value, size_t len, size_t *pos, size_t *id_len_r)
{
	const char *clause = NULL; /* whose value comes next */

	while (*pos < len && value[*pos] != ';') {
		const char *word = value + *pos;
		size_t n = word_len(word, len - *pos);

		if (n > 0) {
			*pos += n;
			if (clause == NULL) {
				clause = opens_clause(word, n) ? word : NULL;
				continue;
			}
			if (strncasecmp(clause, "id", 2) == 0) {
				*id_len_r = n;
				return word;
			}
			clause = NULL;
		} else if (*word == '(' || *word == '"' || *word == '<') {
			*pos += skip_group(word, len - *pos);
			if (*word != '(')
				clause = NULL;
		} else {
			++*pos;
		}
	}
	return NULL;
}

static bool
ends_in_token(const char *word, size_t len, const char *token)
{
	size_t token_len = strlen(token);

	return len > token_len && word[len - token_len - 1] == '.' &&
	       memcmp(word + len - token_len, token, token_len) == 0;
}

static bool
has_token(const char *value, size_t len, const char *token)
{
	const char *id;
	size_t pos = 0, id_len;

	while ((id = next_id(value, len, &pos, &id_len)) != NULL)
		if (ends_in_token(id, id_len, token))
			return true;
	return false;
}

/* An id is one word of printable characters that a person could look for. */
static bool
is_queue_id(const char *id, size_t len)
{
	if (len > MAIL_ID_MAX || (len == 7 && memcmp(id, "NOQUEUE", 7) == 0))
		return false;
	for (size_t i = 0; i < len; i++)
		if (id[i] <= ' ' || id[i] >= 0x7f)
			return false;
	return true;
}

const char *
mail_trace_top_id(const char *header, size_t len, struct arena *arena)
{
	struct mail_field field;
	const char *id = NULL;
	size_t pos = 0, from = 0, id_len;

	while (mail_header_next(header, len, &pos, &field))
		if (mail_field_is(&field, "Received")) {
			id = next_id(field.value, field.value_len, &from, &id_len);
			break;
		}
	return id != NULL && is_queue_id(id, id_len) ? arena_strndup(arena, id, id_len) : NULL;
}

void
mail_trace_count(
	const char *header, size_t len, const char *token, unsigned *hops_r, unsigned *passes_r)
{
	struct mail_field field;
	size_t pos = 0;

	*hops_r = *passes_r = 0;
	while (mail_header_next(header, len, &pos, &field)) {
		if (!mail_field_is(&field, "Received"))
			continue;
		++*hops_r;
		if (has_token(field.value, field.value_len, token))
			++*passes_r;
	}
}
