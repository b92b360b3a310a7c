/* filters/template.c - the words of a command, in which %x stands for a fact about the message. */
#include "filters/template.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/list.h"
#include "base/str.h"

/* Of facts in one word each. */
static const struct value {
	char letter;
	size_t offset;
	bool is_outside; /* whoever sends mail chooses it */
} values[] = {
	{'f', offsetof(struct template_facts, file), false},
	{'n', offsetof(struct template_facts, body), false},
	{'h', offsetof(struct template_facts, header), false},
	{'t', offsetof(struct template_facts, folder), false},
	{'s', offsetof(struct template_facts, sender), true},
	{'r', offsetof(struct template_facts, rcpt), true},
	{'a', offsetof(struct template_facts, client), false},
	{'e', offsetof(struct template_facts, helo), true},
	{'l', offsetof(struct template_facts, listener), false},
	{'i', offsetof(struct template_facts, id), false},
};

static bool
is_all_rcpts(const struct config_word *word)
{
	return word->kind != CONFIG_WORD_PATTERN && strcmp(word->text, "%R") == 0;
}

/* The letter behind the next % that is not doubled; *text moves behind it. 0: there is none. */
static char
next_letter(const char **text)
{
	const char *p = *text;

	while ((p = strchr(p, '%')) != NULL) {
		if (p[1] != '%') {
			*text = p[1] != '\0' ? p + 2 : p + 1;
			return p[1] != '\0' ? p[1] : '%';
		}
		p += 2;
	}
	return '\0';
}

static int
complain(const struct config_word *word, char letter, const char *letters, struct err *err)
{
	char list[80] = "";

	for (size_t len = 0; *letters != '\0' && len + 3 < sizeof(list); letters++)
		len += (size_t)snprintf(list + len, sizeof(list) - len, " %c", *letters);
	if (letter < ' ' || letter > 126)
		letter = '?';
	if (list[0] == '\0')
		return err_set(err, "\"%.100s\": there is no %%%c here (%%%% is a percent sign)", word->text, letter);
	return err_set(err, "\"%.100s\": there is no %%%c (there are:%s; %%%% is a percent sign)", word->text, letter, list);
}

static int
check_word(const struct config_word *word, const char *letters, struct err *err)
{
	const char *text = word->text;
	char letter;

	if (is_all_rcpts(word) && strchr(letters, 'R') != NULL)
		return 0;
	while ((letter = next_letter(&text)) != '\0') {
		if (letter == 'R' && strchr(letters, 'R') != NULL)
			return err_set(err, "\"%.100s\": %%R must be a word of its own", word->text);
		if (letter == '%')
			return err_set(err, "\"%.100s\": a single %% stands at its end (%%%% is a percent sign)", word->text);
		if (strchr(letters, letter) == NULL)
			return complain(word, letter, letters, err);
	}
	return 0;
}

int
template_check(const struct config_words *words, const char *letters, struct err *err)
{
	for (size_t i = 0; i < words->count; i++)
		if (check_word(&words->list[i], letters, err) < 0)
			return -1;
	return 0;
}

bool
template_uses(const struct config_words *words, char letter)
{
	for (size_t i = 0; i < words->count; i++) {
		const char *text = words->list[i].text;
		char found;

		while ((found = next_letter(&text)) != '\0')
			if (found == letter)
				return true;
	}
	return false;
}

static void
add_value(struct str *out, const char *text, bool is_first, bool is_address)
{
	bool is_bracketed = (is_first && text[0] == '-') || (is_address && text[0] == '\0');

	if (is_bracketed)
		str_addc(out, '<');
	str_add(out, text);
	if (is_bracketed)
		str_addc(out, '>');
}

static void
add_letter(struct str *out, char letter, const struct template_facts *facts)
{
	for (size_t i = 0; i < ARRAY_COUNT(values); i++) {
		const char *const *member = (const void *)((const char *)facts + values[i].offset);
		bool is_first = out->len == 0 && values[i].is_outside;

		if (values[i].letter == letter)
			add_value(out, *member != NULL ? *member : "", is_first, letter == 's');
	}
}

static const char *
expand_word(const char *text, const struct template_facts *facts, struct arena *arena)
{
	struct str out = STR_INIT;
	const char *word;

	for (; *text != '\0'; text++) {
		if (*text != '%')
			str_addc(&out, *text);
		else if (*++text == '%')
			str_addc(&out, '%');
		else
			add_letter(&out, *text, facts);
	}
	word = arena_strdup(arena, str_text(&out));
	str_deinit(&out);
	return word;
}

const char *
template_word(const struct config_word *word, struct arena *arena)
{
	return word->kind == CONFIG_WORD_PATTERN ? arena_printf(arena, "/%s/", word->text) : word->text;
}

static const char *
expand_rcpt(const char *addr, struct arena *arena)
{
	return addr[0] == '-' ? arena_printf(arena, "<%s>", addr) : addr;
}

const char **
template_expand(const struct config_words *words, const struct template_facts *facts, size_t max, struct arena *arena)
{
	const char **argv = arena_alloc(arena, (max + 1) * sizeof(argv[0]));
	size_t count = 0;

	for (size_t i = 0; i < words->count; i++) {
		const struct config_word *word = &words->list[i];
		bool is_all = is_all_rcpts(word);

		if ((is_all ? facts->rcpt_count : 1) > max - count)
			return NULL;
		if (!is_all)
			argv[count++] = expand_word(template_word(word, arena), facts, arena);
		for (size_t k = 0; is_all && k < facts->rcpt_count; k++)
			argv[count++] = expand_rcpt(facts->rcpts[k], arena);
	}
	argv[count] = NULL;
	return argv;
}
