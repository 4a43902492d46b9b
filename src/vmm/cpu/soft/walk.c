/* walk: see the header. One loop serves all formats: they differ in entry size, bits per level, and
 * in which bits are reserved. */
#include "vmm/cpu/soft/walk.h"
#include "vmm/cpu/soft/mmu.h"

#define PTE_P 1ull
#define PTE_W 2ull
#define PTE_U 4ull
#define PTE_A 0x20ull
#define PTE_D 0x40ull
#define PTE_PS 0x80ull
#define PTE_G 0x100ull
#define PTE_NX (1ull << 63)
#define PTE_ADDRESS 0x000ffffffffff000ull
#define PTE_TOO_HIGH (PTE_ADDRESS & ~((1ull << PHYSICAL_BITS) - 1))

struct format {
	unsigned int levels, bits, entry_size;
	uint64_t root;
};

static struct format paging_format(const struct soft *c)
{
	if (c->efer & EFER_LMA)
		return (struct format){4, 9, 8, c->cr3 & PTE_ADDRESS};
	if (c->cr4 & CR4_PAE)
		return (struct format){2, 9, 8, 0};
	return (struct format){2, 10, 4, c->cr3 & 0xfffff000};
}

static uint64_t read_entry(struct soft *c, gpa_t gpa, unsigned int size, uint8_t **ret_host)
{
	uint8_t *host = soft_host(c->vm, gpa, NULL);
	uint64_t value = 0;

	*ret_host = host;
	if (host && size == 8)
		value = __atomic_load_n((uint64_t *)(void *)host, __ATOMIC_RELAXED);
	else if (host)
		value = __atomic_load_n((uint32_t *)(void *)host, __ATOMIC_RELAXED);
	return value;
}

/* Sets accessed or dirty. false: somebody changed the entry, look again. */
static bool mark(uint8_t *host, unsigned int size, uint64_t entry, uint64_t bits)
{
	uint32_t entry32 = (uint32_t)entry;

	if ((entry & bits) == bits)
		return true;
	if (size == 8)
		return __atomic_compare_exchange_n((uint64_t *)(void *)host, &entry, entry | bits,
						   false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	return __atomic_compare_exchange_n((uint32_t *)(void *)host, &entry32,
					   (uint32_t)(entry | bits), false, __ATOMIC_SEQ_CST,
					   __ATOMIC_SEQ_CST);
}

static bool has_reserved(const struct soft *c, uint64_t entry, unsigned int level,
			 const struct format *f, bool leaf)
{
	uint64_t reserved = PTE_TOO_HIGH;

	if (f->entry_size == 4) /* PSE-36 is not offered: bits 21-13 of a 4 MiB page must be 0 */
		return level == 1 && leaf && entry & 0x3fe000;
	if (!(c->efer & EFER_NXE))
		reserved |= PTE_NX;
	if (f->levels == 2) /* PAE: bits 62-52 */
		reserved |= 0x7ff0000000000000ull;
	if (leaf && level > 0)
		reserved |= ((1ull << (12 + level * f->bits)) - 1) & 0x000fffffffffe000ull;
	if (level == 3)
		reserved |= PTE_PS;
	return entry & reserved;
}

struct rights {
	bool write, user, execute;
};

/* Whether the access is allowed; and, for the TLB, whether reads and writes would be. */
static bool allowed(const struct soft *c, const struct rights *r, enum soft_access access,
		    enum soft_tlb index, struct translation *t)
{
	bool user = index >= TLB_USER_ALIGNED;
	bool smap = index == TLB_SUPERVISOR && c->cr4 & CR4_SMAP;

	if (user) {
		t->readable = r->user;
		t->writable = r->user && r->write;
	} else {
		t->readable = !(smap && r->user);
		t->writable = t->readable && (r->write || !(c->cr0 & CR0_WP));
	}
	if (access == ACCESS_EXEC)
		return r->execute && (user ? r->user : !(r->user && c->cr4 & CR4_SMEP));
	return access == ACCESS_READ ? t->readable : t->writable;
}

static uint32_t error_of(const struct soft *c, enum soft_access access, enum soft_tlb index)
{
	uint32_t error = index >= TLB_USER_ALIGNED ? PF_USER : 0;
	bool nx = c->efer & EFER_NXE && c->cr4 & CR4_PAE;

	if (access == ACCESS_WRITE || access == ACCESS_MODIFY)
		error |= PF_WRITE;
	if (access == ACCESS_EXEC && (nx || c->cr4 & CR4_SMEP))
		error |= PF_FETCH;
	return error;
}

enum step { STEP_DONE, STEP_FAULT, STEP_AGAIN };

static enum step finish(struct soft *c, const struct format *f, unsigned int level,
			uint64_t address, uint64_t entry, uint8_t *host,
			const struct rights *rights, enum soft_access access, enum soft_tlb index,
			struct translation *t, uint32_t *error)
{
	uint64_t page_size = 1ull << (12 + level * f->bits);
	bool writes = access == ACCESS_WRITE || access == ACCESS_MODIFY;

	if (!allowed(c, rights, access, index, t)) {
		*error = error_of(c, access, index) | PF_PRESENT;
		return STEP_FAULT;
	}
	if (!mark(host, f->entry_size, entry, PTE_A | (writes ? PTE_D : 0)))
		return STEP_AGAIN;
	if (!writes && !(entry & PTE_D))
		t->writable = false;
	t->page_size = page_size;
	t->large = level > 0;
	t->global = entry & PTE_G && c->cr4 & CR4_PGE;
	t->gpa = (entry & PTE_ADDRESS & ~(page_size - 1)) | (address & (page_size - 1));
	return STEP_DONE;
}

static enum step walk_once(struct soft *c, uint64_t address, enum soft_access access,
			   enum soft_tlb index, struct translation *t, uint32_t *error)
{
	struct format f = paging_format(c);
	struct rights rights = {true, true, true};
	uint64_t table = f.root;

	if (f.levels == 2 && f.bits == 9) {
		uint64_t pdpte = c->pdpte[address >> 30 & 3];

		if (!(pdpte & PTE_P)) {
			*error = error_of(c, access, index);
			return STEP_FAULT;
		}
		table = pdpte & PTE_ADDRESS;
	}
	for (unsigned int level = f.levels; level-- > 0;) {
		uint64_t slot = address >> (12 + level * f.bits) & ((1u << f.bits) - 1);
		uint8_t *host;
		uint64_t entry = read_entry(c, table + slot * f.entry_size, f.entry_size, &host);
		bool can_be_large = level == 1 ? f.entry_size == 8 || c->cr4 & CR4_PSE : level == 2;
		bool leaf = level == 0 || (can_be_large && entry & PTE_PS);

		if (!(entry & PTE_P)) {
			*error = error_of(c, access, index);
			return STEP_FAULT;
		}
		if (has_reserved(c, entry, level, &f, leaf)) {
			*error = error_of(c, access, index) | PF_PRESENT | PF_RESERVED;
			return STEP_FAULT;
		}
		rights.write &= (entry & PTE_W) != 0;
		rights.user &= (entry & PTE_U) != 0;
		rights.execute &= f.entry_size == 4 || !(entry & PTE_NX);
		if (leaf)
			return finish(c, &f, level, address, entry, host, &rights, access, index, t,
				      error);
		if (!mark(host, f.entry_size, entry, PTE_A))
			return STEP_AGAIN;
		table = entry & (f.entry_size == 8 ? PTE_ADDRESS : 0xfffff000);
	}
	return STEP_FAULT;
}

bool soft_walk(struct soft *c, uint64_t address, enum soft_access access, enum soft_tlb index,
	       struct translation *ret, uint32_t *ret_error)
{
	enum step step;

	if (!(c->cr0 & CR0_PG)) {
		*ret = (struct translation){.gpa = (uint32_t)address,
					    .readable = true,
					    .writable = true,
					    .page_size = SOFT_PAGE_SIZE};
		return true;
	}
	do {
		step = walk_once(c, address, access, index, ret, ret_error);
	} while (step == STEP_AGAIN);
	return step == STEP_DONE;
}

bool soft_load_pdptes(struct soft *c, uint64_t cr3)
{
	uint64_t loaded[4];
	uint8_t *host;

	for (unsigned int i = 0; i < 4; i++) {
		loaded[i] = read_entry(c, (cr3 & 0xffffffe0) + i * 8, 8, &host);
		if (loaded[i] & PTE_P && loaded[i] & (PTE_TOO_HIGH | 0xfff00000000001e6ull))
			return false;
	}
	memcpy(c->pdpte, loaded, sizeof(loaded));
	return true;
}
