/*
 * filters/dial.h - a filter's way to its service: where it listens, and one connection to it.
 *
 * A kind's conf has a struct dial_conf and its rows. The addresses are tried one after the other until one answers; one
 * that did not is tried last for some seconds, by all workers. Names are looked up by job threads.
 */
#ifndef FILTERS_DIAL_H
#define FILTERS_DIAL_H

#include "config/option.h"
#include "net/connect.h"

enum dial_balance { DIAL_ORDER, DIAL_ROUND_ROBIN };
extern const char *const dial_balance_names[];

struct dial_places;

/* A member of a kind's conf. */
struct dial_conf {
	struct config_words socket;
	int balance; /* enum dial_balance */
	int64_t connect_timeout_ms;
	struct dial_places *places; /* made by dial_setup() */
};

/* The rows; def_ is the usual address of the service. */
#define DIAL_OPTIONS(st_, m_, def_)                                                                \
	CONFIG_WORDS("socket", st_, m_.socket, def_,                                               \
		"where the service listens: unix:PATH, HOST:PORT or, as milters write it, "        \
		"inet:PORT@HOST; with several addresses one that cannot be reached is replaced "   \
		"by the next"),                                                                    \
	CONFIG_ENUM("balance", st_, m_.balance, "order", dial_balance_names,                       \
		"which of several addresses is tried first: order is the first one that works, "   \
		"round-robin one after the other"),                                                \
	CONFIG_DURATION("connect_timeout", st_, m_.connect_timeout_ms, "5s", 1, 300 * 1000,        \
		"how long one address may take to answer before the next one is tried; bounded by " \
		"the filter's timeout")

/* For setup() and teardown(): reads the addresses. */
int dial_setup(struct dial_conf *conf, struct err *err);
void dial_teardown(struct dial_conf *conf);

/* One address as clients write it, inet:PORT@HOST among them. */
int dial_parse(const char *text, struct ip_endpoint *ep_r, struct err *err);

struct dial;

/*
 * fd: connected, non-blocking, the callback's (for net_stream_new()); to: the address, lasts as long as the
 * configuration. -1: none of them answered; err names the last one and says why ("127.0.0.1:3310: connection refused").
 * Never from inside dial_start(); the handle is gone then.
 */
typedef void (*dial_cb)(void *owner, int fd, const struct ip_endpoint *to, const struct err *err);

/* conf is borrowed until the callback or the cancel. */
struct dial *dial_start(struct net_worker *w, const struct dial_conf *conf, dial_cb cb, void *owner);
/* Accepts NULL, clears the pointer. */
void dial_cancel(struct dial **d);

#endif
