/*
 * fw_cfg: how firmware asks what kind of machine it is in (QEMU's docs/specs/fw_cfg.rst): items of bytes,
 * chosen by a number at port 0x510 and read one after the other at 0x511; some items are files, which
 * a directory item lists by name.
 */
#pragma once

#include "vmm/board.h"

enum {
	FW_CFG_MEMORY = 3, /* eight bytes */
	FW_CFG_CPUS = 5,
	FW_CFG_CPUS_MAX = 15,
};

struct fw_cfg;
int fw_cfg_create(struct board *board, struct fw_cfg **ret) must_check;
struct device *fw_cfg_device(struct fw_cfg *fw_cfg);
/* Sets an item of two or eight bytes. */
void fw_cfg_set_u16(struct fw_cfg *fw_cfg, uint16_t item, uint16_t value);
void fw_cfg_set_u64(struct fw_cfg *fw_cfg, uint16_t item, uint64_t value);
/* Adds a file (a name of less than 56 characters), or changes the one of that name; the bytes are
 * copied. */
void fw_cfg_set_file(struct fw_cfg *fw_cfg, const char *name, const void *data, uint32_t size);
