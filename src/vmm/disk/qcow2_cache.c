/* qcow2_cache: tables of one cluster in memory, the least recently used is given up. See qcow2_priv.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "vmm/disk/qcow2_priv.h"

void qcow2_cache_init(struct qcow2_cache *cache, uint64_t cluster_size)
{
	uint64_t count = QCOW2_CACHE_BYTES / cluster_size;

	if (count < QCOW2_CACHE_TABLES_MIN)
		count = QCOW2_CACHE_TABLES_MIN;
	if (count > QCOW2_CACHE_TABLES_MAX)
		count = QCOW2_CACHE_TABLES_MAX;
	cache->count = (unsigned int)count;
}

void qcow2_cache_release(struct qcow2_cache *cache)
{
	for (unsigned int i = 0; i < cache->count; i++)
		free(cache->tables[i].data);
}

static int write_table(struct qcow2 *q, struct qcow2_table *table)
{
	int rc = fd_write_full_at(q->fd, table->data, q->cluster_size, (off_t)table->offset);

	if (rc == 0)
		table->dirty = false;
	return rc;
}

int qcow2_cache_write(struct qcow2 *q, struct qcow2_cache *cache)
{
	int rc = 0;

	for (unsigned int i = 0; i < cache->count && rc == 0; i++)
		if (cache->tables[i].dirty)
			rc = write_table(q, &cache->tables[i]);
	return rc;
}

void qcow2_cache_forget(struct qcow2_cache *cache, uint64_t offset)
{
	for (unsigned int i = 0; i < cache->count; i++)
		if (cache->tables[i].offset == offset) {
			cache->tables[i].offset = 0;
			cache->tables[i].dirty = false;
		}
}

static struct qcow2_table *least_used(struct qcow2_cache *cache)
{
	struct qcow2_table *best = &cache->tables[0];

	for (unsigned int i = 1; i < cache->count; i++)
		if (cache->tables[i].last_use < best->last_use)
			best = &cache->tables[i];
	return best;
}

int qcow2_cache_get(struct qcow2 *q, struct qcow2_cache *cache, uint64_t offset, bool fresh,
		    struct qcow2_table **ret)
{
	struct qcow2_table *table = NULL;
	int rc = 0;

	for (unsigned int i = 0; i < cache->count && table == NULL; i++)
		if (cache->tables[i].offset == offset)
			table = &cache->tables[i];
	if (table == NULL || fresh) {
		if (table == NULL)
			table = least_used(cache);
		if (table->data == NULL)
			table->data = mem_try(q->cluster_size);
		if (table->data == NULL)
			return -ENOMEM;
		/* An L2 table must not come to the file before what it points to (Q1). */
		if (table->dirty && table->offset != offset)
			rc = cache == &q->l2 ? qcow2_map_write(q) : write_table(q, table);
		if (rc < 0)
			return rc;
		table->offset = 0;
		table->dirty = false;
		if (fresh)
			memset(table->data, 0, q->cluster_size);
		else
			rc = qcow2_read_at(q->fd, table->data, q->cluster_size, offset);
		if (rc < 0)
			return rc;
		table->offset = offset;
	}
	table->last_use = ++cache->clock;
	*ret = table;
	return 0;
}
