/* smtp/command.c - one line of a client to a struct. */
#include "smtp/command.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

/* None of these is a verb of SMTP, so a browser or a proxy is talking, mostly for someone else. */
static const char *const http_methods[] = {
	"GET",
	"POST",
	"PUT",
	"HEAD",
	"DELETE",
	"CONNECT",
	"OPTIONS",
	"TRACE",
	"PATCH",
	"PRI",
};

/* Each stands for itself with a colon behind it, or for all that begin so when it ends in '-'. */
static const char *const http_headers[] = {
	"Host",
	"User-Agent",
	"Accept",
	"Accept-",
	"Content-",
	"Connection",
	"Cookie",
	"Referer",
	"Origin",
	"Authorization",
	"Cache-Control",
	"Upgrade",
	"Upgrade-",
	"Transfer-Encoding",
	"Sec-",
	"Proxy-",
	"X-Forwarded-",
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool
is_http_method(const char *word, size_t len)
{
	for (size_t i = 0; i < COUNT(http_methods); i++)
		if (strlen(http_methods[i]) == len && strncasecmp(word, http_methods[i], len) == 0)
			return true;
	return false;
}

static bool
is_http_header(const char *line, size_t len)
{
	const char *colon = memchr(line, ':', len);
	size_t name_len = colon != NULL ? (size_t)(colon - line) : 0;

	for (size_t i = 0; i < COUNT(http_headers); i++) {
		const char *name = http_headers[i];
		size_t want = strlen(name);
		bool is_prefix = name[want - 1] == '-';

		if (is_prefix ? name_len > want : name_len == want)
			if (strncasecmp(line, name, want) == 0 &&
				memchr(line, ' ', name_len) == NULL)
				return true;
	}
	return false;
}

static enum smtp_command_error
check_octets(const char *line, size_t len)
{
	enum smtp_command_error found = SMTP_COMMAND_OK;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)line[i];

		if (c == '\r' || c == '\n' || c == '\0')
			return SMTP_COMMAND_BARE;
		if ((c < ' ' && c != '\t') || c == 127)
			found = SMTP_COMMAND_CONTROL;
	}
	return found;
}

/* Length of the verb at the start of the line: letters, then a blank or the end. 0: there is none.
 */
static size_t
verb_len(const char *line, size_t len)
{
	size_t n = 0;

	while (n < len && isascii((unsigned char)line[n]) && isalpha((unsigned char)line[n]))
		n++;
	if (n >= sizeof(((struct smtp_command *)NULL)->verb) || (n < len && !is_blank(line[n])))
		return 0;
	return n;
}

enum smtp_command_error
smtp_command_parse(const char *line, size_t len, struct smtp_command *cmd_r)
{
	enum smtp_command_error bad = check_octets(line, len);
	size_t verb, args;

	while (len > 0 && is_blank(line[len - 1]))
		len--;
	verb = verb_len(line, len);
	for (args = verb; args < len && is_blank(line[args]);)
		args++;
	*cmd_r = (struct smtp_command){.args = line + args, .args_len = len - args};
	for (size_t i = 0; i < verb; i++)
		cmd_r->verb[i] = (char)toupper((unsigned char)line[i]);
	if (is_http_method(line, verb) || is_http_header(line, len))
		return SMTP_COMMAND_HTTP;
	return bad;
}
