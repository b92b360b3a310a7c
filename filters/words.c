/* filters/words.c - words of the configuration and of files, checked for what can never match. */
#include "filters/words.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/table.h"
#include "base/xalloc.h"
#include "config/source.h"
#include "mail/canonical.h"

/* Kept with a configuration. */
struct addresses {
	const struct address_conf *conf;
	struct match_list *local; /* NULL: none, or there was something wrong */
};
static const char addresses_key;

/* Both arrays are parallel. */
struct maker {
	struct config *conf;
	const char *option;
	enum words_kind kind;
	const struct config_option *options;
	struct match_word *words;
	struct config_place *places;
	size_t count, size;
	struct match_source *sources;
	size_t source_count;
};

static bool
is_option(const struct maker *m, const char *word)
{
	for (const struct config_option *o = m->options; o != NULL && o->name != NULL; o++)
		if (strcmp(o->name, word) == 0)
			return true;
	return false;
}

/* hash:/etc/postfix/x: a word, a colon, and a path. */
static bool
is_table_of_postfix(const char *text)
{
	size_t word = strspn(text, "abcdefghijklmnopqrstuvwxyz");

	return word > 0 && strncmp(text + word, ":/", 2) == 0;
}

/* What is wrong with an address or name, besides what its own check says. */
static bool
check_shape(const struct maker *m, const char *text, const struct config_place *place)
{
	const char *name = m->kind == WORDS_ADDRESS ? "an address" : m->kind == WORDS_DOMAIN ? "a domain" : "a name";

	if (*text == '<')
		config_error(m->conf, place, "%s: %s stands without < and >", m->option, name);
	else if (text[0] == '*' && (text[1] == '@' || text[1] == '.'))
		config_error(m->conf, place, "%s: \"%s\": a star stands for nothing here (try %s)",
			m->option, text, text + 1);
	else if (is_table_of_postfix(text))
		config_error(m->conf, place,
			"%s: \"%s\" is no list here (try file:PATH or lmdb:PATH; a /pattern/ stands in the list itself)",
			m->option, text);
	else if (*text == '/' && strrchr(text, '/') != text)
		config_error(m->conf, place,
			"%s: \"%s\" is not a pattern: nothing stands behind its last slash (case is ignored anyway)",
			m->option, text);
	else if (*text != '"' && strpbrk(text, " \t") != NULL)
		config_error(m->conf, place,
			"%s: \"%s\" is not %s: there is white space in it (in a file, each word and each comment has a line of its own)",
			m->option, text, name);
	else if (strchr(text, '@') == NULL && is_option(m, text))
		config_error(m->conf, place,
			"%s: \"%s\" is not %s: a semicolon or the end of the line is missing in front of it",
			m->option, text, name);
	else if (strcmp(text, ".") == 0)
		config_error(m->conf, place, "%s: the domain is missing in \".\" (try .example.org)", m->option);
	else
		return true;
	return false;
}

static void
check_address(const struct maker *m, const char *text, const struct config_place *place)
{
	static const char *const classes[] = {WORDS_LOCAL, NULL};
	const char *at = strchr(text, '@');

	if (strcmp(text, "<>") == 0 || strcasecmp(text, "postmaster") == 0 || !check_shape(m, text, place))
		return;
	if (at != NULL && strchr(at + 1, '@') != NULL && *text != '"')
		config_error(m->conf, place, "%s: \"%s\" has more than one @", m->option, text);
	else if (at == NULL && config_did_you_mean(text, classes) != NULL)
		config_error(m->conf, place, "%s: \"%s\" is not an address (did you mean \"%s\"?)", m->option, text,
			WORDS_LOCAL);
	else if (at == NULL && *text != '.')
		config_error(m->conf, place, "%s: \"%s\" is not an address (try @%s for all of a domain)",
			m->option, text, *text != '\0' ? text : "example.org");
	else if (at != NULL && at[1] == '\0')
		config_error(m->conf, place, "%s: the domain is missing in \"%s\" (try %sexample.org)",
			m->option, text, text);
}

static void
check_name(const struct maker *m, const char *text, const struct config_place *place)
{
	const char *at = strchr(text, '@');

	if (!check_shape(m, text, place))
		return;
	if (at != NULL)
		config_error(m->conf, place, "%s: \"%s\" is not a name (try %s)", m->option, text,
			at[1] != '\0' ? at + 1 : "mail.example.org");
	else if (*text == '\0')
		config_error(m->conf, place, "%s: \"\" is not a name (try mail.example.org)", m->option);
}

static void
check_domain(const struct maker *m, const char *text, const struct config_place *place)
{
	const char *at = strchr(text, '@');

	if (!check_shape(m, text, place))
		return;
	if (at != NULL || *text == '\0')
		config_error(m->conf, place, "%s: \"%s\" is not a domain (try %s)", m->option, text,
			at != NULL && at[1] != '\0' ? at + 1 : "example.org");
}

/* A word that nothing can ever be is a slip, and a list that never matches a hole. */
static void
check_word(const struct maker *m, const struct match_word *word, const struct config_place *place)
{
	if (word->is_pattern)
		return;
	if (m->kind == WORDS_ADDRESS)
		check_address(m, word->text, place);
	else if (m->kind == WORDS_NAME)
		check_name(m, word->text, place);
	else if (m->kind == WORDS_DOMAIN)
		check_domain(m, word->text, place);
}

const char *
words_qualified(struct config *conf, const char *address)
{
	const struct addresses *a = config_kept(conf, &addresses_key);

	if (a == NULL || a->conf->unqualified_domain == NULL || *address == '\0' || strcmp(address, "<>") == 0 ||
		strchr(address, '@') != NULL)
		return address;
	return arena_printf(conf->arena, "%s@%s", address, a->conf->unqualified_domain);
}

/* As words_ask() has what it asks about. */
static const char *
canonical_word(const struct maker *m, const char *text)
{
	struct mail_canonical c;

	if (m->kind == WORDS_TEXT)
		return text;
	if (m->kind == WORDS_ADDRESS && strcasecmp(text, "postmaster") == 0)
		text = words_qualified(m->conf, text);
	if (!mail_canonical(text, strlen(text), m->kind != WORDS_ADDRESS || *text == '.' || *text == '@', &c))
		return text;
	return arena_strndup(m->conf->arena, c.text, c.len);
}

static enum match_kind
match_kind(const struct maker *m)
{
	return m->kind == WORDS_TEXT ? MATCH_TEXTS : MATCH_ADDRESSES;
}

static void
add_source(struct maker *m, enum match_result (*ask)(const void *, const char *, size_t, struct err *),
	void (*free_source)(void *), void *arg)
{
	m->sources = xrealloc(m->sources, (m->source_count + 1) * sizeof(m->sources[0]));
	m->sources[m->source_count++] = (struct match_source){ask, free_source, arg};
}

/* ---- tables ---- */

static enum match_result
ask_table(const void *arg, const char *address, size_t len, struct err *err)
{
	return table_ask((struct table *)(uintptr_t)arg, address, len, err);
}

static void
free_table(void *arg)
{
	struct table *table = arg;

	table_free(&table);
}

static void
add_table(struct maker *m, const char *written, const struct config_place *place)
{
	const char *path = config_source_path(m->conf, place->file, written);
	struct err err;

	if (*written == '\0') {
		config_error(m->conf, place, "%s: lmdb: needs a path (try lmdb:/etc/postern/list.lmdb)", m->option);
	} else if (table_check(path, &err) < 0) {
		config_error(m->conf, place, "%s: %s", m->option, err.text);
	} else {
		config_source_note_table(m->conf, path);
		add_source(m, ask_table, free_table, table_new(path, match_kind(m)));
	}
}

/* ---- local domains ---- */

/* No other domain can be meant where there is none; the null sender is nobody's. */
static enum match_result
ask_local(const void *local, const char *address, size_t len, struct err *err)
{
	const char *at = memrchr(address, '@', len);

	if (at == NULL)
		return len > 0 ? MATCH_YES : MATCH_NO;
	return match_list_ask(local, at + 1, len - (size_t)(at + 1 - address), err);
}

static void
free_addresses(void *arg)
{
	struct addresses *a = arg;

	match_list_free(&a->local);
}

void
words_use_addresses(struct config *conf, const struct address_conf *addresses)
{
	struct addresses *a = arena_zalloc(conf->arena, sizeof(*a));

	a->conf = addresses;
	a->local = words_list(conf, WORDS_LOCAL, WORDS_DOMAIN, &addresses->local_domains, NULL);
	config_keep(conf, &addresses_key, a, free_addresses);
}

static void
add_local(struct maker *m, const struct config_place *place)
{
	const struct addresses *a = config_kept(m->conf, &addresses_key);

	if (a != NULL && a->local != NULL)
		add_source(m, ask_local, NULL, a->local);
	else if (a == NULL || a->conf->local_domains.count == 0)
		config_error(m->conf, place,
			"%s: local_domains is not set (try local_domains example.org, outside of all blocks)", m->option);
}

/* ---- all of them ---- */

static void
add_plain(struct maker *m, const char *text, bool is_pattern, const struct config_place *place)
{
	if (m->count == m->size) {
		m->size = m->size != 0 ? m->size * 2 : 16;
		m->words = xrealloc(m->words, m->size * sizeof(*m->words));
		m->places = xrealloc(m->places, m->size * sizeof(*m->places));
	}
	m->words[m->count] = (struct match_word){.text = text, .is_pattern = is_pattern};
	m->places[m->count] = *place;
	check_word(m, &m->words[m->count], place);
	if (!is_pattern)
		m->words[m->count].text = canonical_word(m, text);
	m->count++;
}

static void
add(struct maker *m, const char *text, bool is_pattern, const struct config_place *place)
{
	if (!is_pattern && strncmp(text, "lmdb:", 5) == 0)
		add_table(m, text + 5, place);
	else if (!is_pattern && m->kind == WORDS_ADDRESS && strcmp(text, WORDS_LOCAL) == 0)
		add_local(m, place);
	else
		add_plain(m, text, is_pattern, place);
}

/* A line without its end: nothing, a comment, a pattern or a word. */
static void
add_line(struct maker *m, const char *line, size_t len, const struct config_place *place)
{
	while (len > 0 && isspace((unsigned char)*line)) {
		line++;
		len--;
	}
	while (len > 0 && isspace((unsigned char)line[len - 1]))
		len--;
	if (len == 0 || *line == '#')
		return;
	if (len > 2 && line[0] == '/' && line[len - 1] == '/')
		add(m, arena_strndup(m->conf->arena, line + 1, len - 2), true, place);
	else
		add(m, arena_strndup(m->conf->arena, line, len), false, place);
}

static void
add_file(struct maker *m, const char *written, const struct config_place *from)
{
	const char *path = config_source_path(m->conf, from->file, written), *line, *end, *stop;
	struct config_source source;
	struct config_place place;

	if (*written == '\0') {
		config_error(m->conf, from, "%s: file: needs a path (try file:/etc/postern/list)", m->option);
		return;
	}
	if (config_source_read(m->conf, path, m->option, from, &source) < 0 ||
		config_source_check(m->conf, &source) < 0)
		return;
	place = (struct config_place){.file = source.name, .line = 1, .column = 1};
	stop = source.text + source.len;
	for (line = source.text; line < stop; line = end + 1, place.line++) {
		end = memchr(line, '\n', (size_t)(stop - line));
		if (end == NULL)
			end = stop;
		add_line(m, line, (size_t)(end - line), &place);
	}
}

static void
add_word(struct maker *m, const struct config_word *word)
{
	bool is_pattern = word->kind == CONFIG_WORD_PATTERN;

	if (!is_pattern && strncmp(word->text, "file:", 5) == 0)
		add_file(m, word->text + 5, &word->place);
	else
		add(m, word->text, is_pattern, &word->place);
}

/* Takes over the sources. */
static struct match_list *
make_list(struct maker *m)
{
	struct match_list *list;
	struct err err;
	size_t bad = 0;

	list = match_list_new(match_kind(m), m->words, m->count, &bad, &err);
	if (list == NULL)
		config_error(m->conf, &m->places[bad], "%s: %s", m->option, err.text);
	for (size_t i = 0; i < m->source_count; i++) {
		if (list != NULL)
			match_list_add_source(list, &m->sources[i]);
		else if (m->sources[i].free != NULL)
			m->sources[i].free(m->sources[i].arg);
	}
	return list;
}

struct match_list *
words_list(struct config *conf, const char *option, enum words_kind kind,
	const struct config_words *words, const struct config_option *options)
{
	struct maker m = {.conf = conf, .option = option, .kind = kind, .options = options};
	struct match_list *list;

	if (words->count == 0)
		return NULL;
	for (size_t i = 0; i < words->count; i++)
		add_word(&m, &words->list[i]);
	list = make_list(&m);
	free(m.words);
	free(m.places);
	free(m.sources);
	return list;
}

enum match_result
words_ask(const struct match_list *list, const char *address, struct err *err)
{
	struct mail_canonical canonical, readable;
	size_t len = strlen(address);
	enum match_result match;

	if (mail_canonical(address, len, false, &canonical)) {
		address = canonical.text;
		len = canonical.len;
	}
	match = match_list_ask(list, address, len, err);
	if (match == MATCH_NO && mail_readable(address, len, &readable))
		match = match_list_ask(list, readable.text, readable.len, err);
	return match;
}
