/*
 * smtp/server_private.h - what server.c and server_body.c share.
 */
#ifndef SMTP_SERVER_PRIVATE_H
#define SMTP_SERVER_PRIVATE_H

#include "smtp/command.h"
#include "smtp/server.h"

enum srv_state {
	SRV_GREET,   /* no greeting yet: no MAIL */
	SRV_READY,   /* greeted, no transaction open */
	SRV_MAIL,    /* sender accepted */
	SRV_RCPT,    /* at least one recipient accepted */
	SRV_BODY,    /* octets are message, not commands */
	SRV_CHUNKS,  /* between two BDAT chunks */
	SRV_CLOSING, /* the last reply is on its way */
};

struct smtp_cmd {
	struct smtp_server *srv;
	const struct srv_verb *verb;
	bool running; /* the owner has it */
	int code;     /* of its reply */
};

/* Content under way; only while there is any. */
struct srv_body {
	struct smtp_dot dot;
	int64_t size;	    /* plain octets so far */
	int64_t chunk_left; /* BDAT: octets of this chunk still to come */
	int64_t chunk_size;
	bool chunk_last;
	enum srv_state before; /* this chunk */
	bool swallow; /* the chunk was refused: its octets are dropped */
	int code;     /* what to answer once they are */
	const char *status;
	const char *text;
};

struct smtp_server {
	struct net_stream *stream;
	struct net_worker *worker;
	const struct smtp_server_conf *conf;
	const struct smtp_server_ops *ops;
	void *owner;
	const struct log_ctx *log;
	enum srv_state state;
	struct smtp_cmd cmd;
	char *helo;
	bool esmtp;
	bool skip_line;	 /* the rest of an over-long line */
	bool in_command; /* octets of an incomplete command have come */
	bool in_bytes;	 /* input is being shown */
	bool close_after; /* after the present reply */
	bool draining;
	bool over; /* gone was called */
	unsigned offered; /* smtp_caps bits of the last EHLO */
	struct arena *arena; /* of the open transaction, or NULL */
	bool smtputf8;	 /* of the open transaction */
	int rcpt_count;	 /* accepted */
	int refused_count; /* recipients */
	int error_count;
	struct srv_body *body;
	const struct smtp_reply *refusal; /* being sent, or NULL */
};

void srv_enter(struct smtp_server *srv, enum srv_state state);
/* Ends the open transaction, if any, and goes back to READY. */
void srv_reset(struct smtp_server *srv);
void srv_end(struct smtp_server *srv, enum smtp_gone why);
void srv_deadline(struct smtp_server *srv);

enum smtp_step srv_do_data(struct smtp_cmd *cmd, const struct smtp_command *line);
enum smtp_step srv_do_bdat(struct smtp_cmd *cmd, const struct smtp_command *line);
/* Takes content octets in SRV_BODY. */
size_t srv_body_bytes(struct smtp_server *srv, const char *data, size_t len);
void srv_body_free(struct smtp_server *srv);
/* After the reply to DATA, BDAT or the end of data. */
void srv_body_replied(struct smtp_server *srv, int code);

#endif
