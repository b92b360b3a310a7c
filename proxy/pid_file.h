/*
 * proxy/pid_file.h - the pid file and the lock on the spool: what tells a second copy that one runs.
 */
#ifndef PROXY_PID_FILE_H
#define PROXY_PID_FILE_H

#include "base/err.h"

/* Writes our process id and keeps the file locked. Returns its descriptor; -1 also where another one has it. */
int pid_file_write(const char *path, struct err *err);
/* Empty where it cannot be removed, in a folder of root say. */
void pid_file_remove(const char *path, int fd);

/* A spool belongs to one postern. Returns a descriptor that holds the lock, or -1. */
int spool_lock(const char *directory, struct err *err);

#endif
