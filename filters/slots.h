/*
 * filters/slots.h - max_instances: how many runs of one filter there may be at a time, over all workers.
 *
 * Who finds no slot free stands in one queue, served in the order of arrival, whatever worker he is of. A slot that
 * becomes free is his at once, and he hears of it on his own worker. Slots belong to the filter's name, and
 * outlive configurations (filters/registry.h): what a reload changes holds at once, for those who wait too.
 *
 * Without a limit nothing is counted, and no lock is taken: those who began then run beside those who are counted
 * after a reload has given one.
 */
#ifndef FILTERS_SLOTS_H
#define FILTERS_SLOTS_H

#include <stdbool.h>

#include "net/worker.h"

struct slots;
struct slot_wait;

struct slots *slots_new(void);
/* When nobody has one or waits. */
void slots_free(struct slots **slots);
/* Any thread, as all but what is said otherwise. 0: no limit, as at first. */
void slots_set_max(struct slots *s, int max);
int slots_max(const struct slots *s);
/* How many wait. */
int slots_waiting(struct slots *s);

enum slot_answer {
	SLOT_FREE,  /* there is no limit: nothing is to be given back */
	SLOT_TAKEN, /* slots_give() once, later */
	SLOT_WAIT,  /* got() will be called, once, from w's loop: then as SLOT_TAKEN */
};
/* On w's own thread; so is got(). */
enum slot_answer slots_take(struct slots *s, struct net_worker *w, void (*got)(void *owner), void *owner,
	struct slot_wait **wait_r);
void slots_give(struct slots *s);
/* On its own thread, while it waits: got() never comes, also when the slot was on its way. Clears the pointer. */
void slots_cancel(struct slot_wait **wait);

#endif
