/*
 * proxy/check_certificates.c - certificates, keys and authorities: can they be used, for whom, how long?
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/tls_facts.h"
#include "proxy/check_private.h"

/* Who renews by hand needs some time. */
#define SOON_DAYS 30

/* Which folder on the way does not let us through? The message of open() does not say. */
static void
add_obstacle(const struct check *c, const char *path, struct err *err)
{
	char folder[PATH_MAX], text[sizeof(err->text)];

	for (const char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		snprintf(folder, sizeof(folder), "%.*s", (int)(slash - path), path);
		if (access(folder, X_OK) < 0 && errno == EACCES)
			break;
		folder[0] = '\0';
	}
	snprintf(text, sizeof(text), "%s", err->text);
	if (access(path, R_OK) == 0 || errno != EACCES)
		return;
	if (strchr(path + 1, '/') != NULL && folder[0] != '\0')
		err_set(err, "%s (%s may not enter %s)", text, c->whose, folder);
	else
		err_set(err, "%s (%s may not read it: try chgrp and chmod 0640)", text, c->whose);
}

static void
check_key_mode(const struct check *c, const struct config_place *place, const char *option, const char *key)
{
	struct stat st;

	if (key != NULL && stat(key, &st) == 0 && (st.st_mode & S_IROTH))
		check_warn(c, place, "%s: %s can be read by everybody (mode %04o; try chmod 0640 with our group)", option, key,
			(unsigned)st.st_mode & 07777);
}

static void
check_dates(const struct check *c, const struct config_place *place, const char *option, const char *file)
{
	struct net_tls_facts facts;

	if (net_tls_facts(file, &facts) < 0)
		return;
	if (facts.days_left < 0)
		check_warn(c, place, "%s: %s has expired (on %s)", option, file, facts.until);
	else if (facts.days_left < SOON_DAYS)
		check_warn(c, place, "%s: %s expires in %d days (on %s)", option, file, facts.days_left, facts.until);
	if (!facts.is_valid_yet)
		check_warn(c, place, "%s: %s is not valid yet (is the clock right?)", option, file);
}

/* One at a time, so that each is told. */
static bool
check_pair(const struct check *c, const struct net_tls_conf *whole, const struct net_tls_cert *cert,
	const struct config_place *cert_place, const struct config_place *key_place, const char *cert_option,
	const char *key_option)
{
	struct net_tls_conf conf = { .is_server = whole->is_server, .certs = { *cert }, .cert_count = 1,
		.min_version = whole->min_version };
	struct net_tls *tls;
	struct err err;
	bool is_key;

	check_begin(c, cert_place, cert->certificate);
	tls = net_tls_new(&conf, &err);
	if (tls == NULL) {
		is_key = strncmp(err.text, "key ", 4) == 0;
		add_obstacle(c, is_key && cert->key != NULL ? cert->key : cert->certificate, &err);
		check_error(c, is_key ? key_place : cert_place, "%s", err.text);
		return false;
	}
	net_tls_unref(&tls);
	check_key_mode(c, key_place, cert->key != NULL ? key_option : cert_option,
		cert->key != NULL ? cert->key : cert->certificate);
	check_dates(c, cert_place, cert_option, cert->certificate);
	return true;
}

static void
check_authorities(const struct check *c, const struct config_place *place, const char *file)
{
	struct net_tls_conf conf = { .verify = true, .ca = file, .min_version = NET_TLS_1_2 };
	struct net_tls *tls;
	struct err err;

	if (file == NULL)
		return;
	check_begin(c, place, file);
	tls = net_tls_new(&conf, &err);
	if (tls == NULL) {
		add_obstacle(c, file, &err);
		check_error(c, place, "%s", err.text);
	}
	net_tls_unref(&tls);
}

/* Only where somebody said what we are called: the front may know us by another name than the machine's. */
static void
check_names(const struct check *c, const struct listener *l, const struct config_place *place)
{
	const struct net_tls_conf *tc = &l->tls_conf;
	const char *name = l->conf.smtp.hostname;
	struct net_tls_facts facts;

	if (!config_is_set(l->block, "hostname") && !config_is_set(c->settings->config->top, "hostname"))
		return;
	for (size_t i = 0; i < tc->cert_count; i++)
		if (net_tls_file_has_name(tc->certs[i].certificate, name))
			return;
	if (net_tls_facts(tc->certs[0].certificate, &facts) == 0)
		check_warn(c, place, "certificate: %s is not for our hostname %s (it is for %s)", tc->certs[0].certificate, name,
			facts.names);
}

static void
check_listener(const struct check *c, const struct listener *l)
{
	const struct config_block *block = config_find_one(l->block, "tls");
	const struct listener_tls_conf *tc = block->data[0];
	bool is_good = true;

	if (l->tls_conf.cert_count == 0)
		return;
	for (size_t i = 0; i < l->tls_conf.cert_count; i++)
		is_good &= check_pair(c, &l->tls_conf, &l->tls_conf.certs[i], &tc->certificate.list[i].place,
			i < tc->key.count ? &tc->key.list[i].place : &tc->certificate.list[i].place, "certificate", "key");
	check_authorities(c, check_place(c, block, "client_ca"), tc->client_ca);
	if (is_good)
		check_names(c, l, &tc->certificate.list[0].place);
}

static void
check_backend(const struct check *c, const struct backend *b)
{
	if (b->tls == NULL)
		return;
	if (b->tls_conf.cert_count > 0)
		check_pair(c, &b->tls_conf, &b->tls_conf.certs[0], check_place(c, b->block, "tls_certificate"),
			check_place(c, b->block, b->conf.tls_key != NULL ? "tls_key" : "tls_certificate"), "tls_certificate",
			"tls_key");
	check_authorities(c, check_place(c, b->block, "tls_ca"), b->conf.tls_ca);
}

void
check_certificates(struct check *c)
{
	for (int i = 0; i < c->settings->listener_count; i++)
		check_listener(c, &c->settings->listeners[i]);
	for (int i = 0; i < c->settings->backend_count; i++)
		check_backend(c, &c->settings->backends[i]);
}
