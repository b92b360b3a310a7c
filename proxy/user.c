/*
 * proxy/user.c - finding the user to become, and becoming it.
 */
#include "proxy/user.h"

#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int
find_ids(const struct settings *st, struct user *user, struct err *err)
{
	const struct passwd *pw;
	const struct group *gr;

	pw = getpwnam(st->top.user);
	if (pw == NULL)
		return err_set(err, "user: there is no user \"%s\" (try adduser --system --group %s)",
			st->top.user, st->top.user);
	*user = (struct user){ st->top.user, pw->pw_uid, pw->pw_gid };
	if (st->top.group == NULL)
		return 0;
	gr = getgrnam(st->top.group);
	if (gr == NULL)
		return err_set(err, "group: there is no group \"%s\" (try addgroup --system %s, or no group: then it is the user's own)",
			st->top.group, st->top.group);
	user->gid = gr->gr_gid;
	return 0;
}

int
user_find(const struct settings *st, struct user *user_r, struct err *err)
{
	*user_r = (struct user){ NULL, geteuid(), getegid() };
	if (geteuid() != 0)
		return 0;
	if (st->top.user == NULL)
		return err_set(err, "refusing to run as root: name a user to become (try user postern)");
	if (find_ids(st, user_r, err) < 0)
		return -1;
	if (user_r->uid == 0)
		return err_set(err, "refusing to run as root: user must be another one (try user postern)");
	return 0;
}

/* No library for one bit. Fails without harm where we may not have it. */
static int
set_capabilities(unsigned kept)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { .effective = kept, .permitted = kept, .inheritable = kept } };

	return (int)syscall(SYS_capset, &head, data);
}

int
user_become(const struct user *user, struct err *err)
{
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (user->name == NULL)
		return 0;
	prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
	if (initgroups(user->name, user->gid) < 0 || setresgid(user->gid, user->gid, user->gid) < 0 ||
		setresuid(user->uid, user->uid, user->uid) < 0)
		return err_sys(err, "cannot become user %s", user->name);
	if (set_capabilities(1u << CAP_NET_BIND_SERVICE) < 0 && set_capabilities(0) < 0)
		return err_sys(err, "cannot give up root's rights");
	if (setuid(0) == 0)
		return err_set(err, "root rights could not be given up");
	return 0;
}

void
user_drop_capabilities(void)
{
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	set_capabilities(0);
}
