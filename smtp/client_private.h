/*
 * smtp/client_private.h - what client.c and client_body.c share.
 */
#ifndef SMTP_CLIENT_PRIVATE_H
#define SMTP_CLIENT_PRIVATE_H

#include "smtp/client.h"

enum cli_kind {
	CLI_BANNER,
	CLI_EHLO,
	CLI_HELO,
	CLI_MAIL,
	CLI_RCPT,
	CLI_DATA,
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
	const struct log_ctx *log;
	const struct smtp_client_ops *ops;
	void *owner;
	void *pool;
	struct ip_addr peer;
	struct smtp_caps caps;
	struct smtp_reply_parser parser;
	bool in_reply; /* octets of one are here */
	bool is_early; /* it began before that was sent which it could answer */
	struct cli_entries expected, unsent;
	size_t rcpt_count;
	size_t unread; /* octets behind the reply that is being handled */
	unsigned messages;
	int fd;	       /* while detached */
	bool is_ready; /* greeted */
	bool busy;     /* MAIL was said and neither RSET nor the final reply has ended it */
	bool was_idle; /* came from the pool's idle list */
	bool odd;
	bool sending;  /* content is leaving */
	size_t stuck;  /* octets of it that had not arrived when we last looked */
	bool committed; /* the final dot has left */
	bool dead, freed;
	const struct mail_body *body;
	const struct mail_edits *edits;
	struct mail_view view;
	bool has_view;
};

void cli_expect(struct smtp_client *c, enum cli_kind kind);
void cli_fail(struct smtp_client *c, const struct err *err, const struct smtp_reply *reply);

/* The 354 has come. */
void cli_body_start(struct smtp_client *c);
/* The socket takes more. */
void cli_body_more(struct smtp_client *c);
void cli_body_end(struct smtp_client *c);

#endif
