/*
 * helper/sandbox.c - takes away what a helper does not need: descriptors, limits, files, system
 * calls.
 *
 * Landlock and seccomp are asked of the kernel; only where it does not know them at all does the
 * helper go on without. The list of calls is one of denials with EPERM: an allow-list breaks with
 * each new C library.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/list.h"
#include "helper/helper.h"

/* Sanitizers reserve terabytes of address space. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SANITIZER 1
#endif
#endif

#define MIB (1024ULL * 1024)

static const struct profile {
	rlim_t memory, cpu_seconds, files, file_size;
} profiles[] = {
	/* All its jobs together: 200 of them before it is replaced. */
	[HELPER_PLAIN] = {512 * MIB, 3600, 64, 0},
};

static int
limit(int resource, rlim_t value, struct err *err)
{
	if (setrlimit(resource, &(struct rlimit){value, value}) < 0)
		return err_sys(err, "limit %d", resource);
	return 0;
}

static int
set_limits(const struct profile *p, struct err *err)
{
	if (limit(RLIMIT_CORE, 0, err) < 0 || limit(RLIMIT_CPU, p->cpu_seconds, err) < 0 ||
		limit(RLIMIT_NOFILE, p->files, err) < 0 ||
		limit(RLIMIT_FSIZE, p->file_size, err) < 0)
		return -1;
#ifndef HAS_SANITIZER
	if (limit(RLIMIT_AS, p->memory, err) < 0)
		return -1;
#endif
	return 0;
}

#define FS_WRITE                                                                                   \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |                           \
		LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |                    \
		LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |                        \
		LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |                      \
		LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)

#define FS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
/* What has a meaning for a path that is no folder. */
#define FS_FILE                                                                                    \
	(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_EXECUTE)

/* What libraries read by themselves; not the configuration, keys or other people's mail. */
static const char *const readable[] = {"/usr", "/lib", "/lib64", "/etc/localtime",
	"/etc/ld.so.cache", "/etc/ssl/openssl.cnf", "/dev/null", "/dev/zero", "/dev/urandom", NULL};

static int
allow_path(int ruleset, const char *path, uint64_t access, struct err *err)
{
	struct landlock_path_beneath_attr beneath = {.allowed_access = access};
	struct stat st;
	long rc;

	beneath.parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (beneath.parent_fd < 0 || fstat(beneath.parent_fd, &st) < 0)
		return err_sys(err, "%s", path);
	if (!S_ISDIR(st.st_mode))
		beneath.allowed_access &= FS_FILE;
	rc = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
	close(beneath.parent_fd);
	return rc < 0 ? err_sys(err, "landlock: %s", path) : 0;
}

static int
allow_paths(int ruleset, const struct helper_row *row, struct err *err)
{
	for (size_t i = 0; readable[i] != NULL; i++)
		if (allow_path(ruleset, readable[i], FS_READ, err) < 0 && errno != ENOENT)
			return -1;
	for (size_t i = 0; row->writable != NULL && row->writable[i] != NULL; i++)
		if (allow_path(ruleset, row->writable[i], FS_READ | FS_WRITE, err) < 0)
			return -1;
	return 0;
}

/* The first version of Landlock is enough for this; it also keeps us from tracing other processes.
 */
static int
confine_files(const struct helper_row *row, struct str *notes, struct err *err)
{
	struct landlock_ruleset_attr attr = {.handled_access_fs = FS_READ | FS_WRITE};
	int ruleset, rc;

	if (!row->may_exec)
		attr.handled_access_fs |= LANDLOCK_ACCESS_FS_EXECUTE;
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (ruleset < 0 && (errno == ENOSYS || errno == EOPNOTSUPP)) {
		str_add(notes, "runs without Landlock, which this kernel lacks; ");
		return 0;
	}
	if (ruleset < 0)
		return err_sys(err, "landlock");
	rc = allow_paths(ruleset, row, err);
	if (rc == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		rc = err_sys(err, "landlock");
	close(ruleset);
	return rc;
}

static const int denied[] = {
	/* no network, no new sockets */
	SCMP_SYS(socket),
	SCMP_SYS(socketpair),
	SCMP_SYS(connect),
	SCMP_SYS(bind),
	SCMP_SYS(listen),
	SCMP_SYS(accept),
	SCMP_SYS(accept4),
	SCMP_SYS(io_uring_setup),
	SCMP_SYS(io_uring_enter),
	SCMP_SYS(io_uring_register),
	/* no hand on other processes, which run as the same user */
	SCMP_SYS(kill),
	SCMP_SYS(tkill),
	SCMP_SYS(rt_sigqueueinfo),
	SCMP_SYS(rt_tgsigqueueinfo),
	SCMP_SYS(pidfd_open),
	SCMP_SYS(pidfd_getfd),
	SCMP_SYS(pidfd_send_signal),
	SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(process_madvise),
	SCMP_SYS(kcmp),
	/* no change of files by their names: what Landlock does not cover */
	SCMP_SYS(truncate),
	SCMP_SYS(chmod),
	SCMP_SYS(fchmodat),
	SCMP_SYS(chown),
	SCMP_SYS(lchown),
	SCMP_SYS(fchownat),
	SCMP_SYS(utimensat),
	SCMP_SYS(setxattr),
	SCMP_SYS(lsetxattr),
	SCMP_SYS(removexattr),
	SCMP_SYS(lremovexattr),
	/* no doors in the kernel */
	SCMP_SYS(bpf),
	SCMP_SYS(perf_event_open),
	SCMP_SYS(userfaultfd),
	SCMP_SYS(keyctl),
	SCMP_SYS(add_key),
	SCMP_SYS(request_key),
	SCMP_SYS(unshare),
	SCMP_SYS(setns),
	SCMP_SYS(mount),
	SCMP_SYS(umount2),
	SCMP_SYS(pivot_root),
	SCMP_SYS(chroot),
	SCMP_SYS(move_mount),
	SCMP_SYS(fsopen),
	SCMP_SYS(open_tree),
	SCMP_SYS(init_module),
	SCMP_SYS(finit_module),
	SCMP_SYS(kexec_load),
	SCMP_SYS(reboot),
	SCMP_SYS(swapon),
	SCMP_SYS(open_by_handle_at),
	SCMP_SYS(personality),
};

static const int denied_exec[] = {
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(fork),
	SCMP_SYS(vfork),
};

static int
deny_list(scmp_filter_ctx ctx, const int *calls, size_t count)
{
	int rc = 0;

	for (size_t i = 0; i < count && rc == 0; i++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), calls[i], 0);
	return rc;
}

/* Threads stay possible, processes do not. clone3 hides its flags in memory; the C library then
 * takes clone. */
static int
deny_processes(scmp_filter_ctx ctx)
{
	int rc = deny_list(ctx, denied_exec, ARRAY_COUNT(denied_exec));

	if (rc == 0)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	if (rc == 0)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
			SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
	return rc;
}

static int
build_filter(scmp_filter_ctx ctx, const struct helper_row *row)
{
	int rc = deny_list(ctx, denied, ARRAY_COUNT(denied));

	/* abort() and threads signal themselves. */
	if (rc == 0)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(tgkill), 1,
			SCMP_A0(SCMP_CMP_NE, (scmp_datum_t)getpid(), 0));
	/* getrlimit() is a call about oneself. */
	if (rc == 0)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(prlimit64), 1,
			SCMP_A0(SCMP_CMP_NE, 0, 0));
	if (rc == 0 && !row->may_exec)
		rc = deny_processes(ctx);
	return rc;
}

static bool
kernel_has_seccomp(void)
{
	return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
}

static int
confine_calls(const struct helper_row *row, struct str *notes, struct err *err)
{
	scmp_filter_ctx ctx;
	int rc;

	if (!kernel_has_seccomp()) {
		str_add(notes, "runs without seccomp, which this kernel lacks; ");
		return 0;
	}
	ctx = seccomp_init(SCMP_ACT_ALLOW);
	if (ctx == NULL)
		return err_set(err, "seccomp: no memory");
	rc = build_filter(ctx, row);
	if (rc == 0)
		rc = seccomp_load(ctx);
	seccomp_release(ctx);
	errno = -rc;
	return rc < 0 ? err_sys(err, "seccomp") : 0;
}

int
helper_confine(const struct helper_row *row, struct str *notes, struct err *err)
{
	if (close_range(HELPER_FD + 1, ~0U, 0) < 0 && errno != ENOSYS)
		return err_sys(err, "close_range");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
		return err_sys(err, "prctl");
	/* The engine's end that closes shows itself as a failed write. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	if (set_limits(&profiles[row->profile], err) < 0 || confine_files(row, notes, err) < 0)
		return -1;
	return confine_calls(row, notes, err);
}
