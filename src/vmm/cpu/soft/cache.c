/*
 * cache: see the header.
 *
 * Invariants
 *   K1  While a vCPU has a block that takes bytes from a page, its bit in the page's `coded` word is
 *       set. The bit is set before the bytes are read.
 *   K2  Whoever writes such a page clears the word and tells every vCPU whose bit it held. The vCPU
 *       drops its blocks of the page before it runs another one.
 *   K3  A dropped block's memory stays valid until the arena is emptied, which happens only between two
 *       blocks: an operation may go on reading itself after it has dropped its own block. The functions
 *       of the operations behind it have been replaced by one that leaves the block.
 */
#include "vmm/cpu/soft/cache.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/mem.h"
#include "vmm/cpu/soft/decode.h"
#include "vmm/cpu/soft/kept.h"
#include "vmm/cpu/soft/mmu.h"
#include "vmm/cpu/soft/run.h"

enum {
	HASH_BITS = 17,
	IN_PAGE_BITS = 7, /* of them for the place in the page */
	HASH_SIZE = 1 << HASH_BITS,
	PAGES_SIZE = 1 << 12,
	TRIM_MIN = 1 << 20, /* bytes of decoded blocks that are worth it */
};
#define ARENA_SIZE (24u << 20)
#define CODE_SIZE (16u << 20)
#define HUGE_PAGE ((size_t)2 << 20)

/* The tables and the arena are one piece of memory, in huge pages while a machine is busy: it fills
 * megabytes of them in its first moments, and walks through them in no order. */
struct tables {
	struct block *blocks[HASH_SIZE];
	struct block *pages[PAGES_SIZE]; /* chains through next_page, by page number */
	uint8_t arena[ARENA_SIZE];
};

struct cache {
	struct code code;
	size_t used;
	bool huge;
	struct tables *tables;
};

static struct tables *map_tables(void)
{
	const size_t size = (sizeof(struct tables) + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
	uint8_t *all = mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
		*at;

	if (all == MAP_FAILED)
		return NULL;
	at = all + (HUGE_PAGE - (uintptr_t)all % HUGE_PAGE) % HUGE_PAGE;
	if (at > all)
		munmap(all, (size_t)(at - all));
	munmap(at + sizeof(struct tables),
	       (size_t)(all + size + HUGE_PAGE - at) - sizeof(struct tables));
	return (struct tables *)(void *)at;
}

/* Where the kernel has none it is a matter of speed alone. */
static void use_huge_pages(struct cache *cache, bool use)
{
	cache->huge = use;
	(void)madvise(cache->tables, sizeof(*cache->tables), use ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

int cache_create(struct cache **ret, struct error *err)
{
	struct tables *tables = map_tables();
	struct cache *cache;
	int rc;

	if (!tables)
		return fail(err, -errno, "map memory for decoded instructions");
	cache = mem_new(sizeof(*cache));
	cache->tables = tables;
	use_huge_pages(cache, true);
	rc = code_open(&cache->code, CODE_SIZE, err);
	if (rc < 0) {
		cache_destroy(cache);
		return rc;
	}
	*ret = cache;
	return 0;
}

void cache_destroy(struct cache *cache)
{
	if (!cache)
		return;
	code_close(&cache->code);
	munmap(cache->tables, sizeof(*cache->tables));
	free(cache);
}

struct code *cache_code(struct cache *cache)
{
	return &cache->code;
}

/* Blocks of a page are near one another: who executes one will execute others. */
static unsigned int hash_of(gpa_t gpa, uint32_t mode)
{
	const uint64_t page =
		(gpa >> SOFT_PAGE_BITS ^ (uint64_t)mode << 40) * 0x9e3779b97f4a7c15ull;

	return (unsigned int)(page >> (64 - HASH_BITS + IN_PAGE_BITS) << IN_PAGE_BITS |
			      (gpa >> (SOFT_PAGE_BITS - IN_PAGE_BITS) &
			       ((1u << IN_PAGE_BITS) - 1)));
}

static struct block **page_list(struct cache *cache, gpa_t gpa)
{
	return &cache->tables->pages[gpa >> SOFT_PAGE_BITS & (PAGES_SIZE - 1)];
}

/* Which of its two page links a block uses in the list of this page; -1: not of this page. */
static int page_link(const struct block *b, gpa_t gpa)
{
	if ((b->gpa ^ gpa) < SOFT_PAGE_SIZE)
		return 0;
	if (b->gpa_next_page != SOFT_NO_PAGE && (b->gpa_next_page ^ gpa) < SOFT_PAGE_SIZE)
		return 1;
	return -1;
}

static size_t block_size(unsigned int count)
{
	return (sizeof(struct block) + count * sizeof(struct op) + 7) & ~(size_t)7;
}

const struct block *cache_next(const struct cache *cache, const struct block *b)
{
	const uint8_t *at =
		b ? (const uint8_t *)b + block_size(b->count + 1u) : cache->tables->arena;

	return at < cache->tables->arena + cache->used ? (const struct block *)(const void *)at
						       : NULL;
}

struct block *cache_allocate(struct cache *cache, unsigned int count)
{
	const size_t size = block_size(count);
	struct block *b;

	if (ARENA_SIZE - cache->used < size)
		return NULL;
	if (!cache->huge && cache->used > TRIM_MIN)
		use_huge_pages(cache, true);
	b = (struct block *)(void *)(cache->tables->arena + cache->used);
	cache->used += size;
	return b;
}

static void forget(struct soft *c)
{
	memset(c->jump, 0, sizeof(c->jump));
	c->cache->used = 0;
	code_reset(&c->cache->code);
	c->block = NULL;
	c->op = NULL;
	c->link = NULL;
}

void cache_flush(struct soft *c)
{
	struct tables *t = c->cache->tables;

	memset(t->blocks, 0, sizeof(t->blocks));
	memset(t->pages, 0, sizeof(t->pages));
	forget(c);
}

/* What an idle machine needs of the tables from then on are a few pages in many places. */
void cache_trim(struct soft *c)
{
	struct cache *cache = c->cache;

	if (cache->used < TRIM_MIN)
		return;
	if (madvise(cache->tables, sizeof(*cache->tables), MADV_DONTNEED) < 0) {
		cache_flush(c);
		return;
	}
	use_huge_pages(cache, false);
	forget(c);
}

static void unhash(struct cache *cache, struct block *b)
{
	struct block **p = &cache->tables->blocks[hash_of(b->gpa, b->mode)];

	while (*p && *p != b)
		p = &(*p)->next_hash;
	if (*p)
		*p = b->next_hash;
}

static const struct op *do_stale(struct soft *c, const struct op *op)
{
	return run_leave(c, op_rip(c, op) & rip_mask(c));
}

/* The block may be the one that is executing: whatever operation comes next finds out. */
static void make_stale(struct block *b)
{
	for (unsigned int i = 0; i <= b->count; i++)
		b->ops[i].fn = do_stale;
	b->dropped = true;
}

/* Lists are by hash of the page, so blocks of other pages stand between; a dropped block stays in the
 * list of its other page, marked. */
static void drop_page(struct soft *c, gpa_t gpa)
{
	struct block **p = page_list(c->cache, gpa);
	bool any = false;

	while (*p) {
		struct block *b = *p;
		int here = page_list(c->cache, b->gpa) == page_list(c->cache, gpa) ? 0 : 1;

		if (page_link(b, gpa) < 0 && !b->dropped) {
			p = &b->next_page[here];
			continue;
		}
		if (!b->dropped) {
			unhash(c->cache, b);
			make_stale(b);
		}
		any = true;
		*p = b->next_page[here];
	}
	if (any)
		soft_forget_jumps(c);
}

void cache_take_drops(struct soft *c)
{
	gpa_t drops[SOFT_DROPS_MAX];
	unsigned int count;

	pthread_mutex_lock(&c->drops_lock);
	count = c->drop_count;
	c->drop_count = 0;
	if (count <= SOFT_DROPS_MAX)
		memcpy(drops, c->drops, count * sizeof(*drops));
	pthread_mutex_unlock(&c->drops_lock);
	if (count > SOFT_DROPS_MAX)
		cache_flush(c);
	for (unsigned int i = 0; i < count && count <= SOFT_DROPS_MAX; i++)
		drop_page(c, drops[i]);
}

static void post_drop(struct soft *to, gpa_t gpa)
{
	pthread_mutex_lock(&to->drops_lock);
	if (to->drop_count < SOFT_DROPS_MAX)
		to->drops[to->drop_count] = gpa;
	if (to->drop_count <= SOFT_DROPS_MAX)
		to->drop_count++;
	pthread_mutex_unlock(&to->drops_lock);
	soft_request(to, REQUEST_DROP);
}

static void written(struct soft_vm *vm, struct soft *self, gpa_t gpa, uint64_t size)
{
	gpa_t end = gpa + size;

	for (gpa_t page = gpa & ~0xfffull; page < end; page += SOFT_PAGE_SIZE) {
		struct soft_region *region = NULL;
		uint64_t number, cpus;

		if (!soft_host(vm, page, &region))
			continue;
		number = (page - region->region.gpa) >> SOFT_PAGE_BITS;
		if (region->dirty)
			atomic_fetch_or(&region->dirty[number / 64], 1ull << number % 64);
		atomic_thread_fence(memory_order_seq_cst);
		if (!atomic_load_explicit(&region->coded[number], memory_order_relaxed))
			continue;
		cpus = atomic_exchange(&region->coded[number], 0);
		for (unsigned int i = 0; i < vm->vcpus; i++) {
			struct soft *to = vm->cpus[i];

			if (!(cpus >> i & 1) || !to)
				continue;
			if (to == self)
				drop_page(self, page);
			else
				post_drop(to, page);
		}
	}
}

void cache_written(struct soft *c, gpa_t gpa, uint64_t size)
{
	written(c->vm, c, gpa, size);
}

void cache_written_by_device(struct soft_vm *vm, gpa_t gpa, uint64_t size)
{
	written(vm, NULL, gpa, size);
}

/* K1; and the pages leave the fast path of writes (mmu.c). */
static void mark_coded(struct soft *c, gpa_t gpa)
{
	struct soft_region *region = NULL;
	uint8_t *host = soft_host(c->vm, gpa & ~0xfffull, &region);
	uint64_t bit = 1ull << c->vcpu.index;
	uint64_t number;

	if (!host)
		return;
	number = ((gpa & ~0xfffull) - region->region.gpa) >> SOFT_PAGE_BITS;
	if (atomic_load(&region->coded[number]) & bit)
		return;
	if (atomic_fetch_or(&region->coded[number], bit) == 0)
		soft_protect_host_page(c->vm, host);
}

static void enter(struct cache *cache, struct block *b)
{
	struct block **p = &cache->tables->blocks[hash_of(b->gpa, b->mode)];

	b->next_hash = *p;
	*p = b;
	p = page_list(cache, b->gpa);
	b->next_page[0] = *p;
	*p = b;
	if (b->gpa_next_page == SOFT_NO_PAGE || page_list(cache, b->gpa_next_page) == p)
		return;
	p = page_list(cache, b->gpa_next_page);
	b->next_page[1] = *p;
	*p = b;
}

static uint64_t code_linear(const struct soft *c, uint64_t rip)
{
	return is_long64(c) ? rip : (uint32_t)(rip + c->segments[CPU_CS].base);
}

/* The jump cache's block for this place, which a change of translations has made unusable as it is, if
 * the place's address has come out the same: spares the walk through the table. */
static struct block *find_again(struct soft *c, uint32_t mode, gpa_t gpa)
{
	const struct jump_entry *j = run_jump_entry(c, c->rip);
	struct block *b = j->block;

	if (j->rip != c->rip || !b || b->gpa != gpa || b->mode != mode || b->dropped ||
	    b->gpa_next_page != SOFT_NO_PAGE)
		return NULL;
	return b;
}

static struct block *take_kept(struct soft *c, uint32_t mode, gpa_t gpa)
{
	const uint8_t *host = c->vm->kept ? soft_host(c->vm, gpa, NULL) : NULL;

	return host ? kept_take(c, mode, gpa, host) : NULL;
}

struct block *cache_find(struct soft *c, uint32_t mode)
{
	uint64_t linear = code_linear(c, c->rip);
	gpa_t gpa;
	struct block *b;

	if (!is_long64(c) && c->rip > c->segments[CPU_CS].limit)
		soft_throw(c, VECTOR_GP, 0);
	gpa = soft_fetch_gpa(c, linear);
	b = find_again(c, mode, gpa);
	if (b)
		return b;
	for (b = c->cache->tables->blocks[hash_of(gpa, mode)]; b; b = b->next_hash) {
		if (b->gpa != gpa || b->mode != mode)
			continue;
		if (b->gpa_next_page == SOFT_NO_PAGE ||
		    soft_fetch_gpa(c, (linear | 0xfff) + 1) == b->gpa_next_page)
			return b;
	}
	mark_coded(c, gpa);
	b = take_kept(c, mode, gpa);
	if (!b)
		b = decode_block(c, mode, linear, gpa, mark_coded);
	if (!b) {
		cache_flush(c);
		b = decode_block(c, mode, linear, gpa, mark_coded);
	}
	if (b)
		enter(c->cache, b);
	return b;
}
