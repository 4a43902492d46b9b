/* table_loader: see table_loader.h. */
#include "vmm/boot/table_loader.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

enum { ALLOCATE = 1, ADD_POINTER = 2, ADD_CHECKSUM = 3 };

/* The operands of each, in their order. */
struct __attribute__((packed)) allocate {
	char file[TABLE_LOADER_NAME];
	uint32_t alignment;
	uint8_t zone;
};
struct __attribute__((packed)) add_pointer {
	char file[TABLE_LOADER_NAME], target[TABLE_LOADER_NAME];
	uint32_t offset;
	uint8_t size;
};
struct __attribute__((packed)) add_checksum {
	char file[TABLE_LOADER_NAME];
	uint32_t offset, start, length;
};

static void add(struct table_loader *loader, uint32_t command, const void *operands, size_t size)
{
	struct table_loader_command *c = &loader->commands[loader->count];

	_Static_assert(sizeof(*c) == 128, "as the guest sees it");
	assert(loader->count < TABLE_LOADER_MAX && size <= sizeof(c->operands));
	loader->count++;
	c->command = htole32(command);
	memcpy(c->operands, operands, size);
}

static void set_name(char to[TABLE_LOADER_NAME], const char *name)
{
	assert(strlen(name) < TABLE_LOADER_NAME);
	strcpy(to, name);
}

void table_loader_add_file(struct table_loader *loader, const char *file, uint32_t alignment,
			   enum table_loader_zone zone)
{
	struct allocate operands = {.alignment = htole32(alignment), .zone = (uint8_t)zone};

	set_name(operands.file, file);
	add(loader, ALLOCATE, &operands, sizeof(operands));
}

void table_loader_add_pointer(struct table_loader *loader, const char *file, const char *target,
			      uint32_t offset, uint8_t size)
{
	struct add_pointer operands = {.offset = htole32(offset), .size = size};

	set_name(operands.file, file);
	set_name(operands.target, target);
	add(loader, ADD_POINTER, &operands, sizeof(operands));
}

void table_loader_add_checksum(struct table_loader *loader, const char *file, uint32_t offset,
			       uint32_t start, uint32_t length)
{
	struct add_checksum operands = {
		.offset = htole32(offset), .start = htole32(start), .length = htole32(length)};

	set_name(operands.file, file);
	add(loader, ADD_CHECKSUM, &operands, sizeof(operands));
}

void table_loader_finish(const struct table_loader *loader, struct fw_cfg *fw_cfg)
{
	fw_cfg_set_file(fw_cfg, "etc/table-loader", loader->commands,
			loader->count * (uint32_t)sizeof(loader->commands[0]));
}
