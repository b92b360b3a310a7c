/*
 * filters/conditions.h - whether a filter looks at a message: only_... and skip_..., common to all
 * kinds.
 *
 * All that are given must hold; in a list one match is enough. Those on the recipient are asked when
 * the chains are chosen: who does not match has a chain without the filter. The others are asked
 * when the filter's turn comes, of the message as the filters before it have left it.
 */
#ifndef FILTERS_CONDITIONS_H
#define FILTERS_CONDITIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/err.h"
#include "base/match.h"
#include "config/config.h"
#include "mail/msg.h"

/* As written; part of struct filter_conf. */
struct condition_conf {
	struct config_words only_sender, skip_sender, only_recipient, skip_recipient;
	struct config_nets only_client, skip_client;
	struct config_words only_helo, only_subject, skip_subject, only_header;
	int64_t only_larger, only_smaller; /* 0: not given */
	struct config_words only_time, only_tls;
};

struct conditions;

/* NULL when none are given. What is wrong goes to conf as an error with its place. Memory comes
 * from conf's arena, but for what conditions_free() frees. */
struct conditions *conditions_new(struct config *conf, const struct condition_conf *written,
	const struct config_option *options);
void conditions_free(struct conditions **conditions);

/* May it be that one recipient has the filter and another has not? All take NULL: no conditions. */
bool conditions_ask_recipient(const struct conditions *conditions);
/* MATCH_ERROR: not known, because a pattern went over its limits. */
enum match_result conditions_hold_for(
	const struct conditions *conditions, const char *recipient, struct err *err);

/* The first enum filter_stage (filters/filter.h) at which all that is given is known; *option_r: what is known no
 * sooner, NULL when there is no such. */
int conditions_stage(const struct conditions *conditions, const char **option_r);

/* One message as it is asked about, by all the filters of its chain. Zeroed but for msg and now. */
struct conditions_facts {
	const struct mail_msg *msg;
	time_t now; /* what only_time asks about */
};

/* The other conditions. seen: what filters before this one have changed. */
enum match_result conditions_hold(const struct conditions *conditions, struct conditions_facts *facts,
	const struct mail_edits *seen, struct err *err);

#endif
