/*
 * mail/edit.h - list of changes to one message, not yet applied; mail/view.c shows their effect.
 *
 * A struct mail_edits is used twice: for what a filter asks for, and for a version of the message.
 * mail_edits_apply() makes a version of what was asked for. Only PREPENDs can stand in a version's
 * list; all other edits of the header have been carried out in a copy of the header block, which takes
 * the place of that many octets of the body. The body behind them is never copied: it is the one that
 * came, or the one that a filter has put in its place. Changes of the envelope are kept as they were
 * asked for; mail_edits_envelope() shows their effect.
 */
#ifndef MAIL_EDIT_H
#define MAIL_EDIT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/list.h"
#include "mail/body.h"
#include "mail/envelope.h"

/* The largest header block of a message that is taken. */
#define MAIL_HEADER_MAX (1024 * 1024)
/* Changes of one message's envelope, by all its filters. */
#define MAIL_ENVELOPE_EDITS_MAX 1000

struct mail_field;

enum mail_edit_kind {
	MAIL_EDIT_PREPEND, /* whole header lines put in front of the message */
	MAIL_EDIT_ADD,     /* a field at the end of the header */
	MAIL_EDIT_INSERT,  /* a field in front of the index-th of all */
	MAIL_EDIT_CHANGE,  /* a new value for the index-th field of that name */
	MAIL_EDIT_DELETE,  /* the index-th field of that name goes */
	MAIL_EDIT_SENDER,  /* another envelope sender */
	MAIL_EDIT_ADD_RCPT,    /* one more envelope recipient */
	MAIL_EDIT_REMOVE_RCPT, /* one less */
	MAIL_EDIT_BODY,	   /* what stands behind the header is replaced */
	MAIL_EDIT_MESSAGE, /* header and body are replaced */
};
#define MAIL_EDIT_KINDS (MAIL_EDIT_MESSAGE + 1)
#define MAIL_EDIT_BIT(kind) (1u << (kind))

struct mail_edit {
	enum mail_edit_kind kind;
	const char *text; /* PREPEND: ends in CRLF, no dot at a line's begin; of a field: the value; else "" */
	size_t len;       /* of text */
	const char *name; /* of a field; NULL for PREPEND */
	size_t index;
	const struct mail_sender *sender; /* of SENDER */
	const struct mail_rcpt *rcpt;	  /* of ADD_RCPT; of REMOVE_RCPT, its address alone */
	const struct mail_body *body;	  /* of BODY and MESSAGE */
	STAILQ_ENTRY(mail_edit) next;
};
STAILQ_HEAD(mail_edit_list, mail_edit);

/* PREPENDs come first, later ones above earlier ones; then the others, in the order asked for. */
struct mail_edits {
	struct arena *arena;
	struct mail_edit_list list;
	/* Of a version; private to edit*.c and view.c. */
	struct mail_edit_list envelope; /* SENDER, ADD_RCPT, REMOVE_RCPT, in the order asked for */
	const struct mail_body *content; /* in place of the body that came; NULL: there is none */
	bool has_gap; /* content stands behind an empty line, which is not in it */
	struct mail_whole_head *whole; /* all of its header, once somebody asked */
	const char *head; /* the header block with its edits, in place of ... */
	size_t head_len;
	size_t head_cut; /* ... so many octets of the content */
};

void mail_edits_init(struct mail_edits *e, struct arena *arena);

/* What can be a field's name (RFC 5322 2.2), and its value: folded by CRLF and white space, if at all. */
bool mail_edit_is_name(const char *name);
bool mail_edit_is_value(const char *value);

/*
 * What is asked for. All texts are copied; names and values must be such (asserted), and text of
 * PREPEND one or more complete header lines ending in CRLF.
 *
 * Names compare without regard to case. Indices count the fields of the message as the one who asks
 * sees it, and what he asked for before: his own additions count, what he deleted counts no more.
 * PREPENDs are carried out after all others, and so never count.
 */
void mail_edit_prepend(struct mail_edits *e, const char *text);
/* At the end of the header: in front of the empty line, or of the first line that is no field. */
void mail_edit_add(struct mail_edits *e, const char *name, const char *value);
/* 0: above all fields; past the last one: as mail_edit_add(). */
void mail_edit_insert(struct mail_edits *e, size_t index, const char *name, const char *value);
/* From 1, 0 means 1. Keeps the spelling of the name that stands there. Past the last of that name: as
 * mail_edit_add(). */
void mail_edit_change(struct mail_edits *e, size_t index, const char *name, const char *value);
/* From 1, 0 means 1. Past the last of that name: nothing. MAIL_EDIT_ALL: all of that name, in one pass, for there
 * may be very many. */
#define MAIL_EDIT_ALL ((size_t)-1)
void mail_edit_delete(struct mail_edits *e, size_t index, const char *name);

/*
 * The envelope. All strings are copied. Addresses: without brackets, checked by the caller (mail/address.h). Adding
 * a recipient that is there already, and removing one that is not, changes nothing (mail_address_same()). Of a
 * sender SIZE, BODY and SMTPUTF8 do not count: they tell of the message, and stay.
 */
void mail_edit_sender(struct mail_edits *e, const struct mail_sender *sender);
void mail_edit_add_rcpt(struct mail_edits *e, const struct mail_rcpt *rcpt);
void mail_edit_remove_rcpt(struct mail_edits *e, const char *addr);
/*
 * body: complete, plain; borrowed as long as the message lives. Of BODY: without the empty line; it takes the place of
 * all that stands behind the header, also when that begins with a line that is no field. Of MESSAGE: Received
 * lines that it lacks (compared but for white space) are put back on top, for loops are found by them.
 */
void mail_edit_body(struct mail_edits *e, const struct mail_body *body);
void mail_edit_message(struct mail_edits *e, const struct mail_body *body);

/*
 * The version that what was asked for makes of another one (NULL: the body as it came). Neither is
 * changed; the new one may share memory with both. NULL: the header could not be read (errno), or it
 * is longer than MAIL_HEADER_MAX (EMSGSIZE), or the envelope has too many changes (E2BIG).
 */
const struct mail_edits *mail_edits_apply(struct arena *arena, const struct mail_body *body,
	const struct mail_edits *before, const struct mail_edits *asked);
/* The version without the fields that is_unwanted() names; `before` itself when there are none. NULL as above. */
const struct mail_edits *mail_edits_without(struct arena *arena, const struct mail_body *body,
	const struct mail_edits *before, bool (*is_unwanted)(const struct mail_field *field, void *arg), void *arg);
/* The header block of a version, up to and without the empty line. -1 as above. */
int mail_edits_header(struct arena *arena, const struct mail_body *body,
	const struct mail_edits *version, const char **text_r, size_t *len_r);
/* Where a version's octets are that are not of edits: body, or what a filter has put in its place. version may be NULL. */
const struct mail_body *mail_edits_content(const struct mail_body *body, const struct mail_edits *version);

/* To whom a version goes, and from whom. */
struct mail_envelope {
	const struct mail_sender *sender;
	const struct mail_rcpt *const *rcpts; /* those of the front that are left, then those that filters added */
	size_t rcpt_count;
	size_t own_count; /* so many are the front's */
	bool is_changed;  /* is it another one than came? */
};
/* What version (or NULL) makes of an envelope. Nothing of it is changed; new lists are in arena. */
void mail_edits_envelope(struct arena *arena, const struct mail_edits *version, const struct mail_sender *sender,
	const struct mail_rcpt *const *rcpts, size_t rcpt_count, struct mail_envelope *envelope_r);

#endif
