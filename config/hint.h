/*
 * config/hint.h - what a word that is wrong was probably meant to be: habits from other programs' files.
 */
#ifndef CONFIG_HINT_H
#define CONFIG_HINT_H

#include "base/str.h"
#include "config/config.h"

/* "30sec" is 30s, "64MB" is 64M. units: the letters there are, the first of which `text` may stand for. Returns false when
 * nothing is plain. */
bool config_hint_unit(const char *text, const char *const *units, struct str *out);
/* "a,b," is "a b". false: there is no comma where none belongs. */
bool config_hint_commas(const struct config_word *word, bool has_many, struct str *out);
/* What a comment of another language, or an include, begins with; NULL: none of them. */
const char *config_hint_comment(const char *word);

#endif
