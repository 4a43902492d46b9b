/* options: see options.c. */
#pragma once

/* "NAME" or "NAME=VALUE", without "CONFIG_"; ends with NULL. */
extern const char *const kernel_options[];
