/*
 * t/unit/test_table.c - tables of LMDB: looked up, written to, replaced, cut off, and none at all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/table.h"

static char dir[64];

static const char *
path_of(const char *name)
{
	static char path[4][128];
	static int n;

	n = (n + 1) % 4;
	snprintf(path[n], sizeof(path[n]), "%s/%s", dir, name);
	return path[n];
}

static int
make_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/test_table.XXXXXX");
	return mkdtemp(dir) == NULL;
}

static int
remove_dir(void **state)
{
	char command[100];

	(void)state;
	snprintf(command, sizeof(command), "rm -r '%s'", dir);
	return system(command);
}

/* Adds keys to a table; those that end in "$" have a NUL there. */
static void
write_keys(const char *path, unsigned flags, const char *const *keys)
{
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi dbi;

	assert_int_equal(mdb_env_create(&env), 0);
	assert_int_equal(mdb_env_set_mapsize(env, (size_t)64 << 20), 0);
	assert_int_equal(mdb_env_open(env, path, flags | MDB_NOSYNC | MDB_NOLOCK, 0644), 0);
	assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
	assert_int_equal(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
	for (; *keys != NULL; keys++) {
		char key[100];
		MDB_val k = {strlen(*keys), key}, v = {1, (char[]){'x'}};

		strcpy(key, *keys);
		if (key[k.mv_size - 1] == '$')
			key[k.mv_size - 1] = '\0';
		assert_int_equal(mdb_put(txn, dbi, &k, &v, 0), 0);
	}
	assert_int_equal(mdb_txn_commit(txn), 0);
	mdb_env_close(env);
}

static enum match_result
ask(struct table *table, const char *address)
{
	struct err err = {.text = ""};
	enum match_result found = table_ask(table, address, strlen(address), &err);

	if (found == MATCH_ERROR)
		assert_string_not_equal(err.text, "");
	return found;
}

static void
words_are_keys_of_the_table(void **state)
{
	static const char *const keys[] = {"ann@a.example", "@b.example", ".c.example", "bob@a.example$", "<>",
		"mail.d.example", NULL};
	static const struct {
		const char *address;
		enum match_result want;
	} cases[] = {
		{"ann@a.example", MATCH_YES},
		{"Ann@A.example", MATCH_YES},
		{"ann@a.exampl", MATCH_NO},
		{"joann@a.example", MATCH_NO},
		{"bob@a.example", MATCH_YES},
		{"x@b.example", MATCH_YES},
		{"x@y.b.example", MATCH_NO},
		{"x@y.c.example", MATCH_YES},
		{"x@c.example", MATCH_NO},
		{"", MATCH_YES},
		{"mail.d.example", MATCH_YES},
		{"postmaster", MATCH_NO},
	};
	char longest[600];

	(void)state;
	for (int is_folder = 0; is_folder < 2; is_folder++) {
		const char *path = path_of(is_folder ? "folder" : "file");
		struct table *table;
		struct err err;

		if (is_folder)
			assert_int_equal(mkdir(path, 0755), 0);
		write_keys(path, is_folder ? 0 : MDB_NOSUBDIR, keys);
		assert_int_equal(table_check(path, &err), 0);
		table = table_new(path, MATCH_ADDRESSES);
		for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
			if (ask(table, cases[i].address) != cases[i].want)
				fail_msg("%s", cases[i].address);
		memset(longest, 'x', sizeof(longest) - 1);
		longest[sizeof(longest) - 1] = '\0';
		assert_int_equal(ask(table, longest), MATCH_NO);
		table_free(&table);
	}
}

static void
keys_for_texts_are_whole_texts(void **state)
{
	const char *path = path_of("file");
	struct table *table = table_new(path, MATCH_TEXTS);

	(void)state;
	write_keys(path, MDB_NOSUBDIR, (const char *const[]){"@all", ".log", "on sale", NULL});
	assert_int_equal(ask(table, "On sale"), MATCH_YES);
	assert_int_equal(ask(table, "ask bob@all"), MATCH_NO);
	assert_int_equal(ask(table, "report.log"), MATCH_NO);
	table_free(&table);
}

static void
what_is_written_into_it_is_seen_at_once(void **state)
{
	const char *path = path_of("file");
	struct table *table = table_new(path, MATCH_ADDRESSES);
	char key[40];

	(void)state;
	write_keys(path, MDB_NOSUBDIR, (const char *const[]){"ann@a.example", NULL});
	assert_int_equal(ask(table, "bob@a.example"), MATCH_NO);
	write_keys(path, MDB_NOSUBDIR, (const char *const[]){"bob@a.example", NULL});
	assert_int_equal(ask(table, "bob@a.example"), MATCH_YES);
	/* Until it is larger than what was mapped. */
	for (int i = 0; i < 40; i++) {
		const char *keys[501];

		for (int k = 0; k < 500; k++) {
			snprintf(key, sizeof(key), "user%d.%d@a.example", i, k);
			keys[k] = strdup(key);
		}
		keys[500] = NULL;
		write_keys(path, MDB_NOSUBDIR, keys);
		assert_int_equal(ask(table, keys[499]), MATCH_YES);
		for (int k = 0; k < 500; k++)
			free((char *)(uintptr_t)keys[k]);
	}
	table_free(&table);
}

static void
one_in_its_place_is_seen_within_a_second(void **state)
{
	const char *path = path_of("file"), *other = path_of("other");
	struct table *table = table_new(path, MATCH_ADDRESSES);

	(void)state;
	write_keys(path, MDB_NOSUBDIR, (const char *const[]){"ann@a.example", NULL});
	write_keys(other, MDB_NOSUBDIR, (const char *const[]){"bob@a.example", NULL});
	assert_int_equal(ask(table, "ann@a.example"), MATCH_YES);
	assert_int_equal(unlink(path), 0);
	clock_turn_ms(1000);
	assert_int_equal(ask(table, "ann@a.example"), MATCH_YES); /* as long as there is no other */
	assert_int_equal(rename(other, path), 0);
	clock_turn_ms(1000);
	assert_int_equal(ask(table, "ann@a.example"), MATCH_NO);
	assert_int_equal(ask(table, "bob@a.example"), MATCH_YES);
	table_free(&table);
}

static void
write_text(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void
one_that_cannot_be_read_leaves_the_old_one_until_it_is_cut_off(void **state)
{
	const char *path = path_of("file"), *other = path_of("other");
	struct table *table = table_new(path, MATCH_ADDRESSES);

	(void)state;
	write_keys(path, MDB_NOSUBDIR, (const char *const[]){"ann@a.example", NULL});
	assert_int_equal(ask(table, "ann@a.example"), MATCH_YES);
	write_text(other, "ann@a.example x\n");
	assert_int_equal(rename(other, path), 0);
	clock_turn_ms(1000);
	assert_int_equal(ask(table, "ann@a.example"), MATCH_YES);
	table_free(&table);
	assert_int_equal(unlink(path), 0);

	table = table_new(path, MATCH_ADDRESSES);
	write_keys(path, MDB_NOSUBDIR, (const char *const[]){"ann@a.example", NULL});
	assert_int_equal(ask(table, "ann@a.example"), MATCH_YES);
	write_text(path, "x\n");
	assert_int_equal(ask(table, "ann@a.example"), MATCH_ERROR);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(ask(table, "ann@a.example"), MATCH_ERROR);
	write_keys(path, MDB_NOSUBDIR, (const char *const[]){"bob@a.example", NULL});
	assert_int_equal(ask(table, "bob@a.example"), MATCH_YES);
	table_free(&table);
}

static void
what_is_no_table_is_told(void **state)
{
	static const struct {
		const char *name, *want;
	} cases[] = {
		{"missing", "No such file or directory"},
		{"text", "is no table of LMDB"},
		{"empty", "is no table of LMDB"},
		{"fifo", "is no table of LMDB"},
		{"emptyfolder", "No such file or directory"},
	};

	(void)state;
	write_text(path_of("text"), "ann@a.example\n");
	write_text(path_of("empty"), "");
	assert_int_equal(mkfifo(path_of("fifo"), 0644), 0);
	assert_int_equal(mkdir(path_of("emptyfolder"), 0755), 0);
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct table *table = table_new(path_of(cases[i].name), MATCH_ADDRESSES);
		struct err err;

		assert_int_equal(table_check(path_of(cases[i].name), &err), -1);
		if (strstr(err.text, cases[i].want) == NULL)
			fail_msg("%s", err.text);
		assert_int_equal(ask(table, "ann@a.example"), MATCH_ERROR);
		table_free(&table);
	}
}

static void *
ask_often(void *arg)
{
	for (int i = 0; i < 3000; i++)
		if (ask(arg, "stays@a.example") != MATCH_YES || ask(arg, "never@a.example") != MATCH_NO)
			return arg;
	return NULL;
}

static void
any_number_of_threads_may_ask_while_it_is_written(void **state)
{
	const char *path = path_of("file");
	struct table *table = table_new(path, MATCH_ADDRESSES);
	pthread_t threads[3];
	void *bad;

	(void)state;
	write_keys(path, MDB_NOSUBDIR, (const char *const[]){"stays@a.example", NULL});
	for (size_t i = 0; i < ARRAY_COUNT(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, ask_often, table), 0);
	for (int i = 0; i < 30; i++)
		write_keys(path, MDB_NOSUBDIR, (const char *const[]){i % 2 ? "a@a.example" : "z@a.example", NULL});
	for (size_t i = 0; i < ARRAY_COUNT(threads); i++) {
		assert_int_equal(pthread_join(threads[i], &bad), 0);
		assert_null(bad);
	}
	table_free(&table);
}

#define IN_A_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		IN_A_FOLDER(words_are_keys_of_the_table),
		IN_A_FOLDER(keys_for_texts_are_whole_texts),
		IN_A_FOLDER(what_is_written_into_it_is_seen_at_once),
		IN_A_FOLDER(one_in_its_place_is_seen_within_a_second),
		IN_A_FOLDER(one_that_cannot_be_read_leaves_the_old_one_until_it_is_cut_off),
		IN_A_FOLDER(what_is_no_table_is_told),
		IN_A_FOLDER(any_number_of_threads_may_ask_while_it_is_written),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
