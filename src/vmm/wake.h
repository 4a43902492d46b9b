/*
 * wake: has the device thread do something for a device that a vCPU's thread, on which a guest's access is
 * answered, may not do: touch the loop's sources, or files. However often it is asked before it gets there, it is
 * done once.
 */
#pragma once

#include "base/loop.h"
#include "vmm/device.h"

struct wake {
	struct device *device;
	void (*fn)(struct device *device); /* on the device thread, with the device locked */
	int fd;                            /* an eventfd */
	struct loop_source *source;
};

/* Part of a device, which is zeroed before. -errno. */
int wake_init(struct wake *wake, struct loop *loop, struct device *device,
	      void (*fn)(struct device *device)) must_check;
/* One that has not been set up, or not wholly, is accepted. On the device thread. */
void wake_release(struct wake *wake);
/* Any thread; before wake_init it does nothing. */
void wake_up(struct wake *wake);
