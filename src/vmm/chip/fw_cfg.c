/* fw_cfg: see fw_cfg.h. There is no direct memory access: firmware that would use it asks first. */
#include "vmm/chip/fw_cfg.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

enum {
	PORT = 0x510, /* two bytes: the item; behind it one: its bytes in turn */
	PORTS = 2,
	ITEM_SIGNATURE = 0,
	ITEM_FEATURES = 1,
	ITEM_DIRECTORY = 0x19,
	ITEM_FILES = 0x20, /* the first file */
	FEATURE_TRADITIONAL = 1,
	FIXED_MAX = 8,
	FILES_MAX = 16,
	NAME_SIZE = 56,
};

struct item {
	uint16_t number;
	uint32_t size;
	uint8_t *data;
	char name[NAME_SIZE]; /* "": no file */
};

/* As the guest sees it in the directory. */
struct file_entry {
	uint32_t size;
	uint16_t item, reserved;
	char name[NAME_SIZE];
};

struct directory {
	uint32_t count;
	struct file_entry entries[FILES_MAX];
};

struct fw_cfg {
	struct device device;
	uint16_t item;
	uint32_t at;
	unsigned int count, files;
	struct item items[FIXED_MAX + FILES_MAX];
	struct directory directory;
};

static struct fw_cfg *self_of(struct device *device)
{
	return container_of(device, struct fw_cfg, device);
}

static const struct item *find(const struct fw_cfg *self, uint16_t number)
{
	for (unsigned int i = 0; i < self->count; i++)
		if (self->items[i].number == number)
			return &self->items[i];
	return NULL;
}

static uint64_t fw_cfg_read(struct device *device, unsigned int region, uint64_t offset,
			    unsigned int size)
{
	struct fw_cfg *self = self_of(device);
	const struct item *item = find(self, self->item);

	(void)region;
	(void)size;
	if (offset != 1 || item == NULL || self->at >= item->size)
		return 0;
	return item->data[self->at++];
}

static void fw_cfg_write(struct device *device, unsigned int region, uint64_t offset,
			 unsigned int size, uint64_t value)
{
	struct fw_cfg *self = self_of(device);

	(void)region;
	if (offset != 0 || size != 2)
		return;
	self->item = (uint16_t)value;
	self->at = 0;
}

static void fw_cfg_reset(struct device *device)
{
	self_of(device)->item = 0;
	self_of(device)->at = 0;
}

/* The contents are the configuration's. */
static void fw_cfg_save(struct device *device, struct state_writer *out)
{
	state_put_u32(out, self_of(device)->item);
	state_put_u32(out, self_of(device)->at);
}

static int fw_cfg_load(struct device *device, struct state_reader *in)
{
	self_of(device)->item = (uint16_t)state_get_u32(in);
	self_of(device)->at = state_get_u32(in);
	return state_finish(in);
}

static void fw_cfg_destroy(struct device *device)
{
	struct fw_cfg *self = self_of(device);

	for (unsigned int i = 0; i < self->count; i++)
		own_mem_release(&self->items[i].data);
	own_mem_release(&self);
}

static const struct device_ops ops = {
	.name = "fw-cfg",
	.read = fw_cfg_read,
	.write = fw_cfg_write,
	.reset = fw_cfg_reset,
	.save = fw_cfg_save,
	.load = fw_cfg_load,
	.destroy = fw_cfg_destroy,
};

static struct item *provide(struct fw_cfg *self, uint16_t number)
{
	for (unsigned int i = 0; i < self->count; i++)
		if (self->items[i].number == number)
			return &self->items[i];
	assert(self->count < FIXED_MAX + FILES_MAX);
	self->items[self->count].number = number;
	return &self->items[self->count++];
}

static void fill(struct item *item, const void *data, uint32_t size)
{
	own_mem_release(&item->data);
	item->data = mem_copy(data, size);
	item->size = size;
}

static void set(struct fw_cfg *self, uint16_t number, const void *data, uint32_t size)
{
	fill(provide(self, number), data, size);
}

void fw_cfg_set_u16(struct fw_cfg *self, uint16_t item, uint16_t value)
{
	value = htole16(value);
	set(self, item, &value, sizeof(value));
}

void fw_cfg_set_u64(struct fw_cfg *self, uint16_t item, uint64_t value)
{
	value = htole64(value);
	set(self, item, &value, sizeof(value));
}

static struct item *find_file(struct fw_cfg *self, const char *name)
{
	for (unsigned int i = 0; i < self->count; i++)
		if (strcmp(self->items[i].name, name) == 0)
			return &self->items[i];
	return NULL;
}

void fw_cfg_set_file(struct fw_cfg *self, const char *name, const void *data, uint32_t size)
{
	struct item *item = find_file(self, name);
	struct file_entry *entry;

	assert(name[0] && strlen(name) < NAME_SIZE);
	if (item == NULL) {
		assert(self->files < FILES_MAX);
		item = provide(self, (uint16_t)(ITEM_FILES + self->files++));
		strcpy(item->name, name);
	}
	fill(item, data, size);
	entry = &self->directory.entries[item->number - ITEM_FILES];
	entry->size = htobe32(size);
	entry->item = htobe16(item->number);
	strcpy(entry->name, name);
	self->directory.count = htobe32(self->files);
	set(self, ITEM_DIRECTORY, &self->directory,
	    (uint32_t)(offsetof(struct directory, entries) + self->files * sizeof(*entry)));
}

struct device *fw_cfg_device(struct fw_cfg *self)
{
	return &self->device;
}

int fw_cfg_create(struct board *board, struct fw_cfg **ret)
{
	struct fw_cfg *self = mem_new(sizeof(*self));
	uint32_t features = htole32(FEATURE_TRADITIONAL);

	_Static_assert(sizeof(struct file_entry) == 64, "as the guest sees it");
	device_init(&self->device, &ops, 0);
	/* By this firmware knows the interface. */
	set(self, ITEM_SIGNATURE, "QEMU", 4);
	set(self, ITEM_FEATURES, &features, sizeof(features));
	*ret = self;
	return bus_add(&board->ports, PORT, PORTS, &self->device, 0);
}
