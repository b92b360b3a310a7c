/*
 * config/parse.c - tokens to statements and blocks; includes.
 */
#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/xalloc.h"
#include "config/lexer.h"
#include "config/parse.h"
#include "config/words.h"

#define INCLUDE_MAX 16 /* files deep */
#define FILES_MAX   1000
#define BLOCKS_MAX  16 /* braces deep */

/* One file being read, and who included it. */
struct parser {
	struct config *conf;
	const struct config_source *source;
	const struct parser *from;
	unsigned depth;
	struct config_lexer lexer;
};

static void read_file(struct config *conf, const struct config_source *source,
	const struct parser *from, struct config_stmt_list *list);

static struct config_stmt_list *
list_new(struct config *conf)
{
	struct config_stmt_list *list = arena_alloc(conf->arena, sizeof(*list));

	STAILQ_INIT(list);
	return list;
}

static bool
is_open_already(const struct parser *p, const struct config_source *source)
{
	for (; p != NULL; p = p->from) {
		if (p->source->ino == source->ino && p->source->dev == source->dev)
			return true;
	}
	return false;
}

static void
include_file(struct parser *p, const char *path, const struct config_place *place,
	struct config_stmt_list *list)
{
	struct config_source source;

	if (p->conf->file_count >= FILES_MAX) {
		config_error(p->conf, place, "include: more than %d files", FILES_MAX);
		return;
	}
	if (config_source_read(p->conf, path, "include", place, &source) < 0)
		return;
	if (is_open_already(p, &source)) {
		config_error(p->conf, place, "include: %s includes itself (a loop)", path);
		return;
	}
	read_file(p->conf, &source, p, list);
}

/* glob() has no pointer for its callback's owner. */
static _Thread_local char glob_failure[PATH_MAX + 200];

static int
glob_failed(const char *path, int code)
{
	if (code == ENOENT || code == ENOTDIR)
		return 0;
	snprintf(glob_failure, sizeof(glob_failure), "%.*s: %s", PATH_MAX, path, strerror(code));
	return 1;
}

/* No file yet is what a folder for additions begins with; no folder is a slip. */
static void
warn_no_folder(struct parser *p, const char *pattern, const struct config_place *place)
{
	const char *slash = memrchr(pattern, '/', strcspn(pattern, "*?["));
	const char *folder = slash == NULL ? "." : arena_strndup(p->conf->arena, pattern, (size_t)(slash - pattern) + 1);

	if (access(folder, F_OK) < 0)
		config_warn(p->conf, place, "include: %s: there is no folder %s", pattern, folder);
}

static void
note_glob(struct config *conf, const char *pattern)
{
	const char **grown = arena_alloc(conf->arena, (conf->glob_count + 1) * sizeof(char *));

	if (conf->glob_count > 0)
		memcpy(grown, conf->globs, conf->glob_count * sizeof(char *));
	conf->globs = grown;
	conf->globs[conf->glob_count++] = pattern;
}

static void
include_glob(struct parser *p, const char *pattern, const struct config_place *place,
	struct config_stmt_list *list)
{
	glob_t found;
	size_t i;
	int rc;

	note_glob(p->conf, pattern);
	glob_failure[0] = '\0';
	rc = glob(pattern, 0, glob_failed, &found);
	if (rc != 0 && rc != GLOB_NOMATCH)
		config_error(p->conf, place, "include: %s",
			glob_failure[0] != '\0' ? glob_failure : "the files could not be listed");
	if (rc == GLOB_NOMATCH)
		warn_no_folder(p, pattern, place);
	for (i = 0; rc == 0 && i < found.gl_pathc; i++)
		include_file(p, found.gl_pathv[i], place, list);
	globfree(&found);
}

static void
include(struct parser *p, const struct config_stmt *stmt, struct config_stmt_list *list)
{
	const struct config_word *word = &stmt->words.list[stmt->words.count - 1];
	const char *path;

	if (stmt->is_bad)
		return;
	if (stmt->words.count == 1) {
		config_error(
			p->conf, &word->place, "include needs a path (try include conf.d/*.conf)");
	} else if (stmt->words.count > 2) {
		config_error(p->conf, &stmt->words.list[2].place,
			"include takes one path: unexpected \"%s\"", stmt->words.list[2].text);
	} else if (word->kind == CONFIG_WORD_PATTERN) {
		config_error(p->conf, &word->place,
			"include: a pattern is not possible here (a path that ends in a slash "
			"stands in quotes)");
	} else if (*word->text == '\0') {
		config_error(p->conf, &word->place, "include: the path is empty");
	} else if (p->depth >= INCLUDE_MAX) {
		config_error(
			p->conf, &word->place, "include goes deeper than %d files", INCLUDE_MAX);
	} else {
		path = config_source_path(p->conf, p->source->name, word->text);
		if (strpbrk(word->text, "*?[") != NULL)
			include_glob(p, path, &word->place, list);
		else
			include_file(p, path, &word->place, list);
	}
}

/* Behind an open brace: to its closing one, whatever is between. */
static void
skip_block(struct parser *p)
{
	struct config_token token;
	size_t depth = 1;

	while (depth != 0) {
		config_lexer_next(&p->lexer, &token);
		if (token.kind == CONFIG_TOKEN_OPEN)
			depth++;
		else if (token.kind == CONFIG_TOKEN_CLOSE)
			depth--;
		else if (token.kind == CONFIG_TOKEN_EOF)
			return;
	}
}

/* Collects a statement's words; token is the first word, and then what ended them. */
static struct config_stmt *
read_words(struct parser *p, struct config_token *token)
{
	struct config_stmt *stmt = arena_zalloc(p->conf->arena, sizeof(*stmt));
	struct words_maker maker = WORDS_MAKER_INIT;

	while (token->kind == CONFIG_TOKEN_WORD) {
		words_add(&maker, &token->word);
		config_lexer_next(&p->lexer, token);
	}
	words_finish(&maker, p->conf->arena, &stmt->words);
	stmt->is_bad = p->lexer.is_bad;
	p->lexer.is_bad = false;
	return stmt;
}

static void read_block(struct parser *p, const struct config_place *open, unsigned depth,
	struct config_stmt_list *list);

static void
read_nested(struct parser *p, const struct config_place *open, unsigned depth,
	struct config_stmt_list *list)
{
	if (depth < BLOCKS_MAX) {
		read_block(p, open, depth + 1, list);
		return;
	}
	config_error(p->conf, open, "blocks stand more than %d deep in each other", BLOCKS_MAX);
	skip_block(p);
}

/* Reads one statement whose first word is *token; leaves there what ended it. */
static void
read_stmt(
	struct parser *p, struct config_token *token, unsigned depth, struct config_stmt_list *list)
{
	struct config_stmt *stmt = read_words(p, token);
	const struct config_word *name = &stmt->words.list[0];

	if (name->kind == CONFIG_WORD_PLAIN && strcmp(name->text, "include") == 0 &&
		token->kind != CONFIG_TOKEN_OPEN) {
		include(p, stmt, list);
		return;
	}
	if (token->kind == CONFIG_TOKEN_OPEN) {
		stmt->has_block = true;
		stmt->block = list_new(p->conf);
		read_nested(p, &token->word.place, depth, stmt->block);
		token->kind = CONFIG_TOKEN_END;
	}
	STAILQ_INSERT_TAIL(list, stmt, next);
}

/* Reads to the closing brace, or with open NULL to the end of the file. */
static void
read_block(struct parser *p, const struct config_place *open, unsigned depth,
	struct config_stmt_list *list)
{
	struct config_token token;

	for (;;) {
		config_lexer_next(&p->lexer, &token);
		if (token.kind == CONFIG_TOKEN_WORD)
			read_stmt(p, &token, depth, list);
		if (token.kind == CONFIG_TOKEN_OPEN) {
			config_error(p->conf, &token.word.place,
				"unexpected { (it stands on the line of its block's name)");
			read_nested(p, &token.word.place, depth, list_new(p->conf));
		} else if (token.kind == CONFIG_TOKEN_CLOSE) {
			if (open != NULL)
				return;
			config_error(p->conf, &token.word.place, "unexpected }: no block is open");
		} else if (token.kind == CONFIG_TOKEN_EOF) {
			if (open != NULL)
				config_error(p->conf, open, "this { is never closed (is a } missing?)");
			return;
		}
	}
}

static void
read_file(struct config *conf, const struct config_source *source, const struct parser *from,
	struct config_stmt_list *list)
{
	static const char bom[] = "\xef\xbb\xbf";
	size_t skip = source->len >= 3 && memcmp(source->text, bom, 3) == 0 ? 3 : 0;
	struct parser p = {
		.conf = conf,
		.source = source,
		.from = from,
		.depth = from != NULL ? from->depth + 1 : 1,
	};

	if (config_source_check(conf, source) < 0)
		return;
	config_lexer_init(&p.lexer, conf, source->name, source->text + skip, source->len - skip);
	read_block(&p, NULL, 0, list);
}

struct config_stmt_list *
config_parse_tree(struct config *conf, const struct config_source *source)
{
	struct config_stmt_list *list = list_new(conf);

	read_file(conf, source, NULL, list);
	return list;
}
