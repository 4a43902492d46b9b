/* agent_image: the agent of virtual machines (src/guest), which is part of this program. */
#pragma once

#include "base/error.h"

/* Writes it as a cpio archive whose /init it is: what the kernel takes as an initial RAM disk. */
int agent_image_write(int dirfd, const char *path, struct error *err) must_check;
/* A text that no other build of this program has; the caller frees it. */
char *agent_image_identity(void);
