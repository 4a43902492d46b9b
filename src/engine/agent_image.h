/* agent_image: the agent of virtual machines (src/guest), which is part of this program. */
#pragma once

#include <stddef.h>

#include "base/error.h"

/* Writes it as a cpio archive whose /init it is: what the kernel takes as an initial RAM disk. */
int agent_image_write(int dirfd, const char *path, struct error *err) must_check;
/* The program itself: constant, and never code of ours. */
const void *agent_image_program(size_t *ret_size);
/* A text that no other build of this program has; the caller frees it. */
char *agent_image_identity(void);
