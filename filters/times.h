/*
 * filters/times.h - moments as words of an option, each as base/cron.h has them; one that matches is enough.
 */
#ifndef FILTERS_TIMES_H
#define FILTERS_TIMES_H

#include <stdbool.h>
#include <time.h>

#include "base/cron.h"
#include "config/config.h"

/* For the sentences of options. */
#define TIMES_WORDS                                                                                \
	"each in quotes as in crontab(5): \"* 8-17 * * mon-fri\" is minute, hour, day, month and " \
	"weekday, with the second in front when there are six; behind them UTC or a zone such as " \
	"+0100 or Europe/Berlin, else it is the machine's own; @always and @never"

struct times {
	struct cron *list; /* in the configuration's arena */
	size_t count;	   /* 0: any time will do */
};

/* What is wrong goes to conf, with its place. */
void times_read(struct config *conf, const char *option, const struct config_words *words, struct times *times_r);
bool times_hold(const struct times *times, time_t when);

#endif
