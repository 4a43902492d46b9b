/* mem: see mem.h. */
#include "base/mem.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *or_abort(void *p)
{
	if (p == NULL) {
		fputs("berth: out of memory\n", stderr);
		abort();
	}
	return p;
}

void *mem_new(size_t size)
{
	return or_abort(calloc(1, size ? size : 1));
}

void *mem_new_array(size_t count, size_t size)
{
	return or_abort(calloc(count ? count : 1, size ? size : 1));
}

void *mem_try(size_t size)
{
	return calloc(1, size ? size : 1);
}

void *mem_resize(void *p, size_t count, size_t size)
{
	return or_abort(reallocarray(p, count ? count : 1, size ? size : 1));
}

void *mem_grow(void *p, size_t count, size_t *capacity, size_t size)
{
	if (count < *capacity)
		return or_abort(p);
	*capacity = *capacity ? *capacity * 2 : 8;
	return mem_resize(p, *capacity, size);
}

void *mem_copy(const void *p, size_t size)
{
	void *copy = or_abort(malloc(size ? size : 1));

	if (size)
		memcpy(copy, p, size);
	return copy;
}
