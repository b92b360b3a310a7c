/*
 * bench/match.c - what a look-up costs in a list of 10,000 addresses and 200 patterns: one that an
 * exact word settles, and one that has to try all. CPU time; to be no more than 20 us.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/arena.h"
#include "filters/words.h"

#define WORDS	 10000
#define PATTERNS 200
#define LOOKUPS	 200000

static double
measure(const struct match_list *list, const char *local, const char *domain)
{
	clock_t begin = clock();
	struct err err;

	for (int i = 0; i < LOOKUPS; i++) {
		char address[80];

		snprintf(address, sizeof(address), "%s%d@%s", local, i % WORDS, domain);
		if (words_ask(list, address, &err) == MATCH_ERROR)
			exit(1);
	}
	return (double)(clock() - begin) * 1e6 / CLOCKS_PER_SEC / LOOKUPS;
}

int
main(void)
{
	struct arena *arena = arena_new();
	struct match_word *words = arena_zalloc(arena, (WORDS + PATTERNS) * sizeof(*words));
	struct match_list *list;
	struct err err;
	size_t bad;

	for (int i = 0; i < WORDS; i++)
		words[i].text = arena_printf(arena, "user%d@customers.example", i);
	for (int i = 0; i < PATTERNS; i++)
		words[WORDS + i] = (struct match_word){
			arena_printf(arena, "^(list|bounce)-[a-z]+%d@.*\\.partner%d\\.example$", i, i), true};
	list = match_list_new(MATCH_ADDRESSES, words, WORDS + PATTERNS, &bad, &err);
	if (list == NULL) {
		fprintf(stderr, "match: %s\n", err.text);
		return 1;
	}
	printf("a word that is in the list        %7.2f us\n", measure(list, "user", "customers.example"));
	printf("an address that matches nothing   %7.2f us\n", measure(list, "somebody.else", "other.example"));
	printf("one in another script             %7.2f us\n", measure(list, "user", "b\xc3\xbc" "cher.example"));
	printf("one that patterns come close to   %7.2f us\n", measure(list, "list-abc", "a.partnerx.example"));
	match_list_free(&list);
	arena_free(&arena);
	return 0;
}
