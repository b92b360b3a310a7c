/* proxy/metrics.c - the registry: slots by name, each with one part per worker. */
#include "proxy/metrics.h"

#include <stdlib.h>
#include <string.h>

#include "base/xalloc.h"
#include "filters/set.h"
#include "proxy/engine.h"

const char *const outcome_names[OUTCOME_COUNT] = {
	"pass", "accept", "reject", "tempfail", "discard", "quarantine", "disconnect", "abandoned",
};

const char *const delivery_class_names[DELIVERY_CLASSES] = { "2xx", "4xx", "5xx", "lost" };

static const size_t part_sizes[METRICS_KINDS] = {
	[METRICS_LISTENER] = sizeof(struct listener_counts),
	[METRICS_BACKEND] = sizeof(struct backend_counts),
	[METRICS_DEST] = sizeof(struct smtp_dest_tally),
	[METRICS_FILTER] = sizeof(struct filter_counts),
};

struct slot {
	char *name;
	void *parts;
};

struct metrics {
	int workers;
	struct slots {
		struct slot *list;
		size_t count;
	} slots[METRICS_KINDS];
};

struct metrics *
metrics_new(int workers)
{
	struct metrics *m = xcalloc(1, sizeof(*m));

	m->workers = workers;
	return m;
}

void
metrics_free(struct metrics **m_p)
{
	struct metrics *m = *m_p;

	*m_p = NULL;
	for (int kind = 0; m != NULL && kind < METRICS_KINDS; kind++) {
		for (size_t i = 0; i < m->slots[kind].count; i++) {
			free(m->slots[kind].list[i].name);
			free(m->slots[kind].list[i].parts);
		}
		free(m->slots[kind].list);
	}
	free(m);
}

static void *
find(struct metrics *m, enum metrics_kind kind, const char *name)
{
	struct slots *s = &m->slots[kind];

	for (size_t i = 0; i < s->count; i++)
		if (strcmp(s->list[i].name, name) == 0)
			return s->list[i].parts;
	s->list = xrealloc(s->list, (s->count + 1) * sizeof(*s->list));
	s->list[s->count] = (struct slot){ xstrdup(name), count_parts(m->workers, part_sizes[kind]) };
	return s->list[s->count++].parts;
}

struct listener_counts *
metrics_listener(struct metrics *m, const char *name)
{
	return find(m, METRICS_LISTENER, name);
}

struct backend_counts *
metrics_backend(struct metrics *m, const char *name)
{
	return find(m, METRICS_BACKEND, name);
}

struct smtp_dest_tally *
metrics_dest(struct metrics *m, const char *name)
{
	return find(m, METRICS_DEST, name);
}

struct filter_counts *
metrics_filter(struct metrics *m, const char *name)
{
	return find(m, METRICS_FILTER, name);
}

static struct filter_counts *
find_filter(void *owner, const char *name)
{
	return metrics_filter(owner, name);
}

void
metrics_attach(struct metrics *m, struct settings *st)
{
	for (int i = 0; i < st->listener_count; i++)
		st->listeners[i].counts = metrics_listener(m, st->listeners[i].name);
	for (int i = 0; i < st->backend_count; i++) {
		struct backend *b = &st->backends[i];

		b->counts = metrics_backend(m, b->name);
		if (b->kind == BACKEND_SMTP)
			b->dest_conf.tally = metrics_dest(m, b->name);
	}
	filter_set_count(st->filters, find_filter, m);
}

bool
metrics_slot(const struct metrics *m, enum metrics_kind kind, size_t i, const char **name_r, const void **parts_r)
{
	const struct slots *s = &m->slots[kind];

	if (i >= s->count)
		return false;
	*name_r = s->list[i].name;
	*parts_r = s->list[i].parts;
	return true;
}

uint64_t
metrics_sum(const struct metrics *m, enum metrics_kind kind, const void *parts, size_t offset)
{
	const char *at = (const char *)parts + offset;
	uint64_t sum = 0;

	for (int i = 0; i < m->workers; i++)
		sum += count_get((const struct count *)(const void *)(at + (size_t)i * part_sizes[kind]));
	return sum;
}

uint64_t
metrics_filter_running(const struct metrics *m, const void *parts)
{
	const enum metrics_kind kind = METRICS_FILTER;
	uint64_t begun, over = metrics_sum(m, kind, parts, offsetof(struct filter_counts, cancelled));

	for (size_t i = 0; i < VERDICT_COUNT; i++) {
		over += metrics_sum(m, kind, parts, offsetof(struct filter_counts, verdicts) + i * sizeof(struct count));
		over += metrics_sum(m, kind, parts, offsetof(struct filter_counts, shadows) + i * sizeof(struct count));
	}
	begun = metrics_sum(m, kind, parts, offsetof(struct filter_counts, begun)); /* last: it is never behind */
	return begun > over ? begun - over : 0;
}

struct metrics_spool
metrics_spool(const struct engine *e)
{
	struct metrics_spool s = { 0 };

	for (int i = 0; i < engine_worker_count(e); i++) {
		const struct spool_worker *part = &engine_worker(e, i)->spool;

		s.memory += count_get(&part->inline_used);
		s.file += count_get(&part->file_used);
		s.slow_writes += count_get(&part->slow_writes);
	}
	return s;
}
