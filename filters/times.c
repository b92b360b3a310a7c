/* filters/times.c - a list of moments, read and asked. */
#include "filters/times.h"

#include <string.h>

void
times_read(struct config *conf, const char *option, const struct config_words *words, struct times *times_r)
{
	struct err err;

	*times_r = (struct times){.list = arena_zalloc(conf->arena, words->count * sizeof(times_r->list[0]))};
	for (size_t i = 0; i < words->count; i++) {
		const struct config_word *word = &words->list[i];
		struct cron *cron = &times_r->list[times_r->count];

		if (cron_parse(word->text, conf->arena, cron, &err) < 0) {
			config_error(conf, &word->place, "%s: %s", option, err.text);
			continue;
		}
		times_r->count++;
		if (!cron_can_match(cron) && strcmp(word->text, "@never") != 0)
			config_warn(conf, &word->place, "%s: \"%s\" never comes", option, word->text);
	}
}

bool
times_hold(const struct times *times, time_t when)
{
	for (size_t i = 0; i < times->count; i++)
		if (cron_matches(&times->list[i], when))
			return true;
	return times->count == 0;
}
