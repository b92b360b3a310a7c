/*
 * t/unit/test_handover.c - what one monitor writes down for the next is what that one reads, whatever the names are.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "proxy/handover.c"

#include <errno.h>
#include <string.h>

static void
take(struct handover *h, int fd, bool want)
{
	char number[16];
	struct err err;
	bool is_successor;

	snprintf(number, sizeof(number), "%d", fd);
	setenv(VARIABLE, number, 1);
	assert_int_equal(handover_take(h, &is_successor, &err), want ? 0 : -1);
	assert_true(is_successor);
	assert_null(getenv(VARIABLE)); /* not for what we start */
}

static int
open_one(void)
{
	int fd = open("/dev/null", O_RDONLY);

	assert_true(fd >= 0);
	return fd;
}

static void
same_sockets(const struct sockets *a, const struct sockets *b)
{
	assert_int_equal(a->count, b->count);
	for (int i = 0; i < a->count; i++) {
		assert_string_equal(a->list[i].key, b->list[i].key);
		assert_int_equal(a->list[i].fd, b->list[i].fd);
		assert_true(fcntl(b->list[i].fd, F_GETFD) & FD_CLOEXEC);
	}
}

static void
what_is_written_is_read(void **state)
{
	static const char *const keys[] = {
		"127.0.0.1:25", "[::1]:10025", "127.0.0.1:0/listener front/0", "127.0.0.1:0/listener with spaces/12",
		"unix:/run/postern/in", "unix:/a folder/with  two spaces/ and 7 numbers 3", "unix: leading", "unix:trailing ",
		"unix:/socket 5 generation 9", "fd:", "fd:smtp", "fd:5", "fd:5",
	};
	struct handover out = { .generation = 4000000000U, .pid_fd = open_one(), .spool_fd = open_one() }, in;
	struct err err;
	int fd;

	(void)state;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		sockets_add(i % 3 == 2 ? &out.inherited.named : &out.sockets, keys[i], open_one());
	out.inherited.is_systemd = true;
	memset(out.pid_file, '/', sizeof(out.pid_file) - 1); /* as long as it can be */
	memcpy(out.pid_file, "/run/a pid file", strlen("/run/a pid file"));
	out.pid_file[sizeof(out.pid_file) - 2] = ' ';
	for (int i = 0; i < HANDOVER_ENGINES; i++)
		out.engines[out.engine_count++] = (struct handover_engine){ 100 + i, i % 2 ? 0 : 200 + i, open_one() };
	fd = make_file(&out, &err);
	assert_true(fd >= 0);
	take(&in, fd, true);
	assert_int_equal(in.generation, out.generation);
	same_sockets(&out.sockets, &in.sockets);
	same_sockets(&out.inherited.named, &in.inherited.named);
	assert_true(in.inherited.is_systemd);
	assert_int_equal(in.engine_count, HANDOVER_ENGINES);
	for (int i = 0; i < HANDOVER_ENGINES; i++) {
		assert_int_equal(in.engines[i].pid, out.engines[i].pid);
		assert_int_equal(in.engines[i].spawner, out.engines[i].spawner);
		assert_int_equal(in.engines[i].fd, out.engines[i].fd);
		close(in.engines[i].fd);
	}
	assert_int_equal(in.pid_fd, out.pid_fd);
	assert_string_equal(in.pid_file, out.pid_file);
	assert_int_equal(in.spool_fd, out.spool_fd);
	assert_int_equal(fcntl(fd, F_GETFD), -1); /* the file is gone */
	close(in.pid_fd);
	close(in.spool_fd);
	sockets_close(&in.sockets);
	sockets_close(&in.inherited.named);
	sockets_deinit(&out.sockets);
	sockets_deinit(&out.inherited.named);
}

static void
nothing_at_all_can_be_handed_over(void **state)
{
	struct handover out = { .generation = 1, .pid_fd = -1, .spool_fd = -1 }, in;
	struct err err;

	(void)state;
	/* The place of the engine that carries mail is empty. */
	out.engines[out.engine_count++] = (struct handover_engine){ 0, 0, -1 };
	take(&in, make_file(&out, &err), true);
	assert_int_equal(in.sockets.count, 0);
	assert_int_equal(in.engine_count, 1);
	assert_int_equal(in.engines[0].pid, 0);
	assert_int_equal(in.engines[0].fd, -1);
	assert_int_equal(in.pid_fd, -1);
	assert_string_equal(in.pid_file, "");
	assert_int_equal(in.spool_fd, -1);
}

static int
file_of(const char *text)
{
	int fd = memfd_create("test", 0);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	lseek(fd, 0, SEEK_SET);
	return fd;
}

static void
another_form_is_not_understood(void **state)
{
	static const struct { const char *text; bool want; } cases[] = {
		{ "version 1\n", true },
		{ "version 1\nsomething 5 of a later time\n", true },
		{ "version 2\n", false },
		{ "version\n", false },
		{ "version 1\n\n", false },
		{ "version 1\nsocket x 127.0.0.1:25\n", false },
		{ "garbage\n", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct handover h;

		take(&h, file_of(cases[i].text), cases[i].want);
	}
}

static void
without_the_variable_nobody_is_a_successor(void **state)
{
	struct handover h;
	bool is_successor = true;
	struct err err;

	(void)state;
	unsetenv(VARIABLE);
	assert_int_equal(handover_take(&h, &is_successor, &err), 0);
	assert_false(is_successor);
	setenv(VARIABLE, "9999", 1); /* no descriptor */
	assert_int_equal(handover_take(&h, &is_successor, &err), -1);
}

static void
an_exec_that_fails_changes_nothing(void **state)
{
	struct handover h = { .pid_fd = -1, .spool_fd = open_one() };
	char *const argv[] = { (char *)"/nonexistent/postern", NULL };
	struct err err;

	(void)state;
	fcntl(h.spool_fd, F_SETFD, FD_CLOEXEC);
	handover_exec(&h, argv, &err);
	assert_string_equal(err.text, "/nonexistent/postern: No such file or directory");
	assert_null(getenv(VARIABLE));
	assert_true(fcntl(h.spool_fd, F_GETFD) & FD_CLOEXEC);
	close(h.spool_fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(nothing_at_all_can_be_handed_over),
		cmocka_unit_test(another_form_is_not_understood),
		cmocka_unit_test(without_the_variable_nobody_is_a_successor),
		cmocka_unit_test(an_exec_that_fails_changes_nothing),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
