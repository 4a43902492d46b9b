/* kept: see the header. */
#include "vmm/cpu/soft/kept.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/identity.h"
#include "base/mem.h"
#include "base/str.h"
#include "vmm/cpu/soft/cache.h"
#include "vmm/cpu/soft/decode.h"
#include "vmm/cpu/soft/mmu.h"

enum {
	IDENTITY_MAX = 160,
	INDEX_BITS = 17,
	IN_PAGE_BITS = 7, /* of them for the place in the page */
	PAGE = 4096,
	UNIT = 8, /* of offsets of blocks */
};
#define MAGIC "BERTHDC1"
#define IN_CODE (1ull << 63) /* of a kept function: the distance is in the kept code */

struct kept_head {
	char magic[8];
	char identity[IDENTITY_MAX];
	uint64_t op_size, code_at, code_size, index_at, blocks_at, blocks_size;
};

/* Behind the operations, the last of which is not an instruction, are the bytes. */
struct kept_block {
	gpa_t gpa;
	uint32_t mode;
	uint32_t next; /* in the chain of the index, in units; 0: none */
	uint16_t count, bytes;
	uint32_t unused;
	struct op ops[];
};

struct kept {
	const uint8_t *file, *exec;
	size_t size, exec_size;
	const struct kept_head *head;
	const uint32_t *index;
	const uint8_t *blocks;
	bool exec_is_copy;
};

/* The linker's names for where the program's instructions are. */
extern const char __executable_start[], etext[];

/* false: the program has none. */
static bool fill_identity(char identity[static IDENTITY_MAX])
{
	own_mem char *text = program_build_id();

	memset(identity, 0, IDENTITY_MAX);
	if (text)
		memcpy(identity, text, strnlen(text, IDENTITY_MAX - 1));
	return text != NULL;
}

/* Blocks of a page are near one another: who executes one will execute others. */
static unsigned int hash_of(gpa_t gpa, uint32_t mode)
{
	const uint64_t page =
		(gpa >> SOFT_PAGE_BITS ^ (uint64_t)mode << 40) * 0x9e3779b97f4a7c15ull;

	return (unsigned int)(page >> (64 - INDEX_BITS + IN_PAGE_BITS) << IN_PAGE_BITS |
			      (gpa >> (SOFT_PAGE_BITS - IN_PAGE_BITS) &
			       ((1u << IN_PAGE_BITS) - 1)));
}

static size_t block_size(unsigned int count, unsigned int bytes)
{
	return (sizeof(struct kept_block) + (count + 1) * sizeof(struct op) + bytes + UNIT - 1) &
	       ~(size_t)(UNIT - 1);
}

/* --- reading ----------------------------------------------------------------------------------------- */

static bool is_part(const struct kept *k, uint64_t at, uint64_t size)
{
	return at % UNIT == 0 && at <= k->size && size <= k->size - at;
}

static bool is_ours(const struct kept *k)
{
	const struct kept_head *h = k->head;
	char identity[IDENTITY_MAX];

	return fill_identity(identity) && memcmp(h->magic, MAGIC, sizeof(h->magic)) == 0 &&
	       memcmp(h->identity, identity, IDENTITY_MAX) == 0 &&
	       h->op_size == sizeof(struct op) && h->code_at % PAGE == 0 &&
	       is_part(k, h->code_at, h->code_size) &&
	       is_part(k, h->index_at, sizeof(uint32_t) << INDEX_BITS) &&
	       is_part(k, h->blocks_at, h->blocks_size);
}

/* Where the file system allows no execution a copy does. */
static int map_code(struct kept *k, int fd, struct error *err)
{
	own_fd int copy = -1;
	void *exec;
	int rc;

	k->exec_size = (k->head->code_size + PAGE - 1) & ~(size_t)(PAGE - 1);
	if (k->exec_size == 0)
		return 0;
	exec = mmap(NULL, k->exec_size, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_POPULATE, fd,
		    (off_t)k->head->code_at);
	if (exec == MAP_FAILED) {
		copy = memfd_create("berth-kept-code", MFD_CLOEXEC);
		if (copy < 0 || ftruncate(copy, (off_t)k->exec_size) < 0)
			return fail(err, -errno, "make memory for kept code");
		rc = fd_write_full_at(copy, k->file + k->head->code_at, k->head->code_size, 0);
		if (rc < 0)
			return fail(err, rc, "copy kept code");
		exec = mmap(NULL, k->exec_size, PROT_READ | PROT_EXEC, MAP_PRIVATE, copy, 0);
	}
	if (exec == MAP_FAILED)
		return fail(err, -errno, "map kept code");
	k->exec = exec;
	return 0;
}

int kept_open(int fd, struct kept **ret, struct error *err)
{
	struct kept *k;
	struct stat st;
	void *file;
	int rc = 0;

	if (fstat(fd, &st) < 0)
		return fail(err, -errno, "look at kept code");
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(struct kept_head))
		return refuse(err, -ESTALE, "the kept code is damaged");
	file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (file == MAP_FAILED)
		return fail(err, -errno, "map kept code");
	k = mem_new(sizeof(*k));
	k->file = file;
	k->size = (size_t)st.st_size;
	k->head = file;
	if (!is_ours(k))
		rc = refuse(err, -ESTALE, "the kept code is another program's");
	if (rc == 0)
		rc = map_code(k, fd, err);
	if (rc < 0) {
		kept_close(k);
		return rc;
	}
	k->index = (const uint32_t *)(const void *)(k->file + k->head->index_at);
	k->blocks = k->file + k->head->blocks_at;
	*ret = k;
	return 0;
}

void kept_close(struct kept *k)
{
	if (!k)
		return;
	if (k->exec)
		munmap((void *)(uintptr_t)k->exec, k->exec_size);
	munmap((void *)(uintptr_t)k->file, k->size);
	free(k);
}

bool kept_contains(const struct kept *k, uint64_t address)
{
	return k && address - (uint64_t)(uintptr_t)k->exec < k->exec_size;
}

static const struct kept_block *block_at(const struct kept *k, uint32_t offset)
{
	const uint64_t at = (uint64_t)offset * UNIT, size = k->head->blocks_size;
	const struct kept_block *b = (const struct kept_block *)(const void *)(k->blocks + at);

	if (offset == 0 || at + sizeof(*b) > size)
		return NULL;
	if (b->count == 0 || b->count > BLOCK_OPS_MAX || (b->gpa & (PAGE - 1)) + b->bytes > PAGE ||
	    at + block_size(b->count, b->bytes) > size)
		return NULL;
	return b;
}

/* The function that was kept as a distance; NULL: it is none of ours. */
static op_fn function_of(const struct kept *k, uint64_t distance)
{
	if (distance & IN_CODE) {
		distance &= ~IN_CODE;
		return distance < k->head->code_size ? (op_fn)(uintptr_t)(k->exec + distance)
						     : NULL;
	}

	const uint64_t start = (uint64_t)(uintptr_t)__executable_start;

	return distance < (uint64_t)(uintptr_t)etext - start ? (op_fn)(uintptr_t)(start + distance)
							     : NULL;
}

static struct block *copy_block(struct soft *c, const struct kept_block *from)
{
	struct block *b = cache_allocate(c->cache, from->count + 1u);

	if (!b)
		return NULL;
	*b = (struct block){
		.gpa = from->gpa,
		.gpa_next_page = SOFT_NO_PAGE,
		.mode = from->mode,
		.count = from->count,
		.bytes = from->bytes & 0x7fff,
		.key = NO_KEY,
	};
	for (unsigned int i = 0; i <= from->count; i++) {
		b->ops[i] = from->ops[i];
		b->ops[i].fn = function_of(c->vm->kept, (uint64_t)(uintptr_t)from->ops[i].fn);
		if (!b->ops[i].fn)
			return NULL;
	}
	return b;
}

struct block *kept_take(struct soft *c, uint32_t mode, gpa_t gpa, const uint8_t *host)
{
	const struct kept *k = c->vm->kept;
	const struct kept_block *b = block_at(k, k->index[hash_of(gpa, mode)]);

	/* Chains lead backwards in the file, so they end. */
	while (b && (b->gpa != gpa || b->mode != mode)) {
		const uint32_t next = b->next;

		if ((uint64_t)next * UNIT >= (uint64_t)((const uint8_t *)b - k->blocks))
			return NULL;
		b = block_at(k, next);
	}
	if (!b || memcmp(host, &b->ops[b->count + 1], b->bytes) != 0)
		return NULL;
	return copy_block(c, b);
}

/* --- writing ----------------------------------------------------------------------------------------- */

struct writer {
	struct soft_vm *vm;
	struct soft *c;
	struct buf code, blocks;
	uint32_t *index;
};

static uint64_t distance_of(const struct writer *w, size_t code_from, op_fn fn)
{
	const struct code *code = cache_code(w->c->cache);
	const uint64_t address = (uint64_t)(uintptr_t)fn;

	if (code_contains(code, address))
		return IN_CODE | (code_from + address - (uint64_t)(uintptr_t)code->exec);
	return address - (uint64_t)(uintptr_t)__executable_start;
}

static bool is_known(const struct writer *w, const struct block *b)
{
	uint32_t at = w->index[hash_of(b->gpa, b->mode)];

	while (at != 0) {
		const struct kept_block *k =
			(const struct kept_block *)(const void *)(w->blocks.data +
								  (size_t)at * UNIT);

		if (k->gpa == b->gpa && k->mode == b->mode)
			return true;
		at = k->next;
	}
	return false;
}

static void add_block(struct writer *w, size_t code_from, const struct block *b)
{
	const uint8_t *host = soft_host(w->vm, b->gpa, NULL);
	uint32_t *head = &w->index[hash_of(b->gpa, b->mode)];
	const size_t at = w->blocks.len, size = block_size(b->count, b->bytes);
	struct kept_block k = {.gpa = b->gpa,
			       .mode = b->mode,
			       .next = *head,
			       .count = b->count,
			       .bytes = b->bytes};

	/* Single steps and what crosses a page are rare. What lies in taken-over code is kept already. */
	if (b->dropped || b->mode & MODE_ONE || b->gpa_next_page != SOFT_NO_PAGE || !host ||
	    at / UNIT > UINT32_MAX || is_known(w, b))
		return;
	for (unsigned int i = 0; i <= b->count; i++)
		if (kept_contains(w->vm->kept, (uint64_t)(uintptr_t)b->ops[i].fn))
			return;
	buf_add(&w->blocks, &k, sizeof(k));
	for (unsigned int i = 0; i <= b->count; i++) {
		struct op op = b->ops[i];

		/* Blocks are elsewhere in each process. */
		if (i + 1 >= b->count && decode_has_link(&op))
			op.imm = 0;
		op.fn = (op_fn)(uintptr_t)distance_of(w, code_from, op.fn);
		buf_add(&w->blocks, &op, sizeof(op));
	}
	buf_add(&w->blocks, host, b->bytes);
	while (w->blocks.len < at + size)
		buf_add(&w->blocks, "", 1);
	*head = (uint32_t)(at / UNIT);
}

static void pad(struct buf *b, size_t to)
{
	while (b->len % to != 0)
		buf_add(b, "", 1);
}

static void add_cpu(struct writer *w)
{
	const struct code *code = cache_code(w->c->cache);
	const size_t code_from = w->code.len;
	const struct block *b = NULL;

	buf_add(&w->code, code->write, code->used);
	pad(&w->code, 16);
	while ((b = cache_next(w->c->cache, b)) != NULL)
		add_block(w, code_from, b);
}

static int write_file(struct writer *w, int fd)
{
	struct kept_head head = {.magic = MAGIC, .op_size = sizeof(struct op)};
	own_buf struct buf front = {0};
	const size_t index_size = sizeof(uint32_t) << INDEX_BITS;
	int rc;

	if (!fill_identity(head.identity))
		return -ENOTSUP;
	head.code_at = PAGE;
	head.code_size = w->code.len;
	head.index_at = head.code_at + w->code.len;
	head.blocks_at = head.index_at + index_size;
	head.blocks_size = w->blocks.len;
	buf_add(&front, &head, sizeof(head));
	pad(&front, PAGE);
	rc = fd_write_full(fd, front.data, front.len);
	if (rc == 0)
		rc = fd_write_full(fd, w->code.data, w->code.len);
	if (rc == 0)
		rc = fd_write_full(fd, w->index, index_size);
	if (rc == 0)
		rc = fd_write_full(fd, w->blocks.data, w->blocks.len);
	return rc;
}

int kept_save(struct soft_vm *vm, int fd, struct error *err)
{
	struct writer w = {.vm = vm, .index = mem_new_array(1u << INDEX_BITS, sizeof(uint32_t))};
	int rc;

	/* An offset of 0 means "none". */
	buf_add(&w.blocks, (const uint64_t[]){0}, UNIT);
	for (unsigned int i = 0; i < vm->vcpus; i++)
		if ((w.c = vm->cpus[i]) != NULL)
			add_cpu(&w);
	rc = write_file(&w, fd);
	buf_release(&w.code);
	buf_release(&w.blocks);
	free(w.index);
	return rc < 0 ? fail(err, rc, "keep decoded code") : 0;
}
