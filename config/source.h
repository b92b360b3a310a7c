/*
 * config/source.h - the files of a configuration: read whole, checked for being text.
 */
#ifndef CONFIG_SOURCE_H
#define CONFIG_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "config/config.h"

struct config_source {
	const char *name; /* as in messages */
	const char *text; /* in the configuration's arena */
	size_t len;
	dev_t dev; /* with ino: which file it is; 0 when it came from memory */
	ino_t ino;
};

/*
 * Reads a file and notes it among the configuration's. On failure the error is reported: with the
 * place of the include, or without one for the first file.
 */
int config_source_read(struct config *conf, const char *name, const struct config_place *from,
	struct config_source *source_r);
/* No NUL, no endless line; reports what is wrong. */
int config_source_check(struct config *conf, const struct config_source *source);

#endif
