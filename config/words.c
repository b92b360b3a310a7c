/*
 * config/words.c - lists of words, and the way back from words to text.
 */
#include "config/words.h"

#include <stdlib.h>
#include <string.h>

#include "base/xalloc.h"

void
words_add(struct words_maker *m, const struct config_word *word)
{
	if (m->count == m->size) {
		m->size = m->size != 0 ? m->size * 2 : 8;
		m->list = xrealloc(m->list, m->size * sizeof(*m->list));
	}
	m->list[m->count++] = *word;
}

void
words_finish(struct words_maker *m, struct arena *arena, struct config_words *words_r)
{
	words_r->list = arena_memdup(arena, m->list, m->count * sizeof(*m->list));
	words_r->count = m->count;
	free(m->list);
	*m = (struct words_maker)WORDS_MAKER_INIT;
}

/*
 * May it be written without quotes? A word with one slash in front could be read as a pattern's
 * beginning when others follow it.
 */
static bool
is_plain(const char *text, bool is_last)
{
	const char *s;

	if (*text == '\0' || *text == '#' || *text == '\'')
		return false;
	if (*text == '/' &&
		(strpbrk(text, "$^|(") != NULL || text[1] == '@' || text[strlen(text) - 1] == '/' ||
			(strchr(text + 1, '/') == NULL && !is_last)))
		return false;
	for (s = text; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;

		if (c <= ' ' || c >= 0x7f || strchr("\"\\;{}", c) != NULL)
			return false;
	}
	return true;
}

static void
write_quoted(struct str *out, const char *text)
{
	str_addc(out, '"');
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			str_addc(out, '\\');
		str_addc(out, *text);
	}
	str_addc(out, '"');
}

static void
write_pattern(struct str *out, const char *text)
{
	str_addc(out, '/');
	for (; *text != '\0'; text++) {
		if (*text == '\\' && text[1] != '\0')
			str_addc(out, *text++);
		else if (*text == '/')
			str_addc(out, '\\');
		str_addc(out, *text);
	}
	str_addc(out, '/');
}

void
words_write(struct str *out, const struct config_words *words)
{
	size_t i;

	for (i = 0; i < words->count; i++) {
		const struct config_word *word = &words->list[i];

		if (i != 0)
			str_addc(out, ' ');
		if (word->kind == CONFIG_WORD_PATTERN)
			write_pattern(out, word->text);
		else if (word->kind == CONFIG_WORD_QUOTED ||
			 !is_plain(word->text, i + 1 == words->count))
			write_quoted(out, word->text);
		else
			str_add(out, word->text);
	}
}
