/*
 * net/http_client.h - one HTTP request and its answer over a connection of its own (RFC 9110, RFC 9112).
 *
 * For filters that ask a service: the request's body is read piece by piece, from memory and from files, the
 * answer is shown as it comes, and nothing waits. evhttp (libevent 2.1) copies the whole request, takes a name
 * only when it looks it up itself, and takes an answer without a length for whole when the connection breaks.
 *
 * Strict on purpose: an answer that was cut off, has no length, has two, or came before the request had left
 * is an error, because nobody could know what its rest, or its sender, would have said.
 */
#ifndef NET_HTTP_CLIENT_H
#define NET_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"
#include "net/worker.h"

/* Of an answer: all its heads, those of 1xx included. */
#define NET_HTTP_ANSWER_HEAD_MAX (16 * 1024)

struct net_http_call;

/* ---- the request's head ---- */

/* path: visible ASCII that begins with a slash (asserted). host: for the Host field. */
void net_http_request_begin(struct str *out, const char *method, const char *path, const char *host);
/* Control characters in the value become blanks: nothing in it can be a line. name is a token (asserted). */
void net_http_request_field(struct str *out, const char *name, const char *value);
/* length: octets of the body. */
void net_http_request_end(struct str *out, int64_t length);

/* ---- one exchange ---- */

/* Either memory (data != NULL), borrowed until the call is over, or a range of a file, likewise. */
struct net_http_piece {
	const char *data;
	int fd;
	off_t off;
	size_t len;
};

struct net_http_answer;

/* None of them may cancel the call; they return -1 and fill err to end it. */
struct net_http_ops {
	/* The next piece of the body. 1; 0: that was all; -1: it cannot be read. Exactly as much as was promised. */
	int (*more)(void *owner, struct net_http_piece *piece_r, struct err *err);
	/* The head of the final answer, whatever its status. */
	int (*head)(void *owner, const struct net_http_answer *answer, struct err *err);
	/* A part of its body. */
	int (*body)(void *owner, const char *data, size_t len, struct err *err);
	/* Once, never from inside net_http_call_start(): err NULL, and the answer is complete; or why not. The
	 * handle is gone then. */
	void (*done)(void *owner, const struct err *err);
};

/* Takes over fd (connected). head: as made above; copied. There is no deadline but the owner's. */
struct net_http_call *net_http_call_start(
	struct net_worker *w, int fd, const struct str *head, const struct net_http_ops *ops, void *owner);
/* Closes the connection; no call comes any more. Accepts NULL, clears the pointer. */
void net_http_call_cancel(struct net_http_call **call);

/* ---- the parser; pure, for net/http_client.c, its owners and its fuzz target ---- */

struct net_http_answer {
	int status;	    /* 100 to 599 */
	const char *reason; /* behind it; not NUL-terminated, may be empty */
	size_t reason_len;
	bool is_chunked;
	int64_t length; /* of the body, when it is not chunked; -1: nobody said */
	const char *head; /* all of it; borrowed */
	size_t head_len;
};

/* Returns the length of the head at the beginning of data, 0 while it is not complete, -1 with err. */
ssize_t net_http_answer_parse(const char *data, size_t len, struct net_http_answer *answer_r, struct err *err);
/* How many fields of that name there are; value_r is that of the first. */
int net_http_answer_field(const struct net_http_answer *answer, const char *name, const char **value_r, size_t *len_r);
/* A value of digits alone. -1: it is none, or too large. */
int64_t net_http_number(const char *text, size_t len);

struct net_http_decoder {
	int state;
	int64_t left; /* of the body, or of the chunk */
	size_t trailer_len;
	bool is_done;
};
/* Of an answer with a body: it has a length or is chunked. */
void net_http_decoder_init(struct net_http_decoder *d, const struct net_http_answer *answer);
/* Returns the octets taken, at whose end the content lies (content_len_r may be 0); 0: it needs more; -1 with
 * err. To be called until it takes nothing or is done. */
ssize_t net_http_decode(struct net_http_decoder *d, const char *data, size_t len, const char **content_r,
	size_t *content_len_r, struct err *err);

#endif
