/*
 * base/table.h - the keys of an LMDB file as words of a list: base/match.h says which stand for an address.
 *
 * The file is only read, and without LMDB's lock file: it may belong to somebody else, such as postmap. What another
 * program writes into it is seen at once, and a file that has taken its place (mv) within a second. One that was cut
 * off in place (cp over it) is opened anew; but who does that while it is being read kills the reader, as with all
 * mapped files.
 *
 * It is opened with the first question, by the process that asks: LMDB's environment must not go through a fork. Any
 * number of threads may ask at once. A question is answered from memory that is mapped, in a microsecond or two.
 */
#ifndef BASE_TABLE_H
#define BASE_TABLE_H

#include <stddef.h>

#include "base/err.h"
#include "base/match.h"

struct table;

/* Is it a table that can be read? */
int table_check(const char *path, struct err *err);
/* path is copied. Opens nothing yet. */
struct table *table_new(const char *path, enum match_kind kind);
void table_free(struct table **table);
/* Keys are in lower case, with or without a NUL behind them; values count for nothing. MATCH_ERROR: not known. */
enum match_result table_ask(struct table *table, const char *address, size_t len, struct err *err);

#endif
