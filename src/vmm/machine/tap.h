/* tap: opening of tap interfaces. */
#pragma once

#include "base/error.h"

/* Opens `queues` descriptors (non-blocking, with virtio headers) of the tap `name`, which must exist: one that was
 * made here would be down, and connected with nothing. 0 or -errno; on failure none stays open. */
int tap_open(const char *name, unsigned int queues, int *ret_fds, struct error *err) must_check;
