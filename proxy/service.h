/*
 * proxy/service.h - what a service manager hears of us (sd_notify(3), sd_watchdog_enabled(3)). Without one
 * nothing happens.
 */
#ifndef PROXY_SERVICE_H
#define PROXY_SERVICE_H

#include <stdint.h>

/* At the beginning: what the environment says; it is taken away from what we start. */
void service_begin(void);
void service_ready(const char *status);
void service_reloading(void);
void service_stopping(void);
/* One line for `systemctl status`. */
void service_status(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* While all is well: when it is due (clock_ms; 0: never), or sooner. */
void service_alive(void);
uint64_t service_alive_at(void);
/* Gives the environment back, for the program that takes our place. */
void service_keep(void);

#endif
