/*
 * t/unit/test_arena.c - memory that goes at once, and the hash whose keys may live in it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/arena.h"
#include "base/hash.h"

static void
every_piece_is_aligned_and_its_own(void **state)
{
	struct arena *a = arena_new();
	unsigned char *pieces[3000];
	size_t i, sizes[] = {0, 1, 15, 16, 17, 100, 1000, 5000, 100000};

	(void)state;
	for (i = 0; i < 3000; i++) {
		pieces[i] = arena_alloc(a, sizes[i % 9] + 1);
		assert_int_equal((uintptr_t)pieces[i] % _Alignof(max_align_t), 0);
		memset(pieces[i], (int)i & 0xff, sizes[i % 9] + 1);
	}
	for (i = 0; i < 3000; i++) {
		assert_int_equal(pieces[i][0], i & 0xff);
		assert_int_equal(pieces[i][sizes[i % 9]], i & 0xff);
	}
	arena_free(&a);
	assert_null(a);
	arena_free(&a);
}

static void
after_a_reset_the_first_block_is_used_again(void **state)
{
	struct arena *a = arena_new();
	char *first = arena_alloc(a, 100);
	int i;

	(void)state;
	for (i = 0; i < 100; i++)
		arena_alloc(a, 10000);
	arena_reset(a);
	assert_ptr_equal(arena_alloc(a, 100), first);
	arena_reset(a);
	arena_alloc(a, 1 << 20); /* large at once */
	arena_reset(a);
	assert_ptr_equal(arena_alloc(a, 100), first);
	arena_free(&a);
}

static char order[4];

static void
note(void *digit)
{
	strncat(order, digit, 1);
}

static void
what_was_deferred_is_done_once_and_the_latest_first(void **state)
{
	struct arena *a = arena_new();

	(void)state;
	arena_defer(a, note, arena_strdup(a, "1"));
	arena_defer(a, note, arena_strdup(a, "2"));
	assert_string_equal(order, "");
	arena_reset(a);
	assert_string_equal(order, "21");
	arena_defer(a, note, arena_strdup(a, "3"));
	arena_free(&a);
	assert_string_equal(order, "213");
}

static void
copies_are_whole_and_zeroed_memory_is_zero(void **state)
{
	struct arena *a = arena_new();
	char *text = arena_strdup(a, "hello"), *big;
	int i;

	(void)state;
	assert_string_equal(text, "hello");
	assert_string_equal(arena_strndup(a, "hello", 2), "he");
	assert_string_equal(arena_strndup(a, NULL, 0), "");
	assert_memory_equal(arena_memdup(a, "a\0b", 3), "a\0b", 3);
	assert_non_null(arena_memdup(a, NULL, 0));
	assert_string_equal(arena_printf(a, "%d-%s", 7, "x"), "7-x");
	big = arena_printf(a, "%0*d", 300, 5);
	assert_int_equal(strlen(big), 300);
	assert_int_equal(big[299], '5');
	memset(arena_alloc(a, 1000), 0xff, 1000);
	arena_reset(a);
	big = arena_zalloc(a, 1000);
	for (i = 0; i < 1000; i++)
		assert_int_equal(big[i], 0);
	arena_free(&a);
}

static size_t seen;

static void
see(void *value)
{
	(void)value;
	seen++;
}

static void
a_hash_finds_what_was_put_and_nothing_else(void **state)
{
	struct arena *a = arena_new();
	struct hash *h = hash_new();
	size_t i;

	(void)state;
	for (i = 0; i < 10000; i++) {
		char *key = arena_printf(a, "key %zu", i);

		assert_null(hash_put(h, key, strlen(key), key));
	}
	assert_int_equal(hash_count(h), 10000);
	for (i = 0; i < 20000; i++) {
		const char *key = arena_printf(a, "key %zu", i);
		const char *value = hash_get(h, key, strlen(key));

		if (i < 10000)
			assert_string_equal(value, key);
		else
			assert_null(value);
	}
	assert_null(hash_get(h, "", 0));
	assert_null(hash_put(h, "", 0, a));
	assert_ptr_equal(hash_put(h, "", 0, h), a);
	assert_ptr_equal(hash_get(h, "x", 0), h);
	hash_each(h, see);
	assert_int_equal(seen, 10001);
	hash_free(&h);
	assert_null(h);
	hash_free(&h);
	arena_free(&a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_piece_is_aligned_and_its_own),
		cmocka_unit_test(after_a_reset_the_first_block_is_used_again),
		cmocka_unit_test(what_was_deferred_is_done_once_and_the_latest_first),
		cmocka_unit_test(copies_are_whole_and_zeroed_memory_is_zero),
		cmocka_unit_test(a_hash_finds_what_was_put_and_nothing_else),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
