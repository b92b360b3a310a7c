/*
 * proxy/explain.c - the story of one message: rule, filters with what they look at and change, verdict, reply.
 */
#include "proxy/explain.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/xalloc.h"
#include "filters/run_life.h"
#include "filters/rules.h"
#include "mail/view.h"

/* More lines on both sides than this are not compared one by one. */
#define DIFF_MAX 2000

/* ---- words ---- */

static void
put_place(FILE *out, const struct config_place *place)
{
	fprintf(out, "%s:%d:%d", place->file, place->line, place->column);
}

/* As it is written in the configuration. */
static void
put_words(FILE *out, const struct config_words *words)
{
	for (size_t i = 0; i < words->count; i++) {
		const struct config_word *w = &words->list[i];

		fprintf(out, w->kind == CONFIG_WORD_QUOTED ? " \"%s\"" : w->kind == CONFIG_WORD_PATTERN ? " /%s/" : " %s",
			w->text);
	}
}

static void
put_rcpts(FILE *out, const struct mail_rcpt *const *rcpts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		fprintf(out, " <%s>", rcpts[i]->addr);
}

/* Header text may hold anything, and a terminal obeys some of it. */
static void
put_clean(FILE *out, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		fputc((c < ' ' && c != '\t') || c == 127 ? '?' : c, out);
	}
}

/* ---- rule ---- */

static void
put_chain(FILE *out, const struct filter_chain *chain)
{
	const struct filter_chain *whole = chain->whole != NULL ? chain->whole : chain;

	fputs("chain", out);
	for (size_t i = 0; i < whole->count; i++)
		fprintf(out, " %s", whole->filters[i]->name);
	fputs(whole->count == 0 ? " none\n" : "\n", out);
}

static void
put_rule(const struct explain *e, const struct filter_chain *chain)
{
	const struct config_block *top = e->settings->config->top;

	if (chain == NULL) {
		fputs("not known: a rule could not be asked to the end; -v says why\n", e->story);
		return;
	}
	if (chain->place != NULL) {
		fputs("rule ", e->story);
		put_place(e->story, chain->place);
	} else {
		fputs("no rule, default_chain ", e->story);
		if (config_is_set(top, "default_chain"))
			put_place(e->story, config_place_of(top, "default_chain"));
		else
			fputs("(not given)", e->story);
	}
	fputs(", ", e->story);
	put_chain(e->story, chain);
}

static void
put_message(const struct explain *e, const struct mail_msg *msg)
{
	time_t now = msg->when != 0 ? msg->when : clock_calendar();
	char when[64];
	struct tm tm;

	localtime_r(&now, &tm);
	strftime(when, sizeof(when), "%a %Y-%m-%d %H:%M:%S %z", &tm);
	fprintf(e->story, "listener %s, client %s, helo %s, %s\n", msg->origin->listener, msg->origin->client_text,
		msg->origin->helo, when);
	fprintf(e->story, "message of %" PRId64 " octets from <%s>\n", msg->body->size, msg->sender->addr);
}

static void
chosen(void *owner, const struct mail_msg *msg, const struct filter_chain *const *chains)
{
	struct explain *e = owner;

	if (e->story == NULL)
		return;
	if (e->messages++ > 0)
		fputc('\n', e->story);
	put_message(e, msg);
	for (size_t i = 0; i < msg->rcpt_count; i++) {
		fprintf(e->story, "to <%s>: ", msg->rcpts[i]->addr);
		put_rule(e, chains[i]);
	}
	fflush(e->story);
}

/* ---- edits, as a diff ---- */

struct line {
	const char *text;
	size_t len;
};

/* The lines of a header block, without their ends. */
static size_t
split(const char *text, size_t len, struct line **lines_r)
{
	struct line *lines = NULL;
	size_t count = 0, size = 0;

	while (len > 0) {
		const char *end = memchr(text, '\n', len);
		size_t n = end != NULL ? (size_t)(end - text) + 1 : len;

		if (count == size)
			lines = xrealloc(lines, (size = size * 2 + 16) * sizeof(*lines));
		lines[count] = (struct line){ text, n };
		while (lines[count].len > 0 && strchr("\r\n", text[lines[count].len - 1]) != NULL)
			lines[count].len--;
		count++;
		text += n;
		len -= n;
	}
	*lines_r = lines;
	return count;
}

static bool
same(const struct line *a, const struct line *b)
{
	return a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

static void
put_line(FILE *out, char sign, const struct line *line)
{
	fprintf(out, "  %c ", sign);
	put_clean(out, line->text, line->len);
	fputc('\n', out);
}

/* The longest common part, by the table that every book has. */
static void
put_differing(FILE *out, const struct line *a, size_t n, const struct line *b, size_t m)
{
	unsigned *best = xcalloc((n + 1) * (m + 1), sizeof(*best));
	size_t i, j;

#define BEST(i_, j_) best[(i_) * (m + 1) + (j_)]
	for (i = n; i-- > 0;)
		for (j = m; j-- > 0;)
			BEST(i, j) = same(&a[i], &b[j]) ? BEST(i + 1, j + 1) + 1
				: BEST(i + 1, j) >= BEST(i, j + 1) ? BEST(i + 1, j) : BEST(i, j + 1);
	for (i = j = 0; i < n || j < m;) {
		if (i < n && j < m && same(&a[i], &b[j])) {
			i++;
			j++;
		} else if (i < n && (j == m || BEST(i + 1, j) >= BEST(i, j + 1))) {
			put_line(out, '-', &a[i++]);
		} else {
			put_line(out, '+', &b[j++]);
		}
	}
#undef BEST
	free(best);
}

static void
put_diff(FILE *out, const struct line *a, size_t n, const struct line *b, size_t m)
{
	while (n > 0 && m > 0 && same(a, b)) {
		a++, n--;
		b++, m--;
	}
	while (n > 0 && m > 0 && same(&a[n - 1], &b[m - 1]))
		n--, m--;
	if (n <= DIFF_MAX && m <= DIFF_MAX) {
		put_differing(out, a, n, b, m);
		return;
	}
	fprintf(out, "  (%zu lines of the header give way to %zu)\n", n, m);
}

static void
put_header_edits(FILE *out, struct arena *arena, const struct mail_body *body, const struct mail_edits *before,
	const struct mail_edits *after)
{
	struct line *was_lines, *now_lines;
	size_t was_len, now_len, n, m;
	const char *was, *now;

	if (mail_edits_header(arena, body, before, &was, &was_len) < 0 ||
		mail_edits_header(arena, body, after, &now, &now_len) < 0)
		return;
	n = split(was, was_len, &was_lines);
	m = split(now, now_len, &now_lines);
	put_diff(out, was_lines, n, now_lines, m);
	free(was_lines);
	free(now_lines);
}

static void
put_envelope_edits(FILE *out, const struct mail_msg *msg, const struct mail_edits *before, const struct mail_edits *after)
{
	struct mail_envelope was, now;

	mail_edits_envelope(msg->arena, before, msg->sender, msg->rcpts, msg->rcpt_count, &was);
	mail_edits_envelope(msg->arena, after, msg->sender, msg->rcpts, msg->rcpt_count, &now);
	if (strcmp(was.sender->addr, now.sender->addr) != 0)
		fprintf(out, "  - sender <%s>\n  + sender <%s>\n", was.sender->addr, now.sender->addr);
	for (size_t i = 0, k; i < was.rcpt_count; i++) {
		for (k = 0; k < now.rcpt_count && strcmp(was.rcpts[i]->addr, now.rcpts[k]->addr) != 0; k++)
			;
		if (k == now.rcpt_count)
			fprintf(out, "  - recipient <%s>\n", was.rcpts[i]->addr);
	}
	for (size_t i = 0, k; i < now.rcpt_count; i++) {
		for (k = 0; k < was.rcpt_count && strcmp(now.rcpts[i]->addr, was.rcpts[k]->addr) != 0; k++)
			;
		if (k == was.rcpt_count)
			fprintf(out, "  + recipient <%s>\n", now.rcpts[i]->addr);
	}
}

static void
put_edits(FILE *out, const struct mail_msg *msg, const struct mail_edits *before, const struct mail_edits *after)
{
	if (before == after || after == NULL)
		return;
	put_envelope_edits(out, msg, before, after);
	put_header_edits(out, msg->arena, msg->body, before, after);
	if (mail_edits_content(msg->body, before) != mail_edits_content(msg->body, after))
		fprintf(out, "  another body: the message has %" PRId64 " octets now, and had %" PRId64 "\n",
			mail_view_size(msg->body, after), mail_view_size(msg->body, before));
}

/* ---- filters ---- */

/* The conditions that its block has. */
static void
put_conditions(const struct explain *e, const struct filter *f)
{
	const struct config_block *block = config_find_named(e->settings->config, "filter", f->name);

	for (size_t i = 0; block != NULL && filter_options[i].name != NULL; i++) {
		const struct config_value *v = &block->values[0][i];

		if (v->place.file == NULL || (strncmp(v->option->name, "only_", 5) != 0 && strncmp(v->option->name, "skip_", 5) != 0))
			continue;
		fprintf(e->story, "  condition %s", v->option->name);
		put_words(e->story, &v->words);
		fputc('\n', e->story);
	}
}

static void
put_input(FILE *out, const struct run *run)
{
	const struct filter_run *pub = &run->pub;

	if (pub->stage != FILTER_MESSAGE) {
		fprintf(out, "  asked at %s\n", filter_stage_names[pub->stage]);
		return;
	}
	fprintf(out, "  looks at %" PRId64 " octets for", mail_view_size(pub->msg->body, pub->seen));
	for (size_t i = 0; i < pub->rcpt_count; i++)
		fprintf(out, " <%s>", pub->msg->rcpts[pub->rcpts[i]]->addr);
	fputc('\n', out);
}

static void
put_verdict(FILE *out, const struct mail_verdict *v)
{
	fputs(verdict_names[v->kind], out);
	if (v->code != 0)
		fprintf(out, " %d", v->code);
	if (v->status != NULL)
		fprintf(out, " %s", v->status);
	if (v->text != NULL)
		fprintf(out, " \"%s\"", v->text);
}

static void
put_finding(FILE *out, const struct run *run)
{
	if (run->state != RUN_ENDED) {
		fprintf(out, "  not waited for any more, after %" PRIu64 " ms\n", run->ms);
		return;
	}
	if (run->failed)
		fprintf(out, "  failed: %s\n", run->pub.err.text);
	fputs("  says ", out);
	put_verdict(out, &run->verdict);
	if (run->is_shadow)
		fprintf(out, ", being a shadow; else it would be %s", verdict_names[run->found]);
	if (run->is_rejection)
		fputs(", which on_reject has made of its reject", out);
	if (run->failed)
		fputs(", by its on_failure or the end of the budget", out);
	fprintf(out, ", after %" PRIu64 " ms\n", run->ms);
}

static void
ran(void *owner, const struct run *run)
{
	const struct explain *e = owner;
	const struct filter *f = run->pub.filter;

	if (e->story == NULL)
		return;
	fprintf(e->story, "filter %s (%s)%s\n", f->name, f->kind->section.name, run->is_skipped ? ": skipped" : "");
	put_conditions(e, f);
	if (!run->is_skipped) {
		put_input(e->story, run);
		put_finding(e->story, run);
		if (run->pub.stage == FILTER_MESSAGE && run->state == RUN_ENDED)
			put_edits(e->story, run->pub.msg, run->pub.seen, run->after);
	}
	fflush(e->story);
}

/* ---- the end ---- */

static void
put_group(const struct explain *e, const struct mail_msg *msg, const struct settled_group *g)
{
	const struct backend *b = e->listener->backend;
	struct mail_envelope envelope;

	mail_edits_envelope(msg->arena, g->edits, msg->sender, g->rcpts, g->rcpt_count, &envelope);
	fputs("verdict ", e->story);
	put_verdict(e->story, g->verdict);
	if (g->verdict->filter != NULL)
		fprintf(e->story, " of %s", g->verdict->filter);
	fputs(" for", e->story);
	put_rcpts(e->story, g->rcpts, g->rcpt_count);
	fputc('\n', e->story);
	if (g->verdict->kind == VERDICT_PASS || g->verdict->kind == VERDICT_ACCEPT) {
		fprintf(e->story, "  would go to back-end %s, from <%s> to", b->name, envelope.sender->addr);
		put_rcpts(e->story, envelope.rcpts, envelope.rcpt_count);
		fputc('\n', e->story);
	} else if (g->verdict->kind == VERDICT_QUARANTINE) {
		fprintf(e->story, "  would be set aside in %s\n", e->settings->quarantine.directory);
	}
}

static void
put_view(FILE *out, const struct mail_msg *msg, const struct mail_edits *edits)
{
	fflush(out);
	if (mail_view_write(msg->body, edits, fileno(out)) < 0)
		perror("postern: the message could not be written");
}

void
explain_settled(struct explain *e, const struct mail_msg *msg, const struct settlement *settled)
{
	atomic_store(&e->is_passed, settled->deliver != NULL);
	for (size_t i = 0; e->story != NULL && i < settled->group_count; i++)
		put_group(e, msg, &settled->groups[i]);
	if (e->story != NULL && settled->differs)
		fputs("they differ, and no reply is true for all: nothing would be delivered\n", e->story);
	if (e->message != NULL && settled->deliver != NULL)
		put_view(e->message, msg, settled->deliver->edits);
}

void
explain_reply(struct explain *e, const char *command, const char *reply)
{
	bool is_passed = atomic_exchange(&e->is_passed, false);

	if (e->story == NULL)
		return;
	if (strcmp(command, ".") == 0)
		fprintf(e->story, "reply %s\n", is_passed ? "of the back-end" : reply);
	else
		fprintf(e->story, "%s: %s\n", command, reply);
}

void
explain_init(struct explain *e)
{
	e->trace = (struct filter_trace){ .chosen = chosen, .ran = ran, .owner = e };
}
