/* filters/fields.c - what can be a header field that a filter writes. */
#include "filters/fields.h"

#include <string.h>

#include "base/str.h"

#define NAME_MAX_LEN 100
#define VALUE_MAX    900

int
filter_pairs_check(const char *option, const struct config_words *words, const char *second, struct err *err)
{
	if (words->count % 2 == 0)
		return 0;
	return err_set(err, "%s: a %s is missing behind %s (values with blanks stand in quotes)", option, second,
		words->list[words->count - 1].text);
}

int
filter_field_name_check(const char *option, const char *name, struct err *err)
{
	if (!mail_edit_is_name(name) || strlen(name) > NAME_MAX_LEN)
		return err_set(err, "%s: \"%s\" is no name of a header field%s", option, name,
			strchr(name, ':') != NULL ? " (it stands without its colon)" : "");
	return 0;
}

/* Our own Received line is among them, and the loop guard lives on these. */
int
filter_field_check(const char *option, const char *name, struct err *err)
{
	if (filter_field_name_check(option, name, err) < 0)
		return -1;
	if (!str_caseeq(name, "Received"))
		return 0;
	return err_set(err, "%s: Received lines must stay, mail loops are found by them", option);
}

int
filter_fields_check(const char *option, const struct config_words *words, struct err *err)
{
	if (filter_pairs_check(option, words, "value", err) < 0)
		return -1;
	for (size_t i = 0; i < words->count; i += 2) {
		const char *name = words->list[i].text, *value = words->list[i + 1].text;

		if (filter_field_check(option, name, err) < 0)
			return -1;
		if (!str_is_printable(value) || strlen(value) > VALUE_MAX)
			return err_set(err, "%s: the value of %s must be printable ASCII, at most %d octets", option,
				name, VALUE_MAX);
	}
	return 0;
}
