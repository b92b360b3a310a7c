/*
 * filters/mark.h - fields by which our filters tell what they found: who believes such a field must be able to.
 *
 * A kind declares the marks that its filters make. What comes in under such a name is somebody else's word, and is
 * removed before the first filter looks at the message, whether ours will look at it or not, fails or passes: a
 * message that was not scanned has no mark that says it was. What a filter adds afterwards stays.
 * They are removed on the listeners whose rules (or default_chain) know the filter, from all messages.
 */
#ifndef FILTERS_MARK_H
#define FILTERS_MARK_H

#include "filters/filter.h"

/* Of one configuration. Lives in the set's arena. */
struct filter_marks;

/* For a kind's marks(), once after each setup(). name: a field's, or "X-Virus-*" for all that begin so; borrowed as
 * long as conf lives. Any number. */
void filter_mark_declare(struct filter_marks *marks, const char *name);
/* Authentication-Results that name this authserv-id (RFC 8601 5). */
void filter_mark_declare_results(struct filter_marks *marks, const char *authserv_id);

/* For message(): a field at the end of the header. value: any text; it becomes one clean line. The kind may
 * MAIL_EDIT_ADD, and for results MAIL_EDIT_INSERT: they go on top. text: what stands behind "authserv_id; ". */
void filter_mark(struct filter_run *run, const char *name, const char *value);
void filter_mark_results(struct filter_run *run, const char *authserv_id, const char *text);

/* For set.c: f is the filter that declares from now on; and a chain that holds on these listeners (none: on all), in the
 * order of the rules. */
struct filter_marks *filter_marks_new(struct arena *arena);
void filter_marks_of(struct filter_marks *marks, const struct filter *f);
void filter_marks_chain(struct filter_marks *marks, const struct filter *const *filters, size_t count,
	const struct config_words *listeners);
/* The chain before took all of their mail: those that follow do not hold there. */
void filter_marks_end(struct filter_marks *marks, const struct config_words *listeners);

/* For chain.c: the version without them; `edits` itself when there are none. NULL: the header cannot be read (errno). */
const struct mail_edits *filter_marks_remove(const struct filter_marks *marks, const struct mail_msg *msg,
	const struct mail_edits *edits);

#endif
