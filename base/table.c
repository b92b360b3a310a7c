/*
 * base/table.c - LMDB without its locks.
 *
 * A writer uses pages again that were freed two commits ago. So an answer holds only if there was no commit while it
 * was looked for; else it is looked for again.
 */
#include "base/table.h"

#include <errno.h>
#include <limits.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/xalloc.h"

#define KEY_SIZE_MAX 512 /* LMDB takes 511 octets */
#define TRIES	     10
#define OPENINGS     3
#define LOOK_MS	     1000

struct opened {
	MDB_env *env; /* NULL: not open */
	MDB_dbi dbi;
	struct stat st; /* of the file when it was opened */
};

struct table {
	char *path;
	enum match_kind kind;
	pthread_rwlock_t lock; /* of opened: read by who asks, written by who opens */
	struct opened opened;
	uint64_t looked_ms; /* atomic: when path was last compared with what is open */
};

static int
fail(int rc, const char *path, struct err *err)
{
	return err_set_temp(err, "%s: %s", path,
		rc == MDB_INVALID || rc == MDB_VERSION_MISMATCH ? "is no table of LMDB" : mdb_strerror(rc));
}

static int
open_main(struct opened *o)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(o->env, NULL, MDB_RDONLY, &txn);

	if (rc != 0)
		return rc;
	rc = mdb_dbi_open(txn, NULL, 0, &o->dbi);
	mdb_txn_abort(txn); /* the main table needs no commit to stay open */
	return rc;
}

/* A folder has its table in data.mdb. */
static int
stat_table(const char *path, struct stat *st, bool *is_folder_r)
{
	char file[PATH_MAX];
	int rc = stat(path, st);

	*is_folder_r = rc == 0 && S_ISDIR(st->st_mode);
	if (!*is_folder_r)
		return rc;
	if ((size_t)snprintf(file, sizeof(file), "%s/data.mdb", path) >= sizeof(file)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return stat(file, st);
}

static int
open_table(const char *path, struct opened *o, struct err *err)
{
	unsigned flags = MDB_RDONLY | MDB_NOLOCK | MDB_NOTLS;
	mdb_filehandle_t fd = -1;
	bool is_folder;
	int rc;

	*o = (struct opened){.env = NULL};
	if (stat_table(path, &o->st, &is_folder) < 0)
		return err_sys(err, "%s", path);
	if (!S_ISREG(o->st.st_mode) || o->st.st_size == 0) /* LMDB would wait for a FIFO */
		return fail(MDB_INVALID, path, err);
	if (mdb_env_create(&o->env) != 0)
		abort();
	rc = mdb_env_open(o->env, path, is_folder ? flags : flags | MDB_NOSUBDIR, 0);
	if (rc == 0)
		rc = open_main(o);
	if (rc == 0)
		rc = mdb_env_get_fd(o->env, &fd);
	if (rc == 0 && fstat(fd, &o->st) < 0)
		rc = errno;
	if (rc == 0)
		return 0;
	mdb_env_close(o->env);
	o->env = NULL;
	return fail(rc, path, err);
}

int
table_check(const char *path, struct err *err)
{
	struct opened o;
	int rc = open_table(path, &o, err);

	if (o.env != NULL)
		mdb_env_close(o.env);
	return rc;
}

struct table *
table_new(const char *path, enum match_kind kind)
{
	struct table *t = xcalloc(1, sizeof(*t));

	t->path = xstrdup(path);
	t->kind = kind;
	pthread_rwlock_init(&t->lock, NULL);
	return t;
}

void
table_free(struct table **table)
{
	struct table *t = *table;

	*table = NULL;
	if (t == NULL)
		return;
	if (t->opened.env != NULL)
		mdb_env_close(t->opened.env);
	pthread_rwlock_destroy(&t->lock);
	free(t->path);
	free(t);
}

/* ---- keeping up with the file ---- */

/* What is mapped behind a file's end must not be touched. */
static bool
is_cut_off(const struct opened *o)
{
	mdb_filehandle_t fd;
	struct stat st;

	return mdb_env_get_fd(o->env, &fd) != 0 || fstat(fd, &st) < 0 || st.st_size < o->st.st_size;
}

/* One that is gone is about to come again. */
static bool
is_replaced(const struct table *t)
{
	struct stat st;
	bool is_folder;

	return stat_table(t->path, &st, &is_folder) == 0 &&
	       (st.st_dev != t->opened.st.st_dev || st.st_ino != t->opened.st.st_ino);
}

static bool
is_time_to_look(struct table *t)
{
	uint64_t now = clock_ms(), was = __atomic_load_n(&t->looked_ms, __ATOMIC_RELAXED);

	return now - was >= LOOK_MS &&
	       __atomic_compare_exchange_n(&t->looked_ms, &was, now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* What was open is kept where the new one cannot be read, if it can be. */
static int
open_again(struct table *t, struct err *err)
{
	struct opened fresh;
	int rc;

	pthread_rwlock_wrlock(&t->lock);
	rc = open_table(t->path, &fresh, err);
	if (fresh.env != NULL || (t->opened.env != NULL && is_cut_off(&t->opened))) {
		if (t->opened.env != NULL)
			mdb_env_close(t->opened.env);
		t->opened = fresh;
	}
	if (rc < 0 && t->opened.env != NULL)
		log_repeat(LOG_LEVEL_WARN, NULL, t->path, "table", "path=%s err=%s", t->path, err->text);
	rc = t->opened.env != NULL ? 0 : -1;
	pthread_rwlock_unlock(&t->lock);
	return rc;
}

/* ---- asking ---- */

struct question {
	MDB_txn *txn;
	MDB_dbi dbi;
	const char *path;
};

static int
get(const struct question *q, const char *key, size_t len)
{
	MDB_val k = {len, (void *)(uintptr_t)key}, v;

	return mdb_get(q->txn, q->dbi, &k, &v);
}

static enum match_result
look(const void *table, const char *word, size_t len, struct err *err)
{
	const struct question *q = table;
	char key[KEY_SIZE_MAX];
	int rc;

	if (len == 0) {
		word = "<>";
		len = 2;
	}
	if (len + 1 >= sizeof(key))
		return MATCH_NO;
	memcpy(key, word, len);
	key[len] = '\0';
	rc = get(q, key, len);
	if (rc == MDB_NOTFOUND)
		rc = get(q, key, len + 1);
	if (rc == 0 || rc == MDB_NOTFOUND)
		return rc == 0 ? MATCH_YES : MATCH_NO;
	fail(rc, q->path, err);
	return MATCH_ERROR;
}

enum certainty {
	SURE,	 /* nobody has written meanwhile */
	CHANGED, /* somebody has */
	GROWN,	 /* beyond what is mapped */
};

static enum certainty
ask_once(const struct table *t, const char *address, size_t len, enum match_result *found_r, struct err *err)
{
	struct question q = {.dbi = t->opened.dbi, .path = t->path};
	MDB_envinfo info;
	size_t id;
	int rc = mdb_txn_begin(t->opened.env, NULL, MDB_RDONLY, &q.txn);

	*found_r = MATCH_ERROR;
	if (rc != 0)
		fail(rc, t->path, err);
	if (rc != 0)
		return rc == MDB_MAP_RESIZED ? GROWN : SURE;
	id = mdb_txn_id(q.txn);
	*found_r = match_each_word(t->kind, address, len, look, &q, err);
	mdb_txn_abort(q.txn);
	mdb_env_info(t->opened.env, &info);
	return info.me_last_txnid == id ? SURE : CHANGED;
}

/* False: it has to be opened again. The lock is held. */
static bool
ask(const struct table *t, const char *address, size_t len, enum match_result *found_r, struct err *err)
{
	if (t->opened.env == NULL || is_cut_off(&t->opened))
		return false;
	for (int i = 0; i < TRIES; i++) {
		enum certainty how = ask_once(t, address, len, found_r, err);

		if (how != CHANGED)
			return how == SURE;
	}
	err_set_temp(err, "%s: is being written all the time", t->path);
	*found_r = MATCH_ERROR;
	return true;
}

enum match_result
table_ask(struct table *t, const char *address, size_t len, struct err *err)
{
	enum match_result found = MATCH_ERROR;
	bool is_time = is_time_to_look(t), is_fit;

	for (int i = 0; i < OPENINGS; i++) {
		pthread_rwlock_rdlock(&t->lock);
		is_fit = (!is_time || !is_replaced(t)) && ask(t, address, len, &found, err);
		pthread_rwlock_unlock(&t->lock);
		if (is_fit || open_again(t, err) < 0)
			break;
		is_time = false;
	}
	return found;
}
