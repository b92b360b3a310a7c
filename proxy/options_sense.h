/*
 * proxy/options_sense.h - what is possible and makes no sense: warnings about options that have no effect,
 * and blocks that nothing uses.
 */
#ifndef PROXY_OPTIONS_SENSE_H
#define PROXY_OPTIONS_SENSE_H

#include "proxy/options.h"

/* The last part of the resolve pass. */
void options_check_sense(struct settings *settings);

#endif
