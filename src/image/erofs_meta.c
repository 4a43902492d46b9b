/*
 * erofs_meta: see erofs_priv.h.
 *
 * Items must not cross a block, so this is bin packing: each item goes where it leaves the least room
 * (best fit). When it fits nowhere and no block is free the fuller half of the blocks is written, one
 * after the other; the others stay open for small items to come. That keeps the loss to a few per cent,
 * and inodes near each other that were near each other in the tar. The choice depends on the items
 * alone, so the same tar gives the same file.
 */
#include "image/erofs_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void meta_init_dry(struct erofs_meta *m, uint64_t at)
{
	memset(m, 0, sizeof(*m));
	m->dry_at = at;
}

void meta_init(struct erofs_meta *m, struct erofs_out *out)
{
	meta_init_dry(m, 0);
	m->out = out;
	m->buffer = mem_new((size_t)META_OPEN * EROFS_BLOCK);
}

void meta_release(struct erofs_meta *m)
{
	free(m->buffer);
	free(m->written);
}

static uint32_t new_block(struct erofs_meta *m)
{
	m->written = mem_grow(m->written, m->block_count, &m->block_capacity, sizeof(*m->written));
	m->written[m->block_count] = META_UNWRITTEN;
	return (uint32_t)m->block_count++;
}

/* Writes a block, or a longer item, at the end of the file and notes where that is. */
static int put_block(struct erofs_meta *m, uint32_t block, const void *bytes, size_t len,
		     struct error *err)
{
	int rc;

	if (m->out == NULL) {
		m->written[block] = (uint32_t)m->dry_at;
		m->dry_at += (len + EROFS_BLOCK - 1) / EROFS_BLOCK;
		return 0;
	}
	rc = out_align(m->out, err);
	m->written[block] = (uint32_t)(out_place(m->out) / EROFS_BLOCK);
	if (rc >= 0)
		rc = out_add(m->out, bytes, len, err);
	return rc < 0 ? rc : out_align(m->out, err);
}

/* Writes the blocks that have at least `least` bytes. */
static int flush_fuller(struct erofs_meta *m, unsigned int least, struct error *err)
{
	for (unsigned int i = 0; i < META_OPEN; i++) {
		struct meta_slot *slot = &m->slots[i];
		unsigned char *bytes = m->buffer ? m->buffer + (size_t)i * EROFS_BLOCK : NULL;
		int rc;

		if (slot->used < least || slot->used == 0)
			continue;
		rc = put_block(m, slot->block, bytes, EROFS_BLOCK, err);
		if (rc < 0)
			return rc;
		if (bytes != NULL)
			memset(bytes, 0, EROFS_BLOCK);
		slot->used = 0;
	}
	return 0;
}

int meta_flush(struct erofs_meta *m, struct error *err)
{
	return flush_fuller(m, 0, err);
}

/* At least half of the blocks have this many bytes, or more. */
static unsigned int median_used(const struct erofs_meta *m)
{
	unsigned int counts[EROFS_BLOCK / EROFS_SLOT + 1] = {0}, fuller = 0;
	unsigned int i = EROFS_BLOCK / EROFS_SLOT;

	for (unsigned int k = 0; k < META_OPEN; k++)
		counts[m->slots[k].used / EROFS_SLOT]++;
	for (; i > 0; i--) {
		fuller += counts[i];
		if (fuller >= META_OPEN / 2)
			break;
	}
	return i * EROFS_SLOT;
}

/* The slot where `len` bytes leave the least room, or -1. */
static int best_slot(const struct erofs_meta *m, size_t len)
{
	size_t least = SIZE_MAX;
	int best = -1;

	for (int i = 0; i < META_OPEN; i++) {
		size_t room = EROFS_BLOCK - m->slots[i].used;

		if (room >= len && room < least) {
			least = room;
			best = i;
		}
	}
	return best;
}

int meta_reserve(struct erofs_meta *m, size_t len, meta_place *ret, unsigned char **ret_bytes,
		 struct error *err)
{
	int at = best_slot(m, len);
	struct meta_slot *slot;

	if (at < 0) {
		int rc = flush_fuller(m, median_used(m), err);

		if (rc < 0)
			return rc;
		at = best_slot(m, len);
	}
	slot = &m->slots[at];
	if (slot->used == 0)
		slot->block = new_block(m);
	*ret = (meta_place)slot->block << EROFS_BLOCK_BITS | slot->used;
	*ret_bytes = m->buffer ? m->buffer + (size_t)at * EROFS_BLOCK + slot->used : NULL;
	slot->used = (uint16_t)((slot->used + len + EROFS_SLOT - 1) & ~(size_t)(EROFS_SLOT - 1));
	return 0;
}

int meta_add(struct erofs_meta *m, const void *item, size_t len, meta_place *ret, struct error *err)
{
	unsigned char *bytes = NULL;
	uint32_t block;
	int rc;

	if (len <= EROFS_BLOCK) {
		rc = meta_reserve(m, len, ret, &bytes, err);
		if (rc >= 0 && bytes != NULL)
			memcpy(bytes, item, len);
		return rc;
	}
	block = new_block(m);
	rc = put_block(m, block, item, len, err);
	if (rc >= 0)
		*ret = (meta_place)block << EROFS_BLOCK_BITS;
	return rc;
}

int meta_read(struct erofs_meta *m, meta_place place, void *out, size_t len, struct error *err)
{
	uint32_t block = (uint32_t)(place >> EROFS_BLOCK_BITS);
	size_t offset = place & (EROFS_BLOCK - 1);

	if (m->written[block] != META_UNWRITTEN)
		return out_read(m->out, (uint64_t)m->written[block] * EROFS_BLOCK + offset, out,
				len, err);
	for (size_t i = 0; i < META_OPEN; i++)
		if (m->slots[i].used > 0 && m->slots[i].block == block)
			memcpy(out, m->buffer + i * EROFS_BLOCK + offset, len);
	return 0;
}
