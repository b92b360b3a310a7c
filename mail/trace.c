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

const char *
mail_trace_received(
	const struct mail_msg *msg, const char *hostname, const char *id, const char *token)
{
	const struct mail_origin *origin = msg->origin;
	const char *helo = *origin->helo != '\0' ? origin->helo : "unknown";
	const char *rcpt = "";
	char date[40];

	mail_trace_date(date, sizeof(date));
	if (msg->rcpt_count == 1)
		rcpt = arena_printf(msg->arena, "\r\n\tfor <%s>", msg->rcpts[0]->addr);
	return arena_printf(msg->arena,
		"Received: from %s %s\r\n\tby %s (Postern) with %s id %s.%s%s;%s%s\r\n", helo,
		client_comment(origin, msg->arena), hostname, origin->protocol, id, token, rcpt,
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

static bool
ends_in_token(const char *word, size_t len, const char *token)
{
	size_t token_len = strlen(token);

	return len > token_len && word[len - token_len - 1] == '.' &&
	       memcmp(word + len - token_len, token, token_len) == 0;
}

/* Only the id clause counts: comments, addresses and the date say what others want us to read. */
static bool
has_token(const char *value, size_t len, const char *token)
{
	bool behind_id = false;
	size_t pos = 0;

	while (pos < len && value[pos] != ';') {
		size_t n = word_len(value + pos, len - pos);

		if (n > 0) {
			if (behind_id && ends_in_token(value + pos, n, token))
				return true;
			behind_id = n == 2 && strncasecmp(value + pos, "id", 2) == 0;
			pos += n;
		} else if (value[pos] == '(' || value[pos] == '"' || value[pos] == '<') {
			pos += skip_group(value + pos, len - pos);
		} else {
			pos++;
		}
	}
	return false;
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
