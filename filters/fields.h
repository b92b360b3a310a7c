/*
 * filters/fields.h - NAME VALUE words of an option, as header fields that a filter may write: checked for setup().
 */
#ifndef FILTERS_FIELDS_H
#define FILTERS_FIELDS_H

#include "filters/filter.h"

/* Is there a `second` behind each word? */
int filter_pairs_check(const char *option, const struct config_words *words, const char *second, struct err *err);
int filter_field_name_check(const char *option, const char *name, struct err *err);
/* The same, of a field that is written or removed: never one of those that loops are found by. */
int filter_field_check(const char *option, const char *name, struct err *err);
/* All of: NAME VALUE, any number of times. */
int filter_fields_check(const char *option, const struct config_words *words, struct err *err);

#endif
