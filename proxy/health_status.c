/* proxy/health_status.c - /status: how the engine is, as one JSON object. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "filters/set.h"
#include "filters/slots.h"
#include "proxy/health.h"
#include "proxy/limits.h"
#include "proxy/metrics.h"
#include "proxy/snapshot.h"

/* What is no UTF-8 (a path may be) is no JSON. */
static json_t *
text(const char *value)
{
	json_t *json = json_string(value);
	size_t len = strlen(value);
	char *clean;

	if (json != NULL)
		return json;
	clean = malloc(len + 1);
	if (clean == NULL)
		return json_null();
	str_clean(clean, len, value, len, true);
	json = json_string(clean);
	free(clean);
	return json;
}

static void
put(json_t *in, const char *key, json_t *value)
{
	json_object_set_new(in, key, value);
}

static void
put_number(json_t *in, const char *key, uint64_t n)
{
	put(in, key, json_integer((json_int_t)n));
}

/* The counters of an array, those that are not 0, by their words. */
static json_t *
by_word(const struct metrics *m, enum metrics_kind kind, const void *parts, size_t offset, const char *const *words,
	size_t count)
{
	json_t *all = json_object();

	for (size_t i = 0; i < count; i++) {
		uint64_t n = metrics_sum(m, kind, parts, offset + i * sizeof(struct count));

		if (n > 0)
			put_number(all, words[i], n);
	}
	return all;
}

/* ---- parts of the page ---- */

static json_t *
problems(const struct health *h)
{
	json_t *list = json_array();
	struct str why = STR_INIT;
	char *line, *rest;

	health_lives(h, &why);
	health_is_ready(h, &why);
	rest = why.data;
	while (rest != NULL && (line = strsep(&rest, "\n")) != NULL)
		if (*line != '\0')
			json_array_append_new(list, text(line));
	str_deinit(&why);
	return list;
}

static json_t *
workers(const struct health *h)
{
	const struct engine *e = health_engine(h);
	json_t *list = json_array();

	for (int i = 0; i < engine_worker_count(e); i++) {
		const struct engine_worker *ew = engine_worker(e, i);
		json_t *one = json_object();

		put(one, "name", text(net_worker_name(ew->net)));
		put(one, "heartbeat_age_seconds", json_real((double)engine_beat_age(health_engine(h), i) / 1000));
		put(one, "stuck", json_boolean(engine_is_stuck(health_engine(h), i)));
		put_number(one, "busy", (uint64_t)atomic_load(&ew->busy));
		json_array_append_new(list, one);
	}
	return list;
}

static json_t *
addresses(const struct config_endpoints *listen)
{
	json_t *list = json_array();
	char address[300];

	for (size_t i = 0; i < listen->count; i++) {
		ip_endpoint_text(&listen->list[i], address, sizeof(address));
		json_array_append_new(list, text(address));
	}
	return list;
}

static json_t *
listeners(const struct health *h)
{
	const struct settings *st = health_settings(h);
	const struct metrics *m = engine_metrics(health_engine(h));
	const enum metrics_kind kind = METRICS_LISTENER;
	json_t *list = json_array();

	for (int i = 0; i < st->listener_count; i++) {
		const struct listener *l = &st->listeners[i];
		json_t *one = json_object();
		uint64_t closed = metrics_sum(m, kind, l->counts, offsetof(struct listener_counts, closed));
		uint64_t opened = metrics_sum(m, kind, l->counts, offsetof(struct listener_counts, opened));

		put(one, "name", text(l->name));
		put(one, "listen", addresses(&l->conf.listen));
		put(one, "backend", text(l->backend->name));
		put_number(one, "sessions_opened", opened);
		put_number(one, "sessions_active", opened > closed ? opened - closed : 0);
		put_number(one, "messages_received",
			metrics_sum(m, kind, l->counts, offsetof(struct listener_counts, messages)));
		put(one, "transactions", by_word(m, kind, l->counts, offsetof(struct listener_counts, outcomes),
			outcome_names, OUTCOME_COUNT));
		json_array_append_new(list, one);
	}
	return list;
}

static json_t *
hosts(const struct smtp_dest *dest)
{
	static const char *const states[] = {
		[SMTP_HOST_UNKNOWN] = "unknown", [SMTP_HOST_UP] = "up", [SMTP_HOST_DOWN] = "down",
	};
	json_t *list = json_array();
	const char *host;

	for (int i = 0; i < smtp_dest_conf(dest)->host_count; i++) {
		enum smtp_host_state state = smtp_dest_host(dest, i, &host);
		json_t *one = json_object();

		put(one, "host", text(host));
		put(one, "state", text(states[state]));
		json_array_append_new(list, one);
	}
	return list;
}

static json_t *
connections(const struct smtp_dest *dest)
{
	struct smtp_pool_counts n = smtp_dest_glance(dest);
	json_t *one = json_object();

	put_number(one, "used", n.used > n.idle ? (uint64_t)(n.used - n.idle) : 0);
	put_number(one, "idle", (uint64_t)n.idle);
	put_number(one, "waiting", (uint64_t)n.waiting);
	put_number(one, "max", (uint64_t)smtp_dest_conf(dest)->max_connections);
	return one;
}

static json_t *
backends(const struct health *h)
{
	static const char *const kinds[] = {
		[BACKEND_SMTP] = "smtp", [BACKEND_MAILDIR] = "maildir", [BACKEND_DISCARD] = "discard",
	};
	const struct settings *st = health_settings(h);
	json_t *list = json_array();

	for (int i = 0; i < st->backend_count; i++) {
		const struct backend *b = &st->backends[i];
		json_t *one = json_object();

		put(one, "name", text(b->name));
		put(one, "kind", text(kinds[b->kind]));
		if (b->kind == BACKEND_SMTP) {
			const struct smtp_dest *dest = snapshot_dest(engine_snapshot(health_engine(h)), b);

			put(one, "hosts", hosts(dest));
			put(one, "connections", connections(dest));
		}
		put(one, "deliveries", by_word(engine_metrics(health_engine(h)), METRICS_BACKEND, b->counts,
			offsetof(struct backend_counts, replies), delivery_class_names, DELIVERY_CLASSES));
		json_array_append_new(list, one);
	}
	return list;
}

/* Of a filter that the newest configuration has. */
static void
put_limits(json_t *one, const struct settings *st, const char *name)
{
	const struct filter *f;

	for (size_t i = 0; (f = filter_set_filter(st->filters, i)) != NULL; i++)
		if (strcmp(f->name, name) == 0) {
			put_number(one, "waiting", (uint64_t)slots_waiting(f->slots));
			put(one, "breaker", text(breaker_is_open(f->breaker) ? "open" : "closed"));
		}
}

static json_t *
filters(const struct health *h)
{
	const struct metrics *m = engine_metrics(health_engine(h));
	const enum metrics_kind kind = METRICS_FILTER;
	json_t *list = json_array();
	const char *name;
	const void *parts;

	for (size_t i = 0; metrics_slot(m, kind, i, &name, &parts); i++) {
		json_t *one = json_object();

		put(one, "name", text(name));
		put_number(one, "running", metrics_filter_running(m, parts));
		put_limits(one, health_settings(h), name);
		put(one, "calls", by_word(m, kind, parts, offsetof(struct filter_counts, verdicts), verdict_names,
			VERDICT_COUNT));
		put_number(one, "failures", metrics_sum(m, kind, parts, offsetof(struct filter_counts, failures)));
		put_number(one, "timeouts", metrics_sum(m, kind, parts, offsetof(struct filter_counts, timeouts)));
		json_array_append_new(list, one);
	}
	return list;
}

static json_t *
limits(const struct health *h)
{
	struct limits *l = engine_limits(health_engine(h));
	json_t *all = json_object(), *refused = json_object();

	for (int i = REFUSED_NOT + 1; i < REFUSED_COUNT; i++)
		put_number(refused, limits_refusal_names[i], limits_noted(l, (enum limits_refusal)i));
	put_number(all, "connections", (uint64_t)limits_count(l));
	put_number(all, "max_connections", (uint64_t)limits_max(health_settings(h)));
	put(all, "refused", refused);
	return all;
}

static json_t *
spool(const struct health *h)
{
	struct metrics_spool s = metrics_spool(health_engine(h));
	json_t *all = json_object();

	put(all, "directory", text(health_settings(h)->spool.directory));
	put_number(all, "memory_bytes", s.memory);
	put_number(all, "file_bytes", s.file);
	put_number(all, "free_bytes", (uint64_t)health_room(h));
	put_number(all, "slow_writes", s.slow_writes);
	return all;
}

/* null where there is none. */
static json_t *
quarantine(const struct health *h)
{
	const char *directory = health_settings(h)->quarantine.directory;
	json_t *all = json_object();

	if (directory == NULL) {
		json_decref(all);
		return json_null();
	}
	put(all, "directory", text(directory));
	return all;
}

static json_t *
process(const struct health *h)
{
	json_t *all = json_object();
	struct str unread = STR_INIT;
	time_t started = clock_wall() - (time_t)(health_uptime(h) / 1000);
	char at[32];
	struct tm tm;

	strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&started, &tm));
	put(all, "version", text(POSTERN_VERSION));
	put_number(all, "pid", (uint64_t)getpid());
	put(all, "started", text(at));
	put_number(all, "uptime_seconds", health_uptime(h) / 1000);
	put(all, "generation", json_integer(engine_snapshot(health_engine(h))->generation));
	put(all, "stopping", json_boolean(engine_is_stopping(health_engine(h))));
	put(all, "healthy", json_boolean(health_lives(h, &unread)));
	put(all, "ready", json_boolean(health_is_ready(h, &unread)));
	put(all, "problems", problems(h));
	put_number(all, "log_lines_lost", log_lost());
	str_deinit(&unread);
	return all;
}

void
health_status(const struct health *h, struct str *out)
{
	json_t *all = json_object();
	char *dump;

	put(all, "postern", process(h));
	put(all, "workers", workers(h));
	put(all, "listeners", listeners(h));
	put(all, "backends", backends(h));
	put(all, "filters", filters(h));
	put(all, "limits", limits(h));
	put(all, "spool", spool(h));
	put(all, "quarantine", quarantine(h));
	dump = json_dumps(all, JSON_INDENT(2));
	if (dump != NULL)
		str_printf(out, "%s\n", dump);
	free(dump);
	json_decref(all);
}
