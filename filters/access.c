/*
 * filters/access.c - pairs of sender and recipient that must not be, from the Compat: lines of sendmail's access(5)
 * text: what FEATURE(`compat_check') asks of the access map.
 *
 * Recipients of one message may have differing answers, so chains are parted by them (filter_kind.choose).
 */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/hash.h"
#include "base/str.h"
#include "config/source.h"
#include "filters/answer.h"
#include "filters/words.h"
#include "mail/canonical.h"

#define TAG	  "compat:"
#define SEPARATOR "<@>"

extern const struct filter_kind filter_access;

struct access_conf {
	const char *file;
	/* Made of it; strings and answers live in the configuration's arena. */
	struct hash *pairs;  /* "sender<@>recipient" to its struct filter_answer, &no_objection among them */
	struct hash *values; /* answers by their text: the same words are the same answer */
};

static const struct config_option access_options[] = {
	CONFIG_STRING("file", struct access_conf, file, NULL,
		"a text as makemap(8) reads it for sendmail's access map, or as makemap -u prints it; only its lines "
		"Compat:SENDER<@>RECIPIENT count, with OK, DISCARD, TEMP:4xy text, ERROR:5xy text or ERROR:D.S.N:5xy text "
		"behind them; read again when it has changed; required"),
	CONFIG_END};

static const struct filter_answer no_objection;

/* What is being read. */
struct reading {
	struct access_conf *own;
	struct config *conf;
	struct config_place place;
};

/* ---- values ---- */

static int
verdict_index(const char *name)
{
	int i = 0;

	while (strcmp(filter_answer_names[i], name) != 0)
		i++;
	return i;
}

/* "5.7.1", of so many octets; 0 when it is none. */
static size_t
status_len(const char *text)
{
	size_t len = strspn(text, "0123456789.");

	return len >= 5 && text[1] == '.' && strchr("245", text[0]) != NULL && memchr(text + 2, '.', len - 2) != NULL ? len : 0;
}

static const char *
skip_space(const char *text)
{
	return text + strspn(text, " \t");
}

/* "D.S.N:", then "550 ", then another way to say D.S.N; each may be missing. */
static void
read_reply(struct arena *arena, const char *text, struct filter_answer *a)
{
	size_t len = status_len(text);

	if (len > 0 && text[len] == ':') {
		a->status = arena_strndup(arena, text, len);
		text += len + 1;
	}
	if (*text == '"' && text[1] != '\0' && text[strlen(text) - 1] == '"')
		text = arena_strndup(arena, text + 1, strlen(text) - 2);
	if (strspn(text, "0123456789") == 3 && (text[3] == ' ' || text[3] == '\0')) {
		a->code = (text[0] - '0') * 100 + (text[1] - '0') * 10 + text[2] - '0';
		text = skip_space(text + 3);
	}
	len = status_len(text);
	if (len > 0 && (text[len] == ' ' || text[len] == '\0')) {
		a->status = a->status != NULL ? a->status : arena_strndup(arena, text, len);
		text = skip_space(text + len);
	}
	a->text = *text != '\0' ? text : NULL;
}

/* NULL, with an error, when it is none. */
static const struct filter_answer *
read_value(const struct reading *r, const char *value)
{
	struct filter_answer *a;
	struct err err;

	if (strcasecmp(value, "OK") == 0 || strcasecmp(value, "RELAY") == 0)
		return &no_objection;
	a = arena_zalloc(r->conf->arena, sizeof(*a));
	if (strcasecmp(value, "REJECT") == 0) {
		a->verdict = verdict_index("reject");
	} else if (strncasecmp(value, "DISCARD", 7) == 0 && (value[7] == '\0' || value[7] == ':')) {
		a->verdict = verdict_index("discard");
	} else if (strncasecmp(value, "ERROR:", 6) == 0) {
		a->verdict = verdict_index("reject");
		read_reply(r->conf->arena, value + 6, a);
	} else if (strncasecmp(value, "TEMP:", 5) == 0) {
		a->verdict = verdict_index("tempfail");
		read_reply(r->conf->arena, value + 5, a);
	} else {
		config_error(r->conf, &r->place,
			"\"%s\" is no answer for a pair (try OK, DISCARD, TEMP:450 text or ERROR:550 text)", value);
		return NULL;
	}
	if (filter_answer_check(a, &err) == 0)
		return a;
	config_error(r->conf, &r->place, "%s", err.text);
	return NULL;
}

static const struct filter_answer *
answer_of(const struct reading *r, const char *value)
{
	const struct filter_answer *a = hash_get(r->own->values, value, strlen(value));

	if (a != NULL)
		return a;
	a = read_value(r, value);
	if (a != NULL)
		hash_put(r->own->values, value, strlen(value), (void *)(uintptr_t)a);
	return a;
}

/* ---- keys ---- */

static void
add_address(struct str *out, const char *text, size_t len)
{
	struct mail_canonical c;

	if (len == 2 && memcmp(text, "<>", 2) == 0)
		return;
	if (mail_canonical(text, len, false, &c))
		str_addn(out, c.text, c.len);
	else
		str_addn(out, text, len);
}

/* As the table has it: each in its canonical form, in lower case. */
static void
write_key(struct str *out, const char *sender, size_t sender_len, const char *rcpt)
{
	str_clear(out);
	add_address(out, sender, sender_len);
	str_add(out, SEPARATOR);
	add_address(out, rcpt, strlen(rcpt));
	for (size_t i = 0; i < out->len; i++)
		if (isascii((unsigned char)out->data[i]))
			out->data[i] = (char)tolower((unsigned char)out->data[i]);
}

static void
add_pair(const struct reading *r, const char *pair, const char *value)
{
	const char *middle = strstr(pair, SEPARATOR), *key, *sender;
	const struct filter_answer *a;
	struct str text = STR_INIT;

	if (middle == NULL || middle[3] == '\0') {
		config_error(r->conf, &r->place, "\"%s\" is no pair (try Compat:joe@example.net<@>ann@example.org)", pair);
		return;
	}
	a = answer_of(r, value);
	if (a == NULL)
		return;
	sender = words_qualified(r->conf, arena_strndup(r->conf->arena, pair, (size_t)(middle - pair)));
	write_key(&text, sender, strlen(sender), words_qualified(r->conf, middle + 3));
	key = arena_strndup(r->conf->arena, text.data, text.len);
	hash_put(r->own->pairs, key, text.len, (void *)(uintptr_t)a);
	str_deinit(&text);
}

/* ---- the file ---- */

static void
read_line(const struct reading *r, const char *line, size_t len)
{
	char *text = arena_strndup(r->conf->arena, line, len), *value;

	while (len > 0 && isspace((unsigned char)text[len - 1]))
		text[--len] = '\0';
	if (strncasecmp(text, TAG, sizeof(TAG) - 1) != 0)
		return;
	text += sizeof(TAG) - 1;
	value = text + strcspn(text, " \t");
	if (*value != '\0')
		*value++ = '\0';
	add_pair(r, text, skip_space(value));
}

static void
access_read(void *own, struct config *conf, const struct config_block *block)
{
	struct access_conf *c = own;
	const struct config_place *from = config_place_of(block, "file");
	struct reading r = {.own = c, .conf = conf};
	struct config_source source;
	const char *line, *end, *stop;

	c->pairs = hash_new();
	c->values = hash_new();
	if (c->file == NULL || *c->file == '\0') {
		config_error(conf, from, "access %s needs a file (try file /etc/mail/access)", block->name);
		return;
	}
	if (config_source_read(conf, config_source_path(conf, from->file, c->file), "file", from, &source) < 0 ||
		config_source_check(conf, &source) < 0)
		return;
	r.place = (struct config_place){.file = source.name, .line = 1, .column = 1};
	stop = source.text + source.len;
	for (line = source.text; line < stop; line = end + 1, r.place.line++) {
		end = memchr(line, '\n', (size_t)(stop - line));
		if (end == NULL)
			end = stop;
		read_line(&r, line, (size_t)(end - line));
	}
	if (hash_count(c->pairs) == 0 && conf->error_count == 0)
		config_warn(conf, from, "file: there is no line \"Compat:SENDER<@>RECIPIENT\" in %s", source.name);
}

static void
access_teardown(void *own)
{
	struct access_conf *c = own;

	hash_free(&c->pairs);
	hash_free(&c->values);
}

/* ---- asking ---- */

static const struct filter_answer *
find(const struct access_conf *c, const char *sender, const char *rcpt)
{
	const struct filter_answer *a;
	struct str key = STR_INIT;

	write_key(&key, sender, strlen(sender), rcpt);
	a = hash_get(c->pairs, key.data, key.len);
	str_deinit(&key);
	return a != &no_objection ? a : NULL;
}

static int
access_choose(const void *own, const char *sender, const char *rcpt, const void **answer_r, struct err *err)
{
	(void)err;
	*answer_r = find(own, sender, rcpt);
	return 0;
}

static enum filter_step
access_rcpt(struct filter_run *run)
{
	const struct filter_answer *a = find(run->conf, run->msg->sender->addr, run->rcpt->addr);

	return a != NULL ? filter_answer(run, a) : FILTER_NEXT;
}

static enum filter_step
access_message(struct filter_run *run)
{
	return filter_answer(run, run->filter->answer);
}

const struct filter_kind filter_access = {
	FILTER_SECTION(access, "refuses pairs of sender and recipient, from the Compat: lines of sendmail's access(5) text",
		access_options, struct access_conf),
	.section.example = "# /etc/mail/access has lines such as\n"
			   "#     Compat:joe@example.net<@>ann@example.org  ERROR:550 not to her\n"
			   "access pairs { file /etc/mail/access }",
	.inspects = true,
	.is_prompt = true,
	.read = access_read,
	.choose = access_choose,
	.teardown = access_teardown,
	.rcpt = access_rcpt,
	.message = access_message,
};
