/* filters/common.c - what the options that all kinds share say of one filter: checked, and made ready. */
#include <string.h>

#include "base/str.h"
#include "filters/answer.h"
#include "filters/filter.h"

/* The words of `may`; the last that has an edit alone is its name in the log. */
static const struct may_word {
	const char *word;
	unsigned bits;
} may_words[] = {
	{"none", 0},
	{"header", FILTER_MAY(MAIL_EDIT_PREPEND) | FILTER_MAY(MAIL_EDIT_ADD) | FILTER_MAY(MAIL_EDIT_INSERT) |
			   FILTER_MAY(MAIL_EDIT_CHANGE) | FILTER_MAY(MAIL_EDIT_DELETE)},
	{"add_header", FILTER_MAY(MAIL_EDIT_PREPEND) | FILTER_MAY(MAIL_EDIT_ADD) | FILTER_MAY(MAIL_EDIT_INSERT)},
	{"change_header", FILTER_MAY(MAIL_EDIT_CHANGE)},
	{"delete_header", FILTER_MAY(MAIL_EDIT_DELETE)},
	{"sender", FILTER_MAY(MAIL_EDIT_SENDER)},
	{"recipients", FILTER_MAY(MAIL_EDIT_ADD_RCPT) | FILTER_MAY(MAIL_EDIT_REMOVE_RCPT)},
	{"add_recipient", FILTER_MAY(MAIL_EDIT_ADD_RCPT)},
	{"remove_recipient", FILTER_MAY(MAIL_EDIT_REMOVE_RCPT)},
	{"body", FILTER_MAY(MAIL_EDIT_BODY)},
	{"message", FILTER_MAY(MAIL_EDIT_MESSAGE)},
};

bool
filter_looks_only(const struct filter_kind *kind, const void *conf, bool is_shadow)
{
	return is_shadow || kind->inspects || (kind->asks != NULL && kind->asks(conf) == 0);
}

bool
filter_may_join(const struct filter_kind *kind, const void *conf, bool is_shadow)
{
	return !kind->has_effects && filter_looks_only(kind, conf, is_shadow);
}

const char *
filter_may_word(enum mail_edit_kind kind)
{
	const char *word = "";

	for (size_t i = 0; i < ARRAY_COUNT(may_words); i++)
		if ((may_words[i].bits & FILTER_MAY(kind)) != 0)
			word = may_words[i].word;
	return word;
}

static void
complain_may(struct config *conf, const struct config_word *word)
{
	const char *names[ARRAY_COUNT(may_words) + 1] = {NULL};
	struct str list = STR_INIT;
	const char *meant;

	for (size_t i = 0; i < ARRAY_COUNT(may_words); i++) {
		names[i] = may_words[i].word;
		str_printf(&list, " %s", names[i]);
	}
	meant = config_did_you_mean(word->text, names);
	if (meant != NULL)
		config_error(conf, &word->place, "may: there is no edit \"%s\" (did you mean \"%s\"?)", word->text, meant);
	else
		config_error(conf, &word->place, "may: there is no edit \"%s\" (there are:%s)", word->text, str_text(&list));
	str_deinit(&list);
}

static const struct may_word *
find_may(const char *text)
{
	for (size_t i = 0; i < ARRAY_COUNT(may_words); i++)
		if (strcmp(may_words[i].word, text) == 0)
			return &may_words[i];
	return NULL;
}

/* A word that means nothing to this kind is a mistake about it. */
static unsigned
permitted(struct config *conf, const struct filter *f, unsigned can)
{
	const struct config_words *words = &f->common->may;
	unsigned may = 0;

	for (size_t i = 0; i < words->count; i++) {
		const struct config_word *word = &words->list[i];
		const struct may_word *known = find_may(word->text);

		if (known == NULL)
			complain_may(conf, word);
		else if (known->bits == 0 && words->count > 1)
			config_error(conf, &word->place, "may: \"none\" stands alone or not at all");
		else if (known->bits != 0 && (known->bits & can) == 0)
			config_error(conf, &word->place, "may: a filter of kind %s never asks for \"%s\"%s",
				f->kind->section.name, word->text, can == 0 ? ", nor for any other edit" : "");
		else
			may |= known->bits;
	}
	return may & can;
}

static void
check_text(struct config *conf, const struct config_block *block, const char *option, const char *text)
{
	struct err err;

	if (filter_answer_check_text(option, text, &err) < 0)
		config_error(conf, config_place_of(block, option), "%s", err.text);
}

/* What is written and has no effect. */
static void
check_breaker(struct config *conf, const struct config_block *block, const struct filter *f)
{
	static const char *const options[] = {"failures", "retry_after"};

	for (size_t i = 0; f->kind->is_prompt && i < ARRAY_COUNT(options); i++)
		if (config_is_set(block, options[i]))
			config_warn(conf, config_place_of(block, options[i]),
				"%s has no effect: a filter of kind %s asks no program and no service, and so is asked for every "
				"message", options[i], f->kind->section.name);
	if (!f->kind->is_prompt && f->common->breaker.failures == 0 && config_is_set(block, "retry_after"))
		config_warn(conf, config_place_of(block, "retry_after"),
			"retry_after has no effect with failures 0");
}

void
filter_set_up_common(struct config *conf, const struct config_block *block, struct filter *f)
{
	const struct filter_conf *c = f->common;
	unsigned can = f->kind->inspects ? 0 : f->kind->may;

	check_text(conf, block, "reject_text", c->reject_text);
	check_text(conf, block, "tempfail_text", c->tempfail_text);
	if (config_is_set(block, "max_wait") && c->max_instances == 0)
		config_error(conf, config_place_of(block, "max_wait"),
			"max_wait says how long to wait for one of max_instances, and there is no max_instances here");
	check_breaker(conf, block, f);
	f->may = c->may.count > 0 ? permitted(conf, f, can) : can;
	f->is_shadow = c->shadow;
}
