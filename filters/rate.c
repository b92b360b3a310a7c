/* filters/rate.c - not more than so many in so much time: of one client, sender or recipient. For the gate alone. */
#include <ctype.h>
#include <string.h>

#include "base/clock.h"
#include "filters/answer.h"
#include "filters/rate_table.h"
#include "mail/canonical.h"

extern const struct filter_kind filter_rate;

enum rate_by { BY_CLIENT, BY_SENDER, BY_RECIPIENT };
enum rate_count { COUNT_MESSAGES, COUNT_RECIPIENTS, COUNT_CONNECTIONS };

static const char *const by_words[] = {"client", "sender", "recipient", NULL};
static const char *const count_words[] = {"messages", "recipients", "connections", NULL};

struct rate_conf {
	int limit;
	int64_t per;
	int by, count;
	int ipv4_prefix, ipv6_prefix;
	struct filter_answer answer;
	struct rate_what what;
	char text[80]; /* of the reply, where none was written */
};

static const struct config_option rate_options[] = {
	CONFIG_INT("limit", struct rate_conf, limit, NULL, 1, 100 * 1000 * 1000,
		"how many there may be in the time that `per` says; the next one is refused, and what is refused here does "
		"not count; required"),
	CONFIG_DURATION("per", struct rate_conf, per, "1h", 1000, 366LL * 24 * 3600 * 1000,
		"the time over which `limit` holds: always the last so much of it, where what came more than that ago, but "
		"less than twice, is taken as evenly spread"),
	CONFIG_ENUM("by", struct rate_conf, by, "client", by_words,
		"of whom: client is an address or its network, sender and recipient are mail addresses, however "
		"they are written. The null sender is one sender, those on Unix sockets are one client. Of more than 65536 at a time "
		"those that were counted least are forgotten"),
	CONFIG_ENUM("count", struct rate_conf, count, "messages", count_words,
		"what is counted: messages at MAIL, recipients at RCPT, or connections, before the greeting; of a recipient "
		"its messages, at RCPT. A message that is refused later counts"),
	CONFIG_INT("ipv4_prefix", struct rate_conf, ipv4_prefix, "32", 1, 32,
		"the clients that are one: those whose IPv4 addresses begin with the same bits, so many"),
	CONFIG_INT("ipv6_prefix", struct rate_conf, ipv6_prefix, "64", 1, 128,
		"the same of IPv6 addresses: whoever has one has usually a /64 of them"),
	FILTER_ANSWER_OPTIONS(struct rate_conf, answer, "tempfail", "to what is too much"), CONFIG_END};

static bool
is_refusal(const struct rate_conf *c)
{
	switch (filter_answer_kind(&c->answer)) {
	case VERDICT_REJECT:
	case VERDICT_TEMPFAIL:
	case VERDICT_DISCONNECT:
		return true;
	default:
		return false;
	}
}

static void
write_text(struct rate_conf *c)
{
	static const char *const whose[] = {"from your address", "from this sender", "for this recipient"};

	if (!is_refusal(c) || c->answer.text != NULL)
		return;
	snprintf(c->text, sizeof(c->text), "too many %s %s%s",
		c->by == BY_RECIPIENT ? count_words[COUNT_MESSAGES] : count_words[c->count], whose[c->by],
		filter_answer_kind(&c->answer) == VERDICT_REJECT ? "" : ", try again later");
	c->answer.text = c->text;
}

static int
check(const struct rate_conf *c, struct err *err)
{
	if (c->limit == 0)
		return err_set(err, "limit is missing (try limit 100)");
	if (c->count == COUNT_CONNECTIONS && c->by != BY_CLIENT)
		return err_set(err, "count connections: they are a client's, a %s is not known yet (try by client)", by_words[c->by]);
	if (filter_answer_delivers(&c->answer))
		return err_set(err, "verdict %s: then there is no limit (try tempfail)", filter_answer_names[c->answer.verdict]);
	if (!is_refusal(c) && c->count == COUNT_CONNECTIONS)
		return err_set(err, "verdict %s: a connection is no message yet (try tempfail)",
			filter_answer_names[c->answer.verdict]);
	return filter_answer_check(&c->answer, err);
}

static int
rate_setup(void *conf, struct err *err)
{
	struct rate_conf *c = conf;

	if (check(c, err) < 0)
		return -1;
	c->what = (struct rate_what){
		.by = c->by,
		.count = c->count,
		.ipv4_prefix = c->ipv4_prefix,
		.ipv6_prefix = c->ipv6_prefix,
		.per_ms = c->per,
	};
	write_text(c);
	return 0;
}

static unsigned
rate_at(const void *conf)
{
	const struct rate_conf *c = conf;

	if (c->count == COUNT_CONNECTIONS)
		return 1u << FILTER_CONNECT;
	return c->by == BY_RECIPIENT || c->count == COUNT_RECIPIENTS ? 1u << FILTER_RCPT : 1u << FILTER_MAIL;
}

/* One key for all of a network. */
static size_t
client_key(const struct rate_conf *c, const struct ip_addr *client, char *key)
{
	const unsigned char *octets = (const unsigned char *)&client->u;
	size_t len = client->family == AF_INET6 ? 16 : client->family == AF_INET ? 4 : 0;
	size_t bits = (size_t)(client->family == AF_INET6 ? c->ipv6_prefix : c->ipv4_prefix);

	key[0] = (char)client->family;
	for (size_t i = 0; i < len; i++)
		key[1 + i] = (char)(bits >= 8 * (i + 1) ? octets[i]
				    : bits > 8 * i	? octets[i] & 0xff00 >> (bits - 8 * i)
							: 0);
	return 1 + len;
}

static bool
take(struct filter_run *run, const void *key, size_t len)
{
	const struct rate_conf *c = run->conf;

	return rate_take(run->filter->name, &c->what, (unsigned)c->limit, key, len, clock_ms());
}

/* However it is written, and in whatever case: else another spelling would be another count. */
static bool
take_address(struct filter_run *run, const char *addr)
{
	struct mail_canonical c;

	if (!mail_canonical(addr, strlen(addr), false, &c))
		snprintf(c.text, sizeof(c.text), "%s", addr);
	for (char *p = c.text; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	return take(run, c.text, strlen(c.text));
}

static enum filter_step
rate_ask(struct filter_run *run)
{
	const struct rate_conf *c = run->conf;
	char key[1 + sizeof(struct in6_addr)];
	bool taken = false;

	switch ((enum rate_by)c->by) {
	case BY_CLIENT:
		taken = take(run, key, client_key(c, &run->msg->origin->client, key));
		break;
	case BY_SENDER:
		taken = take_address(run, run->msg->sender->addr);
		break;
	case BY_RECIPIENT:
		taken = take_address(run, run->rcpt->addr);
		break;
	}
	return taken ? FILTER_NEXT : filter_answer(run, &c->answer);
}

const struct filter_kind filter_rate = {
	FILTER_SECTION(rate, "allows not more than so many messages, recipients or connections in a time, of one client, sender or recipient; "
			     "for the gate of a listener",
		rate_options, struct rate_conf),
	.section.example = "# Not more than 100 messages an hour from one client.\n"
			   "# In a listener: gate flood\n"
			   "rate flood { by client; limit 100; per 1h }",
	.inspects = true,
	.is_prompt = true,
	.setup = rate_setup,
	.at = rate_at,
	.connect = rate_ask,
	.mail = rate_ask,
	.rcpt = rate_ask,
};
