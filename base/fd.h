/*
 * base/fd.h - what everybody does with a descriptor.
 */
#ifndef BASE_FD_H
#define BASE_FD_H

#include <stddef.h>

/* All of it, from the present position; a signal does not end it. 0, or -1 with errno. It waits where fd does: for
 * files, on job threads and in tools. */
int fd_write_all(int fd, const char *data, size_t len);

#endif
