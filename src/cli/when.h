/* when: points in time as tables show them. */
#pragma once

#include <stdint.h>

#include "base/clock.h"

/* "2 hours ago"; "" for 0. */
void when_ago(int64_t ns, char out[static CLOCK_TEXT_MAX]);
/* "2024-05-06 07:08:09 +0200 CEST", in the local zone; "" for 0. */
void when_local(int64_t ns, char out[static CLOCK_TEXT_MAX]);
