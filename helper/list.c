/* helper/list.c - turns the list of jobs into a table. */
#include <string.h>

#include "helper/helper.h"

#define HELPER(name, profile, may_exec, writable)                                                  \
	int helper_##name(struct helper *h, const struct work_frame *job, struct work_done *done,  \
		struct err *err);
#include "helper/list.h"
#undef HELPER

const struct helper_row helper_rows[] = {
#define HELPER(name, profile, may_exec, writable)                                                  \
	{#name, profile, may_exec, writable, helper_##name},
#include "helper/list.h"
#undef HELPER
	{.name = NULL},
};

const struct helper_row *
helper_row_find(const char *name)
{
	for (const struct helper_row *row = helper_rows; row->name != NULL; row++)
		if (strcmp(row->name, name) == 0)
			return row;
	return NULL;
}
