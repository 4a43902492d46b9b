/*
 * caps: Linux capabilities by name and as sets; bit N of a set is capability N.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct config_caps;

/* The number of "CAP_SYS_ADMIN" (any case, the prefix may be missing), or -EINVAL. */
int caps_parse(const char *name) must_check;
/* The name with its prefix, or NULL behind the last one. */
const char *caps_name(unsigned int number);
/* The highest capability that the kernel knows. */
unsigned int caps_last(void);

/* Drops what is not in `bounding` from the bounding set, and keeps permitted capabilities over the
 * change of user that follows. 0 or -errno. */
int caps_before_user(const struct config_caps *caps, struct error *err) must_check;
/* Sets effective, permitted, inheritable and ambient as asked for, as far as the process has them. */
int caps_after_user(const struct config_caps *caps, struct error *err) must_check;
