/* filters/at.c - names of stages to bits. */
#include "filters/at.h"

#include <string.h>

static int
read_word(const char *text, unsigned *stages, struct err *err)
{
	const char *meant;

	for (unsigned i = 0; i < FILTER_STAGE_COUNT; i++)
		if (strcmp(filter_stage_names[i], text) == 0) {
			*stages |= 1u << i;
			return 0;
		}
	meant = config_did_you_mean(text, filter_stage_names);
	if (meant != NULL)
		return err_set(err, "at: there is no stage \"%s\" (did you mean \"%s\"?)", text, meant);
	return err_set(err, "at: there is no stage \"%s\" (there are: connect helo mail rcpt message)", text);
}

int
filter_at_read(struct filter_at *at, struct err *err)
{
	at->stages = 0;
	for (size_t i = 0; i < at->words.count; i++)
		if (read_word(at->words.list[i].text, &at->stages, err) < 0) {
			at->stages = ~0u; /* one mistake, one message */
			return -1;
		}
	return 0;
}
