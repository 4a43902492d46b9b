/*
 * cache: one vCPU's decoded blocks, found by guest physical address and mode. Memory for them is taken
 * from one arena in sequence and given back all at once when it, or the generated code, is full.
 */
#pragma once

#include "vmm/cpu/soft/code.h"
#include "vmm/cpu/soft/soft_priv.h"

struct cache;

int cache_create(struct cache **ret, struct error *err) must_check;
void cache_destroy(struct cache *cache);
struct code *cache_code(struct cache *cache);

/* The block that begins at `c->rip` in the current mode: decodes it if need be. Throws what fetching
 * throws. */
struct block *cache_find(struct soft *c, uint32_t mode);
/* Guest memory that may hold decoded code has been written: by this vCPU, by a device. */
void cache_written(struct soft *c, gpa_t gpa, uint64_t size);
void cache_written_by_device(struct soft_vm *vm, gpa_t gpa, uint64_t size);
/* Drops this vCPU's blocks of the pages that others have reported (REQUEST_DROP). */
void cache_take_drops(struct soft *c);
void cache_flush(struct soft *c);
/* The CPU has had nothing to do for a while: what it has decoded is forgotten, and the memory given back,
 * so that idle machines are small. Outside of blocks only. */
void cache_trim(struct soft *c);
/* Memory for a new block of `count` operations; NULL: everything must be flushed first. */
struct block *cache_allocate(struct cache *cache, unsigned int count);
/* All blocks, also dropped ones, in the order in which they were made: the one behind `b` (NULL: the
 * first); NULL: no more. */
const struct block *cache_next(const struct cache *cache, const struct block *b);
