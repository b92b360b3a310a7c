/*
 * helper/list.h - the jobs of postern-helper, one row each, in alphabetical order. Read by
 * helper/list.c.
 *
 * HELPER(name, profile, may exec, writable paths): the function is helper_NAME().
 */
HELPER(slow, HELPER_PLAIN, false, NULL)
