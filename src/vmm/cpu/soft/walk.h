/*
 * walk: the guest's page tables (Intel SDM volume 3, chapter 4): none, 32-bit, PAE, four levels.
 */
#pragma once

#include "vmm/cpu/soft/soft_priv.h"

#define PF_PRESENT 1u
#define PF_WRITE 2u
#define PF_USER 4u
#define PF_RESERVED 8u
#define PF_FETCH 16u

struct translation {
	gpa_t gpa;     /* of the address itself */
	bool readable; /* for a data access in the mode asked for */
	bool writable; /* ... and the page is already marked dirty */
	bool large;
	bool global; /* the same in all address spaces */
	uint64_t page_size;
};

/* Translates `address` for an access as TLB `index` would make it, setting accessed and dirty bits.
 * false: *ret_error is the error code of the page fault. */
bool soft_walk(struct soft *c, uint64_t address, enum soft_access access, enum soft_tlb index,
	       struct translation *ret, uint32_t *ret_error);
