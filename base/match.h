/*
 * base/match.h - a list of words and patterns against an address (or a name, a header's value).
 *
 * A word is an exact address ("ann@example.org"), all of a domain ("@example.org"), what lies under
 * a domain (".example.org": not the domain itself), or "<>" for the null sender. Words compare
 * without regard to ASCII case. A pattern is a PCRE2 one, caseless, found anywhere unless anchored.
 * Words are looked up first, patterns are tried after in their order.
 *
 * A list is immutable: any number of threads may ask at once.
 */
#ifndef BASE_MATCH_H
#define BASE_MATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct match_list;

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
	const struct match_word *words, size_t count, size_t *bad_r, struct err *err);
void match_list_free(struct match_list **list);
/* An address without angle brackets; "" is the null sender. */
enum match_result match_list_ask(
	const struct match_list *list, const char *address, size_t len, struct err *err);

#endif
