/*
 * proxy/metrics.h - what is counted, by whom and under which name.
 *
 * The registry has a slot for each name of a listener, back-end or filter that any configuration ever had: an
 * array with one part for each worker. It outlives configurations, so that a reload goes on counting. A
 * configuration finds its slots once, by metrics_attach(); on the way of a mail there is no look-up and no lock,
 * each worker adds to its own part (base/count.h).
 *
 * The registry itself belongs to the admin thread. proxy/metrics_page.c has the names and sentences.
 */
#ifndef PROXY_METRICS_H
#define PROXY_METRICS_H

#include <stdio.h>

#include "base/count.h"
#include "base/str.h"
#include "filters/filter.h"
#include "proxy/options.h"
#include "smtp/pool.h"

struct engine;
struct health;
struct metrics;

/* What became of a transaction: a verdict, or else nothing was decided. */
#define OUTCOME_ABANDONED VERDICT_COUNT
#define OUTCOME_COUNT	  (OUTCOME_ABANDONED + 1)
extern const char *const outcome_names[OUTCOME_COUNT];

/* Of one listener, on one worker. */
struct listener_counts {
	struct count opened, closed; /* sessions */
	struct count handshakes, handshakes_failed;
	struct count outcomes[OUTCOME_COUNT]; /* transactions */
	struct count messages, octets; /* complete ones */
	struct count bare_newlines, loops, front_gone;
	struct count quarantined, quarantine_failures; /* entries */
	struct count_times session, receive, chain, message;
} COUNT_ALIGNED;

enum delivery_class { DELIVERY_2XX, DELIVERY_4XX, DELIVERY_5XX, DELIVERY_LOST };
#define DELIVERY_CLASSES (DELIVERY_LOST + 1)
extern const char *const delivery_class_names[DELIVERY_CLASSES];

/* Of one back-end, on one worker. */
struct backend_counts {
	struct count replies[DELIVERY_CLASSES];
	struct count added_refused; /* recipients that a filter has added */
	struct count_times deliver;
} COUNT_ALIGNED;

/* ---- the registry ---- */

enum metrics_kind { METRICS_LISTENER, METRICS_BACKEND, METRICS_DEST, METRICS_FILTER };
#define METRICS_KINDS (METRICS_FILTER + 1)

struct metrics *metrics_new(int workers);
void metrics_free(struct metrics **metrics);

/* The slot of that name, new or known: an array with one part for each worker. */
struct listener_counts *metrics_listener(struct metrics *m, const char *name);
struct backend_counts *metrics_backend(struct metrics *m, const char *name);
struct smtp_dest_tally *metrics_dest(struct metrics *m, const char *name);
struct filter_counts *metrics_filter(struct metrics *m, const char *name);
/* All of one configuration; before any worker uses it. */
void metrics_attach(struct metrics *m, struct settings *settings);

/* Slot by slot, in the order in which they became known; false behind the last one. */
bool metrics_slot(const struct metrics *m, enum metrics_kind kind, size_t i, const char **name_r, const void **parts_r);
/* The sum over all workers of the counter at that offset of a part. */
uint64_t metrics_sum(const struct metrics *m, enum metrics_kind kind, const void *parts, size_t offset);

/* Looks of one filter that are under way. */
uint64_t metrics_filter_running(const struct metrics *m, const void *parts);
/* What all workers have in the spool. */
struct metrics_spool {
	uint64_t memory, file; /* octets */
	uint64_t slow_writes;
};
struct metrics_spool metrics_spool(const struct engine *e);

/* ---- how it is told: metrics_page.c ---- */

/* In Prometheus' text format 0.0.4. */
void metrics_write(const struct health *health, struct str *out);
/* doc/metrics.md */
void metrics_print_doc(FILE *out);

#endif
