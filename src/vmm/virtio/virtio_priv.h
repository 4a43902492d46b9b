/* virtio_priv: between virtio.c and the registers of common.c. The device is locked. */
#pragma once

#include "vmm/virtio/virtio.h"

enum {
	WINDOW_SIZE = 0x8000,
	WINDOW_COMMON = 0x0000,
	WINDOW_ISR = 0x1000,
	WINDOW_DEVICE = 0x2000,
	WINDOW_MSIX = 0x3000,
	WINDOW_PENDING = 0x3800,
	WINDOW_NOTIFY = 0x4000,
	NOTIFY_STEP = 4,
	COMMON_SIZE = 0x38,
	STATUS_ACKNOWLEDGE = 1,
	STATUS_DRIVER = 2,
	STATUS_DRIVER_OK = 4,
	STATUS_FEATURES_OK = 8,
	STATUS_NEEDS_RESET = 64,
	STATUS_FAILED = 128,
};

uint64_t virtio_common_read(struct virtio *virtio, uint32_t offset, unsigned int size);
void virtio_common_write(struct virtio *virtio, uint32_t offset, unsigned int size, uint64_t value);
void virtio_reset_device(struct virtio *virtio);
void virtio_activate(struct virtio *virtio);
