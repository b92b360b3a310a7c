/*
 * config/config.h - one finished configuration: from text to structs by means of tables.
 *
 * config_load() reads the file and what it includes, and fills a struct per block from the rows.
 * It always gives a configuration, also when there were errors, so that the caller's resolve
 * pass can add its own: every error of a file is reported, each as "file:line:column: text".
 *
 * Syntax (postern.conf(5)): a statement is `name word ...` and ends at the line's end, a semicolon or
 * a closing brace; a backslash at the line's end continues it, an open brace begins a block.
 * "..." is one word (\" and \\ inside); /.../ runs to the next unescaped slash; # begins a comment
 * only at the start of a word. `include PATH` takes a glob, sorted; relative to the including file.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/list.h"
#include "config/option.h"

/* What was written for one row. */
struct config_value {
	const struct config_option *option;
	struct config_words words;
	struct config_place place; /* file NULL: the default holds */
};

struct config_block {
	const struct config_section *section;
	const char *name; /* "" when the section has none */
	struct config_place place;
	void *data[2];		       /* one filled struct per group */
	struct config_value *values[2]; /* parallel to the group's rows */
	struct config_block_list *blocks; /* inside this one, in the order written */
	TAILQ_ENTRY(config_block) next;
};
TAILQ_HEAD(config_block_list, config_block);

struct config_problem {
	const char *text; /* with its place in front */
	struct config_place place;
	bool is_warning;
	TAILQ_ENTRY(config_problem) next;
};
TAILQ_HEAD(config_problem_list, config_problem);

/* A file that an option names, and not include. */
struct config_list_file {
	const char *name;
	bool is_table; /* it is looked up in and not read, so the others are 0 */
	uint64_t digest;
	size_t lines;
	STAILQ_ENTRY(config_list_file) next;
};
STAILQ_HEAD(config_list_files, config_list_file);

struct config {
	struct arena *arena;
	struct config_block *top;
	struct config_problem_list problems; /* sorted by place when printed */
	unsigned error_count;
	const char **files; /* all that were read, in that order; for watching them */
	size_t file_count;
	size_t own_count; /* the first ones are the configuration itself; its options name the others */
	struct config_list_files lists; /* those of them that are lists, and tables, each once */
	const char **globs; /* what include named, with its folder; for noticing files that are new */
	size_t glob_count;
	uint64_t digest;    /* of their names and contents: equal digests, equal files */
	struct hash *names; /* private: blocks by what must be unique about them */
	void *settings;			/* the resolve pass's result */
	void (*settings_free)(void *);	/* called at the last unref */
	struct config_kept *kept;       /* private: see config_keep() */
	unsigned refs;			/* atomic */
};

/* Shape: *conf_r is always set (one reference). Returns -1 when there were errors. */
int config_load(const char *path, const struct config_section *top, struct config **conf_r);
/* The same from memory; `name` is the file name in messages. For tests and the fuzzer. */
int config_load_text(
	const char *name, const char *text, size_t len, const struct config_section *top, struct config **conf_r);

struct config *config_ref(struct config *conf);
void config_unref(struct config **conf);

/*
 * What is made of a configuration once and used at many places: freed with it, after its settings. key is an
 * address of who keeps it; config_kept() gives NULL while there is none.
 */
void config_keep(struct config *conf, const void *key, void *value, void (*free)(void *value));
void *config_kept(const struct config *conf, const void *key);

/* For the resolve pass. A place with file NULL gives the message without one. */
void config_error(struct config *conf, const struct config_place *place, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void config_warn(struct config *conf, const struct config_place *place, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Where an option was written, or else the block; never NULL. */
const struct config_place *config_place_of(const struct config_block *block, const char *option);
bool config_is_set(const struct config_block *block, const char *option);
/* Is the address in one of them? */
bool config_nets_have(const struct config_nets *nets, const struct ip_addr *addr);
/* The block of a CONFIG_ONE section (always there). */
struct config_block *config_find_one(const struct config_block *in, const char *section);
/* The block of that name in a name space (or section without one); NULL. */
struct config_block *config_find_named(const struct config *conf, const char *space, const char *name);
/* The best "did you mean" for word among candidates (NULL-terminated), or NULL. */
const char *config_did_you_mean(const char *word, const char *const *candidates);

/* Does the same stand in both, wherever it stands, written or left to its default? Blocks inside them count. */
bool config_block_same(const struct config_block *a, const struct config_block *b);
/*
 * Calls fn for each difference. of: "listener front", "rule 2", "" at the top. An option was and is so (NULL: not
 * set); or, with option NULL, the whole block was or is "there". Of a file that both name, and in which something
 * else stands: "file PATH", and its lines.
 */
typedef void (*config_diff_fn)(void *arg, const char *of, const char *option, const char *was, const char *now);
void config_diff(const struct config *was, const struct config *now, config_diff_fn fn, void *arg);

/* One line per problem, sorted by file, line, column. */
void config_print_problems(const struct config *conf, FILE *out);
/*
 * The effective configuration: every value with the place it comes from (`-T`). What is a default is
 * printed commented out, so that the output parses to the very same, "was it written?" included.
 */
void config_print_effective(const struct config *conf, FILE *out);
/*
 * The commented example file (`-T default`). It parses, and also after the first '#' of each line is
 * gone: what cannot stand there as it is has two.
 */
void config_print_example(const struct config_section *top, FILE *out);
/* The option chapter of postern.conf(5) as mdoc. */
void config_print_manual(const struct config_section *top, FILE *out);
/* The same of the sections of one name space, which have a page of their own; each with its example. */
void config_print_manual_of(const struct config_section *top, const char *space, FILE *out);

/* Parses one value as the rows do; for units and command lines. */
int config_parse_duration(const char *text, int64_t *ms_r, struct err *err);
int config_parse_size(const char *text, int64_t *octets_r, struct err *err);

#endif
