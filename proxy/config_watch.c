/*
 * proxy/config_watch.c - the state of files, by stat(2): cheap enough for once a second, and it works on every
 * file system and with every way editors and tools replace a file.
 */
#include "proxy/config_watch.h"

#include <glob.h>
#include <string.h>
#include <sys/stat.h>

static uint64_t
mix(uint64_t h, const void *data, size_t len)
{
	const unsigned char *octets = data;

	for (size_t i = 0; i < len; i++)
		h = (h ^ octets[i]) * 0x100000001b3ULL;
	return h;
}

/* What is known of the files after a look. */
struct state {
	uint64_t hash;
	struct timespec last; /* when the youngest was changed; those of the future do not count */
};

static bool
is_before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

/* ctime: nobody can set it, and a change of rights counts, too. */
static void
mix_file(struct state *s, const char *path)
{
	struct timespec now;
	struct stat st;

	s->hash = mix(s->hash, path, strlen(path) + 1);
	if (stat(path, &st) < 0) {
		s->hash = mix(s->hash, "gone", 4);
		return;
	}
	s->hash = mix(s->hash, &st.st_dev, sizeof(st.st_dev));
	s->hash = mix(s->hash, &st.st_ino, sizeof(st.st_ino));
	s->hash = mix(s->hash, &st.st_size, sizeof(st.st_size));
	s->hash = mix(s->hash, &st.st_mtim, sizeof(st.st_mtim));
	s->hash = mix(s->hash, &st.st_ctim, sizeof(st.st_ctim));
	clock_gettime(CLOCK_REALTIME, &now); /* some file systems have finer stamps than the ticks of the clock below */
	if (is_before(&s->last, &st.st_ctim) && !is_before(&now, &st.st_ctim))
		s->last = st.st_ctim;
}

/* What include names by a pattern: files that have come, too. */
static void
mix_glob(struct state *s, const char *pattern)
{
	glob_t found;

	if (glob(pattern, 0, NULL, &found) != 0)
		return;
	for (size_t i = 0; i < found.gl_pathc; i++)
		mix_file(s, found.gl_pathv[i]);
	globfree(&found);
}

static struct state
state_of(const char *const *files, size_t count)
{
	struct state s = { .hash = 0xcbf29ce484222325ULL };

	for (size_t i = 0; i < count; i++)
		mix_file(&s, files[i]);
	return s;
}

static struct state
state_of_own(const struct config *config)
{
	struct state s = state_of(config->files, config->own_count);

	for (size_t i = 0; i < config->glob_count; i++)
		mix_glob(&s, config->globs[i]);
	return s;
}

static struct state
state_of_lists(const struct config *config)
{
	return state_of(config->files + config->own_count, config->file_count - config->own_count);
}

struct timespec
config_watch_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	return now;
}

static void
begin(struct watched_files *w, const struct state *s, const struct timespec *began)
{
	w->seen = s->hash;
	w->loaded = is_before(&s->last, began) ? s->hash : ~s->hash;
}

void
config_watch_begin(struct config_watch *w, const struct config *config, const struct timespec *began)
{
	struct state own = state_of_own(config), lists = state_of_lists(config);

	begin(&w->own, &own, began);
	begin(&w->lists, &lists, began);
}

/* They have not changed since the last look. */
static bool
is_quiet(struct watched_files *w, uint64_t now)
{
	bool same = now == w->seen;

	w->seen = now;
	return same;
}

static bool
is_news(struct watched_files *w)
{
	bool is_other = w->seen != w->loaded;

	w->loaded = w->seen;
	return is_other;
}

bool
config_watch_look(struct config_watch *w, const struct config *config)
{
	bool own_rest = is_quiet(&w->own, state_of_own(config).hash);
	bool lists_rest = is_quiet(&w->lists, state_of_lists(config).hash);
	bool is_own, is_list;

	if (!own_rest || !lists_rest)
		return false;
	is_own = is_news(&w->own);
	is_list = is_news(&w->lists);
	return is_own || is_list;
}

bool
config_watch_look_at_lists(struct config_watch *w, const struct config *config)
{
	return is_quiet(&w->lists, state_of_lists(config).hash) && is_news(&w->lists);
}

bool
config_watch_is_as_read(const struct config_watch *w, const struct config *config)
{
	return state_of_own(config).hash == w->own.seen; /* not loaded: that doubts of what is as young as the read */
}
