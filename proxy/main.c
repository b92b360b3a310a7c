/*
 * proxy/main.c - the command line of postern(8).
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "proxy/monitor.h"
#include "proxy/options.h"

static const char usage_text[] =
	"usage: postern [-c FILE] [-f] [-v]      run (-f: in the foreground, log to stderr; -v: debug log)\n"
	"       postern -t [-c FILE]             check the configuration\n"
	"       postern -T [-c FILE]             print the effective configuration with its places\n"
	"       postern -T default               print the commented example file\n"
	"       postern -V                       print the version\n"
	"       postern -h                       print this\n"
	"without -c the FILE is " POSTERN_CONF "\n";

struct arguments {
	const char *file;
	const char *topic; /* of -T: NULL, "default" or "manual" */
	bool check, print, foreground, verbose;
};

static int
usage(void)
{
	fputs(usage_text, stderr);
	return EX_USAGE;
}

/* Returns 0 to go on, or an exit status + 1. */
static int
parse_arguments(int argc, char **argv, struct arguments *a)
{
	int c;

	*a = (struct arguments){ .file = POSTERN_CONF };
	while ((c = getopt(argc, argv, "c:fvtTVh")) != -1) {
		switch (c) {
		case 'c':
			a->file = optarg;
			break;
		case 'f':
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
			return usage() + 1;
		}
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
	else {
		fprintf(stderr, "postern: -T takes nothing or the word default, not \"%s\"\n", topic);
		return EX_USAGE;
	}
	return EX_OK;
}

int
main(int argc, char **argv)
{
	struct arguments a;
	struct monitor_args margs = { 0 };
	int rc = parse_arguments(argc, argv, &a);

	if (rc != 0)
		return rc - 1;
	if (a.topic != NULL)
		return print_topic(a.topic);
	rc = settings_load(a.file, &margs.config, &margs.settings);
	config_print_problems(margs.config, stderr);
	if (rc < 0) {
		config_unref(&margs.config);
		return EX_CONFIG;
	}
	if (a.print)
		config_print_effective(margs.config, stdout);
	if (a.check && !a.print)
		printf("%s: the configuration is good\n", a.file);
	if (a.check || a.print) {
		config_unref(&margs.config);
		return EX_OK;
	}
	margs.foreground = a.foreground;
	margs.verbose = a.verbose;
	rc = monitor_main(&margs);
	config_unref(&margs.config);
	return rc;
}
