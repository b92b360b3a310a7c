/*
 * filters/envelope.h - from whom and to whom the message is for one run: as the filters before it have left it.
 */
#ifndef FILTERS_ENVELOPE_H
#define FILTERS_ENVELOPE_H

#include "filters/filter.h"

/* The sender, and of the recipients those that the run speaks about; who was added by filters before it is one of
 * them. There may be none left. Of a run on the complete message; lives in its arena. */
void filter_envelope(const struct filter_run *run, struct mail_envelope *envelope_r);

#endif
