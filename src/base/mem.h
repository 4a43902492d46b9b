/*
 * mem: allocation.
 *
 * Small allocations whose size we choose abort when memory is out: there is nothing sensible to do.
 * A size that comes from outside (a file, the network, a guest) is first compared with a named limit
 * and then allocated with mem_try(), which returns NULL.
 */
#pragma once

#include <stddef.h>

#include "base/own.h"

/* Zeroed memory of `size` bytes / `count` elements of `size` bytes. Never NULL. */
void *mem_new(size_t size) __attribute__((malloc, returns_nonnull));
void *mem_new_array(size_t count, size_t size) __attribute__((malloc, returns_nonnull));

/* Zeroed memory or NULL. */
void *mem_try(size_t size) __attribute__((malloc));

/* Resizes `p` to `count` elements of `size` bytes; new bytes are not cleared. Never NULL. */
void *mem_resize(void *p, size_t count, size_t size) __attribute__((returns_nonnull));

/* Makes room for one more element in an array with `count` used and `*capacity` allocated elements;
 * grows by doubling. Use: `items = mem_grow(items, count, &capacity, sizeof(*items));` */
void *mem_grow(void *p, size_t count, size_t *capacity, size_t size)
	__attribute__((returns_nonnull));

/* A copy of `size` bytes. Never NULL. */
void *mem_copy(const void *p, size_t size) __attribute__((malloc, returns_nonnull));

#define container_of(pointer, type, member)                                                        \
	((type *)(void *)((char *)(pointer)-offsetof(type, member)))
#define array_size(a) (sizeof(a) / sizeof((a)[0]))
