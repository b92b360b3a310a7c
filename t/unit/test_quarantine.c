/*
 * t/unit/test_quarantine.c - entries of the quarantine: whole, synced, or not there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "spool/quarantine.h"
#include "t/unit/content.h"

static char parent[sizeof(P_tmpdir) + 32];

static int
make_parent(void **state)
{
	(void)state;
	snprintf(parent, sizeof(parent), "%s/test_quarantine.XXXXXX", P_tmpdir);
	signal(SIGXFSZ, SIG_IGN);
	return mkdtemp(parent) != NULL && chdir(parent) == 0 && mkdir("q", 0700) == 0 ? 0 : -1;
}

static int
remove_parent(void **state)
{
	(void)state;
	return rmdir("q/tmp") == 0 && rmdir("q") == 0 ? rmdir(parent) : -1;
}

/* How many entries there are in a folder, but for tmp. The last one's name. */
static char last[NAME_MAX + 1];

static size_t
count(const char *folder)
{
	DIR *dir = opendir(folder);
	struct dirent *entry;
	size_t n = 0;

	for (; dir != NULL && (entry = readdir(dir)) != NULL;) {
		if (entry->d_name[0] == '.' || strcmp(entry->d_name, "tmp") == 0)
			continue;
		snprintf(last, sizeof(last), "%s", entry->d_name);
		n++;
	}
	if (dir != NULL)
		closedir(dir);
	return n;
}

static const struct mail_origin origin = {
	.client_port_text = "192.0.2.7:40112",
	.helo = "mx.example.net\377",
	.protocol = "ESMTPS",
	.listener = "front",
	.tls_version = "TLSv1.3",
};
static const struct mail_sender sender = {
	.addr = "bob@example.net", .size = 77, .body = MAIL_BODY_8BITMIME, .ret = MAIL_RET_HDRS, .envid = "a+2Bb" };
static const struct mail_rcpt ann = { .addr = "ann@example.org", .notify = "NEVER", .orcpt = "rfc822;a@example.org" };
static const struct mail_rcpt odd = { .addr = "\"a b\"@\xc3\xa4.example" };
static const struct mail_rcpt *const rcpts[] = { &ann, &odd };

static struct quarantine_entry *
prepare(const struct mail_body *body, const struct mail_edits *edits, struct err *err)
{
	const struct quarantine_mail mail = {
		.verdict = "quarantine",
		.filter = "virus",
		.reason = "Eicar \"found\"",
		.session = "7f3a01-1",
		.msgid = "<1@example.net>",
		.origin = &origin,
		.sender = &sender,
		.rcpts = rcpts,
		.rcpt_count = 2,
		.body = body,
		.edits = edits,
	};

	return quarantine_prepare("q", &mail, err);
}

static const char *
member(const json_t *json, const char *key)
{
	const char *value = json_string_value(json_object_get(json, key));

	return value != NULL ? value : "(none)";
}

static void
check_metadata(const char *path, const char *id)
{
	json_t *json = json_load_file(path, 0, NULL), *one;

	assert_non_null(json);
	assert_int_equal(json_integer_value(json_object_get(json, "version")), 1);
	assert_string_equal(member(json, "id"), id);
	assert_string_equal(member(json, "reason"), "Eicar \"found\"");
	assert_string_equal(member(json, "filter"), "virus");
	assert_string_equal(member(json, "verdict"), "quarantine");
	assert_string_equal(member(json, "client"), "192.0.2.7:40112");
	assert_string_equal(member(json, "helo"), "mx.example.net?");
	assert_string_equal(member(json, "tls"), "TLSv1.3");
	assert_string_equal(member(json, "cert"), "(none)");
	assert_string_equal(member(json, "session"), "7f3a01-1");
	assert_int_equal(json_integer_value(json_object_get(json, "size")), 27);
	one = json_object_get(json, "sender");
	assert_string_equal(member(one, "address"), "bob@example.net");
	assert_int_equal(json_integer_value(json_object_get(one, "size")), 77);
	assert_string_equal(member(one, "body"), "8BITMIME");
	assert_string_equal(member(one, "ret"), "HDRS");
	assert_string_equal(member(one, "envid"), "a+2Bb");
	assert_int_equal(json_array_size(json_object_get(json, "recipients")), 2);
	one = json_array_get(json_object_get(json, "recipients"), 0);
	assert_string_equal(member(one, "address"), "ann@example.org");
	assert_string_equal(member(one, "notify"), "NEVER");
	assert_string_equal(member(one, "orcpt"), "rfc822;a@example.org");
	assert_string_equal(member(json_array_get(json_object_get(json, "recipients"), 1), "address"),
		"\"a b\"@\xc3\xa4.example");
	json_decref(json);
}

static void
an_entry_appears_whole_by_its_commit(void **state)
{
	struct arena *arena = arena_new();
	struct mail_edits edits;
	struct quarantine_entry *entry;
	struct mail_body body;
	char path[PATH_MAX], text[100];
	struct stat st;
	struct err err;
	ssize_t n;
	int fd;

	(void)state;
	mail_edits_init(&edits, arena);
	mail_edit_prepend(&edits, "X: 1\r\n");
	content_init(&body, "Subject: x\r\n\r\n.dot\r\nx");
	entry = prepare(&body, &edits, &err);
	assert_non_null(entry);
	assert_int_equal(count("q"), 0);
	assert_int_equal(count("q/tmp"), 1);
	assert_int_equal(quarantine_commit(entry, &err), 0);
	assert_int_equal(count("q"), 1);
	assert_int_equal(count("q/tmp"), 0);
	snprintf(path, sizeof(path), "q/%s", quarantine_id(entry));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	snprintf(path, sizeof(path), "q/%s/message", quarantine_id(entry));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	fd = open(path, O_RDONLY);
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	assert_string_equal(text, "X: 1\r\nSubject: x\r\n\r\n.dot\r\nx");
	snprintf(path, sizeof(path), "q/%s/metadata.json", quarantine_id(entry));
	check_metadata(path, quarantine_id(entry));
	quarantine_drop(&entry);
	assert_null(entry);
	assert_int_equal(count("q") + count("q/tmp"), 0);
	mail_body_deinit(&body);
	arena_free(&arena);
}

static void
ids_sort_by_time_and_differ(void **state)
{
	char before[QUARANTINE_ID_SIZE] = "";
	struct mail_body body;
	struct err err;

	(void)state;
	content_init(&body, "x\r\n");
	for (int i = 0; i < 20; i++) {
		struct quarantine_entry *entry = prepare(&body, NULL, &err);

		assert_non_null(entry);
		assert_true(strcmp(quarantine_id(entry), before) > 0);
		assert_int_equal(strlen(quarantine_id(entry)), 32);
		assert_int_equal(strspn(quarantine_id(entry), "0123456789abcdefTZ.-"), 32);
		strcpy(before, quarantine_id(entry));
		quarantine_drop(&entry);
	}
	mail_body_deinit(&body);
}

static void
a_sweep_takes_what_nobody_holds(void **state)
{
	struct quarantine_entry *held, *left, *kept;
	struct mail_body body;
	struct err err;

	(void)state;
	content_init(&body, "x\r\n");
	held = prepare(&body, NULL, &err);
	left = prepare(&body, NULL, &err);
	kept = prepare(&body, NULL, &err);
	assert_int_equal(quarantine_commit(kept, &err), 0);
	quarantine_keep(&left); /* as when its engine was killed */
	assert_int_equal(count("q/tmp"), 2);
	assert_int_equal(quarantine_sweep("q"), 1);
	assert_int_equal(count("q/tmp"), 1);
	assert_string_equal(last, quarantine_id(held));
	assert_int_equal(count("q"), 1);
	assert_int_equal(quarantine_commit(held, &err), 0);
	assert_int_equal(quarantine_sweep("q"), 0);
	assert_int_equal(count("q"), 2);
	quarantine_drop(&held);
	quarantine_drop(&kept);
	assert_int_equal(quarantine_sweep("missing"), 0);
	mail_body_deinit(&body);
}

static void
assert_fails(const struct mail_body *body, const char *why)
{
	struct err err = { 0 };

	assert_null(prepare(body, NULL, &err));
	assert_true(err.temporary);
	assert_non_null(strstr(err.text, why));
}

static void
a_failure_is_temporary_and_leaves_nothing(void **state)
{
	struct quarantine_entry *entry;
	struct rlimit limit;
	struct mail_body body;
	char path[PATH_MAX];
	struct err err;

	(void)state;
	content_init(&body, "a message that is longer than the limit\r\n");
	getrlimit(RLIMIT_FSIZE, &limit);
	for (rlim_t octets = 10; octets < 110; octets += 90) { /* the message, the metadata */
		limit.rlim_cur = octets;
		setrlimit(RLIMIT_FSIZE, &limit);
		assert_fails(&body, "cannot write the message: File too large");
		assert_int_equal(count("q/tmp"), 0);
	}
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_FSIZE, &limit);

	assert_int_equal(rename("q", "p"), 0);
	assert_fails(&body, "cannot open it: No such file");
	close(open("q", O_CREAT | O_WRONLY, 0600));
	assert_fails(&body, "cannot open it: Not a directory");
	assert_int_equal(unlink("q") + rename("p", "q"), 0);
	assert_int_equal(rename("q/tmp", "q/was"), 0);
	close(open("q/tmp", O_CREAT | O_WRONLY, 0600));
	assert_fails(&body, "cannot open it: Not a directory");
	assert_int_equal(unlink("q/tmp") + rename("q/was", "q/tmp"), 0);

	/* What stands in its place is not replaced. */
	entry = prepare(&body, NULL, &err);
	snprintf(path, sizeof(path), "q/%s", quarantine_id(entry));
	close(open(path, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(quarantine_commit(entry, &err), -1);
	assert_true(err.temporary);
	quarantine_drop(&entry);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(count("q") + count("q/tmp"), 0);
	mail_body_deinit(&body);
}

static void
an_address_that_json_cannot_hold_makes_no_entry(void **state)
{
	const struct mail_rcpt bad = { .addr = "a\377@example.org" };
	const struct mail_rcpt *const list[] = { &ann, &bad };
	struct quarantine_mail mail = { .origin = &origin, .sender = &sender, .rcpts = list, .rcpt_count = 2 };
	struct mail_body body;
	struct err err;

	(void)state;
	content_init(&body, "x\r\n");
	mail.body = &body;
	assert_null(quarantine_prepare("q", &mail, &err));
	assert_true(err.temporary);
	assert_int_equal(count("q/tmp"), 0);
	mail_body_deinit(&body);
}

static void
no_descriptor_stays_open(void **state)
{
	struct quarantine_entry *entry;
	struct mail_body body;
	struct err err;
	int before = dup(0);

	(void)state;
	close(before);
	content_init(&body, "x\r\n");
	entry = prepare(&body, NULL, &err);
	quarantine_commit(entry, &err);
	quarantine_drop(&entry);
	assert_null(quarantine_prepare("q/none", &(struct quarantine_mail){ .origin = &origin, .sender = &sender,
		.body = &body }, &err));
	quarantine_sweep("q");
	assert_int_equal(dup(0), before);
	close(before);
	mail_body_deinit(&body);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_entry_appears_whole_by_its_commit),
		cmocka_unit_test(ids_sort_by_time_and_differ),
		cmocka_unit_test(a_sweep_takes_what_nobody_holds),
		cmocka_unit_test(a_failure_is_temporary_and_leaves_nothing),
		cmocka_unit_test(an_address_that_json_cannot_hold_makes_no_entry),
		cmocka_unit_test(no_descriptor_stays_open),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make_parent, remove_parent);
}
