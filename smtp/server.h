/*
 * smtp/server.h - the server side of one SMTP session (RFC 5321), without policy.
 *
 * The session knows the grammar: order of commands, pipelining, limits, DATA and BDAT. Its owner (a
 * session in proxy/) decides: it gets calls through struct smtp_server_ops and answers now, or
 * returns SMTP_WAIT and answers later with smtp_cmd_reply(). One command runs at a time; what the
 * client pipelines behind it waits in the stream, so replies are in order and a handler always sees the
 * final state of what precedes it. Waiting belongs to the command, never to the session's state.
 */
#ifndef SMTP_SERVER_H
#define SMTP_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/log.h"
#include "mail/envelope.h"
#include "net/stream.h"
#include "smtp/caps.h"
#include "smtp/dot.h"
#include "smtp/reply.h"

struct smtp_server;

/* The command that is being answered; exactly one reply each. */
struct smtp_cmd;

enum smtp_step { SMTP_REPLIED, SMTP_WAIT };

enum smtp_bare_newline { SMTP_BARE_NORMALIZE, SMTP_BARE_REJECT };

enum smtp_starttls { SMTP_STARTTLS_NO, SMTP_STARTTLS_OFFER, SMTP_STARTTLS_REQUIRE };

/* Owned by the configuration; milliseconds and octets. */
struct smtp_server_conf {
	const char *hostname;
	const char *greeting; /* text behind the host name in the 220 and 221 */
	int64_t max_message;  /* octets of content; 0: no limit */
	int max_recipients;
	int max_errors;
	int bare_newline;	 /* enum smtp_bare_newline */
	int64_t idle_timeout;	 /* for the next command, outside a transaction */
	int64_t command_timeout; /* for a whole command once it began, or the next one inside a transaction */
	int64_t data_timeout;	 /* for the next octets of content, and the most that min_rate lets it fall behind */
	int64_t min_rate;	 /* octets of content per second; 0: no least */
	int64_t early_talker;	 /* how long the greeting is held back; 0: not at all */
	bool bare_sender;	 /* it may lack its domain: mail() knows which is meant */
	bool soft_bounce;	 /* what is refused for good is refused for now, but for faults of grammar */
	int starttls;		 /* enum smtp_starttls; needs ops->tls */
	bool implicit_tls;	 /* before the greeting */
};

/* Why a session ended. */
enum smtp_gone {
	SMTP_GONE_QUIT,	   /* the client said QUIT and has its 221 */
	SMTP_GONE_CLOSED,  /* we ended it: 421, protocol error */
	SMTP_GONE_TIMEOUT, /* the client was silent or too slow; it was told 421 */
	SMTP_GONE_EOF,	   /* the client closed without QUIT */
	SMTP_GONE_BROKEN,  /* reset or write error */
	SMTP_GONE_TLS,	   /* the handshake failed */
	SMTP_GONE_TLS_TIMEOUT, /* the same, by being late: it was told nothing */
	SMTP_GONE_EARLY,   /* the client spoke before our greeting; it was told 554 */
	SMTP_GONE_ERRORS,  /* it made too many errors; it was told 421 */
	SMTP_GONE_HTTP,    /* it speaks HTTP; it was told 554 */
};
extern const char *const smtp_gone_names[];

struct smtp_server_ops {
	/* May the client come in? Asked once, before the greeting, in a turn of its own: 220 stands for the greeting,
	 * anything else is said instead, and ends the session. NULL: it may. */
	enum smtp_step (*connect)(void *owner, struct smtp_cmd *cmd);
	/* What the next EHLO reply offers. */
	void (*caps)(void *owner, struct smtp_caps *caps_r);
	/* May the client call itself so? Anything but 250 leaves all as it was (RFC 5321 4.1.4). */
	enum smtp_step (*helo)(void *owner, struct smtp_cmd *cmd, const char *name, bool esmtp);
	/* It may: what was open is over, and the name holds until the next one. */
	void (*greeted)(void *owner, const char *name, bool esmtp);
	/* The context for a handshake, a reference that becomes ours. */
	struct net_tls *(*tls)(void *owner);
	/* The handshake is done. All that was known of the client is forgotten, its name, too. */
	void (*secured)(void *owner, const struct net_tls_info *info);
	/* The arena for the transaction that a MAIL begins; called once before `mail`. */
	struct arena *(*arena)(void *owner);
	/* sender and rcpt live in that arena. */
	enum smtp_step (*mail)(void *owner, struct smtp_cmd *cmd, const struct mail_sender *sender);
	enum smtp_step (*rcpt)(void *owner, struct smtp_cmd *cmd, const struct mail_rcpt *rcpt);
	/* Content is about to come (DATA or the first BDAT). false: refused with *refusal (filled by the owner). */
	bool (*begin)(void *owner, struct smtp_reply *refusal);
	/* A run of plain content, see smtp/dot.h. Not called any more once max_message is passed. */
	smtp_dot_cb content;
	/* The message is complete. `how` counts line ends; valid during the call. */
	enum smtp_step (*end)(void *owner, struct smtp_cmd *cmd, const struct smtp_dot *how);
	/* The transaction is over without `end` (RSET, EHLO, refused content), or its reply has been sent.
	 * why: the refusal that ended it, the owner's own or ours (too large, say); NULL: none did. */
	void (*reset)(void *owner, const struct smtp_reply *why);
	/* The session is over; free the server inside or after this call. A waiting command is forgotten:
	 * no smtp_cmd_reply() any more. */
	void (*gone)(void *owner, enum smtp_gone why);
};

/* Takes over the stream, sends the greeting, at once or after early_talker and ops->connect (or, with refusal,
 * only that at once, and closes). log and refusal are borrowed. */
struct smtp_server *smtp_server_new(struct net_stream *stream, const struct smtp_server_conf *conf,
	const struct smtp_server_ops *ops, void *owner, const struct log_ctx *log,
	const struct smtp_reply *refusal);
void smtp_server_free(struct smtp_server **srv);
/* From inside helo(), greeted() or arena(), or between commands; what was offered by EHLO stays until the next one. */
void smtp_server_set_conf(struct smtp_server *srv, const struct smtp_server_conf *conf);

/* Answers. Text is cleaned; lines are separated by '\n'. With soft_bounce a 5xx leaves as a 4xx. Returns SMTP_REPLIED for the handler's return. */
enum smtp_step smtp_cmd_reply(struct smtp_cmd *cmd, int code, const char *status, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
enum smtp_step smtp_cmd_reply_with(struct smtp_cmd *cmd, const struct smtp_reply *reply);
/* As above, then the session ends: for 421. */
enum smtp_step smtp_cmd_reply_close(struct smtp_cmd *cmd, const struct smtp_reply *reply);

/* The code with which a refusal stands in place of the greeting. */
int smtp_server_no_greeting(int code);

/* The drain of a stopping engine: 421 now when no transaction is open, else after it. */
void smtp_server_drain(struct smtp_server *srv);
/* Nobody has to go: after the transaction that is open, else after the next one, 421. */
void smtp_server_retire(struct smtp_server *srv);
bool smtp_server_in_transaction(const struct smtp_server *srv);
/* The client's name from EHLO or HELO, "" before; and which it was. */
const char *smtp_server_helo(const struct smtp_server *srv);
bool smtp_server_is_esmtp(const struct smtp_server *srv);
struct net_stream *smtp_server_stream(const struct smtp_server *srv);

#endif
