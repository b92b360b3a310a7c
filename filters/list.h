/* filters/list.h - the register: one line per kind, in alphabetical order. Read by filters/list.c. */
FILTER(dummy)
