/*
 * proxy/check_private.h - what the looks of `postern -t` share. Each runs in a child of its own.
 */
#ifndef PROXY_CHECK_PRIVATE_H
#define PROXY_CHECK_PRIVATE_H

#include <sys/types.h>

#include "proxy/options.h"

/* A look that takes longer is given up; less than three seconds for all. */
#define CHECK_PATIENCE_MS 2600
/* What those that wait for others allow themselves. */
#define CHECK_ANSWER_MS 2000

struct check {
	struct settings *settings;
	int fd;		   /* to the parent */
	bool was_root;	   /* who started it; a child may have become the user */
	const char *whose; /* "user postern", "user id 1000": whose eyes these are */
};

/* Where an option was written; a block that nobody wrote has only the file. */
const struct config_place *check_place(
	const struct check *c, const struct config_block *block, const char *option);
void check_error(const struct check *c, const struct config_place *place, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void check_warn(const struct check *c, const struct config_place *place, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* What is looked at now, in case it never ends. */
void check_begin(const struct check *c, const struct config_place *place, const char *what);

/* The folder that a path lies in. */
void check_parent(const char *path, char *dst, size_t size);
/* Can something be made there, or is it at least there? Else complains of it as `what`, and returns false. */
bool check_folder(const struct check *c, const struct config_place *place, const char *what, const char *folder,
	bool must_write);

/* As the user; where there is none, certificates alone are looked at. */
void check_files(struct check *c);
void check_programs(struct check *c);
void check_certificates(struct check *c);
void check_hosts(struct check *c);
void check_services(struct check *c);
/* As whoever starts Postern. */
void check_ports(struct check *c);

/*
 * Who listens at an address of ours? Returns 0 when that cannot be found out, else his process, and his name in
 * name_r.
 */
pid_t check_holder(const struct ip_endpoint *ep, char *name_r, size_t size);
/* Is it the postern of this very configuration? pid 0: it is not known, and then any such postern will do. */
bool check_is_ours(const struct settings *settings, pid_t pid);
/* Who holds the lock of the pid file; 0: nobody, or there is none. */
pid_t check_pid_file_holder(const struct settings *settings);
/* The process that has a flock() on a folder; 0: none. Taking the lock to find out would be in a start's way. */
pid_t check_lock_holder(const char *folder);

#endif
