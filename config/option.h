/*
 * config/option.h - one row per option: the member it fills, its type, default, range and sentence.
 *
 * The struct is the truth, the row describes it. From the same rows come parsing, `-t`, `-T`, the
 * option chapter of postern.conf(5) and the commented example file. Each module owns its rows;
 * proxy/options.c lists the sections in the order of the manual.
 */
#ifndef CONFIG_OPTION_H
#define CONFIG_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/ip.h"

struct config;
struct config_block;

struct config_place {
	const char *file; /* NULL: the built-in default */
	int line;	  /* from 1 */
	int column;	  /* from 1, in octets */
};

enum config_word_kind {
	CONFIG_WORD_PLAIN,
	CONFIG_WORD_QUOTED,  /* was "..." */
	CONFIG_WORD_PATTERN, /* was /.../, text without the slashes */
};

struct config_word {
	const char *text;
	enum config_word_kind kind;
	struct config_place place;
};

/* Member types. All memory belongs to the snapshot. */
struct config_words {
	const struct config_word *list;
	size_t count;
};
struct config_endpoints {
	struct ip_endpoint *list;
	struct config_place *places; /* one per endpoint */
	size_t count;
};
struct config_nets {
	struct ip_net *list;
	size_t count;
	bool any; /* the word "any" */
};
/* The name of another block; target is filled by the resolve pass. */
struct config_ref {
	const char *name; /* NULL when not given */
	void *target;
	struct config_place place;
};

enum config_type {
	CONFIG_T_BOOL,	    /* bool: yes no */
	CONFIG_T_INT,	    /* int */
	CONFIG_T_SIZE,	    /* int64_t octets: 64K 50M 1G; 0 as written in min */
	CONFIG_T_DURATION,  /* int64_t milliseconds: 500ms 30s 5m 4h 5d */
	CONFIG_T_STRING,    /* const char *, one word */
	CONFIG_T_LINES,	    /* const char *, one word; or several in quotes, each a line: joined by LF */
	CONFIG_T_WORDS,	    /* struct config_words, one or more words */
	CONFIG_T_ENUM,	    /* int: index of the word in choices */
	CONFIG_T_ENDPOINTS, /* struct config_endpoints */
	CONFIG_T_NETS,	    /* struct config_nets */
	CONFIG_T_REF,	    /* struct config_ref */
	CONFIG_T_AUTO_INT,  /* int: a number, or the word "auto" (0) */
};

struct config_option {
	const char *name;
	enum config_type type;
	size_t offset;
	const char *def; /* as it would be written; NULL: none, the member stays zero */
	int64_t min, max; /* INT, SIZE, DURATION; checked when min < max */
	const char *const *choices; /* ENUM, NULL-terminated */
	const char *help; /* one sentence for the manual, no full stop needed at the end of a phrase */
};

/* A member of the wrong type is a compile error: a negative array size. */
#define CONFIG_MEMBER(st, member, type)                                                            \
	(offsetof(st, member) +                                                                    \
		0 * sizeof(char[_Generic(((st *)0)->member, type: 1, default: -1)]))

#define CONFIG_BOOL(n, st, m, d, h)                                                                \
	{ .name = n, .type = CONFIG_T_BOOL, .offset = CONFIG_MEMBER(st, m, bool), .def = d, .help = h }
#define CONFIG_INT(n, st, m, d, lo, hi, h)                                                         \
	{ .name = n, .type = CONFIG_T_INT, .offset = CONFIG_MEMBER(st, m, int), .def = d,          \
		.min = lo, .max = hi, .help = h }
#define CONFIG_AUTO_INT(n, st, m, d, lo, hi, h)                                                    \
	{ .name = n, .type = CONFIG_T_AUTO_INT, .offset = CONFIG_MEMBER(st, m, int), .def = d,     \
		.min = lo, .max = hi, .help = h }
#define CONFIG_SIZE(n, st, m, d, lo, hi, h)                                                        \
	{ .name = n, .type = CONFIG_T_SIZE, .offset = CONFIG_MEMBER(st, m, int64_t), .def = d,     \
		.min = lo, .max = hi, .help = h }
#define CONFIG_DURATION(n, st, m, d, lo, hi, h)                                                    \
	{ .name = n, .type = CONFIG_T_DURATION, .offset = CONFIG_MEMBER(st, m, int64_t), .def = d, \
		.min = lo, .max = hi, .help = h }
#define CONFIG_STRING(n, st, m, d, h)                                                              \
	{ .name = n, .type = CONFIG_T_STRING, .offset = CONFIG_MEMBER(st, m, const char *),        \
		.def = d, .help = h }
#define CONFIG_LINES(n, st, m, d, h)                                                               \
	{ .name = n, .type = CONFIG_T_LINES, .offset = CONFIG_MEMBER(st, m, const char *),         \
		.def = d, .help = h }
#define CONFIG_WORDS(n, st, m, d, h)                                                               \
	{ .name = n, .type = CONFIG_T_WORDS, .offset = CONFIG_MEMBER(st, m, struct config_words),  \
		.def = d, .help = h }
/* The member is an int; the choices' order is the enum's. */
#define CONFIG_ENUM(n, st, m, d, c, h)                                                             \
	{ .name = n, .type = CONFIG_T_ENUM, .offset = CONFIG_MEMBER(st, m, int), .def = d,         \
		.choices = c, .help = h }
#define CONFIG_ENDPOINTS(n, st, m, d, h)                                                           \
	{ .name = n, .type = CONFIG_T_ENDPOINTS,                                                   \
		.offset = CONFIG_MEMBER(st, m, struct config_endpoints), .def = d, .help = h }
#define CONFIG_NETS(n, st, m, d, h)                                                                \
	{ .name = n, .type = CONFIG_T_NETS, .offset = CONFIG_MEMBER(st, m, struct config_nets),    \
		.def = d, .help = h }
#define CONFIG_REF(n, st, m, h)                                                                    \
	{ .name = n, .type = CONFIG_T_REF, .offset = CONFIG_MEMBER(st, m, struct config_ref),      \
		.def = NULL, .help = h }
#define CONFIG_END { .name = NULL }

/* Rows and the struct they fill. A filter has two: what is common to all, and its kind's own. */
struct config_group {
	const struct config_option *options; /* NULL: none */
	size_t size;
};

enum config_arity {
	CONFIG_ONE,	/* `log { ... }`: at most once, filled with defaults when absent */
	CONFIG_MANY,	/* `rule { ... }`: any number, no name */
	CONFIG_NAMED,	/* `listener NAME { ... }`: any number, names unique in the name space */
};

struct config_section {
	const char *name; /* "" for the top level */
	const char *help;
	enum config_arity arity;
	const char *space; /* NAMED: kinds of one space share their names ("filter"); NULL: own */
	struct config_group groups[2];
	const struct config_section *const *sections; /* blocks allowed inside, NULL-terminated */
	const char *example; /* sample block for the example file, or NULL */
	bool is_needed;      /* nothing works without one: the sample is not commented out */
	const void *owner;   /* for the section's user: the filter kind */
	/* Of the top level: what other programs call it, and what we do; ends with a NULL. For hints. */
	const char *const (*others)[2];
};

#endif
