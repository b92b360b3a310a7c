/*
 * config/snapshot.c - loading, counting and asking one configuration.
 */
#include "config/config.h"

#include <string.h>

#include "base/hash.h"
#include "config/build.h"
#include "config/parse.h"
#include "config/source.h"

static struct config *
config_new(void)
{
	struct arena *arena = arena_new();
	struct config *conf = arena_zalloc(arena, sizeof(*conf));

	conf->arena = arena;
	conf->names = hash_new();
	conf->digest = 0xcbf29ce484222325ULL; /* FNV-1a's beginning */
	conf->refs = 1;
	TAILQ_INIT(&conf->problems);
	STAILQ_INIT(&conf->lists);
	return conf;
}

/* An unreadable file is an empty one: all blocks are there with their defaults. */
static int
load(struct config *conf, const struct config_source *source, const struct config_section *top)
{
	config_build(conf, source->name, top, config_parse_tree(conf, source));
	return conf->error_count != 0 ? -1 : 0;
}

int
config_load(const char *path, const struct config_section *top, struct config **conf_r)
{
	struct config_source source;

	*conf_r = config_new();
	if (config_source_read(*conf_r, path, NULL, NULL, &source) < 0)
		source.text = "";
	return load(*conf_r, &source, top);
}

int
config_load_text(const char *name, const char *text, size_t len, const struct config_section *top,
	struct config **conf_r)
{
	struct config *conf = *conf_r = config_new();
	struct config_source source = {
		.name = arena_strdup(conf->arena, name),
		.text = arena_strndup(conf->arena, text, len),
		.len = len,
	};

	return load(conf, &source, top);
}

struct config *
config_ref(struct config *conf)
{
	__atomic_add_fetch(&conf->refs, 1, __ATOMIC_RELAXED);
	return conf;
}

struct config_kept {
	const void *key;
	void *value;
	void (*free)(void *value);
	struct config_kept *next;
};

void
config_keep(struct config *conf, const void *key, void *value, void (*free)(void *value))
{
	struct config_kept *kept = arena_alloc(conf->arena, sizeof(*kept));

	*kept = (struct config_kept){key, value, free, conf->kept};
	conf->kept = kept;
}

void *
config_kept(const struct config *conf, const void *key)
{
	const struct config_kept *kept = conf->kept;

	while (kept != NULL && kept->key != key)
		kept = kept->next;
	return kept != NULL ? kept->value : NULL;
}

void
config_unref(struct config **conf)
{
	struct config *c = *conf;
	struct arena *arena;

	*conf = NULL;
	if (c == NULL || __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	if (c->settings_free != NULL)
		c->settings_free(c->settings);
	for (const struct config_kept *kept = c->kept; kept != NULL; kept = kept->next)
		kept->free(kept->value);
	hash_free(&c->names);
	arena = c->arena;
	arena_free(&arena);
}

static const struct config_value *
find_value(const struct config_block *block, const char *option)
{
	const struct config_option *options;
	size_t g, i;

	for (g = 0; g < ARRAY_COUNT(block->values); g++) {
		options = block->section->groups[g].options;
		for (i = 0; options != NULL && options[i].name != NULL; i++) {
			if (strcmp(options[i].name, option) == 0)
				return &block->values[g][i];
		}
	}
	return NULL;
}

const struct config_place *
config_place_of(const struct config_block *block, const char *option)
{
	const struct config_value *value = find_value(block, option);

	return value != NULL && value->place.file != NULL ? &value->place : &block->place;
}

bool
config_is_set(const struct config_block *block, const char *option)
{
	const struct config_value *value = find_value(block, option);

	return value != NULL && value->place.file != NULL;
}

bool
config_nets_have(const struct config_nets *nets, const struct ip_addr *addr)
{
	for (size_t i = 0; i < nets->count; i++)
		if (ip_net_has(&nets->list[i], addr))
			return true;
	return nets->any;
}

struct config_block *
config_find_one(const struct config_block *in, const char *section)
{
	struct config_block *block;

	TAILQ_FOREACH(block, in->blocks, next)
	{
		if (block->section->arity == CONFIG_ONE &&
			strcmp(block->section->name, section) == 0)
			return block;
	}
	return NULL;
}

struct config_block *
config_find_named(const struct config *conf, const char *space, const char *name)
{
	return *name != '\0' ? config_build_find(conf, conf->top, space, name) : NULL;
}
