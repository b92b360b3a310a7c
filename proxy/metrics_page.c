/*
 * proxy/metrics_page.c - the table of metrics: names, sentences, and where each value comes from.
 *
 * A row is a metric. Most are a counter, an array of counters with a word for each, or a histogram in the parts of
 * a slot; the others have a function that writes their samples.
 */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "filters/set.h"
#include "filters/slots.h"
#include "proxy/health.h"
#include "proxy/limits.h"
#include "proxy/metrics.h"
#include "proxy/snapshot.h"

enum type { COUNTER, GAUGE, HISTOGRAM };
static const char *const type_names[] = { "counter", "gauge", "histogram" };

struct row;

struct page {
	const struct health *health;
	struct engine *engine;
	const struct metrics *metrics;
	const struct settings *settings;
	struct str *out;
};

struct row {
	const char *name;
	enum type type;
	const char *labels; /* for the document: "listener, verdict" */
	const char *help;
	void (*write)(const struct page *p, const struct row *row);
	enum metrics_kind kind; /* of the slots, as is all that follows */
	size_t offset;
	const char *const *words; /* one for each counter of an array */
	size_t word_count;
};

/* ---- samples ---- */

/* The text format knows three escapes, and UTF-8 alone. */
static void
add_label(struct str *out, const char *name, const char *value)
{
	size_t left = strlen(value);

	str_printf(out, "%s=\"", name);
	while (left > 0) {
		size_t n = str_utf8_len(value, left);

		if (*value == '\\' || *value == '"')
			str_printf(out, "\\%c", *value);
		else if (*value == '\n')
			str_add(out, "\\n");
		else if (n == 0)
			str_addc(out, '?');
		else
			str_addn(out, value, n);
		n = n > 0 ? n : 1;
		value += n;
		left -= n;
	}
	str_addc(out, '"');
}

/* Up to two labels; NULL: no more. */
static void
begin(const struct page *p, const struct row *row, const char *suffix, const char *a, const char *a_value,
	const char *b, const char *b_value)
{
	str_printf(p->out, "%s%s", row->name, suffix);
	if (a != NULL) {
		str_addc(p->out, '{');
		add_label(p->out, a, a_value);
		if (b != NULL) {
			str_addc(p->out, ',');
			add_label(p->out, b, b_value);
		}
		str_addc(p->out, '}');
	}
	str_addc(p->out, ' ');
}

static void
end_count(const struct page *p, uint64_t value)
{
	str_printf(p->out, "%" PRIu64 "\n", value);
}

/* Milliseconds as seconds, without what the locale does to a point. */
static void
end_seconds(const struct page *p, uint64_t ms)
{
	str_printf(p->out, "%" PRIu64 ".%03u\n", ms / 1000, (unsigned)(ms % 1000));
}

static void
one(const struct page *p, const struct row *row, uint64_t value)
{
	begin(p, row, "", NULL, NULL, NULL, NULL);
	end_count(p, value);
}

/* ---- from slots ---- */

static const char *const kind_labels[METRICS_KINDS] = { "listener", "backend", "backend", "filter" };

/* The second label of a row: "listener, verdict" has verdict. */
static const char *
second_label(const struct row *row)
{
	const char *comma = strstr(row->labels, ", ");

	return comma != NULL ? comma + 2 : "";
}

static void
from_words(const struct page *p, const struct row *row, const char *name, const void *parts)
{
	for (size_t i = 0; i < row->word_count; i++) {
		begin(p, row, "", kind_labels[row->kind], name, second_label(row), row->words[i]);
		end_count(p, metrics_sum(p->metrics, row->kind, parts, row->offset + i * sizeof(struct count)));
	}
}

/* Read while it grows: so _count is what the buckets say. */
static void
from_times(const struct page *p, const struct row *row, const char *name, const void *parts)
{
	const char *label = kind_labels[row->kind];
	uint64_t all = 0;
	char bound[32];

	for (size_t i = 0; i <= COUNT_BOUNDS; i++) {
		size_t offset = row->offset + offsetof(struct count_times, buckets) + i * sizeof(struct count);

		all += metrics_sum(p->metrics, row->kind, parts, offset);
		if (i < COUNT_BOUNDS)
			snprintf(bound, sizeof(bound), "%u.%03u", count_bounds_ms[i] / 1000, count_bounds_ms[i] % 1000);
		begin(p, row, "_bucket", label, name, "le", i < COUNT_BOUNDS ? bound : "+Inf");
		end_count(p, all);
	}
	begin(p, row, "_sum", label, name, NULL, NULL);
	end_seconds(p, metrics_sum(p->metrics, row->kind, parts, row->offset + offsetof(struct count_times, sum_ms)));
	begin(p, row, "_count", label, name, NULL, NULL);
	end_count(p, all);
}

static void
from_slots(const struct page *p, const struct row *row)
{
	const char *name;
	const void *parts;

	for (size_t i = 0; metrics_slot(p->metrics, row->kind, i, &name, &parts); i++) {
		if (row->type == HISTOGRAM) {
			from_times(p, row, name, parts);
		} else if (row->words != NULL) {
			from_words(p, row, name, parts);
		} else {
			begin(p, row, "", kind_labels[row->kind], name, NULL, NULL);
			end_count(p, metrics_sum(p->metrics, row->kind, parts, row->offset));
		}
	}
}

/* What has begun and not ended. The ends are read first: an end without its begin would be less than nothing. */
static void
sessions_active(const struct page *p, const struct row *row)
{
	const char *name;
	const void *parts;

	for (size_t i = 0; metrics_slot(p->metrics, METRICS_LISTENER, i, &name, &parts); i++) {
		uint64_t closed = metrics_sum(p->metrics, METRICS_LISTENER, parts, offsetof(struct listener_counts, closed));
		uint64_t opened = metrics_sum(p->metrics, METRICS_LISTENER, parts, offsetof(struct listener_counts, opened));

		begin(p, row, "", "listener", name, NULL, NULL);
		end_count(p, opened > closed ? opened - closed : 0);
	}
}

static void
filter_running(const struct page *p, const struct row *row)
{
	const char *name;
	const void *parts;

	for (size_t i = 0; metrics_slot(p->metrics, METRICS_FILTER, i, &name, &parts); i++) {
		begin(p, row, "", "filter", name, NULL, NULL);
		end_count(p, metrics_filter_running(p->metrics, parts));
	}
}

/* Of the filters that the newest configuration has. */
static void
filter_waiting(const struct page *p, const struct row *row)
{
	const struct filter *f;

	for (size_t i = 0; (f = filter_set_filter(p->settings->filters, i)) != NULL; i++) {
		begin(p, row, "", "filter", f->name, NULL, NULL);
		end_count(p, (uint64_t)slots_waiting(f->slots));
	}
}

static void
filter_breakers(const struct page *p, const struct row *row)
{
	const struct filter *f;

	for (size_t i = 0; (f = filter_set_filter(p->settings->filters, i)) != NULL; i++) {
		begin(p, row, "", "filter", f->name, NULL, NULL);
		end_count(p, breaker_is_open(f->breaker));
	}
}

/* TLS has two sides: a listener and its clients, we and a back-end. */
static void
handshakes(const struct page *p, const struct row *row, size_t front_offset, size_t back_offset)
{
	const char *name;
	const void *parts;

	for (size_t i = 0; metrics_slot(p->metrics, METRICS_LISTENER, i, &name, &parts); i++) {
		begin(p, row, "", "side", "front", "name", name);
		end_count(p, metrics_sum(p->metrics, METRICS_LISTENER, parts, front_offset));
	}
	for (size_t i = 0; metrics_slot(p->metrics, METRICS_DEST, i, &name, &parts); i++) {
		begin(p, row, "", "side", "back", "name", name);
		end_count(p, metrics_sum(p->metrics, METRICS_DEST, parts, back_offset));
	}
}

static void
tls_handshakes(const struct page *p, const struct row *row)
{
	handshakes(p, row, offsetof(struct listener_counts, handshakes), offsetof(struct smtp_dest_tally, handshakes));
}

static void
tls_failures(const struct page *p, const struct row *row)
{
	handshakes(p, row, offsetof(struct listener_counts, handshakes_failed),
		offsetof(struct smtp_dest_tally, handshakes_failed));
}

/* ---- back-ends as they are ---- */

static const struct smtp_dest *
dest_of(const struct page *p, int i)
{
	const struct backend *b = &p->settings->backends[i];

	return b->kind == BACKEND_SMTP ? snapshot_dest(engine_snapshot(p->engine), b) : NULL;
}

static void
backend_up(const struct page *p, const struct row *row)
{
	for (int i = 0; i < p->settings->backend_count; i++) {
		const struct smtp_dest *dest = dest_of(p, i);
		const char *host;

		for (int k = 0; dest != NULL && k < smtp_dest_conf(dest)->host_count; k++) {
			bool up = smtp_dest_host(dest, k, &host) != SMTP_HOST_DOWN;

			begin(p, row, "", "backend", p->settings->backends[i].name, "host", host);
			end_count(p, up);
		}
	}
}

static void
backend_connections(const struct page *p, const struct row *row)
{
	for (int i = 0; i < p->settings->backend_count; i++) {
		const struct smtp_dest *dest = dest_of(p, i);
		struct smtp_pool_counts n;

		if (dest == NULL)
			continue;
		n = smtp_dest_glance(dest);
		begin(p, row, "", "backend", p->settings->backends[i].name, "state", "used");
		end_count(p, n.used > n.idle ? (uint64_t)(n.used - n.idle) : 0);
		begin(p, row, "", "backend", p->settings->backends[i].name, "state", "idle");
		end_count(p, (uint64_t)n.idle);
	}
}

static void
backend_connections_max(const struct page *p, const struct row *row)
{
	for (int i = 0; i < p->settings->backend_count; i++) {
		const struct smtp_dest *dest = dest_of(p, i);

		if (dest == NULL)
			continue;
		begin(p, row, "", "backend", p->settings->backends[i].name, NULL, NULL);
		end_count(p, (uint64_t)smtp_dest_conf(dest)->max_connections);
	}
}

static void
backend_waiting(const struct page *p, const struct row *row)
{
	for (int i = 0; i < p->settings->backend_count; i++) {
		const struct smtp_dest *dest = dest_of(p, i);

		if (dest == NULL)
			continue;
		begin(p, row, "", "backend", p->settings->backends[i].name, NULL, NULL);
		end_count(p, (uint64_t)smtp_dest_glance(dest).waiting);
	}
}

/* ---- limits, spool, log ---- */

static void
connections_active(const struct page *p, const struct row *row)
{
	one(p, row, (uint64_t)limits_count(engine_limits(p->engine)));
}

static void
connections_max(const struct page *p, const struct row *row)
{
	one(p, row, (uint64_t)limits_max(engine_snapshot(p->engine)->settings));
}

static void
refused(const struct page *p, const struct row *row)
{
	for (int i = REFUSED_NOT + 1; i < REFUSED_COUNT; i++) {
		begin(p, row, "", "reason", limits_refusal_names[i], NULL, NULL);
		end_count(p, limits_noted(engine_limits(p->engine), (enum limits_refusal)i));
	}
}

static void
spool_bytes(const struct page *p, const struct row *row)
{
	struct metrics_spool s = metrics_spool(p->engine);

	begin(p, row, "", "where", "memory", NULL, NULL);
	end_count(p, s.memory);
	begin(p, row, "", "where", "file", NULL, NULL);
	end_count(p, s.file);
}

static void
spool_free(const struct page *p, const struct row *row)
{
	one(p, row, (uint64_t)health_room(p->health));
}

static void
slow_writes(const struct page *p, const struct row *row)
{
	one(p, row, metrics_spool(p->engine).slow_writes);
}

static void
lines_lost(const struct page *p, const struct row *row)
{
	one(p, row, log_lost());
}

/* ---- workers, the engine as a whole ---- */

static void
beat_age(const struct page *p, const struct row *row)
{
	for (int i = 0; i < engine_worker_count(p->engine); i++) {
		begin(p, row, "", "worker", net_worker_name(engine_worker(p->engine, i)->net), NULL, NULL);
		end_seconds(p, engine_beat_age(p->engine, i));
	}
}

static void
workers_stuck(const struct page *p, const struct row *row)
{
	uint64_t n = 0;

	for (int i = 0; i < engine_worker_count(p->engine); i++)
		n += engine_is_stuck(p->engine, i);
	one(p, row, n);
}

static void
workers(const struct page *p, const struct row *row)
{
	one(p, row, (uint64_t)engine_worker_count(p->engine));
}

static void
ready(const struct page *p, const struct row *row)
{
	struct str why = STR_INIT;

	one(p, row, health_is_ready(p->health, &why));
	str_deinit(&why);
}

static void
config_generation(const struct page *p, const struct row *row)
{
	one(p, row, engine_snapshot(p->engine)->generation);
}

static void
reload_failures_total(const struct page *p, const struct row *row)
{
	bool is_last;

	one(p, row, engine_reload_failures(p->engine, &is_last));
}

static void
last_reload(const struct page *p, const struct row *row)
{
	bool is_last;

	engine_reload_failures(p->engine, &is_last);
	one(p, row, !is_last);
}

static void
engine_starts_total(const struct page *p, const struct row *row)
{
	one(p, row, engine_starts(p->engine));
}

static void
build_info(const struct page *p, const struct row *row)
{
	begin(p, row, "", "version", POSTERN_VERSION, NULL, NULL);
	end_count(p, 1);
}

/* ---- the process; the names are those of Prometheus' own clients ---- */

/* When did it start, in seconds since the epoch? From the boot time and field 22 of stat(5). */
static void
process_start(const struct page *p, const struct row *row)
{
	static double started;

	if (started == 0) {
		char text[1024] = "";
		const char *at;
		unsigned long long ticks = 0;
		struct timespec now, up;
		FILE *in = fopen("/proc/self/stat", "re");

		if (in == NULL)
			return;
		if (fgets(text, sizeof(text), in) == NULL)
			text[0] = '\0';
		fclose(in);
		at = strrchr(text, ')');
		for (int field = 2; at != NULL && field < 22; field++)
			at = strchr(at + 1, ' ');
		if (at == NULL || sscanf(at, " %llu", &ticks) != 1)
			return;
		clock_gettime(CLOCK_REALTIME, &now);
		clock_gettime(CLOCK_BOOTTIME, &up);
		started = (double)(now.tv_sec - up.tv_sec) + (double)ticks / (double)sysconf(_SC_CLK_TCK);
	}
	begin(p, row, "", NULL, NULL, NULL, NULL);
	end_seconds(p, (uint64_t)(started * 1000));
}

static void
process_cpu(const struct page *p, const struct row *row)
{
	struct timespec cpu;

	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) < 0)
		return;
	begin(p, row, "", NULL, NULL, NULL, NULL);
	end_seconds(p, (uint64_t)cpu.tv_sec * 1000 + (uint64_t)cpu.tv_nsec / 1000000);
}

/* One of the numbers of statm(5), in pages. */
static void
from_statm(const struct page *p, const struct row *row, int which)
{
	unsigned long pages[2];
	FILE *in = fopen("/proc/self/statm", "re");

	if (in == NULL)
		return;
	if (fscanf(in, "%lu %lu", &pages[0], &pages[1]) == 2)
		one(p, row, (uint64_t)pages[which] * (uint64_t)sysconf(_SC_PAGESIZE));
	fclose(in);
}

static void
process_virtual(const struct page *p, const struct row *row)
{
	from_statm(p, row, 0);
}

static void
process_resident(const struct page *p, const struct row *row)
{
	from_statm(p, row, 1);
}

static void
process_fds(const struct page *p, const struct row *row)
{
	DIR *dir = opendir("/proc/self/fd");
	uint64_t n = 0;

	if (dir == NULL)
		return;
	for (const struct dirent *e; (e = readdir(dir)) != NULL;)
		n += e->d_name[0] != '.';
	closedir(dir);
	one(p, row, n - 1); /* that of the folder itself */
}

static void
process_fds_max(const struct page *p, const struct row *row)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0)
		one(p, row, rl.rlim_cur);
}

/* ---- the table ---- */

#define OF(kind_, st, member) .write = from_slots, .kind = kind_, .offset = offsetof(struct st, member)
#define OF_LISTENER(member)   OF(METRICS_LISTENER, listener_counts, member)
#define OF_BACKEND(member)    OF(METRICS_BACKEND, backend_counts, member)
#define OF_DEST(member)	      OF(METRICS_DEST, smtp_dest_tally, member)
#define OF_FILTER(member)     OF(METRICS_FILTER, filter_counts, member)
#define WORDS(list, n)	      .words = list, .word_count = n

static const struct row rows[] = {
	/* the front */
	{ "postern_sessions_opened_total", COUNTER, "listener", "connections of clients that were accepted, also those "
		"that were then refused", OF_LISTENER(opened) },
	{ "postern_sessions_active", GAUGE, "listener", "connections of clients that are open", .write = sessions_active },
	{ "postern_session_duration_seconds", HISTOGRAM, "listener", "how long connections of clients lasted",
		OF_LISTENER(session) },
	{ "postern_connections_active", GAUGE, "", "connections that count against max_connections",
		.write = connections_active },
	{ "postern_connections_max", GAUGE, "", "max_connections, as given or as auto came to", .write = connections_max },
	{ "postern_refused_total", COUNTER, "reason", "clients (or, for the reason mail, MAIL commands) that were turned "
		"away: clients may not speak here, max_connections and max_per_client were reached, early_talker did not "
		"wait for the greeting, mail was put off because few connections were free", .write = refused },
	{ "postern_tls_handshakes_total", COUNTER, "side, name", "TLS handshakes that succeeded, with clients of a "
		"listener (front) and with hosts of a back-end (back)", .write = tls_handshakes },
	{ "postern_tls_handshake_failures_total", COUNTER, "side, name", "TLS handshakes that failed, or TLS that was "
		"required and not offered", .write = tls_failures },

	/* messages */
	{ "postern_transactions_total", COUNTER, "listener, verdict", "transactions that ended, by the verdict of their "
		"summary line; abandoned ones ended without any", OF_LISTENER(outcomes),
		WORDS(outcome_names, OUTCOME_COUNT) },
	{ "postern_messages_received_total", COUNTER, "listener", "messages whose content was received to its end",
		OF_LISTENER(messages) },
	{ "postern_received_bytes_total", COUNTER, "listener", "octets of these messages", OF_LISTENER(octets) },
	{ "postern_receive_duration_seconds", HISTOGRAM, "listener", "from DATA (or the first BDAT) to the end of the "
		"content", OF_LISTENER(receive) },
	{ "postern_chain_duration_seconds", HISTOGRAM, "listener", "from the end of the content to the verdict of the "
		"filters", OF_LISTENER(chain) },
	{ "postern_message_duration_seconds", HISTOGRAM, "listener", "from the end of the content to our reply: what the "
		"front has to wait for", OF_LISTENER(message) },
	{ "postern_bare_newlines_total", COUNTER, "listener", "octets CR or LF that stood alone in received messages",
		OF_LISTENER(bare_newlines) },
	{ "postern_loops_total", COUNTER, "listener", "messages that were refused because they were in a loop",
		OF_LISTENER(loops) },
	{ "postern_quarantined_total", COUNTER, "listener", "messages that were set aside in the quarantine; one whose "
		"recipients had different reasons counts for each", OF_LISTENER(quarantined) },
	{ "postern_quarantine_failures_total", COUNTER, "listener", "messages that should have been set aside and could not "
		"be written, so that they were put off", OF_LISTENER(quarantine_failures) },
	{ "postern_front_gone_total", COUNTER, "listener", "transactions in whose middle the client went away",
		OF_LISTENER(front_gone) },

	/* filters */
	{ "postern_filter_calls_total", COUNTER, "filter, verdict", "messages that a filter has looked at, by its verdict "
		"(when it failed, that of its on_failure)", OF_FILTER(verdicts), WORDS(verdict_names, VERDICT_COUNT) },
	{ "postern_filter_skipped_total", COUNTER, "filter", "messages that a filter has not looked at, because its "
		"conditions did not hold", OF_FILTER(skipped) },
	{ "postern_filter_cancelled_total", COUNTER, "filter", "looks that were given up, because the client left or the "
		"verdict was no longer wanted", OF_FILTER(cancelled) },
	{ "postern_filter_failures_total", COUNTER, "filter", "looks at which the filter failed, so that on_failure "
		"answered (or tempfail, at the end of the budget)", OF_FILTER(failures) },
	{ "postern_filter_timeouts_total", COUNTER, "filter", "failures because there was no answer within the filter's "
		"timeout", OF_FILTER(timeouts) },
	{ "postern_filter_wait_timeouts_total", COUNTER, "filter", "failures because none of max_instances was free within "
		"max_wait", OF_FILTER(wait_timeouts) },
	{ "postern_filter_stopped_total", COUNTER, "filter", "failures because the filter was not asked, as it had failed too "
		"often before (option failures)", OF_FILTER(stopped) },
	{ "postern_filter_duration_seconds", HISTOGRAM, "filter", "how long a filter took for its verdict, with what it "
		"waited for one of max_instances", OF_FILTER(duration) },
	{ "postern_filter_running", GAUGE, "filter", "looks that are under way", .write = filter_running },
	{ "postern_filter_waiting", GAUGE, "filter", "messages that wait for one of max_instances", .write = filter_waiting },
	{ "postern_filter_breaker_open", GAUGE, "filter", "1 from the failure that was one too many (option failures) until "
		"the filter has answered again, else 0", .write = filter_breakers },
	{ "postern_filter_shadow_total", COUNTER, "filter, verdict", "messages that a filter with shadow yes has looked at, by "
		"what its verdict would have been; they are not among postern_filter_calls_total", OF_FILTER(shadows),
		WORDS(verdict_names, VERDICT_COUNT) },
	{ "postern_filter_shadow_disagreements_total", COUNTER, "filter", "of these, messages of which something else became, "
		"for one recipient at least", OF_FILTER(disagreements) },

	/* back-ends */
	{ "postern_delivery_replies_total", COUNTER, "backend, class", "deliveries that ended, by the back-end's answer; "
		"lost ones had none, as no host could be reached or the connection ended", OF_BACKEND(replies),
		WORDS(delivery_class_names, DELIVERY_CLASSES) },
	{ "postern_added_recipients_refused_total", COUNTER, "backend", "recipients that a filter had added and the back-end "
		"refused", OF_BACKEND(added_refused) },
	{ "postern_deliver_duration_seconds", HISTOGRAM, "backend", "from the verdict of the filters to the end of the "
		"delivery", OF_BACKEND(deliver) },
	{ "postern_backend_up", GAUGE, "backend, host", "1 when this host is up (or was not asked yet), 0 when it is down",
		.write = backend_up },
	{ "postern_backend_connections", GAUGE, "backend, state", "connections to the hosts of a back-end, used and idle",
		.write = backend_connections },
	{ "postern_backend_connections_max", GAUGE, "backend", "max_connections of the back-end",
		.write = backend_connections_max },
	{ "postern_backend_waiting", GAUGE, "backend", "deliveries that wait for a connection", .write = backend_waiting },
	{ "postern_backend_connection_attempts_total", COUNTER, "backend", "connections to hosts that were begun, probes "
		"among them", OF_DEST(attempts) },
	{ "postern_backend_connection_failures_total", COUNTER, "backend", "of these, those that ended before they were "
		"ready for mail", OF_DEST(failures) },

	/* the machine */
	{ "postern_spool_bytes", GAUGE, "where", "octets of messages under way, in memory and in files",
		.write = spool_bytes },
	{ "postern_spool_free_bytes", GAUGE, "", "free octets above min_free in the spool's file system; 0 when no mail is "
		"taken for lack of room (or inodes, or an answer)", .write = spool_free },
	{ "postern_spool_slow_writes_total", COUNTER, "", "writes to the spool that took more than 20 ms",
		.write = slow_writes },
	{ "postern_log_lines_lost_total", COUNTER, "", "log lines that their target did not take", .write = lines_lost },

	/* the engine */
	{ "postern_ready", GAUGE, "", "1 when /readyz says that mail can be taken", .write = ready },
	{ "postern_workers", GAUGE, "", "threads that carry mail", .write = workers },
	{ "postern_workers_stuck", GAUGE, "", "workers whose loop has not turned for stuck_timeout", .write = workers_stuck },
	{ "postern_worker_heartbeat_age_seconds", GAUGE, "worker", "since a worker's loop was last seen to turn, which it "
		"does each second", .write = beat_age },
	{ "postern_config_generation", GAUGE, "", "which configuration is in force: 1 at the start, and one more with each reload "
		"that succeeded", .write = config_generation },
	{ "postern_config_last_reload_successful", GAUGE, "", "0 when the last reload failed; the one before it is in force then",
		.write = last_reload },
	{ "postern_config_reload_failures_total", COUNTER, "", "reloads that failed, since this engine started",
		.write = reload_failures_total },
	{ "postern_engine_starts_total", COUNTER, "", "engines that were started, the first one and each that took over or "
		"replaced one that died", .write = engine_starts_total },
	{ "postern_build_info", GAUGE, "version", "always 1", .write = build_info },
	{ "process_start_time_seconds", GAUGE, "", "when the engine started, since the epoch", .write = process_start },
	{ "process_cpu_seconds_total", COUNTER, "", "processor time of the engine", .write = process_cpu },
	{ "process_virtual_memory_bytes", GAUGE, "", "address space of the engine", .write = process_virtual },
	{ "process_resident_memory_bytes", GAUGE, "", "memory of the engine", .write = process_resident },
	{ "process_open_fds", GAUGE, "", "descriptors of the engine that are open", .write = process_fds },
	{ "process_max_fds", GAUGE, "", "descriptors that it may have", .write = process_fds_max },
};

void
metrics_write(const struct health *health, struct str *out)
{
	struct engine *e = health_engine(health);
	const struct page page = { .health = health, .engine = e, .metrics = engine_metrics(e),
		.settings = health_settings(health), .out = out };

	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		str_printf(out, "# HELP %s %s\n# TYPE %s %s\n", rows[i].name, rows[i].help, rows[i].name,
			type_names[rows[i].type]);
		rows[i].write(&page, &rows[i]);
	}
}

/* ---- the document ---- */

static const char doc_head[] =
	"# Metrics\n"
	"\n"
	"What `/metrics` of the health port tells, in the text format 0.0.4 of Prometheus. This page is printed by\n"
	"`postern -T metrics`, from the table in `proxy/metrics_page.c`. Names and labels are an interface: they stay.\n"
	"\n"
	"Times are in seconds, sizes in bytes (octets). Labels hold names of the configuration and words from fixed\n"
	"lists, never an address of a client or of a mail. Counters begin at 0 when the engine starts\n"
	"(`process_start_time_seconds`), and go on over a reload.\n"
	"\n"
	"| metric | type | labels | what it says |\n"
	"|---|---|---|---|\n";

static void
print_bounds(FILE *out)
{
	fputs("\nBuckets of all histograms, in seconds:", out);
	for (size_t i = 0; i < COUNT_BOUNDS; i++)
		fprintf(out, " %u.%03u", count_bounds_ms[i] / 1000, count_bounds_ms[i] % 1000);
	fputs("\n", out);
}

void
metrics_print_doc(FILE *out)
{
	fputs(doc_head, out);
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
		fprintf(out, "| `%s` | %s | %s | %s |\n", rows[i].name, type_names[rows[i].type], rows[i].labels,
			rows[i].help);
	print_bounds(out);
}
