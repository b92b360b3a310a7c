/*
 * config/value.h - from the words behind an option's name to the member of the struct, by type.
 */
#ifndef CONFIG_VALUE_H
#define CONFIG_VALUE_H

#include "base/str.h"
#include "config/config.h"

/*
 * Fills the member of data. What is wrong is reported at its word (place: at the option, when there
 * is no word), and the member stays as it was.
 */
int config_value_set(struct config *conf, const struct config_option *option,
	const struct config_words *words, const struct config_place *place, void *data);

/* A value that would be right, for hints. */
void config_value_sample(const struct config_option *option, struct str *out);
/* What is expected, for the manual: "DURATION", "yes | no", "smtp | lmtp". */
void config_value_syntax(const struct config_option *option, struct str *out);
/* "1s to 1h"; adds nothing when there is no range. */
void config_value_range(const struct config_option *option, struct str *out);

#endif
