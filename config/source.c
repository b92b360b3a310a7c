/*
 * config/source.c - reading configuration files.
 */
#include "config/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "base/xalloc.h"

#define FILE_MAX  ((size_t)16 << 20)
#define LINE_MAX_ ((size_t)64 << 10)
#define READ_SIZE ((size_t)64 << 10)

/* Reads at most one octet more than allowed. */
static int
read_all(int fd, struct str *text)
{
	ssize_t n;

	do {
		str_reserve(text, READ_SIZE);
		n = read(fd, text->data + text->len, READ_SIZE);
		if (n > 0)
			text->len += (size_t)n;
	} while ((n > 0 && text->len <= FILE_MAX) || (n < 0 && errno == EINTR));
	return n < 0 ? -1 : 0;
}

/* FNV-1a; tells apart what an editor did between two readings, not what an enemy did. */
static void
digest_add(uint64_t *digest, const char *data, size_t len)
{
	uint64_t x = *digest;
	size_t i;

	for (i = 0; i < len; i++)
		x = (x ^ (unsigned char)data[i]) * 0x100000001b3ULL;
	*digest = x;
}

/* NULL: it is known already. */
static struct config_list_file *
new_list(struct config *conf, const char *name)
{
	struct config_list_file *f;

	STAILQ_FOREACH(f, &conf->lists, next)
		if (strcmp(f->name, name) == 0)
			return NULL;
	f = arena_zalloc(conf->arena, sizeof(*f));
	f->name = name;
	STAILQ_INSERT_TAIL(&conf->lists, f, next);
	return f;
}

static void
note_list(struct config *conf, const struct config_source *source)
{
	struct config_list_file *f = new_list(conf, source->name);

	if (f == NULL)
		return;
	digest_add(&f->digest, source->text, source->len);
	for (size_t i = 0; i < source->len; i++)
		f->lines += source->text[i] == '\n';
}

void
config_source_note_table(struct config *conf, const char *path)
{
	struct config_list_file *f = new_list(conf, path);

	if (f != NULL)
		f->is_table = true;
}

/* Before it is opened: one that cannot be read may come, or become readable. */
static void
note_file(struct config *conf, const char *name, bool is_own)
{
	size_t count = conf->file_count;

	if ((count & (count - 1)) == 0) { /* full at each power of 2 */
		const char **grown = arena_alloc(conf->arena, (count * 2 + 1) * sizeof(char *));

		if (count != 0)
			memcpy(grown, conf->files, count * sizeof(char *));
		conf->files = grown;
	}
	conf->files[conf->file_count++] = name;
	if (is_own)
		conf->own_count = conf->file_count;
	digest_add(&conf->digest, name, strlen(name) + 1);
}

/* The name stands in front either way: as a place, or in the text behind the option's place. */
__attribute__((format(printf, 5, 6))) static int
refuse(struct config *conf, const char *option, const struct config_place *from, const char *name,
	const char *fmt, ...)
{
	struct config_place whole = {.file = name};
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (from != NULL)
		config_error(conf, from, "%s: %s: %s", option, name, text);
	else
		config_error(conf, &whole, "%s", text);
	return -1;
}

int
config_source_read(struct config *conf, const char *name, const char *option,
	const struct config_place *from, struct config_source *source_r)
{
	const bool is_own = option == NULL || strcmp(option, "include") == 0;
	struct str text = STR_INIT;
	struct stat st;
	int fd, rc = -1;

	*source_r = (struct config_source){.name = arena_strdup(conf->arena, name)};
	note_file(conf, source_r->name, is_own);
	fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return refuse(conf, option, from, source_r->name, "%s%s", strerror(errno),
			from == NULL && errno == ENOENT ? " (postern -T default prints one to begin with)"
			: errno == EACCES ? " (the user that Postern becomes must be able to read it)" : "");
	if (fstat(fd, &st) < 0) {
		refuse(conf, option, from, source_r->name, "%s", strerror(errno));
	} else if (S_ISDIR(st.st_mode)) {
		refuse(conf, option, from, source_r->name, "is a directory%s",
			option != NULL && is_own ? " (try its files: DIRECTORY/*.conf)" : " (try a file in it)");
	} else if (read_all(fd, &text) < 0) {
		refuse(conf, option, from, source_r->name, "%s", strerror(errno));
	} else if (text.len > FILE_MAX) {
		refuse(conf, option, from, source_r->name, "is larger than 16 MiB");
	} else {
		source_r->text = arena_strndup(conf->arena, str_text(&text), text.len);
		source_r->len = text.len;
		source_r->dev = st.st_dev;
		source_r->ino = st.st_ino;
		digest_add(&conf->digest, source_r->text, source_r->len);
		if (!is_own)
			note_list(conf, source_r);
		rc = 0;
	}
	close(fd);
	str_deinit(&text);
	return rc;
}

const char *
config_source_path(struct config *conf, const char *file, const char *path)
{
	const char *slash = strrchr(file, '/');

	if (*path == '/' || slash == NULL)
		return path;
	return arena_printf(conf->arena, "%.*s/%s", (int)(slash - file), file, path);
}

int
config_source_check(struct config *conf, const struct config_source *source)
{
	const char *s = source->text, *end = s + source->len, *nul, *line_end;
	struct config_place place = {.file = source->name, .line = 1, .column = 1};

	nul = memchr(s, '\0', source->len);
	for (; s < end; s = line_end + 1, place.line++) {
		line_end = memchr(s, '\n', (size_t)(end - s));
		if (line_end == NULL)
			line_end = end;
		if (nul != NULL && nul < line_end) {
			place.column = (int)(nul - s) + 1;
			config_error(conf, &place, "a NUL octet: this is not a text file");
			return -1;
		}
		if ((size_t)(line_end - s) > LINE_MAX_) {
			config_error(conf, &place, "the line is longer than 64 KiB");
			return -1;
		}
		if (line_end == end)
			break;
	}
	return 0;
}
