/* filters/list.c - turns the register into the table of sections. */
#include "filters/filter.h"
#include "filters/rules.h"
#include "filters/set.h"

#define FILTER(name) extern const struct filter_kind filter_##name;
#include "filters/list.h"
#undef FILTER

const struct config_section *const filter_sections[] = {
	&rule_section,
#define FILTER(name) &filter_##name.section,
#include "filters/list.h"
#undef FILTER
	NULL,
};
