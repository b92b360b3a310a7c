/*
 * filters/template.h - the words of a command, in which %x stands for a fact about the message.
 *
 * A word is an argument before and after: what is put in never makes two of it, and no shell ever sees it. What comes
 * from outside (addresses, names) and would make a word begin with '-' is put in angle brackets, so that it cannot
 * become an option: "<-f@example.org>". Pure.
 */
#ifndef FILTERS_TEMPLATE_H
#define FILTERS_TEMPLATE_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/err.h"
#include "config/option.h"

/* For the sentence of a `command` option. */
#define TEMPLATE_HELP                                                                              \
	"the program, by its absolute path, and its arguments, which no shell sees; in them %f "   \
	"stands for a file with the message, %s the envelope sender (<> for the null sender), %r " \
	"a recipient, %R (a word of its own) all of them, one argument each, %a the client's "     \
	"address, %e the name it gave in HELO, %l the listener, %i the id of the transaction, %t " \
	"a folder that is removed afterwards, %% for %; what would begin with - through an "       \
	"address is put in angle brackets"

/* By letter; NULL: empty. */
struct template_facts {
	const char *file, *body, *header; /* %f %n %h: paths */
	const char *folder;		  /* %t */
	const char *sender;		  /* %s: as in the envelope, "" is the null sender */
	const char *rcpt;		  /* %r */
	const char *const *rcpts;	  /* %R */
	size_t rcpt_count;
	const char *client, *helo, *listener, *id; /* %a %e %l %i */
};

/* letters: those that this command may use. 0, or -1: err names the word and what would be right. */
int template_check(const struct config_words *words, const char *letters, struct err *err);
/* Is %letter in it? */
bool template_uses(const struct config_words *words, char letter);
/* NULL-terminated, in arena. NULL: more than max arguments. */
const char **template_expand(const struct config_words *words, const struct template_facts *facts, size_t max,
	struct arena *arena);
/* The word as it was written: a path such as /usr/ looks like a pattern to the parser. */
const char *template_word(const struct config_word *word, struct arena *arena);

#endif
