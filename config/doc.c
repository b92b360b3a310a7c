/*
 * config/doc.c - what the tables of options say: the example file and the manual's chapter.
 */
#include "config/config.h"

#include <ctype.h>
#include <string.h>

#include "base/str.h"
#include "config/build.h"
#include "config/value.h"

#define MANUAL_WIDTH 78

/*
 * Sections of one name space may begin with the same rows (what is common to all filters). These
 * are told once, at the first such section.
 */
struct teller {
	FILE *out;
	const struct config_option *common;
};

static bool
has_common(const struct config_section *section)
{
	return section->groups[0].options != NULL && section->groups[1].options != NULL;
}

/* Is group g of the section still to be told here? The common one is told apart. */
static bool
is_own(const struct config_section *section, size_t g)
{
	return section->groups[g].options != NULL && (g == 1 || !has_common(section));
}

static bool
common_is_new(struct teller *t, const struct config_section *section)
{
	if (!has_common(section) || t->common == section->groups[0].options)
		return false;
	t->common = section->groups[0].options;
	return true;
}

/* marks: "#" for what may be uncommented, "##" for what only shows the form. */
static void
example_rows(FILE *out, const struct config_option *options, const char *marks, const char *indent)
{
	struct str value = STR_INIT, range = STR_INIT;
	const struct config_option *o;

	for (o = options; o->name != NULL; o++) {
		str_clear(&value);
		str_clear(&range);
		if (o->def != NULL)
			str_add(&value, o->def);
		else
			config_value_syntax(o, &value);
		config_value_range(o, &range);
		fprintf(out, "%s%s%-20s %-24s # %s", o->def != NULL ? marks : "##", indent, o->name,
			str_text(&value), o->help);
		if (o->type == CONFIG_T_ENUM) {
			str_clear(&value);
			config_value_syntax(o, &value);
			fprintf(out, " (%s)", str_text(&value));
		} else if (range.len != 0) {
			fprintf(out, " (%s)", str_text(&range));
		}
		fputc('\n', out);
	}
	str_deinit(&value);
	str_deinit(&range);
}

static void
example_own_rows(
	FILE *out, const struct config_section *section, const char *marks, const char *indent)
{
	size_t g;

	for (g = 0; g < ARRAY_COUNT(section->groups); g++) {
		if (is_own(section, g))
			example_rows(out, section->groups[g].options, marks, indent);
	}
}

/* The sample block, line by line; behind a mark, unless the file would be of no use without it. */
static void
example_text(FILE *out, const char *text, const char *mark)
{
	const char *end;

	for (; *text != '\0'; text = *end != '\0' ? end + 1 : end) {
		end = strchrnul(text, '\n');
		fprintf(out, "%s%.*s\n", mark, (int)(end - text), text);
	}
}

static void example_inner(
	FILE *out, const struct config_section *section, const char *marks, const char *indent);

/* A block with all its rows; with marks "##" only to be read. */
static void
example_block(
	FILE *out, const struct config_section *section, const char *marks, const char *indent)
{
	struct str inner = STR_INIT;

	str_printf(&inner, "%s\t", indent);
	fprintf(out, "%s%s%s%s {\n", marks, indent, section->name,
		section->arity == CONFIG_NAMED ? " NAME" : "");
	example_own_rows(out, section, marks, str_text(&inner));
	example_inner(out, section, marks, str_text(&inner));
	fprintf(out, "%s%s}\n", marks, indent);
	str_deinit(&inner);
}

static void
example_inner(
	FILE *out, const struct config_section *section, const char *marks, const char *indent)
{
	const struct config_section *const *s;

	for (s = section->sections; s != NULL && *s != NULL; s++)
		example_block(out, *s, (*s)->arity == CONFIG_ONE ? marks : "##", indent);
}

static void
example_section(struct teller *t, const struct config_section *section)
{
	if (common_is_new(t, section)) {
		fprintf(t->out, "\n## options common to every %s\n", config_build_space(section));
		example_rows(t->out, section->groups[0].options, "##", "\t");
	}
	fprintf(t->out, "\n## %s: %s\n", section->name, section->help);
	/* One of a name space would ask for a place where its name is used. */
	if (section->example != NULL)
		example_text(t->out, section->example,
			section->is_needed ? "" : section->space != NULL ? "##" : "#");
	example_block(t->out, section,
		section->arity == CONFIG_ONE && section->example == NULL ? "#" : "##", "");
}

void
config_print_example(const struct config_section *top, FILE *out)
{
	struct teller t = {.out = out};
	const struct config_section *const *s;

	fputs("## Lines with one # show a default or a sample: take it away to change them.\n"
	      "## Lines with two explain.\n\n",
		out);
	example_own_rows(out, top, "#", "");
	for (s = top->sections; s != NULL && *s != NULL; s++)
		example_section(&t, *s);
}

/* A word that is neither a request nor an escape. */
static void
manual_word(FILE *out, const char *word, size_t len, bool is_first)
{
	size_t i;

	if (is_first && (*word == '.' || *word == '\''))
		fputs("\\&", out);
	for (i = 0; i < len; i++) {
		if (word[i] == '\\')
			fputs("\\e", out);
		else
			fputc(word[i], out);
	}
}

/* Text lines: of a width that formatters do not complain about, and each sentence on a new one. */
static void
manual_lines(FILE *out, const char *text)
{
	size_t column = 0, len;

	for (; *text != '\0'; text += len + strspn(text + len, " ")) {
		len = strcspn(text, " ");
		if (column != 0 && (column + 1 + len > MANUAL_WIDTH || strchr(".!?", text[-2]) != NULL)) {
			fputc('\n', out);
			column = 0;
		} else if (column != 0) {
			fputc(' ', out);
			column++;
		}
		manual_word(out, text, len, column == 0);
		column += len;
	}
	fputc('\n', out);
}

/* With a capital in front and a full stop at the end. */
static void
manual_sentence(FILE *out, const char *phrase)
{
	struct str text = STR_INIT;

	if (*phrase == '\0')
		return;
	str_addc(&text, (char)toupper((unsigned char)*phrase));
	str_add(&text, phrase + 1);
	if (strchr(".!?:", text.data[text.len - 1]) == NULL)
		str_addc(&text, '.');
	manual_lines(out, str_text(&text));
	str_deinit(&text);
}

static void
manual_row(FILE *out, const struct config_option *o)
{
	struct str text = STR_INIT;

	config_value_syntax(o, &text);
	if (o->type == CONFIG_T_ENUM || o->type == CONFIG_T_BOOL)
		fprintf(out, ".It Ic %s Cm %s\n", o->name, str_text(&text)); /* words as they are */
	else
		fprintf(out, ".It Ic %s Ar \"%s\"\n", o->name, str_text(&text));
	manual_sentence(out, o->help);
	str_clear(&text);
	config_value_range(o, &text);
	if (text.len != 0)
		fprintf(out, "From %s.\n", str_text(&text));
	if (o->def != NULL)
		fprintf(out, "Default: %s.\n", o->def);
	str_deinit(&text);
}

static void
manual_rows(FILE *out, const struct config_option *options)
{
	const struct config_option *o;

	fputs(".Bl -tag -width Ds\n", out);
	for (o = options; o->name != NULL; o++)
		manual_row(out, o);
	fputs(".El\n", out);
}

/* As it is: in a literal block only escapes have a meaning. */
static void
manual_example(FILE *out, const char *text)
{
	fputs("Example:\n.Bd -literal -offset indent\n", out);
	for (; *text != '\0'; text++)
		fputs(*text == '\\' ? "\\e" : (const char[]){*text, '\0'}, out);
	fputs("\n.Ed\n", out);
}

/* in: the blocks around it, "listener " for listener's tls. */
static void
manual_section(struct teller *t, const struct config_section *section, const char *in)
{
	static const char *const forms[] = {
		[CONFIG_ONE] = "",
		[CONFIG_MANY] = " (any number)",
		[CONFIG_NAMED] = " NAME",
	};
	const struct config_section *const *s;
	struct str inner = STR_INIT;
	size_t g;

	if (common_is_new(t, section)) {
		fprintf(t->out, ".Ss Common to every %s\n", config_build_space(section));
		manual_rows(t->out, section->groups[0].options);
	}
	if (*section->name != '\0') {
		fprintf(t->out, ".Ss Block %s%s%s\n", in, section->name, forms[section->arity]);
		str_printf(&inner, "%s%s ", in, section->name);
	} else {
		fputs(".Ss Top level\n", t->out);
	}
	manual_sentence(t->out, section->help);
	for (g = 0; g < ARRAY_COUNT(section->groups); g++) {
		if (is_own(section, g))
			manual_rows(t->out, section->groups[g].options);
	}
	if (section->space != NULL && section->example != NULL)
		manual_example(t->out, section->example);
	for (s = section->sections; s != NULL && *s != NULL; s++)
		if ((*s)->space == NULL)
			manual_section(t, *s, str_text(&inner));
	str_deinit(&inner);
}

void
config_print_manual(const struct config_section *top, FILE *out)
{
	struct teller t = {.out = out};

	manual_section(&t, top, "");
}

void
config_print_manual_of(const struct config_section *top, const char *space, FILE *out)
{
	struct teller t = {.out = out};
	const struct config_section *const *s;

	for (s = top->sections; s != NULL && *s != NULL; s++)
		if ((*s)->space != NULL && strcmp((*s)->space, space) == 0)
			manual_section(&t, *s, "");
}
