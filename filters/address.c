/*
 * filters/address.c - to whom else, to whom instead, and from whom: changes of the envelope without any program.
 *
 * Several of them in a chain build on each other: each looks at the recipients as those before it left them.
 */
#include <stdio.h>
#include <string.h>

#include "filters/envelope.h"
#include "filters/fields.h"
#include "filters/words.h"
#include "mail/address.h"

extern const struct filter_kind filter_address;

struct address_filter {
	struct config_words recipient, add_recipient, redirect, add_header;
	bool remove, external;
	const char *set_sender;
	/* made when read */
	struct match_list *recipients; /* NULL: all */
};

static const struct config_option address_filter_options[] = {
	CONFIG_WORDS("recipient", struct address_filter, recipient, NULL,
		"the recipients it is about: " WORDS_ADDRESSES "; when not given, all. Unlike only_recipient it does not "
		"part a message to several: the others of them stay as they are"),
	CONFIG_WORDS("add_recipient", struct address_filter, add_recipient, NULL,
		"addresses that get the message, too: a watcher on those recipients, or, with only_sender, on a pair. No "
		"notification about them goes to the sender (NOTIFY=NEVER)"),
	CONFIG_WORDS("redirect", struct address_filter, redirect, NULL,
		"addresses that take the place of those recipients, and their DSN parameters; best with envelope late, as "
		"the back-end is asked about the others, too, with envelope early"),
	CONFIG_BOOL("remove", struct address_filter, remove, "no",
		"take those recipients away; a message that has none left is dropped, and that is logged"),
	CONFIG_STRING("set_sender", struct address_filter, set_sender, NULL,
		"another envelope sender; <> is the null sender"),
	CONFIG_WORDS("add_header", struct address_filter, add_header, NULL,
		"NAME VALUE, one or more of these: a field at the end of the header, for instance to mark what was redirected; "
		"the copies of all recipients of the message have it"),
	CONFIG_BOOL("external", struct address_filter, external, "no",
		"may add_recipient and redirect name addresses that are not in local_domains?"),
	CONFIG_END};

/* ---- reading ------------------------------------------------------------------------------ */

static bool
check_address(struct config *conf, const char *option, const struct config_word *word)
{
	struct mail_path path;
	char text[MAIL_PATH_MAX + 3];
	size_t len = strlen(word->text);
	struct err err;

	if (word->kind != CONFIG_WORD_PLAIN || strchr(word->text, '@') == NULL || word->text[0] == '@') {
		config_error(conf, &word->place, "%s: \"%s\" is not an address: it names one mailbox (try postmaster@example.org)",
			option, word->text);
		return false;
	}
	if (len > MAIL_PATH_MAX - 2) {
		config_error(conf, &word->place, "%s: the address is longer than %d octets", option, MAIL_PATH_MAX - 2);
		return false;
	}
	snprintf(text, sizeof(text), "<%s>", word->text);
	if (mail_path_parse(text, len + 2, 0, &path, &err) == len + 2 && path.mailbox == 1)
		return true;
	config_error(conf, &word->place, "%s: \"%s\" is not an address: %s", option, word->text,
		path.mailbox > 1 ? "a route has no sense" : err.text);
	return false;
}

/* The addresses of local_domains, for the sake of these; NULL: there are none. */
static struct match_list *
local_addresses(struct config *conf, const struct config_word *asking)
{
	struct config_word word = {.text = WORDS_LOCAL, .kind = CONFIG_WORD_PLAIN, .place = asking->place};
	const struct config_words words = {.list = &word, .count = 1};

	return words_list(conf, "external", WORDS_ADDRESS, &words, NULL);
}

static void
check_local(struct config *conf, const char *option, const struct config_word *word, const struct match_list *local)
{
	struct err err;

	if (local != NULL && words_ask(local, word->text, &err) == MATCH_YES)
		return;
	config_error(conf, &word->place, "%s: %s is not in local_domains (external yes allows it)", option, word->text);
}

static void
check_targets(struct config *conf, const char *option, const struct config_words *words, const struct match_list *local,
	bool external)
{
	for (size_t i = 0; i < words->count; i++)
		if (check_address(conf, option, &words->list[i]) && !external)
			check_local(conf, option, &words->list[i], local);
}

static void
check_sender(struct config *conf, const struct config_block *block, const char *sender)
{
	const struct config_word word = {
		.text = sender, .kind = CONFIG_WORD_PLAIN, .place = *config_place_of(block, "set_sender")};

	if (sender != NULL && strcmp(sender, "<>") != 0)
		check_address(conf, "set_sender", &word);
}

static void
address_read(void *own, struct config *conf, const struct config_block *block)
{
	struct address_filter *c = own;
	const struct config_words *targets = c->redirect.count > 0 ? &c->redirect : &c->add_recipient;
	struct match_list *local = NULL;

	if (!c->external && targets->count > 0)
		local = local_addresses(conf, &targets->list[0]);
	c->recipients = words_list(conf, "recipient", WORDS_ADDRESS, &c->recipient, address_filter_options);
	check_targets(conf, "add_recipient", &c->add_recipient, local, c->external);
	check_targets(conf, "redirect", &c->redirect, local, c->external);
	check_sender(conf, block, c->set_sender);
	match_list_free(&local);
}

static unsigned
address_asks(const void *conf)
{
	const struct address_filter *c = conf;

	return (c->redirect.count > 0 || c->remove ? FILTER_MAY(MAIL_EDIT_REMOVE_RCPT) : 0) |
	       (c->redirect.count > 0 || c->add_recipient.count > 0 ? FILTER_MAY(MAIL_EDIT_ADD_RCPT) : 0) |
	       (c->set_sender != NULL ? FILTER_MAY(MAIL_EDIT_SENDER) : 0) |
	       (c->add_header.count > 0 ? FILTER_MAY(MAIL_EDIT_ADD) : 0);
}

static int
address_setup(void *conf, struct err *err)
{
	const struct address_filter *c = conf;

	if (address_asks(c) == 0)
		return err_set(err, "it does nothing: give it add_recipient, redirect, remove, set_sender or add_header");
	if (c->redirect.count > 0 && c->remove)
		return err_set(err, "redirect takes those recipients away already: remove has no sense beside it");
	return filter_fields_check("add_header", &c->add_header, err);
}

static void
address_teardown(void *conf)
{
	struct address_filter *c = conf;

	match_list_free(&c->recipients);
}

/* ---- one message -------------------------------------------------------------------------- */

static bool
is_word(const struct config_words *words, const char *addr)
{
	for (size_t i = 0; i < words->count; i++)
		if (mail_address_same(words->list[i].text, addr))
			return true;
	return false;
}

/* Where it is about this one: it is taken away when it is to be, and is the first of them kept. */
static enum match_result
look_at(struct filter_run *run, const struct mail_rcpt *rcpt, const struct mail_rcpt **first)
{
	const struct address_filter *c = run->conf;
	enum match_result match = c->recipients == NULL ? MATCH_YES : words_ask(c->recipients, rcpt->addr, &run->err);

	if (match != MATCH_YES)
		return match;
	if (*first == NULL)
		*first = rcpt;
	if (c->remove || (c->redirect.count > 0 && !is_word(&c->redirect, rcpt->addr)))
		mail_edit_remove_rcpt(run->edits, rcpt->addr);
	return MATCH_YES;
}

/* What is not known about one recipient is a fault: it could be the one to be taken away. */
static enum match_result
look_at_all(struct filter_run *run, const struct mail_envelope *now, const struct mail_rcpt **first_r)
{
	*first_r = NULL;
	for (size_t i = 0; i < now->rcpt_count; i++)
		if (look_at(run, now->rcpts[i], first_r) == MATCH_ERROR)
			return MATCH_ERROR;
	return *first_r != NULL ? MATCH_YES : MATCH_NO;
}

/* RFC 3461 5.2.7: who stands for another one has his parameters; of a watcher the sender knows nothing. */
static void
add_all(struct filter_run *run, const struct config_words *addrs, const struct mail_rcpt *instead_of)
{
	for (size_t i = 0; i < addrs->count; i++) {
		const struct mail_rcpt rcpt = {
			.addr = addrs->list[i].text,
			.notify = instead_of != NULL ? instead_of->notify : "NEVER",
			.orcpt = instead_of != NULL ? instead_of->orcpt : NULL,
		};

		mail_edit_add_rcpt(run->edits, &rcpt);
	}
}

/* What the old one wished to be told, and under which name, is no wish of the new one. */
static void
set_sender(struct filter_run *run, const char *sender)
{
	const struct mail_sender asked = {.addr = strcmp(sender, "<>") == 0 ? "" : sender, .size = -1};

	mail_edit_sender(run->edits, &asked);
}

static enum filter_step
address_message(struct filter_run *run)
{
	const struct address_filter *c = run->conf;
	struct mail_envelope now;
	const struct mail_rcpt *first;

	filter_envelope(run, &now);
	switch (look_at_all(run, &now, &first)) {
	case MATCH_ERROR:
		return FILTER_ERROR;
	case MATCH_NO:
		return FILTER_NEXT;
	case MATCH_YES:
		break;
	}
	add_all(run, &c->redirect, first);
	add_all(run, &c->add_recipient, NULL);
	if (c->set_sender != NULL)
		set_sender(run, c->set_sender);
	for (size_t i = 0; i < c->add_header.count; i += 2)
		mail_edit_add(run->edits, c->add_header.list[i].text, c->add_header.list[i + 1].text);
	return FILTER_NEXT;
}

const struct filter_kind filter_address = {
	FILTER_SECTION(address,
		"adds, replaces and removes recipients, sets another sender, and marks the message by a header field; "
		"later ones in a chain look at the recipients as earlier ones left them",
		address_filter_options, struct address_filter),
	.section.example = "local_domains example.org\n"
			   "\n"
			   "# A watcher on the mail of one person to a partner.\n"
			   "address watch {\n"
			   "    only_sender   ann@example.org\n"
			   "    recipient     @partner.example\n"
			   "    add_recipient audit@example.org\n"
			   "}\n"
			   "\n"
			   "# Who has left is read by two colleagues, who can tell by the mark.\n"
			   "address left {\n"
			   "    recipient  bob@example.org\n"
			   "    redirect   cid@example.org dora@example.org\n"
			   "    add_header X-Redirected-From bob@example.org\n"
			   "}",
	.may = FILTER_MAY(MAIL_EDIT_ADD) | FILTER_MAY(MAIL_EDIT_SENDER) | FILTER_MAY(MAIL_EDIT_ADD_RCPT) |
	       FILTER_MAY(MAIL_EDIT_REMOVE_RCPT),
	.asks = address_asks,
	.is_prompt = true,
	.read = address_read,
	.setup = address_setup,
	.teardown = address_teardown,
	.message = address_message,
};
