/* platform: "os/architecture[/variant]" and which one suits this host. */
#pragma once

#include <stdbool.h>

#include "base/error.h"

enum { PLATFORM_PART_MAX = 32 };

struct platform {
	char os[PLATFORM_PART_MAX], architecture[PLATFORM_PART_MAX], variant[PLATFORM_PART_MAX];
};

/* Parses "linux/arm64/v8", "linux/amd64" or "amd64"; NULL is the host's. Other names of
 * architectures (x86_64, aarch64) are translated. */
int platform_parse(const char *s, struct platform *ret, struct error *err) must_check;
/* How well an image for (os, architecture, variant) serves who wants `wanted`: 0 not at all, else
 * the more the better. NULL parts are unknown. */
int platform_match(const struct platform *wanted, const char *os, const char *architecture,
		   const char *variant);
void platform_format(const struct platform *p, char out[static 3 * PLATFORM_PART_MAX]);
