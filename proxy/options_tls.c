/*
 * proxy/options_tls.c - what the configuration says of TLS: the listener's block, and what a back-end's
 * options mean together.
 */
#include "proxy/options_tls.h"

#include <string.h>

static const char *const ask_words[] = { "none", "ask", "require", NULL };

const char *const backend_tls_words[] = { "none", "opportunistic", "required", "verify", NULL };

static const struct config_option listener_tls_options[] = {
	CONFIG_WORDS("certificate", struct listener_tls_conf, certificate, NULL,
		"the certificate with its chain, as a PEM file; of several the first is the default, and the others "
		"serve clients that ask for a name in them. A changed file is picked up by itself"),
	CONFIG_WORDS("key", struct listener_tls_conf, key, NULL,
		"the private keys as PEM files without a passphrase, in the order of the certificates; when not given, each "
		"is in its certificate's file"),
	CONFIG_STRING("client_ca", struct listener_tls_conf, client_ca, NULL,
		"the PEM file of the authorities that sign clients' certificates"),
	CONFIG_ENUM("verify", struct listener_tls_conf, verify, "none", ask_words,
		"whether a client is asked for a certificate: ask takes any, and none, and logs its fingerprint and "
		"whether it is verified; require lets only those in whose certificate client_ca has signed"),
	CONFIG_ENUM("min_version", struct listener_tls_conf, min_version, "1.2", net_tls_version_words,
		"the oldest version of TLS that is spoken"),
	CONFIG_END
};

const struct config_section listener_tls_section = {
	.name = "tls",
	.help = "TLS of a listener, for STARTTLS and implicit_tls",
	.arity = CONFIG_ONE,
	.groups = { { listener_tls_options, sizeof(struct listener_tls_conf) } },
};

static void
check_path(struct config *conf, const struct config_block *block, const char *option, const char *path)
{
	if (path != NULL && path[0] != '/')
		config_error(conf, config_place_of(block, option), "%s: \"%s\" is not an absolute path", option, path);
}

/* ---- a listener ---- */

static void
pair_certs(struct settings *st, struct listener *l, const struct config_block *block)
{
	const struct listener_tls_conf *tc = block->data[0];

	if (tc->certificate.count > NET_TLS_CERTS_MAX) {
		config_error(st->config, config_place_of(block, "certificate"), "certificate: no more than %d are possible",
			NET_TLS_CERTS_MAX);
		return;
	}
	if (tc->key.count > 0 && tc->certificate.count > 0 && tc->key.count != tc->certificate.count)
		config_error(st->config, config_place_of(block, "key"),
			"key: there are %zu for %zu certificates; each certificate needs its own, in the same order",
			tc->key.count, tc->certificate.count);
	for (size_t i = 0; i < tc->certificate.count; i++) {
		struct net_tls_cert *cert = &l->tls_conf.certs[i];

		cert->certificate = tc->certificate.list[i].text;
		cert->key = i < tc->key.count ? tc->key.list[i].text : NULL;
		check_path(st->config, block, "certificate", cert->certificate);
		check_path(st->config, block, "key", cert->key);
	}
	l->tls_conf.cert_count = tc->certificate.count;
}

static void
need_certificate(struct settings *st, const struct listener *l, const char *option)
{
	config_error(st->config, config_place_of(l->block, option),
		"%s needs a certificate (try tls { certificate /etc/postern/tls/cert.pem; "
		"key /etc/postern/tls/key.pem })", option);
}

void
tls_resolve_listener(struct settings *st, struct listener *l)
{
	const struct config_block *block = config_find_one(l->block, "tls");
	const struct listener_tls_conf *tc = block->data[0];
	struct smtp_server_conf *sc = &l->conf.smtp;

	l->tls_conf.is_server = true;
	l->tls_conf.min_version = tc->min_version;
	l->tls_conf.ask = tc->verify;
	l->tls_conf.ca = tc->client_ca;
	pair_certs(st, l, block);
	check_path(st->config, block, "client_ca", tc->client_ca);
	if (tc->verify == NET_TLS_ASK_NOT && tc->client_ca != NULL)
		config_error(st->config, config_place_of(block, "client_ca"),
			"client_ca has no effect with verify none (try verify ask, or verify require)");
	if (tc->verify == NET_TLS_ASK_REQUIRE && tc->client_ca == NULL)
		config_error(st->config, config_place_of(block, "verify"),
			"verify require needs client_ca, the authorities whose certificates are let in");
	if (l->tls_conf.cert_count > 0) {
		l->tls = net_tls_live_new(&l->tls_conf);
		return;
	}
	if (sc->implicit_tls)
		need_certificate(st, l, "implicit_tls");
	else if (config_is_set(l->block, "starttls") && sc->starttls != SMTP_STARTTLS_NO)
		need_certificate(st, l, "starttls");
	else if (block->place.file != NULL && !config_is_set(block, "certificate"))
		config_error(st->config, &block->place, "tls: there is no certificate (try certificate "
			"/etc/postern/tls/cert.pem)");
	sc->starttls = SMTP_STARTTLS_NO;
	sc->implicit_tls = false;
}

/* ---- a back-end ---- */

static void
parse_pins(struct settings *st, struct backend *b)
{
	const struct config_words *words = &b->conf.tls_pin;
	struct err err;

	if (words->count == 0)
		return;
	b->tls_conf.pins = arena_alloc(st->config->arena, words->count * sizeof(*b->tls_conf.pins));
	for (size_t i = 0; i < words->count; i++) {
		if (net_tls_pin_parse(words->list[i].text, b->tls_conf.pins[i], &err) < 0)
			config_error(st->config, &words->list[i].place, "tls_pin: %s", err.text);
		b->tls_conf.pin_count++;
	}
}

/* An option that has no effect is a mistake somebody relies on. */
static void
check_unused(struct settings *st, const struct backend *b)
{
	static const char *const options[] = {
		"tls_ca", "tls_name", "tls_pin", "tls_certificate", "tls_key", "tls_min_version", NULL };

	if (b->conf.client.tls_name != NULL && *b->conf.client.tls_name == '\0')
		config_error(st->config, config_place_of(b->block, "tls_name"), "tls_name: \"\" is not a name");
	if (b->conf.tls == BACKEND_TLS_NONE && b->conf.client.implicit_tls)
		config_error(st->config, config_place_of(b->block, "implicit_tls"),
			"implicit_tls: the connection is in clear with tls none (try tls required, or tls verify)");
	for (size_t i = 0; options[i] != NULL; i++)
		if (b->conf.tls == BACKEND_TLS_NONE && config_is_set(b->block, options[i]))
			config_error(st->config, config_place_of(b->block, options[i]),
				"%s has no effect with tls none (try tls verify)", options[i]);
	if (b->conf.tls < BACKEND_TLS_VERIFY && b->conf.tls != BACKEND_TLS_NONE && b->conf.tls_ca != NULL)
		config_error(st->config, config_place_of(b->block, "tls_ca"),
			"tls_ca: certificates are looked at only with tls verify");
	if (b->conf.tls == BACKEND_TLS_OPPORTUNISTIC && b->conf.tls_pin.count > 0)
		config_error(st->config, config_place_of(b->block, "tls_pin"),
			"tls_pin: opportunistic takes any certificate, and none (try tls required)");
}

/* A host that has no name of its own needs one for its certificate. */
static void
check_names(struct settings *st, const struct backend *b)
{
	const struct config_endpoints *hosts = &b->conf.hosts;

	for (size_t i = 0; i < hosts->count; i++)
		if (hosts->list[i].kind == IP_UNIX && b->conf.client.tls_name == NULL)
			config_error(st->config, &hosts->places[i],
				"hosts: with tls verify a Unix socket needs tls_name, the name in the certificate");
}

void
tls_resolve_backend(struct settings *st, struct backend *b)
{
	const struct backend_conf *bc = &b->conf;
	struct net_tls_conf *tc = &b->tls_conf;

	check_unused(st, b);
	if (bc->tls == BACKEND_TLS_NONE)
		return;
	check_path(st->config, b->block, "tls_ca", bc->tls_ca);
	check_path(st->config, b->block, "tls_certificate", bc->tls_certificate);
	check_path(st->config, b->block, "tls_key", bc->tls_key);
	if (bc->tls_key != NULL && bc->tls_certificate == NULL)
		config_error(st->config, config_place_of(b->block, "tls_key"), "tls_key needs tls_certificate");
	parse_pins(st, b);
	tc->min_version = bc->tls_min_version;
	tc->ca = bc->tls_ca;
	tc->verify = bc->tls == BACKEND_TLS_VERIFY && (tc->pin_count == 0 || bc->tls_ca != NULL);
	if (tc->verify)
		check_names(st, b);
	if (bc->tls_certificate != NULL)
		tc->certs[tc->cert_count++] = (struct net_tls_cert){ bc->tls_certificate, bc->tls_key };
	b->tls = net_tls_live_new(tc);
	b->conf.client.tls = b->tls;
	b->conf.client.tls_required = bc->tls >= BACKEND_TLS_REQUIRED || bc->client.implicit_tls;
}
