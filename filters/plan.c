/* filters/plan.c - parts recipients by their next filter, again and again. */
#include "filters/plan.h"

#include <stdbool.h>

#include "filters/filter.h"

struct planner {
	struct arena *arena;
	const struct filter_chain *const *chains;
};

static const struct filter *
filter_at(const struct planner *p, size_t rcpt, size_t depth)
{
	const struct filter_chain *chain = p->chains[rcpt];

	return depth < chain->count ? chain->filters[depth] : NULL;
}

/* Those of list whose filter at this depth is `wanted`; NULL: whose chain has ended. */
static const size_t *
select_rcpts(const struct planner *p, const size_t *list, size_t count, size_t depth,
	const struct filter *wanted, size_t *count_r)
{
	size_t *selected = arena_alloc(p->arena, count * sizeof(*selected));
	size_t n = 0;

	for (size_t i = 0; i < count; i++)
		if (filter_at(p, list[i], depth) == wanted)
			selected[n++] = list[i];
	*count_r = n;
	return selected;
}

/* May the filter at depth run beside the one before it? Only if all who went through that go on to
 * it. */
static bool
joins(const struct planner *p, const struct plan_step *step, size_t depth)
{
	const struct filter *f = filter_at(p, step->rcpts[0], depth);

	if (f == NULL || !filter_may_join(f->kind, f->conf, f->is_shadow))
		return false;
	for (size_t i = 1; i < step->rcpt_count; i++)
		if (filter_at(p, step->rcpts[i], depth) != f)
			return false;
	return true;
}

/* step's recipients share all filters before depth. */
static void plan_children(const struct planner *p, struct plan_step *step, size_t depth);

static struct plan_step *
plan_child(const struct planner *p, const struct plan_step *parent, const struct filter *f,
	size_t depth)
{
	struct plan_step *step = arena_zalloc(p->arena, sizeof(*step));

	step->rcpts =
		select_rcpts(p, parent->rcpts, parent->rcpt_count, depth, f, &step->rcpt_count);
	step->filters = &p->chains[step->rcpts[0]]->filters[depth];
	step->filter_count = 1;
	if (filter_looks_only(f->kind, f->conf, f->is_shadow))
		while (joins(p, step, depth + step->filter_count))
			step->filter_count++;
	plan_children(p, step, depth + step->filter_count);
	return step;
}

static bool
has_child(const struct plan_step *step, const struct filter *f)
{
	for (size_t i = 0; i < step->child_count; i++)
		if (step->children[i]->filters[0] == f)
			return true;
	return false;
}

static void
plan_children(const struct planner *p, struct plan_step *step, size_t depth)
{
	step->last = select_rcpts(p, step->rcpts, step->rcpt_count, depth, NULL, &step->last_count);
	step->children = arena_alloc(
		p->arena, (step->rcpt_count - step->last_count) * sizeof(step->children[0]));
	for (size_t i = 0; i < step->rcpt_count; i++) {
		const struct filter *f = filter_at(p, step->rcpts[i], depth);

		if (f != NULL && !has_child(step, f))
			step->children[step->child_count++] = plan_child(p, step, f, depth);
	}
}

struct plan_step *
plan_new(struct arena *arena, const struct filter_chain *const *chains, size_t rcpt_count)
{
	const struct planner p = {arena, chains};
	struct plan_step *root = arena_zalloc(arena, sizeof(*root));
	size_t *rcpts = arena_alloc(arena, rcpt_count * sizeof(*rcpts));

	for (size_t i = 0; i < rcpt_count; i++)
		if (chains[i] != NULL)
			rcpts[root->rcpt_count++] = i;
	root->rcpts = rcpts;
	plan_children(&p, root, 0);
	return root;
}
