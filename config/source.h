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
 * place `from` of the option that names it (include, or one that takes a list), or without one for
 * the first file; then option is NULL too.
 */
int config_source_read(struct config *conf, const char *name, const char *option,
	const struct config_place *from, struct config_source *source_r);
/* A file that is looked up in while mail passes: who checks the configuration wants to know of it. */
void config_source_note_table(struct config *conf, const char *path);
/* A path as it is written in a file: relative to that file's folder. */
const char *config_source_path(struct config *conf, const char *file, const char *path);
/* No NUL, no endless line; reports what is wrong. */
int config_source_check(struct config *conf, const struct config_source *source);

#endif
