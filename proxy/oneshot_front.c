/*
 * proxy/oneshot_front.c - the front of `postern -1`: reads the message, and gives it to a session in SMTP.
 *
 * It runs in a thread of its own and may wait.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/str.h"
#include "base/xalloc.h"
#include "proxy/oneshot.h"
#include "spool/file.h"

/* ---- the message ---- */

/* mbox: "From ann@example.org Sun Nov 29 03:00:00 2026"; MAILER-DAEMON stands for nobody. */
static bool
take_from_line(struct oneshot_mail *mail, const char *line)
{
	size_t len;

	if (strncmp(line, "From ", 5) != 0)
		return false;
	line += 5;
	len = strcspn(line, " \t\r\n");
	if (len == 0 || len >= sizeof(mail->from_line))
		return false;
	mail->has_from_line = true;
	if (strncmp(line, "MAILER-DAEMON", len) == 0 && len == 13)
		return true;
	memcpy(mail->from_line, line, len);
	return true;
}

static void
note_octets(struct oneshot_mail *mail, const char *line, size_t len)
{
	for (size_t i = 0; !mail->has_8bit && i < len; i++)
		mail->has_8bit = (unsigned char)line[i] > 127;
}

/* A line of any length; its LF or CRLF becomes CRLF, and the last one gets it, too. */
static int
copy_line(FILE *out, const char *line, size_t len)
{
	if (len > 0 && line[len - 1] == '\n')
		len--;
	if (len > 0 && line[len - 1] == '\r')
		len--;
	return fwrite(line, 1, len, out) == len && fputs("\r\n", out) >= 0 ? 0 : -1;
}

static int
copy(struct oneshot_mail *mail, FILE *in, FILE *out, struct err *err)
{
	char *line = NULL;
	size_t size = 0;
	bool is_first = true;
	ssize_t len;
	int rc = 0;

	while (rc == 0 && (len = getline(&line, &size, in)) > 0) {
		if (!is_first || !take_from_line(mail, line)) {
			note_octets(mail, line, (size_t)len);
			rc = copy_line(out, line, (size_t)len);
		}
		is_first = false;
	}
	free(line);
	if (ferror(in))
		return err_sys(err, "the message cannot be read from standard input");
	if (rc < 0 || fflush(out) != 0)
		return err_sys(err, "the message cannot be kept");
	return 0;
}

int
oneshot_read(struct oneshot_mail *mail, int fd, const char *directory, struct err *err)
{
	FILE *in, *out;
	int rc;

	mail->content = spool_open_unnamed(directory);
	if (mail->content < 0)
		return err_sys(err, "cannot make a file in %s", directory);
	in = fdopen(dup(fd), "r");
	out = fdopen(dup(mail->content), "w");
	if (in == NULL || out == NULL)
		rc = err_sys(err, "fdopen");
	else
		rc = copy(mail, in, out, err);
	if (in != NULL)
		fclose(in);
	if (out != NULL)
		fclose(out);
	return rc;
}

/* ---- SMTP ---- */

struct talk {
	struct oneshot_mail *mail;
	FILE *in, *out;
	char reply[1024]; /* the last one, its lines joined */
	int code;	  /* 0: the session has ended */
	bool has_utf8, has_8bit; /* it offers */
};

static void
hear(struct talk *t)
{
	size_t size = 0, used = 0;
	char *line = NULL;
	ssize_t len;

	t->code = 0;
	t->reply[0] = '\0';
	while ((len = getline(&line, &size, t->in)) > 0) {
		line[strcspn(line, "\r\n")] = '\0';
		if (len < 4)
			break;
		t->has_utf8 |= strcasecmp(line + 4, "SMTPUTF8") == 0;
		t->has_8bit |= strcasecmp(line + 4, "8BITMIME") == 0;
		used += (size_t)snprintf(t->reply + used, sizeof(t->reply) - used, "%s%s", used > 0 ? " " : "",
			used > 0 ? line + 4 : line);
		if (used >= sizeof(t->reply))
			used = sizeof(t->reply) - 1;
		if (line[3] != '-') {
			t->code = atoi(line);
			break;
		}
	}
	free(line);
	if (t->code == 0)
		snprintf(t->reply, sizeof(t->reply), "the session has ended");
}

static int
say(struct talk *t, const char *command)
{
	fprintf(t->out, "%s\r\n", command);
	fflush(t->out);
	hear(t);
	return t->code;
}

/* What the shell hears of this reply; what can be tried again outweighs what cannot, so that nothing is lost. */
static int
status_of(const struct talk *t)
{
	const char *status = strchr(t->reply, ' ');

	if (t->code / 100 == 2)
		return EX_OK;
	if (t->code / 100 != 5)
		return EX_TEMPFAIL;
	if (status != NULL && strncmp(status + 1, "5.1.1", 5) == 0)
		return EX_NOUSER;
	if (t->code == 501 || (t->code == 553 && status != NULL && strncmp(status + 1, "5.1.", 4) == 0))
		return EX_DATAERR;
	return EX_UNAVAILABLE;
}

static void
note(struct talk *t, const char *command)
{
	struct oneshot_mail *mail = t->mail;
	int status = status_of(t);

	if (mail->explain != NULL)
		explain_reply(mail->explain, command, t->reply);
	if (status != EX_OK && (mail->explain == NULL || mail->explain->story == NULL))
		fprintf(stderr, "postern: %s: %s\n", command, t->reply);
	if (status != EX_OK && mail->status != EX_TEMPFAIL)
		mail->status = status;
}

/* Returns false when it was refused. */
static bool
give(struct talk *t, const char *command, bool is_told)
{
	say(t, command);
	if (t->code / 100 == 2 && !is_told)
		return true;
	note(t, command);
	return t->code / 100 == 2;
}

/* Every octet over 127 in an address needs SMTPUTF8. */
static bool
is_utf8(const struct oneshot_mail *mail)
{
	bool has_8bit = false;

	for (const char *c = mail->sender; *c != '\0'; c++)
		has_8bit |= (unsigned char)*c > 127;
	for (int i = 0; i < mail->rcpt_count; i++)
		for (const char *c = mail->rcpts[i]; *c != '\0'; c++)
			has_8bit |= (unsigned char)*c > 127;
	return has_8bit;
}

static bool
give_mail(struct talk *t)
{
	struct str command = STR_INIT;
	struct stat st;
	bool ok;

	str_printf(&command, "MAIL FROM:<%s>", t->mail->sender);
	if (fstat(t->mail->content, &st) == 0)
		str_printf(&command, " SIZE=%jd", (intmax_t)st.st_size);
	if (t->has_8bit && t->mail->has_8bit)
		str_add(&command, " BODY=8BITMIME");
	if (t->has_utf8 && is_utf8(t->mail))
		str_add(&command, " SMTPUTF8");
	ok = give(t, str_text(&command), false);
	str_deinit(&command);
	return ok;
}

/* Those that have not been given. is_done gets who was answered for good; who shall come by himself has another turn. */
static int
give_rcpts(struct talk *t, bool *is_done)
{
	struct oneshot_mail *mail = t->mail;
	int taken = 0;

	for (int i = 0; i < mail->rcpt_count; i++) {
		struct str command = STR_INIT;

		if (is_done[i])
			continue;
		str_printf(&command, "RCPT TO:<%s>", mail->rcpts[i]);
		say(t, str_text(&command));
		if (t->code == 452 && taken > 0) {
			str_deinit(&command);
			continue;
		}
		is_done[i] = true;
		if (t->code / 100 == 2)
			taken++;
		else
			note(t, str_text(&command));
		str_deinit(&command);
	}
	return taken;
}

static void
give_content(struct talk *t)
{
	FILE *in = fdopen(dup(t->mail->content), "r");
	char *line = NULL;
	size_t size = 0;
	ssize_t len;

	rewind(in);
	while ((len = getline(&line, &size, in)) > 0) {
		if (line[0] == '.')
			fputc('.', t->out);
		fwrite(line, 1, (size_t)len, t->out);
	}
	free(line);
	fclose(in);
}

static void
give_message(struct talk *t, bool *is_done)
{
	if (!give_mail(t)) {
		memset(is_done, true, (size_t)t->mail->rcpt_count);
		return;
	}
	if (give_rcpts(t, is_done) == 0) {
		say(t, "RSET");
		return;
	}
	if (say(t, "DATA") != 354) {
		note(t, "DATA");
		return;
	}
	give_content(t);
	give(t, ".", t->mail->explain != NULL);
}

static bool
is_any_left(const struct oneshot_mail *mail, const bool *is_done)
{
	for (int i = 0; i < mail->rcpt_count; i++)
		if (!is_done[i])
			return true;
	return false;
}

static void
talk(struct talk *t)
{
	bool *is_done = xcalloc((size_t)t->mail->rcpt_count, sizeof(*is_done));
	char *hello = xasprintf("EHLO %s", t->mail->helo);

	hear(t);
	if (t->code != 220)
		note(t, "the greeting");
	else if (give(t, hello, false))
		while (t->code != 0 && is_any_left(t->mail, is_done))
			give_message(t, is_done);
	if (t->code != 0)
		say(t, "QUIT");
	free(hello);
	free(is_done);
}

void
oneshot_talk(struct oneshot_mail *mail, int fd)
{
	struct talk t = { .mail = mail, .in = fdopen(fd, "r"), .out = fdopen(dup(fd), "w") };

	if (t.in == NULL || t.out == NULL) {
		perror("postern: fdopen");
		mail->status = EX_OSERR;
		return;
	}
	talk(&t);
	fclose(t.in);
	fclose(t.out);
}
