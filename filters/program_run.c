/*
 * filters/program_run.c - files first, then the program, then what it left.
 *
 * A struct program_run outlives its run when that is cancelled: the program gets its grace, and its folder goes when it
 * has ended. `run` is NULL from then on.
 */
#include "filters/program_run.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/list.h"
#include "base/str.h"
#include "base/xalloc.h"
#include "filters/envelope.h"
#include "filters/message_file.h"
#include "filters/slots.h"
#include "filters/template.h"
#include "net/threads.h"
#include "net/watch.h"
#include "spool/file.h"
#include "spool/scratch.h"

#define READ_SIZE      (32 * 1024)
#define CHUNK_SIZE     (256 * 1024)
#define RECIPIENTS_MAX (32 * 1024)
#define ENV_VALUE_MAX  4096
#define PIPE_MAX       (1024 * 1024) /* the most that a pipe holds, unless root says otherwise */

const char *const program_recipient_names[] = {"first", "last", NULL};

/* One end of a pipe from the program. */
struct output {
	struct program_run *owner;
	int fd;
	struct net_watch *watch;
	int64_t total;
};

/* What a job finds in the folder once the program has ended. Only the job's while it runs. */
struct found {
	char *header_path, *body_path;
	struct str header;
	int body_fd;
	char *chunk;
	ssize_t chunk_len;
	bool failed;
	struct err err;
};

struct program_run {
	struct filter_run *run; /* NULL: cancelled */
	struct net_worker *worker;
	const struct program_conf *conf;
	struct program_use use;
	program_run_cb cb;
	struct scratch *scratch;
	struct message_file *file;
	int stdin_fd;
	struct program *program;
	struct output out, err;
	struct str text, tail;
	struct new_body *body;
	int64_t body_size;
	bool is_too_much;
	int status;
	struct found found;
	struct net_job *job;
	struct slots *slots; /* of one that goes on after its run */
	LIST_ENTRY(program_run) next;
};

/* Those that live on after their runs; so that one which still does at the end of the process is known. */
static pthread_mutex_t late_lock = PTHREAD_MUTEX_INITIALIZER;
static LIST_HEAD(, program_run) late = LIST_HEAD_INITIALIZER(late);

/* ---- the configuration -------------------------------------------------------------------- */

static const char *const own_names[] = {
	"SENDER", "RECIPIENTS", "CLIENT", "REMOTE", "REMOTE_HELO", "SERVER", "TMPDIR", NULL};

static int
check_variable(const struct config_word *word, struct err *err)
{
	const char *text = word->text;
	size_t len = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789");

	if (word->kind == CONFIG_WORD_PATTERN || text[len] != '=' || len == 0 || (*text >= '0' && *text <= '9'))
		return err_set(err, "environment: \"%.100s\" is no variable (try NAME=VALUE)", text);
	for (size_t i = 0; own_names[i] != NULL; i++)
		if (strlen(own_names[i]) == len && strncmp(text, own_names[i], len) == 0)
			return err_set(err, "environment: %s is set from the mail (try another name)", own_names[i]);
	if (strlen(text) > ENV_VALUE_MAX)
		return err_set(err, "environment: \"%.40s...\" is longer than %d octets", text, ENV_VALUE_MAX);
	return 0;
}

int
program_conf_check(const struct program_conf *c, const char *letters, struct err *err)
{
	const struct config_words none = {NULL, 0}, program = {c->command.list, 1};
	const struct config_words *path = c->command.count > 0 ? &program : &none;

	if (c->command.count == 0)
		return err_set(err, "it needs a command (command /usr/local/sbin/program %%f)");
	if (c->command.list[0].kind == CONFIG_WORD_PATTERN || c->command.list[0].text[0] != '/')
		return err_set(err, "command: \"%.100s\" is no absolute path of a program (it begins with /)",
			c->command.list[0].text);
	if (template_check(path, "", err) < 0)
		return err_prefix(err, "command");
	if (template_check(&c->command, letters, err) < 0)
		return err_prefix(err, "command");
	if (c->command.count > WORK_ARGV_MAX / 2 || c->environment.count > WORK_ENV_MAX / 2)
		return err_set(err, "command, environment: more than %d arguments or %d variables", WORK_ARGV_MAX / 2,
			WORK_ENV_MAX / 2);
	for (size_t i = 0; i < c->environment.count; i++)
		if (check_variable(&c->environment.list[i], err) < 0)
			return -1;
	return template_check(&c->environment, letters, err) < 0 ? err_prefix(err, "environment") : 0;
}

bool
program_conf_uses(const struct program_conf *c, char letter)
{
	return template_uses(&c->command, letter) || template_uses(&c->environment, letter);
}

static bool
needs_folder(const struct program_conf *c)
{
	return program_conf_uses(c, 'f') || program_conf_uses(c, 'n') || program_conf_uses(c, 'h') || program_conf_uses(c, 't');
}

/* ---- its end ------------------------------------------------------------------------------ */

static void
close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void
output_close(struct output *o)
{
	net_watch_free(&o->watch);
	close_fd(&o->fd);
}

static void
scratch_job(void *arg)
{
	struct scratch *s = arg;

	scratch_free(&s);
}

static void
scratch_done(void *arg)
{
	(void)arg;
}

static void
program_run_free(struct program_run *p)
{
	output_close(&p->out);
	output_close(&p->err);
	close_fd(&p->stdin_fd);
	close_fd(&p->found.body_fd);
	if (p->scratch != NULL)
		net_job_start(p->worker, scratch_job, scratch_done, p->scratch);
	str_deinit(&p->text);
	str_deinit(&p->tail);
	str_deinit(&p->found.header);
	free(p->found.header_path);
	free(p->found.body_path);
	free(p->found.chunk);
	free(p);
}

/* Nobody waits for it any more. */
static void
late_end(struct program_run *p)
{
	pthread_mutex_lock(&late_lock);
	LIST_REMOVE(p, next);
	pthread_mutex_unlock(&late_lock);
	if (p->slots != NULL)
		slots_give(p->slots);
	program_run_free(p);
}

/* Everything of the run is read before it goes on, for then it may be gone. */
static void
finish(struct program_run *p, bool failed)
{
	struct filter_run *run = p->run;
	struct program_result result = {
		.failed = failed,
		.code = failed ? 0 : WEXITSTATUS(p->status),
		.text = str_text(&p->text),
		.text_len = p->text.len,
		.is_text_cut = p->out.total > (int64_t)p->text.len,
		.tail = str_text(&p->tail),
		.tail_len = p->tail.len,
		.header = p->found.header.data,
		.header_len = p->found.header.len,
		.body = p->body,
		.body_size = p->body_size,
	};
	enum filter_step how = p->cb(run, &result);

	new_body_cancel(&result.body);
	program_run_free(p);
	filter_resume(run, how);
}

/* ---- what it left in its folder ----------------------------------------------------------- */

/* A file of its own making only: no link, nothing that could wait. -1 with errno. */
static int
open_result(const char *path)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		return fd;
	close(fd);
	errno = EINVAL;
	return -1;
}

static void
found_fail(struct found *f, const char *what)
{
	f->failed = true;
	err_sys(&f->err, "cannot read its file for %s", what);
}

static void
read_header(struct found *f)
{
	int fd = open_result(f->header_path);
	ssize_t n = 0;

	if (fd < 0) {
		if (errno != ENOENT)
			found_fail(f, "header lines");
		return;
	}
	str_reserve(&f->header, PROGRAM_HEADER_MAX + 2);
	f->header.data[0] = '\0'; /* it was written, also when it is empty */
	while (f->header.len <= PROGRAM_HEADER_MAX &&
		(n = read(fd, f->header.data + f->header.len, PROGRAM_HEADER_MAX + 1 - f->header.len)) > 0)
		f->header.len += (size_t)n;
	f->header.data[f->header.len] = '\0';
	if (n < 0)
		found_fail(f, "header lines");
	if (f->header.len > PROGRAM_HEADER_MAX) {
		f->failed = true;
		err_set(&f->err, "its header lines are longer than %d octets", PROGRAM_HEADER_MAX);
	}
	close(fd);
}

static void
read_chunk(struct found *f)
{
	f->chunk_len = read(f->body_fd, f->chunk, CHUNK_SIZE);
	if (f->chunk_len < 0)
		found_fail(f, "the new message");
}

static void
job_find(void *arg)
{
	struct program_run *p = arg;
	struct found *f = &p->found;

	if (f->header_path != NULL)
		read_header(f);
	if (f->body_path == NULL || f->failed)
		return;
	f->body_fd = open_result(f->body_path);
	if (f->body_fd < 0 && errno != ENOENT)
		found_fail(f, "the new message");
	if (f->body_fd < 0)
		return;
	f->chunk = xmalloc(CHUNK_SIZE);
	read_chunk(f);
}

static void
job_chunk(void *arg)
{
	struct program_run *p = arg;

	read_chunk(&p->found);
}

static void
job_gone(void *arg)
{
	program_run_free(arg);
}

static void
fail_with(struct program_run *p, const struct err *err)
{
	p->run->err = *err;
	finish(p, true);
}

/* After each job. */
static void
job_done(void *arg)
{
	struct program_run *p = arg;
	struct found *f = &p->found;

	p->job = NULL;
	if (f->failed) {
		fail_with(p, &f->err);
		return;
	}
	if (f->body_fd >= 0 && p->body == NULL)
		p->body = new_body_begin(p->run, p->use.new, p->conf->max_output);
	if (f->chunk_len > 0)
		new_body_write(p->body, f->chunk, (size_t)f->chunk_len);
	p->body_size += f->chunk_len;
	if (f->chunk_len > 0 && p->body_size <= p->conf->max_output)
		p->job = net_job_start(p->worker, job_chunk, job_done, p);
	else
		finish(p, false);
}

static void
collect(struct program_run *p)
{
	if (program_conf_uses(p->conf, 'h'))
		p->found.header_path = xasprintf("%s/header", scratch_path(p->scratch));
	if (program_conf_uses(p->conf, 'n'))
		p->found.body_path = xasprintf("%s/new", scratch_path(p->scratch));
	if (p->found.header_path == NULL && p->found.body_path == NULL)
		finish(p, false);
	else
		p->job = net_job_start(p->worker, job_find, job_done, p);
}

/* ---- what it prints ----------------------------------------------------------------------- */

/* The end of it counts: a script's last words. */
static void
keep_tail(struct program_run *p, const char *data, size_t len)
{
	str_addn(&p->tail, data, len);
	if (p->tail.len > PROGRAM_TAIL_MAX)
		str_drop(&p->tail, p->tail.len - PROGRAM_TAIL_MAX);
}

static void
keep_text(struct program_run *p, const char *data, size_t len)
{
	size_t room = PROGRAM_TEXT_MAX - p->text.len;

	str_addn(&p->text, data, len < room ? len : room);
}

static void
take_output(struct output *o, const char *data, size_t len)
{
	struct program_run *p = o->owner;

	o->total += (int64_t)len;
	if (p->run == NULL)
		return; /* a program in its grace: nobody reads it, but it may write */
	if (o->total > p->conf->max_output)
		p->is_too_much = true;
	else if (o == &p->err)
		keep_tail(p, data, len);
	else if (p->body != NULL)
		new_body_write(p->body, data, len);
	else
		keep_text(p, data, len);
}

/* 1: some came; 0: nothing now; -1: the end. */
static int
output_read(struct output *o)
{
	char buf[READ_SIZE];
	ssize_t n = read(o->fd, buf, sizeof(buf));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return -1;
	take_output(o, buf, (size_t)n);
	return 1;
}

static void
on_output(void *owner)
{
	struct output *o = owner;
	struct program_run *p = o->owner;

	if (output_read(o) < 0)
		output_close(o);
	if (!p->is_too_much)
		return;
	output_close(&p->out);
	output_close(&p->err);
	if (p->program != NULL)
		program_stop(p->program);
}

/* What is still in the pipe; not to its end, for somebody may hold it open who left the process group. */
static void
output_drain(struct output *o)
{
	const int64_t end = o->total + PIPE_MAX;

	while (o->fd >= 0 && o->total < end && !o->owner->is_too_much && output_read(o) > 0)
		;
	output_close(o);
}

static void
got_end(void *owner, const struct program_end *end)
{
	struct program_run *p = owner;
	char text[300];
	struct err err;

	p->program = NULL;
	if (p->run == NULL) {
		late_end(p);
		return;
	}
	output_drain(&p->out);
	output_drain(&p->err);
	p->status = end->status;
	if (p->is_too_much) {
		err_set(&err, "its output is longer than %" PRId64 " octets", p->conf->max_output);
		fail_with(p, &err);
	} else if (!end->ran || !WIFEXITED(end->status)) {
		program_end_text(end, text, sizeof(text));
		err_set(&err, "%s", text);
		fail_with(p, &err);
	} else {
		p->body_size = p->body != NULL ? p->out.total : 0;
		collect(p);
	}
}

/* ---- its start ---------------------------------------------------------------------------- */

static const char *
in_folder(struct program_run *p, char letter, const char *name)
{
	if (!program_conf_uses(p->conf, letter))
		return NULL;
	return arena_printf(p->run->arena, "%s/%s", scratch_path(p->scratch), name);
}

static const char *
message_path(struct program_run *p)
{
	return in_folder(p, 'f', "message");
}

static void
gather_facts(struct program_run *p, struct template_facts *f)
{
	struct filter_run *run = p->run;
	const struct mail_origin *origin = run->msg->origin;
	struct mail_envelope envelope;
	const char **rcpts;

	filter_envelope(run, &envelope);
	rcpts = arena_alloc(run->arena, (envelope.rcpt_count + 1) * sizeof(rcpts[0]));
	for (size_t i = 0; i < envelope.rcpt_count; i++)
		rcpts[i] = envelope.rcpts[i]->addr;
	*f = (struct template_facts){
		.file = message_path(p),
		.body = in_folder(p, 'n', "new"),
		.header = in_folder(p, 'h', "header"),
		.folder = p->scratch != NULL ? scratch_path(p->scratch) : NULL,
		.sender = envelope.sender->addr,
		.rcpts = rcpts,
		.rcpt_count = envelope.rcpt_count,
		.client = origin->client_text,
		.helo = origin->helo,
		.listener = origin->listener,
	};
	if (f->rcpt_count > 0)
		f->rcpt = rcpts[p->conf->one_recipient == 0 ? 0 : f->rcpt_count - 1];
	if (run->log != NULL)
		f->id = arena_printf(run->arena, "%06x-%u", run->log->session, run->log->txn);
}

/* NULL when they are too long: a list that is cut would be mistaken for all of them. */
static const char *
recipients(const struct template_facts *f, struct arena *arena)
{
	struct str all = STR_INIT;
	const char *text = NULL;

	str_add(&all, "RECIPIENTS=");
	for (size_t i = 0; i < f->rcpt_count && all.len <= RECIPIENTS_MAX; i++)
		str_printf(&all, "%s%s", i > 0 ? "\n" : "", f->rcpts[i]);
	if (all.len <= RECIPIENTS_MAX)
		text = arena_strdup(arena, all.data);
	str_deinit(&all);
	return text;
}

static bool
is_set(const char *const *env, const char *name)
{
	for (; *env != NULL; env++)
		if (strncmp(*env, name, strlen(name)) == 0 && (*env)[strlen(name)] == '=')
			return true;
	return false;
}

static void
add_variable(const char **env, const char *name, const char *value, struct arena *arena)
{
	size_t count = 0;

	if (value == NULL || is_set(env, name))
		return;
	while (env[count] != NULL)
		count++;
	env[count] = arena_printf(arena, "%s=%s", name, value);
	env[count + 1] = NULL;
}

/* What the administrator wrote comes first, and stands. */
static const char **
make_env(struct program_run *p, const struct template_facts *f)
{
	struct arena *arena = p->run->arena;
	const char **env = template_expand(&p->conf->environment, f, WORK_ENV_MAX, arena);
	const char *rcpts = recipients(f, arena);
	struct utsname machine;

	add_variable(env, "PATH", "/usr/local/bin:/usr/bin:/bin", arena);
	add_variable(env, "LANG", "C", arena);
	add_variable(env, "SENDER", f->sender, arena);
	if (rcpts != NULL)
		add_variable(env, "RECIPIENTS", rcpts + strlen("RECIPIENTS="), arena);
	add_variable(env, "CLIENT", f->client, arena);
	add_variable(env, "REMOTE", f->client, arena);
	add_variable(env, "REMOTE_HELO", f->helo, arena);
	add_variable(env, "SERVER", uname(&machine) == 0 ? machine.nodename : NULL, arena);
	add_variable(env, "TMPDIR", f->folder != NULL ? f->folder : "/tmp", arena);
	add_variable(env, "EMAIL", f->file, arena);
	return env;
}

static struct work_limits
limits(const struct program_conf *c)
{
	return (struct work_limits){
		.memory = (uint64_t)c->memory,
		.cpu_seconds = (uint64_t)(c->cpu_ms + 999) / 1000,
		.file_size = (uint64_t)c->file_size,
		.open_files = (uint64_t)c->open_files,
		.processes = (uint64_t)c->processes,
	};
}

/* Our end does not block, the program's does. Returns its end, or -1. */
static int
output_open(struct output *o)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -1;
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	o->fd = fds[0];
	o->watch = net_watch_new(o->owner->worker, o->fd, on_output, o);
	return fds[1];
}

/* Takes over stdin_fd. The chain watches the time. */
static void
run_program(struct program_run *p, const char *const *argv, const char *const *env, int out, int err)
{
	const int fds[] = {out, err, p->stdin_fd};
	static const int targets[] = {1, 2, 0};
	const struct program_spec spec = {
		.profile = WORK_PROGRAM,
		.limits = limits(p->conf),
		.directory = p->scratch != NULL ? scratch_path(p->scratch) : NULL,
		.argv = argv,
		.env = env,
		.fds = fds,
		.targets = targets,
		.fd_count = p->stdin_fd >= 0 ? 3 : 2,
		.grace_ms = p->conf->grace_ms,
	};

	p->stdin_fd = -1;
	p->program = program_start(p->run->env->programs, p->worker, &spec, got_end, p);
}

static int
launch(struct program_run *p, struct err *err)
{
	struct template_facts facts;
	const char **argv, **env;
	int out, errors;

	gather_facts(p, &facts);
	argv = template_expand(&p->conf->command, &facts, WORK_ARGV_MAX, p->run->arena);
	if (argv == NULL)
		return err_set(err, "too many recipients for its arguments");
	env = make_env(p, &facts);
	out = output_open(&p->out);
	errors = out >= 0 ? output_open(&p->err) : -1;
	if (errors < 0) {
		err_sys(err, "cannot make a pipe");
		close_fd(&out);
		return -1;
	}
	if (p->use.gives_message)
		p->body = new_body_begin(p->run, NEW_MESSAGE, p->conf->max_output);
	run_program(p, argv, env, out, errors);
	return 0;
}

static void
got_stdin(void *owner, int fd, const struct err *why)
{
	struct program_run *p = owner;
	struct err err;

	p->file = NULL;
	p->stdin_fd = fd;
	if (fd < 0)
		fail_with(p, why);
	else if (launch(p, &err) < 0)
		fail_with(p, &err);
}

/* The program opens it by its name. */
static void
got_file(void *owner, int fd, const struct err *why)
{
	struct program_run *p = owner;
	struct err err;

	p->file = NULL;
	if (fd < 0) {
		fail_with(p, why);
		return;
	}
	close(fd);
	if (p->use.wants_message)
		p->file = message_file_open(p->run, got_stdin, p);
	else if (launch(p, &err) < 0)
		fail_with(p, &err);
}

/* Only what needs a file can wait for one; without, the program starts at once. */
static int
prepare(struct program_run *p, struct err *err)
{
	if (needs_folder(p->conf)) {
		p->scratch = scratch_new(p->run->spool->directory, err);
		if (p->scratch == NULL)
			return -1;
	}
	if (program_conf_uses(p->conf, 'f'))
		p->file = message_file_save(p->run, message_path(p), got_file, p);
	else if (p->use.wants_message)
		p->file = message_file_open(p->run, got_stdin, p);
	else
		return launch(p, err);
	return 0;
}

struct program_run *
program_run_start(struct filter_run *run, const struct program_conf *conf, const struct program_use *use,
	program_run_cb cb)
{
	struct program_run *p;

	if (run->env->programs == NULL) {
		filter_fail(run, "no programs can be run here");
		return NULL;
	}
	p = xcalloc(1, sizeof(*p));
	p->run = run;
	p->worker = run->env->worker;
	p->conf = conf;
	p->use = *use;
	p->cb = cb;
	p->stdin_fd = p->found.body_fd = -1;
	p->out = (struct output){.owner = p, .fd = -1};
	p->err = (struct output){.owner = p, .fd = -1};
	if (prepare(p, &run->err) == 0)
		return p;
	program_run_free(p);
	return NULL;
}

void
program_run_cancel(struct program_run **p_p)
{
	struct program_run *p = *p_p;

	*p_p = NULL;
	if (p == NULL)
		return;
	if (p->program != NULL)
		p->slots = filter_keep_slot(p->run);
	p->run = NULL;
	message_file_cancel(&p->file);
	new_body_cancel(&p->body);
	if (p->job != NULL) {
		net_job_cancel(&p->job, job_gone);
	} else if (p->program != NULL) {
		pthread_mutex_lock(&late_lock);
		LIST_INSERT_HEAD(&late, p, next);
		pthread_mutex_unlock(&late_lock);
		program_stop(p->program);
	} else {
		program_run_free(p);
	}
}
