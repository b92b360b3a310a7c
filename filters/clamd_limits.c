/* filters/clamd_limits.c - a few lines of clamd.conf, compared with ours. */
#include "filters/clamd_limits.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/list.h"
#include "base/str.h"

#define FILE_MAX (1024 * 1024)
#define MEGA	 (INT64_C(1) << 20)

/* 25M; no number: as if nothing stood there, since clamd would not start. */
static void
take_size(const char *value, int64_t *size)
{
	char *end;
	int64_t n = strtoll(value, &end, 10);

	if (end == value || n < 0 || n > INT64_MAX >> 30)
		return;
	switch (tolower((unsigned char)*end)) {
	case 'g':
		n <<= 10; /* fallthrough */
	case 'm':
		n <<= 10; /* fallthrough */
	case 'k':
		n <<= 10;
	}
	*size = n;
}

static bool
is_yes(const char *value)
{
	return strcasecmp(value, "yes") == 0 || strcasecmp(value, "true") == 0 || strcmp(value, "1") == 0;
}

static void
take_line(char *line, struct clamd_limits *l)
{
	char *save, *name = strtok_r(line, " \t\r", &save), *value = strtok_r(NULL, " \t\r", &save);

	if (name == NULL || value == NULL)
		return;
	if (strcasecmp(name, "StreamMaxLength") == 0)
		take_size(value, &l->stream_max);
	else if (strcasecmp(name, "MaxFileSize") == 0)
		take_size(value, &l->file_max);
	else if (strcasecmp(name, "MaxScanSize") == 0)
		take_size(value, &l->scan_max);
	else if (strcasecmp(name, "AlertExceedsMax") == 0)
		l->alerts_exceeded = is_yes(value);
	else if (strcasecmp(name, "AlertEncrypted") == 0)
		l->alerts_encrypted = is_yes(value);
}

void
clamd_limits_parse(const char *text, size_t len, struct clamd_limits *limits_r)
{
	*limits_r = (struct clamd_limits){.stream_max = 100 * MEGA, .file_max = 100 * MEGA, .scan_max = 400 * MEGA};
	while (len > 0) {
		const char *end = memchr(text, '\n', len);
		size_t n = end != NULL ? (size_t)(end - text) : len;
		char line[256];

		snprintf(line, sizeof(line), "%.*s", n < sizeof(line) ? (int)n : (int)sizeof(line), text);
		take_line(line, limits_r);
		n += end != NULL;
		text += n;
		len -= n;
	}
}

int
clamd_limits_read(const char *path, struct clamd_limits *limits_r, struct err *err)
{
	struct str text = STR_INIT;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return err_sys(err, "%s", path);
	str_reserve(&text, FILE_MAX);
	n = read(fd, text.data, FILE_MAX);
	if (n < 0)
		err_sys(err, "%s", path);
	else
		clamd_limits_parse(text.data, (size_t)n, limits_r);
	close(fd);
	str_deinit(&text);
	return n < 0 ? -1 : 0;
}

static void
size_text(int64_t size, char *dst, size_t room)
{
	if (size >= MEGA && size % MEGA == 0)
		snprintf(dst, room, "%" PRId64 "M", size / MEGA);
	else
		snprintf(dst, room, "%" PRId64, size);
}

/* What clamd does with a larger one: an error, or it does not look. */
static void
compare(const char *name, int64_t limit, int64_t size_max, const char *effect, const char *path, filter_warn_fn warn,
	void *owner)
{
	char text[500], has[32], needs[32];

	if (limit == 0 || (size_max != 0 && limit >= size_max))
		return;
	size_text(limit, has, sizeof(has));
	size_text(size_max, needs, sizeof(needs));
	snprintf(text, sizeof(text), "%s in %s is %s, and a message may have %s: %s", name, path, has,
		size_max != 0 ? needs : "any size", effect);
	warn(owner, "config_file", text);
}

void
clamd_limits_compare(const struct clamd_limits *l, const char *path, int64_t size_max, bool is_stream,
	filter_warn_fn warn, void *owner)
{
	const char *silent = l->alerts_exceeded ? "a larger one counts as a find" : "a larger one counts as clean";
	char text[500];

	if (is_stream)
		compare("StreamMaxLength", l->stream_max, size_max, "a larger one is what oversize says", path, warn, owner);
	compare("MaxFileSize", l->file_max, size_max, silent, path, warn, owner);
	compare("MaxScanSize", l->scan_max, size_max, silent, path, warn, owner);
	if (!l->alerts_exceeded) {
		snprintf(text, sizeof(text), "AlertExceedsMax is off in %s: what clamd does not look at because of its limits "
			"counts as clean (try AlertExceedsMax yes)", path);
		warn(owner, "config_file", text);
	}
	if (!l->alerts_encrypted) {
		snprintf(text, sizeof(text), "AlertEncrypted is off in %s: archives that clamd cannot open count as clean",
			path);
		warn(owner, "config_file", text);
	}
}
