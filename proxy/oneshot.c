/*
 * proxy/oneshot.c - `postern -1`: its command line, and an engine for one message.
 */
#include "proxy/oneshot.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/str.h"
#include "net/stream.h"
#include "proxy/channel.h"
#include "proxy/engine.h"
#include "proxy/helper_path.h"
#include "proxy/session.h"
#include "proxy/sockets.h"
#include "proxy/user.h"
#include "spawn/spawn.h"

static const char usage_text[] =
	"usage: postern -1 [-c FILE] [-l LISTENER] [-s SENDER] [-v] [--client ADDRESS] [--helo NAME]\n"
	"                  [--time TIME] [--explain] [--no-mail] RECIPIENT... <MESSAGE\n"
	"one message through rules and filters to the listener's back-end (of the first one, without -l).\n"
	"--explain tells what happens, and --no-mail prints what would be sent; with either, nothing is.\n"
	"without -s the sender is that of the message's first line, \"From ADDRESS ...\"\n"
	"TIME is \"Sun 03:00\", 03:00 or \"2026-11-29 03:00\": what conditions take for the present\n";

enum { SWITCH_EXPLAIN = 256, SWITCH_NO_MAIL, SWITCH_TIME, SWITCH_CLIENT, SWITCH_HELO };
static const struct option switches[] = {
	{ "explain", no_argument, NULL, SWITCH_EXPLAIN },
	{ "no-mail", no_argument, NULL, SWITCH_NO_MAIL },
	{ "time", required_argument, NULL, SWITCH_TIME },
	{ "client", required_argument, NULL, SWITCH_CLIENT },
	{ "helo", required_argument, NULL, SWITCH_HELO },
	{ NULL, 0, NULL, 0 },
};

struct oneshot {
	const char *file, *listener_name;
	bool is_verbose, has_client;
	struct ip_addr client;
	struct config *config;
	struct settings *settings;
	struct listener *listener;
	struct explain explain;
	struct oneshot_mail mail;
	char own_directory[PATH_MAX]; /* for content that is not in memory; "": the spool is */
	int front_fd, session_fd;
	int monitor_fd; /* our end of the engine's channel; when it is closed the engine ends */
	pthread_t front;
	struct engine_worker *worker; /* NULL: the engine was not ready */
};

/* ---- the command line ---- */

bool
oneshot_is_wanted(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "-1") == 0)
			return true;
	return false;
}

static int usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static int
usage(const char *fmt, ...)
{
	va_list ap;

	fputs("postern: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	fputs(usage_text, stderr);
	return EX_USAGE;
}

/* "<ann@example.org>" is what people copy out of a log. */
static char *
bare(char *addr)
{
	size_t len = strlen(addr);

	if (len < 2 || addr[0] != '<' || addr[len - 1] != '>')
		return addr;
	addr[len - 1] = '\0';
	return addr + 1;
}

static bool
has_line_end(const char *text)
{
	return strpbrk(text, "\r\n") != NULL;
}

static int
set_time(const char *text)
{
	struct err err;
	time_t when;

	if (oneshot_parse_time(text, clock_wall(), &when, &err) < 0)
		return usage("%s", err.text);
	clock_pretend(when);
	return EX_OK;
}

static int
set_client(struct oneshot *o, const char *text)
{
	struct ip_net net;
	struct err err;

	if (strchr(text, '/') != NULL || ip_net_parse(text, &net, &err) < 0)
		return usage("--client: \"%s\" is no address (try 192.0.2.7 or 2001:db8::7)", text);
	o->client = net.addr;
	o->has_client = true;
	return EX_OK;
}

static int
take_switch(struct oneshot *o, int c, char *const *argv, bool *explain_r, bool *no_mail_r)
{
	switch (c) {
	case '1':
		return EX_OK;
	case 'c':
		o->file = optarg;
		return EX_OK;
	case 'l':
		o->listener_name = optarg;
		return EX_OK;
	case 's':
		o->mail.sender = bare(optarg);
		return EX_OK;
	case 'v':
		o->is_verbose = true;
		return EX_OK;
	case SWITCH_EXPLAIN:
		*explain_r = true;
		return EX_OK;
	case SWITCH_NO_MAIL:
		*no_mail_r = true;
		return EX_OK;
	case SWITCH_TIME:
		return set_time(optarg);
	case SWITCH_CLIENT:
		return set_client(o, optarg);
	case SWITCH_HELO:
		o->mail.helo = optarg;
		return EX_OK;
	case ':':
		return usage("%s needs something behind it", argv[optind - 1]);
	default:
		return usage("there is no switch %s here", argv[optind - 1]);
	}
}

/* With both, the message alone is on standard output. */
static void
choose_outputs(struct oneshot *o, bool explain, bool no_mail)
{
	o->explain.story = !explain ? NULL : no_mail ? stderr : stdout;
	o->explain.message = no_mail ? stdout : NULL;
	if (explain || no_mail)
		o->mail.explain = &o->explain;
}

static int
parse_arguments(struct oneshot *o, int argc, char **argv)
{
	bool explain = false, no_mail = false;
	int c, rc;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":1c:l:s:v", switches, NULL)) != -1)
		if ((rc = take_switch(o, c, argv, &explain, &no_mail)) != EX_OK)
			return rc;
	o->mail.rcpts = argv + optind;
	o->mail.rcpt_count = argc - optind;
	if (o->mail.rcpt_count == 0)
		return usage("there is no recipient");
	for (int i = optind; i < argc; i++) {
		argv[i] = bare(argv[i]);
		if (has_line_end(argv[i]))
			return usage("an address has a line end in it");
	}
	if (has_line_end(o->mail.helo) || (o->mail.sender != NULL && has_line_end(o->mail.sender)))
		return usage("an address or name has a line end in it");
	choose_outputs(o, explain, no_mail);
	return EX_OK;
}

/* ---- the time ---- */

static int
find_weekday(const char *text, size_t len)
{
	static const char *const names[] = { "sun", "mon", "tue", "wed", "thu", "fri", "sat" };

	for (size_t i = 0; i < ARRAY_COUNT(names); i++)
		if (len == 3 && strncasecmp(text, names[i], 3) == 0)
			return (int)i;
	return -1;
}

/* "03:00", "03:00:00", and nothing behind it. */
static bool
read_hours(const char *text, struct tm *tm)
{
	int end = 0;

	tm->tm_sec = 0;
	if (sscanf(text, "%2d:%2d%n", &tm->tm_hour, &tm->tm_min, &end) < 2)
		return false;
	if (text[end] == ':') {
		text += end + 1;
		end = 0;
		if (sscanf(text, "%2d%n", &tm->tm_sec, &end) < 1)
			return false;
	}
	return text[end] == '\0' && tm->tm_hour >= 0 && tm->tm_hour < 24 && tm->tm_min >= 0 && tm->tm_min < 60 &&
	       tm->tm_sec >= 0 && tm->tm_sec < 60;
}

static bool
read_date(const char *text, struct tm *tm, const char **rest_r)
{
	int end = 0;

	if (sscanf(text, "%4d-%2d-%2d %n", &tm->tm_year, &tm->tm_mon, &tm->tm_mday, &end) < 3 || end == 0)
		return false;
	tm->tm_year -= 1900;
	tm->tm_mon--;
	*rest_r = text + end;
	return true;
}

int
oneshot_parse_time(const char *text, time_t now, time_t *time_r, struct err *err)
{
	size_t word = strcspn(text, " ");
	int weekday = find_weekday(text, word);
	const char *hours = text;
	struct tm tm, meant;

	localtime_r(&now, &tm);
	if (weekday >= 0)
		hours = text + word + strspn(text + word, " ");
	else if (strchr(text, '-') != NULL && !read_date(text, &tm, &hours))
		hours = "";
	if (!read_hours(hours, &tm))
		return err_set(err, "--time: \"%s\" is no time (try \"Sun 03:00\", 03:00 or \"2026-11-29 03:00\")", text);
	if (weekday >= 0)
		tm.tm_mday += (weekday - tm.tm_wday + 7) % 7;
	tm.tm_isdst = -1;
	meant = tm;
	*time_r = mktime(&tm);
	if (weekday >= 0 && *time_r < now) {
		meant.tm_mday += 7;
		*time_r = mktime(&meant);
	} else if (weekday < 0 && (tm.tm_mday != meant.tm_mday || tm.tm_mon != meant.tm_mon)) {
		return err_set(err, "--time: there is no such day as in \"%s\"", text);
	}
	return 0;
}

/* ---- the configuration, for one message ---- */

static int
find_listener(struct oneshot *o)
{
	struct settings *st = o->settings;
	struct str names = STR_INIT;

	for (int i = 0; i < st->listener_count && o->listener == NULL; i++) {
		if (o->listener_name == NULL || strcmp(st->listeners[i].name, o->listener_name) == 0)
			o->listener = &st->listeners[i];
		str_printf(&names, " %s", st->listeners[i].name);
	}
	if (o->listener == NULL)
		fprintf(stderr, "postern: there is no listener \"%s\" (there are:%s)\n", o->listener_name, str_text(&names));
	str_deinit(&names);
	return o->listener == NULL ? EX_USAGE : EX_OK;
}

/* As if it were discard: nobody is asked, no key or password is read. */
static void
cut_off(struct backend *b)
{
	b->kind = BACKEND_DISCARD;
	b->conf.auth_password_file = NULL;
	net_tls_live_free(&b->tls);
}

/* Nobody listens, and whoever runs this is known: what clients have to do before they may speak falls away. */
static void
adapt(struct oneshot *o)
{
	struct settings *st = o->settings;

	for (int i = 0; i < st->listener_count; i++) {
		struct listener *l = &st->listeners[i];

		l->conf.listen.count = 0;
		l->conf.smtp.starttls = 0;
		l->conf.smtp.implicit_tls = false;
		l->conf.smtp.early_talker = 0;
		net_tls_live_free(&l->tls);
	}
	for (int i = 0; i < st->backend_count; i++)
		if (o->mail.explain != NULL || &st->backends[i] != o->listener->backend)
			cut_off(&st->backends[i]);
	st->health.listen.count = 0;
	st->workers = 1;
}

/* That of the spool is the daemon's; who is not its user has a folder of his own while it lasts. */
static int
find_directory(struct oneshot *o, struct err *err)
{
	const char *tmp = getenv("TMPDIR");
	int fd = spool_open_unnamed(o->settings->spool.directory);

	if (fd >= 0) {
		close(fd);
		return 0;
	}
	snprintf(o->own_directory, sizeof(o->own_directory), "%s/postern.XXXXXX",
		tmp != NULL && tmp[0] == '/' ? tmp : P_tmpdir);
	if (mkdtemp(o->own_directory) == NULL) {
		o->own_directory[0] = '\0';
		return err_sys(err, "cannot make a folder for the message in %s", tmp != NULL ? tmp : P_tmpdir);
	}
	o->settings->spool.directory = o->own_directory;
	return 0;
}

static int
load(struct oneshot *o)
{
	int rc = settings_load(o->file, &o->config, &o->settings);

	if (rc < 0)
		config_print_problems(o->config, stderr);
	if (rc < 0)
		return EX_CONFIG;
	rc = find_listener(o);
	if (rc == EX_OK)
		adapt(o);
	o->explain.settings = o->settings;
	o->explain.listener = o->listener;
	explain_init(&o->explain);
	return rc;
}

static int
read_mail(struct oneshot *o)
{
	struct err err;

	if (find_directory(o, &err) < 0 ||
		oneshot_read(&o->mail, STDIN_FILENO, o->settings->spool.directory, &err) < 0) {
		fprintf(stderr, "postern: %s\n", err.text);
		return EX_IOERR;
	}
	if (o->mail.sender == NULL && !o->mail.has_from_line)
		return usage("there is no sender: give -s SENDER (-s \"\" for the null sender), or begin the message with a "
			"line \"From ADDRESS ...\"");
	if (o->mail.sender == NULL)
		o->mail.sender = o->mail.from_line;
	return EX_OK;
}

/* As root, filters would run as root. */
static int
become_user(const struct oneshot *o)
{
	struct user user;
	struct err err;

	if (user_find(o->settings, &user, &err) == 0 && user_become(&user, &err) == 0)
		return EX_OK;
	fprintf(stderr, "postern: %s\n", err.text);
	return EX_CONFIG;
}

/* What goes wrong, to whoever watches; the daemon's log is not ours. */
static int
open_log(const struct oneshot *o)
{
	struct log_conf lc = settings_log_conf(o->settings, true, o->is_verbose);
	struct err err;

	if (!o->is_verbose)
		lc.level = LOG_LEVEL_WARN;
	lc.format = LOG_FORMAT_TEXT;
	return log_open(&lc, &err);
}

/* ---- processes and threads ---- */

static pid_t
fork_spawner(int fds[2])
{
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return -1;
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(fds[0]);
		spawn_main(fds[1]);
	}
	close(fds[1]);
	return pid;
}

/* On the worker. */
static void
begin_session(void *arg)
{
	struct oneshot *o = arg;
	struct engine_worker *ew = o->worker;

	session_start_as(ew, ew->snapshot, o->listener, o->session_fd, o->has_client ? &o->client : NULL);
}

static void
engine_ready(struct engine *e, void *arg)
{
	struct oneshot *o = arg;
	struct engine_worker *ew = engine_worker(e, 0);

	if (o->mail.explain != NULL) {
		ew->explain = &o->explain;
		ew->filters.trace = &o->explain.trace;
	}
	o->worker = ew;
	net_post(ew->net, begin_session, o);
}

static void *
front_main(void *arg)
{
	struct oneshot *o = arg;

	oneshot_talk(&o->mail, o->front_fd);
	close(o->monitor_fd); /* for the engine: no more mail */
	return NULL;
}

static int
run_engine(struct oneshot *o, int spawner_fd, int channel)
{
	static char helper_path[PATH_MAX];
	struct sockets sockets = { 0 };
	struct engine_args args = {
		.config = o->config,
		.generation = 1,
		.starts = 1,
		.sockets = &sockets,
		.spawner_fd = spawner_fd,
		.monitor_fd = channel,
		.config_path = o->file,
		.helper_path = helper_path,
		.to_stderr = true,
		.verbose = o->is_verbose,
		.ready = engine_ready,
		.ready_arg = o,
	};

	helper_path_find(helper_path, sizeof(helper_path));
	return engine_main(&args);
}

static int
run(struct oneshot *o)
{
	int spawner[2], channel[2], talk[2], rc;
	pid_t pid = fork_spawner(spawner);

	if (pid < 0 || channel_pair(channel) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, talk) < 0) {
		perror("postern: the start");
		return EX_OSERR;
	}
	o->monitor_fd = channel[0];
	o->front_fd = talk[0];
	o->session_fd = talk[1];
	if (pthread_create(&o->front, NULL, front_main, o) != 0) {
		perror("postern: pthread_create");
		return EX_OSERR;
	}
	rc = run_engine(o, spawner[0], channel[1]);
	if (o->worker == NULL)
		close(o->session_fd); /* it never began: the front hears so */
	pthread_join(o->front, NULL);
	close(spawner[0]);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return rc != EX_OK ? rc : o->mail.status;
}

int
oneshot_main(int argc, char **argv)
{
	struct oneshot o = { .file = POSTERN_CONF, .mail.helo = "localhost" };
	int rc = parse_arguments(&o, argc, argv);

	if (rc != EX_OK)
		return rc;
	umask(077);
	signal(SIGPIPE, SIG_IGN);
	rc = load(&o);
	if (rc == EX_OK)
		rc = become_user(&o);
	if (rc == EX_OK)
		rc = read_mail(&o);
	if (rc == EX_OK && open_log(&o) < 0)
		rc = EX_OSERR;
	if (rc == EX_OK)
		rc = run(&o);
	else
		config_unref(&o.config);
	if (o.own_directory[0] != '\0')
		rmdir(o.own_directory);
	fflush(NULL);
	return rc;
}
