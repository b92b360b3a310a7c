/*
 * net/http_line.h - words, lines and fields of an HTTP head (RFC 9110, RFC 9112). Pure, fuzzed; for net/http.c and
 * net/http_client.c.
 */
#ifndef NET_HTTP_LINE_H
#define NET_HTTP_LINE_H

#include <stdbool.h>
#include <stddef.h>

bool http_is_visible(char c);
bool http_is_token(const char *text, size_t len);
/* Without regard to case. */
bool http_is_word(const char *text, size_t len, const char *word);

/* The part up to c, or all of it; *text goes behind c. Returns its length. */
size_t http_cut(const char **text, size_t *len, char c, const char **part_r);
/* Blanks on both sides. */
void http_trim(const char **text, size_t *len);

/* The line at *pos without its CR LF. 1; 0: it is not complete; -1: a line end that is none. */
int http_next_line(const char *data, size_t len, size_t *pos, const char **line_r, size_t *len_r);

struct http_field {
	const char *name, *value; /* without blanks around; borrowed */
	size_t name_len, value_len;
};
/* False: it is no field, or has control characters in it. */
bool http_field_parse(const char *line, size_t len, struct http_field *field_r);

#endif
