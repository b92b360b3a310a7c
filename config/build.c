/*
 * config/build.c - finds the row or section each statement means, and fills the structs.
 */
#include "config/build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/str.h"
#include "base/xalloc.h"
#include "config/hint.h"
#include "config/lexer.h"
#include "config/value.h"
#include "config/words.h"

#define NAME_MAX_ 64

struct builder {
	struct config *conf;
	const struct config_section *top;
};

static void build_statements(
	const struct builder *b, struct config_block *block, const struct config_stmt_list *stmts);

const char *
config_build_space(const struct config_section *section)
{
	return section->space != NULL ? section->space : section->name;
}

/* What must be unique: space and name within the parent. One NUL parts them; neither holds one. */
static size_t
name_key(struct str *key, const struct config_block *parent, const char *space, const char *name)
{
	str_addn(key, &parent, sizeof(struct config_block *));
	str_addn(key, space, strlen(space) + 1);
	str_add(key, name);
	return key->len;
}

struct config_block *
config_build_find(const struct config *conf, const struct config_block *parent, const char *space,
	const char *name)
{
	struct str key = STR_INIT;
	size_t len = name_key(&key, parent, space, name);
	struct config_block *found = hash_get(conf->names, key.data, len);

	str_deinit(&key);
	return found;
}

static void
note_name(struct config *conf, const struct config_block *parent, struct config_block *block)
{
	struct str key = STR_INIT;
	size_t len = name_key(&key, parent, config_build_space(block->section), block->name);

	hash_put(conf->names, arena_memdup(conf->arena, key.data, len), len, block);
	str_deinit(&key);
}

static size_t
count_rows(const struct config_group *group)
{
	size_t count = 0;

	while (group->options != NULL && group->options[count].name != NULL)
		count++;
	return count;
}

static struct config_block *
block_new(struct config *conf, const struct config_section *section, const char *name,
	const struct config_place *place)
{
	struct config_block *block = arena_zalloc(conf->arena, sizeof(*block));
	size_t g, i, rows;

	block->section = section;
	block->name = name;
	block->place = *place;
	block->blocks = arena_alloc(conf->arena, sizeof(*block->blocks));
	TAILQ_INIT(block->blocks);
	for (g = 0; g < ARRAY_COUNT(block->data); g++) {
		rows = count_rows(&section->groups[g]);
		block->data[g] = arena_zalloc(conf->arena, section->groups[g].size);
		block->values[g] = arena_zalloc(conf->arena, rows * sizeof(*block->values[g]));
		for (i = 0; i < rows; i++)
			block->values[g][i].option = &section->groups[g].options[i];
	}
	return block;
}

static void
fill_default(struct config *conf, struct config_value *value, void *data)
{
	static const struct config_place nowhere;

	if (value->option->def == NULL)
		return;
	struct config_words words;

	config_lexer_words(conf, value->option->def, &words);
	config_value_set(conf, value->option, &words, &nowhere, data);
	if (value->place.file == NULL)
		value->words = words;
}

static const struct config_section *
find_section(const struct config_section *in, const char *name)
{
	const struct config_section *const *s;

	for (s = in->sections; s != NULL && *s != NULL; s++) {
		if (strcmp((*s)->name, name) == 0)
			return *s;
	}
	return NULL;
}

/* The row of that name; *group_r says in which struct. */
static const struct config_option *
find_option(const struct config_section *section, const char *name, size_t *group_r, size_t *row_r)
{
	size_t g, i, rows;

	for (g = 0; g < ARRAY_COUNT(section->groups); g++) {
		rows = count_rows(&section->groups[g]);
		for (i = 0; i < rows; i++) {
			if (strcmp(section->groups[g].options[i].name, name) != 0)
				continue;
			*group_r = g;
			*row_r = i;
			return &section->groups[g].options[i];
		}
	}
	return NULL;
}

/* All that is not given gets its default; blocks that must be there appear. */
static void
complete(const struct builder *b, struct config_block *block)
{
	static const struct config_place nowhere;
	const struct config_section *const *s;
	struct config_block *child;
	size_t g, i, rows;

	for (g = 0; g < ARRAY_COUNT(block->data); g++) {
		rows = count_rows(&block->section->groups[g]);
		for (i = 0; i < rows; i++) {
			if (block->values[g][i].place.file == NULL)
				fill_default(b->conf, &block->values[g][i], block->data[g]);
		}
	}
	for (s = block->section->sections; s != NULL && *s != NULL; s++) {
		if ((*s)->arity != CONFIG_ONE || config_find_one(block, (*s)->name) != NULL)
			continue;
		child = block_new(b->conf, *s, "", &nowhere);
		TAILQ_INSERT_TAIL(block->blocks, child, next);
		complete(b, child);
	}
}

/* For messages. */
static const char *
where(const struct config_section *section, char *dst, size_t size)
{
	if (*section->name == '\0')
		return "at the top level";
	snprintf(dst, size, "in %s", section->name);
	return dst;
}

/* A section under `in` (itself too) that has the word as option or block. NULL: none has. */
static const struct config_section *
find_home(const struct config_section *in, const char *word)
{
	const struct config_section *const *s, *found;
	size_t g, i;

	if (find_option(in, word, &g, &i) != NULL || find_section(in, word) != NULL)
		return in;
	for (s = in->sections; s != NULL && *s != NULL; s++) {
		found = find_home(*s, word);
		if (found != NULL)
			return found;
	}
	return NULL;
}

/* All words that could stand here, NULL-terminated; the caller frees it. */
static const char **
candidates(const struct config_section *section)
{
	const struct config_section *const *s;
	size_t g, i, n = 0, count = 1;
	const char **list;

	for (g = 0; g < ARRAY_COUNT(section->groups); g++)
		count += count_rows(&section->groups[g]);
	for (s = section->sections; s != NULL && *s != NULL; s++)
		count++;
	list = xcalloc(count + 1, sizeof(*list));
	for (g = 0; g < ARRAY_COUNT(section->groups); g++) {
		for (i = 0; i < count_rows(&section->groups[g]); i++)
			list[n++] = section->groups[g].options[i].name;
	}
	for (s = section->sections; s != NULL && *s != NULL; s++)
		list[n++] = (*s)->name;
	list[n] = "include";
	return list;
}

/* Behind a name no colon or equals sign is written, as in "name: value" and "name=value". */
static bool
complain_sign(const struct builder *b, const struct config_section *section, const struct config_stmt *stmt)
{
	const struct config_word *word = &stmt->words.list[0];
	size_t len = strcspn(word->text, ":=,"), group, row;
	const char *name = arena_strndup(b->conf->arena, word->text, len), *value = word->text + len;
	const struct config_option *option = find_option(section, name, &group, &row);
	struct str sample = STR_INIT;

	if (*value == '\0' || (option == NULL && find_section(section, name) == NULL))
		return false;
	if (value[1] != '\0')
		str_add(&sample, value + 1);
	else if (stmt->words.count > 1)
		str_add(&sample, stmt->words.list[1].text);
	else if (option != NULL)
		config_value_sample(option, &sample);
	config_error(b->conf, &word->place, "%s: no %c is written here (try %s %s)", name, *value, name,
		option != NULL ? str_text(&sample) : "{ ... }");
	str_deinit(&sample);
	return true;
}

/* What other programs call it. */
static const char *
find_other(const struct builder *b, const char *word)
{
	for (size_t i = 0; b->top->others != NULL && b->top->others[i][0] != NULL; i++)
		if (str_caseeq(b->top->others[i][0], word))
			return b->top->others[i][1];
	return NULL;
}

/* Where nothing looks alike: which blocks there are, or where all options can be read. */
static void
add_overview(struct str *out, const struct config_section *section, bool is_block)
{
	const struct config_section *const *s;

	if (!is_block) {
		str_add(out, " (postern -T default shows all there are)");
		return;
	}
	for (s = section->sections; s != NULL && *s != NULL; s++)
		str_printf(out, "%s %s", s == section->sections ? " (there are:" : "", (*s)->name);
	str_add(out, section->sections != NULL ? ")" : "");
}

static void
add_meaning(const struct builder *b, const struct config_section *section, const char *word, bool is_block,
	struct str *out)
{
	const struct config_section *home = find_home(b->top, word), *other_home;
	const char **list = candidates(section), *meant = config_did_you_mean(word, list);
	const char *other = is_block ? NULL : find_other(b, word);

	other_home = other != NULL ? find_home(section, other) : NULL;
	if (other_home == NULL && other != NULL)
		other_home = find_home(b->top, other);
	if (other_home == section && home != b->top)
		str_printf(out, " (here it is called %s)", other);
	else if (home == b->top)
		str_add(out, " (it belongs at the top level: is a } missing above?)");
	else if (home != NULL)
		str_printf(out, " (it is known in %s)", home->name);
	else if (meant != NULL)
		str_printf(out, " (did you mean \"%s\"?)", meant);
	else if (other_home != NULL)
		str_printf(out, " (here it is called %s%s%s)", other, *other_home->name != '\0' ? ", in " : "",
			other_home->name);
	else
		add_overview(out, section, is_block);
	free(list);
}

static void
complain_unknown(const struct builder *b, const struct config_section *section, const struct config_stmt *stmt)
{
	const struct config_word *word = &stmt->words.list[0];
	const char *comment = config_hint_comment(word->text);
	char where_text[100];
	struct str hint = STR_INIT;

	if (comment != NULL) {
		config_error(b->conf, &word->place, "a comment begins with #, not with %s", comment);
		return;
	}
	if (complain_sign(b, section, stmt))
		return;
	add_meaning(b, section, word->text, stmt->has_block, &hint);
	config_error(b->conf, &word->place, "unknown %s \"%s\" %s%s", stmt->has_block ? "block" : "option", word->text,
		where(section, where_text, sizeof(where_text)), str_text(&hint));
	str_deinit(&hint);
}

/* The name of another option among the values: what ends the first statement was forgotten. */
static const struct config_word *
find_run_on(const struct config_section *section, const struct config_option *option, const struct config_words *words)
{
	size_t group, row;

	for (size_t i = 1; i < words->count; i++)
		if (option->type != CONFIG_T_WORDS && words->list[i].kind == CONFIG_WORD_PLAIN &&
			find_option(section, words->list[i].text, &group, &row) != NULL)
			return &words->list[i];
	return NULL;
}

static void
set_option(const struct builder *b, struct config_block *block, const struct config_stmt *stmt,
	size_t group, size_t row)
{
	struct config_value *value = &block->values[group][row];
	const struct config_word *name = &stmt->words.list[0], *run_on;

	if (value->place.file != NULL) {
		config_error(b->conf, &name->place, "%s is given twice (first at %s:%d:%d)",
			name->text, value->place.file, value->place.line, value->place.column);
		return;
	}
	value->place = name->place;
	value->words = (struct config_words){stmt->words.list + 1, stmt->words.count - 1};
	run_on = find_run_on(block->section, value->option, &value->words);
	if (run_on != NULL && !stmt->is_bad)
		config_error(b->conf, &run_on->place, "%s: a semicolon or the end of the line is missing in front of %s", name->text,
			run_on->text);
	if (stmt->is_bad || run_on != NULL || config_value_set(b->conf, value->option, &value->words, &value->place,
				    block->data[group]) < 0)
		fill_default(b->conf, value, block->data[group]);
}

static void
complain_not_a_block(const struct builder *b, const struct config_option *option,
	const struct config_place *place)
{
	struct str sample = STR_INIT;
	bool is_lost = find_section(b->top, option->name) != NULL;

	config_value_sample(option, &sample);
	config_error(b->conf, place, "%s is an option, not a block: write %s %s%s", option->name,
		option->name, str_text(&sample), is_lost ? " (or is a } missing above?)" : "");
	str_deinit(&sample);
}

static bool
is_name(const char *text)
{
	const char *s;

	if (strchr("-._", *text) != NULL) /* also "" */
		return false;
	for (s = text; *s != '\0'; s++) {
		if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
			    (*s >= '0' && *s <= '9') || strchr("-._", *s) != NULL))
			return false;
	}
	return s - text <= NAME_MAX_;
}

/* With what was written already: `log level debug` and `listener front` on a line of its own. */
static void
complain_not_an_option(const struct builder *b, const struct config_section *section, const struct config_stmt *stmt)
{
	const struct config_words *words = &stmt->words;
	size_t first = section->arity == CONFIG_NAMED ? 2 : 1, group, row;
	struct config_words rest = {words->list + first, words->count > first ? words->count - first : 0};
	const char *name = section->arity != CONFIG_NAMED ? "" : words->count > 1 && is_name(words->list[1].text)
				   ? words->list[1].text : "NAME";
	struct str text = STR_INIT;

	if (rest.count == 2 && find_option(section, rest.list[0].text, &group, &row) != NULL)
		words_write(&text, &rest);
	else
		str_add(&text, "...");
	config_error(b->conf, &words->list[0].place, "%s is a block: write %s %s%s{ %s }", section->name, section->name, name,
		*name != '\0' ? " " : "", str_text(&text));
	str_deinit(&text);
}

/* The words behind the block's: a name or none. NULL when they are wrong, which is reported. */
static const char *
check_name(const struct builder *b, const struct config_section *section,
	const struct config_words *words)
{
	bool is_named = section->arity == CONFIG_NAMED;
	const struct config_word *word = &words->list[words->count > 1 ? 1 : 0];

	if (!is_named && words->count > 1) {
		config_error(b->conf, &word->place, "%s takes no name: write %s { ... }",
			section->name, section->name);
		return NULL;
	}
	if (!is_named)
		return "";
	if (words->count == 1) {
		config_error(b->conf, &word->place, "%s needs a name: write %s NAME { ... }",
			section->name, section->name);
		return NULL;
	}
	if (words->count > 2) {
		config_error(b->conf, &words->list[2].place, "%s takes one name: unexpected \"%s\"",
			section->name, words->list[2].text);
		return NULL;
	}
	if (word->kind == CONFIG_WORD_PATTERN || !is_name(word->text)) {
		config_error(b->conf, &word->place,
			"%s: \"%s\" is not a name (letters, digits, - . and _, at most %d, the "
			"first a letter or digit)",
			section->name, word->text, NAME_MAX_);
		return NULL;
	}
	return word->text;
}

/* NULL when nothing of that name stands there, else the block; which is reported. */
static const struct config_block *
check_twice(const struct builder *b, const struct config_block *parent,
	const struct config_section *section, const char *name, const struct config_words *words)
{
	const struct config_block *old;
	const struct config_word *word = &words->list[*name != '\0' ? 1 : 0];

	if (section->arity == CONFIG_MANY)
		return NULL;
	old = config_build_find(b->conf, parent, config_build_space(section), name);
	if (old != NULL && *name != '\0')
		config_error(b->conf, &word->place,
			"%s \"%s\" is defined twice (first at %s:%d:%d)",
			config_build_space(section), name, old->place.file, old->place.line,
			old->place.column);
	else if (old != NULL)
		config_error(b->conf, &word->place, "%s is given twice (first at %s:%d:%d)",
			section->name, old->place.file, old->place.line, old->place.column);
	return old;
}

/* What is in a block that cannot be kept is checked all the same: it does not join its parent. */
static void
build_block(const struct builder *b, struct config_block *parent,
	const struct config_section *section, const struct config_stmt *stmt)
{
	const char *name = stmt->is_bad ? NULL : check_name(b, section, &stmt->words);
	struct config_block *block =
		block_new(b->conf, section, name != NULL ? name : "", &stmt->words.list[0].place);

	if (name != NULL && check_twice(b, parent, section, name, &stmt->words) == NULL) {
		TAILQ_INSERT_TAIL(parent->blocks, block, next);
		if (section->arity != CONFIG_MANY)
			note_name(b->conf, parent, block);
	}
	build_statements(b, block, stmt->block);
}

static const char *
begin_fault(const struct config_word *word)
{
	if (word->kind == CONFIG_WORD_QUOTED)
		return "a statement begins with the name of an option or block, without quotes";
	return *word->text == '*' ? "a comment begins with #, not with /*"
				  : "a statement begins with the name of an option or block (a comment begins with #)";
}

static void
build_statement(const struct builder *b, struct config_block *block, const struct config_stmt *stmt)
{
	const struct config_word *word = &stmt->words.list[0];
	const struct config_section *section = find_section(block->section, word->text);
	const struct config_option *option;
	size_t group, row;

	option = find_option(block->section, word->text, &group, &row);
	if (word->kind != CONFIG_WORD_PLAIN) {
		if (!stmt->is_bad)
			config_error(b->conf, &word->place, "%s", begin_fault(word));
	} else if (stmt->has_block && section != NULL) {
		build_block(b, block, section, stmt);
	} else if (!stmt->has_block && option != NULL) {
		set_option(b, block, stmt, group, row);
	} else if (stmt->is_bad) {
		return;
	} else if (option != NULL) {
		complain_not_a_block(b, option, &word->place);
	} else if (section != NULL) {
		complain_not_an_option(b, section, stmt);
	} else {
		complain_unknown(b, block->section, stmt);
	}
}

static void
build_statements(
	const struct builder *b, struct config_block *block, const struct config_stmt_list *stmts)
{
	const struct config_stmt *stmt;

	STAILQ_FOREACH(stmt, stmts, next)
	build_statement(b, block, stmt);
	complete(b, block);
}

void
config_build(struct config *conf, const char *file, const struct config_section *top,
	const struct config_stmt_list *stmts)
{
	struct builder b = {.conf = conf, .top = top};
	struct config_place place = {.file = file};

	conf->top = block_new(conf, top, "", &place);
	build_statements(&b, conf->top, stmts);
}
