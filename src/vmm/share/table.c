/* table: numbers for the client, see share_priv.h. */
#include "vmm/share/share_priv.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"

static uint32_t slot_of(uint64_t id)
{
	return (uint32_t)id;
}

static void grow(struct share_table *table, size_t wanted)
{
	size_t capacity = table->capacity ? table->capacity : 64;

	while (capacity < wanted)
		capacity *= 2;
	table->slots = mem_resize(table->slots, capacity, sizeof(*table->slots));
	table->generations = mem_resize(table->generations, capacity, sizeof(*table->generations));
	for (size_t i = table->capacity; i < capacity; i++) {
		table->slots[i] = NULL;
		table->generations[i] = 0;
	}
	table->capacity = capacity;
}

uint64_t share_table_add(struct share_table *table, void *value)
{
	uint32_t slot;

	if (table->count == table->max)
		return 0;
	if (table->count + 2 > table->capacity)
		grow(table, table->count + 2);
	/* There is a free slot: the search ends. */
	slot = table->hint;
	do
		slot = slot + 1 < table->capacity ? slot + 1 : 1;
	while (table->slots[slot]);
	table->hint = slot;
	table->slots[slot] = value;
	table->count++;
	return (uint64_t)table->generations[slot] << 32 | slot;
}

int share_table_put(struct share_table *table, uint64_t id, void *value)
{
	uint32_t slot = slot_of(id);

	if (slot == 0 || slot > table->max || table->count == table->max)
		return -EINVAL;
	if (slot >= table->capacity)
		grow(table, (size_t)slot + 1);
	if (table->slots[slot])
		return -EINVAL;
	table->slots[slot] = value;
	table->generations[slot] = (uint32_t)(id >> 32);
	table->count++;
	return 0;
}

void *share_table_find(const struct share_table *table, uint64_t id)
{
	uint32_t slot = slot_of(id);

	if (slot == 0 || slot >= table->capacity || table->generations[slot] != id >> 32)
		return NULL;
	return table->slots[slot];
}

uint64_t share_table_after(const struct share_table *table, uint64_t id)
{
	for (size_t slot = (size_t)slot_of(id) + 1; slot < table->capacity; slot++)
		if (table->slots[slot])
			return (uint64_t)table->generations[slot] << 32 | slot;
	return 0;
}

void share_table_remove(struct share_table *table, uint64_t id)
{
	uint32_t slot = slot_of(id);

	table->slots[slot] = NULL;
	table->generations[slot]++;
	table->count--;
	table->hint = slot - 1;
}

void share_table_release(struct share_table *table)
{
	free(table->slots);
	free(table->generations);
	*table = (struct share_table){.max = table->max};
}
