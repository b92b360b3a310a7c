/*
 * config/words.h - a list of words while it grows, and words as they are written. Private to config.
 */
#ifndef CONFIG_WORDS_H
#define CONFIG_WORDS_H

#include "base/arena.h"
#include "base/str.h"
#include "config/option.h"

struct words_maker {
	struct config_word *list;
	size_t count;
	size_t size;
};
#define WORDS_MAKER_INIT { NULL, 0, 0 }

void words_add(struct words_maker *m, const struct config_word *word);
/* Moves the list into the arena; the maker is empty again. */
void words_finish(struct words_maker *m, struct arena *arena, struct config_words *words_r);

/* As the lexer would read them back: quoted, escaped, between slashes where needed. */
void words_write(struct str *out, const struct config_words *words);

#endif
