/*
 * mail/edit_envelope.c - changes of sender and recipients: asked for, and their effect.
 */
#include <string.h>

#include "mail/address.h"
#include "mail/edit.h"

static struct mail_edit *
ask(struct mail_edits *e, enum mail_edit_kind kind)
{
	struct mail_edit *edit = arena_zalloc(e->arena, sizeof(*edit));

	edit->kind = kind;
	edit->text = "";
	STAILQ_INSERT_TAIL(&e->list, edit, next);
	return edit;
}

static const char *
copy(struct arena *arena, const char *text)
{
	return text != NULL ? arena_strdup(arena, text) : NULL;
}

void
mail_edit_sender(struct mail_edits *e, const struct mail_sender *sender)
{
	struct mail_sender *made = arena_memdup(e->arena, sender, sizeof(*sender));

	made->addr = copy(e->arena, sender->addr);
	made->domain = mail_address_domain(made->addr);
	made->envid = copy(e->arena, sender->envid);
	made->auth = sender->auth != NULL ? "<>" : NULL;
	ask(e, MAIL_EDIT_SENDER)->sender = made;
}

static struct mail_rcpt *
copy_rcpt(struct arena *arena, const struct mail_rcpt *rcpt)
{
	struct mail_rcpt *made = arena_alloc(arena, sizeof(*made));

	made->addr = copy(arena, rcpt->addr);
	made->domain = mail_address_domain(made->addr);
	made->notify = copy(arena, rcpt->notify);
	made->orcpt = copy(arena, rcpt->orcpt);
	return made;
}

void
mail_edit_add_rcpt(struct mail_edits *e, const struct mail_rcpt *rcpt)
{
	ask(e, MAIL_EDIT_ADD_RCPT)->rcpt = copy_rcpt(e->arena, rcpt);
}

void
mail_edit_remove_rcpt(struct mail_edits *e, const char *addr)
{
	const struct mail_rcpt rcpt = {.addr = addr};

	ask(e, MAIL_EDIT_REMOVE_RCPT)->rcpt = copy_rcpt(e->arena, &rcpt);
}

/* ---- the effect --------------------------------------------------------------------------- */

/* A list that grows by no more than there are edits. */
struct making {
	const struct mail_rcpt **rcpts;
	struct mail_envelope *envelope;
};

static size_t
find(const struct making *m, const char *addr)
{
	size_t i = 0;

	while (i < m->envelope->rcpt_count && !mail_address_same(m->rcpts[i]->addr, addr))
		i++;
	return i;
}

static void
add(struct making *m, const struct mail_rcpt *rcpt)
{
	struct mail_envelope *envelope = m->envelope;

	if (find(m, rcpt->addr) < envelope->rcpt_count)
		return;
	m->rcpts[envelope->rcpt_count++] = rcpt;
	envelope->is_changed = true;
}

/* All of them: a front may give one twice. */
static void
remove_all(struct making *m, const char *addr)
{
	struct mail_envelope *envelope = m->envelope;
	size_t i;

	while ((i = find(m, addr)) < envelope->rcpt_count) {
		envelope->rcpt_count--;
		envelope->own_count -= i < envelope->own_count;
		memmove(m->rcpts + i, m->rcpts + i + 1, (envelope->rcpt_count - i) * sizeof(m->rcpts[0]));
		envelope->is_changed = true;
	}
}

/* The message is the same, whoever sends it. */
static void
set_sender(struct making *m, struct arena *arena, const struct mail_sender *asked)
{
	const struct mail_sender *old = m->envelope->sender;
	struct mail_sender *made = arena_memdup(arena, asked, sizeof(*asked));

	made->size = old->size;
	made->body = old->body;
	made->smtputf8 = old->smtputf8;
	m->envelope->sender = made;
	m->envelope->is_changed = true;
}

static size_t
count(const struct mail_edit_list *list)
{
	const struct mail_edit *edit;
	size_t n = 0;

	STAILQ_FOREACH(edit, list, next)
		n++;
	return n;
}

void
mail_edits_envelope(struct arena *arena, const struct mail_edits *version, const struct mail_sender *sender,
	const struct mail_rcpt *const *rcpts, size_t rcpt_count, struct mail_envelope *envelope_r)
{
	struct making m = {.envelope = envelope_r};
	const struct mail_edit *edit;

	*envelope_r = (struct mail_envelope){
		.sender = sender, .rcpts = rcpts, .rcpt_count = rcpt_count, .own_count = rcpt_count};
	if (version == NULL || STAILQ_EMPTY(&version->envelope))
		return;
	m.rcpts = arena_alloc(arena, (rcpt_count + count(&version->envelope)) * sizeof(m.rcpts[0]));
	if (rcpt_count > 0)
		memcpy(m.rcpts, rcpts, rcpt_count * sizeof(m.rcpts[0]));
	envelope_r->rcpts = m.rcpts;
	STAILQ_FOREACH(edit, &version->envelope, next)
	{
		if (edit->kind == MAIL_EDIT_SENDER)
			set_sender(&m, arena, edit->sender);
		else if (edit->kind == MAIL_EDIT_ADD_RCPT)
			add(&m, edit->rcpt);
		else
			remove_all(&m, edit->rcpt->addr);
	}
}
