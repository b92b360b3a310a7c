/*
 * proxy/check.h - what `postern -t` looks at beyond the text: files and rights, addresses, back-ends.
 *
 * All of it could hang (a folder of NFS, a name server, a back-end), be dangerous to do as root, or leave
 * something behind. So it is done by children that are killed when they are late; those that read files or
 * talk to others become the configuration's user first.
 */
#ifndef PROXY_CHECK_H
#define PROXY_CHECK_H

#include "proxy/options.h"

/* The text is good. What is found is added to the configuration's errors and warnings, all of it. */
void check_settings(struct settings *settings);

#endif
