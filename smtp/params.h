/*
 * smtp/params.h - the arguments of MAIL and RCPT, both ways. Pure, fuzzed.
 *
 * RFC 5321 (paths), 1870 (SIZE), 6152 (BODY), 3461 (DSN), 4954 (AUTH=), 6531 (SMTPUTF8).
 */
#ifndef SMTP_PARAMS_H
#define SMTP_PARAMS_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "mail/envelope.h"
#include "smtp/caps.h"

/* Why a line was refused: the reply's code and status. err.text is the reply's text. */
struct smtp_params_error {
	int code;	    /* 501, 553, 555, 552 */
	const char *status; /* 5.5.4, 5.1.3, 5.1.7 ... */
};

/* Beside what was offered: a sender may lack its domain, and the caller knows which is meant. */
#define SMTP_PARAMS_BARE (1u << 31)

/*
 * args: "FROM:<a@b> SIZE=1 ..." as smtp_command_parse() gives it. offered: what our EHLO reply said; a
 * parameter of something not offered is 555 5.5.4, as is an unknown one. Given twice: 501. One space
 * between "FROM:" and the path is tolerated; a path without brackets is not. Whatever AUTH= says is taken as
 * <>: nobody who speaks to us has shown that he may say for whom (RFC 4954 5).
 */
int smtp_params_mail(const char *args, size_t len, unsigned offered, struct arena *arena,
	struct mail_sender *sender_r, struct smtp_params_error *why_r, struct err *err);
int smtp_params_rcpt(const char *args, size_t len, unsigned offered, bool smtputf8, struct arena *arena,
	struct mail_rcpt *rcpt_r, struct smtp_params_error *why_r, struct err *err);

/* BDAT's "1234 LAST". Numbers cannot overflow: more than 18 digits is an error. */
int smtp_params_bdat(const char *args, size_t len, int64_t *octets_r, bool *last_r, struct err *err);

/* "MAIL FROM:<...> ..." without CRLF, with only what the peer offers (peer). size: SIZE= to write, -1: none.
 * SMTP_CAP_AUTH stands for a peer to which we have authenticated: only such a one gets AUTH=. */
void smtp_params_write_mail(
	struct str *out, const struct mail_sender *sender, int64_t size, const struct smtp_caps *peer);
void smtp_params_write_rcpt(struct str *out, const struct mail_rcpt *rcpt, const struct smtp_caps *peer);

#endif
