/* filters/exit_map.c - what the exit codes of a program mean, as the administrator wrote it. */
#include "filters/exit_map.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool
take_code(const char **text, int *code_r)
{
	size_t len = strspn(*text, "0123456789");

	if (len < 1 || len > 3)
		return false;
	*code_r = atoi(*text);
	*text += len;
	return *code_r < EXIT_CODES;
}

static bool
parse_range(const char *text, int *first_r, int *last_r)
{
	if (!take_code(&text, first_r))
		return false;
	*last_r = *first_r;
	if (*text == '-') {
		text++;
		if (!take_code(&text, last_r))
			return false;
	}
	return *text == '\0' && *first_r <= *last_r;
}

int
exit_map_add(struct exit_map *map, const struct config_words *words, unsigned char meaning, const char *const *names,
	struct err *err)
{
	for (size_t i = 0; i < words->count; i++) {
		const char *text = words->list[i].text;
		int first, last;

		if (words->list[i].kind == CONFIG_WORD_PATTERN || !parse_range(text, &first, &last))
			return err_set(err, "%s: \"%.40s\" is no exit code (try 1, or 1-99; the highest is 255)",
				names[meaning], text);
		for (int code = first; code <= last; code++) {
			if (map->meaning[code] != 0)
				return err_set(err, "%s: %d stands in %s already", names[meaning], code,
					names[map->meaning[code]]);
			map->meaning[code] = meaning;
		}
	}
	return 0;
}
