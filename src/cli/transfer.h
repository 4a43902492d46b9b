/* transfer: what all commands that talk to registries have in common. */
#pragma once

#include "cli/command.h"
#include "cli/progress.h"
#include "image/store.h"

/* --authfile, --cert-dir, --creds, --tls-verify; an element of command.options. */
extern const struct option_spec transfer_options[];
enum { TRANSFER_OPTIONS_COUNT = 4 };
#define TRANSFER_OPTIONS                                                                           \
	{                                                                                          \
		.options = transfer_options, .count = TRANSFER_OPTIONS_COUNT                       \
	}

/* Who asks about short names: NULL without a terminal. */
image_choose_fn *transfer_choose(void);
/* Those options, and those of the command's own that concern the way. `progress` may be NULL. */
struct image_remote transfer_remote(const struct args *args, struct progress *progress);
