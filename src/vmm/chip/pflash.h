/*
 * pflash: the chip in which UEFI firmware keeps its variables: a parallel flash with the command set that
 * firmware for virtual machines speaks (Intel's, JEDEC JEP137 algorithm 1), in blocks of 4 KiB.
 *
 * Its bytes are kept here and, as they change, written to a file. A file that is gone or full costs what
 * is written from then on, with a warning.
 */
#pragma once

#include "vmm/board.h"

enum { PFLASH_BLOCK = 4096, PFLASH_SIZE_MAX = 16 << 20 };

struct pflash;
/* A chip of `size` bytes, a multiple of PFLASH_BLOCK, at `gpa`. `fd` is a file of that size, which it takes
 * unless it fails; with `keep` false it is only read, and what the guest writes is lost in the end. */
int pflash_create(struct board *board, gpa_t gpa, uint64_t size, int fd, bool keep,
		  struct pflash **ret) must_check;
struct device *pflash_device(struct pflash *pflash);
