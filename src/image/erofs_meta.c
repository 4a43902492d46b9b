/*
 * erofs_meta: see erofs_priv.h.
 *
 * A run is kept open until an item does not fit into any of its blocks; each item goes where it leaves
 * the least room (best fit), which keeps the loss to a few per cent although items must not cross a
 * block. The choice depends on the items alone, so the same tar gives the same file.
 */
#include "image/erofs_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static size_t round_up(size_t n, size_t unit)
{
	return (n + unit - 1) & ~(unit - 1);
}

static void open_run(struct erofs_meta *m)
{
	m->run_block =
		mem_grow(m->run_block, m->run_count, &m->run_capacity, sizeof(*m->run_block));
	m->open = (unsigned int)m->run_count++;
	memset(m->used, 0, sizeof(m->used));
	m->blocks = 0;
}

void meta_init(struct erofs_meta *m, struct erofs_out *out)
{
	memset(m, 0, sizeof(*m));
	m->out = out;
	m->buffer = mem_new((size_t)RUN_BLOCKS * EROFS_BLOCK);
	open_run(m);
}

void meta_init_dry(struct erofs_meta *m, uint64_t at)
{
	memset(m, 0, sizeof(*m));
	m->dry_at = at;
	open_run(m);
}

void meta_release(struct erofs_meta *m)
{
	free(m->buffer);
	free(m->run_block);
}

/* Writes a run at the end of the file and notes where that is. */
static int put_run(struct erofs_meta *m, unsigned int run, const void *bytes, size_t len,
		   struct error *err)
{
	int rc;

	if (m->out == NULL) {
		m->run_block[run] = (uint32_t)m->dry_at;
		m->dry_at += (len + EROFS_BLOCK - 1) / EROFS_BLOCK;
		return 0;
	}
	rc = out_align(m->out, err);
	m->run_block[run] = (uint32_t)(out_place(m->out) / EROFS_BLOCK);
	if (rc >= 0)
		rc = out_add(m->out, bytes, len, err);
	return rc < 0 ? rc : out_align(m->out, err);
}

int meta_flush(struct erofs_meta *m, struct error *err)
{
	size_t len = (size_t)m->blocks * EROFS_BLOCK;
	int rc;

	if (m->blocks == 0)
		return 0;
	rc = put_run(m, m->open, m->buffer, len, err);
	if (rc < 0)
		return rc;
	if (m->buffer != NULL)
		memset(m->buffer, 0, len);
	open_run(m);
	return 0;
}

/* The block with the least room that is enough, or -1. */
static int best_block(const struct erofs_meta *m, size_t len)
{
	size_t least = SIZE_MAX;
	int best = -1;

	for (unsigned int i = 0; i < m->blocks; i++) {
		size_t room = EROFS_BLOCK - m->used[i];

		if (room >= len && room < least) {
			least = room;
			best = (int)i;
		}
	}
	if (best < 0 && m->blocks < RUN_BLOCKS)
		best = (int)m->blocks;
	return best;
}

int meta_reserve(struct erofs_meta *m, size_t len, meta_place *ret, unsigned char **ret_bytes,
		 struct error *err)
{
	int block = best_block(m, len);
	size_t offset;

	if (block < 0) {
		int rc = meta_flush(m, err);

		if (rc < 0)
			return rc;
		block = 0;
	}
	if ((unsigned int)block == m->blocks)
		m->blocks++;
	offset = (size_t)block * EROFS_BLOCK + m->used[block];
	m->used[block] = (uint16_t)round_up(m->used[block] + len, EROFS_SLOT);
	*ret = (meta_place)m->open << RUN_SHIFT | offset;
	*ret_bytes = m->buffer != NULL ? m->buffer + offset : NULL;
	return 0;
}

int meta_add(struct erofs_meta *m, const void *item, size_t len, meta_place *ret, struct error *err)
{
	unsigned char *bytes = NULL;
	unsigned int run;
	int rc;

	if (len <= EROFS_BLOCK) {
		rc = meta_reserve(m, len, ret, &bytes, err);
		if (rc >= 0 && bytes != NULL)
			memcpy(bytes, item, len);
		return rc;
	}
	m->run_block =
		mem_grow(m->run_block, m->run_count, &m->run_capacity, sizeof(*m->run_block));
	run = (unsigned int)m->run_count++;
	rc = put_run(m, run, item, len, err);
	if (rc >= 0)
		*ret = (meta_place)run << RUN_SHIFT;
	return rc;
}

int meta_read(struct erofs_meta *m, meta_place place, void *out, size_t len, struct error *err)
{
	unsigned int run = (unsigned int)(place >> RUN_SHIFT);
	size_t offset = place & ((1u << RUN_SHIFT) - 1);

	if (run == m->open) {
		memcpy(out, m->buffer + offset, len);
		return 0;
	}
	return out_read(m->out, (uint64_t)m->run_block[run] * EROFS_BLOCK + offset, out, len, err);
}
