/*
 * proxy/check_files.c - files and folders that Postern will need, with the eyes of the user that it becomes.
 * Nothing is left behind: what would be made is not made, only where.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "filters/filter.h"
#include "proxy/check_private.h"
#include "proxy/helper_path.h"
#include "proxy/limits.h"
#include "proxy/secret.h"

/* ---- the spool, and the quarantine ---- */

/* It is made at the start, by root even where the user could not. */
static void
check_new_folder(const struct check *c, const struct config_place *place, const char *path)
{
	char parent[PATH_MAX];

	check_parent(path, parent, sizeof(parent));
	check_folder(c, place, "directory", parent, !c->was_root);
}

/* Some file systems have no files without a name: what is there then when the machine stops remains. */
static void
check_unnamed(const struct check *c, const struct config_place *place)
{
	const char *path = c->settings->spool.directory;
	int fd = open(path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0)
		close(fd);
	else if (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)
		check_warn(c, place, "directory: the file system of %s has no unnamed files: a crash may leave "
			"content.* behind (try a folder on a local file system)", path);
}

/* Ours may run; two that differ may not share it. */
static void
check_lock(const struct check *c, const struct config_place *place)
{
	pid_t pid = check_lock_holder(c->settings->spool.directory);

	if (pid > 0 && !check_is_ours(c->settings, pid))
		check_warn(c, place, "directory: a postern with another configuration (process %d) has %s; each needs one of its "
			"own", (int)pid, c->settings->spool.directory);
}

static void
check_spool(const struct check *c)
{
	struct settings *st = c->settings;
	const struct config_block *block = config_find_one(st->config->top, "spool");
	const struct config_place *place = check_place(c, block, "directory");
	struct stat status;
	struct err err;

	check_begin(c, place, st->spool.directory);
	if (lstat(st->spool.directory, &status) < 0 && errno == ENOENT) {
		check_new_folder(c, place, st->spool.directory);
		return;
	}
	if (spool_check(&st->spool, &err) < 0) {
		check_error(c, place, "%s", err.text);
		return;
	}
	check_lock(c, place);
	check_unnamed(c, place);
	if (spool_room(&st->spool, &err) < 0)
		check_warn(c, config_is_set(block, "min_free") ? check_place(c, block, "min_free") : place,
			"min_free: %s, so no mail would be taken", err.text);
}

static void
check_quarantine(const struct check *c)
{
	const struct quarantine_conf *conf = &c->settings->quarantine;
	const struct config_place *place = check_place(c, config_find_one(c->settings->config->top, "quarantine"), "directory");
	struct stat status;
	struct err err;

	if (conf->directory == NULL)
		return;
	check_begin(c, place, conf->directory);
	if (lstat(conf->directory, &status) < 0 && errno == ENOENT)
		check_new_folder(c, place, conf->directory);
	else if (quarantine_check(conf, &err) < 0)
		check_error(c, place, "%s", err.text);
}

/* ---- maildirs ---- */

static void
check_maildir(const struct check *c, const struct backend *b)
{
	static const char *const names[] = { "tmp", "new", "cur" };
	const struct config_place *place = check_place(c, b->block, "maildir");
	const char *path = b->conf.maildir;
	char folder[PATH_MAX];
	struct stat st;

	check_begin(c, place, path);
	if (stat(path, &st) < 0 && errno == ENOENT) {
		check_parent(path, folder, sizeof(folder));
		check_folder(c, place, "maildir", folder, true);
		return;
	}
	if (!check_folder(c, place, "maildir", path, true))
		return;
	for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
		snprintf(folder, sizeof(folder), "%.*s/%s", PATH_MAX - 10, path, names[i]);
		if (stat(folder, &st) == 0)
			check_folder(c, place, "maildir", folder, true);
	}
}

/* ---- single files ---- */

/* Not opened: whoever reads it would take that for a log that has ended. What /dev/stdout is here says nothing. */
static void
check_fifo(const struct check *c, const struct config_place *place, const char *path)
{
	if (strncmp(path, "/dev/", 5) != 0)
		check_warn(c, place, "to: %s is a FIFO: Postern starts only while somebody reads it, and loses lines that are "
			"not read in time", path);
}

static void
check_log(const struct check *c)
{
	const struct config_block *block = config_find_one(c->settings->config->top, "log");
	const struct config_place *place = check_place(c, block, "to");
	const char *path = c->settings->log.to;
	char folder[PATH_MAX];
	struct stat st;

	if (path[0] != '/')
		return;
	check_begin(c, place, path);
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
		check_error(c, place, "to: %s is a folder (try %s/postern.log)", path, path);
	} else if (access(path, F_OK) == 0) {
		if (access(path, W_OK) < 0)
			check_error(c, place, "to: %s cannot write %s: %s (try chown)", c->whose, path, strerror(errno));
		else if (S_ISFIFO(st.st_mode))
			check_fifo(c, place, path);
	} else {
		check_parent(path, folder, sizeof(folder));
		check_folder(c, place, "to", folder, true);
	}
}

/* Written before root is given up. */
static void
check_pid_file(const struct check *c)
{
	const char *path = c->settings->top.pid_file;
	const struct config_place *place = check_place(c, c->settings->config->top, "pid_file");
	char folder[PATH_MAX];
	struct stat st;

	if (path == NULL)
		return;
	check_begin(c, place, path);
	if (check_pid_file_holder(c->settings) > 0)
		return; /* one that runs has it, and at USR2 it keeps it */
	check_parent(path, folder, sizeof(folder));
	if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode))
		check_error(c, place, "pid_file: %s is not a regular file", path);
	else
		check_folder(c, place, "pid_file", folder, !c->was_root && access(path, W_OK) < 0);
}

static void
check_password(const struct check *c, const struct backend *b)
{
	const char *source = b->conf.auth_password_file;
	const struct config_place *place = check_place(c, b->block, "auth_password_file");
	bool is_credential = source != NULL && strncmp(source, "credential:", 11) == 0;
	struct err err;
	char *text;

	if (source == NULL)
		return;
	check_begin(c, place, source);
	if (secret_read(source, &text, &err) == 0)
		secret_free(&text);
	else if (is_credential && getenv("CREDENTIALS_DIRECTORY") == NULL)
		check_warn(c, place, "auth_password_file: %s cannot be looked at from here: CREDENTIALS_DIRECTORY is not set; "
			"systemd sets it for a unit with LoadCredential=%s:FILE", source, source + 11);
	else
		check_error(c, place, "auth_password_file: %s", err.text);
}

/* A socket that the user cannot unlink stays behind, and a reload cannot make it. */
static void
check_socket_folders(const struct check *c, const struct listener *l)
{
	const struct config_endpoints *listen = &l->conf.listen;
	char folder[PATH_MAX];

	for (size_t i = 0; c->was_root && geteuid() != 0 && i < listen->count; i++) {
		if (listen->list[i].kind != IP_UNIX)
			continue;
		check_begin(c, &listen->places[i], listen->list[i].host);
		check_parent(listen->list[i].host, folder, sizeof(folder));
		if (access(folder, F_OK) == 0 && access(folder, W_OK | X_OK) < 0)
			check_warn(c, &listen->places[i], "listen: %s cannot make files in %s, so it can neither remove this "
				"socket at a stop nor make it at a reload", c->whose, folder);
	}
}

/* The start reads them as root, a reload does not. */
static void
check_configuration(const struct check *c)
{
	const struct config *config = c->settings->config;

	for (size_t i = 0; i < config->file_count; i++) {
		check_begin(c, &config->top->place, config->files[i]);
		if (access(config->files[i], R_OK) < 0)
			check_warn(c, &config->top->place, "%s cannot read %s: %s, so a reload would fail (try chgrp to its group, and "
				"chmod 0640)", c->whose, config->files[i], strerror(errno));
	}
}

/* They are opened when mail asks for them. */
static void
check_tables(const struct check *c)
{
	const struct config *config = c->settings->config;
	const struct config_list_file *f;

	STAILQ_FOREACH(f, &config->lists, next)
	{
		if (!f->is_table)
			continue;
		check_begin(c, &config->top->place, f->name);
		if (access(f->name, R_OK) < 0)
			check_error(c, &config->top->place, "%s cannot read %s: %s, so its rules would answer 451 (try chgrp to its "
				"group, and chmod 0640)", c->whose, f->name, strerror(errno));
	}
}

/* ---- helpers, descriptors ---- */

static void
check_helper(const struct check *c)
{
	const struct config_block *block;
	char path[PATH_MAX];

	helper_path_find(path, sizeof(path));
	TAILQ_FOREACH(block, c->settings->config->top->blocks, next) {
		const struct filter_kind *kind = block->section->owner;

		if (kind == NULL || kind->job == NULL)
			continue;
		check_begin(c, &block->place, path);
		if (access(path, X_OK) < 0)
			check_warn(c, &block->place, "%s %s: %s cannot run its helper program %s: %s", kind->section.name,
				block->name, c->whose, path, strerror(errno));
	}
}

/* ---- filters ---- */

struct filter_look {
	const struct check *check;
	const struct config_block *block;
};

static void
warn_of_filter(void *owner, const char *option, const char *text)
{
	const struct filter_look *look = owner;
	const struct config_place *place =
		config_is_set(look->block, option) ? config_place_of(look->block, option) : &look->block->place;

	check_warn(look->check, place, "%s: %s", option, text);
}

/* 0: any. */
static int64_t
largest_message(const struct settings *st)
{
	int64_t max = 0;

	for (int i = 0; i < st->listener_count; i++) {
		if (st->listeners[i].conf.smtp.max_message == 0)
			return 0;
		if (st->listeners[i].conf.smtp.max_message > max)
			max = st->listeners[i].conf.smtp.max_message;
	}
	return max;
}

static void
check_filters(const struct check *c)
{
	const struct config_block *block;

	TAILQ_FOREACH(block, c->settings->config->top->blocks, next) {
		const struct filter_kind *kind = block->section->owner;
		struct filter_look look = { .check = c, .block = block };

		if (kind == NULL || kind->check == NULL)
			continue;
		check_begin(c, &block->place, block->name);
		kind->check(block->data[1], largest_message(c->settings), warn_of_filter, &look);
	}
}

/* The service may have another limit than this shell. */
static void
check_descriptors(const struct check *c)
{
	const struct settings *st = c->settings;
	struct rlimit rl;
	long needs = limits_descriptors(st, st->top.max_connections);

	if (st->top.max_connections > 0 && getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_max < (rlim_t)needs)
		check_warn(c, check_place(c, st->config->top, "max_connections"),
			"max_connections: %d need %ld open files, the limit here is %ju (try ulimit -Hn %ld, or LimitNOFILE=%ld "
			"in the unit)", st->top.max_connections, needs, (uintmax_t)rl.rlim_max, needs, needs);
}

void
check_files(struct check *c)
{
	struct settings *st = c->settings;

	check_configuration(c);
	check_tables(c);
	check_spool(c);
	check_quarantine(c);
	check_log(c);
	check_pid_file(c);
	for (int i = 0; i < st->backend_count; i++) {
		if (st->backends[i].kind == BACKEND_MAILDIR)
			check_maildir(c, &st->backends[i]);
		if (st->backends[i].kind == BACKEND_SMTP)
			check_password(c, &st->backends[i]);
	}
	for (int i = 0; i < st->listener_count; i++)
		check_socket_folders(c, &st->listeners[i]);
	check_helper(c);
	check_programs(c);
	check_descriptors(c);
	check_filters(c);
}
