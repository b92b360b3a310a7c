/*
 * filters/rspamd.c - asks rspamd by HTTP (/checkv2): the options, and one exchange.
 *
 * The message is sent as the filters before this one have left it. Of the answer the JSON is kept, and a rewritten
 * message behind it goes to the spool as it comes. Nothing of it counts before the answer is whole.
 */
#include "filters/rspamd.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include <jansson.h>

#include "base/str.h"
#include "filters/mark.h"
#include "filters/new_body.h"
#include "filters/subject.h"
#include "mail/view.h"
#include "net/http_client.h"

#define REASON_MAX 200

extern const struct filter_kind filter_rspamd;

const char *const rspamd_deed_names[] = {
	[RSPAMD_DO_PASS] = "pass",
	[RSPAMD_DO_HEADER] = "add_header",
	[RSPAMD_DO_SUBJECT] = "rewrite_subject",
	[RSPAMD_DO_TEMPFAIL] = "tempfail",
	[RSPAMD_DO_REJECT] = "reject",
	[RSPAMD_DO_DISCARD] = "discard",
	[RSPAMD_DO_QUARANTINE] = "quarantine",
	NULL,
};
static const char *const rewrite_names[] = {
	[RSPAMD_REWRITE_NO] = "no",
	[RSPAMD_REWRITE_BODY] = "body",
	[RSPAMD_REWRITE_MESSAGE] = "message",
	NULL,
};

#define DEED(name, action, def, help) \
	CONFIG_ENUM(name, struct rspamd_conf, deeds[action], def, rspamd_deed_names, help)

static const struct config_option rspamd_options[] = {
	DIAL_OPTIONS(struct rspamd_conf, dial, "127.0.0.1:11333"),
	CONFIG_STRING("path", struct rspamd_conf, path, "/checkv2", "what is asked for; behind a proxy it may be longer"),
	CONFIG_STRING("settings_id", struct rspamd_conf, settings_id, NULL,
		"the settings of rspamd that hold for these messages, by their name there"),
	CONFIG_STRING("settings", struct rspamd_conf, settings, NULL,
		"settings for these messages as JSON, in place of those that rspamd would find"),
	CONFIG_STRING("as_user", struct rspamd_conf, user, NULL,
		"rspamd hears that this user is logged in, as for mail of our own that goes out and is to be signed"),
	CONFIG_STRING("mta_name", struct rspamd_conf, mta_name, NULL,
		"the name of the mail server that rspamd hears, and writes into Authentication-Results"),
	CONFIG_STRING("mta_tag", struct rspamd_conf, mta_tag, NULL, "a word about the mail server for rspamd's rules"),
	CONFIG_BOOL("pass_all", struct rspamd_conf, pass_all, "no",
		"all rules of rspamd are asked, also when the message is spam already"),
	CONFIG_WORDS("flags", struct rspamd_conf, flags, NULL,
		"more of the flags that rspamd knows, such as no_log, groups or ext_urls"),
	CONFIG_ENUM("rewrite", struct rspamd_conf, rewrite, "body", rewrite_names,
		"what rspamd's rules may put in the place of what came: no, the body, or the whole message"),
	CONFIG_SIZE("max_rewrite", struct rspamd_conf, max_rewrite, "64M", 1, INT64_C(1) << 40,
		"the filter fails when a rewritten message is larger"),
	DEED("reject_action", RSPAMD_REJECT, "reject",
		"what is done when rspamd says reject: pass, add_header, rewrite_subject, tempfail (451 4.7.1), reject "
		"(554 5.7.1), discard or quarantine; the text is rspamd's where it has one"),
	DEED("soft_reject_action", RSPAMD_SOFT_REJECT, "tempfail", "the same when it says soft reject"),
	DEED("rewrite_subject_action", RSPAMD_REWRITE_SUBJECT, "rewrite_subject", "the same when it says rewrite subject"),
	DEED("add_header_action", RSPAMD_ADD_HEADER, "add_header", "the same when it says add header"),
	DEED("greylist_action", RSPAMD_GREYLIST, "pass",
		"the same when it says greylist; what it wants to be greylisted for good is a soft reject"),
	DEED("discard_action", RSPAMD_DISCARD, "discard", "the same when it says discard"),
	DEED("quarantine_action", RSPAMD_QUARANTINE, "quarantine", "the same when it says quarantine; without a block quarantine the message is put off"),
	CONFIG_STRING("spam_header", struct rspamd_conf, spam_header, "X-Spam",
		"the field that add_header adds; those of that name that come in with messages are removed"),
	CONFIG_STRING("spam_value", struct rspamd_conf, spam_value, "Yes", "its value"),
	CONFIG_STRING("subject_tag", struct rspamd_conf, subject_tag, NULL,
		"what rewrite_subject puts in front of the subject; when not given, the subject becomes the one that "
		"rspamd made, and where it made none the tag is [SPAM]"),
	CONFIG_BOOL("report", struct rspamd_conf, report, "no",
		"messages that pass have fields with rspamd's action and score, X-Spam-Status and X-Rspamd-Score"),
	CONFIG_END};

/* ---- setup ---------------------------------------------------------------------------------- */

/* One word of a header field of HTTP, or of what stands in its first line. */
static bool
is_visible(const char *text)
{
	return str_is_printable(text) && strchr(text, ' ') == NULL;
}

static int
check_text(const char *option, const char *text, struct err *err)
{
	if (text == NULL || (*text != '\0' && str_is_printable(text) && strlen(text) <= 1000))
		return 0;
	return err_set(err, "%s: it must be printable ASCII, 1 to 1000 octets", option);
}

static int
check_texts(const struct rspamd_conf *c, struct err *err)
{
	const struct {
		const char *option, *text;
	} texts[] = {
		{ "settings_id", c->settings_id },
		{ "settings", c->settings },
		{ "as_user", c->user },
		{ "mta_name", c->mta_name },
		{ "mta_tag", c->mta_tag },
		{ "spam_value", c->spam_value },
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (check_text(texts[i].option, texts[i].text, err) < 0)
			return -1;
	return 0;
}

/* Rspamd would not complain: it would go by its own. */
static int
check_settings(const char *text, struct err *err)
{
	json_t *json = text != NULL ? json_loads(text, 0, NULL) : NULL;
	bool is_good = text == NULL || json_is_object(json);

	json_decref(json);
	return is_good ? 0 : err_set(err, "settings: it is no JSON object (try \"{}\")");
}

/* Those that say how the answer looks are ours to choose. */
static int
check_flags(const struct config_words *flags, struct err *err)
{
	for (size_t i = 0; i < flags->count; i++) {
		const char *flag = flags->list[i].text;

		if (*flag == '\0' || !is_visible(flag) || strchr(flag, ',') != NULL)
			return err_set(err, "flags: \"%s\" is no flag (several stand apart, without commas)", flag);
		if (strcmp(flag, "milter") == 0 || strcmp(flag, "body_block") == 0)
			return err_set(err, "flags: %s goes with the option rewrite (no, body or message)", flag);
		if (strcmp(flag, "zstd") == 0)
			return err_set(err, "flags: zstd asks for an answer that is compressed, and cannot be read");
	}
	return 0;
}

static int
rspamd_setup(void *conf, struct err *err)
{
	struct rspamd_conf *c = conf;

	if (dial_setup(&c->dial, err) < 0)
		return -1;
	if (*c->path != '/' || !is_visible(c->path))
		return err_set(err, "path: \"%s\" does not begin with a slash, or has blanks in it", c->path);
	if (!mail_edit_is_name(c->spam_header) || str_caseeq(c->spam_header, "Received"))
		return err_set(err, "spam_header: \"%s\" is no name for it (it stands without its colon)", c->spam_header);
	if (check_texts(c, err) < 0 || check_settings(c->settings, err) < 0 || check_flags(&c->flags, err) < 0)
		return -1;
	return subject_tag_check(c->subject_tag, err);
}

static void
rspamd_teardown(void *conf)
{
	struct rspamd_conf *c = conf;

	dial_teardown(&c->dial);
}

/* What rspamd's own proxy would have called so as well. */
static void
rspamd_marks(const void *conf, struct filter_marks *marks)
{
	const struct rspamd_conf *c = conf;

	filter_mark_declare(marks, c->spam_header);
	filter_mark_declare(marks, "X-Rspamd-Action");
	if (!c->report)
		return;
	filter_mark_declare(marks, "X-Spam-Status");
	filter_mark_declare(marks, "X-Rspamd-Score");
}

/* ---- one exchange --------------------------------------------------------------------------- */

struct exchange {
	struct dial *dial;
	struct net_http_call *call;
	struct mail_view view;
	bool has_view;
	struct str json;
	int64_t json_len; /* what stands in front of a rewritten message; -1: all is JSON */
	struct new_body *rewritten;
};

static void
exchange_end(struct exchange *x)
{
	dial_cancel(&x->dial);
	net_http_call_cancel(&x->call);
	new_body_cancel(&x->rewritten);
	if (x->has_view)
		mail_view_deinit(&x->view);
	x->has_view = false;
	str_deinit(&x->json);
}

static void
fail(struct filter_run *run, const struct err *err)
{
	exchange_end(run->data);
	filter_resume(run, filter_fail(run, "%s", err->text));
}

static int
next_piece(void *owner, struct net_http_piece *piece_r, struct err *err)
{
	struct filter_run *run = owner;
	struct exchange *x = run->data;
	struct mail_piece piece;
	int rc = mail_view_next(&x->view, &piece);

	if (rc < 0)
		return err_sys(err, "cannot read the spooled message");
	if (rc > 0)
		*piece_r = (struct net_http_piece){ piece.data, piece.fd, piece.off, piece.len };
	return rc;
}

/* What was not asked for, or said twice, is no answer to trust. */
static int
begin_rewritten(struct filter_run *run, const char *offset, size_t len, struct err *err)
{
	const struct rspamd_conf *c = run->conf;
	struct exchange *x = run->data;

	x->json_len = net_http_number(offset, len);
	if (x->json_len < 0 || c->rewrite == RSPAMD_REWRITE_NO)
		return err_set_temp(err, "its answer has a Message-Offset that cannot be");
	x->rewritten = new_body_begin(run, c->rewrite == RSPAMD_REWRITE_BODY ? NEW_BODY : NEW_MESSAGE, c->max_rewrite);
	return 0;
}

static int
got_head(void *owner, const struct net_http_answer *answer, struct err *err)
{
	struct filter_run *run = owner;
	struct exchange *x = run->data;
	char reason[REASON_MAX + 1];
	const char *offset;
	size_t len;
	int count;

	if (answer->status != 200) {
		str_clean(reason, REASON_MAX, answer->reason, answer->reason_len, false);
		return err_set_temp(err, "it answered %d%s%s", answer->status, *reason != '\0' ? " " : "", reason);
	}
	count = net_http_answer_field(answer, "Message-Offset", &offset, &len);
	if (count > 1)
		return err_set_temp(err, "its answer has two Message-Offsets");
	x->json_len = -1;
	return count == 1 ? begin_rewritten(run, offset, len, err) : 0;
}

static int
got_body(void *owner, const char *data, size_t len, struct err *err)
{
	struct filter_run *run = owner;
	struct exchange *x = run->data;
	size_t json = len;

	if (x->json_len >= 0 && (int64_t)(x->json.len + len) > x->json_len)
		json = (size_t)(x->json_len - (int64_t)x->json.len);
	if (x->json.len + json > RSPAMD_REPLY_MAX)
		return err_set_temp(err, "its answer is longer than %d octets", RSPAMD_REPLY_MAX);
	str_addn(&x->json, data, json);
	if (json < len)
		new_body_write(x->rewritten, data + json, len - json);
	return 0;
}

/* The new content is an edit before those of the JSON, which may be about its header. */
static enum filter_step
conclude(struct filter_run *run)
{
	struct exchange *x = run->data;
	struct err err;

	if (x->json_len >= 0 && (int64_t)x->json.len < x->json_len)
		return filter_fail(run, "its answer ends before its Message-Offset");
	if (x->rewritten != NULL && new_body_end(&x->rewritten, &err) < 0)
		return filter_fail(run, "%s", err.text);
	return rspamd_answer(run, str_text(&x->json), x->json.len);
}

static void
got_answer(void *owner, const struct err *err)
{
	struct filter_run *run = owner;
	struct exchange *x = run->data;
	enum filter_step how;

	x->call = NULL;
	if (err != NULL) {
		fail(run, err);
		return;
	}
	how = conclude(run);
	exchange_end(x);
	filter_resume(run, how);
}

static const struct net_http_ops http_ops = {
	.more = next_piece,
	.head = got_head,
	.body = got_body,
	.done = got_answer,
};

/* RFC 9110 7.2: what a Unix socket has for a name is nobody's business. */
static void
host_text(const struct ip_endpoint *to, char *dst, size_t size)
{
	if (to->kind == IP_UNIX)
		snprintf(dst, size, "localhost");
	else
		ip_endpoint_text(to, dst, size);
}

static void
got_connection(void *owner, int fd, const struct ip_endpoint *to, const struct err *err)
{
	struct filter_run *run = owner;
	struct exchange *x = run->data;
	struct str head = STR_INIT;
	char host[300];

	x->dial = NULL;
	if (fd < 0) {
		fail(run, err);
		return;
	}
	host_text(to, host, sizeof(host));
	rspamd_request(run, host, mail_view_size(run->msg->body, run->seen), &head);
	mail_view_init(&x->view, run->msg->body, run->seen, MAIL_VIEW_PLAIN);
	x->has_view = true;
	x->call = net_http_call_start(run->env->worker, fd, &head, &http_ops, run);
	str_deinit(&head);
}

static enum filter_step
rspamd_message(struct filter_run *run)
{
	const struct rspamd_conf *c = run->conf;
	struct exchange *x = run->data;

	x->dial = dial_start(run->env->worker, &c->dial, got_connection, run);
	return FILTER_WAIT;
}

static void
rspamd_cancel(struct filter_run *run)
{
	exchange_end(run->data);
}

static const struct dial_conf *
rspamd_service(const void *conf)
{
	return &((const struct rspamd_conf *)conf)->dial;
}

const struct filter_kind filter_rspamd = {
	FILTER_SECTION(rspamd,
		"asks rspamd by HTTP, as its own clients do: its action becomes a verdict or a mark, and the edits of its rules "
		"are carried out",
		rspamd_options, struct rspamd_conf),
	.section.example = "# What comes in is refused, marked or put off as rspamd says; large mail is\n"
			   "# not looked at.\n"
			   "rspamd spam {\n"
			   "    socket       127.0.0.1:11333\n"
			   "    timeout      20s\n"
			   "    mta_name     mx.example.org\n"
			   "    only_smaller 20M\n"
			   "    subject_tag  \"[spam?]\"\n"
			   "}",
	.run_size = sizeof(struct exchange),
	.may = FILTER_MAY(MAIL_EDIT_ADD) | FILTER_MAY(MAIL_EDIT_INSERT) | FILTER_MAY(MAIL_EDIT_CHANGE) |
	       FILTER_MAY(MAIL_EDIT_DELETE) | FILTER_MAY(MAIL_EDIT_SENDER) | FILTER_MAY(MAIL_EDIT_ADD_RCPT) |
	       FILTER_MAY(MAIL_EDIT_REMOVE_RCPT) | FILTER_MAY(MAIL_EDIT_BODY) | FILTER_MAY(MAIL_EDIT_MESSAGE),
	.service = rspamd_service,
	.setup = rspamd_setup,
	.marks = rspamd_marks,
	.teardown = rspamd_teardown,
	.message = rspamd_message,
	.cancel = rspamd_cancel,
};
