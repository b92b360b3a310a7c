/*
 * proxy/helper_path.h - where the program postern-helper is.
 */
#ifndef PROXY_HELPER_PATH_H
#define PROXY_HELPER_PATH_H

#include <stddef.h>

/* Beside us in a build tree, else where it was installed, whether it is there or not. */
void helper_path_find(char *dst, size_t size);

#endif
