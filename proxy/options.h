/*
 * proxy/options.h - the whole configuration as structs, in the order of the manual.
 *
 * settings_load() parses, resolves names and checks what rows alone cannot. The result is an immutable
 * snapshot: sessions and transactions hold it by config_ref().
 */
#ifndef PROXY_OPTIONS_H
#define PROXY_OPTIONS_H

#include <sys/types.h>

#include "base/log.h"
#include "config/config.h"
#include "filters/words.h"
#include "mail/trace.h"
#include "smtp/pool.h"
#include "smtp/server.h"
#include "spool/file.h"
#include "spool/quarantine.h"

enum listener_protocol { LISTENER_SMTP };
enum backend_protocol { BACKEND_SPEAKS_SMTP };
enum listener_envelope { ENVELOPE_EARLY, ENVELOPE_LATE };

struct listener_conf {
	struct config_endpoints listen;
	int protocol;
	struct config_ref backend;
	struct config_nets clients;
	struct config_nets trusted;
	const char *socket_mode_text;
	const char *socket_owner, *socket_group; /* names, or NULL */
	int max_connections; /* 0: no limit of its own */
	int max_per_client;  /* 0: off */
	struct smtp_server_conf smtp;
	struct config_words gate;
	int max_hops;
	bool received;
	int envelope;
	int64_t early_hold;
	int64_t budget;
	int64_t final_reserve;
	int64_t separate_for;
};

/* The block `tls` of a listener. */
struct listener_tls_conf {
	struct config_words certificate;
	struct config_words key;
	const char *client_ca;
	int verify; /* enum net_tls_ask */
	int min_version;
};

struct backend_conf {
	struct config_endpoints hosts;
	int balance;
	int64_t probe_interval;
	int64_t resolve_interval;
	int protocol;
	int tls; /* enum backend_tls */
	const char *tls_ca;
	struct config_words tls_pin;
	const char *tls_certificate;
	const char *tls_key;
	int tls_min_version;
	const char *auth_password_file;
	const char *maildir;
	bool discard;
	struct smtp_client_conf client;
	int64_t connect_timeout;
	int64_t idle_timeout;
	int max_connections;
	int max_idle;
	int max_messages;
};

/* Where health and metrics are asked for; off without an address. */
struct health_conf {
	struct config_endpoints listen;
	struct config_nets clients;
};

struct backend_counts;
struct listener_counts;

enum backend_tls { BACKEND_TLS_NONE, BACKEND_TLS_OPPORTUNISTIC, BACKEND_TLS_REQUIRED, BACKEND_TLS_VERIFY };
enum backend_kind { BACKEND_SMTP, BACKEND_MAILDIR, BACKEND_DISCARD };

struct backend {
	const char *name;
	const struct config_block *block;
	struct backend_conf conf;
	enum backend_kind kind;
	struct smtp_dest_conf dest_conf; /* BACKEND_SMTP */
	struct net_tls_conf tls_conf;
	struct net_tls_live *tls; /* NULL: in clear */
	char *password; /* of auth_password_file, once it was read */
	struct backend_counts *counts; /* one per worker (proxy/metrics.h) */
	int index;
};

struct listener {
	const char *name;
	const struct config_block *block;
	struct listener_conf conf;
	const struct backend *backend;
	struct net_tls_conf tls_conf;
	struct net_tls_live *tls; /* NULL: no certificate is given */
	const struct filter_chain *gate; /* NULL: nobody is asked about the envelope */
	char token[MAIL_TOKEN_SIZE];
	struct listener_counts *counts; /* one per worker (proxy/metrics.h) */
	mode_t socket_mode;
	struct limits_listener *count; /* proxy/limits.h; set by the engine, as it outlives a configuration */
};

struct log_section {
	const char *to;
	int facility;
	int level;
	int format;
};

struct top_conf {
	const char *user;
	const char *group;
	const char *pid_file;
	int workers; /* 0: auto */
	int max_connections; /* 0: auto */
	const char *hostname;
	int64_t drain_timeout;
	int64_t stuck_timeout;
	bool watch_config;
	struct address_conf addresses;
	struct config_words default_chain;
};

struct settings {
	struct config *config; /* borrowed: it owns us */
	struct top_conf top;
	struct log_section log;
	struct spool_conf spool;
	struct quarantine_conf quarantine;
	struct health_conf health;
	struct listener *listeners;
	int listener_count;
	struct backend *backends;
	int backend_count;
	struct filter_set *filters;
	char hostname[256]; /* of the option, or the machine's */
	int workers;	    /* resolved */
};

extern const struct config_section top_section;
/* Completes top_section with the filter kinds; settings_load() does it, too. */
void settings_prepare(void);

/* *settings_r is always set and lives in *conf_r (one reference). -1 when there were errors. */
int settings_load(const char *path, struct config **conf_r, struct settings **settings_r);
/* May this client speak where `clients` says so? A Unix socket takes everybody who can reach it. */
bool nets_admit(const struct config_nets *clients, const struct ip_addr *client);
/* What the log section means, for log_open(); and of the command line -f and -v, which hold against it. */
struct log_conf settings_log_conf(const struct settings *settings, bool to_stderr, bool verbose);

#endif
