/*
 * t/milter/indexer.c - a filter by libmilter that makes the header edits of a file, to see what an MTA makes of them.
 *
 *   indexer SOCKET FILE
 *
 * SOCKET is inet:PORT@HOST or unix:PATH. At the end of each message FILE is read, one edit on a line:
 *
 *   add NAME VALUE
 *   insert INDEX NAME VALUE
 *   change INDEX NAME VALUE      (without VALUE: the empty one)
 *
 * and the fields that the MTA has shown are written to FILE.seen, each as "NAME: VALUE".
 */
#include <libmilter/mfapi.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *edits;
static char *seen;
static size_t seen_len;
static FILE *seen_file;

static sfsistat
begin(SMFICTX *ctx, char **args)
{
	(void)ctx;
	(void)args;
	if (seen_file != NULL)
		fclose(seen_file);
	free(seen);
	seen = NULL;
	seen_file = open_memstream(&seen, &seen_len);
	return seen_file != NULL ? SMFIS_CONTINUE : SMFIS_TEMPFAIL;
}

static sfsistat
see(SMFICTX *ctx, char *name, char *value)
{
	(void)ctx;
	fprintf(seen_file, "%s: %s\n", name, value);
	return SMFIS_CONTINUE;
}

static int
tell_seen(void)
{
	char path[4096];
	FILE *out;

	snprintf(path, sizeof(path), "%s.seen", edits);
	if (fflush(seen_file) != 0 || (out = fopen(path, "w")) == NULL)
		return -1;
	fputs(seen, out);
	return fclose(out);
}

/* NAME and what stands behind it; for all but add a number in front. */
static int
make_edit(SMFICTX *ctx, char *line)
{
	char *rest = line + strcspn(line, "\n");
	char *verb, *name, empty[] = "";
	int index = 0;

	*rest = '\0';
	rest = line;
	verb = strsep(&rest, " ");
	if (rest != NULL && strcmp(verb, "add") != 0)
		index = atoi(strsep(&rest, " "));
	name = strsep(&rest, " ");
	if (name == NULL)
		return MI_FAILURE;
	if (rest == NULL)
		rest = empty;
	if (strcmp(verb, "add") == 0)
		return smfi_addheader(ctx, name, rest);
	if (strcmp(verb, "insert") == 0)
		return smfi_insheader(ctx, index, name, rest);
	return strcmp(verb, "change") == 0 ? smfi_chgheader(ctx, name, index, rest) : MI_FAILURE;
}

static sfsistat
end(SMFICTX *ctx)
{
	sfsistat how = SMFIS_CONTINUE;
	char line[1024];
	FILE *in = fopen(edits, "r");

	if (in == NULL || tell_seen() < 0)
		how = SMFIS_TEMPFAIL;
	while (in != NULL && fgets(line, sizeof(line), in) != NULL)
		if (*line != '\n' && make_edit(ctx, line) != MI_SUCCESS)
			how = SMFIS_TEMPFAIL;
	if (in != NULL)
		fclose(in);
	return how;
}

int
main(int argc, char **argv)
{
	static char name[] = "indexer";
	struct smfiDesc filter = {
		.xxfi_name = name,
		.xxfi_version = SMFI_VERSION,
		.xxfi_flags = SMFIF_ADDHDRS | SMFIF_CHGHDRS,
		.xxfi_envfrom = begin,
		.xxfi_header = see,
		.xxfi_eom = end,
	};

	if (argc != 3) {
		fprintf(stderr, "usage: indexer SOCKET FILE\n");
		return 64;
	}
	edits = argv[2];
	if (smfi_setconn(argv[1]) != MI_SUCCESS || smfi_register(filter) != MI_SUCCESS)
		return 1;
	return smfi_main() == MI_SUCCESS ? 0 : 1;
}
