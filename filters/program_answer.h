/*
 * filters/program_answer.h - what a program wrote for us, as JSON or as header lines, turned into a verdict and edits.
 * Pure, fuzzed.
 *
 * The JSON is one object; what is not in it stays as it is, and what is unknown in it is an error:
 *
 *     { "verdict": "reject",                   pass accept reject tempfail discard quarantine disconnect; needed
 *       "code": 550, "status": "5.7.1", "text": "no such thing",   of a refusal; both fit it, \n parts lines
 *       "headers": [ { "add": "X-Seen", "value": "yes" },
 *                    { "insert": "X-First", "value": "1", "index": 0 },   in front of that field, 0: of all
 *                    { "change": "Subject", "value": "new", "index": 1 }, the first of that name; 1 when not given
 *                    { "delete": "X-Old", "index": 2 }, { "delete": "X-All", "index": "all" } ],
 *       "sender": "ann@example.org",           "" is the null sender
 *       "add_recipients": [ "bob@example.org" ], "remove_recipients": [ "cat@example.org" ] }
 *
 * Lines of header fields are "Name: value", each with its line end, LF or CR LF; a line that begins with a blank goes on
 * with the one before. Empty lines may stand at their end, and nothing behind these. They are added at the end of the
 * header, in their order.
 */
#ifndef FILTERS_PROGRAM_ANSWER_H
#define FILTERS_PROGRAM_ANSWER_H

#include "filters/reason.h"

/* -1: garbage, of which nothing may count; edits may have been added. */
int program_json(const char *text, size_t len, struct mail_edits *edits, const struct mail_sender *sender,
	enum verdict_kind *kind_r, struct reason *reason_r, struct err *err);
int program_header(const char *text, size_t len, struct mail_edits *edits, struct err *err);

#endif
