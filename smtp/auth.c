/* smtp/auth.c - what a client says in AUTH. */
#include "smtp/auth.h"

#include <assert.h>
#include <openssl/evp.h>
#include <string.h>
#include <strings.h>

static void
add_base64(struct str *out, const char *octets, size_t len)
{
	unsigned char text[4 * ((2 * SMTP_AUTH_MAX + 2 + 2) / 3) + 1];

	assert(len <= 2 * SMTP_AUTH_MAX + 2);
	str_addn(out, text, (size_t)EVP_EncodeBlock(text, (const unsigned char *)octets, (int)len));
	explicit_bzero(text, sizeof(text));
}

/* Of AUTH with what follows in the same line, CR LF among it. */
#define COMMAND_MAX 512

/* No identity to act as: "\0user\0password". */
void
smtp_auth_plain_answer(struct str *out, const char *user, const char *password)
{
	struct str message = STR_INIT;

	str_addc(&message, '\0');
	str_addn(&message, user, strlen(user) + 1);
	str_add(&message, password);
	add_base64(out, message.data, message.len);
	str_add(out, "\r\n");
	smtp_auth_wipe(&message);
}

bool
smtp_auth_plain(struct str *out, const char *user, const char *password)
{
	struct str answer = STR_INIT;
	bool fits;

	smtp_auth_plain_answer(&answer, user, password);
	fits = strlen("AUTH PLAIN ") + answer.len <= COMMAND_MAX;
	str_add(out, fits ? "AUTH PLAIN " : "AUTH PLAIN\r\n");
	if (fits)
		str_addn(out, answer.data, answer.len);
	smtp_auth_wipe(&answer);
	return fits;
}

void
smtp_auth_answer(struct str *out, const char *text)
{
	add_base64(out, text, strlen(text));
	str_add(out, "\r\n");
}

void
smtp_auth_wipe(struct str *line)
{
	if (line->data != NULL)
		explicit_bzero(line->data, line->size);
	str_deinit(line);
}

unsigned
smtp_auth_mechs(const char *text, size_t len)
{
	unsigned mechs = 0;
	size_t n;

	for (; len > 0; text += n, len -= n) {
		const char *end = memchr(text, ' ', len);

		n = end != NULL ? (size_t)(end - text) : len;
		if (n == 5 && strncasecmp(text, "PLAIN", n) == 0)
			mechs |= SMTP_AUTH_PLAIN;
		if (n == 5 && strncasecmp(text, "LOGIN", n) == 0)
			mechs |= SMTP_AUTH_LOGIN;
		n += n < len;
	}
	return mechs;
}
