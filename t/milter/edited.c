/*
 * t/milter/edited.c - what mail/edit.c makes of the edits that t/milter/indexer.c asks for.
 *
 *   edited FILE <MESSAGE
 *
 * FILE has edits as in indexer.c. The header that they leave is written to standard output, with a Received line as
 * Postern puts one in front.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "mail/edit.h"

static void
ask(struct mail_edits *asked, char *line)
{
	char *rest = line, *verb, *name;
	size_t index = 0;

	line[strcspn(line, "\n")] = '\0';
	verb = strsep(&rest, " ");
	if (rest != NULL && strcmp(verb, "add") != 0)
		index = (size_t)strtoul(strsep(&rest, " "), NULL, 10);
	name = strsep(&rest, " ");
	if (name == NULL)
		return;
	if (strcmp(verb, "add") == 0)
		mail_edit_add(asked, name, rest != NULL ? rest : "");
	else if (strcmp(verb, "insert") == 0)
		mail_edit_insert(asked, index, name, rest != NULL ? rest : "");
	else if (rest != NULL)
		mail_edit_change(asked, index, name, rest);
	else
		mail_edit_delete(asked, index, name); /* the empty value of a milter */
}

static void
read_body(struct mail_body *body)
{
	struct str text = STR_INIT;
	int c;

	while ((c = getchar()) != EOF)
		str_addc(&text, (char)c);
	mail_body_init(body);
	mail_body_keep(body, str_text(&text), text.len);
	mail_body_note(body, str_text(&text), text.len, false);
	str_deinit(&text);
}

int
main(int argc, char **argv)
{
	struct arena *arena = arena_new();
	struct mail_edits ours, asked;
	const struct mail_edits *version;
	struct mail_body body;
	const char *header;
	char line[1024];
	size_t len;
	FILE *in = argc == 2 ? fopen(argv[1], "r") : NULL;

	if (in == NULL)
		return 64;
	read_body(&body);
	mail_edits_init(&ours, arena);
	mail_edit_prepend(&ours, "Received: by postern\r\n");
	mail_edits_init(&asked, arena);
	while (fgets(line, sizeof(line), in) != NULL)
		ask(&asked, line);
	fclose(in);
	version = mail_edits_apply(arena, &body, &ours, &asked);
	if (version == NULL || mail_edits_header(arena, &body, version, &header, &len) < 0)
		return 1;
	fwrite(header, 1, len, stdout);
	mail_body_deinit(&body);
	arena_free(&arena);
	return 0;
}
