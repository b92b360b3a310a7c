/*
 * proxy/handover.c - writing down what is handed over, exec, and reading it again.
 */
#include "proxy/handover.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/str.h"

#define VARIABLE "POSTERN_HANDOVER"
/* Of the lines; another one is not understood. */
#define FORM 1

/* ---- handing over ---- */

static void
add_sockets(struct str *out, const char *word, const struct sockets *s)
{
	for (int i = 0; i < s->count; i++)
		str_printf(out, "%s %d %s\n", word, s->list[i].fd, s->list[i].key);
}

static void
write_lines(const struct handover *h, struct str *out)
{
	str_printf(out, "version %d\ngeneration %u\n", FORM, h->generation);
	add_sockets(out, "socket", &h->sockets);
	add_sockets(out, "inherited", &h->inherited.named);
	str_printf(out, "systemd %d\n", h->inherited.is_systemd);
	for (int i = 0; i < h->engine_count; i++)
		str_printf(out, "engine %d %ld %ld\n", h->engines[i].fd, (long)h->engines[i].pid,
			(long)h->engines[i].spawner);
	str_printf(out, "pid_file %d %s\n", h->pid_fd, h->pid_file);
	str_printf(out, "spool %d\n", h->spool_fd);
}

static void
set_cloexec(int fd, bool on)
{
	if (fd >= 0)
		fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0);
}

static void
set_cloexec_all(const struct handover *h, bool on)
{
	for (int i = 0; i < h->sockets.count; i++)
		set_cloexec(h->sockets.list[i].fd, on);
	for (int i = 0; i < h->inherited.named.count; i++)
		set_cloexec(h->inherited.named.list[i].fd, on);
	for (int i = 0; i < h->engine_count; i++)
		set_cloexec(h->engines[i].fd, on);
	set_cloexec(h->pid_fd, on);
	set_cloexec(h->spool_fd, on);
}

static int
make_file(const struct handover *h, struct err *err)
{
	struct str text = STR_INIT;
	int fd = memfd_create("postern-handover", 0), rc = -1;

	write_lines(h, &text);
	if (fd >= 0 && write(fd, text.data, text.len) == (ssize_t)text.len && lseek(fd, 0, SEEK_SET) == 0)
		rc = 0;
	if (rc < 0)
		err_sys(err, "what is handed over could not be written down");
	if (rc < 0 && fd >= 0)
		close(fd);
	str_deinit(&text);
	return rc < 0 ? -1 : fd;
}

void
handover_exec(const struct handover *h, char *const argv[], struct err *err)
{
	char number[16];
	int fd = make_file(h, err);

	if (fd < 0)
		return;
	snprintf(number, sizeof(number), "%d", fd);
	setenv(VARIABLE, number, 1);
	set_cloexec_all(h, false);
	/* The right to bind low ports goes through exec only like this. */
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0);
	execv(argv[0], argv);
	err_sys(err, "%s", argv[0]);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	set_cloexec_all(h, true);
	unsetenv(VARIABLE);
	close(fd);
}

/* ---- taking over ---- */

static void
take_engine(struct handover *h, const char *rest, int fd)
{
	struct handover_engine *e = &h->engines[h->engine_count];
	long pid, spawner;

	if (h->engine_count == HANDOVER_ENGINES || sscanf(rest, "%ld %ld", &pid, &spawner) != 2)
		return;
	*e = (struct handover_engine){ (pid_t)pid, (pid_t)spawner, fd };
	h->engine_count++;
}

/* "WORD NUMBER[ REST]" */
static int
take_line(struct handover *h, const char *line)
{
	char word[32];
	int number, used = 0;
	const char *rest;

	if (sscanf(line, "%31s %d%n", word, &number, &used) != 2)
		return -1;
	rest = line + used + (line[used] == ' ');
	if (strcmp(word, "version") == 0)
		return number == FORM ? 0 : -1;
	if (strcmp(word, "generation") == 0)
		h->generation = (unsigned)number;
	else if (strcmp(word, "socket") == 0)
		sockets_add(&h->sockets, rest, number);
	else if (strcmp(word, "inherited") == 0)
		sockets_add(&h->inherited.named, rest, number);
	else if (strcmp(word, "systemd") == 0)
		h->inherited.is_systemd = number != 0;
	else if (strcmp(word, "engine") == 0)
		take_engine(h, rest, number);
	else if (strcmp(word, "pid_file") == 0) {
		h->pid_fd = number;
		snprintf(h->pid_file, sizeof(h->pid_file), "%s", rest);
	} else if (strcmp(word, "spool") == 0)
		h->spool_fd = number;
	return 0;
}

static int
take_lines(struct handover *h, FILE *in)
{
	char line[sizeof(h->pid_file) + 100];

	while (fgets(line, sizeof(line), in) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		if (take_line(h, line) < 0)
			return -1;
	}
	return 0;
}

int
handover_take(struct handover *h, bool *is_successor_r, struct err *err)
{
	const char *number = getenv(VARIABLE);
	FILE *in;
	int rc;

	*h = (struct handover){ .pid_fd = -1, .spool_fd = -1 };
	*is_successor_r = number != NULL;
	if (number == NULL)
		return 0;
	in = fdopen(atoi(number), "r");
	unsetenv(VARIABLE);
	if (in == NULL)
		return err_sys(err, "%s", VARIABLE);
	rc = take_lines(h, in);
	fclose(in);
	set_cloexec_all(h, true);
	return rc < 0 ? err_set(err, "%s: what was handed over is not understood", VARIABLE) : 0;
}
