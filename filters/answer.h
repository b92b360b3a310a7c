/*
 * filters/answer.h - a verdict that the administrator wrote, with its reply: the rows for a kind's options,
 * their check and their effect.
 */
#ifndef FILTERS_ANSWER_H
#define FILTERS_ANSWER_H

#include "filters/filter.h"

/* A member of a kind's conf. */
struct filter_answer {
	int verdict; /* index into filter_answer_names */
	int code;    /* 0: the verdict's default */
	const char *status, *text;
};
extern const char *const filter_answer_names[];

/* The rows; when_ says when it is given: "of every message". */
#define FILTER_ANSWER_OPTIONS(st_, m_, def_, when_)                                                \
	CONFIG_ENUM("verdict", st_, m_.verdict, def_, filter_answer_names,                         \
		"what it says " when_ ": pass, accept (no further filter is asked), reject, "      \
		"tempfail, discard (the client hears that it was taken, and it is dropped), "      \
		"quarantine (the same, and it is set aside) or disconnect"),                                                                     \
	CONFIG_INT("code", st_, m_.code, NULL, 400, 599,                                           \
		"the code of the reply: 500 to 599 for reject, 400 to 499 without 421 for "        \
		"tempfail, 421 for disconnect; when not given, 550, 451 and 421"),                 \
	CONFIG_STRING("status", st_, m_.status, NULL,                                              \
		"the enhanced status code of the reply, such as 5.7.1; it begins as the code "     \
		"does"),                                                                           \
	CONFIG_LINES("text", st_, m_.text, NULL,                                                   \
		"the text of the reply, or the reason of a quarantine: printable ASCII, a line of " \
		"at most 400 octets, or up to 10 of these, each in quotes")

/* Lines of a text, joined by LF, and octets of each. */
#define FILTER_LINES_MAX 10
#define FILTER_LINE_MAX	 400
#define FILTER_TEXT_SIZE (FILTER_LINES_MAX * (FILTER_LINE_MAX + 1))
/* Text from outside made fit for a reply, line by line; empty lines and those behind the tenth are left out. */
void filter_text_clean(char dst[FILTER_TEXT_SIZE], const char *text);

/* For setup(). */
int filter_answer_check(const struct filter_answer *c, struct err *err);
/* The text of a reply, as that option has it (NULL: not given). */
int filter_answer_check_text(const char *option, const char *text, struct err *err);
/* Is the message delivered with it? Then edits have a sense. */
bool filter_answer_delivers(const struct filter_answer *c);
bool filter_answer_passes(const struct filter_answer *c);
enum verdict_kind filter_answer_kind(const struct filter_answer *c);
/* For message(). */
enum filter_step filter_answer(struct filter_run *run, const struct filter_answer *c);

#endif
