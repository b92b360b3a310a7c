/*
 * config/print.c - the effective configuration, in the form of the file.
 */
#include "config/config.h"

#include <string.h>

#include "base/str.h"
#include "config/value.h"
#include "config/words.h"

#define VALUE_WIDTH_MAX 40 /* longer ones push their comment to the right */

struct printer {
	FILE *out;
	int indent;
	bool is_absent; /* inside a block that nobody wrote: all of it is a comment */
};

static void
begin_line(const struct printer *p)
{
	int i;

	if (p->is_absent)
		fputc('#', p->out);
	for (i = 0; i < p->indent; i++)
		fputc('\t', p->out);
}

static void
value_text(const struct config_value *value, struct str *text)
{
	str_clear(text);
	if (value->words.count != 0)
		words_write(text, &value->words);
	else
		config_value_syntax(value->option, text);
}

/* How wide the two columns of a block are. */
static void
measure(const struct config_block *block, int *name_width, int *value_width)
{
	struct str text = STR_INIT;
	const struct config_option *options;
	size_t g, i, len;

	*name_width = *value_width = 0;
	for (g = 0; g < ARRAY_COUNT(block->values); g++) {
		options = block->section->groups[g].options;
		for (i = 0; options != NULL && options[i].name != NULL; i++) {
			len = strlen(options[i].name);
			if ((int)len > *name_width)
				*name_width = (int)len;
			value_text(&block->values[g][i], &text);
			if (text.len <= VALUE_WIDTH_MAX && (int)text.len > *value_width)
				*value_width = (int)text.len;
		}
	}
	str_deinit(&text);
}

static void
print_place(const struct printer *p, const struct config_place *place)
{
	char file[256];

	str_clean(file, sizeof(file) - 1, place->file, strlen(place->file), true);
	fprintf(p->out, "# %s:%d\n", file, place->line);
}

static void
print_value(
	const struct printer *p, const struct config_value *value, int name_width, int value_width)
{
	bool is_written = value->place.file != NULL;
	struct str text = STR_INIT;

	value_text(value, &text);
	begin_line(p);
	fprintf(p->out, "%s%-*s %-*s  ", is_written ? "" : "#", name_width + is_written,
		value->option->name, value_width, str_text(&text));
	if (is_written)
		print_place(p, &value->place);
	else
		fprintf(p->out, "# %s\n", value->option->def != NULL ? "default" : "not set");
	str_deinit(&text);
}

static void
print_values(const struct printer *p, const struct config_block *block)
{
	const struct config_option *options;
	int name_width, value_width;
	size_t g, i;

	measure(block, &name_width, &value_width);
	for (g = 0; g < ARRAY_COUNT(block->values); g++) {
		options = block->section->groups[g].options;
		for (i = 0; options != NULL && options[i].name != NULL; i++)
			print_value(p, &block->values[g][i], name_width, value_width);
	}
}

static void
print_blocks(const struct printer *p, const struct config_block *block)
{
	const struct config_block *child;

	TAILQ_FOREACH(child, block->blocks, next)
	{
		struct printer inner = {
			.out = p->out,
			.indent = p->indent + 1,
			.is_absent = p->is_absent || child->place.file == NULL,
		};
		struct printer outer = *p;

		outer.is_absent = inner.is_absent;
		if (p->indent == 0)
			fputc('\n', p->out);
		begin_line(&outer);
		fprintf(p->out, "%s %s%s{  ", child->section->name, child->name,
			*child->name != '\0' ? " " : "");
		if (child->place.file != NULL)
			print_place(&outer, &child->place);
		else
			fputs("# not written\n", p->out);
		print_values(&inner, child);
		print_blocks(&inner, child);
		begin_line(&outer);
		fputs("}\n", p->out);
	}
}

void
config_print_effective(const struct config *conf, FILE *out)
{
	struct printer p = {.out = out};

	print_values(&p, conf->top);
	print_blocks(&p, conf->top);
}
