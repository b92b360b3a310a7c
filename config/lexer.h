/*
 * config/lexer.h - the text of one file as words, braces and ends of statements.
 *
 * Mistakes in the text are reported to the configuration at once; the lexer goes on behind them.
 */
#ifndef CONFIG_LEXER_H
#define CONFIG_LEXER_H

#include <stdbool.h>
#include <stddef.h>

#include "config/config.h"

enum config_token_kind {
	CONFIG_TOKEN_WORD,
	CONFIG_TOKEN_END,   /* of a statement: line end or semicolon */
	CONFIG_TOKEN_OPEN,  /* { */
	CONFIG_TOKEN_CLOSE, /* } */
	CONFIG_TOKEN_EOF,
};

struct config_token {
	enum config_token_kind kind;
	struct config_word word; /* text of WORD only (in the configuration's arena); place always */
};

struct config_lexer {
	struct config *conf;
	const char *file; /* NULL: the text of a default */
	const char *pos, *end, *line_begin;
	int line;
	bool is_bad; /* a word was wrong; the caller resets it */
};

/* Borrows text and file. */
void config_lexer_init(struct config_lexer *lx, struct config *conf, const char *file,
	const char *text, size_t len);
void config_lexer_next(struct config_lexer *lx, struct config_token *token_r);

/* The words of a default, as it would be written in a file. */
void config_lexer_words(struct config *conf, const char *text, struct config_words *words_r);

#endif
