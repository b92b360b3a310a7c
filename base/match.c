/*
 * base/match.c - exact words in a hash, patterns by PCRE2 with limits.
 */
#include "base/match.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/xalloc.h"

#define MATCH_LIMIT    100000
#define HEAP_LIMIT_KIB (20 << 10)
#define JIT_STACK_MIN  ((size_t)32 << 10)
#define JIT_STACK_MAX  ((size_t)1 << 20)
#define SHORT_MAX      512 /* longer subjects are lowered on the heap */

struct match_pattern {
	pcre2_code *code;
	char *text; /* for messages */
};

struct match_list {
	enum match_kind kind;
	struct hash *words; /* lower case, each key its own value */
	bool has_suffix;    /* any ".domain" */
	struct match_pattern *patterns;
	size_t pattern_count;
	struct match_source *sources;
	size_t source_count;
};

/* What PCRE2 needs per thread while it matches. */
struct scratch {
	pcre2_match_data *data;
	pcre2_match_context *context;
	pcre2_jit_stack *stack;
};

static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;
static _Thread_local struct scratch *scratch;

static void
scratch_free(void *ptr)
{
	struct scratch *s = ptr;

	pcre2_match_data_free(s->data);
	pcre2_match_context_free(s->context);
	pcre2_jit_stack_free(s->stack);
	free(s);
	scratch = NULL;
}

static void
scratch_make_key(void)
{
	pthread_key_create(&scratch_key, scratch_free);
}

static struct scratch *
scratch_get(void)
{
	if (scratch != NULL)
		return scratch;
	pthread_once(&scratch_once, scratch_make_key);
	scratch = xcalloc(1, sizeof(*scratch));
	scratch->data = pcre2_match_data_create(2, NULL); /* all of it, and the first group */
	scratch->context = pcre2_match_context_create(NULL);
	if (scratch->data == NULL || scratch->context == NULL)
		abort();
	pcre2_set_match_limit(scratch->context, MATCH_LIMIT);
	pcre2_set_depth_limit(scratch->context, MATCH_LIMIT);
	pcre2_set_heap_limit(scratch->context, HEAP_LIMIT_KIB);
	/* Without it JIT code runs on 32 KiB of the machine's stack, which is little but works. */
	scratch->stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, NULL);
	if (scratch->stack != NULL)
		pcre2_jit_stack_assign(scratch->context, NULL, scratch->stack);
	pthread_setspecific(scratch_key, scratch);
	return scratch;
}

static void
lower(char *dst, const char *src, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		dst[i] = src[i] >= 'A' && src[i] <= 'Z' ? (char)(src[i] | 0x20) : src[i];
}

static int
add_pattern(struct match_list *list, const char *text, struct err *err)
{
	struct match_pattern *p = &list->patterns[list->pattern_count];
	unsigned char words[120];
	PCRE2_SIZE where;
	int code;

	p->code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
		PCRE2_CASELESS | PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C,
		&code, &where, NULL);
	if (p->code == NULL) {
		pcre2_get_error_message(code, words, sizeof(words));
		return err_set(err, "pattern /%.200s/: %s (at its octet %zu)", text,
			(const char *)words, (size_t)where + 1);
	}
	/* Refused where memory must not be both writable and executable: then it is interpreted. */
	pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE);
	p->text = xstrdup(text);
	list->pattern_count++;
	return 0;
}

static void
add_word(struct match_list *list, const char *text)
{
	size_t len = strlen(text);
	char *key;

	if (list->kind == MATCH_ADDRESSES && strcmp(text, "<>") == 0)
		len = 0;
	key = xstrndup(text, len);
	lower(key, key, len);
	if (hash_get(list->words, key, len) != NULL) {
		free(key);
		return;
	}
	hash_put(list->words, key, len, key);
	list->has_suffix = list->has_suffix || (list->kind == MATCH_ADDRESSES && key[0] == '.');
}

struct match_list *
match_list_new(
	enum match_kind kind, const struct match_word *words, size_t count, size_t *bad_r, struct err *err)
{
	struct match_list *list = xcalloc(1, sizeof(*list));
	size_t i;

	list->kind = kind;
	list->words = hash_new();
	list->patterns = xcalloc(count, sizeof(*list->patterns));
	for (i = 0; i < count; i++) {
		if (!words[i].is_pattern) {
			add_word(list, words[i].text);
		} else if (add_pattern(list, words[i].text, err) < 0) {
			*bad_r = i;
			match_list_free(&list);
			return NULL;
		}
	}
	return list;
}

void
match_list_free(struct match_list **list)
{
	struct match_list *l = *list;
	size_t i;

	if (l == NULL)
		return;
	for (i = 0; i < l->pattern_count; i++) {
		pcre2_code_free(l->patterns[i].code);
		free(l->patterns[i].text);
	}
	free(l->patterns);
	for (i = 0; i < l->source_count; i++)
		if (l->sources[i].free != NULL)
			l->sources[i].free(l->sources[i].arg);
	free(l->sources);
	hash_each(l->words, free);
	hash_free(&l->words);
	free(l);
	*list = NULL;
}

void
match_list_add_source(struct match_list *list, const struct match_source *source)
{
	list->sources = xrealloc(list->sources, (list->source_count + 1) * sizeof(*source));
	list->sources[list->source_count++] = *source;
}

/* What one address is looked up in. */
struct lookup {
	match_look look;
	const void *table;
	bool with_domain, with_suffixes;
	struct err *err;
};

/* The address itself, "@domain", and every ".suffix" of the domain, or of a name, but the whole of it. */
static enum match_result
look_up(const struct lookup *l, const char *address, size_t len)
{
	const char *end = address + len, *dot, *domain = memrchr(address, '@', len);
	enum match_result found = l->look(l->table, address, len, l->err);

	if (found == MATCH_NO && l->with_domain && domain != NULL)
		found = l->look(l->table, domain, (size_t)(end - domain), l->err);
	if (!l->with_suffixes)
		return found;
	dot = domain != NULL ? domain + 1 : address;
	for (; found == MATCH_NO && (dot = memchr(dot, '.', (size_t)(end - dot))) != NULL; dot++)
		found = l->look(l->table, dot, (size_t)(end - dot), l->err);
	return found;
}

static enum match_result
look_up_caseless(const struct lookup *l, const char *address, size_t len)
{
	char small[SHORT_MAX], *copy = small;
	enum match_result found;

	small[0] = '\0'; /* the null sender is looked up, too */
	if (len > sizeof(small))
		copy = xmalloc(len);
	lower(copy, address, len);
	found = look_up(l, copy, len);
	if (copy != small)
		free(copy);
	return found;
}

enum match_result
match_each_word(enum match_kind kind, const char *address, size_t len, match_look look, const void *table,
	struct err *err)
{
	const bool is_address = kind == MATCH_ADDRESSES;
	const struct lookup l = {look, table, is_address, is_address, err};

	return look_up_caseless(&l, address, len);
}

static enum match_result
look_in_hash(const void *table, const char *word, size_t len, struct err *err)
{
	(void)err;
	return hash_get(table, word, len) != NULL ? MATCH_YES : MATCH_NO;
}

static bool
has_word(const struct match_list *list, const char *address, size_t len)
{
	const struct lookup l = {look_in_hash, list->words, list->kind == MATCH_ADDRESSES, list->has_suffix, NULL};

	return hash_count(list->words) > 0 && look_up_caseless(&l, address, len) == MATCH_YES;
}

static enum match_result
try_pattern(const struct match_pattern *p, const char *address, size_t len, struct err *err)
{
	struct scratch *s = scratch_get();
	unsigned char words[120];
	int rc;

	rc = pcre2_match(p->code, (PCRE2_SPTR)address, len, 0, 0, s->data, s->context);
	if (rc >= 0)
		return MATCH_YES;
	if (rc == PCRE2_ERROR_NOMATCH || rc == PCRE2_ERROR_PARTIAL)
		return MATCH_NO;
	pcre2_get_error_message(rc, words, sizeof(words));
	err_set(err, "pattern /%.200s/: %s", p->text, (const char *)words);
	return MATCH_ERROR;
}

enum match_result
match_list_ask(const struct match_list *list, const char *address, size_t len, struct err *err)
{
	enum match_result result, worst = MATCH_NO;
	size_t i;

	if (has_word(list, address, len))
		return MATCH_YES;
	for (i = 0; i < list->source_count; i++) {
		result = list->sources[i].ask(list->sources[i].arg, address, len, err);
		if (result == MATCH_YES)
			return MATCH_YES;
		if (result == MATCH_ERROR)
			worst = MATCH_ERROR;
	}
	for (i = 0; i < list->pattern_count; i++) {
		result = try_pattern(&list->patterns[i], address, len, err);
		if (result == MATCH_YES)
			return MATCH_YES;
		if (result == MATCH_ERROR)
			worst = MATCH_ERROR;
	}
	return worst;
}

/* Of a pattern without a group PCRE2 leaves that place as it was. */
static bool
has_group(const struct match_pattern *p, const PCRE2_SIZE *where)
{
	uint32_t count = 0;

	pcre2_pattern_info(p->code, PCRE2_INFO_CAPTURECOUNT, &count);
	return count > 0 && where[2] != PCRE2_UNSET;
}

enum match_result
match_list_find(const struct match_list *list, const char *text, size_t len, size_t *begin_r, size_t *end_r,
	struct err *err)
{
	enum match_result worst = MATCH_NO;

	for (size_t i = 0; i < list->pattern_count; i++) {
		enum match_result result = try_pattern(&list->patterns[i], text, len, err);

		if (result == MATCH_YES) {
			const PCRE2_SIZE *where = pcre2_get_ovector_pointer(scratch_get()->data);
			int at = has_group(&list->patterns[i], where) ? 2 : 0;

			*begin_r = where[at];
			*end_r = where[at + 1];
			return MATCH_YES;
		}
		if (result == MATCH_ERROR)
			worst = MATCH_ERROR;
	}
	return worst;
}
