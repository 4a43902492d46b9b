/* Fuzzes the parser of image names: what it accepts must format to a text that parses to the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "image/platform.h"
#include "image/reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	own_mem char *text = str_copy_n((const char *)data, len);
	char first[REFERENCE_TEXT_MAX], second[REFERENCE_TEXT_MAX], familiar[REFERENCE_TEXT_MAX];
	struct reference a, b;
	struct platform platform;
	struct error err = {0};

	if (platform_parse(text, &platform, &err) == 0 && platform.os[0] == '\0')
		abort();
	if (reference_parse(text, &a, &err) < 0)
		return 0;
	reference_format(&a, first);
	if (reference_parse(first, &b, &err) < 0)
		abort();
	reference_format(&b, second);
	if (strcmp(first, second) != 0)
		abort();
	reference_format_familiar(&a, familiar);
	if (reference_parse(familiar, &b, &err) < 0)
		abort();
	reference_format(&b, second);
	if (strcmp(first, second) != 0)
		abort();
	return 0;
}
