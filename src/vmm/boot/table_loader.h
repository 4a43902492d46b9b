/*
 * table_loader: the list of commands by which firmware puts tables that it gets as files (fw_cfg.h) into
 * memory: room for a file, a pointer into a file, a checksum. QEMU's "linker/loader": each command is 128
 * bytes, all of them are the file etc/table-loader.
 */
#pragma once

#include "vmm/chip/fw_cfg.h"

enum { TABLE_LOADER_MAX = 24, TABLE_LOADER_NAME = 56 };
enum table_loader_zone { TABLE_LOADER_ANYWHERE = 1, TABLE_LOADER_BELOW_1M = 2 };

struct __attribute__((packed)) table_loader_command {
	uint32_t command;
	uint8_t operands[124];
};

struct table_loader {
	unsigned int count;
	struct table_loader_command commands[TABLE_LOADER_MAX];
};

void table_loader_add_file(struct table_loader *loader, const char *file, uint32_t alignment,
			   enum table_loader_zone zone);
/* At `offset` of `file`, in `size` bytes, is an offset in `target`, which becomes its address. */
void table_loader_add_pointer(struct table_loader *loader, const char *file, const char *target,
			      uint32_t offset, uint8_t size);
/* The byte at `offset`, which is 0, becomes the one with which [start, start + length) sums up to 0. */
void table_loader_add_checksum(struct table_loader *loader, const char *file, uint32_t offset,
			       uint32_t start, uint32_t length);
void table_loader_finish(const struct table_loader *loader, struct fw_cfg *fw_cfg);
