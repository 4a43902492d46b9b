/*
 * mmu: from linear addresses to bytes. A software TLB answers in a few instructions (here, and the same
 * lookup in generated code: native.c); everything else goes through soft_memory_slow.
 *
 * All of it throws #PF, #GP, #AC for `c->op`. A pointer that was got for writing is followed by
 * soft_commit_if_needed once the bytes are in place: the operand may be a copy (device, page border),
 * or its page may hold decoded code.
 */
#pragma once

#include <string.h>

#include "vmm/cpu/soft/soft_priv.h"

/* More than any machine's memory needs (memory.h), and no more: UEFI firmware makes page tables for all of it. */
enum { PHYSICAL_BITS = 40 };

/* The host's address of an operand of `size_access & 0xffff` bytes for (size_access >> 16, an enum
 * soft_access); valid until the next call. Called by generated code. */
void *soft_memory_slow(struct soft *c, const struct op *op, uint64_t address, uint32_t size_access);
/* Finishes a write. Called by generated code. */
void soft_commit(struct soft *c);
/* Gives split_lock back, if an instruction that does not reach its soft_commit holds it. */
void soft_unlock_split(struct soft *c);

static inline void *soft_pointer(struct soft *c, uint64_t address, unsigned int size,
				 enum soft_access access)
{
	struct tlb_entry *e = &c->tlb[(address >> SOFT_PAGE_BITS) & (SOFT_TLB_SIZE - 1)];
	uint64_t tag = atomic_load_explicit(access == ACCESS_READ ? &e->read : &e->write,
					    memory_order_relaxed);

	if (likely(tag == ((address + size - 1) & ~0xfffull)))
		return (void *)(uintptr_t)(address + e->addend);
	return soft_memory_slow(c, c->op, address, size | (uint32_t)access << 16);
}

static inline void soft_commit_if_needed(struct soft *c)
{
	if (unlikely(c->commit.kind))
		soft_commit(c);
}

static inline uint64_t soft_load(const void *p, unsigned int size)
{
	uint64_t value = 0;

	switch (size) {
	case 1:
		return *(const uint8_t *)p;
	case 2:
		memcpy(&value, p, 2);
		return value;
	case 4:
		memcpy(&value, p, 4);
		return value;
	default:
		memcpy(&value, p, 8);
		return value;
	}
}

static inline void soft_store(void *p, unsigned int size, uint64_t value)
{
	switch (size) {
	case 1:
		*(uint8_t *)p = (uint8_t)value;
		break;
	case 2:
		memcpy(p, &value, 2);
		break;
	case 4:
		memcpy(p, &value, 4);
		break;
	default:
		memcpy(p, &value, 8);
		break;
	}
}

static inline uint64_t soft_read(struct soft *c, uint64_t address, unsigned int size)
{
	return soft_load(soft_pointer(c, address, size, ACCESS_READ), size);
}

static inline void soft_write(struct soft *c, uint64_t address, unsigned int size, uint64_t value)
{
	soft_store(soft_pointer(c, address, size, ACCESS_WRITE), size, value);
	soft_commit_if_needed(c);
}

/* Accesses that the CPU makes for itself (descriptor tables, TSS): always with supervisor's rights. */
uint64_t soft_read_system(struct soft *c, uint64_t address, unsigned int size);
void soft_write_system(struct soft *c, uint64_t address, unsigned int size, uint64_t value);

/* #SS or #GP for what is no canonical address. */
void soft_check_address(struct soft *c, uint64_t address, unsigned int size);
/* Throws now what a write of the whole range would throw; the range may span many pages. */
void soft_probe(struct soft *c, uint64_t address, unsigned int size, enum soft_access access);
/* The same with supervisor's rights. */
void soft_probe_system(struct soft *c, uint64_t address, unsigned int size);

/* The address of [address, end of its page) for string instructions, NULL if it is not plain memory
 * (then access it element by element). Throws faults of the first byte. */
void *soft_page_pointer(struct soft *c, uint64_t address, enum soft_access access);

/* Whether the TLB has the page, for code, and has it there. */
bool soft_code_is_at(const struct soft *c, uint64_t address, gpa_t gpa);
/* Linear to physical for instruction fetch. Fills the TLB. */
gpa_t soft_fetch_gpa(struct soft *c, uint64_t address);
/* The bytes of physical memory, NULL where there is none (of at least one page). */
uint8_t *soft_host(struct soft_vm *vm, gpa_t gpa, struct soft_region **ret_region);

#define CR3_PCID 0xfffull

void soft_flush_tlb(struct soft *c);
/* CR3 has been loaded: what is known of its PCID is used again if it may be kept. */
void soft_select_context(struct soft *c, bool keep);
/* All translations but global ones: of this PCID, of every PCID. */
void soft_flush_pcid(struct soft *c, uint64_t pcid);
void soft_flush_local(struct soft *c);
/* Whether the page of this address, from which code has just been fetched, is marked so. */
bool soft_is_shared(const struct soft *c, uint64_t address);
/* Makes all of the jump cache's entries stale. */
void soft_forget_jumps(struct soft *c);
void soft_flush_page(struct soft *c, uint64_t address);
/* Code of this linear page comes into the jump cache, or is led to by a branch. */
void soft_note_code(struct soft *c, uint64_t address);
/* The TLB that CPL and EFLAGS.AC ask for. */
void soft_select_tlb(struct soft *c);
/* Loads the PAE page directory pointers. false: reserved bits are set (#GP). */
bool soft_load_pdptes(struct soft *c, uint64_t cr3);
/* Takes the write tags of a page away from all vCPUs' TLBs; from any thread. */
void soft_protect_host_page(struct soft_vm *vm, const uint8_t *host);
