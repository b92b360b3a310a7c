/*
 * smtp/client_private.h - what client.c, client_hello.c and client_body.c share.
 */
#ifndef SMTP_CLIENT_PRIVATE_H
#define SMTP_CLIENT_PRIVATE_H

#include "smtp/client.h"

enum cli_kind {
	CLI_BANNER,
	CLI_EHLO,
	CLI_HELO,
	CLI_STARTTLS,
	CLI_AUTH,	/* PLAIN, or LOGIN's last word */
	CLI_AUTH_PLAIN, /* AUTH PLAIN alone */
	CLI_AUTH_LOGIN, /* AUTH LOGIN */
	CLI_AUTH_USER,
	CLI_MAIL,
	CLI_RCPT,
	CLI_DATA,
	CLI_CHUNK, /* a BDAT that is not the last; written by client_body.c */
	CLI_FINAL,
	CLI_RSET,
};

/* A command that waits to be sent, or a reply that is expected. */
struct cli_entry {
	STAILQ_ENTRY(cli_entry) next;
	enum cli_kind kind;
	size_t index; /* of the recipient */
	size_t len;
	char line[];
};
STAILQ_HEAD(cli_entries, cli_entry);

struct smtp_client {
	struct net_stream *stream; /* NULL once dead or detached */
	struct net_worker *worker;
	const struct smtp_client_conf *conf;
	char *name;
	bool in_clear;
	bool in_handshake;
	bool heard_tls; /* something was said through TLS */
	bool tls_failed;
	bool insists_on_tls; /* in clear it takes nothing */
	const struct log_ctx *log;
	const struct smtp_client_ops *ops;
	void *owner;
	void *pool;
	struct ip_addr peer;
	char peer_text[64];
	struct smtp_caps caps;
	struct smtp_reply_parser parser;
	bool in_reply; /* octets of one are here */
	bool is_early; /* it began before that was sent which it could answer */
	struct cli_entries expected, unsent;
	size_t rcpt_count;
	size_t unread; /* octets behind the reply that is being handled */
	int64_t patience;    /* the owner's, 0: none of its own */
	uint64_t waits_since; /* when the deadline was set */
	bool timed_out;
	unsigned messages;
	struct net_parcel parcel; /* while detached */
	bool is_ready; /* greeted */
	bool authenticated; /* by AUTH */
	bool busy;     /* MAIL was said and neither RSET nor the final reply has ended it */
	bool was_idle; /* came from the pool's idle list */
	bool odd;
	bool chunks;   /* this content goes by BDAT */
	bool sending;  /* content is leaving */
	size_t stuck;  /* octets of it that had not arrived when we last looked */
	int64_t chunk_left; /* BDAT: octets of this chunk that have still to be said */
	bool committed; /* the final dot, or BDAT LAST, has left */
	bool dead, freed;
	const struct mail_body *body;
	const struct mail_edits *edits;
	struct mail_view view;
	bool has_view;
};

/* ---- client.c ---- */

/* Sends it now, or as soon as it may leave; its reply is expected then. */
void cli_say(struct smtp_client *c, enum cli_kind kind, size_t index, const char *line, size_t len);
void cli_expect(struct smtp_client *c, enum cli_kind kind);
void cli_set_deadline(struct smtp_client *c);
void cli_fail(struct smtp_client *c, const struct err *err, const struct smtp_reply *reply);
void cli_reply_err(struct err *err, const char *what, const struct smtp_reply *reply);
void cli_fail_reply(struct smtp_client *c, const char *what, const struct smtp_reply *reply);
void cli_protocol_error(struct smtp_client *c, const char *why);

/* ---- client_hello.c ---- */

void cli_got_banner(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r);
void cli_got_ehlo(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r);
void cli_got_helo(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r);
void cli_got_starttls(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r);
void cli_got_auth(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r);
void cli_got_auth_prompt(struct smtp_client *c, const struct cli_entry *e, const struct smtp_reply *r);
void cli_start_tls(struct smtp_client *c);
/* The handshake is done. */
void cli_got_tls(struct smtp_client *c);
/* False: that the time is up, or the connection has ended, has nothing to do with TLS. */
bool cli_tls_timed_out(struct smtp_client *c);
bool cli_tls_closed(struct smtp_client *c, const char *why);

/* ---- client_body.c ---- */


/* The 354 has come. */
void cli_body_start(struct smtp_client *c);
/* The socket takes more. */
void cli_body_more(struct smtp_client *c);
/* By BDAT; and when the chunk with all of the content was taken. */
void cli_chunk_start(struct smtp_client *c);
void cli_chunk_last(struct smtp_client *c);
void cli_body_end(struct smtp_client *c);

#endif
