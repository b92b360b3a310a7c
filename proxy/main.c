/*
 * proxy/main.c - the command line of postern(8).
 */
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "filters/set.h"
#include "proxy/check.h"
#include "proxy/log_events.h"
#include "proxy/metrics.h"
#include "proxy/monitor.h"
#include "proxy/oneshot.h"
#include "proxy/options.h"

static const char usage_text[] =
	"usage: postern [-c FILE] [-f | -F] [-v] run (-f: in the foreground, log to stderr; -v: debug log)\n"
	"                                        (-F: in the foreground, log as the configuration says)\n"
	"       postern -t [-c FILE]             check the configuration, and what it names\n"
	"       postern -1 [-c FILE] [-l LISTENER] [-s SENDER] RECIPIENT... <MESSAGE\n"
	"                                        one message: sent, printed (--no-mail) or explained (--explain)\n"
	"       postern -T [-c FILE]             print the effective configuration with its places\n"
	"       postern -T default               print the commented example file\n"
	"       postern -T filters               print the kinds of filters and their options, as for postern-filters(7)\n"
	"       postern -T log-lines             print every line of the log, explained\n"
	"       postern -T metrics               print what the health port counts (doc/metrics.md)\n"
	"       postern -V                       print the version\n"
	"       postern -h                       print this\n"
	"without -c the FILE is " POSTERN_CONF "\n";

struct arguments {
	const char *file;
	const char *topic; /* of -T: NULL, "default", "filters", "log-lines", "metrics" or "manual" */
	bool check, print, foreground, to_stderr, verbose;
};

static int
usage(void)
{
	fputs(usage_text, stderr);
	return EX_USAGE;
}

static int
wrong_switch(int c, const char *word)
{
	if (c == ':')
		fprintf(stderr, "postern: -%c needs a file behind it\n", optopt);
	else if (strncmp(word, "--", 2) == 0)
		fprintf(stderr, "postern: there is no switch %s (switches have one letter: -%c)\n", word, word[2]);
	else
		fprintf(stderr, "postern: there is no switch -%c\n", optopt);
	return usage();
}

/* Returns 0 to go on, or an exit status + 1. */
static int
parse_arguments(int argc, char **argv, struct arguments *a)
{
	int c, at = 1;

	opterr = 0;
	*a = (struct arguments){ .file = POSTERN_CONF };
	while ((c = getopt(argc, argv, ":c:fFvtTVh")) != -1) {
		switch (c) {
		case 'c':
			a->file = optarg;
			break;
		case 'f':
			a->foreground = a->to_stderr = true;
			break;
		case 'F':
			a->foreground = true;
			break;
		case 'v':
			a->verbose = true;
			break;
		case 't':
			a->check = true;
			break;
		case 'T':
			a->print = true;
			break;
		case 'V':
			puts("postern " POSTERN_VERSION);
			return EX_OK + 1;
		case 'h':
			fputs(usage_text, stdout);
			return EX_OK + 1;
		default:
			return wrong_switch(c, argv[at]) + 1;
		}
		at = optind;
	}
	if (a->print && optind < argc)
		a->topic = argv[optind++];
	if (optind < argc) {
		fprintf(stderr, "postern: \"%s\" is one word too many (a file is named with -c)\n", argv[optind]);
		return usage() + 1;
	}
	return 0;
}

static int
print_topic(const char *topic)
{
	settings_prepare();
	if (strcmp(topic, "default") == 0)
		config_print_example(&top_section, stdout);
	else if (strcmp(topic, "manual") == 0)
		config_print_manual(&top_section, stdout);
	else if (strcmp(topic, "filters") == 0)
		config_print_manual_of(&top_section, "filter", stdout);
	else if (strcmp(topic, "log-lines") == 0)
		log_events_print(stdout);
	else if (strcmp(topic, "metrics") == 0)
		metrics_print_doc(stdout);
	else {
		fprintf(stderr, "postern: -T takes nothing, or the word default, filters, log-lines or metrics, not \"%s\"\n", topic);
		return EX_USAGE;
	}
	return EX_OK;
}

static unsigned
count_warnings(const struct config *conf)
{
	const struct config_problem *p;
	unsigned n = 0;

	TAILQ_FOREACH(p, &conf->problems, next)
		n += p->is_warning;
	return n;
}

static void
say_good(const struct config *conf, const char *file)
{
	unsigned n = count_warnings(conf);

	printf("%s: the configuration is good", file);
	if (n > 0)
		printf(", %u warning%s", n, n > 1 ? "s" : "");
	putchar('\n');
}

/* No mistake, but who has not heard of it wonders at the 452 in the front's log. */
static void
say_parted(const struct settings *st)
{
	for (int i = 0; i < st->listener_count; i++) {
		const struct listener *l = &st->listeners[i];
		const struct config_place *place = &l->block->place;

		if (filter_set_may_differ(st->filters, l->name))
			printf("%s:%d:%d: note: listener %s: recipients whose filters are not those of a message's first one "
			       "get 452, and the front sends them in a transaction of their own\n",
				place->file, place->line, place->column, l->name);
	}
}

/* A daemon leaves the folder that a relative path begins in. Links stay: where they lead may change. */
static const char *
lasting_path(const char *file)
{
	static char path[PATH_MAX];
	char here[PATH_MAX];

	if (*file == '/' || getcwd(here, sizeof(here)) == NULL ||
		snprintf(path, sizeof(path), "%s/%s", here, file) >= (int)sizeof(path))
		return file;
	return path;
}

/* In whose place are we, and what have we got from whoever started us? */
static int
take_legacy(struct monitor_args *margs)
{
	static struct handover handover;
	bool is_successor;
	struct err err;

	if (handover_take(&handover, &is_successor, &err) < 0) {
		fprintf(stderr, "postern: %s\n", err.text);
		return -1;
	}
	if (is_successor)
		margs->handover = &handover;
	else
		inherited_take(&margs->inherited);
	return 0;
}

static bool
load(const struct arguments *a, struct monitor_args *margs)
{
	bool is_good;

	margs->read_at = config_watch_clock();
	if (settings_load(a->file, &margs->config, &margs->settings) == 0 && a->check)
		check_settings(margs->settings);
	config_print_problems(margs->config, stderr);
	is_good = margs->config->error_count == 0;
	if (!is_good)
		config_unref(&margs->config);
	return is_good;
}

int
main(int argc, char **argv)
{
	struct arguments a;
	struct monitor_args margs = { 0 };
	int rc;

	if (oneshot_is_wanted(argc, argv))
		return oneshot_main(argc, argv);
	rc = parse_arguments(argc, argv, &a);
	if (rc != 0)
		return rc - 1;
	if (a.topic != NULL)
		return print_topic(a.topic);
	if (!a.check && !a.print && !a.foreground)
		a.file = lasting_path(a.file);
	if (!a.check && !a.print && take_legacy(&margs) < 0)
		return EX_SOFTWARE;
	if (margs.handover == NULL && !load(&a, &margs))
		return EX_CONFIG;
	if (a.print)
		config_print_effective(margs.config, stdout);
	if (a.check && !a.print) {
		say_parted(margs.settings);
		say_good(margs.config, a.file);
	}
	if (a.check || a.print) {
		config_unref(&margs.config);
		return EX_OK;
	}
	margs.file = a.file;
	margs.foreground = a.foreground;
	margs.to_stderr = a.to_stderr;
	margs.verbose = a.verbose;
	return monitor_main(&margs);
}
