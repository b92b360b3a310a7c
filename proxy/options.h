/*
 * proxy/options.h - the whole configuration as structs, in the order of the manual.
 *
 * settings_load() parses, resolves names and checks what rows alone cannot. The result is an immutable
 * snapshot: sessions and transactions hold it by config_ref().
 */
#ifndef PROXY_OPTIONS_H
#define PROXY_OPTIONS_H

#include "base/log.h"
#include "config/config.h"
#include "mail/trace.h"
#include "smtp/pool.h"
#include "smtp/server.h"
#include "spool/file.h"

enum listener_protocol { LISTENER_SMTP };
enum backend_protocol { BACKEND_SPEAKS_SMTP };
enum backend_tls { BACKEND_TLS_NONE };
enum listener_envelope { ENVELOPE_EARLY, ENVELOPE_LATE };

struct listener_conf {
	struct config_endpoints listen;
	int protocol;
	struct config_ref backend;
	struct config_nets clients;
	struct smtp_server_conf smtp;
	int max_hops;
	bool received;
	int envelope;
	int64_t early_hold;
	int64_t budget;
	int64_t final_reserve;
	int64_t separate_for;
};

struct backend_conf {
	struct config_endpoints hosts;
	int protocol;
	int tls;
	const char *maildir;
	bool discard;
	struct smtp_client_conf client;
	int64_t connect_timeout;
	int64_t idle_timeout;
	int max_connections;
	int max_idle;
	int max_messages;
};

enum backend_kind { BACKEND_SMTP, BACKEND_MAILDIR, BACKEND_DISCARD };

struct backend {
	const char *name;
	const struct config_block *block;
	struct backend_conf conf;
	enum backend_kind kind;
	struct smtp_dest_conf dest_conf; /* BACKEND_SMTP */
	int index;
};

struct listener {
	const char *name;
	const struct config_block *block;
	struct listener_conf conf;
	const struct backend *backend;
	char token[MAIL_TOKEN_SIZE];
	int index;
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
	const char *hostname;
	int64_t drain_timeout;
	struct config_words default_chain;
};

struct settings {
	struct config *config; /* borrowed: it owns us */
	struct top_conf top;
	struct log_section log;
	struct spool_conf spool;
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
/* What the log section means, for log_open(). */
struct log_conf settings_log_conf(const struct settings *settings);

#endif
