/*
 * proxy/check_programs.c - the programs that filters run, with the eyes of the user that runs them.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "filters/filter.h"
#include "proxy/check_private.h"

/* Without the sticky bit anybody may put another file in its place. */
static bool
is_open_folder(const char *path, char *folder, size_t size)
{
	struct stat st;

	check_parent(path, folder, size);
	return stat(folder, &st) == 0 && (st.st_mode & S_IWOTH) != 0 && (st.st_mode & S_ISVTX) == 0;
}

static void
check_program(const struct check *c, const struct config_word *word)
{
	const struct config_place *place = &word->place;
	const char *path = word->text;
	char folder[PATH_MAX];
	struct stat st;

	check_begin(c, place, path);
	if (stat(path, &st) < 0)
		check_error(c, place, "command: %s: %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		check_error(c, place, "command: %s is no program%s", path, S_ISDIR(st.st_mode) ? ", but a folder" : "");
	else if (access(path, X_OK) < 0)
		check_error(c, place, "command: %s cannot run %s: %s (try chmod a+rx)", c->whose, path, strerror(errno));
	else if ((st.st_mode & S_IWOTH) != 0)
		check_error(c, place, "command: anybody may write to %s (try chmod o-w)", path);
	else if (is_open_folder(path, folder, sizeof(folder)))
		check_error(c, place, "command: anybody may put another program into %s (try chmod o-w)", folder);
}

void
check_programs(struct check *c)
{
	const struct config_block *block;

	TAILQ_FOREACH(block, c->settings->config->top->blocks, next)
	{
		const struct filter_kind *kind = block->section->owner;
		bool is_filter = block->section->space != NULL && strcmp(block->section->space, "filter") == 0;

		if (is_filter && kind->program != NULL)
			check_program(c, &kind->program(block->data[1])->list[0]);
	}
}
