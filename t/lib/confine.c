/*
 * t/lib/confine.c - runs a program with the system calls that a systemd unit allows, as SystemCallFilter=,
 * MemoryDenyWriteExecute=, RestrictNamespaces= and RestrictAddressFamilies= would: confine FILE PROGRAM...
 * FILE has the names of the calls, one a line. Any other call kills (the unit says EPERM: a test wants to know).
 */
#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define DENY(ctx, number, call, ...)                                                               \
	if (seccomp_rule_add(ctx, SCMP_ACT_ERRNO(number), SCMP_SYS(call), __VA_ARGS__) < 0)        \
	return -1

static const int families[] = { AF_UNIX, AF_INET, AF_INET6, AF_NETLINK };
#define FAMILIES (sizeof(families) / sizeof(*families))

/* By their arguments. */
static int
deny_arguments(scmp_filter_ctx ctx)
{
	int from = 0;

	DENY(ctx, EPERM, mmap, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC | PROT_WRITE, PROT_EXEC | PROT_WRITE));
	DENY(ctx, EPERM, mprotect, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC));
	DENY(ctx, EPERM, pkey_mprotect, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC));
	DENY(ctx, EPERM, unshare, 0);
	DENY(ctx, EPERM, setns, 0);
	DENY(ctx, ENOSYS, clone3, 0);
	DENY(ctx, EPERM, clone, 1, SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_NEWUSER, CLONE_NEWUSER));
	DENY(ctx, EPERM, clone, 1, SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_NEWNS, CLONE_NEWNS));
	DENY(ctx, EPERM, clone, 1, SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_NEWPID, CLONE_NEWPID));
	DENY(ctx, EPERM, clone, 1, SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_NEWNET, CLONE_NEWNET));
	/* Each family between the allowed ones, which are in order; and those behind. */
	for (size_t i = 0; i < FAMILIES; from = families[i++] + 1)
		for (int f = from; f < families[i]; f++)
			DENY(ctx, EAFNOSUPPORT, socket, 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)f));
	DENY(ctx, EAFNOSUPPORT, socket, 1, SCMP_A0(SCMP_CMP_GT, (scmp_datum_t)families[FAMILIES - 1]));
	return 0;
}

static int
allow_listed(scmp_filter_ctx ctx, FILE *in)
{
	char name[100];
	int count = 0;

	while (fgets(name, sizeof(name), in) != NULL) {
		int call;

		name[strcspn(name, "\n")] = '\0';
		call = seccomp_syscall_resolve_name(name);
		if (call == __NR_SCMP_ERROR || call < 0)
			continue; /* of another machine, or newer than the library */
		if (seccomp_rule_add(ctx, SCMP_ACT_ALLOW, call, 0) < 0)
			return -1;
		count++;
	}
	return count;
}

int
main(int argc, char **argv)
{
	scmp_filter_ctx arguments = seccomp_init(SCMP_ACT_ALLOW);
	scmp_filter_ctx calls = seccomp_init(SCMP_ACT_KILL_PROCESS);
	FILE *in = argc > 2 ? fopen(argv[1], "r") : NULL;

	if (in == NULL || arguments == NULL || calls == NULL || deny_arguments(arguments) < 0 ||
		allow_listed(calls, in) <= 0 || seccomp_load(arguments) < 0 || seccomp_load(calls) < 0) {
		perror("confine");
		return 125;
	}
	execvp(argv[2], argv + 2);
	perror(argv[2]);
	return 126;
}
