/*
 * mmu: filling the TLB, and the accesses that it does not answer: devices, page borders, pages with
 * decoded code, watched pages.
 *
 * Code pages and other vCPUs. Who decodes from a page first sets its bit in the page's `coded` word and
 * then takes the write tags of that page out of every vCPU's TLB (soft_protect_host_page); who enters a
 * write tag does so first and looks at `coded` afterwards. With a full fence in between on both sides
 * one of the two always sees the other. What remains is a store whose lookup came before and whose
 * bytes come after: a guest that changes code another of its CPUs is about to execute must synchronise
 * the two on hardware too, and every way to do that passes the end of a block here.
 */
#include "vmm/cpu/soft/mmu.h"
#include "vmm/cpu/soft/cache.h"
#include "vmm/cpu/soft/debug.h"
#include "vmm/cpu/soft/machine.h"
#include "vmm/cpu/soft/walk.h"

uint8_t *soft_host(struct soft_vm *vm, gpa_t gpa, struct soft_region **ret_region)
{
	for (unsigned int i = 0; i < vm->region_count; i++) {
		struct soft_region *r = &vm->regions[i];

		if (gpa - r->region.gpa < r->region.size) {
			if (ret_region)
				*ret_region = r;
			return r->region.host + (gpa - r->region.gpa);
		}
	}
	return NULL;
}

static void forget_jumps_of(struct soft *c, unsigned int context)
{
	struct soft_context *x = &c->contexts[context];

	x->generation = ++c->generation;
	memset(x->code_pages, 0, sizeof(x->code_pages));
	if (context == 0)
		c->jumps_local = false;
	c->key = soft_key(c, c->key & ((1u << MODE_BITS) - 1));
}

void soft_forget_jumps(struct soft *c)
{
	for (unsigned int x = 0; x <= SOFT_PCIDS; x++)
		forget_jumps_of(c, x);
}

static unsigned int code_page(uint64_t address)
{
	const unsigned int half = SOFT_CODE_PAGES / 2;

	return (address >> SOFT_PAGE_BITS) % half + (address >> 63 ? half : 0);
}

void soft_note_code(struct soft *c, uint64_t address)
{
	const unsigned int i = code_page(address);

	c->contexts[c->cpl == 3 ? c->context : 0].code_pages[i / 64] |= 1ull << i % 64;
}

static void forget_entry(struct tlb_entry *e)
{
	atomic_store_explicit(&e->read, TAG_NONE, memory_order_relaxed);
	atomic_store_explicit(&e->write, TAG_NONE, memory_order_relaxed);
	atomic_store_explicit(&e->exec, TAG_NONE, memory_order_relaxed);
}

/* Global translations stay (SDM volume 3, 4.10.4.1). */
static void flush_tlb_local(struct soft *c, unsigned int tlb)
{
	for (unsigned int i = 0; i < SOFT_TLB_SIZE / 64; i++) {
		uint64_t *local = &c->tlb_local[tlb][i];

		for (; *local; *local &= *local - 1)
			forget_entry(&c->tlbs[tlb][i * 64 + (unsigned int)__builtin_ctzll(*local)]);
	}
}

static void flush_context(struct soft *c, unsigned int context)
{
	flush_tlb_local(c, TLB_USER + context - 1);
	forget_jumps_of(c, context);
}

/* What the supervisor's accesses and code have of the current PCID. */
static void flush_supervisor_local(struct soft *c)
{
	flush_tlb_local(c, TLB_SUPERVISOR);
	flush_tlb_local(c, TLB_SUPERVISOR_AC);
	if (c->jumps_local)
		forget_jumps_of(c, 0);
}

static uint16_t current_pcid(const struct soft *c)
{
	return c->cr4 & CR4_PCIDE ? c->cr3 & CR3_PCID : 0;
}

/* 0: none */
static unsigned int find_context(const struct soft *c, uint64_t pcid)
{
	for (unsigned int x = 1; x <= SOFT_PCIDS; x++)
		if (c->contexts[x].pcid == pcid)
			return x;
	return 0;
}

void soft_select_context(struct soft *c, bool keep)
{
	const uint16_t pcid = current_pcid(c);
	unsigned int x = find_context(c, pcid);

	flush_supervisor_local(c);
	if (!x) {
		x = c->context % SOFT_PCIDS + 1;
		c->contexts[x].pcid = pcid;
		keep = false;
	}
	c->context = (uint8_t)x;
	if (!keep)
		flush_context(c, x);
}

void soft_flush_pcid(struct soft *c, uint64_t pcid)
{
	unsigned int x = find_context(c, pcid);

	if (pcid == current_pcid(c))
		flush_supervisor_local(c);
	if (x)
		flush_context(c, x);
}

void soft_flush_local(struct soft *c)
{
	flush_supervisor_local(c);
	for (unsigned int x = 1; x <= SOFT_PCIDS; x++)
		flush_context(c, x);
}

bool soft_is_shared(const struct soft *c, uint64_t address)
{
	const unsigned int i = (address >> SOFT_PAGE_BITS) & (SOFT_TLB_SIZE - 1);

	return c->tlb[i].exec == (address & ~0xfffull) &&
	       !(c->tlb_local[(c->tlb - c->tlbs[0]) / SOFT_TLB_SIZE][i / 64] >> i % 64 & 1);
}

void soft_flush_tlb(struct soft *c)
{
	for (unsigned int t = 0; t < TLBS; t++) {
		for (unsigned int i = 0; c->tlbs_used >> t & 1 && i < SOFT_TLB_SIZE; i++)
			forget_entry(&c->tlbs[t][i]);
	}
	memset(c->tlb_local, 0, sizeof(c->tlb_local));
	c->tlbs_used = 0;
	for (unsigned int half = 0; half < 2; half++) {
		c->large[half].low = ~0ull;
		c->large[half].high = 0;
	}
	for (unsigned int x = 1; x <= SOFT_PCIDS; x++)
		c->contexts[x].pcid = NO_PCID;
	c->context = 1;
	c->contexts[1].pcid = current_pcid(c);
	soft_select_tlb(c);
	soft_forget_jumps(c);
}

/* In all contexts: the translation may be global. */
void soft_flush_page(struct soft *c, uint64_t address)
{
	const unsigned int half = address >> 63, code = code_page(address);

	if (address >= c->large[half].low && address <= c->large[half].high) {
		soft_flush_tlb(c);
		return;
	}
	for (unsigned int t = 0; t < TLBS; t++)
		forget_entry(&c->tlbs[t][(address >> SOFT_PAGE_BITS) & (SOFT_TLB_SIZE - 1)]);
	for (unsigned int x = 0; x <= SOFT_PCIDS; x++)
		if (c->contexts[x].code_pages[code / 64] >> code % 64 & 1)
			forget_jumps_of(c, x);
}

void soft_select_tlb(struct soft *c)
{
	unsigned int tlb;

	if (c->cpl == 3)
		c->tlb_index = c->flags & FLAG_AC && c->cr0 & CR0_AM ? TLB_USER_ALIGNED : TLB_USER;
	else
		c->tlb_index = c->flags & FLAG_AC ? TLB_SUPERVISOR_AC : TLB_SUPERVISOR;
	tlb = c->tlb_index == TLB_USER ? TLB_USER + c->context - 1u : c->tlb_index;
	c->tlb = c->tlbs[tlb];
}

void soft_protect_host_page(struct soft_vm *vm, const uint8_t *host)
{
	for (unsigned int v = 0; v < vm->vcpus; v++) {
		struct soft *c = vm->cpus[v];

		for (unsigned int t = 0; c && t < TLBS; t++) {
			for (unsigned int i = 0; c->tlbs_used >> t & 1 && i < SOFT_TLB_SIZE; i++) {
				struct tlb_entry *e = &c->tlbs[t][i];
				uint64_t tag =
					atomic_load_explicit(&e->write, memory_order_relaxed);

				if (tag != TAG_NONE && tag + e->addend == (uintptr_t)host)
					e->write = TAG_NONE;
			}
		}
	}
}

static void fill(struct soft *c, uint64_t page, const struct translation *t, uint8_t *host_page,
		 struct soft_region *region, enum soft_access access)
{
	const unsigned int i = (page >> SOFT_PAGE_BITS) & (SOFT_TLB_SIZE - 1);
	struct tlb_entry *e = &c->tlb[i];
	const unsigned int tlb = (unsigned int)((c->tlb - c->tlbs[0]) / SOFT_TLB_SIZE);
	uint64_t *local = &c->tlb_local[tlb][i / 64];
	const uint64_t bit = 1ull << i % 64;
	uint64_t addend = (uintptr_t)host_page - page;
	uint64_t number = ((t->gpa & ~0xfffull) - region->region.gpa) >> SOFT_PAGE_BITS;

	if (c->tlb_index == TLB_USER_ALIGNED || debug_watches_page(c, page))
		return;
	/* Before a write tag: soft_protect_host_page looks at it as it does at tags. */
	if (!(c->tlbs_used >> tlb & 1))
		c->tlbs_used |= (uint8_t)(1u << tlb);
	if (e->addend != addend || (e->read != page && e->write != page && e->exec != page)) {
		e->read = e->write = e->exec = TAG_NONE;
		e->addend = addend;
		*local &= ~bit;
	}
	if (!t->global)
		*local |= bit;
	if (t->large) {
		const unsigned int half = page >> 63;
		uint64_t start = page & ~(t->page_size - 1);

		c->large[half].low = start < c->large[half].low ? start : c->large[half].low;
		start += t->page_size - 1;
		c->large[half].high = start > c->large[half].high ? start : c->large[half].high;
	}
	if (access == ACCESS_EXEC)
		e->exec = page;
	if (t->readable)
		atomic_store_explicit(&e->read, page, memory_order_relaxed);
	if (t->writable && access != ACCESS_EXEC &&
	    !(region->region.flags & CPU_REGION_READ_ONLY)) {
		if (region->dirty && access == ACCESS_READ)
			return; /* the dirty log wants to see the first write */
		atomic_store(&e->write, page);
		if (atomic_load(&region->coded[number]))
			e->write = TAG_NONE;
	}
}

struct place {
	gpa_t gpa;
	uint8_t *host; /* NULL: a device */
	bool coded;
};

/* Finds the memory behind an address within one page and enters it in the TLB. */
static struct place resolve(struct soft *c, uint64_t address, enum soft_access access)
{
	struct soft_region *region = NULL;
	struct translation t;
	struct place place = {0};
	uint32_t error;
	bool writes = access == ACCESS_WRITE || access == ACCESS_MODIFY;

	if (!soft_walk(c, address, access, c->tlb_index, &t, &error))
		soft_throw_page_fault(c, address, error);
	place.gpa = t.gpa;
	place.host = soft_host(c->vm, t.gpa, &region);
	if (!place.host)
		return place;
	if (writes && region->region.flags & CPU_REGION_READ_ONLY) {
		place.host = NULL;
		return place;
	}
	if (writes) {
		uint64_t number = (t.gpa - region->region.gpa) >> SOFT_PAGE_BITS;

		if (region->dirty)
			atomic_fetch_or(&region->dirty[number / 64], 1ull << number % 64);
		place.coded = atomic_load(&region->coded[number]) != 0;
	}
	fill(c, address & ~0xfffull, &t, place.host - (address & 0xfff), region, access);
	return place;
}

void soft_check_address(struct soft *c, uint64_t address, unsigned int size)
{
	uint64_t last = address + size - 1;

	if (!is_long64(c) && !(c->efer & EFER_LMA))
		return;
	if (!is_canonical(address) || !is_canonical(last))
		soft_throw(c, c->op && c->op->segment == CPU_SS ? VECTOR_SS : VECTOR_GP, 0);
}

static void *bounce_at(struct soft *c, uint64_t address)
{
	return c->bounce + (address & 63); /* as aligned as the operand itself is */
}

static void copy_in(struct soft *c, const struct place *place, uint8_t *data, unsigned int size)
{
	if (place->host)
		memcpy(data, place->host, size);
	else
		machine_read(c, place->gpa, data, size);
}

static void copy_out(struct soft *c, gpa_t gpa, uint8_t *host, const uint8_t *data,
		     unsigned int size)
{
	if (!host) {
		machine_write(c, gpa, data, size);
		return;
	}
	memcpy(host, data, size);
	cache_written(c, gpa, size);
}

static void *split(struct soft *c, uint64_t address, unsigned int size, enum soft_access access)
{
	unsigned int first = SOFT_PAGE_SIZE - (address & 0xfff);
	uint64_t second_address = address + first;
	struct place a, b;
	uint8_t *data = bounce_at(c, address);

	if (!is_long64(c))
		second_address = (uint32_t)second_address;
	a = resolve(c, address, access);
	b = resolve(c, second_address, access);
	/* Neighbours on the host are one operand to it, and stay atomic. */
	if (a.host && b.host == a.host + first && !a.coded && !b.coded)
		return a.host;
	if (access == ACCESS_MODIFY && !c->split_locked) {
		pthread_mutex_lock(&c->vm->split_lock);
		c->split_locked = true;
	}
	if (access != ACCESS_WRITE) {
		copy_in(c, &a, data, first);
		copy_in(c, &b, data + first, size - first);
	}
	if (access != ACCESS_READ)
		c->commit = (struct commit){.kind = COMMIT_SPLIT,
					    .size = size,
					    .first_size = first,
					    .gpa = a.gpa,
					    .gpa_second = b.gpa,
					    .host = a.host,
					    .host_second = b.host,
					    .data = data};
	return data;
}

void *soft_memory_slow(struct soft *c, const struct op *op, uint64_t address, uint32_t size_access)
{
	unsigned int size = size_access & 0xffff;
	enum soft_access access = size_access >> 16;
	struct place place;

	c->op = op;
	if (op && address & op->alignment)
		soft_throw(c, VECTOR_GP, 0);
	soft_check_address(c, address, size);
	if (c->tlb_index == TLB_USER_ALIGNED && size <= 8 && address & (size - 1))
		soft_throw(c, VECTOR_AC, 0);
	if (c->debug.dr7 & DR7_ENABLED)
		debug_check_data(c, address, size, access);
	if ((address & 0xfff) + size > SOFT_PAGE_SIZE)
		return split(c, address, size, access);
	place = resolve(c, address, access);
	if (!place.host) {
		uint8_t *data = bounce_at(c, address);

		if (access != ACCESS_WRITE)
			machine_read(c, place.gpa, data, size);
		if (access != ACCESS_READ)
			c->commit = (struct commit){
				.kind = COMMIT_MMIO, .size = size, .gpa = place.gpa, .data = data};
		return data;
	}
	if (place.coded)
		c->commit = (struct commit){.kind = COMMIT_CODE, .size = size, .gpa = place.gpa};
	return place.host;
}

void soft_unlock_split(struct soft *c)
{
	if (!c->split_locked)
		return;
	c->split_locked = false;
	pthread_mutex_unlock(&c->vm->split_lock);
}

void soft_commit(struct soft *c)
{
	struct commit commit = c->commit;

	c->commit.kind = COMMIT_NONE;
	switch (commit.kind) {
	case COMMIT_MMIO:
		machine_write(c, commit.gpa, commit.data, commit.size);
		break;
	case COMMIT_SPLIT:
		copy_out(c, commit.gpa, commit.host, commit.data, commit.first_size);
		copy_out(c, commit.gpa_second, commit.host_second, commit.data + commit.first_size,
			 commit.size - commit.first_size);
		soft_unlock_split(c);
		break;
	case COMMIT_CODE:
		cache_written(c, commit.gpa, commit.size);
		break;
	}
}

uint64_t soft_read_system(struct soft *c, uint64_t address, unsigned int size)
{
	uint64_t value;

	c->tlb_index = TLB_SUPERVISOR;
	c->tlb = c->tlbs[TLB_SUPERVISOR];
	value = soft_read(c, address, size);
	soft_select_tlb(c);
	return value;
}

void soft_write_system(struct soft *c, uint64_t address, unsigned int size, uint64_t value)
{
	c->tlb_index = TLB_SUPERVISOR;
	c->tlb = c->tlbs[TLB_SUPERVISOR];
	soft_write(c, address, size, value);
	soft_select_tlb(c);
}

void soft_probe(struct soft *c, uint64_t address, unsigned int size, enum soft_access access)
{
	uint64_t pages = ((address & 0xfff) + size + 0xfff) >> SOFT_PAGE_BITS;

	soft_check_address(c, address, size);
	for (; pages > 0; pages--) { /* may go on at 0 */
		(void)resolve(c, address, access);
		address = (address | 0xfff) + 1;
	}
}

void soft_probe_system(struct soft *c, uint64_t address, unsigned int size)
{
	c->tlb_index = TLB_SUPERVISOR;
	c->tlb = c->tlbs[TLB_SUPERVISOR];
	soft_probe(c, address, size, ACCESS_WRITE);
	soft_select_tlb(c);
}

void *soft_page_pointer(struct soft *c, uint64_t address, enum soft_access access)
{
	struct tlb_entry *e = &c->tlb[(address >> SOFT_PAGE_BITS) & (SOFT_TLB_SIZE - 1)];
	uint64_t page = address & ~0xfffull;
	struct place place;

	if ((access == ACCESS_READ ? e->read : e->write) == page)
		return (void *)(uintptr_t)(address + e->addend);
	if (c->debug.dr7 & DR7_ENABLED || c->tlb_index == TLB_USER_ALIGNED)
		return NULL;
	soft_check_address(c, address, 1);
	place = resolve(c, address, access);
	return place.coded ? NULL : place.host;
}

/* For addresses that a TLB entry has given, so there is one. */
static gpa_t gpa_of_host(const struct soft_vm *vm, const uint8_t *host)
{
	const struct soft_region *r = vm->regions;

	while ((uint64_t)(host - r->region.host) >= r->region.size)
		r++;
	return r->region.gpa + (uint64_t)(host - r->region.host);
}

bool soft_code_is_at(const struct soft *c, uint64_t address, gpa_t gpa)
{
	const struct tlb_entry *e = &c->tlb[(address >> SOFT_PAGE_BITS) & (SOFT_TLB_SIZE - 1)];

	return e->exec == (address & ~0xfffull) &&
	       gpa_of_host(c->vm, (const uint8_t *)(uintptr_t)(address + e->addend)) == gpa;
}

gpa_t soft_fetch_gpa(struct soft *c, uint64_t address)
{
	struct soft_region *region;
	struct translation t;
	uint32_t error;
	uint8_t *host;

	struct tlb_entry *e = &c->tlb[(address >> SOFT_PAGE_BITS) & (SOFT_TLB_SIZE - 1)];

	if (e->exec == (address & ~0xfffull))
		return gpa_of_host(c->vm, (const uint8_t *)(uintptr_t)(address + e->addend));
	if (!is_canonical(address))
		soft_throw(c, VECTOR_GP, 0);
	if (!soft_walk(c, address, ACCESS_EXEC, c->tlb_index, &t, &error))
		soft_throw_page_fault(c, address, error);
	host = soft_host(c->vm, t.gpa, &region);
	if (host)
		fill(c, address & ~0xfffull, &t, host - (address & 0xfff), region, ACCESS_EXEC);
	return t.gpa;
}
