/*
 * memory: the guest's memory, one memfd that is mapped once.
 *
 * Guest physical addresses      offset in the memfd
 *   0 .. low_size                 the same
 *   low_size .. 4 GiB             none: devices (PCI windows, ECAM, interrupt controllers)
 *   4 GiB .. 4 GiB + high_size    low_size + (address - 4 GiB)
 *
 * low_size is at most MEMORY_LOW_MAX. Everything that a guest tells us goes through memory_at, which
 * answers NULL for any range that is not wholly within one of the two parts. The memory belongs to the
 * guest: it may change between two looks at it, so structures are copied out once and then validated.
 *
 * Any thread may call; the layout does not change after memory_create.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/own.h"
#include "vmm/cpu/cpu.h" /* gpa_t */

#define MEMORY_PAGE_SIZE 4096ull
#define MEMORY_LOW_MAX 0xc0000000ull /* 3 GiB: above are the devices */
#define MEMORY_HIGH_START 0x100000000ull
#define MEMORY_SIZE_MIN (1ull << 20)
#define MEMORY_SIZE_MAX (1ull << 38) /* fits the 39 bits of the smallest hosts' addresses */

struct memory {
	int fd;        /* the memfd, or a snapshot's file */
	uint8_t *host; /* all of it, contiguous */
	uint64_t size_bytes;
	uint64_t low_size;
	uint64_t high_size;
	bool is_private; /* what is written does not reach the file */
};

/* Makes `size_bytes` (a multiple of the page size) of zeroed memory. -EINVAL, -ENOMEM, -errno. */
int memory_create(uint64_t size_bytes, struct memory **ret, struct error *err) must_check;
/* Maps `size_bytes` of the file `fd` (which it takes) privately: nothing is read before it is used and
 * nothing is ever written back. The file must be as long, or the guest would end by a signal: -EINVAL. */
int memory_create_from(int fd, uint64_t size_bytes, struct memory **ret,
		       struct error *err) must_check;
/* For machines whose devices begin below MEMORY_LOW_MAX: at most `max` bytes of the memory lie below
 * 4 GiB. Right after its making only. */
void memory_limit_low(struct memory *memory, uint64_t max);
void memory_destroy(struct memory *memory);
OWN_DEFINE(own_memory, struct memory *, memory_destroy);
#define own_memory __attribute__((cleanup(own_memory_release)))

/* The host's address of [gpa, gpa + size), or NULL unless all of it is memory of one part.
 * A size of 0 is a range too: the address itself must be memory. */
static inline void *memory_at(const struct memory *memory, gpa_t gpa, uint64_t size)
{
	if (gpa < memory->low_size)
		return size <= memory->low_size - gpa ? memory->host + gpa : NULL;
	if (gpa < MEMORY_HIGH_START)
		return NULL;
	gpa -= MEMORY_HIGH_START;
	if (gpa >= memory->high_size || size > memory->high_size - gpa)
		return NULL;
	return memory->host + memory->low_size + gpa;
}

/* Copies out of or into guest memory. 0, or -EFAULT for a range that is not memory. */
int memory_read(const struct memory *memory, gpa_t gpa, void *data, size_t size) must_check;
int memory_write(const struct memory *memory, gpa_t gpa, const void *data, size_t size) must_check;

/* The parts, for those that map them or write them to disk. */
struct memory_part {
	gpa_t gpa;
	uint64_t size;
	uint64_t offset; /* in the memfd */
	uint8_t *host;
};
enum { MEMORY_PARTS_MAX = 2 };
unsigned int memory_parts(const struct memory *memory, struct memory_part ret[MEMORY_PARTS_MAX]);
