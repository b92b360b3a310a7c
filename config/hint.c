/*
 * config/hint.c - guesses about wrong words, for messages alone.
 */
#include "config/hint.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/list.h"

/* By the first letter: "30sec", "30seconds", "64MB" and "64MiB" leave no doubt. */
bool
config_hint_unit(const char *text, const char *const *units, struct str *out)
{
	size_t digits = strspn(text, "0123456789");
	const char *unit = text + digits;

	if (digits == 0 || *unit == '\0' || strspn(unit, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != strlen(unit))
		return false;
	if (strncasecmp(unit, "mil", 3) == 0 || strncasecmp(unit, "mse", 3) == 0)
		unit = "ms";
	for (; *units != NULL; units++)
		if (str_caseeq(*units, unit) || (strcmp(*units, "ms") != 0 && strcmp(unit, "ms") != 0 && strlen(unit) > 1 &&
				(*units)[0] != '\0' && tolower((unsigned char)(*units)[0]) == tolower((unsigned char)*unit))) {
			str_printf(out, "%.*s%s", (int)digits, text, *units);
			return true;
		}
	return false;
}

bool
config_hint_commas(const struct config_word *word, bool has_many, struct str *out)
{
	size_t len = strlen(word->text);
	const char *s;

	if (word->kind != CONFIG_WORD_PLAIN || len < 2)
		return false;
	if (word->text[len - 1] != ',' && (!has_many || strchr(word->text, ',') == NULL))
		return false;
	for (s = word->text; *s != '\0'; s++)
		if (*s != ',')
			str_addc(out, *s);
		else if (s[1] != '\0' && s[1] != ',')
			str_addc(out, ' ');
	return true;
}

const char *
config_hint_comment(const char *word)
{
	static const char *const begins[] = { "//", "/*", "*/", "--", "!", "<!--", "%", "REM" };

	for (size_t i = 0; i < ARRAY_COUNT(begins); i++)
		if (strncmp(word, begins[i], strlen(begins[i])) == 0)
			return begins[i];
	return NULL;
}
