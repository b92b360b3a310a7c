/*
 * proxy/monitor.h - the process that touches no mail: sockets, privileges, engine and spawner.
 */
#ifndef PROXY_MONITOR_H
#define PROXY_MONITOR_H

#include <stdbool.h>

#include "proxy/options.h"

struct monitor_args {
	struct config *config; /* checked; the monitor keeps it */
	struct settings *settings;
	bool foreground; /* no daemon, log to stderr */
	bool verbose;
};

/* Runs until it is stopped; the exit status (sysexits). Trouble before the start is complete is told on
 * stderr, too. */
int monitor_main(const struct monitor_args *args);

#endif
