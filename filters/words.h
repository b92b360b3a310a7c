/*
 * filters/words.h - the words of an option as a list that can be asked: checked, and those of files
 * read.
 *
 * One implementation for rules and for the conditions of filters. `file:PATH` stands for the words
 * of a file, one on each line; the file counts as one of the configuration's, so that a reload and
 * watch_config see that it has changed. `lmdb:PATH` looks up in a table (base/table.h), `local_domains` among the
 * domains of that option.
 */
#ifndef FILTERS_WORDS_H
#define FILTERS_WORDS_H

#include "base/match.h"
#include "config/config.h"

enum words_kind {
	WORDS_ADDRESS, /* mail addresses */
	WORDS_NAME,    /* names of hosts */
	WORDS_DOMAIN,  /* domains of mail */
	WORDS_TEXT,    /* values of header fields: nothing to check */
};

/* For the sentences of options. */
#define WORDS_ADDRESSES "exact addresses, @domain, .domain for what lies under it, /patterns/, local_domains, file:PATH or lmdb:PATH"
#define WORDS_NAMES	"exact names, .domain for what lies under it, /patterns/, file:PATH or lmdb:PATH"

/* What addresses mean: a member of what is at the top of a configuration, and its rows. */
struct address_conf {
	const char *unqualified_domain; /* NULL: none */
	struct config_words local_domains;
};
#define ADDRESS_OPTIONS(st_, m_)                                                                   \
	CONFIG_STRING("unqualified_domain", st_, m_.unqualified_domain, NULL,                      \
		"what is put behind an address without a domain, such as postmaster: rules, "      \
		"filters and the back-end see it with this one; when not given, a recipient stays " \
		"as it is, and such a sender is refused"),                                         \
	CONFIG_WORDS("local_domains", st_, m_.local_domains, NULL,                                 \
		"our own domains: example.org, .example.org for what lies under it, /patterns/, "  \
		"file:PATH or lmdb:PATH; in lists of addresses the word local_domains stands for " \
		"all addresses in them and those without a domain")

/* The word that stands for the addresses in local_domains. */
#define WORDS_LOCAL "local_domains"

/* Before any list is made: conf's own, borrowed. local_domains are read, and what is wrong goes to conf. */
void words_use_addresses(struct config *conf, const struct address_conf *addresses);
/* An address of the configuration, completed as those of mail are; "" and <> stay. In conf's arena. */
const char *words_qualified(struct config *conf, const char *address);
/* NULL when there are no words (any will do then), or when one was wrong: an error with its place.
 * `options` are those of the block, NULL-terminated, for words that are none of the list. */
struct match_list *words_list(struct config *conf, const char *option, enum words_kind kind,
	const struct config_words *words, const struct config_option *options);
/* Is this address, as it was given, in the list? It is asked in its canonical form, and in the readable one where its
 * domain has one, for the sake of patterns. MATCH_ERROR: not known. */
enum match_result words_ask(const struct match_list *list, const char *address, struct err *err);
#endif
