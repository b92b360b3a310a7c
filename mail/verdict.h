/*
 * mail/verdict.h - what was decided about a message (for one recipient), and the reply that says so.
 */
#ifndef MAIL_VERDICT_H
#define MAIL_VERDICT_H

enum verdict_kind {
	VERDICT_PASS,	    /* nothing to object */
	VERDICT_ACCEPT,	    /* pass, and no further filter is asked */
	VERDICT_REJECT,	    /* 5xx */
	VERDICT_TEMPFAIL,   /* 4xx */
	VERDICT_DISCARD,    /* 250, and dropped; logged */
	VERDICT_QUARANTINE, /* 250, and set aside */
	VERDICT_DISCONNECT, /* 421, and the session ends */
};
#define VERDICT_COUNT (VERDICT_DISCONNECT + 1)
extern const char *const verdict_names[];

struct mail_verdict {
	enum verdict_kind kind;
	int code;	    /* 0: the default for the kind */
	const char *status; /* enhanced status code "5.7.1"; NULL: the default */
	const char *text;   /* one clean line; NULL: the default */
	const char *filter; /* who said it; NULL: nobody */
};
extern const struct mail_verdict verdict_pass;

/*
 * Code, status and text with the kind's defaults filled in (550 5.7.1, 451 4.7.1, 421 4.7.0, else
 * 250 2.0.0), also in place of a code or status of another class than the kind's.
 */
struct mail_verdict verdict_reply(const struct mail_verdict *v);

#endif
