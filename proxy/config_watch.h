/*
 * proxy/config_watch.h - have the files of a configuration changed? The configuration itself, for watch_config,
 * and the lists that its options name.
 */
#ifndef PROXY_CONFIG_WATCH_H
#define PROXY_CONFIG_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "config/config.h"

struct watched_files {
	uint64_t loaded; /* the state that was loaded last, well or not */
	uint64_t seen;	 /* at the last look */
};

struct config_watch {
	struct watched_files own, lists;
};

/* The clock that stamps files; stamps may be finer, and then are later than what it says. */
struct timespec config_watch_clock(void);
/* This is what was read just now, from this time on. What has been written since then may not be what was read, and
 * counts as a change. */
void config_watch_begin(struct config_watch *watch, const struct config *config, const struct timespec *began);
/* True, once for each change: files, of either kind, are others than those that were read, and have not changed since
 * the last look, so whoever writes them is ready. */
bool config_watch_look(struct config_watch *watch, const struct config *config);
/* The same, of lists only. */
bool config_watch_look_at_lists(struct config_watch *watch, const struct config *config);
/* Does the configuration itself stand in its files as it was read? For who never looks at it. */
bool config_watch_is_as_read(const struct config_watch *watch, const struct config *config);

#endif
