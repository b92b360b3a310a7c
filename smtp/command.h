/*
 * smtp/command.h - one line of a client to a struct. Pure, fuzzed. RFC 5321 4.1.1.
 */
#ifndef SMTP_COMMAND_H
#define SMTP_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

/* Longest line without its CRLF (RFC 5321 4.5.3.1.4 with room for extensions; RFC 4954 4 for AUTH). */
#define SMTP_LINE_MAX 2046
#define SMTP_AUTH_LINE_MAX 12286

struct smtp_command {
	char verb[16];	  /* upper case; "" when the first word is no verb */
	const char *args; /* behind the verb and its spaces; trailing spaces left out; borrowed */
	size_t args_len;
};

enum smtp_command_error {
	SMTP_COMMAND_OK,
	SMTP_COMMAND_BARE,    /* a bare CR or LF, or a NUL: 500 5.5.2, not obeyed */
	SMTP_COMMAND_CONTROL, /* another control character but tab: 500 5.5.2 */
	SMTP_COMMAND_HTTP,    /* an HTTP request line or header; the connection ends */
};

/* line is without its CRLF. */
enum smtp_command_error smtp_command_parse(const char *line, size_t len, struct smtp_command *cmd_r);

#endif
