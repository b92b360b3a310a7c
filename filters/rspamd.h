/*
 * filters/rspamd.h - the parts of the kind rspamd: what is asked (rspamd_request.c), what is answered
 * (rspamd_reply.c, rspamd_milter.c), and the exchange (rspamd.c). Private to these and their tests.
 */
#ifndef FILTERS_RSPAMD_H
#define FILTERS_RSPAMD_H

#include "filters/dial.h"
#include "filters/filter.h"

/* What rspamd says of a message, in the order of its words. */
enum rspamd_action {
	RSPAMD_NO_ACTION,
	RSPAMD_GREYLIST,
	RSPAMD_ADD_HEADER,
	RSPAMD_REWRITE_SUBJECT,
	RSPAMD_SOFT_REJECT,
	RSPAMD_REJECT,
	RSPAMD_DISCARD,
	RSPAMD_QUARANTINE,
};
#define RSPAMD_ACTION_COUNT (RSPAMD_QUARANTINE + 1)
extern const char *const rspamd_action_names[];

/* What is done about it. */
enum rspamd_deed {
	RSPAMD_DO_PASS,
	RSPAMD_DO_HEADER,
	RSPAMD_DO_SUBJECT,
	RSPAMD_DO_TEMPFAIL,
	RSPAMD_DO_REJECT,
	RSPAMD_DO_DISCARD,
	RSPAMD_DO_QUARANTINE,
};
extern const char *const rspamd_deed_names[];

enum rspamd_rewrite { RSPAMD_REWRITE_NO, RSPAMD_REWRITE_BODY, RSPAMD_REWRITE_MESSAGE };

struct rspamd_conf {
	struct dial_conf dial;
	const char *path, *settings, *settings_id, *user, *mta_name, *mta_tag;
	struct config_words flags;
	bool pass_all;
	int rewrite; /* enum rspamd_rewrite */
	int64_t max_rewrite;
	int deeds[RSPAMD_ACTION_COUNT]; /* enum rspamd_deed */
	const char *spam_header, *spam_value, *subject_tag;
	bool report;
};

/* The largest answer, without a rewritten message. */
#define RSPAMD_REPLY_MAX (1024 * 1024)
/* Edits that one answer may ask for. */
#define RSPAMD_EDITS_MAX 500

/* The head of the request, for a message of `size` octets as the run sees it. host: of the Host field. */
void rspamd_request(const struct filter_run *run, const char *host, int64_t size, struct str *out);

/* Verdict and edits that the JSON of an answer makes; a run that fails has its reason in run->err. */
enum filter_step rspamd_answer(struct filter_run *run, const char *json, size_t len);

/* ---- between rspamd_reply.c and rspamd_milter.c ---- */

struct json_t;

/* One answer as it is carried out. */
struct rspamd_reply {
	struct filter_run *run;
	const char *head; /* the header as rspamd saw it */
	size_t head_len;
	unsigned edit_count;
	bool has_field_count;
	int64_t field_count; /* in head, once somebody asked */

	/* What the milter block says beside its edits. */
	const char *on_reject;		 /* "discard", "quarantine" or NULL */
	struct json_t *spam_header;	 /* NULL, a string, or an object of strings */
	bool no_action;
};

/* How many fields of that name rspamd saw. */
size_t rspamd_count_fields(const struct rspamd_reply *r, const char *name);
/* Counts an edit. False: there are too many, and the answer is wrong. */
bool rspamd_may_edit(struct rspamd_reply *r);
/* The answer is wrong, and the run fails. Returns -1. */
int rspamd_wrong(struct rspamd_reply *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/*
 * Line ends in a value become folds or blanks. A name or value that cannot stand in a header is left out, and the
 * log tells. 0, or -1: the answer is wrong.
 */
/* At the end of the header, or in front of the index-th when that is not -1. */
int rspamd_add_field(struct rspamd_reply *r, int64_t index, const char *name, const char *value);
/* The first of that name, else as above. */
int rspamd_change_field(struct rspamd_reply *r, const char *name, const char *value);
/* All fields of that name go, if there are any. */
int rspamd_remove_all(struct rspamd_reply *r, const char *name);
/* The edits of the milter block, and the members above. block: any JSON. */
int rspamd_milter(struct rspamd_reply *r, struct json_t *block);

#endif
