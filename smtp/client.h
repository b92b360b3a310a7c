/*
 * smtp/client.h - the client side of one SMTP connection: steps, and a FIFO of expected replies.
 *
 * A client is made on a connected stream and greets by itself; when it is ready its owner (the pool)
 * hears so. For a transaction it gets another owner, who gives MAIL, each RCPT and DATA when he likes: all at
 * once (`envelope late`) or as they come (`envelope early`). What may leave at once depends on the peer's
 * PIPELINING; the order of replies is that of the calls either way.
 *
 * The point of no return is the write that carries the final dot, or BDAT LAST: ops->dot is asked right
 * before it, and after it only the final reply or a failure with committed = true can come.
 */
#ifndef SMTP_CLIENT_H
#define SMTP_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "mail/envelope.h"
#include "mail/view.h"
#include "net/stream.h"
#include "smtp/caps.h"
#include "smtp/reply.h"

struct smtp_client;

/* Owned by the configuration; milliseconds. */
struct smtp_client_conf {
	const char *helo; /* our name in EHLO */
	int64_t greeting_timeout;
	int64_t command_timeout;
	int64_t data_timeout; /* for the next octets of content to leave */
	int64_t final_timeout;
	struct net_tls_live *tls; /* NULL: in clear */
	bool tls_required;	  /* else clear where the host cannot */
	bool implicit_tls;
	const char *tls_name; /* instead of the host's own, or NULL */
	const char *auth_user; /* NULL: no AUTH */
	const char *auth_password;
	bool auth_plaintext; /* also without TLS */
	bool chunking; /* content goes by BDAT (RFC 3030) to a peer that offers CHUNKING */
};

/* A reply is borrowed until the call returns. The client may be given back or freed inside any call. */
struct smtp_client_ops {
	/* Greeting and EHLO are done; or RSET was answered: the client is idle again. */
	void (*ready)(void *owner);
	void (*mail)(void *owner, const struct smtp_reply *reply);
	/* In the order of smtp_client_rcpt() calls, counted from 0. */
	void (*rcpt)(void *owner, size_t index, const struct smtp_reply *reply);
	/* DATA, or a chunk that is not the last, was refused. */
	void (*refused)(void *owner, const struct smtp_reply *reply);
	/* 354: may the content go? false: the connection is closed, `failed` does not come. Not with BDAT. */
	bool (*go)(void *owner);
	/* The final dot, or BDAT LAST, is about to leave. false: as above. */
	bool (*dot)(void *owner);
	void (*final)(void *owner, const struct smtp_reply *reply);
	/* The connection is of no use any more. reply: the 421 or refusal that ended it, or NULL. */
	void (*failed)(void *owner, const struct err *err, const struct smtp_reply *reply);
};

/* Takes over the stream and waits for the greeting. conf is borrowed. name: the host's for TLS, NULL: it has
 * none. in_clear: TLS has failed with this host, and it is not required. */
struct smtp_client *smtp_client_new(struct net_stream *stream, const struct smtp_client_conf *conf,
	const char *name, bool in_clear,
	const struct log_ctx *log, const struct smtp_client_ops *ops, void *owner);
/* Closes at once, whatever is under way. */
void smtp_client_free(struct smtp_client **c);
/* Says QUIT, does not wait for its reply. */
void smtp_client_quit(struct smtp_client **c);
void smtp_client_set_owner(struct smtp_client *c, const struct smtp_client_ops *ops, void *owner,
	const struct log_ctx *log);

/* From the next command on: bounds the wait for each reply, and for content to be taken, up to the final dot. 0, as
 * with each new owner: only the timeouts of conf do. */
void smtp_client_set_patience(struct smtp_client *c, int64_t ms);
/* Since when is (or was) it waited for what comes next? On the net_worker_now() clock. */
uint64_t smtp_client_waits_since(const struct smtp_client *c);
/* Has it failed because that did not come in time? */
bool smtp_client_timed_out(const struct smtp_client *c);
/* Is a reply outstanding, or content still to be taken? */
bool smtp_client_is_waiting(const struct smtp_client *c);

const struct smtp_caps *smtp_client_caps(const struct smtp_client *c);
/* Idle, no reply outstanding, nothing odd was ever said: may serve another transaction. */
bool smtp_client_is_reusable(const struct smtp_client *c);
/* Not idle, but a RSET will do: no DATA was said, nothing odd was heard. */
bool smtp_client_may_reset(const struct smtp_client *c);
struct net_worker *smtp_client_worker(const struct smtp_client *c);
/* What the pool knows of it; NULL at first. */
void *smtp_client_pool(const struct smtp_client *c);
void smtp_client_set_pool(struct smtp_client *c, void *pool);
/* Has it been used for a transaction before this one? Such a connection may have died unnoticed. */
bool smtp_client_is_reused(const struct smtp_client *c);
void smtp_client_set_reused(struct smtp_client *c);
unsigned smtp_client_messages(const struct smtp_client *c);
/* Did it say what makes no sense where it was said? Then what it said before is in doubt, too. */
bool smtp_client_is_odd(const struct smtp_client *c);
/* Did TLS fail, so that the same host may be tried in clear? */
bool smtp_client_may_go_clear(const struct smtp_client *c);
/* Could it be TLS, and is it not? And has the host then refused MAIL for that? Such a connection serves nobody. */
bool smtp_client_is_in_clear(const struct smtp_client *c);
bool smtp_client_insists_on_tls(const struct smtp_client *c);
/* Has TLS failed on it? Was anything heard through it? */
bool smtp_client_tls_failed(const struct smtp_client *c);
bool smtp_client_is_tls(const struct smtp_client *c);
/* The owner waits no longer. If it is TLS that is waited for, the client fails for that, inside the call; else false. */
bool smtp_client_give_up_tls(struct smtp_client *c);
bool smtp_client_is_committed(const struct smtp_client *c);
const struct ip_addr *smtp_client_peer(const struct smtp_client *c);

/* size: for SIZE=, -1 when unknown. */
void smtp_client_mail(struct smtp_client *c, const struct mail_sender *sender, int64_t size);
void smtp_client_rcpt(struct smtp_client *c, const struct mail_rcpt *rcpt);
/* Does the content that was given go by BDAT? */
bool smtp_client_chunks(const struct smtp_client *c);
/*
 * body and edits are borrowed until `final`, `refused` or the end of the connection. BDAT (conf->chunking) is
 * said only when all replies to the envelope are here, for it has no 354 that holds content back and proves that
 * replies and commands are in step; then the content goes at once: any call of ops may come from inside this one.
 */
void smtp_client_data(
	struct smtp_client *c, const struct mail_body *body, const struct mail_edits *edits);
/* Abandons the transaction; allowed until DATA was given. `ready` comes when the peer has answered. */
void smtp_client_rset(struct smtp_client *c);
/* Between them what is given leaves in one write. */
void smtp_client_cork(struct smtp_client *c);
void smtp_client_uncork(struct smtp_client *c);

/* Moves an idle client to another worker, if it may: detach on the old one, attach on the new one. */
bool smtp_client_may_move(const struct smtp_client *c);
void smtp_client_detach(struct smtp_client *c);
void smtp_client_attach(struct smtp_client *c, struct net_worker *w);

#endif
