/*
 * base/match.h - a list of words and patterns against an address (or a name, a header's value).
 *
 * A word is an exact address ("ann@example.org"), all of a domain ("@example.org"), what lies under
 * a domain (".example.org": not the domain itself), or "<>" for the null sender. What has no @ is a
 * name, of which ".example.org" holds as well. Words compare without regard to ASCII case. A pattern
 * is a PCRE2 one, caseless, found anywhere unless anchored. Words are looked up first, patterns are
 * tried after in their order.
 *
 * A list is immutable: any number of threads may ask at once.
 */
#ifndef BASE_MATCH_H
#define BASE_MATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct match_list;

/* What a list is asked about. */
enum match_kind {
	MATCH_ADDRESSES, /* and names */
	MATCH_TEXTS,	 /* of which a word, "<>" as well, is all and nothing else */
};

struct match_word {
	const char *text; /* copied */
	bool is_pattern;
};

enum match_result {
	MATCH_NO,
	MATCH_YES,
	MATCH_ERROR, /* a pattern went over its limits: not known; err says which */
};

/* NULL when a pattern is wrong: *bad_r is its index. */
struct match_list *match_list_new(
	enum match_kind kind, const struct match_word *words, size_t count, size_t *bad_r, struct err *err);
void match_list_free(struct match_list **list);
/*
 * Something else that a list asks, after its words and before its patterns. ask() may be called by any number of
 * threads at once; free comes with the list (NULL: arg is borrowed).
 */
struct match_source {
	enum match_result (*ask)(const void *arg, const char *address, size_t len, struct err *err);
	void (*free)(void *arg);
	void *arg;
};
/* While the list is being made. */
void match_list_add_source(struct match_list *list, const struct match_source *source);
/* An address without angle brackets; "" is the null sender. */
enum match_result match_list_ask(
	const struct match_list *list, const char *address, size_t len, struct err *err);
/* By the patterns alone, the first that matches. Where in text is what its first group stands for; where it has none,
 * or that took no part, all that it matched. */
enum match_result match_list_find(const struct match_list *list, const char *text, size_t len, size_t *begin_r,
	size_t *end_r, struct err *err);

/* For sources that are tables: looks up each word that would stand for the address, in lower case, until one is
 * there. The null sender's has no octets. */
typedef enum match_result (*match_look)(const void *table, const char *word, size_t len, struct err *err);
enum match_result match_each_word(enum match_kind kind, const char *address, size_t len, match_look look,
	const void *table, struct err *err);

#endif
