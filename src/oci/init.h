/* init: what the first process of a container does between its creation and its program. */
#pragma once

#include "oci/launch.h"

/* The function for launch_spawn. Errors go to the runtime, or, after the start, to who started it. */
void init_main(struct launch *l) __attribute__((noreturn));
