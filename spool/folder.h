/*
 * spool/folder.h - is a folder fit for mail? For the spool and the quarantine.
 */
#ifndef SPOOL_FOLDER_H
#define SPOOL_FOLDER_H

#include "base/err.h"

/* Makes the folder (0700) when its parent allows, and refuses one that others can read or write,
 * that is a symbolic link (or reached by another user's), or that is not ours; the text says what
 * would be right. what: "spool", for the text. */
int folder_check(const char *directory, const char *what, struct err *err);

#endif
