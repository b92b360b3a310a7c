/*
 * proxy/check_holder.c - who has an address that we want, as /proc knows it.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "proxy/check_private.h"

/* The address as it stands in /proc/net/tcp: words of the machine's order. */
static void
hex_address(const struct ip_endpoint *ep, char *dst, size_t size)
{
	const struct sockaddr_in *sin = (const struct sockaddr_in *)&ep->addr;
	const struct sockaddr_in6 *sin6 = (const struct sockaddr_in6 *)&ep->addr;
	const uint32_t *words = (const uint32_t *)(const void *)&sin6->sin6_addr;

	if (sin->sin_family == AF_INET)
		snprintf(dst, size, "%08X", sin->sin_addr.s_addr);
	else
		snprintf(dst, size, "%08X%08X%08X%08X", words[0], words[1], words[2], words[3]);
}

static bool
is_any(const char *hex)
{
	return strspn(hex, "0") == strlen(hex);
}

/* The inode of a listening socket in our way; 0: there is none in this table. */
static unsigned long
find_inode(const char *table, const struct ip_endpoint *ep)
{
	char line[300], ours[40], address[40];
	unsigned port, state;
	unsigned long inode, found = 0;
	FILE *in = fopen(table, "re");

	hex_address(ep, ours, sizeof(ours));
	while (in != NULL && found == 0 && fgets(line, sizeof(line), in) != NULL)
		if (sscanf(line, " %*d: %39[0-9A-F]:%x %*[0-9A-F]:%*x %x %*s %*s %*s %*u %*d %lu", address, &port, &state,
			    &inode) == 4 &&
			state == 0x0a && port == ep->port && (is_any(address) || is_any(ours) || strcmp(address, ours) == 0))
			found = inode;
	if (in != NULL)
		fclose(in);
	return found;
}

static bool
has_inode(const char *pid, unsigned long inode)
{
	char path[300], target[64], wanted[64];
	const struct dirent *entry;
	bool found = false;
	ssize_t n;
	DIR *dir;

	snprintf(wanted, sizeof(wanted), "socket:[%lu]", inode);
	snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	dir = opendir(path);
	while (dir != NULL && !found && (entry = readdir(dir)) != NULL) {
		n = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = '\0';
		found = strcmp(target, wanted) == 0;
	}
	if (dir != NULL)
		closedir(dir);
	return found;
}

/* Of several it is the first, which forked the others. */
static pid_t
process_of(unsigned long inode)
{
	DIR *dir = inode != 0 ? opendir("/proc") : NULL;
	const struct dirent *entry;
	pid_t pid = 0;

	while (dir != NULL && pid == 0 && (entry = readdir(dir)) != NULL)
		if (isdigit((unsigned char)entry->d_name[0]) && has_inode(entry->d_name, inode))
			pid = (pid_t)atol(entry->d_name);
	if (dir != NULL)
		closedir(dir);
	return pid;
}

/* The kernel notes who called listen(). */
static pid_t
unix_holder(const struct ip_endpoint *ep)
{
	struct ucred who = { 0 };
	socklen_t len = sizeof(who);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd >= 0 && connect(fd, (const struct sockaddr *)&ep->addr, ep->addr_len) == 0)
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len);
	if (fd >= 0)
		close(fd);
	return who.pid;
}

static void
read_name(pid_t pid, char *name_r, size_t size)
{
	char path[64];
	FILE *in;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	in = fopen(path, "re");
	if (in == NULL || fgets(name_r, (int)size, in) == NULL)
		snprintf(name_r, size, "?");
	name_r[strcspn(name_r, "\n")] = '\0';
	if (in != NULL)
		fclose(in);
}

pid_t
check_holder(const struct ip_endpoint *ep, char *name_r, size_t size)
{
	pid_t pid;

	if (ep->kind == IP_UNIX) {
		pid = unix_holder(ep);
	} else {
		pid = process_of(find_inode("/proc/net/tcp", ep));
		if (pid == 0)
			pid = process_of(find_inode("/proc/net/tcp6", ep));
	}
	if (pid > 0)
		read_name(pid, name_r, size);
	return pid;
}

/* ---- is it ours? ---- */

pid_t
check_pid_file_holder(const struct settings *st)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = st->top.pid_file != NULL ? open(st->top.pid_file, O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1;
	pid_t pid = 0;

	if (fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK)
		pid = lock.l_pid;
	if (fd >= 0)
		close(fd);
	return pid;
}

/* The file that a command line names, or the standard one; NULL: it only looks, as we do. */
static const char *
conf_argument(const char *args, size_t len)
{
	const char *file = POSTERN_CONF;

	for (const char *s = args; s < args + len; s += strlen(s) + 1)
		if (strncmp(s, "-t", 2) == 0 || strncmp(s, "-T", 2) == 0)
			return NULL;
		else if (strncmp(s, "-c", 2) == 0)
			file = s[2] != '\0' ? s + 2 : s + 3; /* behind the last one stands a NUL */
	return file;
}

/* A daemon has left the folder that a relative name began at: then the name itself decides. */
static bool
reads_same_file(const struct settings *st, pid_t pid)
{
	char path[64], args[8192] = "", resolved[PATH_MAX];
	const char *ours = st->config->top->place.file, *theirs;
	struct stat a, b;
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	len = fd >= 0 ? read(fd, args, sizeof(args) - 1) : -1;
	if (fd >= 0)
		close(fd);
	theirs = len > 0 ? conf_argument(args, (size_t)len) : NULL;
	if (theirs == NULL)
		return false;
	if (*theirs == '/')
		snprintf(resolved, sizeof(resolved), "%.*s", PATH_MAX - 100, theirs);
	else
		snprintf(resolved, sizeof(resolved), "/proc/%d/cwd/%.*s", (int)pid, PATH_MAX - 100, theirs);
	if (stat(resolved, &a) == 0 && stat(ours, &b) == 0)
		return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
	return strcmp(theirs, ours) == 0;
}

/* Of another user's process only the name can be seen, and not its program. */
static bool
is_postern(pid_t pid)
{
	char path[64], exe[PATH_MAX];
	const char *slash;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	n = readlink(path, exe + 1, sizeof(exe) - 2);
	exe[0] = '/';
	if (n > 0)
		exe[n + 1] = '\0';
	else
		read_name(pid, exe + 1, sizeof(exe) - 1);
	slash = strrchr(exe, '/');
	/* " (deleted)" stands behind it after an upgrade, and the engine calls itself postern-engine. */
	return strncmp(slash, "/postern", 8) == 0 && (slash[8] == '\0' || slash[8] == ' ' || strcmp(slash + 8, "-engine") == 0);
}

static bool
is_any_running(const struct settings *st)
{
	DIR *dir = opendir("/proc");
	const struct dirent *entry;
	bool found = false;
	pid_t pid;

	while (dir != NULL && !found && (entry = readdir(dir)) != NULL) {
		pid = (pid_t)atol(entry->d_name);
		found = pid > 0 && is_postern(pid) && reads_same_file(st, pid);
	}
	if (dir != NULL)
		closedir(dir);
	return found;
}

bool
check_is_ours(const struct settings *settings, pid_t pid)
{
	pid_t locker = check_pid_file_holder(settings);

	if (pid == 0)
		return locker > 0 || is_any_running(settings);
	return pid == locker || (is_postern(pid) && reads_same_file(settings, pid));
}

pid_t
check_lock_holder(const char *folder)
{
	FILE *in = fopen("/proc/locks", "re");
	char line[200];
	struct stat st;
	unsigned long inode;
	unsigned major_number, minor_number;
	int pid, found = 0;

	if (stat(folder, &st) < 0)
		st.st_ino = 0;
	while (in != NULL && found == 0 && fgets(line, sizeof(line), in) != NULL)
		if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%lu", &pid, &major_number, &minor_number, &inode) == 4 &&
			inode == st.st_ino && major(st.st_dev) == major_number && minor(st.st_dev) == minor_number)
			found = pid;
	if (in != NULL)
		fclose(in);
	return found;
}
