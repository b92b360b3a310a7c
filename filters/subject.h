/*
 * filters/subject.h - a tag in front of the subject, for kinds that mark messages.
 *
 * The subject keeps its octets, its folding and its encoded words; one that has the tag already, also within an
 * encoded word, stays as it is.
 */
#ifndef FILTERS_SUBJECT_H
#define FILTERS_SUBJECT_H

#include "filters/filter.h"

/* For setup(); NULL: there is none, and nothing to object. */
int subject_tag_check(const char *tag, struct err *err);

/* An edit of the run. head: as mail_edits_header() gave it; without a Subject one is added. */
void subject_tag_add(struct filter_run *run, const char *head, size_t len, const char *tag);

#endif
