/*
 * spool/quarantine.c - entries: prepared below tmp/, committed by a rename.
 */
#include "spool/quarantine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/xalloc.h"
#include "mail/view.h"
#include "spool/folder.h"

#define TMP_FOLDER "tmp"
#define ID_TRIES   10

const struct config_option quarantine_options[] = {
	CONFIG_STRING("directory", struct quarantine_conf, directory, NULL,
		"the folder for messages that a verdict sets aside, each with its envelope and the reason; an absolute path, "
		"on a local file system, with mode 0700, such as /var/lib/postern/quarantine. When not given, there is no "
		"quarantine, and nothing may ask for it"),
	CONFIG_END,
};

struct quarantine_entry {
	char *directory;
	char id[QUARANTINE_ID_SIZE];
	int dir, tmp; /* the quarantine, and its tmp/ */
	int fd;	      /* of the entry's folder, locked */
	bool is_committed;
};

int
quarantine_check(const struct quarantine_conf *conf, struct err *err)
{
	return conf->directory == NULL ? 0 : folder_check(conf->directory, "quarantine", err);
}

static int
fail(struct err *err, const char *directory, const char *what)
{
	err_sys(err, "quarantine %s: %s", directory, what);
	err->temporary = true;
	return -1;
}

static int
open_folder(int parent, const char *name)
{
	return openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* ---- metadata ---- */

/* What others said may hold anything; JSON holds UTF-8. */
static json_t *
text(const char *value)
{
	json_t *json = json_string(value);
	size_t len = strlen(value);
	char *clean;

	if (json != NULL)
		return json;
	clean = xmalloc(len + 1);
	str_clean(clean, len, value, len, true);
	json = json_string(clean);
	free(clean);
	return json;
}

/* Members that are not known are left out. */
static void
put_text(json_t *in, const char *key, const char *value)
{
	if (value != NULL)
		json_object_set_new(in, key, text(value));
}

static bool
is_utf8(const char *text)
{
	for (size_t n, left = strlen(text); left > 0; text += n, left -= n)
		if ((n = str_utf8_len(text, left)) == 0)
			return false;
	return true;
}

/* An address is what the message will be sent to one day: it is kept as it is, or the entry is not made. Those of
 * the parsers always are. */
static bool
has_plain_addresses(const struct quarantine_mail *mail)
{
	for (size_t i = 0; i < mail->rcpt_count; i++)
		if (!is_utf8(mail->rcpts[i]->addr))
			return false;
	return is_utf8(mail->sender->addr);
}

static void
put_addr(json_t *in, const char *addr)
{
	json_object_set_new(in, "address", json_string(addr));
}

static void
put_time(json_t *in, int64_t ms)
{
	time_t seconds = (time_t)(ms / 1000);
	char date[32], whole[48];
	struct tm tm;

	gmtime_r(&seconds, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(whole, sizeof(whole), "%s.%03dZ", date, (int)(ms % 1000));
	json_object_set_new(in, "time", json_string(whole));
}

static json_t *
sender_json(const struct mail_sender *sender)
{
	static const char *const bodies[] = {
		[MAIL_BODY_UNSET] = NULL, [MAIL_BODY_7BIT] = "7BIT", [MAIL_BODY_8BITMIME] = "8BITMIME" };
	static const char *const rets[] = {
		[MAIL_RET_UNSET] = NULL, [MAIL_RET_FULL] = "FULL", [MAIL_RET_HDRS] = "HDRS" };
	json_t *json = json_object();

	put_addr(json, sender->addr);
	if (sender->size >= 0)
		json_object_set_new(json, "size", json_integer(sender->size));
	put_text(json, "body", bodies[sender->body]);
	if (sender->smtputf8)
		json_object_set_new(json, "smtputf8", json_true());
	put_text(json, "ret", rets[sender->ret]);
	put_text(json, "envid", sender->envid);
	put_text(json, "auth", sender->auth);
	return json;
}

static json_t *
rcpts_json(const struct quarantine_mail *mail)
{
	json_t *list = json_array();

	for (size_t i = 0; i < mail->rcpt_count; i++) {
		json_t *json = json_object();

		put_addr(json, mail->rcpts[i]->addr);
		put_text(json, "notify", mail->rcpts[i]->notify);
		put_text(json, "orcpt", mail->rcpts[i]->orcpt);
		json_array_append_new(list, json);
	}
	return list;
}

static void
put_origin(json_t *in, const struct mail_origin *origin)
{
	put_text(in, "listener", origin->listener);
	put_text(in, "client", origin->client_port_text);
	put_text(in, "helo", origin->helo);
	put_text(in, "protocol", origin->protocol);
	put_text(in, "tls", origin->tls_version);
	put_text(in, "cert", origin->tls_cert);
}

static char *
metadata(const struct quarantine_entry *entry, const struct quarantine_mail *mail)
{
	json_t *json = json_object();
	char *out;

	json_object_set_new(json, "version", json_integer(QUARANTINE_VERSION));
	put_text(json, "id", entry->id);
	put_time(json, clock_wall_ms());
	put_text(json, "verdict", mail->verdict);
	put_text(json, "filter", mail->filter);
	put_text(json, "reason", mail->reason);
	put_text(json, "session", mail->session);
	put_text(json, "front", mail->front_id);
	put_origin(json, mail->origin);
	json_object_set_new(json, "sender", sender_json(mail->sender));
	json_object_set_new(json, "recipients", rcpts_json(mail));
	json_object_set_new(json, "size", json_integer(mail_view_size(mail->body, mail->edits)));
	put_text(json, "msgid", mail->msgid);
	out = json_dumps(json, JSON_INDENT(1));
	json_decref(json);
	return out;
}

/* ---- writing ---- */

static int
create(const struct quarantine_entry *entry, const char *name)
{
	return openat(entry->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

/* rc is what the writing came to. */
static int
finish(int fd, int rc)
{
	if (rc == 0)
		rc = fsync(fd);
	if (rc < 0) {
		int saved = errno;

		close(fd);
		errno = saved;
		return -1;
	}
	return close(fd);
}

static int
write_message(const struct quarantine_entry *entry, const struct quarantine_mail *mail)
{
	int fd = create(entry, QUARANTINE_MESSAGE);

	return fd < 0 ? -1 : finish(fd, mail_view_write(mail->body, mail->edits, fd));
}

static int
write_metadata(const struct quarantine_entry *entry, const struct quarantine_mail *mail)
{
	char *json = metadata(entry, mail);
	int fd = create(entry, QUARANTINE_METADATA);
	int rc = fd < 0 ? -1 : finish(fd, fd_write_all(fd, json, strlen(json)));

	free(json);
	return rc;
}

/* ---- the entry's folder ---- */

/* "20261124T161319.482913Z-9c21af03" */
static void
make_id(char id[QUARANTINE_ID_SIZE])
{
	struct timespec now;
	unsigned random = 0;
	char date[32];
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = (unsigned)now.tv_nsec ^ (unsigned)getpid() << 16;
	gmtime_r(&now.tv_sec, &tm);
	strftime(date, sizeof(date), "%Y%m%dT%H%M%S", &tm);
	snprintf(id, QUARANTINE_ID_SIZE, "%s.%06uZ-%08x", date, (unsigned)(now.tv_nsec / 1000) % 1000000, random);
}

/* Locked before anything is in it, so that a sweep of another engine does not take it for a left one. */
static int
open_entry(struct quarantine_entry *entry)
{
	int rc = -1;

	for (int i = 0; i < ID_TRIES && rc < 0; i++) {
		make_id(entry->id);
		rc = mkdirat(entry->tmp, entry->id, 0700);
		if (rc < 0 && errno != EEXIST)
			return -1;
	}
	if (rc < 0)
		return -1;
	entry->fd = open_folder(entry->tmp, entry->id);
	return entry->fd < 0 ? -1 : flock(entry->fd, LOCK_EX | LOCK_NB);
}

static int
open_folders(struct quarantine_entry *entry)
{
	entry->dir = open_folder(AT_FDCWD, entry->directory);
	if (entry->dir < 0)
		return -1;
	if (mkdirat(entry->dir, TMP_FOLDER, 0700) < 0 && errno != EEXIST)
		return -1;
	entry->tmp = open_folder(entry->dir, TMP_FOLDER);
	return entry->tmp < 0 ? -1 : 0;
}

static int
prepare(struct quarantine_entry *entry, const struct quarantine_mail *mail, struct err *err)
{
	if (!has_plain_addresses(mail))
		return err_set_temp(err, "quarantine %s: an address is not UTF-8", entry->directory);
	if (open_folders(entry) < 0)
		return fail(err, entry->directory, "cannot open it");
	if (open_entry(entry) < 0)
		return fail(err, entry->directory, "cannot make a folder in tmp");
	if (write_message(entry, mail) < 0 || write_metadata(entry, mail) < 0 || fsync(entry->fd) < 0)
		return fail(err, entry->directory, "cannot write the message");
	return 0;
}

struct quarantine_entry *
quarantine_prepare(const char *directory, const struct quarantine_mail *mail, struct err *err)
{
	struct quarantine_entry *entry = xcalloc(1, sizeof(*entry));

	entry->directory = xstrdup(directory);
	entry->dir = entry->tmp = entry->fd = -1;
	if (prepare(entry, mail, err) < 0)
		quarantine_drop(&entry);
	return entry;
}

int
quarantine_commit(struct quarantine_entry *entry, struct err *err)
{
	/* A folder with something in it is never replaced. */
	if (renameat(entry->tmp, entry->id, entry->dir, entry->id) < 0)
		return fail(err, entry->directory, "cannot move the message out of tmp");
	entry->is_committed = true;
	if (fsync(entry->dir) < 0)
		return fail(err, entry->directory, "cannot sync it");
	return 0;
}

const char *
quarantine_id(const struct quarantine_entry *entry)
{
	return entry->id;
}

static void
close_some(int fd)
{
	if (fd >= 0)
		close(fd);
}

void
quarantine_keep(struct quarantine_entry **entry_p)
{
	struct quarantine_entry *entry = *entry_p;

	*entry_p = NULL;
	if (entry == NULL)
		return;
	close_some(entry->fd);
	close_some(entry->tmp);
	close_some(entry->dir);
	free(entry->directory);
	free(entry);
}

/* What of it there is. */
static void
remove_entry(int tmp, const char *id, int fd)
{
	unlinkat(fd, QUARANTINE_METADATA, 0);
	unlinkat(fd, QUARANTINE_MESSAGE, 0);
	unlinkat(tmp, id, AT_REMOVEDIR);
}

void
quarantine_drop(struct quarantine_entry **entry_p)
{
	struct quarantine_entry *entry = *entry_p;

	if (entry == NULL)
		return;
	/* Out of sight at once, or not at all: half an entry is never seen. */
	if (entry->is_committed && renameat(entry->dir, entry->id, entry->tmp, entry->id) < 0) {
		quarantine_keep(entry_p);
		return;
	}
	if (entry->fd >= 0)
		remove_entry(entry->tmp, entry->id, entry->fd);
	else if (entry->id[0] != '\0')
		unlinkat(entry->tmp, entry->id, AT_REMOVEDIR);
	quarantine_keep(entry_p);
}

/* ---- what a crash has left ---- */

/* Whoever commits an entry moves it first and unlocks it then: one that is not locked, and still here, is nobody's. */
static bool
is_nobodys(int tmp, const char *name, int fd)
{
	struct stat opened, here;

	return flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &opened) == 0 &&
	       fstatat(tmp, name, &here, AT_SYMLINK_NOFOLLOW) == 0 && here.st_ino == opened.st_ino;
}

static bool
sweep_one(int tmp, const char *name)
{
	int fd = open_folder(tmp, name);
	bool is_left = fd >= 0 && is_nobodys(tmp, name, fd);

	if (is_left)
		remove_entry(tmp, name, fd);
	close_some(fd);
	return is_left;
}

unsigned
quarantine_sweep(const char *directory)
{
	int dir = open_folder(AT_FDCWD, directory), tmp = dir < 0 ? -1 : open_folder(dir, TMP_FOLDER);
	DIR *list = tmp < 0 ? NULL : fdopendir(tmp);
	struct dirent *entry;
	unsigned n = 0;

	while (list != NULL && (entry = readdir(list)) != NULL)
		if (entry->d_name[0] != '.')
			n += sweep_one(tmp, entry->d_name);
	if (list != NULL)
		closedir(list);
	else
		close_some(tmp);
	close_some(dir);
	return n;
}
