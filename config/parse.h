/*
 * config/parse.h - the statements of all files as they were written, before anybody knows what they mean.
 *
 * Includes are already in their place. All memory is in the configuration's arena.
 */
#ifndef CONFIG_PARSE_H
#define CONFIG_PARSE_H

#include "base/list.h"
#include "config/config.h"
#include "config/source.h"

struct config_stmt {
	struct config_words words; /* at least one */
	bool is_bad;		   /* its words are known to be wrong: not to be judged again */
	bool has_block;
	struct config_stmt_list *block; /* what stands in the braces */
	STAILQ_ENTRY(config_stmt) next;
};
STAILQ_HEAD(config_stmt_list, config_stmt);

/* Mistakes of grammar are reported; what could be read is in the list. */
struct config_stmt_list *config_parse_tree(struct config *conf, const struct config_source *source);

#endif
