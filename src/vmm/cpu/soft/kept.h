/*
 * kept: decoded code in a file, so that machines that go on from one snapshot need not decode the same
 * kernel each time.
 *
 *     head      what it is for: this very program, this layout
 *     code      generated code, as it is executed: position-independent
 *     index     offsets into the blocks, by hash of address and mode
 *     blocks    `struct kept_block`, in the order in which they were first executed
 *
 * The file is a matter of trust as a program is: what is in it is executed. It is used only where it
 * was made by us from a machine that had run nothing foreign (engine/vm_template.c). A block is taken
 * over if the guest's memory has the very bytes it was decoded from, so it may be out of date.
 *
 * Functions are kept as distances from the beginning of the program, which is another one in each
 * process.
 */
#pragma once

#include "vmm/cpu/soft/soft_priv.h"

struct cache;

/* Maps the file. -ESTALE: another program's, or damaged; -errno. The descriptor stays the caller's. */
int kept_open(int fd, struct kept **ret, struct error *err) must_check;
void kept_close(struct kept *kept);
/* Whether a host address lies in kept generated code. NULL: no. */
bool kept_contains(const struct kept *kept, uint64_t address);

/* A copy of the kept block for this place, whose guest memory is at `host`, in the cache's arena. NULL:
 * there is none, or no memory for it. */
struct block *kept_take(struct soft *c, uint32_t mode, gpa_t gpa, const uint8_t *host);

/* Writes what all vCPUs have decoded to an empty file. No vCPU may be in run(). */
int kept_save(struct soft_vm *vm, int fd, struct error *err) must_check;
