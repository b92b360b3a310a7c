/* t/fuzz/fuzz_command.c - whatever the line, the command stays within it. */
#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "smtp/command.h"

#define MUST(x) ((x) ? (void)0 : abort())

static void
check_clean(const char *line, size_t len)
{
	for (size_t i = 0; i < len; i++)
		MUST(((unsigned char)line[i] >= ' ' && line[i] != 127) || line[i] == '\t');
}

static void
check_command(const char *line, size_t len, const struct smtp_command *cmd)
{
	size_t verb = strnlen(cmd->verb, sizeof(cmd->verb));

	MUST(verb < sizeof(cmd->verb) && verb <= len);
	for (size_t i = 0; i < verb; i++)
		MUST(isupper((unsigned char)cmd->verb[i]) &&
			cmd->verb[i] == toupper((unsigned char)line[i]));
	MUST(cmd->args >= line + verb && cmd->args + cmd->args_len <= line + len);
	if (cmd->args_len > 0) {
		char first = cmd->args[0], last = cmd->args[cmd->args_len - 1];

		MUST(first != ' ' && first != '\t' && last != ' ' && last != '\t');
		MUST(verb == 0 || cmd->args > line + verb);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *line = (const char *)data;
	struct smtp_command cmd;
	enum smtp_command_error e = smtp_command_parse(line, size, &cmd);

	check_command(line, size, &cmd);
	if (e == SMTP_COMMAND_OK)
		check_clean(line, size);
	if (memchr(line, '\n', size) != NULL)
		MUST(e == SMTP_COMMAND_BARE || e == SMTP_COMMAND_HTTP);
	return 0;
}
