/*
 * filters/exit_map.h - what the exit codes of a program mean, as the administrator wrote it. Pure.
 */
#ifndef FILTERS_EXIT_MAP_H
#define FILTERS_EXIT_MAP_H

#include "base/err.h"
#include "config/option.h"

#define EXIT_CODES 256

/* By exit code: the meaning, from 1; 0: it is not listed. */
struct exit_map {
	unsigned char meaning[EXIT_CODES];
};

/*
 * Adds codes and ranges, "1-99", of one option. 0, or -1: a word is no code, or the code has a meaning already; names
 * are the options by meaning, to say which.
 */
int exit_map_add(struct exit_map *map, const struct config_words *words, unsigned char meaning,
	const char *const *names, struct err *err);

#endif
