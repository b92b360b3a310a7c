/*
 * proxy/monitor.h - the process that touches no mail: sockets, privileges, configuration, engine and spawner.
 */
#ifndef PROXY_MONITOR_H
#define PROXY_MONITOR_H

#include <stdbool.h>

#include "proxy/config_watch.h"
#include "proxy/handover.h"
#include "proxy/options.h"

struct monitor_args {
	const char *file;      /* of the configuration */
	/* Checked, and the monitor keeps it; when reading it began (config_watch_clock()). Who takes another monitor's
	 * place reads by itself. */
	struct config *config;
	struct timespec read_at;
	struct settings *settings;
	bool foreground; /* no daemon */
	bool to_stderr;	 /* the log, whatever the configuration says */
	bool verbose;
	struct handover *handover; /* we take another monitor's place; NULL: we do not */
	struct inherited inherited;
};

/* Runs until it is stopped; the exit status (sysexits). Trouble before the start is complete is told on
 * stderr, too. */
int monitor_main(const struct monitor_args *args);

#endif
