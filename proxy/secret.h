/*
 * proxy/secret.h - passwords from files that only we can read.
 */
#ifndef PROXY_SECRET_H
#define PROXY_SECRET_H

#include "proxy/options.h"

/*
 * Reads the first line of a file, or of the systemd credential NAME where source is "credential:NAME". Refuses a
 * file that everybody can read, that others than its owner can write, or that is neither root's nor ours. Returns
 * 0 and memory for secret_free(), or -1.
 */
int secret_read(const char *source, char **text_r, struct err *err);
/* Wipes it. */
void secret_free(char **text);

/* All passwords of the configuration, into its back-ends. */
int secrets_load(struct settings *settings, struct err *err);

#endif
