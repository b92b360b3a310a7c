/* filters/conditions.c - lists, sizes, times and networks, ready to be asked. */
#include "filters/conditions.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/xalloc.h"
#include "filters/filter.h"
#include "filters/times.h"
#include "filters/words.h"
#include "mail/encoded.h"
#include "mail/header.h"

/* txn.c has refused longer ones. */
/* More of one field is no text to be matched, and a header can hold very many. */
#define VALUE_MAX  (16 * 1024)
#define VALUES_MAX 100
#define FINGERPRINT_LEN 64

/* Two lists, NULL where not given: who is in `skip`, or not in `only`, is out. */
struct pair {
	struct match_list *only, *skip;
};

struct conditions {
	const struct condition_conf *written;
	struct pair sender, recipient, subject;
	struct match_list *helo, *header;
	const char *header_name;
	struct times times;
	const char **fingerprints; /* lower case, without colons */
	size_t fingerprint_count;
	bool with_tls, without_tls; /* "yes" and "no" are among the words */
};

/* ---- from the configuration ---- */

static bool
has_any(const struct condition_conf *w)
{
	return w->only_sender.count > 0 || w->skip_sender.count > 0 || w->only_recipient.count > 0 ||
	       w->skip_recipient.count > 0 || w->only_client.count > 0 || w->skip_client.count > 0 ||
	       w->skip_client.any || w->only_helo.count > 0 || w->only_subject.count > 0 ||
	       w->skip_subject.count > 0 || w->only_header.count > 0 || w->only_larger > 0 ||
	       w->only_smaller > 0 || w->only_time.count > 0 || w->only_tls.count > 0;
}

static bool
is_field_name(const char *text)
{
	for (const char *p = text; *p != '\0'; p++)
		if (*p <= ' ' || *p >= 127 || *p == ':')
			return false;
	return *text != '\0';
}

/* NAME, and then what its value is to be. */
static void
read_header(struct conditions *c, struct config *conf, const struct config_option *options)
{
	const struct config_words *words = &c->written->only_header;
	struct config_words values;

	if (words->count == 0)
		return;
	values = (struct config_words){.list = words->list + 1, .count = words->count - 1};
	if (words->list[0].kind == CONFIG_WORD_PATTERN || !is_field_name(words->list[0].text))
		config_error(conf, &words->list[0].place,
			"only_header: \"%s\" is no field name (try X-Spam-Flag /^yes/)", words->list[0].text);
	else if (values.count == 0)
		config_error(conf, &words->list[0].place,
			"only_header: what stands in %s is missing (try %s /^/ for anything)", words->list[0].text,
			words->list[0].text);
	c->header_name = words->list[0].text;
	c->header = words_list(conf, "only_header", WORDS_TEXT, &values, options);
}

/* NULL: it is none. */
static const char *
fingerprint(struct arena *arena, const char *text)
{
	char *hex = arena_alloc(arena, FINGERPRINT_LEN + 1);
	size_t len = 0;

	for (; *text != '\0'; text++) {
		if (*text == ':')
			continue;
		if (!isxdigit((unsigned char)*text) || len == FINGERPRINT_LEN)
			return NULL;
		hex[len++] = (char)tolower((unsigned char)*text);
	}
	hex[len] = '\0';
	return len == FINGERPRINT_LEN ? hex : NULL;
}

static void
read_tls(struct conditions *c, struct config *conf)
{
	const struct config_words *words = &c->written->only_tls;

	c->fingerprints = arena_alloc(conf->arena, words->count * sizeof(c->fingerprints[0]));
	for (size_t i = 0; i < words->count; i++) {
		const struct config_word *word = &words->list[i];
		const char *hex = fingerprint(conf->arena, word->text);

		if (strcmp(word->text, "yes") == 0)
			c->with_tls = true;
		else if (strcmp(word->text, "no") == 0)
			c->without_tls = true;
		else if (hex != NULL)
			c->fingerprints[c->fingerprint_count++] = hex;
		else
			config_error(conf, &word->place,
				"only_tls: \"%s\" is neither yes nor no nor the SHA-256 of a certificate, 64 "
				"hexadecimal digits (openssl x509 -noout -fingerprint -sha256 -in FILE)",
				word->text);
	}
}

struct conditions *
conditions_new(struct config *conf, const struct condition_conf *written,
	const struct config_option *options)
{
	struct conditions *c;

	if (!has_any(written))
		return NULL;
	c = arena_zalloc(conf->arena, sizeof(*c));
	c->written = written;
#define LIST(member, option, kind) c->member = words_list(conf, #option, kind, &written->option, options)
	LIST(sender.only, only_sender, WORDS_ADDRESS);
	LIST(sender.skip, skip_sender, WORDS_ADDRESS);
	LIST(recipient.only, only_recipient, WORDS_ADDRESS);
	LIST(recipient.skip, skip_recipient, WORDS_ADDRESS);
	LIST(helo, only_helo, WORDS_NAME);
	LIST(subject.only, only_subject, WORDS_TEXT);
	LIST(subject.skip, skip_subject, WORDS_TEXT);
#undef LIST
	read_header(c, conf, options);
	times_read(conf, "only_time", &written->only_time, &c->times);
	read_tls(c, conf);
	return c;
}

void
conditions_free(struct conditions **conditions)
{
	struct conditions *c = *conditions;

	*conditions = NULL;
	if (c == NULL)
		return;
	match_list_free(&c->sender.only);
	match_list_free(&c->sender.skip);
	match_list_free(&c->recipient.only);
	match_list_free(&c->recipient.skip);
	match_list_free(&c->subject.only);
	match_list_free(&c->subject.skip);
	match_list_free(&c->helo);
	match_list_free(&c->header);
}

/* ---- one text ---- */

static enum match_result
negate(enum match_result match)
{
	return match == MATCH_ERROR ? MATCH_ERROR : match == MATCH_YES ? MATCH_NO : MATCH_YES;
}

static enum match_result
ask(const struct match_list *list, const char *option, const char *text, size_t len, struct err *err)
{
	enum match_result match = match_list_ask(list, text, len, err);

	if (match == MATCH_ERROR)
		err_prefix(err, "%s", option);
	return match;
}

static enum match_result
ask_address(const struct match_list *list, const char *option, const char *address, struct err *err)
{
	enum match_result match = words_ask(list, address, err);

	if (match == MATCH_ERROR)
		err_prefix(err, "%s", option);
	return match;
}

static enum match_result
ask_pair(const struct pair *pair, const char *only, const char *skip, const char *address, struct err *err)
{
	enum match_result match = MATCH_YES;

	if (pair->only != NULL)
		match = ask_address(pair->only, only, address, err);
	if (match == MATCH_YES && pair->skip != NULL)
		match = negate(ask_address(pair->skip, skip, address, err));
	return match;
}

/* ---- header fields ---- */

/* Decoded values of one field, in the order of the message. */
struct values {
	struct arena *arena;
	const char *name;
	struct {
		const char *text;
		size_t len;
	} list[VALUES_MAX];
	size_t count;
};

static void
add_values(struct values *v, const char *header, size_t len)
{
	struct mail_field field;
	size_t pos = 0;

	while (v->count < VALUES_MAX && mail_header_next(header, len, &pos, &field)) {
		const char *text;

		if (!mail_field_is(&field, v->name))
			continue;
		text = mail_field_text(&field, VALUE_MAX, v->arena);
		v->list[v->count].text =
			mail_decode(text, strlen(text), v->arena, &v->list[v->count].len);
		v->count++;
	}
}

/* As the filter would see them: earlier ones may have edited the header. */
static int
find_values(struct values *v, struct conditions_facts *facts, const struct mail_edits *seen, const char *name,
	struct err *err)
{
	const char *header;
	size_t len;

	v->arena = facts->msg->arena;
	v->name = name;
	v->count = 0;
	if (mail_edits_header(v->arena, facts->msg->body, seen, &header, &len) < 0)
		return err_set_temp(err, "the header could not be read back");
	add_values(v, header, len);
	return 0;
}

static enum match_result
ask_values(const struct match_list *list, const char *option, const struct values *v, struct err *err)
{
	enum match_result match, worst = MATCH_NO;

	for (size_t i = 0; i < v->count; i++) {
		match = ask(list, option, v->list[i].text, v->list[i].len, err);
		if (match == MATCH_YES)
			return MATCH_YES;
		if (match == MATCH_ERROR)
			worst = MATCH_ERROR;
	}
	return worst;
}

/* ---- the conditions, each YES where it is not given ---- */

struct question {
	const struct conditions *c;
	struct conditions_facts *facts;
	const struct mail_edits *seen;
};

static enum match_result
is(bool yes)
{
	return yes ? MATCH_YES : MATCH_NO;
}

static enum match_result
size_holds(const struct question *q, struct err *err)
{
	const struct condition_conf *w = q->c->written;
	int64_t size;

	(void)err;
	if (w->only_larger == 0 && w->only_smaller == 0)
		return MATCH_YES;
	size = q->facts->msg->body->size;
	return is((w->only_larger == 0 || size > w->only_larger) &&
		  (w->only_smaller == 0 || size < w->only_smaller));
}

static enum match_result
client_holds(const struct question *q, struct err *err)
{
	const struct condition_conf *w = q->c->written;
	const struct ip_addr *client = &q->facts->msg->origin->client;

	(void)err;
	return is((w->only_client.count == 0 || config_nets_have(&w->only_client, client)) &&
		  !config_nets_have(&w->skip_client, client));
}

static enum match_result
time_holds(const struct question *q, struct err *err)
{
	(void)err;
	return is(times_hold(&q->c->times, q->facts->now));
}

static enum match_result
tls_holds(const struct question *q, struct err *err)
{
	const struct conditions *c = q->c;
	const struct mail_origin *origin = q->facts->msg->origin;

	(void)err;
	if (c->written->only_tls.count == 0)
		return MATCH_YES;
	if (origin->tls_version == NULL)
		return is(c->without_tls);
	for (size_t i = 0; origin->tls_cert != NULL && i < c->fingerprint_count; i++)
		if (strcmp(c->fingerprints[i], origin->tls_cert) == 0)
			return MATCH_YES;
	return is(c->with_tls);
}

static enum match_result
sender_holds(const struct question *q, struct err *err)
{
	const struct mail_sender *sender = q->facts->msg->sender;

	if (q->c->sender.only == NULL && q->c->sender.skip == NULL)
		return MATCH_YES;
	return ask_pair(&q->c->sender, "only_sender", "skip_sender", sender->addr, err);
}

static enum match_result
helo_holds(const struct question *q, struct err *err)
{
	const char *helo = q->facts->msg->origin->helo;

	if (q->c->helo == NULL)
		return MATCH_YES;
	return ask(q->c->helo, "only_helo", helo, strlen(helo), err);
}

/* A message without a Subject has an empty one. */
static enum match_result
subject_holds(const struct question *q, struct err *err)
{
	const struct pair *pair = &q->c->subject;
	enum match_result match = MATCH_YES;
	struct values v;

	if (pair->only == NULL && pair->skip == NULL)
		return MATCH_YES;
	if (find_values(&v, q->facts, q->seen, "Subject", err) < 0)
		return MATCH_ERROR;
	if (v.count == 0) {
		v.list[v.count].text = "";
		v.list[v.count++].len = 0;
	}
	if (pair->only != NULL)
		match = ask_values(pair->only, "only_subject", &v, err);
	if (match == MATCH_YES && pair->skip != NULL)
		match = negate(ask_values(pair->skip, "skip_subject", &v, err));
	return match;
}

static enum match_result
header_holds(const struct question *q, struct err *err)
{
	struct values v;

	if (q->c->header == NULL)
		return MATCH_YES;
	if (find_values(&v, q->facts, q->seen, q->c->header_name, err) < 0)
		return MATCH_ERROR;
	return ask_values(q->c->header, "only_header", &v, err);
}

/* What costs nothing comes first. */
static enum match_result (*const holds[])(const struct question *, struct err *) = {
	size_holds, client_holds, tls_holds, time_holds, sender_holds, helo_holds, subject_holds, header_holds};

enum match_result
conditions_hold(const struct conditions *conditions, struct conditions_facts *facts,
	const struct mail_edits *seen, struct err *err)
{
	const struct question q = {conditions, facts, seen};
	enum match_result match = MATCH_YES, worst = MATCH_YES;

	for (size_t i = 0; conditions != NULL && i < ARRAY_COUNT(holds); i++) {
		match = holds[i](&q, err);
		if (match == MATCH_NO)
			return MATCH_NO;
		if (match == MATCH_ERROR)
			worst = MATCH_ERROR;
	}
	return worst;
}

int
conditions_stage(const struct conditions *c, const char **option_r)
{
	const struct condition_conf *w = c != NULL ? c->written : NULL;
	const struct {
		bool is_given;
		enum filter_stage stage;
		const char *option;
	} rows[] = {
		{w != NULL && w->only_subject.count > 0, FILTER_MESSAGE, "only_subject"},
		{w != NULL && w->skip_subject.count > 0, FILTER_MESSAGE, "skip_subject"},
		{w != NULL && w->only_header.count > 0, FILTER_MESSAGE, "only_header"},
		{w != NULL && w->only_larger > 0, FILTER_MESSAGE, "only_larger"},
		{w != NULL && w->only_smaller > 0, FILTER_MESSAGE, "only_smaller"},
		{w != NULL && w->only_recipient.count > 0, FILTER_RCPT, "only_recipient"},
		{w != NULL && w->skip_recipient.count > 0, FILTER_RCPT, "skip_recipient"},
		{w != NULL && w->only_sender.count > 0, FILTER_MAIL, "only_sender"},
		{w != NULL && w->skip_sender.count > 0, FILTER_MAIL, "skip_sender"},
		{w != NULL && w->only_helo.count > 0, FILTER_HELO, "only_helo"},
	};

	*option_r = NULL;
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
		if (rows[i].is_given) {
			*option_r = rows[i].option;
			return (int)rows[i].stage;
		}
	return FILTER_CONNECT;
}

bool
conditions_ask_recipient(const struct conditions *conditions)
{
	return conditions != NULL && (conditions->recipient.only != NULL || conditions->recipient.skip != NULL);
}

enum match_result
conditions_hold_for(const struct conditions *conditions, const char *recipient, struct err *err)
{
	if (conditions == NULL)
		return MATCH_YES;
	return ask_pair(&conditions->recipient, "only_recipient", "skip_recipient", recipient, err);
}
