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
	bool is_policy; /* its reply is somebody's decision, not a fault of grammar */
	bool is_excused; /* it only follows from one, which the client could not know yet */
	int code;     /* of its reply */
	char *helo;   /* EHLO, HELO: the name, until it is taken */
};

/* Content under way; only while there is any. */
struct srv_body {
	struct smtp_dot dot;
	int64_t size;	    /* plain octets so far */
	int64_t chunk_left; /* BDAT: octets of this chunk still to come */
	int64_t chunk_size;
	bool chunk_last;
	int64_t credit_us; /* how long we still wait for content: time spends it, octets earn it */
	uint64_t credit_at; /* net_worker_now() when it was reckoned */
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
	int starttls;	 /* of the last EHLO: conf may be a newer one */
	bool is_implicit_tls;
	bool is_held;	 /* the greeting is held back: who speaks is an early talker */
	bool is_due;	 /* and has been for long enough */
	bool is_last_look; /* what has come in had its time to be shown */
	bool skip_line;	 /* the rest of an over-long line */
	bool in_command; /* octets of an incomplete command have come */
	bool in_bytes;	 /* input is being shown */
	bool is_resting; /* there is more to do, in the next turn */
	bool is_clogged; /* there is more to do when the client has read its replies */
	bool close_after; /* after the present reply */
	enum smtp_gone close_why;
	bool draining;
	bool is_last; /* the next transaction: then it drains */
	bool in_handshake; /* of TLS: nothing can be said */
	const struct smtp_reply *greeting_refusal; /* instead of the greeting, or NULL */
	bool over; /* gone was called */
	unsigned offered; /* smtp_caps bits of the last EHLO, whose parameters are understood */
	struct arena *arena; /* of the open transaction, or NULL */
	bool smtputf8;	 /* of the open transaction */
	int rcpt_count;	 /* accepted */
	int refused_count; /* recipients */
	bool was_refused; /* a part of the transaction: 503s behind it only follow from that */
	int excused_count; /* so many have */
	int error_count; /* since the last message that was taken */
	struct srv_body *body;
	const struct smtp_reply *refusal; /* being sent, or NULL */
};

void srv_enter(struct smtp_server *srv, enum srv_state state);
/* Ends the open transaction, if any, and goes back to READY. */
void srv_reset(struct smtp_server *srv);
void srv_end(struct smtp_server *srv, enum smtp_gone why);
void srv_deadline(struct smtp_server *srv);
/* For a reply that is a decision: see is_policy. */
struct smtp_cmd *srv_policy(struct smtp_cmd *cmd);
/* For a 503 to RCPT, DATA or BDAT: the client's fault, unless it could not know yet that it was refused. */
struct smtp_cmd *srv_out_of_order(struct smtp_cmd *cmd);

enum smtp_step srv_do_data(struct smtp_cmd *cmd, const struct smtp_command *line);
enum smtp_step srv_do_bdat(struct smtp_cmd *cmd, const struct smtp_command *line);
/* Takes content octets in SRV_BODY. */
size_t srv_body_bytes(struct smtp_server *srv, const char *data, size_t len);
/* Milliseconds until the content is too slow; 0: never. */
int64_t srv_body_patience(struct smtp_server *srv);
void srv_body_free(struct smtp_server *srv);
/* After the reply to DATA, BDAT or the end of data. */
void srv_body_replied(struct smtp_server *srv, int code);

#endif
