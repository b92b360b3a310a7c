/* net/http_line.c - words, lines and fields of an HTTP head. */
#include "net/http_line.h"

#include <string.h>
#include <strings.h>

bool
http_is_visible(char c)
{
	return c > ' ' && c < 0x7f;
}

bool
http_is_token(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!http_is_visible(text[i]) || strchr("\"(),/:;<=>?@[\\]{}", text[i]) != NULL)
			return false;
	return len > 0;
}

bool
http_is_word(const char *text, size_t len, const char *word)
{
	return len == strlen(word) && strncasecmp(text, word, len) == 0;
}

size_t
http_cut(const char **text, size_t *len, char c, const char **part_r)
{
	const char *end = memchr(*text, c, *len);
	size_t part = end != NULL ? (size_t)(end - *text) : *len;

	*part_r = *text;
	*text += end != NULL ? part + 1 : part;
	*len -= end != NULL ? part + 1 : part;
	return part;
}

void
http_trim(const char **text, size_t *len)
{
	for (; *len > 0 && (**text == ' ' || **text == '\t'); (*text)++)
		--*len;
	while (*len > 0 && ((*text)[*len - 1] == ' ' || (*text)[*len - 1] == '\t'))
		--*len;
}

int
http_next_line(const char *data, size_t len, size_t *pos, const char **line_r, size_t *len_r)
{
	const char *end = memchr(data + *pos, '\n', len - *pos);

	if (end == NULL)
		return 0;
	*line_r = data + *pos;
	*len_r = (size_t)(end - *line_r);
	*pos += *len_r + 1;
	if (*len_r == 0 || end[-1] != '\r' || memchr(*line_r, '\r', *len_r - 1) != NULL)
		return -1;
	--*len_r;
	return 1;
}

bool
http_field_parse(const char *line, size_t len, struct http_field *f)
{
	if (memchr(line, ':', len) == NULL)
		return false;
	f->name_len = http_cut(&line, &len, ':', &f->name);
	if (!http_is_token(f->name, f->name_len))
		return false;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)line[i] < ' ' && line[i] != '\t')
			return false;
	http_trim(&line, &len);
	f->value = line;
	f->value_len = len;
	return true;
}
