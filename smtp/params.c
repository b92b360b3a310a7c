/* smtp/params.c - the arguments of MAIL and RCPT, both ways. */
#include "smtp/params.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "mail/address.h"

#define DIGITS_MAX 18
#define ENVID_MAX  100 /* RFC 3461 4.4 */
#define XTEXT_MAX  500 /* RFC 3461 4.2, RFC 4954 5 */

/* A piece of the arguments, borrowed. */
struct piece {
	const char *text;
	size_t len;
};

/* One MAIL or RCPT while it is read; the other one of sender and rcpt is NULL. */
struct reading {
	struct piece rest; /* what is still to be read */
	unsigned offered;
	bool utf8;     /* values may hold UTF-8 */
	unsigned seen; /* one bit for each row of the table */
	struct arena *arena;
	struct mail_sender *sender;
	struct mail_rcpt *rcpt;
	struct smtp_params_error *why;
	struct err *err;
};

/* Keeps a value. Returns 0, or the code to refuse it with. */
typedef int (*keep_fn)(struct reading *r, struct piece value);

struct param {
	const char *name; /* NULL ends a table */
	unsigned cap;     /* without it in offered the parameter is unknown */
	bool has_value;
	keep_fn keep;
};

static void
skip(struct piece *p, size_t n)
{
	p->text += n;
	p->len -= n;
}

static bool
is_word(struct piece p, const char *word)
{
	return p.len == strlen(word) && strncasecmp(p.text, word, p.len) == 0;
}

/* What stands before the first stop, or all; taken off rest with its stop. */
static struct piece
cut(struct piece *rest, char stop)
{
	const char *end = memchr(rest->text, stop, rest->len);
	struct piece p = {rest->text, end != NULL ? (size_t)(end - rest->text) : rest->len};

	skip(rest, p.len + (end != NULL));
	return p;
}

/* err is already set. */
static int
refuse(struct reading *r, int code, const char *status)
{
	*r->why = (struct smtp_params_error){.code = code, .status = status};
	return -1;
}

/* ---- values ---- */

/* Digits only, and so few that nothing overflows. */
static bool
parse_number(struct piece p, int64_t *n_r)
{
	if (p.len == 0 || p.len > DIGITS_MAX)
		return false;
	*n_r = 0;
	for (size_t i = 0; i < p.len; i++) {
		if (!isdigit((unsigned char)p.text[i]))
			return false;
		*n_r = *n_r * 10 + (p.text[i] - '0');
	}
	return true;
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/*
 * Length of the xtext character at text (RFC 3461 4), 0 if there is none. The octet it stands for
 * has to be printable too: whoever decodes it must not find a line end. Lower-case hex digits are
 * against the letter of the RFC, but sendmail and Postfix let them through.
 */
static size_t
xchar_len(const char *text, size_t len, bool utf8)
{
	unsigned char c = (unsigned char)text[0];
	int high, low;

	if (c > 127)
		return utf8 ? str_utf8_len(text, len) : 0;
	if (c != '+')
		return c > ' ' && c < 127 && c != '=';
	if (len < 3)
		return 0;
	high = hex_value(text[1]);
	low = hex_value(text[2]);
	return high < 2 || low < 0 || (high == 7 && low == 15) ? 0 : 3;
}

static bool
is_xtext(struct piece p, size_t max, bool utf8)
{
	size_t n;

	if (p.len == 0 || p.len > max)
		return false;
	for (; p.len > 0; skip(&p, n)) {
		n = xchar_len(p.text, p.len, utf8);
		if (n == 0)
			return false;
	}
	return true;
}

static int
keep_text(struct reading *r, struct piece value, const char **text_r)
{
	*text_r = arena_strndup(r->arena, value.text, value.len);
	return 0;
}

static int
keep_size(struct reading *r, struct piece value)
{
	return parse_number(value, &r->sender->size) ? 0 : 501;
}

static int
keep_body(struct reading *r, struct piece value)
{
	if (is_word(value, "BINARYMIME"))
		return 555;
	if (is_word(value, "7BIT"))
		r->sender->body = MAIL_BODY_7BIT;
	else if (is_word(value, "8BITMIME"))
		r->sender->body = MAIL_BODY_8BITMIME;
	else
		return 501;
	return 0;
}

static int
keep_smtputf8(struct reading *r, struct piece value)
{
	(void)value;
	r->sender->smtputf8 = true;
	return 0;
}

static int
keep_ret(struct reading *r, struct piece value)
{
	if (is_word(value, "FULL"))
		r->sender->ret = MAIL_RET_FULL;
	else if (is_word(value, "HDRS"))
		r->sender->ret = MAIL_RET_HDRS;
	else
		return 501;
	return 0;
}

static int
keep_envid(struct reading *r, struct piece value)
{
	if (!is_xtext(value, ENVID_MAX, false))
		return 501;
	return keep_text(r, value, &r->sender->envid);
}

/* "<>" or an encoded mailbox; both are xtext. */
static int
keep_auth(struct reading *r, struct piece value)
{
	if (!is_xtext(value, XTEXT_MAX, false))
		return 501;
	r->sender->auth = "<>";
	return 0;
}

/* NEVER alone, or some of the others, none of them twice. */
static int
keep_notify(struct reading *r, struct piece value)
{
	static const char *const events[] = {"SUCCESS", "FAILURE", "DELAY", NULL};
	struct piece rest = value;
	unsigned seen = 0;

	if (is_word(value, "NEVER"))
		return keep_text(r, value, &r->rcpt->notify);
	if (value.text[value.len - 1] == ',')
		return 501;
	while (rest.len > 0) {
		struct piece event = cut(&rest, ',');
		unsigned i = 0;

		while (events[i] != NULL && !is_word(event, events[i]))
			i++;
		if (events[i] == NULL || (seen & 1u << i))
			return 501;
		seen |= 1u << i;
	}
	return keep_text(r, value, &r->rcpt->notify);
}

static bool
is_atom(struct piece p)
{
	for (size_t i = 0; i < p.len; i++)
		if (!isalnum((unsigned char)p.text[i]) &&
			(p.text[i] == '\0' || strchr("!#$%&'*+-/=?^_`{|}~", p.text[i]) == NULL))
			return false;
	return p.len > 0;
}

static int
keep_orcpt(struct reading *r, struct piece value)
{
	struct piece rest = value;
	struct piece type = cut(&rest, ';');
	bool utf8 = r->utf8 && is_word(type, "utf-8"); /* RFC 6533 3 */

	if (value.len > XTEXT_MAX || !is_atom(type) || !is_xtext(rest, XTEXT_MAX, utf8))
		return 501;
	return keep_text(r, value, &r->rcpt->orcpt);
}

static const struct param mail_params[] = {
	{"SIZE", SMTP_CAP_SIZE, true, keep_size},
	{"BODY", SMTP_CAP_8BITMIME, true, keep_body},
	{"SMTPUTF8", SMTP_CAP_SMTPUTF8, false, keep_smtputf8},
	{"RET", SMTP_CAP_DSN, true, keep_ret},
	{"ENVID", SMTP_CAP_DSN, true, keep_envid},
	{"AUTH", SMTP_CAP_AUTH, true, keep_auth},
	{NULL, 0, false, NULL},
};

static const struct param rcpt_params[] = {
	{"NOTIFY", SMTP_CAP_DSN, true, keep_notify},
	{"ORCPT", SMTP_CAP_DSN, true, keep_orcpt},
	{NULL, 0, false, NULL},
};

/* ---- reading ---- */

/* RFC 5321 4.1.2, esmtp-keyword. */
static bool
is_keyword(struct piece p)
{
	for (size_t i = 0; i < p.len; i++) {
		unsigned char c = (unsigned char)p.text[i];

		if (!isascii(c) || !(isalnum(c) || (c == '-' && i > 0)))
			return false;
	}
	return p.len > 0;
}

static int
refuse_param(struct reading *r, int code, const char *what, struct piece name)
{
	err_set(r->err, "%s: %.*s", what, (int)name.len, name.text);
	return refuse(r, code, "5.5.4");
}

/* "NAME" or "NAME=value", without the spaces around it. */
static int
read_param(struct reading *r, const struct param *table, struct piece p)
{
	struct piece name = cut(&p, '=');
	bool has_value = p.text > name.text + name.len;
	const struct param *row = table;
	unsigned bit;
	int code;

	if (!is_keyword(name)) {
		err_set(r->err, "bad parameter");
		return refuse(r, 501, "5.5.4");
	}
	while (row->name != NULL && !is_word(name, row->name))
		row++;
	if (row->name == NULL || !(row->cap & r->offered))
		return refuse_param(r, 555, "parameter not known", name);
	bit = 1u << (row - table);
	if (r->seen & bit)
		return refuse_param(r, 501, "parameter given twice", name);
	r->seen |= bit;
	if (has_value != row->has_value || (has_value && p.len == 0))
		return refuse_param(r, 501, has_value ? "bad value" : "value missing", name);
	code = row->keep(r, p);
	return code == 0 ? 0 : refuse_param(r, code, "bad value", name);
}

static int
read_params(struct reading *r, const struct param *table)
{
	if (r->rest.len > 0 && r->rest.text[0] != ' ') {
		err_set(r->err, "no space behind the address");
		return refuse(r, 501, "5.5.4");
	}
	while (r->rest.len > 0) {
		struct piece p = cut(&r->rest, ' ');

		if (p.len > 0 && read_param(r, table, p) < 0)
			return -1;
	}
	return 0;
}

/* "FROM:" or "TO:", and the one space that some put there. */
static int
read_prefix(struct reading *r, const char *prefix)
{
	size_t len = strlen(prefix);

	if (r->rest.len < len || strncasecmp(r->rest.text, prefix, len) != 0) {
		err_set(r->err, "%s<address> expected", prefix);
		return refuse(r, 501, "5.5.4");
	}
	skip(&r->rest, len);
	if (r->rest.len > 0 && r->rest.text[0] == ' ')
		skip(&r->rest, 1);
	return 0;
}

static int
read_path(struct reading *r, unsigned flags, const char *status, const char **addr_r,
	const char **domain_r, bool *utf8_r)
{
	struct mail_path path;
	size_t used =
		mail_path_parse(r->rest.text, r->rest.len, flags | MAIL_PATH_UTF8, &path, r->err);
	size_t domain = path.at < path.end ? path.at + 1 : path.end;

	if (used == 0)
		return refuse(r, 501, status);
	*addr_r = arena_strndup(r->arena, r->rest.text + path.begin, path.end - path.begin);
	*domain_r = *addr_r + (domain - path.begin);
	*utf8_r = path.has_utf8;
	skip(&r->rest, used);
	return 0;
}

static int
refuse_utf8(struct reading *r)
{
	err_set(r->err, "this address needs SMTPUTF8");
	return refuse(r, 553, "5.6.7");
}

int
smtp_params_mail(const char *args, size_t len, unsigned offered, struct arena *arena,
	struct mail_sender *sender_r, struct smtp_params_error *why_r, struct err *err)
{
	struct reading r = {.rest = {args, len},
		.offered = offered,
		.arena = arena,
		.sender = sender_r,
		.why = why_r,
		.err = err};
	bool utf8;

	*sender_r = (struct mail_sender){.size = -1};
	if (read_prefix(&r, "FROM:") < 0)
		return -1;
	if (read_path(&r, offered & SMTP_PARAMS_BARE ? MAIL_PATH_NULL | MAIL_PATH_BARE : MAIL_PATH_NULL, "5.1.7", &sender_r->addr, &sender_r->domain, &utf8) < 0)
		return -1;
	if (read_params(&r, mail_params) < 0)
		return -1;
	return utf8 && !sender_r->smtputf8 ? refuse_utf8(&r) : 0;
}

int
smtp_params_rcpt(const char *args, size_t len, unsigned offered, bool smtputf8, struct arena *arena,
	struct mail_rcpt *rcpt_r, struct smtp_params_error *why_r, struct err *err)
{
	struct reading r = {.rest = {args, len},
		.offered = offered,
		.utf8 = smtputf8,
		.arena = arena,
		.rcpt = rcpt_r,
		.why = why_r,
		.err = err};
	bool utf8;

	*rcpt_r = (struct mail_rcpt){0};
	if (read_prefix(&r, "TO:") < 0)
		return -1;
	if (read_path(&r, MAIL_PATH_BARE, "5.1.3", &rcpt_r->addr, &rcpt_r->domain, &utf8) < 0)
		return -1;
	if (utf8 && !smtputf8)
		return refuse_utf8(&r);
	return read_params(&r, rcpt_params);
}

int
smtp_params_bdat(const char *args, size_t len, int64_t *octets_r, bool *last_r, struct err *err)
{
	struct piece rest = {args, len};

	if (!parse_number(cut(&rest, ' '), octets_r))
		return err_set(err, "bad chunk size");
	while (rest.len > 0 && rest.text[0] == ' ')
		skip(&rest, 1);
	*last_r = is_word(rest, "LAST");
	if (rest.len > 0 && !*last_r)
		return err_set(err, "LAST or nothing expected behind the chunk size");
	return 0;
}

/* ---- writing ---- */

static void
write_body(struct str *out, enum mail_body_type body)
{
	if (body == MAIL_BODY_7BIT)
		str_add(out, " BODY=7BIT");
	else if (body == MAIL_BODY_8BITMIME)
		str_add(out, " BODY=8BITMIME");
}

static void
write_dsn(struct str *out, const struct mail_sender *sender)
{
	if (sender->ret != MAIL_RET_UNSET)
		str_printf(out, " RET=%s", sender->ret == MAIL_RET_FULL ? "FULL" : "HDRS");
	if (sender->envid != NULL)
		str_printf(out, " ENVID=%s", sender->envid);
}

void
smtp_params_write_mail(struct str *out, const struct mail_sender *sender, int64_t size,
	const struct smtp_caps *peer)
{
	str_printf(out, "MAIL FROM:<%s>", sender->addr);
	if (size >= 0 && (peer->bits & SMTP_CAP_SIZE))
		str_printf(out, " SIZE=%" PRId64, size);
	if (peer->bits & SMTP_CAP_8BITMIME)
		write_body(out, sender->body);
	if (sender->smtputf8 && (peer->bits & SMTP_CAP_SMTPUTF8))
		str_add(out, " SMTPUTF8");
	if (peer->bits & SMTP_CAP_DSN)
		write_dsn(out, sender);
	if (sender->auth != NULL && (peer->bits & SMTP_CAP_AUTH))
		str_printf(out, " AUTH=%s", sender->auth);
}

static bool
is_ascii(const char *text)
{
	while (*text != '\0' && isascii((unsigned char)*text))
		text++;
	return *text == '\0';
}

void
smtp_params_write_rcpt(struct str *out, const struct mail_rcpt *rcpt, const struct smtp_caps *peer)
{
	str_printf(out, "RCPT TO:<%s>", rcpt->addr);
	if (!(peer->bits & SMTP_CAP_DSN))
		return;
	if (rcpt->notify != NULL)
		str_printf(out, " NOTIFY=%s", rcpt->notify);
	if (rcpt->orcpt != NULL && ((peer->bits & SMTP_CAP_SMTPUTF8) || is_ascii(rcpt->orcpt)))
		str_printf(out, " ORCPT=%s", rcpt->orcpt);
}
