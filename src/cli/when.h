/* when: points in time as tables show them and as options name them. */
#pragma once

#include <stdint.h>

#include "base/clock.h"
#include "cli/args.h"

/* "2 hours ago"; "" for 0. */
void when_ago(int64_t ns, char out[static CLOCK_TEXT_MAX]);
/* "2024-05-06 07:08:09 +0200 CEST", in the local zone; "" for 0. */
void when_local(int64_t ns, char out[static CLOCK_TEXT_MAX]);
/* The value of an option: a point in time, or a duration, which is that long ago. 0 if it was not given. */
int when_read(const struct args *args, const char *option, int64_t *ret_ns,
	      struct error *err) must_check;
