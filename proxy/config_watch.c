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
state_of(const struct config *config)
{
	struct state s = { .hash = 0xcbf29ce484222325ULL };

	for (size_t i = 0; i < config->file_count; i++)
		mix_file(&s, config->files[i]);
	for (size_t i = 0; i < config->glob_count; i++)
		mix_glob(&s, config->globs[i]);
	return s;
}

struct timespec
config_watch_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	return now;
}

void
config_watch_begin(struct config_watch *w, const struct config *config, const struct timespec *began)
{
	struct state s = state_of(config);

	w->seen = s.hash;
	w->loaded = is_before(&s.last, began) ? s.hash : ~s.hash;
}

bool
config_watch_look(struct config_watch *w, const struct config *config)
{
	uint64_t now = state_of(config).hash;
	bool is_quiet = now == w->seen;

	w->seen = now;
	if (!is_quiet || now == w->loaded)
		return false;
	w->loaded = now;
	return true;
}
