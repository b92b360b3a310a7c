/*
 * proxy/helper_path.c - finding the helper program.
 */
#include "proxy/helper_path.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void
helper_path_find(char *dst, size_t size)
{
	char self[PATH_MAX - 64];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n > 0) {
		self[n] = '\0';
		slash = strrchr(self, '/');
		if (slash != NULL)
			*slash = '\0';
		snprintf(dst, size, "%s/postern-helper", self);
		if (access(dst, X_OK) == 0)
			return;
	}
	snprintf(dst, size, "%s", POSTERN_HELPER);
}
