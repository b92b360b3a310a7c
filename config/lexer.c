/*
 * config/lexer.c - text to tokens.
 */
#include "config/lexer.h"

#include <string.h>

#include "base/str.h"
#include "base/xalloc.h"
#include "config/words.h"

void
config_lexer_init(struct config_lexer *lx, struct config *conf, const char *file, const char *text,
	size_t len)
{
	*lx = (struct config_lexer){
		.conf = conf,
		.file = file,
		.pos = text,
		.end = text + len,
		.line_begin = text,
		.line = 1,
	};
}

/* The octet n places ahead, or NUL at the end (no file holds a NUL). */
static char
peek(const struct config_lexer *lx, size_t n)
{
	return n < (size_t)(lx->end - lx->pos) ? lx->pos[n] : '\0';
}

static struct config_place
place_at(const struct config_lexer *lx, const char *pos)
{
	return (struct config_place){
		.file = lx->file,
		.line = lx->line,
		.column = (int)(pos - lx->line_begin) + 1,
	};
}

static void
complain(struct config_lexer *lx, const char *pos, const char *text)
{
	struct config_place place = place_at(lx, pos);

	config_error(lx->conf, &place, "%s", text);
	lx->is_bad = true;
}

static void
complain_control(struct config_lexer *lx)
{
	struct config_place place = place_at(lx, lx->pos);

	config_error(lx->conf, &place, "control character \\x%02x%s", (unsigned char)*lx->pos,
		*lx->pos == '\r' ? " (a CR alone ends no line: LF or CRLF does)" : "");
	lx->is_bad = true;
}

/* How many octets the line end at the n-th octet has; 0: none is there. */
static size_t
line_end_at(const struct config_lexer *lx, size_t n)
{
	if (peek(lx, n) == '\n')
		return 1;
	return peek(lx, n) == '\r' && peek(lx, n + 1) == '\n' ? 2 : 0;
}

static void
take_line_end(struct config_lexer *lx, size_t len)
{
	lx->pos += len;
	lx->line++;
	lx->line_begin = lx->pos;
}

static void
skip_line(struct config_lexer *lx)
{
	while (lx->pos < lx->end && line_end_at(lx, 0) == 0)
		lx->pos++;
}

static bool
is_continuation(const struct config_lexer *lx)
{
	return *lx->pos == '\\' && line_end_at(lx, 1) != 0;
}

/* May a word end in front of the n-th octet? */
static bool
is_separator(const struct config_lexer *lx, size_t n)
{
	char c = peek(lx, n);

	return lx->pos + n >= lx->end || c == ' ' || c == '\t' || c == ';' || c == '{' ||
	       c == '}' || line_end_at(lx, n) != 0 || (c == '\\' && line_end_at(lx, n + 1) != 0);
}

static void
skip_blanks(struct config_lexer *lx)
{
	while (lx->pos < lx->end) {
		if (*lx->pos == ' ' || *lx->pos == '\t') {
			lx->pos++;
		} else if (*lx->pos == '#') {
			skip_line(lx);
		} else if (is_continuation(lx)) {
			lx->pos++;
			take_line_end(lx, line_end_at(lx, 0));
		} else {
			return;
		}
	}
}

static bool
is_control(char c)
{
	return ((unsigned char)c < ' ' && c != '\t') || c == 0x7f;
}

static void
lex_quoted(struct config_lexer *lx, struct config_word *word)
{
	const char *open = lx->pos++;
	struct str text = STR_INIT;

	while (lx->pos < lx->end && *lx->pos != '"' && line_end_at(lx, 0) == 0) {
		if (is_control(*lx->pos))
			complain_control(lx);
		if (*lx->pos == '\\' && (peek(lx, 1) == '"' || peek(lx, 1) == '\\'))
			lx->pos++;
		str_addc(&text, *lx->pos++);
	}
	word->kind = CONFIG_WORD_QUOTED;
	word->text = arena_strndup(lx->conf->arena, str_text(&text), text.len);
	str_deinit(&text);
	if (peek(lx, 0) != '"') {
		complain(lx, open, "unterminated quote (the closing \" is missing on this line)");
		return;
	}
	lx->pos++;
	if (!is_separator(lx, 0)) {
		complain(lx, lx->pos, "a blank is missing behind the closing quote");
		skip_line(lx);
	}
}

/*
 * The length of the pattern that begins here, with both slashes; 0: a path. Both begin with a
 * slash; it is a pattern when something separates its next unescaped slash from what follows,
 * before a comment.
 */
static size_t
pattern_len(const struct config_lexer *lx)
{
	size_t n;

	for (n = 1; lx->pos + n < lx->end && line_end_at(lx, n) == 0; n++) {
		char c = peek(lx, n);

		if (c == '/')
			return is_separator(lx, n + 1) ? n + 1 : 0;
		if (c == '#' && (peek(lx, n - 1) == ' ' || peek(lx, n - 1) == '\t'))
			return 0;
		if (c == '\\' && line_end_at(lx, n + 1) == 0)
			n++;
	}
	return 0;
}

static bool
is_first_on_line(const struct config_lexer *lx, const char *pos)
{
	return strspn(lx->line_begin, " \t") >= (size_t)(pos - lx->line_begin);
}

static void
lex_pattern(struct config_lexer *lx, size_t len, struct config_word *word)
{
	const char *open = lx->pos, *close = lx->pos + len - 1;
	struct str text = STR_INIT;

	for (lx->pos++; lx->pos < close; lx->pos++) {
		if (is_control(*lx->pos))
			complain_control(lx);
		if (*lx->pos == '\\' && lx->pos[1] != '/')
			str_addc(&text, *lx->pos++);
		else if (*lx->pos == '\\')
			lx->pos++;
		str_addc(&text, *lx->pos);
	}
	lx->pos++;
	if (text.len == 0)
		complain(lx, open, is_first_on_line(lx, open) ? "a comment begins with #, not with //"
				: "empty pattern (it would match everything: write /^/)");
	if (text.len == 0 && is_first_on_line(lx, open))
		skip_line(lx);
	word->kind = CONFIG_WORD_PATTERN;
	word->text = arena_strndup(lx->conf->arena, str_text(&text), text.len);
	str_deinit(&text);
}

/* Signs that look like others, or like nothing: they come from word processors and web pages. */
static const char *
lookalike_fault(const char *text, size_t len)
{
	static const char *const faults[][2] = {
		{"\xc2\xa0", "a no-break space stands here (type a plain blank)"},
		{"\xe2\x80\x8b", "an invisible character stands here (U+200B: remove it)"},
		{"\xef\xbb\xbf", "an invisible character stands here (U+FEFF: remove it)"},
		{"\xe2\x80\x9c", "a typographic quote does not quote (use \"...\")"},
		{"\xe2\x80\x9d", "a typographic quote does not quote (use \"...\")"},
		{"\xe2\x80\x9e", "a typographic quote does not quote (use \"...\")"},
		{"\xe2\x80\x98", "a typographic quote does not quote (use \"...\")"},
		{"\xe2\x80\x99", "a typographic quote does not quote (use \"...\")"},
		{"\xe2\x80\x93", "a dash that is longer than a hyphen stands here (type -)"},
	};

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		if (memmem(text, len, faults[i][0], strlen(faults[i][0])) != NULL)
			return faults[i][1];
	return NULL;
}

/* What is wrong with a plain word, or NULL. */
static const char *
plain_fault(const char *text, size_t len)
{
	size_t i, n;

	if (len == 1 && *text == '\\')
		return "a backslash continues a line only at its very end";
	if (*text == '\'')
		return "an apostrophe does not quote (use \"...\")";
	if (memchr(text, '"', len) != NULL)
		return "a quote inside a word (put the whole word in quotes)";
	if (*text == '/' &&
		(memchr(text, '\\', len) != NULL || memchr(text, '$', len) != NULL ||
			memchr(text, '^', len) != NULL || memchr(text, '|', len) != NULL ||
			memchr(text, '(', len) != NULL || (len > 1 && text[1] == '@')))
		return "unterminated pattern (it ends with a slash, one inside is written \\/; "
		       "put a path in quotes)";
	for (i = 0; i < len; i += n) {
		n = str_utf8_len(text + i, len - i);
		if (n == 0)
			return "not UTF-8 (put the word in quotes)";
	}
	return lookalike_fault(text, len);
}

static void
lex_plain(struct config_lexer *lx, struct config_word *word)
{
	const char *begin = lx->pos, *fault;
	bool has_control = false;

	while (!is_separator(lx, 0)) {
		if (is_control(*lx->pos) && !has_control) {
			complain_control(lx);
			has_control = true;
		}
		lx->pos++;
	}
	fault = plain_fault(begin, (size_t)(lx->pos - begin));
	if (lx->pos == lx->end && lx->pos[-1] == '\\')
		complain(lx, lx->pos - 1, "a backslash at the end of the file continues nothing");
	else if (fault != NULL && !has_control)
		complain(lx, begin, fault);
	word->kind = CONFIG_WORD_PLAIN;
	word->text = arena_strndup(lx->conf->arena, begin, (size_t)(lx->pos - begin));
}

static void
lex_word(struct config_lexer *lx, struct config_word *word)
{
	size_t len = *lx->pos == '/' ? pattern_len(lx) : 0;

	if (len != 0)
		lex_pattern(lx, len, word);
	else if (*lx->pos == '"')
		lex_quoted(lx, word);
	else
		lex_plain(lx, word);
}

static bool
lex_mark(struct config_lexer *lx, struct config_token *token)
{
	size_t line_end = line_end_at(lx, 0);

	if (line_end != 0) {
		take_line_end(lx, line_end);
		token->kind = CONFIG_TOKEN_END;
		return true;
	}
	if (*lx->pos == ';' && is_first_on_line(lx, lx->pos) && lx->file != NULL) {
		complain(lx, lx->pos, "a semicolon ends a statement, and here is none (a comment begins with #)");
		lx->is_bad = false; /* there is no statement to be blamed */
		skip_line(lx);
		token->kind = CONFIG_TOKEN_END;
		return true;
	}
	if (*lx->pos == ';')
		token->kind = CONFIG_TOKEN_END;
	else if (*lx->pos == '{')
		token->kind = CONFIG_TOKEN_OPEN;
	else if (*lx->pos == '}')
		token->kind = CONFIG_TOKEN_CLOSE;
	else
		return false;
	lx->pos++;
	return true;
}

void
config_lexer_next(struct config_lexer *lx, struct config_token *token_r)
{
	memset(token_r, 0, sizeof(*token_r));
	skip_blanks(lx);
	token_r->word.place = place_at(lx, lx->pos);
	if (lx->pos >= lx->end) {
		token_r->kind = CONFIG_TOKEN_EOF;
	} else if (!lex_mark(lx, token_r)) {
		token_r->kind = CONFIG_TOKEN_WORD;
		lex_word(lx, &token_r->word);
	}
}

void
config_lexer_words(struct config *conf, const char *text, struct config_words *words_r)
{
	struct words_maker maker = WORDS_MAKER_INIT;
	struct config_lexer lx;
	struct config_token token;

	config_lexer_init(&lx, conf, NULL, text, strlen(text));
	for (config_lexer_next(&lx, &token); token.kind == CONFIG_TOKEN_WORD;
		config_lexer_next(&lx, &token))
		words_add(&maker, &token.word);
	words_finish(&maker, conf->arena, words_r);
}
