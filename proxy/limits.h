/*
 * proxy/limits.h - how many connections there are, over all workers, and who gets no more of them.
 *
 * A session asks when it begins and tells when it ends. One small mutex guards the counts; it is taken when a
 * connection comes or goes, never on the way of a mail. Before connections are refused, MAIL is (DESIGN.md 7):
 * while less than an eighth of them is free, those that are here may finish and begin nothing new.
 */
#ifndef PROXY_LIMITS_H
#define PROXY_LIMITS_H

#include "proxy/options.h"

struct limits;
struct limits_client;
struct limits_listener; /* what is counted for all listeners of one name, whatever the configuration is now */

/* Why a client is not served. */
enum limits_refusal {
	REFUSED_NOT,
	REFUSED_CLIENTS,     /* may not speak here at all */
	REFUSED_CONNECTIONS, /* the listener, or all together, have as many as they may */
	REFUSED_PER_CLIENT,  /* this one has */
	REFUSED_EARLY,	     /* it spoke before the greeting */
	REFUSED_MAIL,	     /* it may stay, but begin no transaction now */
};
#define REFUSED_COUNT (REFUSED_MAIL + 1)
extern const char *const limits_refusal_names[]; /* "" for REFUSED_NOT */

/* What one session takes up; part of it. All zero: nothing. */
struct limits_place {
	struct limits_listener *listener;
	struct limits_client *client; /* NULL: not counted by client */
};

/* What `max_connections auto` comes to with so many descriptors. */
int limits_auto(const struct settings *st, long descriptors);
/* Descriptors that so many connections may need, with those of the back-ends and our own. */
long limits_descriptors(const struct settings *st, int connections);

/* What max_connections is for this process. */
int limits_max(const struct settings *st);
/* Warns when the descriptors may not suffice. */
void limits_check(const struct settings *st);

struct limits *limits_new(int connections_max);
void limits_free(struct limits **limits);
/* Those that are here stay. */
void limits_set_max(struct limits *limits, int connections_max);
/* For struct listener's `count`; made when the name is new, and lives as long as the limits. */
struct limits_listener *limits_listener(struct limits *limits, const char *name);

/* Any thread. REFUSED_NOT: a place was taken, and limits_leave() gives it back. */
enum limits_refusal limits_enter(struct limits *limits, const struct listener *listener,
	const struct ip_addr *client, struct limits_place *place_r);
void limits_leave(struct limits *limits, struct limits_place *place);
/* Are so many connections open that MAIL must wait? */
bool limits_is_tight(const struct limits *limits);
int limits_count(const struct limits *limits);

/* Counts a refusal; limits_enter() counts its own. */
void limits_note(struct limits *limits, enum limits_refusal why);
unsigned long limits_noted(const struct limits *limits, enum limits_refusal why);

#endif
