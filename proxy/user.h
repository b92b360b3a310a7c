/*
 * proxy/user.h - whom Postern becomes when it was started as root, and giving up root for good.
 */
#ifndef PROXY_USER_H
#define PROXY_USER_H

#include <sys/types.h>

#include "base/err.h"
#include "proxy/options.h"

struct user {
	const char *name; /* borrowed from the settings; NULL: we are not root and stay who we are */
	uid_t uid;
	gid_t gid;
};

/* Who the settings' `user` and `group` are. As root, to have none, or root, is an error that says so. */
int user_find(const struct settings *st, struct user *user_r, struct err *err);
/* For good: no way leads back, and no exec gives rights again. What may be kept is CAP_NET_BIND_SERVICE alone,
 * so that a reload can bind a low port. Does nothing but the latter where we are not root. */
int user_become(const struct user *user, struct err *err);
/* A child that binds nothing gives up that, too. */
void user_drop_capabilities(void);

#endif
