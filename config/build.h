/*
 * config/build.h - from statements to filled blocks, by the tables of options.
 */
#ifndef CONFIG_BUILD_H
#define CONFIG_BUILD_H

#include "config/config.h"
#include "config/parse.h"

/* Fills conf->top. Whatever is wrong is reported, and every block is complete all the same. */
void config_build(struct config *conf, const char *file, const struct config_section *top,
	const struct config_stmt_list *stmts);
/* The block of parent that has the name in its space ("" in a section without names), or NULL. */
struct config_block *config_build_find(const struct config *conf, const struct config_block *parent,
	const char *space, const char *name);
/* What blocks of a section are unique in. */
const char *config_build_space(const struct config_section *section);

#endif
